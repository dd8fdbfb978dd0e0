"""The ledger: what attempts have spent and reserved, and what is left under the caps.

Invariant: only the records of attempts count. So a reservation that a dead daemon made ends when
Rescue ends the attempt.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property

from factory.agents.output import Usage
from factory.dispatch import budget
from factory.dispatch.budget import Amount, Caps, Short
from factory.ground.reserved import NO_AGENT
from factory.ground.settings import Budget
from factory.ground.times import day_of
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import Ask, Cause, cause
from factory.people.escalations import went_on
from factory.store.ports import Store
from factory.store.records import Attempt, CardKind, Fact
from factory.store.unit import Unit

LOOK_BACK = 7  # days of attempts that predict what the next attempt needs
MOST_RUNS = 200  # attempts of one agent that predict it


class Ledger:
    """The accounts at one moment; the ledger reads each record once.

    `add` adds an attempt that started later. The attempts of `units` are read in one query.
    """

    def __init__(
        self, store: Store, table: Budget, at: datetime, *, units: Collection[str] = ()
    ) -> None:
        self._store = store
        self.table = table
        self._at = at
        self._units = frozenset(units)
        self._needs: dict[str, Amount] = {}

    def reserve(self, unit: Unit, agent: str, minutes: float) -> Amount | Short:
        """Return the reservation for an attempt of at most `minutes`; 0 for parts without a cap."""
        caps = self._caps(unit)
        if agent == NO_AGENT or caps == Caps():
            return Amount()
        beyond = Amount()
        for running in self._running:
            beyond += budget.charge(running) - budget.used(running)
        return budget.reserve(
            replace(caps, attempt=replace(caps.attempt, minutes=minutes)),
            replace(self._need(agent), minutes=minutes),
            unit=self._charged(unit.id),
            spent=self._spent(),
            running=beyond,
        )

    def add(self, attempt: Attempt) -> None:
        """Add an attempt that was just started."""
        self._running.append(attempt)
        self._of_units.setdefault(attempt.unit, []).append(attempt)

    def extend(self, attempt: Attempt, want: Amount) -> Amount | None:
        """Return the reservation that a running attempt needs to use `want`; None: over a cap."""
        unit = self._store.get(Unit, attempt.unit)
        assert unit is not None, f"there is no unit {attempt.unit}"
        others = [each for each in self._running if _key(each) != _key(attempt)]
        day = self._ended + budget.total(map(budget.charge, others))
        of_unit = self._charged(attempt.unit, but=attempt.number)
        return budget.extend(self._caps(unit), budget.held(attempt), want, unit=of_unit, day=day)

    def ask(self, unit: Unit, short: Short) -> Ask:
        """Return the card for a unit that cannot be paid for."""
        if short is Short.UNIT:
            cap = self._caps(unit).unit
            used = budget.said(self._charged(unit.id), cap)
            return words.unit_spent(unit, used=used, cap=budget.said(cap, cap))
        cap = self._day_cap
        used = budget.said(self._spent(), cap)
        return line_cards.day_spent(self.day_cause, used=used, cap=budget.said(cap, cap))

    @property
    def day_cause(self) -> Cause:
        """Return the cause of units that the day's limit stops; each day and limit has one."""
        return cause("day", f"{day_of(self._at)}:{budget.said(self._day_cap, self._day_cap)}")

    @cached_property
    def _day_cap(self) -> Amount:
        regardless = self._store.get(Fact, "regardless") == went_on(self._at)
        return budget.caps(self.table, regardless=regardless).day

    def _caps(self, unit: Unit) -> Caps:
        raised = unit.approved.count(CardKind.BUDGET)
        return replace(budget.caps(self.table, raised=raised), day=self._day_cap)

    def _spent(self) -> Amount:
        return self._ended + budget.total(map(budget.used, self._running))

    def _charged(self, unit: str, *, but: int = 0) -> Amount:
        if unit not in self._of_units:
            self._of_units[unit] = self._store.select(Attempt, unit=unit)
        own = [each for each in self._of_units[unit] if each.number != but]
        return budget.total(map(budget.charge, own))

    @cached_property
    def _of_units(self) -> dict[str, list[Attempt]]:
        found: dict[str, list[Attempt]] = {unit: [] for unit in self._units}
        for attempt in self._store.select(Attempt, unit=self._units):
            found[attempt.unit].append(attempt)
        return found

    @cached_property
    def _running(self) -> list[Attempt]:
        return self._store.open(Attempt)

    @cached_property
    def _ended(self) -> Amount:
        today = self._store.select(Attempt, day=day_of(self._at))
        return budget.total(map(budget.charge, today))

    def _need(self, agent: str) -> Amount:
        if agent not in self._needs:
            self._needs[agent] = budget.needed(self._lately(agent))
        return self._needs[agent]

    def _lately(self, agent: str) -> Sequence[Attempt]:
        """Return the agent's newest ended attempts of the last days."""
        found: list[Attempt] = []
        for back in range(LOOK_BACK):
            day = day_of(self._at - timedelta(days=back))
            found += self._store.newest(Attempt, MOST_RUNS - len(found), agent=agent, day=day)
        return found


class Meter:
    """Compares what a running attempt uses with what is reserved for it."""

    def __init__(self) -> None:
        self._caps: Budget | None = None
        # The most that the attempt used between two reads; it may use as much until the next read.
        self._step: Amount | None = None

    def read(self, ledger: Ledger, attempt: Attempt, usage: Usage) -> tuple[Attempt, bool]:
        """Return the attempt with its new usage, and whether a cap stops it."""
        now = metered(attempt, usage)
        grown = budget.used(now) - budget.used(attempt)
        is_edited = self._caps != ledger.table  # the limits may have changed before this start
        self._caps = ledger.table
        if grown == Amount() and not is_edited:
            return now, False
        if grown != Amount():
            before = self._step
            self._step = Amount() if before is None else budget.most(before, grown)
        step = self._step or Amount()
        granted = ledger.extend(now, budget.used(now) + step)
        if granted is None:
            return now, True
        return replace(now, reserved_usd=granted.usd, reserved_tokens=int(granted.tokens)), False


def metered(attempt: Attempt, usage: Usage) -> Attempt:
    """Return the attempt with its reported usage, which never falls: reports may get lost."""
    return replace(
        attempt,
        tokens_input=max(attempt.tokens_input, usage.input),
        tokens_output=max(attempt.tokens_output, usage.output),
        cost_usd=max(attempt.cost_usd, usage.cost),
        estimated=usage.estimated,
    )


def _key(attempt: Attempt) -> tuple[str, int]:
    return attempt.unit, attempt.number
