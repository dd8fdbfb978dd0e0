"""A new store from what outlives one: refs and archive, the trailers on trunk, the folders of units, the taken files.

Invariant: nothing is done twice. What trunk holds or held is landed; what was unfinished goes on under a number that
no attempt ever had; and a unit whose file lies no more among the taken ones had ended (keeper.py).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory import process, task_file
from factory.archive import Archive, Kept
from factory.errors import TaskFileError
from factory.intake import wished
from factory.journal import Event
from factory.outbox import read_outbox
from factory.places import Places
from factory.ports import Store
from factory.records import Attempt, Fact, Task
from factory.shim import MARKER
from factory.split import FEWEST, part_ids, replaced
from factory.trunk import Landing, Trunk
from factory.unit import EndReason, Unit, UnitState
from factory.workspaces import ABANDONED, Workspaces, is_real

ID = re.compile(r"[a-z0-9-]+")
SLACK_S = 1.0  # commits have whole seconds
HOW_IT_ENDED = "how it ended was lost with the store"


@dataclass(slots=True)
class Trace:
    """What is left of one unit."""

    kept: dict[int, Kept | None] = field(default_factory=dict)  # number → commit; None: only a run dir is left
    landing: Landing | None = None
    task: Task | None = None
    parts: tuple[str, ...] = ()  # what took its place
    taken: float = 0  # since when its file lies among those of unfinished units


class Rebuild:
    """Works on an empty store, while no daemon runs."""

    def __init__(self, *, store: Store, where: Places, trunk: Trunk, workspaces: Workspaces) -> None:
        self._store, self._where, self._trunk, self._workspaces = store, where, trunk, workspaces

    async def run(self, at: datetime) -> dict[str, int]:
        """Write down what can be known; how many units are in which state."""
        await self._stop()
        traces = await self._traces()
        kept = [each.commit for trace in traces.values() for each in trace.kept.values() if each]
        commits = await self._commits(kept)
        counts = dict[str, int]()
        with self._store.transaction():
            fact = Fact(name="trunk", value=json.dumps({"branch": self._trunk.branch}))
            self._store.write(Event.FACT_CHANGED, fact, now=at)
            for name, trace in traces.items():
                trace.parts = self._parts(name, traces)
            units = {name: _unit(name, trace, at) for name, trace in sorted(traces.items())}
            split = {name: unit.needs for name, unit in units.items() if unit.state is UnitState.SPLIT}
            for name, unit in units.items():
                trace = traces[name]
                attempts = [self._attempt(name, number, kept, commits, at) for number, kept in trace.kept.items()]
                unit = replace(unit, needs=replaced(unit.needs, split))
                told = [trace.task] if trace.task else []
                self._store.write(Event.TASK_ACCEPTED, unit, *told, *attempts, now=at, unit=name, why=unit.why)
                counts[unit.state] = counts.get(unit.state, 0) + 1
        return counts

    async def _stop(self) -> None:
        """End what still runs, and put every workspace aside: whose work is in it cannot be told any more."""
        runs = self._where.home / "attempts"
        for name in set(process.living(f"{MARKER}={runs}/").values()):
            await process.end(runs / name)
        for name in self._workspaces.names():
            if ABANDONED not in name:
                self._workspaces.abandon(name)

    # ── what is left ──

    async def _traces(self) -> dict[str, Trace]:
        found, archive = defaultdict[str, Trace](Trace), Archive(self._trunk.own)
        for name, kept in (await archive.entries() | await archive.refs()).items():
            unit, _, number = name.rpartition("/")
            if number.isdigit():  # else it is a rescued tree
                found[unit].kept[int(number)] = kept
        ended = {name: 0.0 for name, trace in found.items() if all(map(_archived, trace.kept.values()))}
        for name, landing in (await self._trunk.landings()).items():
            found[name].landing = landing
            found[name].kept.setdefault(landing.attempt, None)
            ended[name] = landing.at
        for path in (path for folder in self._units() for path in _folders(folder) if path.name.isdigit()):
            found[path.parent.name].kept.setdefault(int(path.name), None)
        for unit, task, taken in self._tasks(ended):
            found[unit].task, found[unit].taken = task, taken
        return found

    def _units(self) -> list[Path]:
        return _folders(self._where.home / "attempts")

    def _tasks(self, ended: Mapping[str, float]) -> Iterator[tuple[str, Task, float]]:
        """Unit, task and since when it is unfinished (0: it is not), for every task file that is left."""
        intake = self._where.intake
        taken = {path.name: path for path in (*intake.glob("*.md"), *(intake / "taken").glob("*.md"))}
        named = {path.name: path for folder in self._units() for path in folder.iterdir() if path.is_file()}
        for source, path in named.items():
            open_file = taken.pop(source, None)
            yield _task(path.parent.name, open_file or path, _since(open_file) if open_file else 0)
        used = {path.parent.name for path in named.values()}
        rest = sorted((path for path in taken.values() if path.parent.name == "taken"), key=_since)
        newest = {path.name.partition("-")[2]: path for path in rest}  # what was saved anew before it was begun
        for name, path in newest.items():
            since = _since(path)
            # The id of a unit that had ended before was not free; one that has landed since is this very unit.
            unit = next(
                each for each in task_file.ids(name) if each not in used and ended.get(each, since) >= since - SLACK_S
            )
            used.add(unit)
            yield _task(unit, path, since)

    async def _commits(self, names: list[str]) -> dict[str, tuple[str, str, float]]:
        """Tree, base and time of each of the commits that is there."""
        how = ("log", "--no-walk=unsorted", "--ignore-missing", "--format=%H %T %ct %P", "--stdin")
        told = await self._trunk.own.text(*how, stdin="".join(f"{name}\n" for name in names).encode()) if names else ""
        lines = (line.split() for line in told.splitlines())
        return {commit: (tree, base, float(at)) for commit, tree, at, base, *_ in lines}

    # ── what it was ──

    def _parts(self, name: str, traces: Mapping[str, Trace]) -> tuple[str, ...]:
        """What its last attempt wrote in its place, where all of that became units."""
        last = self._where.run_dir(name, max(traces[name].kept, default=0))
        files = sorted(read_outbox(last / "outbox").split)
        parts = tuple(part_ids(name, files, lambda taken: taken == name).values())
        return parts if len(parts) >= FEWEST and traces.keys() >= set(parts) else ()

    def _attempt(
        self, unit: str, number: int, kept: Kept | None, commits: Mapping[str, tuple[str, str, float]], at: datetime
    ) -> Attempt:
        run_dir = self._where.run_dir(unit, number)
        box = read_outbox(run_dir / "outbox")
        tree, base, ended = commits.get(kept.commit if kept else "", ("", "", at.timestamp()))
        end = datetime.fromtimestamp(ended, UTC)
        return Attempt(
            unit=unit,
            number=number,
            worker="",
            agent="",
            start=end,
            end=end,
            reason=EndReason.HANDED_BACK,
            detail=HOW_IT_ENDED,
            summary=box.done,
            handoff=box.handoff,
            base=base,
            tree=tree,
            **(kept._asdict() if kept and tree else {}),
        )


def _unit(name: str, trace: Trace, at: datetime) -> Unit:
    begun = datetime.fromtimestamp(trace.taken, UTC) if trace.taken else at
    landing, why = trace.landing, "it had ended before the store was rebuilt"
    fields: dict[str, Any] = {"title": name}
    if trace.task:
        try:
            fields = wished(task_file.parse(trace.task.text, trace.task.name))
        except TaskFileError as error:  # of an older version
            trace.taken, why = 0, f"its task file is not right any more ({error}): drop it again"
    # An id may be used again in another life of the factory: what trunk held before was another unit.
    if landing and landing.at >= trace.taken - SLACK_S:
        when = datetime.fromtimestamp(landing.at, UTC)
        fields |= {"state": UnitState.LANDED, "commit": landing.commit, "landed": when, "title": landing.subject}
    elif trace.parts:
        fields |= {"state": UnitState.SPLIT, "needs": trace.parts, "why": f"its parts: {', '.join(trace.parts)}"}
    elif trace.taken:
        state = UnitState.WAITING if fields["needs"] else UnitState.READY
        fields |= {"state": state, "why": "the store was rebuilt"}
    else:
        fields |= {"state": UnitState.CANCELLED, "why": why}
    return Unit(id=name, since=at, accepted=begun, attempt=max(trace.kept, default=0), **fields)


def _task(unit: str, path: Path, taken: float) -> tuple[str, Task, float]:
    text = path.read_bytes().decode(errors="replace")
    return unit, Task(unit=unit, name=path.name.partition("-")[2], text=text, source=path.name), taken


def _archived(kept: Kept | None) -> bool:
    return kept is not None and "/archive/" in kept.ref


def _since(path: Path) -> float:
    return path.lstat().st_ctime


def _folders(folder: Path) -> list[Path]:
    """The real folders in a real one, that may be of units or attempts."""
    found = sorted(folder.iterdir()) if is_real(folder) else []
    return [path for path in found if is_real(path) and ID.fullmatch(path.name)]
