"""Raises cards, joins cards with the same cause, closes cards whose cause is over, takes answers.

Invariant: one cause has at most one open card; a card takes one answer; no worker and no bench
waits for a card. The texts of cards are in cards.py and line_cards.py.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from factory.ground.errors import RefusedByState, UsageError
from factory.ground.times import as_of, day_of
from factory.people import answers, causes, effects
from factory.people.actions import (
    Action,
    Afresh,
    Answer,
    Approve,
    Cancel,
    Judge,
    LeaveOut,
    Recheck,
    Repair,
    Rerun,
    Restore,
    Retry,
    Simplify,
    SpendOn,
    Split,
    UnitAction,
    Unneed,
    Wait,
    parse,
    written,
)
from factory.people.causes import Ask, Cause, Circumstances
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Card, CardKind, Fact, Option, Remark, Step
from factory.store.unit import FINAL, Unit, UnitState, advance


class Escalations:
    """The open cards of this line.

    `repair` creates a unit from a title and a body, through the intake, and returns its id.
    `next_card` takes the number of the newest recorded card and returns a number that no card has
    used.
    """

    def __init__(
        self,
        *,
        store: Store,
        repair: Callable[[str, str, datetime], str],
        next_card: Callable[[int], int],
    ) -> None:
        self._store = store
        self._repair = repair
        self._next_card = next_card

    def reconcile(self, facts: Circumstances, *, now: datetime) -> Collection[Cause]:
        """Compare every open card with the facts; return the causes whose cards were closed.

        Only this loop closes cards because their cause is over. It releases the units that were
        held by such a card. `Waits` later releases the units that waited because of the cause.
        """
        if facts.full:
            self.raise_card(facts.full, now=now)
        over = []
        for card in self._store.open(Card):
            cause = causes.parse(card.fingerprint)
            if not facts.rules_read and not isinstance(cause, causes.DiskFull):
                continue  # only the disk is known yet
            if why := cause.why_over(card, facts):
                with self._store.transaction():
                    self._close(card, now=now, why=why)
                    _free_held(self._store, card, now=now, why=why)
                over.append(cause)
            elif fresh := cause.ask(card, facts):
                self.raise_card(fresh, now=now)
        return over

    def wait(self, unit: Unit, ask: Ask, *, now: datetime) -> None:
        """Raise the card; the unit waits until the cause of the card is over."""
        self.wait_all([unit], ask, now=now)

    def wait_all(self, units: Sequence[Unit], ask: Ask, *, now: datetime) -> None:
        """Raise one card; the units wait until the cause of the card is over."""
        with self._store.transaction():
            card = self._raise(ask, units, now)
            for unit in units:
                caused = replace(unit, cause=ask.cause.key)
                waits = advance(caused, UnitState.WAITING, now=now, why=f"waits for {card.id}")
                self._store.write(Event.UNIT_WAITING, waits, now=now, unit=unit.id)

    def hold(self, unit: Unit, ask: Ask, *, now: datetime, why: str) -> None:
        """Raise the card; the unit is held until a person answers."""
        with self._store.transaction():
            self.raise_card(ask, now=now, unit=unit)
            held = advance(unit, UnitState.HELD, now=now, why=why)
            self._store.write(Event.UNIT_HELD, held, now=now, unit=unit.id)

    def raise_card(self, ask: Ask, *, now: datetime, unit: Unit | None = None) -> Card:
        """Raise the card, or update the open card of the same cause; return the open card."""
        return self._raise(ask, [unit] if unit else [], now)

    def _raise(self, ask: Ask, units: Sequence[Unit], now: datetime) -> Card:
        first = units[0] if units else None
        if first:
            names = {unit.id for unit in units}
            why = f"{first.id} waits for something else"
            self._leave(names, lambda card: card.fingerprint != ask.cause.key, now, why)
        known = self.open_card(ask.cause)
        if known is None:
            number = self._next_card(_newest_number(self._store))
            folded = _new_card(f"E{number}", ask, first, now)
        else:
            folded = _folded(known, ask, first)
        for unit in units[1:]:
            folded = _folded(folded, ask, unit)
        if known is None:
            self._store.write(
                Event.CARD_RAISED,
                folded,
                now=now,
                unit=folded.unit,
                card=folded.id,
                kind=str(folded.kind),
            )
        elif folded != known:
            name = first.id if first else ""
            self._store.write(Event.CARD_FOLDED, folded, now=now, unit=name, card=folded.id)
        return folded

    def open_card(self, cause: Cause) -> Card | None:
        """Return the open card of the cause; None if there is none."""
        found = self._store.select(Card, fingerprint=cause.key, state="open")
        return found[0] if found else None

    def close(self, cause: Cause, *, now: datetime, why: str) -> None:
        """Close the card of a cause that is over; `Waits` then releases its units."""
        card = self.open_card(cause)
        if card is not None:
            self._close(card, now=now, why=why)

    def close_kind(self, kind: CardKind, *, now: datetime, why: str) -> None:
        """Close every open card of the kind."""
        for card in self._store.open(Card):
            if card.kind is kind:
                self._close(card, now=now, why=why)

    def leave(self, unit: str, *, now: datetime, why: str) -> None:
        """Remove a unit from every open card; close unit cards that then have no unit."""
        self._leave([unit], lambda card: True, now, why)

    def spare(self, unit: str, cause: Cause, *, now: datetime, why: str) -> None:
        """Remove a unit from the card of a cause; the card stays open, because the cause lasts."""
        card = self.open_card(cause)
        if card is not None:
            line = replace(card, unit="") if card.units == (unit,) else card
            self._store.write(Event.CARD_FOLDED, line, now=now, unit=unit, card=card.id)
            self._leave([unit], lambda each: each.fingerprint == cause.key, now, why)

    def _leave(
        self, names: Collection[str], which: Callable[[Card], bool], now: datetime, why: str
    ) -> None:
        """Remove units from the open cards; close unit cards that then have no unit."""
        for card in self._store.open(Card):
            gone = [each for each in card.units if each in names]
            if not gone or not which(card):
                continue
            units = tuple(each for each in card.units if each not in names)
            rest = replace(card, units=units, count=max(len(units), 1))
            if units or not card.unit:  # the card is about the line itself
                self._store.write(Event.CARD_FOLDED, rest, now=now, unit=gone[0], card=card.id)
            else:
                self._close(rest, now=now, why=why)

    def answer(self, card_id: str, choice: str, *, now: datetime) -> str:
        """Act on an answer (an option's key, or free text) and return the sentence for the person.

        Raises RefusedByState if the card is closed or unknown, and UsageError if no option has the
        number.
        """
        card = self._store.get(Card, card_id)
        if card is None:
            raise RefusedByState(f"{card_id} is not a card of this line")
        if card.state != "open":
            raise RefusedByState(f"{card_id} is closed")
        option, said = _chosen(card, choice.strip())
        action = parse(option.action) if option else None
        if isinstance(action, Wait | Repair):  # the card stays open
            answered = replace(card, answer=said)
        else:
            answered = replace(card, state="closed", answer=said, closed=now, closed_why="answered")
        if answered == card:
            raise RefusedByState(f"{card_id} already has this answer: {said}")
        with self._store.transaction():
            self._store.write(
                Event.CARD_ANSWERED, answered, now=now, unit=card.unit, card=card.id, answer=said
            )
            if action is None:
                return self._move(answered, _of_free_text(card), said, now, is_told=True)
            return self._act(answered, action, said, now)

    def overdue(self, now: datetime) -> None:
        """Take the default of every card whose deadline has passed."""
        for card in self._store.open(Card):
            if card.deadline is None:
                continue
            since, deadline = as_of(card.since, card.deadline, now)
            if deadline <= now:
                self.answer(card.id, card.default, now=now)
            elif deadline != card.deadline:
                again = replace(card, since=since, deadline=deadline)
                self._store.write(Event.CARD_FOLDED, again, now=now, unit=card.unit, card=card.id)

    def next_deadline(self) -> datetime | None:
        """Return when `overdue` must run next; None if no open card has a deadline."""
        deadlines = [card.deadline for card in self._store.open(Card) if card.deadline]
        return min(deadlines, default=None)

    def _close(self, card: Card, *, now: datetime, why: str) -> None:
        closed = replace(card, state="closed", closed=now, closed_why=why)
        self._store.write(Event.CARD_CLOSED, closed, now=now, unit=card.unit, card=card.id, why=why)

    def _act(self, card: Card, action: Action, said: str, now: datetime) -> str:  # noqa: C901 - as in effects
        match action:
            case Wait():
                return "noted"
            case Recheck():
                return "noted; the waiting units continue"
            case SpendOn():
                self._store.write(Event.FACT_CHANGED, went_on(now), now=now, card=card.id)
                return "today has no spending limit any more; the waiting units continue"
            case Repair(title):
                return f"created repair unit {self._repair(title, card.evidence, now)}"
            case LeaveOut():
                return answers.leave_out(self._store, action, now)
            case Restore():
                return answers.restore(self._store, action, now)
            case Split() | Simplify() | Answer():
                return self._move(card, action, said, now, is_told=True)
            case Retry() | Rerun() | Afresh() | Approve() | Judge() | Unneed() | Cancel():
                return self._move(card, action, said, now, is_told=False)
            case _:
                assert_never(action)

    def _move(
        self, card: Card, action: UnitAction, said: str, now: datetime, *, is_told: bool
    ) -> str:
        """Do the action to each open unit; if `is_told`, its next attempt gets the answer."""
        if isinstance(action, Cancel):
            _refuse_landing(self._store, card)
        moved = []
        for name in card.units:
            unit = self._store.get(Unit, name)
            if unit is None or unit.state in FINAL:
                continue
            if is_told:
                kind = "review" if isinstance(action, Retry) else written(action)
                self.remark(name, kind, said, now=now)
            event, after = effects.moved(action, unit, card, now=now)
            self._store.write(event, after, now=now, unit=name)
            moved.append(name)
        return f"{', '.join(moved)}: {effects.done(action)}" if moved else "noted"

    def remark(
        self, unit: str, kind: str, text: str, *, now: datetime, who: str = "person"
    ) -> None:
        """Record a remark for the next attempt."""
        seq = len(self._store.select(Remark, unit=unit)) + 1
        remark = Remark(unit=unit, seq=seq, who=who, kind=kind, text=text, at=now)
        self._store.write(
            Event.UNIT_TOLD, remark, now=now, unit=unit, kind=kind, who=who, text=text[:400]
        )


def landing_units(store: Store) -> set[str]:
    """Return the units of landings without a known outcome; a landing cannot be stopped."""
    names = set[str]()
    for step in store.open(Step):
        names.update(name for name, _ in json.loads(step.data)["units"])
    return names


def _free_held(store: Store, card: Card, *, now: datetime, why: str) -> None:
    for name in card.units:
        unit = store.get(Unit, name)
        if unit is not None and unit.state is UnitState.HELD:
            ready = advance(unit, UnitState.READY, now=now, why=why)
            store.write(Event.UNIT_READY, ready, now=now, unit=name)


def _refuse_landing(store: Store, card: Card) -> None:
    landing = landing_units(store)
    for name in card.units:
        if name in landing:
            raise RefusedByState(
                f"{name} is landing at this moment: it cannot be cancelled any more"
            )


def _newest_number(store: Store) -> int:
    """Return the number of the newest card; 0 if there is none."""
    newest = store.newest(Card, 1)
    return int(newest[0].id.removeprefix("E")) if newest else 0


def _chosen(card: Card, choice: str) -> tuple[Option | None, str]:
    """Return the option with this key or label (None: free text), and the answer to record."""
    for option in card.options:
        if option.key == choice:
            return option, option.label
    for option in card.options:
        if option.label.casefold() == choice.casefold():
            return option, option.label
    if not choice or choice.isdigit():
        raise UsageError(f"{card.id} has no option {choice!r}; it has {_keys(card)}")
    return None, choice


def _of_free_text(card: Card) -> UnitAction:
    """Return the action for free text; raise UsageError if no attempt would get the text."""
    offered = [parse(option.action) for option in card.options]
    for action in (Answer(), Retry()):
        if action in offered:
            return action
    raise UsageError(f"{card.id} must be answered with one of its options: {_keys(card)}")


def _keys(card: Card) -> str:
    return ", ".join(option.key for option in card.options)


def _new_card(name: str, ask: Ask, unit: Unit | None, now: datetime) -> Card:
    options = []
    for number, (label, effect, action) in enumerate(ask.choices, 1):
        options.append(Option(key=str(number), label=label, effect=effect, action=written(action)))
    deadline = None
    if ask.deadline_s and ask.default:
        deadline = now + timedelta(seconds=ask.deadline_s)
    return Card(
        id=name,
        kind=ask.kind,
        fingerprint=ask.cause.key,
        since=now,
        question=ask.question,
        unit=unit.id if unit else "",
        units=(unit.id,) if unit else (),
        evidence=ask.evidence[:16384],
        where=ask.where,
        options=tuple(options),
        recommended=options[0].key if options else "",
        default=ask.default,
        deadline=deadline,
    )


def _folded(card: Card, ask: Ask, unit: Unit | None) -> Card:
    """Return the open card, updated by a new ask of the same cause; unit None: about the line."""
    units = card.units
    if unit is not None and unit.id not in units:
        units = (*units, unit.id)
    folded = replace(card, units=units, count=max(len(units), 1))
    if unit is not None and unit.id != card.unit:
        return folded
    # The new ask is about the unit or line that the card's text is about, so update the text.
    fresh = _new_card(card.id, ask, unit, card.since)
    folded = replace(
        folded,
        question=fresh.question,
        options=fresh.options,
        evidence=fresh.evidence or card.evidence,
        where=fresh.where or card.where,
    )
    if ask.kind is CardKind.CONFIG and folded.question != card.question:
        return replace(folded, answer="")  # the earlier answer was about another mistake
    return folded


def went_on(at: datetime) -> Fact:
    """Return the fact that a person lifted the spending limit of this day."""
    return Fact(name="regardless", value=f'"{day_of(at)}"')
