"""The end of an attempt, and what becomes of its unit: the one place that records both.

Invariant: attempt, unit, hook and card change in one transaction, and only for the unit's newest attempt.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from graphlib import TopologicalSorter
from itertools import takewhile

from factory.attempt import triage
from factory.attempt.digest import digest
from factory.attempt.remarks import NOT_READ, unread
from factory.attempt.triage import Move, Next
from factory.dispatch import budget
from factory.dispatch.pauses import note_end
from factory.ground.daemon_state import DaemonState, Stopping
from factory.ground.times import clock
from factory.inbox.split import Part, is_part, replaced
from factory.people import cards as words
from factory.people.cards import Ask
from factory.people.escalations import Escalations
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, CardKind, Hook, Remark, Verdict
from factory.store.spec import Spec
from factory.store.unit import FINAL, SPENDS, EndReason, Unit, UnitState, advance

DEFAULTS_IN_A_ROW = (
    3  # questions that may answer themselves: asking costs no attempt, so more could go on for ever
)


class Outcomes:
    """Sends units on: to the queue, to another attempt, into a wait, or to a person."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        escalations: Escalations,
        hang: Callable[[str, str, datetime, tuple[str, ...]], str],
    ) -> None:
        """`hang` makes a unit of a task file's name, text and ignored keys; it returns the id (the intake's way in)."""
        self._store, self._state, self._escalations, self._hang = store, state, escalations, hang

    def finish(
        self,
        attempt: Attempt,
        *,
        at: datetime,
        hook: Hook | None = None,
        ask: Ask | None = None,
        reset: datetime | None = None,
        parts: Sequence[Part] = (),
    ) -> None:
        """Record that `attempt` ended for its `reason`; `hook` is emptied with it.

        `ask` is the card where the end needs one of its own, `reset` the time that a usage limit names, `parts` what a
        unit that was split becomes.
        """
        attempt = self._unless_told(budget.settle(attempt), submits=hook is not None)
        unit, reason = self._unit(attempt.unit), attempt.reason
        assert reason is not None, "an attempt ends for a reason"
        empty = () if hook is None else (_emptied(hook, at),)
        with self._store.transaction():
            until = None
            blamed = (
                ask is None or ask.kind is not CardKind.CONFIG
            )  # a prompt's fault is no agent's
            if hook is not None and blamed and self._state.stopping is Stopping.NO:
                until = note_end(self._store, self._escalations, attempt, reset=reset, now=at)
            if unit.state in FINAL:
                moved: tuple[Unit, ...] = ()
            else:
                spent = replace(
                    unit, spent=self._spent(attempt), submission="", resume=reason is EndReason.TOLD
                )
                row = self._in_a_row(attempt)
                if ask and reason is EndReason.ASKED and row > DEFAULTS_IN_A_ROW:
                    ask = replace(ask, default="", deadline_s=0)
                move = triage.next_move(reason, spent, limit=self.limit(unit), lost_in_a_row=row)
                if reason is EndReason.SPLIT:
                    moved = self._split(spent, parts, at)
                    self._pass_on(attempt, parts, at)
                else:
                    moved = (self._moved(spent, move, attempt, ask, until, at),)
            self._store.write(
                Event.ATTEMPT_ENDED,
                attempt,
                *moved,
                *empty,
                now=at,
                unit=attempt.unit,
                attempt=attempt.number,
                worker=attempt.worker,
                fence=True,
                reason=str(reason),
                why=attempt.detail,
            )
        self._state.ring_all()

    def let_go(self, hook: Hook, *ended: Attempt, at: datetime) -> None:
        """Empty a hook whose attempt is not the unit's newest, or is over: else it would be gone to for ever."""
        self._store.write(
            Event.ATTEMPT_ENDED,
            *map(budget.settle, ended),
            _emptied(hook, at),
            now=at,
            unit=hook.unit,
            attempt=hook.attempt,
            worker=hook.worker,
            why="a newer attempt holds the unit",
        )
        self._state.ring_all()

    def send_back(
        self,
        unit: Unit,
        reason: EndReason,
        *,
        detail: str,
        at: datetime,
        red: Sequence[Verdict] = (),
        said: str = "",
        ask: Ask | None = None,
    ) -> None:
        """The judge's word replaces `submitted` as the reason of the unit's newest attempt."""
        attempt = self._store.get(Attempt, unit.id, unit.attempt)
        if attempt is None or self._unit(unit.id).state is not UnitState.QUEUED:
            return  # cancelled meanwhile
        notes = attempt.digest.splitlines() if attempt.reason is EndReason.SUBMITTED else ()
        text = digest(reason, detail=detail, red=red, said=said or attempt.said, notes=notes)
        judged = replace(attempt, reason=reason, detail=detail, digest=text)
        with self._store.transaction():
            self._escalations.leave(
                unit.id, now=at, why=f"{unit.id} was sent back: {detail}"
            )  # landing_blocked
            self.finish(judged, at=at, ask=ask)

    def tell(self, unit: Unit, *, at: datetime) -> None:
        """Take a submitted unit out of the queue, or out of its wait, since a person said something to it."""
        last = self._store.get(Attempt, unit.id, unit.attempt)
        assert last is not None, f"{unit.id} was submitted by no attempt"
        put_off = replace(last, reason=EndReason.TOLD, detail=NOT_READ)
        with self._store.transaction():
            self._escalations.leave(unit.id, now=at, why=f"{unit.id} was told something")
            self.finish(put_off, at=at)

    def hold(self, unit: Unit, ask: Ask, at: datetime) -> None:
        """A person is asked; the unit keeps its submission."""
        if self._unit(unit.id).state is not UnitState.QUEUED:
            return  # cancelled meanwhile
        with self._store.transaction():
            card = self._escalations.raise_card(ask, now=at, unit=unit)
            held = advance(
                self._unit(unit.id),
                UnitState.HELD,
                now=at,
                why=f"waits for your answer to {card.id}",
            )
            self._store.write(Event.UNIT_HELD, held, now=at, unit=unit.id, card=card.id)
        self._state.ring_all()

    def wait(self, unit: Unit, ask: Ask, at: datetime) -> None:
        """The unit waits for a cause that it shares with others; one card asks."""
        if self._unit(unit.id).state is not UnitState.QUEUED:
            return  # cancelled meanwhile
        with self._store.transaction():
            card = self._escalations.raise_card(ask, now=at, unit=unit)
            waits = replace(self._unit(unit.id), cause=ask.cause)
            waits = advance(
                waits, UnitState.WAITING, now=at, why=f"waits for {card.id}: {card.question}"
            )
            self._store.write(Event.UNIT_WAITING, waits, now=at, unit=unit.id, card=card.id)
        self._state.ring_all()

    def note(self, unit: Unit, why: str, at: datetime) -> None:
        """A new sentence about why the unit is where it is."""
        fresh = self._unit(unit.id)
        if fresh.state is UnitState.QUEUED and fresh.why != why:
            self._store.write(Event.UNIT_QUEUED, replace(fresh, why=why), now=at, unit=unit.id)

    def remark(self, unit: str, kind: str, text: str, *, at: datetime) -> None:
        """Write down what an agent said to a person."""
        self._escalations.remark(unit, kind, text, now=at, who="agent")

    def limit(self, unit: Unit) -> int:
        """How many attempts the unit may spend."""
        spec = self._store.get(Spec, unit.id)
        own = spec.attempts if spec else None
        return own or self._state.settings.limits.attempts

    def _moved(
        self,
        unit: Unit,
        move: Move,
        attempt: Attempt,
        ask: Ask | None,
        until: datetime | None,
        at: datetime,
    ) -> Unit:
        if move.next is Next.QUEUE:
            lasting = tuple(kind for kind in unit.approved if kind not in _ABOUT_ONE_CHANGE)
            queued = replace(
                unit, submission=attempt.commit, base=attempt.base, fresh=False, approved=lasting
            )
            return advance(queued, UnitState.QUEUED, now=at, why="waits to be judged")
        if move.next is Next.HOLD:
            asked = ask or self._exhausted(unit, attempt)
            card = self._escalations.raise_card(asked, now=at, unit=unit)
            kept = (
                replace(unit, submission=attempt.commit, base=attempt.base)
                if _may_land(attempt)
                else unit
            )
            return advance(kept, UnitState.HELD, now=at, why=f"waits for your answer to {card.id}")
        if ask is not None:  # a cause that it shares with others, whatever the reason
            card = self._escalations.raise_card(ask, now=at, unit=unit)
            return advance(
                replace(unit, cause=ask.cause),
                UnitState.WAITING,
                now=at,
                why=f"waits for {card.id}",
            )
        after = until or (at + timedelta(seconds=move.delay) if move.delay else None)
        # What was to start from trunk still is, where this attempt ended before it left anything.
        again = replace(
            unit,
            cause="",
            fresh=move.fresh or (unit.fresh and not attempt.commit),
            not_before=after,
        )
        why = f"attempt {attempt.number} ended: {attempt.detail or attempt.reason}"
        why = f"waits until {clock(after)}: {why}" if after else why
        return advance(again, UnitState.WAITING if after else UnitState.READY, now=at, why=why)

    def _unless_told(self, attempt: Attempt, *, submits: bool) -> Attempt:
        """The end as it stands, or `told` where a submission comes from an agent that has not read all."""
        if not submits or attempt.reason is not EndReason.SUBMITTED:
            return attempt
        if not unread(self._store.select(Remark, unit=attempt.unit), attempt):
            return attempt
        return replace(attempt, reason=EndReason.TOLD, detail=NOT_READ)

    def _pass_on(self, attempt: Attempt, parts: Sequence[Part], at: datetime) -> None:
        """Tell the parts what the agent that wrote them had not read."""
        for remark in unread(self._store.select(Remark, unit=attempt.unit), attempt):
            for part in parts:
                self._escalations.remark(part.id, remark.kind, remark.text, now=at)

    def _split(self, unit: Unit, parts: Sequence[Part], at: datetime) -> tuple[Unit, ...]:
        """Its parts are units now; it, and whoever needed it, needs them."""
        ids = tuple(part.id for part in parts)
        by_id = {part.id: part for part in parts}
        needed_first = TopologicalSorter({part.id: part.needs for part in parts}).static_order()
        order = [
            by_id[name] for name in needed_first if name in by_id
        ]  # the others are units that were there before
        hung = [self._hang(f"{part.id}.md", part.text, at, part.left_out) for part in order]
        assert hung == [part.id for part in order], "nobody takes an id between plan and record"
        waiting = [each for each in self._store.open(Unit) if unit.id in each.needs]
        after = tuple(replace(each, needs=replaced(each.needs, {unit.id: ids})) for each in waiting)
        return advance(
            replace(unit, needs=ids), UnitState.SPLIT, now=at, why=f"its parts: {', '.join(ids)}"
        ), *after

    def _exhausted(self, unit: Unit, attempt: Attempt) -> Ask:
        if attempt.reason is EndReason.LOST:
            return words.crash_loop(unit, attempt.detail)
        if attempt.reason is EndReason.CONFLICT:
            return words.conflict(unit, attempt.detail)
        last, part = attempt.detail or str(attempt.reason), is_part(self._store, unit.id)
        return words.attempts_exhausted(
            unit, last=last, evidence=attempt.digest, limit=self.limit(unit), is_part=part
        )

    def _spent(self, attempt: Attempt) -> int:
        """Attempts that count, this end included: an attempt counts once, however often its reason was replaced."""
        others = [
            each
            for each in self._store.select(Attempt, unit=attempt.unit)
            if each.number != attempt.number
        ]
        return sum(each.reason is not None and SPENDS[each.reason] for each in (*others, attempt))

    def _in_a_row(self, attempt: Attempt) -> int:
        """How many attempts, this one the last, ended for the same reason."""
        earlier = [
            each
            for each in self._store.select(Attempt, unit=attempt.unit)
            if each.number < attempt.number
        ]
        return 1 + sum(
            1 for _ in takewhile(lambda each: each.reason is attempt.reason, reversed(earlier))
        )

    def _unit(self, name: str) -> Unit:
        unit = self._store.get(Unit, name)
        assert unit is not None, f"there is no unit {name}"
        return unit


# What a person let pass about one change says nothing about the next one.
_ABOUT_ONE_CHANGE = frozenset(
    {CardKind.GUARD, CardKind.OUT_OF_SCOPE, CardKind.REVIEW, CardKind.TRUNK_RED}
)


def _emptied(hook: Hook, at: datetime) -> Hook:
    state = "draining" if hook.state == "draining" else "idle"
    return replace(hook, unit="", attempt=0, state=state, phase="", since=at)


def _may_land(attempt: Attempt) -> bool:
    """Whether the card that holds the unit may let this very submission land."""
    return attempt.reason in (EndReason.GUARD, EndReason.OUT_OF_SCOPE)
