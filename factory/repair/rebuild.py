"""Builds a new store from what is left without the old one: git, unit folders, taken files.

Invariant: nothing is done twice. A unit that trunk contains or contained has landed. An unfinished
unit continues with an attempt number that was never used. If the file of a unit is no longer in
`taken`, the unit had ended (keeper.py).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, KeysView, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from factory.attempt.outbox import read_outbox
from factory.child import process
from factory.ground import bounded
from factory.ground.places import Places
from factory.ground.regular import is_real
from factory.inbox.acceptance import as_asked
from factory.inbox.split import FEWEST, part_ids, replaced
from factory.queue.trunk_watch import SLACK_S, by_unit
from factory.repo import kept as kept_refs
from factory.repo.archive import Archive, Kept
from factory.repo.checkouts import ABANDONED, inside
from factory.repo.message import Landing
from factory.repo.trunk import Trunk
from factory.repo.workspaces import Workspaces
from factory.store import names, task_file
from factory.store.accepted import spec_again
from factory.store.identity import is_nonce_of, recorded
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact, Task
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit, UnitState

ID = re.compile(r"[a-z0-9-]+")
_MADE_FORM = "%H%x00%T%x00%ct%x00%P%x00%B"
HOW_IT_ENDED = "how it ended was lost with the store"


@dataclass(slots=True)
class Trace:
    """What is left of one unit."""

    # Number of an attempt → its commit; None: only its run dir is left.
    kept: dict[int, Kept | None] = field(default_factory=dict)
    # landings by commits with the unit's name, newest first
    landings: list[Landing] = field(default_factory=list)
    spec: Spec | None = None
    task: Task | None = None
    taken: float = 0  # time at which its file was taken; 0: it is finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the commit of an attempt says."""

    tree: str
    base: str
    at: float  # seconds since the epoch
    run: str  # the attempt's nonce; "" in commits of older releases


