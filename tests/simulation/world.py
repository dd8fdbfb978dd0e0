"""What a daemon does not own and cannot undo: trunk, agents, benches; all of it outlives the daemon.

Invariant: a daemon that has died changes nothing here any more.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import Any

import anyio

from factory.agents.output import Seen
from factory.child.process import Exit
from factory.ground.errors import GitError
from factory.ground.plumbing import Change, Texts
from factory.inference.rules import Gate, Rules
from factory.judging.case import Case
from factory.judging.gates import Answer, Judgement
from factory.judging.setups import SetupFailed
from factory.repo.git import Person
from factory.repo.landing_plan import Blocked, Landed, LandingPlan, Moved, Outcome
from factory.repo.meanwhile import OnTrunk
from factory.repo.message import Landing, read
from factory.repo.trunk import Conflict, Nothing, Rehearsed
from factory.store.records import Verdict
from tests.simulation.clock import START, Clock

GATES = {
    "conventions/gates/10-lint.sh": "! grep LINT\n",
    "conventions/gates/20-test.sh": "! grep BROKEN\n",
}
FILES = {**GATES, "shared.txt": "once upon a time\n", "story.txt": "there was a line\n"}
AGENTS = ("claude", "codex")


class Died(BaseException):
    """The daemon is killed at this point, as by kill -9: no handler of its own may do anything about it."""


class Violated(BaseException):
    """A law does not hold. Not an Exception: nothing that is played may catch it and go on."""


class Life:
    """One daemon's: it ends at a chosen point, and what its tasks still try afterwards has no effect."""

    def __init__(self, points: int = 0) -> None:
        self.alive = True
        self.points = 0
        self._last = points  # 0 = it is not killed

    def point(self) -> None:
        """A place between two effects."""
        if not self.alive:
            raise Died
        self.points += 1
        if self.points == self._last:
            self.end()
            raise Died

    def end(self) -> None:
        """From here on nothing that it does counts."""
        self.alive = False


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: its own content, and the one below it."""

    id: str
    parent: str
    files: Mapping[str, str]
    unit: str = ""
    text: str = ""
    at: float = 0  # seconds since the epoch

    @property
    def tree(self) -> str:
        """The same content has the same tree."""
        return _digest("tree", *(part for pair in sorted(self.files.items()) for part in pair))


@dataclass(slots=True)
class Agent:
    """A process that was started for one attempt; it goes on whether or not a daemon looks."""

    ends: float  # on the loop's clock
    exit: Exit
    seen: Seen
    files: Mapping[str, str]  # what the workspace holds at its end
    done: str = ""
    question: tuple[str, tuple[str, ...], str, float] | None = (
        None  # text, options, default, deadline_s
    )
    split: dict[str, bytes] = field(default_factory=dict)  # task files in place of the work
    reset_in: float | None = None  # what its usage limit says: so many seconds from its end
    stopped: bool = False


@dataclass(slots=True)
class World:
    """The user's repository, the agents and the benches, and what is wrong with them at present."""

    clock: Clock
    chance: Random
    commits: dict[str, Commit] = field(default_factory=dict)
    reflog: list[str] = field(default_factory=list)  # where trunk ever was
    gone: bool = False  # the branch was renamed away
    dirty: set[str] = field(default_factory=set)  # files with uncommitted work
    busy: str = ""  # trunk is being rebased
    agents: dict[str, Agent] = field(default_factory=dict)  # by run dir
    started: list[tuple[float, str, str]] = field(
        default_factory=list
    )  # when, which runtime, which run dir
    landed: list[str] = field(
        default_factory=list
    )  # units, each as often as the factory moved trunk to contain it
    moving: LandingPlan | None = None  # a git that outlives its daemon
    missing: set[str] = field(default_factory=set)  # programs that are not installed
    setup_broken: bool = False
    damaged: set[str] = field(default_factory=set)  # commits whose objects cannot be read any more
    calm: bool = False  # nothing goes wrong any more
    let_through: Callable[[str], bool] = lambda unit: (
        False
    )  # whether a person let the unit land although red
    interrupt: Callable[[], None] = lambda: (
        None
    )  # what a person does just when a landing is planned
    noted: list[str] = field(default_factory=list)  # broken laws that only the world can see

    def __post_init__(self) -> None:
        """Trunk begins green."""
        self.reflog.append(self.commit("", FILES).id)

    @property
    def tip(self) -> str:
        """Trunk; empty while the branch is gone."""
        return "" if self.gone else self.reflog[-1]

    def commit(
        self, parent: str, files: Mapping[str, str], *, unit: str = "", said: str = ""
    ) -> Commit:
        """A commit object."""
        made = Commit("", parent, dict(files), unit, said, self.clock.wall().timestamp())
        made = replace(made, id=_digest("commit", parent, made.tree, unit, said))
        return self.commits.setdefault(made.id, made)

    def history(self, commit: str) -> Iterator[Commit]:
        """The commit and those below it."""
        while commit in self.commits:
            yield self.commits[commit]
            commit = self.commits[commit].parent

    def contains(self, rev: str, commit: str) -> bool:
        """Whether `commit` is `rev` or below it."""
        return any(each.id == commit for each in self.history(rev))

    def holds(self, commit: str) -> bool:
        """Whether trunk is, or was, at or above the commit."""
        return any(self.contains(point, commit) for point in self.reflog)

    def red(self, commit: str, gates: Sequence[Gate]) -> set[str]:
        """The names of the gates that the commit does not pass."""
        texts = (text for name, text in self.commits[commit].files.items() if name.endswith(".txt"))
        words = set("\n".join(texts).split())
        return {gate.name for gate in gates if gate.script.strip().rpartition(" ")[2] in words}

    def move(self, plan: LandingPlan) -> None:
        """Trunk goes where a landing takes it; the laws about trunk are checked here."""
        fresh = [each for each in self.history(plan.to) if not self.contains(plan.base, each.id)]
        below = self.commits[fresh[0].parent]
        red = self.red(plan.to, tuple(_gates(below.files)))
        if red and not (
            red <= self.red(plan.base, tuple(_gates(below.files)))
            and self.let_through(fresh[0].unit)
        ):
            self.noted.append(
                f"trunk was moved to {plan.to[:7]} of {fresh[0].unit}, which is red in {red}"
            )
        self.landed += [each.unit for each in fresh]
        self.reflog.append(plan.to)

    def settle_moving(self) -> None:
        """The git that outlived its daemon ends, one way or the other."""
        plan, self.moving = self.moving, None
        if (
            plan
            and self.tip == plan.base
            and not self.dirty & set(plan.paths)
            and self.chance.random() < 0.5
        ):
            self.move(plan)


