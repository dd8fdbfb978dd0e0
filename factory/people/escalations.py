"""Cards: raised, folded by cause, answered (their words are in cards.py).

Invariant: one cause has at most one open card, a card takes one answer, and neither a worker nor a bench waits for it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from factory.ground.errors import RefusedByState, UsageError
from factory.ground.times import as_of, day_of
from factory.people.answers import LEFT_OUT, RESTORES
from factory.people.cards import LEAVE_OUT, RESTORE, Ask
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Card, CardKind, Fact, Option, Remark, Step
from factory.store.unit import FINAL, Unit, UnitState, advance


class Escalations:
    """The open cards of this line.

    `repair` makes a unit from a title and a body (the intake's way in). `next_card` gives a number that no card had,
    when so many are on record.
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

    def raise_card(self, ask: Ask, *, now: datetime, unit: Unit | None = None) -> Card:
        """Raise the card, or fold it into the open one of the same cause; return it as it stands."""
        stopped = (unit.id,) if unit else ()
        for name in stopped:
            self._leave(
                name,
                lambda card: card.fingerprint != ask.cause,
                now,
                f"{name} waits for something else",
            )
        open_one = self.open_card(ask.cause)
        if open_one is None:
            number = self._next_card(len(self._store.select(Card)))
            card = _new_card(f"E{number}", ask, stopped, now)
            self._store.write(
                Event.CARD_RAISED, card, now=now, unit=card.unit, card=card.id, kind=str(card.kind)
            )
            return card
        units = open_one.units + tuple(each for each in stopped if each not in open_one.units)
        folded = replace(open_one, units=units, count=max(len(units), 1))
        if stopped in (
            (),
            (open_one.unit,),
        ):  # its words are about the first unit, or the line; they may have changed
            fresh = _new_card(open_one.id, ask, stopped, open_one.since)
            folded = replace(
                folded,
                question=fresh.question,
                options=fresh.options,
                evidence=fresh.evidence or open_one.evidence,
                where=fresh.where or open_one.where,
            )
            if ask.kind is CardKind.CONFIG and folded.question != open_one.question:
                folded = replace(folded, answer="")  # what was answered was about another mistake
        if folded != open_one:
            self._store.write(
                Event.CARD_FOLDED,
                folded,
                now=now,
                unit=stopped[0] if stopped else "",
                card=folded.id,
            )
        return folded

    def open_card(self, cause: str) -> Card | None:
        """The open card of that cause."""
        return next((card for card in self._store.open(Card) if card.fingerprint == cause), None)

    def close(self, cause: str, *, now: datetime, why: str) -> None:
        """Close the card of a cause that is gone; units that waited for it go on by themselves."""
        card = self.open_card(cause)
        if card is not None:
            self._close(card, now=now, why=why)

    def close_kind(self, kind: CardKind, *, now: datetime, why: str) -> None:
        """Close every open card of a kind whose causes are gone."""
        for card in self._store.open(Card):
            if card.kind is kind:
                self._close(card, now=now, why=why)

    def leave(self, unit: str, *, now: datetime, why: str) -> None:
        """Take a unit off every open card; one that was raised for units and stops none any more is closed."""
        self._leave(unit, lambda card: True, now, why)

    def spare(self, unit: str, cause: str, *, now: datetime, why: str) -> None:
        """Take a unit that went on otherwise off a card of which the cause is still there: the card stays."""
        card = self.open_card(cause)
        if card is not None:
            line = replace(card, unit="") if card.units == (unit,) else card
            self._store.write(Event.CARD_FOLDED, line, now=now, unit=unit, card=card.id)
            self._leave(unit, lambda each: each.fingerprint == cause, now, why)

    def _leave(self, unit: str, which: Callable[[Card], bool], now: datetime, why: str) -> None:
        for card in self._store.open(Card):
            if unit in card.units and which(card):
                units = tuple(each for each in card.units if each != unit)
                rest = replace(card, units=units, count=max(len(units), 1))
                if units or not card.unit:  # no unit was its first: it is about the line itself
                    self._store.write(Event.CARD_FOLDED, rest, now=now, unit=unit, card=card.id)
                else:
                    self._close(rest, now=now, why=why)

    def answer(self, card_id: str, choice: str, *, now: datetime) -> str:
        """Act on an answer (an option's key, or free text) and return the sentence for the person.

        Raises RefusedByState for a card that is closed or unknown, UsageError for a number that is no option.
        """
        card = self._store.get(Card, card_id)
        if card is None or card.state != "open":
            raise RefusedByState(
                f"{card_id} is {'not a card of this line' if card is None else 'closed'}"
            )
        option, said = _chosen(card, choice.strip())
        if (
            option is not None and option.action.partition(" ")[0] in _LEAVES_OPEN
        ):  # it stays, quietly
            answered = replace(card, answer=said)
        else:
            answered = replace(card, state="closed", answer=said, closed=now, closed_why="answered")
        if answered == card:
            raise RefusedByState(f"{card_id} was answered so already: {said}")
        with self._store.transaction():
            self._store.write(
                Event.CARD_ANSWERED, answered, now=now, unit=card.unit, card=card.id, answer=said
            )
            return self._act(answered, option, said, now)

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
        """When `overdue` is due next."""
        return min(
            (card.deadline for card in self._store.open(Card) if card.deadline), default=None
        )

    def _close(self, card: Card, *, now: datetime, why: str) -> None:
        closed = replace(card, state="closed", closed=now, closed_why=why)
        self._store.write(Event.CARD_CLOSED, closed, now=now, unit=card.unit, card=card.id, why=why)

    def _act(self, card: Card, option: Option | None, said: str, now: datetime) -> str:
        action = option.action if option else _free_text_action(card)
        if action.startswith("repair"):
            title = action.removeprefix("repair").strip() or "Make trunk green again"
            return f"hung repair unit {self._repair(title, card.evidence, now)}"
        verb, _, gates = action.partition(" ")
        if verb in (LEAVE_OUT, RESTORE):
            change = self._leave_out if verb == LEAVE_OUT else self._restore
            return change(json.loads(gates), now)
        if action == "spend_on":
            self._store.write(Event.FACT_CHANGED, went_on(now), now=now, card=card.id)
            return "today goes on without a cap; what waited goes on by itself"
        if action == "cancel" and (
            landing := [name for name in card.units if is_landing(self._store, name)]
        ):
            raise RefusedByState(
                f"{landing[0]} is landing at this moment: it cannot be cancelled any more"
            )
        units = [
            unit
            for unit in map(self._unit, card.units)
            if unit is not None and unit.state not in FINAL
        ]
        if action not in _EFFECTS or not units:
            return "noted; what waits goes on by itself" if action == "recheck" else "noted"
        effect, done = _EFFECTS[action]
        for unit in units:
            if option is None or action in _TOLD:
                self.remark(unit.id, "review" if action == "retry" else action, said, now=now)
            self._store.write(*effect(unit, card, now), now=now, unit=unit.id)
        return f"{', '.join(unit.id for unit in units)}: {done}"

    def _leave_out(self, gates: list[str], now: datetime) -> str:
        known = self._store.get(Fact, LEFT_OUT)
        names = sorted({*(json.loads(known.value) if known else []), *gates})
        self._store.write(
            Event.FACT_CHANGED,
            Fact(name=LEFT_OUT, value=json.dumps(names)),
            now=now,
            left_out=names,
        )
        return f"judged without {', '.join(names)} from now on; a gate file in conventions/gates brings it back"

    def _restore(self, asked: dict[str, list[str]], now: datetime) -> str:
        known = self._store.get(Fact, RESTORES)
        restores: dict[str, list[str]] = json.loads(known.value) if known else {}
        for gate, paths in asked.items():
            restores[gate] = sorted({*restores.get(gate, []), *paths})
        fact = Fact(name=RESTORES, value=json.dumps(restores))
        self._store.write(Event.FACT_CHANGED, fact, now=now, restores=asked)
        return f"what {', '.join(asked)} changes there is put back after it from now on"

    def remark(
        self, unit: str, kind: str, text: str, *, now: datetime, who: str = "person"
    ) -> None:
        """Write down what was said, for the next attempt to read."""
        seq = len(self._store.select(Remark, unit=unit)) + 1
        remark = Remark(unit=unit, seq=seq, who=who, kind=kind, text=text, at=now)
        self._store.write(
            Event.UNIT_TOLD, remark, now=now, unit=unit, kind=kind, who=who, text=text[:400]
        )

    def _unit(self, name: str) -> Unit | None:
        return self._store.get(Unit, name)


def is_landing(store: Store, unit: str) -> bool:
    """Whether a landing that holds the unit is under way: it cannot be called back."""
    return any(
        unit in [name for name, _ in json.loads(step.data)["units"]] for step in store.open(Step)
    )


def _retry(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    fresh = unit.fresh or card.kind in (CardKind.GUARD, CardKind.OUT_OF_SCOPE)
    again = replace(unit, bonus=max(unit.spent, unit.bonus), fresh=fresh, submission="", cause="")
    return Event.UNIT_RETRIED, advance(
        again, UnitState.READY, now=now, why=f"{card.id} was answered: try again"
    )


def _afresh(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    return _retry(replace(unit, fresh=True), card, now)


def _answered(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    asked = replace(unit, resume=True)
    return Event.UNIT_READY, advance(asked, UnitState.READY, now=now, why=f"{card.id} was answered")


def _approve(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    approved = replace(unit, approved=(*unit.approved, str(card.kind)), cause="")
    to = UnitState.QUEUED if unit.submission else UnitState.READY
    if unit.state is to:
        return Event.UNIT_QUEUED, replace(approved, why=f"{card.id} was answered: go on")
    event = Event.UNIT_QUEUED if to is UnitState.QUEUED else Event.UNIT_READY
    return event, advance(approved, to, now=now, why=f"{card.id} was answered: go on")


def _judge(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    why = f"{card.id} was answered: judge what was kept"
    return Event.UNIT_QUEUED, advance(replace(unit, cause=""), UnitState.QUEUED, now=now, why=why)


def _unneed(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    rest = replace(
        unit, needs=tuple(need for need in unit.needs if need not in card.evidence.split("\n"))
    )
    return Event.UNIT_READY, advance(
        rest, UnitState.READY, now=now, why=f"{card.id} was answered: go on without"
    )


def _cancel(unit: Unit, card: Card, now: datetime) -> tuple[Event, Unit]:
    why = f"cancelled by the answer to {card.id}"
    return Event.UNIT_CANCELLED, advance(unit, UnitState.CANCELLED, now=now, why=why)


# What an action does to each unit that the card is about, and how that is said.
_EFFECTS: Mapping[str, tuple[Callable[[Unit, Card, datetime], tuple[Event, Unit]], str]] = {
    "retry": (_retry, "tried again"),
    "rerun": (_retry, "run again"),
    "split": (_afresh, "asked for smaller tasks"),
    "simplify": (_retry, "asked for less"),
    "afresh": (_afresh, "tried again from trunk"),
    "answer": (_answered, "told, and goes on"),
    "approve": (_approve, "goes on"),
    "judge": (_judge, "is judged"),
    "unneed": (_unneed, "goes on"),
    "cancel": (_cancel, "cancelled"),
}
_TOLD = frozenset({"answer", "split", "simplify"})  # options of which the next attempt hears
_LEAVES_OPEN = frozenset({"wait", "repair"})


def _chosen(card: Card, choice: str) -> tuple[Option | None, str]:
    """The option whose key or label the choice is (None: free text), and what was said."""
    by_key = [each for each in card.options if each.key == choice]
    by_label = [each for each in card.options if each.label.casefold() == choice.casefold()]
    for option in (*by_key, *by_label):
        return option, option.label
    if not choice or choice.isdigit():
        raise UsageError(
            f"{card.id} has no option {choice!r}; it has {', '.join(each.key for each in card.options)}"
        )
    return None, choice


def _free_text_action(card: Card) -> str:
    """Words are told to the unit's next attempt; a card about circumstances has nobody to tell."""
    for action in ("answer", "retry"):
        if any(option.action == action for option in card.options):
            return action
    raise UsageError(
        f"{card.id} takes one of its options: {', '.join(each.key for each in card.options)}"
    )


def _new_card(name: str, ask: Ask, stopped: tuple[str, ...], now: datetime) -> Card:
    options = tuple(
        Option(key=str(number), label=label, effect=effect, action=action)
        for number, (label, effect, action) in enumerate(ask.choices, 1)
    )
    return Card(
        id=name,
        kind=ask.kind,
        fingerprint=ask.cause,
        since=now,
        question=ask.question,
        unit=stopped[0] if stopped else "",
        units=stopped,
        evidence=ask.evidence[:16384],
        where=ask.where,
        options=options,
        recommended=options[0].key if options else "",
        default=ask.default,
        deadline=now + timedelta(seconds=ask.deadline_s)
        if ask.deadline_s and ask.default
        else None,
    )


def went_on(at: datetime) -> Fact:
    """A person lets this day go on without its cap."""
    return Fact(name="regardless", value=f'"{day_of(at)}"')