class Rebuild:
    """Records what is not in the store but elsewhere; runs while no attempt runs."""

    def __init__(
        self,
        *,
        store: Store,
        where: Places,
        trunk: Trunk,
        workspaces: Workspaces,
    ) -> None:
        self._store = store
        self._where = where
        self._trunk = trunk
        self._workspaces = workspaces

    async def run(self, at: datetime) -> dict[str, int]:
        """Record everything known in an empty store; return the number of units by state."""
        await self._stop()
        traces = await self._traces()
        made = await self._made(traces)
        counts: dict[str, int] = {}
        with self._store.transaction():
            fact = Fact(name="trunk", value=json.dumps({"branch": self._trunk.branch}))
            self._store.write(Event.FACT_CHANGED, fact, now=at)
            for unit in self._write_units(traces, made, at):
                counts[unit.state] = counts.get(unit.state, 0) + 1
        return counts

    async def complete(self, at: datetime) -> list[str]:
        """Add what an older store lacks; return the ids of the affected units."""
        traces = await self._traces()
        made = await self._made(traces)
        unknown = set()
        ours = {}
        for name, trace in traces.items():
            if self._store.get(Unit, name) is None:
                unknown.add(name)
                if trace.task or _has_tree(trace):
                    ours[name] = trace
        with self._store.transaction():
            names.add(self._store, unknown.difference(ours), now=at)
            written = list(self._write_units(ours, made, at))
            found = {unit.id for unit in written}
            for unit in self._store.open(Unit):
                if unit.id in traces and self._complete(unit, traces, made, ours.keys(), at):
                    found.add(unit.id)
        return sorted(found)

    def _complete(
        self,
        unit: Unit,
        traces: Mapping[str, Trace],
        made: Mapping[str, Made],
        new: KeysView[str],
        at: datetime,
    ) -> bool:
        """Add what the store lacks about a unit that it knows.

        Returns whether it added something.
        """
        has_more = self._add_attempts(unit, traces[unit.id], made, at)
        return self._note_split(unit, traces, new, at) or has_more

    def _note_split(
        self,
        unit: Unit,
        traces: Mapping[str, Trace],
        new: KeysView[str],
        at: datetime,
    ) -> bool:
        """If the store lost the parts of a unit, record its split; return whether this was done."""
        parts = self._parts(unit.id, traces)
        if new.isdisjoint(parts):
            return False
        # Bypasses the state table: the parts exist and replace the unit. A worker whose hook holds
        # the unit empties the hook.
        split = replace(_as_split(unit, parts), since=at)
        self._store.write(
            Event.ATTEMPT_NOTED,
            split,
            now=at,
            unit=unit.id,
        )
        return True

    def _write_units(
        self,
        traces: Mapping[str, Trace],
        made: Mapping[str, Made],
        at: datetime,
    ) -> Iterator[Unit]:
        units = []
        split = {}
        for name, trace in sorted(traces.items()):
            landing = self._landing(name, trace, made)
            unit = _unit(name, trace, landing, self._parts(name, traces), at)
            units.append(unit)
            if unit.state is UnitState.SPLIT:
                split[name] = unit.needs
        for unit in units:
            trace = traces[unit.id]
            whole = replace(unit, needs=replaced(unit.needs, split))
            records: list[Spec | Task | Attempt] = []
            if trace.spec and trace.task:
                records += [trace.spec, trace.task]
            for number in trace.kept:
                records.append(self._attempt(unit.id, number, trace, made, at))
            self._store.write(
                Event.TASK_ACCEPTED,
                whole,
                *records,
                now=at,
                unit=unit.id,
                why=unit.why,
            )
            yield whole

    def _add_attempts(
        self,
        unit: Unit,
        trace: Trace,
        made: Mapping[str, Made],
        at: datetime,
    ) -> bool:
        """Record attempts that the store lost; return whether it had lost any of this unit."""
        known = {attempt.number for attempt in self._store.select(Attempt, unit=unit.id)}
        missing = [number for number in trace.kept if number not in known]
        for number in missing:
            attempt = self._attempt(unit.id, number, trace, made, at)
            self._store.write(
                Event.ATTEMPT_NOTED,
                attempt,
                now=at,
                unit=unit.id,
                attempt=number,
            )
        return bool(missing)

    async def _stop(self) -> None:
        """End all attempts and put every workspace aside, because its owner is unknown."""
        runs = self._where.home / "attempts"
        for run in set(process.runs_in(runs).values()):
            await process.end(run)
        for name in self._workspaces.names():
            if ABANDONED not in name:
                self._workspaces.abandon(name)

    # ── what was found ──

    async def _traces(self) -> dict[str, Trace]:
        found = await self._kept()
        ended = {}
        for name, trace in found.items():
            if all(map(_is_archived, trace.kept.values())):
                ended[name] = 0.0
        for name, landings in by_unit(await self._trunk.landings()).items():
            found[name].landings = landings
            ended[name] = landings[0].at
        for path in self._run_dirs():
            found[path.parent.name].kept.setdefault(int(path.name), None)
        for spec, task, taken in self._tasks(ended):
            trace = found[spec.unit]
            trace.spec = spec
            trace.task = task
            trace.taken = taken
        return found

    async def _kept(self) -> defaultdict[str, Trace]:
        """Return the commits of attempts, by unit."""
        found = defaultdict[str, Trace](Trace)
        archive = Archive(self._trunk.own)
        kept = await archive.entries() | await archive.refs()
        for name, each in kept.items():
            unit, _, number = name.rpartition("/")
            if number.isdigit():  # otherwise it is a rescued tree
                found[unit].kept[int(number)] = each
        return found

    def _run_dirs(self) -> Iterator[Path]:
        for folder in self._units():
            for path in _folders(folder):
                if path.name.isdigit():
                    yield path

    def _units(self) -> list[Path]:
        return _folders(self._where.home / "attempts")

    def _copies(self) -> dict[str, Path]:
        """Return the task files in the folders of units, by their names when they were taken."""
        found = {}
        for folder in self._units():
            for path in folder.iterdir():
                if path.is_file():
                    found[path.name] = path
        return found

    def _tasks(self, ended: Mapping[str, float]) -> Iterator[tuple[Spec, Task, float]]:
        """Yield spec, task and the time of taking (0: the unit is finished) of each task file."""
        intake = self._where.intake
        taken = {path.name: path for path in (intake / "taken").glob("*.md")}
        used = set()
        for source, path in self._copies().items():
            unit = path.parent.name
            used.add(unit)
            waiting = intake / source
            open_file = taken.pop(source, None)
            if open_file is None and waiting.exists():
                open_file = waiting
            yield _task(unit, open_file or path, _since(open_file) if open_file else 0)
        newest = {}  # by name: if a file was saved again before its unit began, the newest
        for path in sorted(taken.values(), key=_since):
            newest[path.name.partition("-")[2]] = path
        for name, path in newest.items():
            since = _since(path)

            def is_other(unit: str, since: float = since) -> bool:
                # A new file cannot get the id of an ended unit. If a unit with that id landed after
                # this file was taken, it is the unit of this file.
                return unit in used or ended.get(unit, since) < since - SLACK_S

            title = _task("", path, since)[0].title
            unit = task_file.free_id(name, is_other, title=title)
            used.add(unit)
            yield _task(unit, path, since)

    async def _made(self, traces: Mapping[str, Trace]) -> dict[str, Made]:
        """Read all kept commits that exist, in one process; return what they say."""
        asked = ""
        for trace in traces.values():
            for kept in trace.kept.values():
                if kept:
                    asked += f"{kept.commit}\n"
        if not asked:
            return {}
        how = ("log", "-z", "--no-walk=unsorted", "--ignore-missing", "--stdin")
        form = f"--format={_MADE_FORM}"
        printed = await self._trunk.own.run(*how, form, stdin=asked.encode())
        fields = printed.out.decode(errors="replace").split("\0")
        made = {}
        for first in range(0, len(fields) - 4, 5):
            commit, tree, at, parents, body = fields[first : first + 5]
            made[commit] = Made(
                tree=tree,
                base=parents.partition(" ")[0],
                at=float(at),
                run=kept_refs.run_in(body),
            )
        return made

    # ── what each unit was ──

    def _parts(self, name: str, traces: Mapping[str, Trace]) -> tuple[str, ...]:
        """Return the parts that the unit's last attempt wrote, if all of them became units."""
        last = self._where.run_dir(name, max(traces[name].kept, default=0))
        files = sorted(read_outbox(last / "outbox").split)
        parts = tuple(part_ids(name, files, lambda taken: taken == name).values())
        return parts if len(parts) >= FEWEST and traces.keys() >= set(parts) else ()

    def _landing(
        self,
        name: str,
        trace: Trace,
        made: Mapping[str, Made],
    ) -> Landing | None:
        """Return the newest landing with the unit's name and its attempt's nonce.

        If no nonce is known, compares times, because an earlier factory in this repository may have
        used the same id.
        """
        known = recorded(self._store)
        for landing in trace.landings:
            nonce = self._nonce(name, landing.attempt, trace, made)
            if landing.run == nonce or (known and is_nonce_of(known.id, landing.run)):
                return landing
            is_unmarked = not landing.run or not nonce
            if is_unmarked and landing.at >= trace.taken - SLACK_S:
                return landing
        return None

    def _nonce(
        self,
        name: str,
        number: int,
        trace: Trace,
        made: Mapping[str, Made],
    ) -> str:
        """Return the nonce of an attempt, from its commit or its run dir; "" if neither has one."""
        kept = trace.kept.get(number)
        known = made.get(kept.commit) if kept else None
        if known and known.run:
            return known.run
        return process.nonce_of(self._where.run_dir(name, number), anywhere=True) or ""

    def _attempt(
        self,
        unit: str,
        number: int,
        trace: Trace,
        made: Mapping[str, Made],
        at: datetime,
    ) -> Attempt:
        box = read_outbox(self._where.run_dir(unit, number) / "outbox")
        kept = trace.kept[number]
        known = made.get(kept.commit) if kept else None
        end = datetime.fromtimestamp(known.at, UTC) if known else at
        attempt = Attempt(
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
        )
        if kept is None or known is None:
            return attempt
        return replace(
            attempt,
            nonce=known.run,
            base=known.base,
            tree=known.tree,
            commit=kept.commit,
            ref=kept.ref,
        )


