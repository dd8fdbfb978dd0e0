"""Rescue at a start: finds what a dead daemon left open, and records its outcome.

Attempts are not handled here: the worker of a full hook adopts the attempt that still runs
(worker.py).
"""

from dataclasses import replace
from datetime import datetime

from factory.attempt.outcomes import Outcomes, Refusal
from factory.dispatch import budget
from factory.ground.errors import GitError
from factory.ground.log import TICK_BROKE, log
from factory.judging.gates import Gates
from factory.queue.landings import Landings
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Hook
from factory.store.unit import EndReason, Unit, UnitState

GONE = "its earlier work is no longer in the factory repository"


class Rescue:
    """Runs once, before any loop."""

    def __init__(
        self,
        *,
        store: Store,
        gates: Gates,
        landings: Landings,
        outcomes: Outcomes,
    ) -> None:
        self._store = store
        self._gates = gates
        self._landings = landings
        self._outcomes = outcomes

    async def run(self, at: datetime) -> None:
        """End processes of gates, finish or undo open landings, requeue units without a hook."""
        await self._gates.end_leftovers()
        await self._landings.finish_open(at)
        held = {(hook.unit, hook.attempt) for hook in self._store.select(Hook)}
        for unit in self._store.select(Unit, state=UnitState.RUNNING):
            newest = self._store.get(Attempt, unit.id, unit.attempt)
            if newest is not None and (unit.id, unit.attempt) not in held:
                self._outcomes.finish(_lost(newest, at), at=at)
        for attempt in self._store.open(Attempt):
            if (attempt.unit, attempt.number) not in held:
                lost = budget.settle(_lost(attempt, at))
                self._store.write(
                    Event.ATTEMPT_ENDED,
                    lost,
                    now=at,
                    unit=attempt.unit,
                    attempt=attempt.number,
                )
        try:
            await self._forget_what_is_gone(at)
        # if git cannot answer, forget nothing; the code that needs a commit reports the error
        except GitError:
            log.exception(TICK_BROKE, loop="rescue")

    async def _forget_what_is_gone(self, at: datetime) -> None:
        """Forget commits that the factory repository lost; open units continue without them."""
        units = self._store.open(Unit)
        attempts = list[Attempt]()
        for unit in units:
            attempts += self._store.select(Attempt, unit=unit.id)
        commits = {each.commit for each in attempts} - {""}
        gone = await self._landings.trunk.own.missing(commits)
        for attempt in attempts:
            if attempt.commit in gone:
                self._store.write(
                    Event.ATTEMPT_NOTED,
                    replace(
                        attempt,
                        commit="",
                        tree="",
                        ref="",
                    ),
                    now=at,
                    unit=attempt.unit,
                    attempt=attempt.number,
                    why=GONE,
                )
        for unit in units:
            if unit.submission not in gone:
                continue
            if unit.state is UnitState.QUEUED:
                self._outcomes.send_back(unit, Refusal(EndReason.LOST, GONE), at)
            else:  # the same for commits that land if a person answers a card
                self._store.write(
                    Event.ATTEMPT_NOTED,
                    replace(unit, submission=""),
                    now=at,
                    unit=unit.id,
                    why=GONE,
                )


def _lost(attempt: Attempt, at: datetime) -> Attempt:
    return replace(
        attempt,
        end=at,
        reason=EndReason.LOST,
        detail="no hook holds it",
    )