class Hand:
    """What one daemon reaches the world with; each step takes a little time, in which others act."""

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life

    async def step(self, seconds: float = 0.05) -> None:
        """Something that takes about so long."""
        self.life.point()
        slow = (
            40 if self.world.chance.random() < 0.1 else 1
        )  # long enough for a person to come in between
        await anyio.sleep(slow * self.world.chance.uniform(0, 2 * seconds))
        self.life.point()


class Objects:
    """The factory repository (git.Git), as far as is asked of it."""

    def __init__(self, hand: Hand) -> None:
        self._hand, self._world = hand, hand.world
        self._texts = dict[str, str]()  # of the blobs that were listed

    async def contains(self, rev: str, commit: str) -> bool:
        await self._hand.step(0.01)
        return self._world.contains(rev, commit)

    async def commit(self, rev: str) -> str:
        return rev if rev in self._world.commits else ""

    async def missing(self, commits: set[str]) -> set[str]:
        return {commit for commit in commits if commit not in self._world.commits}

    async def tree(self, commit: str) -> str:
        return self._world.commits[commit].tree

    async def listing(self, rev: str) -> dict[str, str]:
        await self._hand.step(0.01)
        files = sorted(self._world.commits[rev].files.items())
        self._texts |= {_digest(text): text for _, text in files}
        return {name: _digest(text) for name, text in files}

    async def links(self, rev: str) -> frozenset[str]:
        """No symbolic links."""
        return frozenset()

    async def read(self, blobs: Mapping[str, str], *, most: int = 0) -> Texts:
        return Texts({path: self._texts[blob] for path, blob in blobs.items()}, {})

    async def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(blobs, 1)

    async def changed(self, before: str, after: str) -> list[Change]:
        await self._hand.step(0.01)
        if after in self._world.damaged:
            raise GitError(("diff-tree", before, after), 128, "fatal: unable to read tree")
        old, new = (self._world.commits[each].files for each in (before, after))
        return [
            Change(
                "M" if name in old and name in new else "A" if name in new else "D",
                name,
                "",
                "100644",
                "",
                "",
            )
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]


