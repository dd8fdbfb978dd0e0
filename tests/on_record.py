"""A line on record: units, hooks and cards written into a MemoryStore by hand, in virtual time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from factory.ground.daemon_state import DaemonState
from factory.ground.places import Places
from factory.ground.settings import Settings
from factory.people.causes import Ask
from factory.people.escalations import Escalations
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Card, CardKind, Hook
from factory.store.unit import EndReason, Unit, UnitState
from tests.accepted import accepted
from tests.journal import entries_of
from tests.memory_store import MemoryStore

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """So many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


class OnRecord:
    """One line; each call writes what a daemon would have written."""

    def __init__(self, folder: Path, *, store: Store | None = None, **settings: Any) -> None:
        self.store = store or MemoryStore()
        where = Places(root=folder, common_dir=folder / ".git", work=folder / "work")
        self.state = DaemonState(settings=Settings(**settings), places=where, environ={})
        self.repairs: list[tuple[str, str]] = []
        self.ignored: dict[
            str, tuple[str, ...]
        ] = {}  # of what was hung: keys that are not in force
        self.escalations = Escalations(
            store=self.store, repair=self._repair, next_card=lambda count: count + 1
        )

    def unit(
        self,
        name: str = "fix",
        state: UnitState = UnitState.READY,
        *,
        text: str = "do it",
        **fields: Any,
    ) -> Unit:
        """A unit with its task."""
        unit = Unit(id=name, title=name.title(), state=state, since=NOW, accepted=NOW, **fields)
        self.store.write(Event.TASK_ACCEPTED, unit, *accepted(name, text), now=NOW, unit=name)
        return unit

    def running(
        self, name: str = "fix", *, number: int = 1, worker: str = "w1", **fields: Any
    ) -> Attempt:
        """A unit that hangs on a worker's hook, in its attempt of that number."""
        self.unit(name, UnitState.RUNNING, attempt=number, **fields)
        hook = Hook(
            worker=worker,
            index=1,
            unit=name,
            attempt=number,
            state="running",
            phase="working",
            since=NOW,
        )
        return self.attempt(name, number, hook)

    def attempt(
        self, name: str, number: int, *others: Hook, reason: EndReason | None = None
    ) -> Attempt:
        """An attempt, ended where it has a reason."""
        end = NOW if reason else None
        attempt = Attempt(
            unit=name,
            number=number,
            worker="w1",
            agent="claude",
            start=NOW,
            base="b" * 40,
            end=end,
            reason=reason,
        )
        self.store.write(Event.HOOK_FILLED, attempt, *others, now=NOW, unit=name, attempt=number)
        return attempt

    def change(self, name: str, **fields: Any) -> Unit:
        """The unit with other values."""
        unit = replace(self.the_unit(name), **fields)
        self.store.write(Event.UNIT_READY, unit, now=NOW, unit=name)
        return unit

    def raise_card(self, ask: Ask, *units: Unit) -> Card:
        """The card, folded from one raising for each unit."""
        raised = [self.escalations.raise_card(ask, now=NOW, unit=unit) for unit in units]
        return raised[-1] if raised else self.escalations.raise_card(ask, now=NOW)

    def the_unit(self, name: str = "fix") -> Unit:
        """As stored."""
        unit = self.store.get(Unit, name)
        assert unit is not None
        return unit

    def the_attempt(self, name: str = "fix", number: int = 1) -> Attempt:
        """As stored."""
        attempt = self.store.get(Attempt, name, number)
        assert attempt is not None
        return attempt

    def the_hook(self, worker: str = "w1") -> Hook:
        """As stored."""
        hook = self.store.get(Hook, worker)
        assert hook is not None
        return hook

    def the_card(self, name: str = "E1") -> Card:
        """As stored."""
        card = self.store.get(Card, name)
        assert card is not None
        return card

    def open_cards(self) -> list[tuple[str, CardKind, tuple[str, ...]]]:
        """(id, kind, units) of each."""
        return [(card.id, card.kind, card.units) for card in self.store.open(Card)]

    def events(self, unit: str = "") -> list[Event]:
        """What the journal tells."""
        return [entry.event for entry in entries_of(self.store, unit=unit)]

    def hang(self, name: str, text: str, now: datetime, ignored: tuple[str, ...] = ()) -> str:
        """What the intake does with a task that the factory itself wrote."""
        unit = self.unit(
            name.removesuffix(".md"),
            UnitState.WAITING,
            text=text,
            needs=accepted("", text)[0].needs,
        )
        self.ignored[unit.id] = ignored
        return unit.id

    def _repair(self, title: str, body: str, now: datetime) -> str:
        self.repairs.append((title, body))
        return "repair-trunk"
