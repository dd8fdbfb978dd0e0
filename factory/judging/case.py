"""A case: a tree on a bench, and the rules by which gates judge it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from anyio import to_thread

from factory.inference.rules import Gate, Rules
from factory.judging import rewrites
from factory.judging.place import Place
from factory.judging.standing import Ready, lay
from factory.repo.benches import Bench
from factory.repo.underway import What

SPARED = 100  # at most so many built paths stay when git shows a tree; the others are copied again
ACCEPT = "accept: "  # the start of an accept command's name as a gate
FIRST_BENCH = 100  # first place index of benches; workers have lower ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The tree to judge, the place, and the rules."""

    bench: Bench
    commit: str
    tree: str
    rules: Rules
    unit: str = ""
    stacked: bool = False  # units below it have not landed yet, and may be the cause of a red gate
    on: str = ""  # the older trunk commit below it, if it is judged only to find a clash
    reruns: bool = True  # whether red gates run again; false if its commands should fail
    afresh: bool = False  # whether gates with a settled verdict run too
    trunk: str = ""  # the trunk commit whose code may make things that other cases use
    trunk_tree: str = ""  # the tree of this trunk commit
    # The tree without the change, then the accept commands that failed on it, as they must.
    proof: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """The bench with its environment."""
        number = "".join(filter(str.isdigit, self.bench.name))
        return Place(
            self.bench.place,
            FIRST_BENCH + int(number or 0),
            keeps=self.rules.setup.dependencies,
            unit=self.unit,
            caches="benches",
            candidate="" if self.commit == self.trunk else self.tree,
            shows=self.tree,
            contents=partial(self.bench.benches.contents, self.commit),
            ignored=self.bench.ignored,
        )

    @property
    def what(self) -> What:
        """The kind of the record that exists while this case is judged."""
        return "gates" if self.reruns else "proof"

    @property
    def by_trunk(self) -> "Case":
        """The same case for trunk's tree. Candidates can use what trunk's code makes."""
        if not self.trunk_tree:
            return self
        return replace(self, commit=self.trunk, tree=self.trunk_tree)

    async def lay_out(self, ready: Ready) -> None:
        """Show the tree that would land, with the paths that setup built in it."""
        keeps = (*self.rules.setup.dependencies, *ready.made[:SPARED])
        await self.bench.show(self.commit, keeps=keeps)
        await to_thread.run_sync(lay, self.place, ready)

    async def changed(self, wrote: Path | None = None) -> list[str]:
        """Return the tracked files that differ from the tree that would land.

        `wrote`: the layer above the tree that a gate wrote into. Without `wrote`, look at the tree
        itself.
        """
        git = self.bench.benches.git(self.bench.name)
        if wrote:
            return await rewrites.changed_above(git, wrote)
        return await rewrites.changed_in(git, self.commit, beside=self.place.layers / "before")


def accepting(commands: Sequence[str]) -> tuple[Gate, ...]:
    """Return accept commands as gates. They run before all other gates, one after the other."""
    gates = list[Gate]()
    for group, command in enumerate(commands, start=-len(commands)):
        argv = ("sh", "-c", command)
        gates.append(Gate(f"{ACCEPT}{command}", group, argv, "accept", said=command))
    return tuple(gates)
