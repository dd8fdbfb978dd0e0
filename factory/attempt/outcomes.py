"""The end of an attempt and the next state of its unit: only this module records both.

Invariant: attempt, unit, hook and card change in one transaction, and only for the unit's newest
attempt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from graphlib import TopologicalSorter

from factory.attempt import triage
from factory.attempt.digest import digest
from factory.attempt.intents import intents
from factory.attempt.remarks import NOT_READ, unread
from factory.attempt.triage import Next
from factory.dispatch import budget, contested
from factory.dispatch.contested import Contest
from factory.dispatch.pauses import note_end
from factory.ground.daemon_state import DaemonState, Stopping
from factory.ground.reserved import PERSON
from factory.ground.times import clock
from factory.inbox.split import Part, is_part, replaced
from factory.people import cards as words
from factory.people.causes import Ask
from factory.people.escalations import Escalations
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Card, CardKind, Clash, Hook, Remark, Verdict
from factory.store.spec import Spec
from factory.store.unit import FINAL, EndReason, Unit, UnitState, advance, spent_by

# Most questions in a row with a default answer. A question costs no attempt, so without this
# limit a unit could ask forever.
DEFAULTS_IN_A_ROW = 3
_RED = (EndReason.GATE_RED, EndReason.NOT_PROVEN)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a submitted unit does not land.

    `said`: the text that the next attempt reads instead of the last words of the agent.
    `ask`: the card for a person. `contest`: where the change conflicts with trunk.
    `clashes`: see Attempt.
    """

    reason: EndReason
    detail: str
    red: Sequence[Verdict] = ()
    said: str = ""
    ask: Ask | None = None
    contest: Contest | None = None
    clashes: tuple[Clash, ...] = ()
    notes: tuple[str, ...] = ()  # what the submission noted, if the attempt is refused already


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
        """Take `hang`, which creates a unit from a task file and returns its id."""
        self._store = store
        self._state = state
        self._escalations = escalations
        self._hang = hang

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
        """Record that `attempt` ended for its `reason`, and empty `hook` at the same time.

        `ask` is the card if the end needs a special one. `reset` is the time at which a usage limit
        ends. `parts` are the units that replace a split unit.
        """
        attempt = self._unless_told(budget.settle(attempt), submits=hook is not None)
        assert attempt.reason is not None, "an attempt ends for a reason"
        unit = self._unit(attempt.unit)
        changed: list[Unit | Hook] = []
        with self._store.transaction():
            until = None
            # a card of kind `config` means that the prompt is the cause
            is_of_agent = ask is None or ask.kind is not CardKind.CONFIG
            if hook is not None and is_of_agent and self._state.stopping is Stopping.NO:
                until = note_end(self._store, self._escalations, attempt, reset=reset, now=at)
            if unit.state not in FINAL:
                is_told = attempt.reason is EndReason.TOLD
                spent = replace(unit, spent=self._spent(attempt), submission="", resume=is_told)
                spent = contested.after(spent, attempt.reason)
                if attempt.reason is EndReason.SPLIT:
                    changed += self._split(spent, parts, at)
                    self._pass_on(attempt, parts, at)
                else:
                    changed.append(self._moved(spent, attempt, ask, until, at))
            if hook is not None:
                changed.append(_emptied(hook, at))
            self._store.write(
                Event.ATTEMPT_ENDED,
                attempt,
                *changed,
                now=at,
                unit=attempt.unit,
                attempt=attempt.number,
                worker=attempt.worker,
                fence=True,
                reason=str(attempt.reason),
                why=attempt.detail,
            )
        self._state.wake_all()

    def let_go(self, hook: Hook, *ended: Attempt, at: datetime) -> None:
        """Empty a hook if its attempt is over, or if the unit has a newer attempt.

        Otherwise its worker would return to that attempt again and again.
        """
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
        self._state.wake_all()

    def send_back(self, unit: Unit, refusal: Refusal, at: datetime) -> None:
        """Replace the reason `submitted` of the unit's newest attempt by this refusal."""
        attempt = self._store.get(Attempt, unit.id, unit.attempt)
        if attempt is None or self._unit(unit.id).state is not UnitState.QUEUED:
            return  # cancelled meanwhile
        judged = _refused(self._store, unit, attempt, refusal)
        with self._store.transaction():
            # This also closes the card that says what blocks the landing of the unit.
            why = f"{unit.id} was sent back: {refusal.detail}"
            self._escalations.leave(unit.id, now=at, why=why)
            if refusal.contest is not None:
                noted = contested.noted(self._unit(unit.id), refusal.contest)
                self._store.write(Event.UNIT_QUEUED, noted, now=at, unit=unit.id)
            self.finish(judged, at=at, ask=refusal.ask)

    def explain(self, unit: Unit, refusal: Refusal, at: datetime) -> None:
        """Note what a refused attempt clashes with, found after `unit` was sent back.

        The next attempt reads it if it has not started yet. An open card shows it.
        """
        attempt = self._store.get(Attempt, unit.id, unit.attempt)
        fresh = self._unit(unit.id)
        if attempt is None or attempt.reason is not refusal.reason or fresh.state in FINAL:
            return
        judged = _refused(self._store, unit, attempt, refusal)
        with self._store.transaction():
            changed = []
            if fresh.attempt == attempt.number:
                why = fresh.why.replace(attempt.detail, judged.detail)
                changed.append(replace(fresh, why=why))
                asked = self._exhausted(fresh, judged)
                if self._escalations.open_card(asked.cause):
                    self._escalations.raise_card(asked, now=at, unit=fresh)
            self._store.write(
                Event.ATTEMPT_EXPLAINED,
                judged,
                *changed,
                now=at,
                unit=unit.id,
                attempt=attempt.number,
                why=judged.detail,
            )

    def tell(self, unit: Unit, *, at: datetime) -> None:
        """Take a submitted unit out of the queue or its wait, because of a person's remark."""
        last = self._store.get(Attempt, unit.id, unit.attempt)
        assert last is not None, f"{unit.id} was submitted by no attempt"
        put_off = replace(last, reason=EndReason.TOLD, detail=NOT_READ)
        with self._store.transaction():
            self._escalations.leave(unit.id, now=at, why=f"{unit.id} got a message from a person")
            self.finish(put_off, at=at)

    def hold(self, unit: Unit, ask: Ask, at: datetime) -> None:
        """Ask a person; the unit keeps its submission."""
        if self._unit(unit.id).state is not UnitState.QUEUED:
            return  # cancelled meanwhile
        with self._store.transaction():
            card = self._escalations.raise_card(ask, now=at, unit=unit)
            held = _held(self._unit(unit.id), card, at)
            self._store.write(Event.UNIT_HELD, held, now=at, unit=unit.id, card=card.id)
        self._state.wake_all()

    def wait(self, unit: Unit, ask: Ask, at: datetime) -> None:
        """Make the unit wait for a cause that other units share; one card asks a person."""
        if self._unit(unit.id).state is not UnitState.QUEUED:
            return  # cancelled meanwhile
        with self._store.transaction():
            card = self._escalations.raise_card(ask, now=at, unit=unit)
            why = f"waits for {card.id}: {card.question}"
            waits = replace(self._unit(unit.id), cause=ask.cause.key)
            waits = advance(waits, UnitState.WAITING, now=at, why=why)
            self._store.write(Event.UNIT_WAITING, waits, now=at, unit=unit.id, card=card.id)
        self._state.wake_all()

    def warn(self, unit: Unit, ask: Ask, at: datetime) -> None:
        """Raise a card about a queued unit that factoryd continues to try."""
        if self._unit(unit.id).state is UnitState.QUEUED:
            self._escalations.raise_card(ask, now=at, unit=unit)

    def note(self, unit: Unit, why: str, at: datetime) -> None:
        """Record a new sentence about why the unit is in its state."""
        fresh = self._unit(unit.id)
        if fresh.state is UnitState.QUEUED and fresh.why != why:
            self._store.write(Event.UNIT_QUEUED, replace(fresh, why=why), now=at, unit=unit.id)

    def remark(
        self,
        unit: str,
        kind: str,
        text: str,
        *,
        at: datetime,
    ) -> None:
        """Record a message from an agent to a person."""
        self._escalations.remark(unit, kind, text, now=at, who="agent")

    def limit(self, unit: Unit) -> int:
        """Return the number of attempts that the unit may spend."""
        spec = self._store.get(Spec, unit.id)
        own = spec.attempts if spec else None
        return own or self._state.settings.limits.attempts

    def _moved(
        self,
        unit: Unit,
        attempt: Attempt,
        ask: Ask | None,
        until: datetime | None,
        at: datetime,
    ) -> Unit:
        """Return the unit after the end of an attempt.

        `until`: when its agent may be used again.
        """
        reason = attempt.reason
        assert reason is not None, "an attempt ends for a reason"
        row = self._in_a_row(attempt)
        move = triage.next_move(reason, unit, limit=self.limit(unit), lost_in_a_row=row)
        if unit.agent == PERSON and move.next is Next.RETRY:
            move = triage.Move(Next.HOLD)  # the person decides who continues
        if ask and reason is EndReason.ASKED and row > DEFAULTS_IN_A_ROW:
            ask = replace(ask, default="", deadline_s=0)
        if move.next is Next.QUEUE:
            return _queued(unit, attempt, at)
        if move.next is not Next.HOLD and ask is None:
            if until is None and move.delay:
                until = at + timedelta(seconds=move.delay)
            return _again(unit, attempt, until, fresh=move.fresh, at=at)
        asked = ask or self._exhausted(unit, attempt)
        card = self._escalations.raise_card(asked, now=at, unit=unit)
        if move.next is not Next.HOLD:  # the unit shares the cause with other units
            waits = replace(unit, cause=asked.cause.key)
            return advance(waits, UnitState.WAITING, now=at, why=f"waits for {card.id}")
        if _may_land(attempt):
            unit = replace(unit, submission=attempt.commit, base=attempt.base)
        return _held(unit, card, at)

    def _unless_told(self, attempt: Attempt, *, submits: bool) -> Attempt:
        """Return the attempt; its reason becomes `told` if its agent missed a remark."""
        if not submits or attempt.reason is not EndReason.SUBMITTED:
            return attempt
        if not unread(self._store.select(Remark, unit=attempt.unit), attempt):
            return attempt
        return replace(attempt, reason=EndReason.TOLD, detail=NOT_READ)

    def _pass_on(self, attempt: Attempt, parts: Sequence[Part], at: datetime) -> None:
        """Copy the remarks that the agent of the split unit had not read to the parts."""
        for remark in unread(self._store.select(Remark, unit=attempt.unit), attempt):
            for part in parts:
                self._escalations.remark(part.id, remark.kind, remark.text, now=at)

    def _split(self, unit: Unit, parts: Sequence[Part], at: datetime) -> list[Unit]:
        """Make units of the parts; other units then need the parts instead of the unit."""
        by_id = {part.id: part for part in parts}
        ids = tuple(by_id)
        needed_first = TopologicalSorter({part.id: part.needs for part in parts})
        for name in needed_first.static_order():
            part = by_id.get(name)
            if part is None:  # the needed unit is not a part
                continue
            hung = self._hang(f"{part.id}.md", part.text, at, part.left_out)
            assert hung == part.id, "nobody takes an id between plan and record"
        why = f"its parts: {', '.join(ids)}"
        changed = [advance(replace(unit, needs=ids), UnitState.SPLIT, now=at, why=why)]
        for each in self._store.open(Unit):
            if unit.id in each.needs:
                changed.append(replace(each, needs=replaced(each.needs, {unit.id: ids})))
        return changed

    def _exhausted(self, unit: Unit, attempt: Attempt) -> Ask:
        if unit.agent == PERSON:
            return words.not_landed(unit, attempt.detail or str(attempt.reason), attempt.digest)
        if attempt.reason is EndReason.LOST:
            return words.crash_loop(unit, attempt.detail)
        if attempt.reason is EndReason.CONFLICT:
            return words.conflict(unit, attempt.detail)
        # Its work alone is green if it only does not fit what landed.
        is_red = attempt.reason is EndReason.GATE_RED and attempt.commit and not attempt.clashes
        gate = f"To run the gates on its work: factory gate --tree {attempt.commit[:12]}\n\n"
        clash = _newest_clash(self._store, attempt)
        return words.attempts_exhausted(
            unit,
            last=attempt.detail or str(attempt.reason),
            evidence=f"{gate if is_red else ''}{attempt.digest}",
            limit=self.limit(unit),
            is_part=is_part(self._store, unit.id),
            clash=(clash.number, clash.detail) if clash else None,
        )

    def _spent(self, attempt: Attempt) -> int:
        """Return how many attempts count, including this one; each counts at most once."""
        known = {each.number: each for each in self._store.select(Attempt, unit=attempt.unit)}
        known[attempt.number] = attempt
        reasons = []
        for each in known.values():
            if each.reason is not None:
                reasons.append(each.reason)
        return spent_by(reasons)

    def _in_a_row(self, attempt: Attempt) -> int:
        """Return how many attempts in a row, up to this one, ended for the same reason."""
        row = 1
        for each in reversed(self._store.select(Attempt, unit=attempt.unit)):
            if each.number >= attempt.number:
                continue
            if each.reason is not attempt.reason:
                break
            row += 1
        return row

    def _unit(self, name: str) -> Unit:
        unit = self._store.get(Unit, name)
        assert unit is not None, f"there is no unit {name}"
        return unit


