"""The pool: puts ready units on free hooks, and records what every other unit waits for.

Invariant: one transaction puts a unit on a hook, under a new epoch, or does nothing.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from anyio.abc import TaskGroup

from factory.dispatch import pauses, scheduling, stops
from factory.dispatch.agents import Agents
from factory.dispatch.budget import Amount, Short
from factory.dispatch.contested import Precedence
from factory.dispatch.crew import Crew, Runs
from factory.dispatch.facts import Facts, gather
from factory.dispatch.proofs import Proofs, is_unproven
from factory.dispatch.stops import Stops
from factory.dispatch.waits import AT_ONCE, Waits
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.reserved import PERSON
from factory.judging.rulings import Ruling
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import DISK_FULL, Ask, Cause, Circumstances, UnitSpent, parse
from factory.people.escalations import Escalations
from factory.repo.archive import ATTEMPTS
from factory.store.accepted import unread
from factory.store.identity import new_nonce
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact, Hook
from factory.store.starts import FACT, Conditions
from factory.store.unit import Unit, UnitState, advance

TICK_SECONDS = 30.0
ROOM_SECONDS = 3.0  # seconds between checks of a full disk


class Pool:
    """Keeps workers alive and their hooks full."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        escalations: Escalations,
        trunk_judge: TrunkJudge,
        make_worker: Callable[[str], Runs],
        find_agents: Callable[[], Agents],
    ) -> None:
        self._store = store
        self._state = state
        self._escalations = escalations
        self._trunk_judge = trunk_judge
        self._rulings = trunk_judge.judge.rulings
        self._find_agents = find_agents
        self._crew = Crew(store=store, make_worker=make_worker)
        self._proofs = Proofs(
            store=store, state=state, escalations=escalations, judge=trunk_judge.judge
        )
        self._waits = Waits(store=store, state=state, escalations=escalations)
        self._full: Ask | None = None  # the card while a disk is full
        # Of the last pass: paused agents, and which agent takes their units.
        self.notices: Sequence[str] = ()

    async def run(self, group: TaskGroup) -> None:
        """Tick whenever something changed, and at the latest every 30 seconds."""
        while True:
            again = await self._state.guarded("pool", self._pass, group)
            await self._state.pool.wait(again or 0)

    async def _pass(self, group: TaskGroup) -> float:
        self.tick(group, now())
        return self._seconds_to_next(now())

    def tick(self, group: TaskGroup, at: datetime) -> None:
        """Do one pass: compare cards and waits with the facts, then fill free hooks."""
        where = self._state.cramped()
        self._full = line_cards.disk_full(where) if where else None
        self._escalations.overdue(at)
        self._crew.resize(self._state.settings.workers, group, at)
        if self._state.stopping is Stopping.NO:
            self._dispatch(group, at)
        elif self._state.stopping is not Stopping.LEAVE:
            self._proofs.stop(at)
        self._crew.check(self._store.select(Hook), at)
        if self._proofs.is_idle:
            self._state.mended("prove")

    def _dispatch(self, group: TaskGroup, at: datetime) -> None:
        ruling = self._rulings.current
        if ruling is None:  # the agents are not known yet
            self._reconcile(Circumstances(full=self._full), at)
            return
        facts = self._reconciled(ruling, at)
        wrong_prompt = stops.wrong_prompt(facts, ruling.conventions.prompts_key)
        stopped = Stops(obstacle=self._full or self._rulings.obstacle, wrong_prompt=wrong_prompt)
        units = [unit for unit in self._waits.settle(facts) if self._is_sound(unit, facts)]
        self._proofs.keep(units, facts)
        proving = self._fill(units, facts, stopped) if self._state.takes_work else []
        self._proofs.run(proving, facts, group)

    # ── facts and cards ──

    def _reconciled(self, ruling: Ruling, at: datetime) -> Facts:
        """Compare every card with the facts; return the facts after that."""
        pauses.put_right(self._store, at)
        budget = self._state.settings.budget
        agents = self._find_agents()
        facts = gather(self._store, agents, budget, at)
        self._tell(facts.notices)
        if self._reconcile(self._circumstances(facts, ruling), at):
            return gather(self._store, agents, budget, at)
        return facts

    def _circumstances(self, facts: Facts, ruling: Ruling) -> Circumstances:
        asked = set()
        for card in facts.cards:
            cause = parse(card.fingerprint)
            if isinstance(cause, UnitSpent):
                asked.add(cause.about)
        at_cap = set()
        for unit in facts.units:
            if unit.id in asked and self._grant(unit, facts) is Short.UNIT:
                at_cap.add(unit.id)
        return Circumstances(
            full=self._full,
            rules_read=True,
            obstacle=self._rulings.obstacle,
            prompts=ruling.conventions.prompts_key,
            agents=stops.troubles(facts),
            day=facts.accounts.day_cause,
            at_cap=at_cap,
        )

    def _reconcile(self, circumstances: Circumstances, at: datetime) -> bool:
        """Compare every card with the circumstances; return whether a card was closed."""
        over = self._escalations.reconcile(circumstances, now=at)
        if DISK_FULL in over:
            self._state.wake_all()
        return bool(over)

    def _tell(self, notices: Sequence[str]) -> None:
        if notices != self.notices:
            self.notices = notices
            self._state.requests.send()

    # ── what starts ──

    def _is_sound(self, unit: Unit, facts: Facts) -> bool:
        """Return whether the task of the unit has no problem that a person must solve."""
        spec = facts.spec(unit)
        if unit.state is UnitState.READY and spec.trouble:
            # A task that another release of factoryd accepted may be invalid for this release.
            ask = words.unreadable(unit, unread(spec))
            self._escalations.wait(unit, ask, now=facts.at)
            return False
        if unit.state is UnitState.READY and unit.agent == PERSON:
            # Only a person can go on: a new store, or a start from trunk, made the unit ready.
            ask = words.not_landed(unit, unit.why or "its work is not on record", "")
            self._escalations.hold(unit, ask, now=facts.at, why="waits for new work of a person")
            return False
        setback = self._proofs.setback(unit)
        if isinstance(setback, Ask):
            self._escalations.wait(unit, setback, now=facts.at)
            return False
        if setback:
            self._say_why(unit, setback, facts.at)
        return True

    def _fill(self, units: Sequence[Unit], facts: Facts, stopped: Stops) -> list[Unit]:
        """Start units; return the next units whose accept commands must run before they start."""
        startable = self._startable(units, facts, stopped)
        if any(unit.state is UnitState.READY and unit.priority for unit in startable):
            self._trunk_judge.ask(facts.at)
        limits = self._state.settings.limits
        known = vars(facts.conditions)
        conditions = Conditions(**known | {"trunk_red": self._trunk_judge.is_red})
        short: dict[Short, list[Unit]] = {each: [] for each in Short}

        def is_stopped(unit: Unit) -> bool:
            if conditions.why_stopped(facts.agent(unit), unit.priority):
                return True
            granted = self._grant(unit, facts)
            if not isinstance(granted, Short):
                return False
            short[granted].append(unit)
            return True

        choices = scheduling.choose(
            startable,
            facts.hooks,
            is_stopped=is_stopped,
            homes=_homes(startable, facts),
            unproven={unit.id for unit in startable if is_unproven(unit, facts.spec(unit))},
            precedence=Precedence(units, partial(facts.minutes, limits=limits), facts.at),
        )
        proving = []
        told = {*self._proofs.failed}
        for choice in choices:
            if choice.hook is not None:
                self._hang(choice.unit, choice.hook, facts)
                continue
            if choice.why:
                told.add(choice.unit.id)
                self._say_why(choice.unit, choice.why, facts.at)
            else:
                proving.append(choice.unit)
        self._stop_short(short, facts)
        fresh = {"short": bool(short[Short.LATER]), "told": sorted(told)}
        _tell_conditions(self._store, vars(conditions) | fresh, facts.at)
        return proving

    def _startable(self, units: Sequence[Unit], facts: Facts, stopped: Stops) -> list[Unit]:
        """Return the units that no cause stops now."""
        found = []
        shared: dict[Cause, tuple[Ask, list[Unit]]] = {}
        for unit in units:
            if unit.state is UnitState.READY:
                ask = stopped.cause_for(unit, facts)
                if ask is not None:
                    shared.setdefault(ask.cause, (ask, []))[1].append(unit)
                    continue
                if self._is_modelless(unit, facts):
                    continue
            found.append(unit)
        for ask, stopped_units in shared.values():
            self._wait(stopped_units, ask, facts.at)
        return found

    def _wait(self, units: Sequence[Unit], ask: Ask, at: datetime) -> None:
        """Let the units wait for a shared cause; the next pass takes the rest of very many."""
        self._escalations.wait_all(units[:AT_ONCE], ask, now=at)
        if len(units) > AT_ONCE:
            self._state.pool.send()

    def _is_modelless(self, unit: Unit, facts: Facts) -> bool:
        """Return whether the unit is held, because its agent takes no model."""
        modelless = stops.no_model(unit, facts)
        if modelless is None:
            return False
        why = f"{facts.agent(unit)} takes no model"
        self._escalations.hold(unit, modelless, now=facts.at, why=why)
        return True

    def _grant(self, unit: Unit, facts: Facts) -> Amount | Short:
        minutes = facts.minutes(unit, self._state.settings.limits)
        return facts.accounts.reserve(unit, facts.agent(unit), minutes)

    def _stop_short(self, short: Mapping[Short, Sequence[Unit]], facts: Facts) -> None:
        """Hold the units that have reached their own limit; the others wait for the next day."""
        for unit in short[Short.UNIT]:
            ask = facts.accounts.ask(unit, Short.UNIT)
            why = "it has reached its spending limit"
            self._escalations.hold(unit, ask, now=facts.at, why=why)
        if short[Short.DAY]:
            ask = facts.accounts.ask(short[Short.DAY][0], Short.DAY)
            self._wait(short[Short.DAY], ask, facts.at)

    def _hang(self, unit: Unit, hook: Hook, facts: Facts) -> None:
        at = facts.at
        agent = facts.agent(unit)
        granted = self._grant(unit, facts)
        if isinstance(granted, Short):
            # Units that this pass started have reserved the rest; the next pass records the reason.
            self._state.pool.send()
            return
        number = 1 + max(unit.attempt, self._newest_number(unit.id))
        why = f"attempt {number} on {hook.worker}"
        if agent == facts.agents.deputy and not unit.agent:
            why = f"{why}: {facts.agents.because}"
        running = advance(replace(unit, attempt=number), UnitState.RUNNING, now=at, why=why)
        attempt = Attempt(
            unit=unit.id,
            number=number,
            worker=hook.worker,
            agent=agent,
            start=at,
            nonce=new_nonce(self._store),
            reserved_usd=granted.usd,
            reserved_tokens=int(granted.tokens),
            reserved_minutes=granted.minutes,
        )
        full = replace(
            hook, unit=unit.id, attempt=number, state="running", phase="preparing", since=at
        )
        # This is one transaction: either the unit is on this hook under this epoch, or nothing
        # changed.
        self._store.write(
            Event.HOOK_FILLED,
            running,
            attempt,
            full,
            now=at,
            unit=unit.id,
            attempt=number,
            worker=hook.worker,
        )
        facts.accounts.add(attempt)
        self._crew.wake(hook.worker)

    def _newest_number(self, unit: str) -> int:
        """Return the highest number of an attempt that has a record or files."""
        where = self._state.places
        on_record = [attempt.number for attempt in self._store.select(Attempt, unit=unit)]
        left = (*_numbers(where.unit_dir(unit)), *_numbers(where.git / ATTEMPTS / unit))
        return max((*on_record, *left), default=0)

    def _say_why(self, unit: Unit, why: str, at: datetime) -> None:
        if unit.why != why:
            self._store.write(Event.UNIT_READY, replace(unit, why=why), now=at, unit=unit.id)

    def _seconds_to_next(self, at: datetime) -> float:
        times = [*pauses.resting(self._store, at).values()]
        for time in (
            scheduling.next_time(self._store.select(Unit, state=UnitState.WAITING), now=at),
            self._escalations.next_deadline(),
        ):
            if time is not None:
                times.append(time)
        if self._full:
            times.append(at + timedelta(seconds=ROOM_SECONDS))
        soonest = min(times, default=at + timedelta(seconds=TICK_SECONDS))
        seconds = min([(soonest - at).total_seconds(), *self._proofs.waits()])
        return min(TICK_SECONDS, max(0.05, seconds))


def _tell_conditions(store: Store, conditions: Mapping[str, object], at: datetime) -> None:
    """Write what `factory status` needs to say why ready units wait."""
    fact = Fact(name=FACT, value=json.dumps(conditions))
    if fact != store.get(Fact, FACT):
        store.write(Event.FACT_CHANGED, fact, now=at)


def _homes(units: Sequence[Unit], facts: Facts) -> dict[str, str]:
    """Return the worker that has the session of each unit that continues a session."""
    homes = {}
    for unit in units:
        last = facts.newest.get(unit.id)
        if unit.resume and unit.state is UnitState.READY and last is not None:
            homes[unit.id] = last.worker
    return homes


def _numbers(folder: Path) -> list[int]:
    """Return the numbers among the names in the folder; none if the folder is missing."""
    with suppress(OSError):
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208
    return []