class Branch:
    """Trunk (trunk.Trunk): the same outcomes for the same reasons, without a git."""

    branch, ref = "main", "refs/heads/main"

    def __init__(self, hand: Hand) -> None:
        self._hand, self._world = hand, hand.world
        self.own = Objects(hand)

    async def tip(self) -> str:
        return self._world.tip

    async def refresh(self) -> str:
        await self._hand.step()
        return self._world.tip

    async def landings(self, *, since: str = "", history: bool = True) -> list[Landing]:
        await self._hand.step(0.01)
        points = self._world.reflog[::-1] if history else [self._world.tip]
        known = {each.id for each in self._world.history(since)}
        found = {}
        for commit in (each for point in points for each in self._world.history(point)):
            said = read(commit.text)
            if said and commit.id not in known:
                found[commit.id] = Landing(
                    commit=commit.id, at=commit.at, subject=commit.unit, **said._asdict()
                )
        return list(found.values())

    async def between(self, base: str, tip: str) -> list[OnTrunk]:
        await self._hand.step(0.01)
        found = list[OnTrunk]()
        for each in self._world.history(tip):
            if each.id == base:
                return found[::-1]
            found.append(OnTrunk(each.id, each.unit, each.unit))
        return []

    async def changers(
        self, base: str, tip: str, submission: str, paths: Sequence[str]
    ) -> list[OnTrunk]:
        found = []
        for each in await self.between(base, tip):
            parent = self._world.commits[each.commit].parent
            if set(self._differ(parent, each.commit)) & set(paths):
                found.append(each)
        return found

    async def rehearse(
        self, *, base: str, submission: str, submission_base: str, text: str, author: Person
    ) -> Rehearsed | Conflict | Nothing:
        await self._hand.step()
        if submission in self._world.damaged:
            raise GitError(("merge-tree", submission), 128, "fatal: unable to read tree")
        onto, was, new = (
            self._world.commits[each].files for each in (base, submission_base, submission)
        )
        merged = dict(onto)
        paths = []
        for name in sorted(was.keys() | new.keys()):
            if was.get(name) == new.get(name) or onto.get(name) == new.get(name):
                continue
            if onto.get(name) != was.get(name):
                paths.append(name)
            elif name in new:
                merged[name] = new[name]
            else:
                merged.pop(name, None)
        if paths:
            return Conflict(tuple(paths))
        if merged == onto:
            return Nothing()
        unit = text.partition("Factory-Unit: ")[2].partition("\n")[0]
        made = self._world.commit(base, merged, unit=unit, said=text)
        return Rehearsed(made.id, made.tree)

    async def plan_landing(self, to: str, *, now: datetime) -> LandingPlan | Outcome:
        if not self._world.calm and self._world.chance.random() < 0.05:
            self._world.interrupt()
        await self._hand.step()
        base = self._world.tip
        if base == to:
            return Landed(to)
        if not base or not self._world.contains(to, base):
            return Moved(base)
        if self._world.busy:
            return Blocked("busy", self._world.busy)
        changed = set(self._differ(base, to))
        if kept := sorted(changed & self._world.dirty):
            return Blocked("dirty", "Uncommitted work is in the way.", tuple(kept))
        return LandingPlan(
            base=base, to=to, paths=tuple(sorted(changed)), at=now.timestamp(), checkout="/sim"
        )

    async def land(self, plan: LandingPlan, started: Callable[[LandingPlan], None]) -> Outcome:
        await self._hand.step()
        self._world.moving = plan
        try:
            started(replace(plan, pid=4711))
            await self._hand.step(0.2)
        except BaseException:
            if self._hand.life.alive:
                self._world.moving = None
            raise
        self._world.moving = None
        if self._world.tip != plan.base:
            return Moved(self._world.tip)
        if self._world.dirty & set(plan.paths):
            return Blocked("dirty", "Files are in the way.", plan.paths[:1])
        if not self._world.calm and self._world.chance.random() < 0.05:
            kind = self._world.chance.choice(["failed", "locked"])
            return Blocked(kind, f"git {kind}")
        self._world.move(plan)
        self._hand.life.point()
        return Landed(plan.to)

    async def recover(
        self, plan: LandingPlan, started: Callable[[LandingPlan], None], *, now: datetime
    ) -> Outcome:
        await self._hand.step()
        if self._world.moving and self._world.chance.random() < 0.3:
            return Blocked("running", "A git command is still at work.")
        self._world.settle_moving()
        if self._world.holds(plan.to):
            return Landed(plan.to)
        again = await self.plan_landing(plan.to, now=now)
        if isinstance(again, LandingPlan) and again.base != plan.base:
            return Moved(again.base)
        if isinstance(again, LandingPlan):
            started(again)
            return await self.land(again, started)
        return again

    def _differ(self, before: str, after: str) -> Iterator[str]:
        old, new = (self._world.commits[each].files for each in (before, after))
        return (name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


class Benches:
    """The pool of benches (workspaces.Benches)."""

    def __init__(self, size: int) -> None:
        self._room = anyio.Semaphore(size)

    @property
    def idle(self) -> int:
        return self._room.value

    def begun(self) -> list[Any]:
        return []

    @asynccontextmanager
    async def take(self, fit: Any = None, yielding: Any = None) -> AsyncIterator[Any]:
        async with self._room:
            yield "bench"


LONGEST_S = 6 * 40 * 120.0  # three tries of a proof and of gates, each of them very slow


class Preparation:
    """What prepares a bench (preparation.Preparation)."""

    async def may_be_broken(self, case: Case) -> bool:
        return False  # no unit changes what setup reads


class Gates:
    """Gates that look for a word (gates.Gates)."""

    def __init__(self, hand: Hand) -> None:
        self._hand, self._world = hand, hand.world
        self.preparation = Preparation()

    async def end_leftovers(self) -> None:
        await self._hand.step()

    def proof_seconds(self, accept: Sequence[str]) -> float:
        return LONGEST_S

    def seconds(self, rules: Rules, accept: Sequence[str]) -> float:
        return LONGEST_S

    def is_judging(self, case: Case, accept: Sequence[str]) -> bool:
        return False

    async def judge(
        self, case: Case, *, accept: Sequence[str] = (), stop: bool = True
    ) -> Judgement:
        if not case.rules.gates:
            return Judgement(answer=Answer.NO_GATE)
        red = self._world.red(case.commit, case.rules.gates)
        proof = await self.prove(case, accept) if accept else Judgement(answer=Answer.GREEN)
        if proof.failed or proof.answer is Answer.UNSETTLED:
            return proof
        return await self._said(
            [
                *proof.verdicts,
                *(
                    _verdict(gate.name, case.tree, ok=gate.name not in red)
                    for gate in case.rules.gates
                ),
            ]
        )

    async def judge_some(self, case: Case, gates: Sequence[Gate]) -> Judgement:
        own = [gate for gate in gates if not gate.name.startswith("accept: ")]
        red = self._world.red(case.commit, own)
        proof = await self.prove(case, [gate.said for gate in gates if gate not in own])
        if proof.failed or proof.answer is Answer.UNSETTLED:
            return proof
        verdicts = [_verdict(gate.name, case.tree, ok=gate.name not in red) for gate in own]
        return await self._said([*proof.verdicts, *verdicts])

    async def prove(self, case: Case, accept: Sequence[str]) -> Judgement:
        files = self._world.commits[case.commit].files
        return await self._said(
            [
                _verdict(
                    f"accept: {each}",
                    case.tree,
                    ok=each.removeprefix("test -e ") in files,
                    command=each,
                )
                for each in accept
            ]
        )

    async def _said(self, verdicts: Sequence[Verdict]) -> Judgement:
        await self._hand.step(self._world.chance.choice([0.5, 5, 60]))
        if self._world.setup_broken:
            return Judgement(
                answer=Answer.SETUP, failed=SetupFailed(sentence="Nothing can be installed.")
            )
        chance = 1.0 if self._world.calm else self._world.chance.random()
        if chance < 0.03:
            return Judgement(answer=Answer.UNSETTLED)
        if chance < 0.05:  # a gate that is red for no reason
            verdicts = [replace(verdict, ok=False) for verdict in verdicts]
        red = any(not verdict.ok for verdict in verdicts)
        return Judgement(answer=Answer.RED if red else Answer.GREEN, verdicts=tuple(verdicts))


def _verdict(gate: str, tree: str, *, ok: bool, command: str = "") -> Verdict:
    return Verdict(
        key=_digest(gate, tree),
        gate=gate,
        tree=tree,
        ok=ok,
        settled=True,
        at=START,
        command=command or gate,
    )


def _gates(files: Mapping[str, str]) -> Iterator[Gate]:
    for name, text in files.items():
        if name.startswith("conventions/gates/"):
            short = name.removeprefix("conventions/gates/").removesuffix(".sh")
            yield Gate(name=short, group=0, script=text, reason=name)


def _digest(*parts: str) -> str:
    return hashlib.sha1("\0".join(parts).encode()).hexdigest()
