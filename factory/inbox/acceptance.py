"""Acceptance: makes a unit from a task's text, or replaces the text of a unit without attempts.

Invariant: the unit, its spec and its text are written in one transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from factory.dispatch import scheduling
from factory.ground.errors import TaskFileError
from factory.ground.reserved import NO_AGENT
from factory.inbox.dropped import OWN
from factory.inbox.split import in_a_circle, is_part, replaced
from factory.people.escalations import Escalations
from factory.store import task_file
from factory.store.accepted import spec_from
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Task
from factory.store.spec import Spec
from factory.store.unit import FINAL, NO_PROOF, Unit, UnitState, advance

_UNSTARTED = (UnitState.WAITING, UnitState.READY, UnitState.HELD)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A task file that was dropped."""

    name: str
    text: str
    source: str  # the intake name
    at: datetime  # when it was dropped
    ignored: tuple[str, ...] = ()  # keys that the agent who wrote it may not set
    unit: str = ""  # the id of the new unit, if it is known before


class Acceptance:
    """Makes units. `is_taken` returns whether an id is not free for a new unit."""

    def __init__(
        self,
        *,
        store: Store,
        escalations: Escalations,
        is_taken: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._escalations = escalations
        self._is_taken = is_taken
        # The needs of all units that were ever open here; None: not read yet.
        self._wanted: set[str] | None = None

    def accept(self, dropped: Dropped, now: datetime) -> str:
        """Parse a task's text and return the unit's id; raise TaskFileError.

        No other code parses tasks.
        """
        name = dropped.name
        file = task_file.parse(dropped.text, name)
        before = None if dropped.unit else self._unstarted(name)
        unit = before or self._blank(dropped, file.title, now)
        spec = spec_from(file, unit=unit.id, name=name, source=dropped.source)
        spec = replace(spec, ignored=(*spec.ignored, *dropped.ignored))
        unit = as_asked(unit, spec)
        unit = replace(unit, needs=self._with_parts(unit.needs), approved=())
        circle = self._circle(unit, is_new=before is None)
        if circle:
            reason = in_a_circle(circle)
            raise TaskFileError(reason, line=file.lines["needs"], form=task_file.FORMS["needs"])
        event = Event.TASK_REPLACED if before else Event.TASK_ACCEPTED
        task = Task(unit=unit.id, text=dropped.text)
        with self._store.transaction():
            unit = self._settled(self._freed(unit, now), now)
            self._store.write(
                event,
                unit,
                spec,
                task,
                now=now,
                unit=unit.id,
                name=name,
                why=unit.why,
            )
        return unit.id

    def _freed(self, unit: Unit, now: datetime) -> Unit:
        """Return the unit without its cards and causes, because they are about the earlier text.

        If a cause still exists, the next pass of the pool finds it again.
        """
        if unit.state is UnitState.HELD:
            unit = advance(unit, UnitState.WAITING, now=now)
        elif not unit.cause:
            return unit
        self._escalations.leave(unit.id, now=now, why="its task file was saved again")
        return replace(unit, cause="")

    def _unstarted(self, name: str) -> Unit | None:
        """Return the newest unit without attempts whose file has that name.

        Parts of a split do not count, because nobody dropped them.
        """
        newest = None
        for spec in self._store.select(Spec, name=name):
            unit = self._store.get(Unit, spec.unit)
            if unit is None or unit.state not in _UNSTARTED or unit.attempt:
                continue
            if spec.source.startswith(OWN) and is_part(self._store, unit.id):
                continue
            if newest is None or unit.accepted > newest.accepted:
                newest = unit
        return newest

    def _blank(self, dropped: Dropped, title: str, now: datetime) -> Unit:
        free = dropped.unit or task_file.free_id(dropped.name, self._is_taken, title=title)
        return Unit(
            id=free,
            title="",
            state=UnitState.WAITING,
            since=now,
            accepted=dropped.at,
        )

    def _with_parts(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        """Return the needs, with each split unit replaced by its parts."""
        parts: dict[str, tuple[str, ...]] = {}
        names = list(needs)
        for name in names:  # the list grows during the loop
            unit = self._store.get(Unit, name)
            if unit is not None and unit.state is UnitState.SPLIT and name not in parts:
                parts[name] = unit.needs
                names += unit.needs
        return replaced(needs, parts)

    def _circle(self, unit: Unit, *, is_new: bool) -> tuple[str, ...]:
        """Return the shortest circle of needs through the unit; () if there is none.

        Most new units are in no circle, because no earlier unit needs them. This is known without
        a walk along the needs, whose cost would grow with each unit of a long chain.
        """
        if self._wanted is None:
            self._wanted = set()
            for each in self._store.open(Unit):
                self._wanted.update(each.needs)
        self._wanted.update(unit.needs)
        if not unit.needs or (is_new and unit.id not in self._wanted):
            return ()
        needs = {unit.id: unit.needs}
        names = list(unit.needs)
        for name in names:  # the list grows during the loop
            other = None if name in needs else self._store.get(Unit, name)
            if other is not None and other.state not in FINAL:
                needs[name] = other.needs
                names += other.needs
        return scheduling.circle(unit.id, needs)

    def _settled(self, unit: Unit, now: datetime) -> Unit:
        known = {}
        for need in unit.needs:
            needed = self._store.get(Unit, need)
            if needed:
                known[need] = needed.state
        changed = scheduling.settle([unit], known, now=now)
        if not changed or changed[0].state is UnitState.HELD:  # the pool later holds it
            return unit
        return changed[0]


def as_asked(unit: Unit, spec: Spec) -> Unit:
    """Return the unit with the values from its task file."""
    return replace(
        unit,
        title=spec.title,
        priority=spec.priority,
        needs=spec.needs,
        scope=spec.scope,
        agent=NO_AGENT if spec.run else spec.agent,
        proven="" if spec.accept else NO_PROOF,
    )