# Cards whose approval applies to one change only, not to the next change of the unit.
_ABOUT_ONE_CHANGE = frozenset(
    {CardKind.GUARD, CardKind.OUT_OF_SCOPE, CardKind.REVIEW, CardKind.TRUNK_RED}
)


def _newest_clash(store: Store, attempt: Attempt) -> Attempt | None:
    """Return the newest red attempt, up to this one, that names a landed unit it does not fit."""
    if attempt.reason not in _RED:
        return None
    for each in (attempt, *reversed(store.select(Attempt, unit=attempt.unit))):
        if each.reason in _RED and each.number <= attempt.number and each.clashes:
            return each
    return None


def _refused(store: Store, unit: Unit, attempt: Attempt, refusal: Refusal) -> Attempt:
    """Return the attempt with the reason and the evidence of a refusal."""
    judged = replace(attempt, reason=refusal.reason, detail=refusal.detail, clashes=refusal.clashes)
    clash = _newest_clash(store, judged) or judged
    notes = attempt.digest.splitlines() if attempt.reason is EndReason.SUBMITTED else refusal.notes
    text = digest(
        refusal.reason,
        detail=refusal.detail,
        red=refusal.red,
        said=refusal.said or attempt.said,
        notes=notes,
        intents=intents(store, unit, clash.clashes),
    )
    return replace(judged, digest=text)


