"""What a start does about earlier daemons of this factory, before it uses their files.

Invariant: before the first attempt starts, all processes of earlier daemons of this repository have
ended. A process that belongs to another repository (of which this is a copy) never gets a signal.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from anyio import to_thread

from factory.child import process
from factory.child.proc import family
from factory.child.users import users
from factory.ground import faults
from factory.ground.places import Places
from factory.ground.regular import is_real
from factory.repo.checkouts import ABANDONED, inside, put_aside
from factory.repo.underway import unended
from factory.store.fact_values import value_of
from factory.store.identity import (
    Found,
    Identity,
    compare,
    here,
    is_same_place,
    new_id,
    record,
    recorded,
)
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Card, Fact, Hook, Request, Step
from factory.store.unit import EndReason, Unit, UnitState, advance

WORKSPACES = "workspaces"
BENCHES = "benches"
# The file that names what a place's environment was made from; after a move, its paths are wrong.
STAMP = "environment.json"
SET_ASIDE = "set-aside"  # in .factory: task files that came with a copy


@dataclass(slots=True)
class Told:
    """What a start found, and the sentences about it for a person."""

    found: Found
    lines: list[str] = field(default_factory=list)


async def take_over(
    store: Store,
    where: Places,
    *,
    identity_at: Callable[[str], str | None],
    now: datetime,
) -> Told:
    """Find out which checkout owns the store, and stop what earlier daemons left running.

    `identity_at` returns the identity of the store in a checkout: "" if there is no store, None
    if it is unknown.
    """
    known = recorded(store) or _of_older_release(store)
    known_id = known.id if known else ""
    identity = here(where.root, where.common_dir, where.work, identity=known_id)
    told = Told(_compare(known, identity, identity_at))
    identity = replace(identity, id=identity.id or new_id())
    if known and told.found is Found.COPIED:
        identity = replace(identity, id=new_id())
        told.lines += _leave_to_original(store, where, known, now)
    if known and told.found is Found.MOVED:
        told.lines += await _move(store, where, known, now)
    record(store, identity, now=now)
    told.lines += await _end_earlier(store, where, was=known)
    told.lines += await _put_aside(store, where, told.found)
    return told


# ── the owner of the store ──


def _compare(
    known: Identity | None, identity: Identity, identity_at: Callable[[str], str | None]
) -> Found:
    if known is None:
        return Found.NEW
    if is_same_place(known, identity):
        return Found.SAME
    return compare(known, identity, other=identity_at(known.root))


def _of_older_release(store: Store) -> Identity | None:
    """Return where a store of format 3 says its lock and its work folder were."""
    said = value_of(store, "daemon", {})
    lock = Path(said.get("lock") or "")
    if not lock.is_absolute():
        return None
    git_dir = lock.parent
    return Identity(
        id="",
        root=str(git_dir.parent),
        git_dir=str(git_dir),
        work=str(said.get("work") or ""),
    )


# ── a copy ──


def _leave_to_original(
    store: Store,
    where: Places,
    known: Identity,
    now: datetime,
) -> list[str]:
    """Forget processes, hooks, cards and open units, because the original continues them."""
    original = known.root
    # First the files, then the records: if the daemon dies in between, the next start finds a copy
    # again and does the rest.
    files = _set_aside(where)
    with faults.step("copy.forget"):
        _forget_runs(where)
    units = store.open(Unit)
    why = f"left to the original in {original}"
    with store.transaction():
        for unit in units:
            left = advance(unit, UnitState.CANCELLED, now=now, why=why)
            store.write(Event.UNIT_CANCELLED, left, now=now, unit=unit.id)
        _close_all(store, why, now)
    line = f"This repository is a copy of {original}"
    if units:
        number = "1 open unit was" if len(units) == 1 else f"{len(units)} open units were"
        line += f": {number} left to the original; `factory retry ID` does one here"
    lines = [f"{line}."]
    if files:
        where_to = f".factory/{SET_ASIDE}/: drop those that you want into the inbox again."
        lines.append(f"{files} task files that came with it are now in {where_to}")
    return lines


def _close_all(store: Store, why: str, now: datetime) -> None:
    """Empty hooks, and end attempts, cards, steps and requests that belong to the original."""
    records: list[Hook | Attempt | Card | Step | Request | Fact] = []
    for hook in store.select(Hook):
        records.append(
            Hook(
                worker=hook.worker,
                index=hook.index,
                since=now,
                workspace=hook.worker,
            )
        )
    for attempt in store.open(Attempt):
        free = replace(attempt, reserved_usd=0.0, reserved_tokens=0, reserved_minutes=0.0)
        records.append(replace(free, end=now, reason=EndReason.HANDED_BACK, detail=why))
    for card in store.open(Card):
        records.append(replace(card, state="closed", closed=now, closed_why=why))
    for step in store.open(Step):
        records.append(replace(step, done=True))
    for request in store.open(Request):
        records.append(replace(request, state="refused", outcome=why))
    for name, value in (("pauses", "{}"), ("paused", "null"), ("queue", "[]")):
        records.append(Fact(name=name, value=value))
    store.write(Event.STORE_COPIED, *records, now=now, why=why)


def _set_aside(where: Places) -> int:
    """Move untaken task files out of the inbox; return their number."""
    target = where.home / SET_ASIDE
    waiting = [*_task_files(where.inbox), *_task_files(where.intake)]
    with faults.step("copy.aside"):
        for path in waiting:
            target.mkdir(exist_ok=True)
            path.rename(_free(target / path.name))
    return len(waiting)


def _task_files(folder: Path) -> list[Path]:
    found = inside(folder)
    return [path for path in found if path.suffix.lower() == ".md" and path.is_file()]


def _free(path: Path) -> Path:
    """Return the path, or a similar path that is free."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _forget_runs(where: Places) -> None:
    """Delete all files that name processes of the original; keep the output of these processes."""
    for run in [*unended(where.home / "attempts", "*/*"), *unended(where.judged)]:
        (run / "start.json").unlink(missing_ok=True)