def _unit(
    name: str,
    trace: Trace,
    landing: Landing | None,
    parts: tuple[str, ...],
    at: datetime,
) -> Unit:
    """Return the unit that these traces are of; `parts` are the units that took its place."""
    taken = trace.taken
    begun = datetime.fromtimestamp(taken, UTC) if taken else at
    newest = max((*trace.kept, landing.attempt if landing else 0))
    unit = Unit(
        id=name,
        title=name,
        state=UnitState.CANCELLED,
        since=at,
        accepted=begun,
        attempt=newest,
        why="it had ended before the store was rebuilt",
    )
    if trace.spec and trace.spec.trouble:  # an older version accepted the file
        taken = 0
        why = f"its task file is no longer valid ({trace.spec.trouble}): drop it again"
        unit = replace(unit, why=why)
    elif trace.spec:
        unit = as_asked(unit, trace.spec)
    if landing:
        return replace(
            unit,
            state=UnitState.LANDED,
            commit=landing.commit,
            landed=datetime.fromtimestamp(landing.at, UTC),
            title=landing.subject,
            why="",
        )
    if parts:
        return _as_split(unit, parts)
    if taken:
        state = UnitState.WAITING if unit.needs else UnitState.READY
        return replace(unit, state=state, why="the store was rebuilt")
    return unit


def _as_split(unit: Unit, parts: tuple[str, ...]) -> Unit:
    return replace(
        unit,
        state=UnitState.SPLIT,
        needs=parts,
        why=f"its parts: {', '.join(parts)}",
    )


def _has_tree(trace: Trace) -> bool:
    return any(trace.kept.values())


def _task(
    unit: str,
    path: Path,
    taken: float,
) -> tuple[Spec, Task, float]:
    text = bounded.head(path, task_file.MAX_BYTES).decode(errors="replace")
    name = path.name.partition("-")[2]
    spec = spec_again(
        text,
        unit=unit,
        name=name,
        source=path.name,
    )
    return spec, Task(unit=unit, text=text), taken


def _is_archived(kept: Kept | None) -> bool:
    return kept is not None and "/archive/" in kept.ref


def _since(path: Path) -> float:
    return path.lstat().st_ctime


def _folders(folder: Path) -> list[Path]:
    """Return the folders inside a folder that may belong to units or attempts; follow no links."""
    return [path for path in inside(folder) if is_real(path) and ID.fullmatch(path.name)]