def _emptied(hook: Hook, at: datetime) -> Hook:
    state = "draining" if hook.state == "draining" else "idle"
    return replace(
        hook,
        unit="",
        attempt=0,
        state=state,
        phase="",
        since=at,
    )


def _queued(unit: Unit, attempt: Attempt, at: datetime) -> Unit:
    """Return the unit with the attempt's tree as its submission."""
    queued = replace(
        unit,
        submission=attempt.commit,
        base=attempt.base,
        fresh=False,
        approved=tuple(kind for kind in unit.approved if kind not in _ABOUT_ONE_CHANGE),
    )
    return advance(queued, UnitState.QUEUED, now=at, why="waits to be judged")


def _held(unit: Unit, card: Card, at: datetime) -> Unit:
    return advance(unit, UnitState.HELD, now=at, why=f"waits for your answer to {card.id}")


def _again(
    unit: Unit,
    attempt: Attempt,
    until: datetime | None,
    *,
    fresh: bool,
    at: datetime,
) -> Unit:
    """Return the unit, ready for its next attempt, now or later; `fresh`: it starts from trunk."""
    # If the unit had to start from trunk and this attempt left nothing, it must start there again.
    fresh = fresh or (unit.fresh and not attempt.commit)
    again = replace(unit, cause="", fresh=fresh, not_before=until)
    why = f"attempt {attempt.number} ended: {attempt.detail or attempt.reason}"
    if until is None:
        return advance(again, UnitState.READY, now=at, why=why)
    return advance(again, UnitState.WAITING, now=at, why=f"waits until {clock(until)}: {why}")


def _may_land(attempt: Attempt) -> bool:
    """Return whether an answer to the card may land exactly this submission."""
    return attempt.reason in (EndReason.GUARD, EndReason.OUT_OF_SCOPE)
