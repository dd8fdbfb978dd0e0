"""The ledger: what is spent and held back, read from the records of attempts, and what that leaves.

Invariant: nothing is kept beside the records, so what a dead daemon held back ends with the attempt
that rescue ends.
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

LOOK_BACK = 7  # days: what attempts of a runtime used lately says what the next one will need


class Ledger:
    """The accounts at one moment, each record read once.

    What is hung meanwhile is added by `add`. `units`: those whose attempts are read together.
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
        """What an attempt of at most so many minutes has to hold back; nothing without a cap."""
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
        """Take into account an attempt that was hung just now."""
        self._running.append(attempt)
        self._of_units.setdefault(attempt.unit, []).append(attempt)

    def extend(self, attempt: Attempt, want: Amount) -> Amount | None:
        """What a running attempt holds back before it uses `want`; None: no cap pays for it."""
        unit = self._store.get(Unit, attempt.unit)
        assert unit is not None, f"there is no unit {attempt.unit}"
        others = [each for each in self._running if _key(each) != _key(attempt)]
        day = self._ended + budget.total(map(budget.charge, others))
        of_unit = self._charged(attempt.unit, but=attempt.number)
        return budget.extend(self._caps(unit), budget.held(attempt), want, unit=of_unit, day=day)

    def ask(self, unit: Unit, short: Short) -> Ask:
        """The card for a unit that is short."""
        if short is Short.UNIT:
            cap = self._caps(unit).unit
            used = budget.said(self._charged(unit.id), cap)
            return words.unit_spent(unit, used=used, cap=budget.said(cap, cap))
        cap = self._day_cap
        used = budget.said(self._spent(), cap)
        return line_cards.day_spent(self.day_cause, used=used, cap=budget.said(cap, cap))

    @property
    def day_cause(self) -> Cause:
        """What units wait for that are short today: another day, or another cap, has another."""
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

    @cached_property
    def _lately(self) -> Sequence[Attempt]:
        days = [day_of(self._at - timedelta(days=back)) for back in range(LOOK_BACK)]
        return self._store.select(Attempt, day=frozenset(days))

    def _need(self, agent: str) -> Amount:
        if agent not in self._needs:
            earlier = [each for each in self._lately if each.agent == agent]
            self._needs[agent] = budget.needed(earlier)
        return self._needs[agent]


class Meter:
    """Reads what a running attempt uses against what is held back for it."""

    def __init__(self) -> None:
        self._caps: Budget | None = None
        # The most that it used between two looks: what it may use until the next.
        self._step: Amount | None = None

    def read(self, ledger: Ledger, attempt: Attempt, usage: Usage) -> tuple[Attempt, bool]:
        """The attempt as it stands now, and whether no cap pays for it to go on."""
        now = metered(attempt, usage)
        grown = budget.used(now) - budget.used(attempt)
        is_edited = self._caps != ledger.table  # perhaps while no daemon ran
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
    """The attempt with what its runtime has told of; no less than before, as that may be lost."""
    return replace(
        attempt,
        tokens_input=max(attempt.tokens_input, usage.input),
        tokens_output=max(attempt.tokens_output, usage.output),
        cost_usd=max(attempt.cost_usd, usage.cost),
        estimated=usage.estimated,
    )


def _key(attempt: Attempt) -> tuple[str, int]:
    return attempt.unit, attempt.number