# ── a move ──


async def _move(
    store: Store,
    where: Places,
    known: Identity,
    now: datetime,
) -> list[str]:
    """Move the work folder too, and update the path of the checkout in the open steps."""
    await _end_all(_runs_of(Path(known.root) / ".factory"))
    moved = await to_thread.run_sync(_move_work, Path(known.work or "/nonexistent"), where.work)
    with store.transaction():
        for step in store.open(Step):
            data = _renamed(step.data, known.root, str(where.root))
            store.write(Event.LANDING_OPENED, replace(step, data=data), now=now, moved=True)
        for unit in store.open(Unit):
            if unit.resume:  # agents find their sessions by the original path of the workspace
                store.write(Event.ATTEMPT_NOTED, replace(unit, resume=False), now=now, unit=unit.id)
    more = "" if moved else "; its workspaces were not found, so new ones are made"
    return [f"This repository was in {known.root} before{more}."]


def _move_work(old: Path, new: Path) -> bool:
    """Rename the work folder; return whether it is at its new path."""
    if not is_real(old) or old == new:
        return old == new
    with suppress(OSError), faults.step("move.work"):
        if is_real(new) and any(new.iterdir()):  # an earlier repository here made the folder
            new.rename(new.with_name(f"{new.name}{ABANDONED}{secrets.token_hex(4)}"))
        elif is_real(new):
            new.rmdir()
        old.rename(new)
        for stamp in new.glob(f"*/*/{STAMP}"):
            stamp.unlink(missing_ok=True)
        return True
    return False


def _renamed(data: str, old: str, new: str) -> str:
    """Return a step's JSON with the checkout at its new path."""
    told = json.loads(data)
    plan = json.loads(told.get("plan") or "{}")
    for key in ("checkout", "git_dir"):
        path = str(plan.get(key) or "")
        if path == old or path.startswith(f"{old}/"):
            plan[key] = new + path.removeprefix(old)
    return json.dumps(told | {"plan": json.dumps(plan)})


# ── processes of an earlier life ──


async def _end_earlier(
    store: Store,
    where: Places,
    *,
    was: Identity | None,
) -> list[str]:
    """End every run that is on no hook of this store."""
    runs = _runs_of(where.home)
    for hook in store.select(Hook):
        if hook.unit and _is_on_record(store, where, hook):
            runs.pop(where.run_dir(hook.unit, hook.attempt), None)
    for run in list(runs):
        if was and run.is_relative_to(where.judged):  # judging handles them
            del runs[run]
    ended = await _end_all(runs)
    if not ended:
        return []
    names = ", ".join(sorted("/".join(run.parts[-2:]) for run in runs))
    whose = "that an earlier life of this factory had left behind"
    return [f"{ended} processes {whose} were ended ({names})."]


def _is_on_record(store: Store, where: Places, hook: Hook) -> bool:
    """Return whether the store has the attempt on record that now runs for the hook."""
    attempt = store.get(Attempt, hook.unit, hook.attempt)
    if attempt is None:
        return False
    run_dir = where.run_dir(hook.unit, hook.attempt)
    return process.nonce_of(run_dir) in (None, attempt.nonce)


def _runs_of(home: Path) -> dict[Path, int]:
    """Return the run dirs below a `.factory` with live processes, and their number."""
    found: dict[Path, int] = {}
    for run in process.runs_in(home).values():
        if run != home / "git":
            found[run] = found.get(run, 0) + 1
    return found


async def _end_all(runs: Mapping[Path, int]) -> int:
    """End these runs; return the number of processes."""
    for run in runs:
        with faults.step("command.end"):
            await process.end(run)
    return sum(runs.values())


# ── folders of an earlier life ──


async def _put_aside(store: Store, where: Places, found: Found) -> list[str]:
    """Put aside folders that an earlier daemon may still write to, or that no record names."""
    is_strange = found in (Found.NEW, Found.COPIED)
    hooks = {hook.workspace: hook for hook in store.select(Hook)}
    aside = []
    for place in _in_use(where.work / WORKSPACES):
        hook = hooks.get(place.name)
        # The worker of a full hook handles what its attempt left there.
        if is_strange or hook is None or (not hook.unit and await _users(place)):
            put_aside(place)
            aside.append(place.name)
    for place in _in_use(where.work / BENCHES):
        strangers = await _users(place)
        if strangers and not is_strange:
            # In this order, because gates start and end processes all the time: after it, only a
            # process is left that was here both times and was no gate's in between.
            strangers -= _marked(where)
            strangers &= await _users(place)
        if strangers:
            put_aside(place)
            aside.append(place.name)
    if not aside:
        return []
    lost = " The store that knew their units is gone." if found is Found.NEW else ""
    return [f"An earlier life worked in {', '.join(aside)}: put aside, their trees are kept.{lost}"]


async def _users(place: Path) -> set[int]:
    return set(await to_thread.run_sync(lambda: users(place)))


def _marked(where: Places) -> set[int]:
    """Return the processes of gates and setups, which the judging code handles."""
    begun = [identity.pid for identity in process.runs_in(where.judged)]
    return set(family(begun))


def _in_use(folder: Path) -> list[Path]:
    return [path for path in inside(folder) if ABANDONED not in path.name]
