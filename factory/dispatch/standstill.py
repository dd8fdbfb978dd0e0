"""Standstill: raises a card if nothing about an open unit moves for longer than the limits allow.

Invariant: it depends on no other loop, so it also notices a loop that fails or hangs. Durations are
from the event loop's clock, which nobody can set.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio

from factory.dispatch.facts import needed
from factory.dispatch.moves import STUCK, Allowed, Expected, Line, expected
from factory.dispatch.pauses import resting
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.judging.judge import Judge
from factory.people import cards as words
from factory.people.causes import Ask, cause, parse
from factory.people.escalations import Escalations
from factory.store.ports import Store
from factory.store.records import Attempt, Card, Fact, Hook
from factory.store.spec import Spec
from factory.store.unit import NO_PROOF, Unit, UnitState
from factory.store.waits import missing

LOOK_SECONDS = 30.0
MOST_UNITS = 50  # a card names at most so many units


@dataclass(slots=True)
class _Clock:
    """Since when a move is expected."""

    marks: object
    started: float  # by the loop's clock
    since: datetime
    moved: bool = False  # whether something moved since this daemon started


class Standstill:
    """Watches the moves that factoryd itself must make."""

    def __init__(
        self, *, store: Store, state: DaemonState, escalations: Escalations, judge: Judge
    ) -> None:
        self._store = store
        self._state = state
        self._escalations = escalations
        self._judge = judge
        self._clocks: dict[str, _Clock] = {}

    async def run(self) -> None:
        """Look twice a minute."""
        while True:
            await self._state.guarded("standstill", self._look)
            await anyio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        self.tick(now())

    def tick(self, at: datetime) -> None:
        """Do one pass: raise a card for each move that is overdue, and close the others."""
        if self._state.stopping is not Stopping.NO:
            return
        line = self._line(at)
        moves = {move.about: move for move in expected(line)}
        for about in self._clocks.keys() - moves:
            del self._clocks[about]
        overdue = set[str]()
        for move in moves.values():
            if self._is_overdue(move, at):
                overdue.add(move.about)
                self._ask(move, line, at)
        for card in line.cards:
            known = parse(card.fingerprint)
            if known.name == STUCK and self._is_over(known.about or "", overdue):
                self._escalations.close(known, now=at, why="it moves again")

    def _is_overdue(self, move: Expected, at: datetime) -> bool:
        present = anyio.current_time()
        clock = self._clocks.get(move.about)
        if clock is not None and clock.marks == move.marks:
            return present - clock.started >= move.seconds
        self._clocks[move.about] = _Clock(move.marks, present, at, moved=clock is not None)
        return False

    def _is_over(self, about: str, overdue: Collection[str]) -> bool:
        """Return whether a card can close. After a restart, wait until something moves."""
        clock = self._clocks.get(about)
        return clock is None or (clock.moved and about not in overdue)

    def _ask(self, move: Expected, line: Line, at: datetime) -> None:
        """Raise the card, or add the units that it lacks."""
        about = cause(STUCK, move.about)
        card = self._escalations.open_card(about)
        known = card.units if card else ()
        for unit in move.units[:MOST_UNITS]:
            if unit.id not in known:
                self._escalations.raise_card(self._card(move, unit, line), now=at, unit=unit)

    def _card(self, move: Expected, unit: Unit, line: Line) -> Ask:
        since = self._clocks[move.about].since
        about = cause(STUCK, move.about)
        if move.missing:
            known = {each.id: each.state for each in line.units}
            said = missing(move.missing, None, known, now=line.at, own=unit.id)
            return words.need_missing(unit, about, said, move.missing)
        told = "\n".join(filter(None, [unit.why, *self._state.broken.values()]))
        return words.stuck(unit, about, since=since, limits=move.limits, told=told)

    # ── the facts ──

    def _line(self, at: datetime) -> Line:
        store = self._store
        units = store.open(Unit)
        return Line(
            at=at,
            units=units,
            hooks=store.select(Hook),
            cards=store.open(Card),
            needed=needed(store, units, {unit.id for unit in units}),
            queue=(store.get(Fact, "queue"), store.get(Fact, "trunk")),
            paused=self._state.paused,
            resting=bool(resting(store, at)),
            allowed=self._allowed(units),
        )

    def _allowed(self, units: Sequence[Unit]) -> Allowed:
        agents = {}
        proof = 0.0
        judging = self._judge.seconds(())
        for unit in units:
            match unit.state:
                case UnitState.RUNNING:
                    agents[unit.id] = self._agent_seconds(unit)
                case UnitState.READY if not unit.proven:
                    proof = max(proof, self._judge.proof_seconds(self._accept(unit)))
                case UnitState.QUEUED if unit.proven != NO_PROOF:
                    judging = max(judging, self._judge.seconds(self._accept(unit)))
        setup = self._judge.setup_seconds()
        return Allowed(setup=setup, judging=judging, proof=proof, agents=agents)

    def _agent_seconds(self, unit: Unit) -> float:
        attempt = self._store.get(Attempt, unit.id, unit.attempt)
        spec = self._store.get(Spec, unit.id)
        reserved = attempt.reserved_minutes if attempt else 0
        own = spec.minutes if spec else None
        return 60 * (reserved or own or self._state.settings.limits.minutes)

    def _accept(self, unit: Unit) -> Sequence[str]:
        spec = self._store.get(Spec, unit.id)
        return spec.accept if spec else ()
