"""The pool: as many workers as the settings say, each with one hook, and what hangs next on a free one.

Invariant (GUPP): a full hook has a run under way; `tick` checks it and starts what is missing.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from anyio.abc import TaskGroup

from factory.dispatch import scheduling
from factory.dispatch.agents import Agents
from factory.dispatch.budget import Amount, Short
from factory.dispatch.ledger import DAY, Ledger
from factory.dispatch.pauses import resting, told
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.log import HOOK_OVERDUE, log
from factory.ground.reserved import NO_AGENT
from factory.judging.retries import BREAKS, KeptRetries, sentence_of, trace_of
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.people.escalations import Escalations
from factory.repo.archive import ATTEMPTS
from factory.store.accepted import unread
from factory.store.identity import new_nonce
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Card, CardKind, Hook
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit, UnitState, advance

TICK_SECONDS = 30.0
ROOM_SECONDS = 3.0  # how often a full disk is looked at
NEVER = datetime.max.replace(tzinfo=UTC)
OVERDUE = timedelta(seconds=2)  # a full hook whose worker still does nothing


class Runs(Protocol):
    """What the pool needs of a worker (worker.Worker; a scripted one in tests)."""

    async def run(self) -> None:
        """Work off whatever hangs on the hook, until the hook is gone."""
        ...

    def wake(self) -> None:
        """Look at the hook again."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        ...


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
        self._judge = trunk_judge.judge
        self._make_worker, self._find_agents = make_worker, find_agents
        self._workers: dict[str, Runs] = {}
        self._proving: set[str] = set()
        self._unproved = KeptRetries(
            store, "unproved"
        )  # units whose accept commands could not be run
        self._broke: dict[str, Exception] = {}  # why, of those that are not counted yet
        self._full: words.Ask | None = None  # while a disk has no room
        self._misprompted: words.Ask | None = None  # while the prompts on trunk cannot be used
        self.notices: list[str] = []  # which runtimes rest, and who takes their units

    async def run(self, group: TaskGroup) -> None:
        """Tick whenever something changed, and at the latest every 30 seconds."""
        while True:
            again = await self._state.guarded("pool", self._pass, group)
            await self._state.pool.wait(again or 0)

    async def _pass(self, group: TaskGroup) -> float:
        self.tick(group, now())
        return self._seconds_to_next(now())

    def tick(self, group: TaskGroup, at: datetime) -> None:
        """One pass: settle what waits, keep the pool's size, fill free hooks, check the full ones."""
        where = self._state.cramped()
        self._full = words.disk_full(where) if where else None
        self._escalations.overdue(at)
        self._resize(group, at)
        if self._state.stopping is Stopping.NO:
            self._tell_room(at)
            if (
                self._judge.rulings.current is not None
            ):  # until trunk's rules are read, nobody knows which agents there are
                self._dispatch(group, at)
        self._check_hooks(at)

    def _dispatch(self, group: TaskGroup, at: datetime) -> None:
        agents = self._deputized(at)
        self._close_settled_causes(agents, at)
        self._misprompted = self._wrong_prompt()
        units = [unit for unit in self._settle(agents, at) if self._readable(unit, at)]
        units = [unit for unit in units if not self._set_back(unit, at)]
        self._unproved.keep({unit.id for unit in units})
        if not self._state.paused and not self._full:
            self._prove(units, group)
        if self._state.takes_work:
            self._fill(units, agents, at)

    def _resize(self, group: TaskGroup, at: datetime) -> None:
        wanted = {f"w{number}": number for number in range(1, self._state.settings.workers + 1)}
        hooks = {hook.worker: hook for hook in self._store.select(Hook)}
        for name, number in wanted.items():
            hook = hooks.get(name)
            if hook is None or (hook.state in ("gone", "draining")):
                back = (
                    replace(hook, state="running" if hook.unit else "idle")
                    if hook
                    else _new_hook(name, number, at)
                )
                self._store.write(Event.WORKER_JOINED, back, now=at, worker=name)
            if name not in self._workers:
                self._workers[name] = self._make_worker(name)
                group.start_soon(self._workers[name].run, name=name)
        for hook in hooks.values():
            if hook.worker not in wanted and hook.state != "gone":
                self._shrink(group, hook, at)

    def _shrink(self, group: TaskGroup, hook: Hook, at: datetime) -> None:
        """A full hook drains first; an empty one goes."""
        if hook.unit and hook.worker not in self._workers:  # it drained when an earlier daemon died
            self._workers[hook.worker] = self._make_worker(hook.worker)
            group.start_soon(self._workers[hook.worker].run, name=hook.worker)
        state = "draining" if hook.unit else "gone"
        if hook.state != state:
            self._store.write(
                Event.WORKER_LEFT, replace(hook, state=state, since=at), now=at, worker=hook.worker
            )
        if state == "gone" and hook.worker in self._workers:
            self._workers.pop(hook.worker).wake()

    def _deputized(self, at: datetime) -> Agents:
        """The agents as they can be used now; who stands in for the default, and why, is said once."""
        cards = (card for card in self._store.open(Card) if card.evidence)
        broken = {
            card.fingerprint.removeprefix(words.RUNTIME): card
            for card in cards
            if card.fingerprint.startswith(words.RUNTIME)
        }
        agents = self._find_agents().deputized(
            dict.fromkeys(broken, NEVER) | resting(self._store, at), at
        )
        rests = {name: f"{name} {why}" for name, why in told(self._store, at).items()}
        if agents.deputy and agents.deputy not in rests:
            why = rests.pop(agents.default, "") or agents.trouble(agents.default)
            why = why or f"{agents.default} waits for {broken[agents.default].id}"
            agents = replace(agents, because=f"{agents.deputy} stands in: {why}")
        notices = [*filter(None, [agents.because]), *rests.values()]
        if notices != self.notices:
            self.notices = notices
            self._state.requests.send()
        return agents

    def _agent(self, unit: Unit, agents: Agents) -> str:
        """Who takes the unit; a model that it names is the default's."""
        if unit.agent or not agents.deputy:
            return unit.agent or agents.default
        return agents.default if self._spec(unit).model else agents.deputy

    def _settle(self, agents: Agents, at: datetime) -> list[Unit]:
        """Let go on what waits for nothing any more; the open units, as they stand then."""
        causes = {card.fingerprint for card in self._store.open(Card)}
        units = [self._released(unit, causes, at) for unit in self._store.open(Unit)]
        units = [self._handed_over(unit, agents, at) for unit in units]
        known = {unit.id: unit.state for unit in units}
        needed = {need for unit in units for need in unit.needs}
        known |= {need: state for need in needed if (state := self._state_of(need))}
        changed = {unit.id: unit for unit in scheduling.settle(units, known, now=at)}
        for unit in changed.values():
            with self._store.transaction():
                if unit.state is UnitState.HELD:
                    gone = [need for need in unit.needs if known.get(need) is UnitState.CANCELLED]
                    self._escalations.raise_card(
                        words.need_cancelled(unit, gone), now=at, unit=unit
                    )
                self._store.write(_EVENTS[unit.state], unit, now=at, unit=unit.id)
        return [changed.get(unit.id, unit) for unit in units]

    def _released(self, unit: Unit, causes: Collection[str], at: datetime) -> Unit:
        if unit.state is not UnitState.WAITING or not unit.cause or unit.cause in causes:
            return unit
        to = UnitState.QUEUED if unit.submission else UnitState.READY
        free = advance(replace(unit, cause=""), to, now=at, why="what it waited for is settled")
        self._store.write(_EVENTS[to], free, now=at, unit=unit.id)
        self._state.queue.send()
        return free

    def _handed_over(self, unit: Unit, agents: Agents, at: datetime) -> Unit:
        """Let a unit that waits for one agent go on with the one that takes it now, as soon as that can."""
        agent = self._agent(unit, agents)
        last = (
            self._store.get(Attempt, unit.id, unit.attempt)
            if unit.not_before and not unit.cause
            else None
        )
        limited = last is not None and last.reason is EndReason.LIMIT and last.agent != agent
        elsewhere = unit.cause.startswith(words.RUNTIME) and agent == agents.deputy != unit.agent
        until = resting(self._store, at).get(agent) if limited else None
        if (
            unit.state is not UnitState.WAITING
            or not (limited or elsewhere)
            or (until and until == unit.not_before)
        ):
            return unit
        freed, why = (
            replace(unit, cause="", not_before=until),
            agents.because or f"{agent} can take it",
        )
        freed = freed if until else advance(freed, UnitState.READY, now=at, why=why)
        with self._store.transaction():
            if elsewhere:
                self._escalations.spare(unit.id, unit.cause, now=at, why=why)
            self._store.write(_EVENTS[freed.state], freed, now=at, unit=unit.id)
        return freed

    def _state_of(self, need: str) -> UnitState | None:
        unit = self._store.get(Unit, need)
        return unit.state if unit else None

    def _readable(self, unit: Unit, at: datetime) -> bool:
        """Whether the task of a unit that might start is known: what another release took may be wrong for this."""
        spec = self._spec(unit)
        if unit.state is not UnitState.READY or not spec.trouble:
            return True
        self._wait(unit, words.unreadable(unit, unread(spec)), at)
        return False

    def _prove(self, units: Sequence[Unit], group: TaskGroup) -> None:
        """Accept commands are seen to fail on trunk before anybody is sent to make them pass."""
        for unit in units:
            due = unit.id not in self._proving and self._unproved.is_due(unit.id)
            if due and self._unproven(unit):
                self._proving.add(unit.id)
                proving = partial(
                    self._state.guarded, "prove", self._prove_one, unit.id, self._spec(unit).accept
                )
                group.start_soon(partial(proving, broke=partial(self._proving_broke, unit.id)))

    def _proving_broke(self, name: str, error: Exception) -> None:
        self._broke[name] = error
        self._state.pool.send()

    def _set_back(self, unit: Unit, at: datetime) -> bool:
        """Try the accept commands of a unit again later, where that broke; True if a person is asked instead."""
        error = self._broke.pop(unit.id, None)
        if error is None or unit.state is not UnitState.READY:
            return False
        said = sentence_of(error)
        if self._unproved.fail(unit.id) < BREAKS:
            self._say_why(
                unit, f"its accept commands cannot be run, and are tried again: {said}", at
            )
            return False
        self._unproved.forget(unit.id)
        self._wait(unit, words.unjudged(unit.id, said, unit=unit, evidence=trace_of(error)), at)
        return True

    async def _prove_one(self, name: str, accept: tuple[str, ...]) -> None:
        try:
            proof = await self._judge.prove(accept)
        finally:
            self._proving.discard(name)
        at, unit = now(), self._store.get(Unit, name)
        if unit is None or unit.state is not UnitState.READY or self._spec(unit).accept != accept:
            self._state.pool.send()  # saved anew meanwhile: the new commands are run in their turn
            return
        if proof.setup is not None:
            self._wait(unit, proof.setup, at)
        elif proof.passing:
            why = "its accept command passes on trunk already"
            self._hold(unit, words.already_accepted(unit, proof.passing), at, why)
        else:
            proven = replace(unit, proven=proof.commit)
            self._store.write(Event.UNIT_READY, proven, now=at, unit=name, proven=proof.commit)
        self._state.pool.send()

    def _fill(self, opened: Sequence[Unit], agents: Agents, at: datetime) -> None:
        ledger = Ledger(self._store, self._state.settings.budget, at)
        units = [
            unit
            for unit in self._able(opened, agents, at)
            if not self._short(unit, agents, ledger, at)
        ]
        choices = scheduling.choose(
            units,
            self._store.select(Hook),
            now=at,
            agent=lambda unit: self._agent(unit, agents),
            blocked=told(self._store, at),
            trunk_red=self._trunk_judge.is_red,
            homes=self._homes(units),
        )
        for choice in choices:
            if choice.hook is None:
                self._say_why(choice.unit, choice.why, at)
            else:
                self._hang(choice.unit, choice.hook, agents, ledger, at)

    def _able(self, opened: Sequence[Unit], agents: Agents, at: datetime) -> list[Unit]:
        """The open units without those that may not start: the unproven, and all that a shared cause stops now."""
        units = [unit for unit in opened if not self._unproven(unit)]
        with self._store.transaction():
            return [
                unit
                for unit in units
                if unit.state is not UnitState.READY or not self._stopped_by_cause(unit, agents, at)
            ]

    def _granted(self, unit: Unit, agents: Agents, ledger: Ledger) -> Amount | Short:
        minutes = self._spec(unit).minutes or self._state.settings.limits.minutes
        return ledger.reserve(unit, self._agent(unit, agents), minutes)

    def _short(self, unit: Unit, agents: Agents, ledger: Ledger, at: datetime) -> bool:
        """Whether no money is left for a ready unit's next attempt; it is then held, waits for it, or is told why."""
        granted = self._granted(unit, agents, ledger) if unit.state is UnitState.READY else None
        if granted is Short.UNIT:
            self._hold(unit, ledger.ask(unit, granted), at, "it has used up what it may spend")
        elif granted is Short.DAY:
            self._wait(unit, ledger.ask(unit, granted), at)
        elif granted is Short.LATER:
            self._say_why(
                unit, "what is left of today's budget is held back for attempts that run", at
            )
        return isinstance(granted, Short)

    def _homes(self, units: Sequence[Unit]) -> dict[str, str]:
        """Where the session of each unit that should continue one was born."""
        waits = [unit for unit in units if unit.resume and unit.state is UnitState.READY]
        last = [self._store.get(Attempt, unit.id, unit.attempt) for unit in waits]
        return {attempt.unit: attempt.worker for attempt in last if attempt}

    def _unproven(self, unit: Unit) -> bool:
        waits = unit.state is UnitState.READY and not unit.proven and "accept" not in unit.approved
        return waits and bool(self._spec(unit).accept)

    def _stopped_by_cause(self, unit: Unit, agents: Agents, at: datetime) -> bool:
        """Whether a cause that it shares with others keeps the unit off the hook; it then waits, and one card asks."""
        agent = self._agent(unit, agents)
        obstacle = self._full or self._judge.rulings.obstacle
        if obstacle is not None and obstacle.kind not in unit.approved:
            self._wait(unit, obstacle, at)
            return True
        if agent != NO_AGENT and self._misprompted:
            self._wait(unit, self._misprompted, at)
            return True
        sentence = "" if agent == NO_AGENT else agents.trouble(agent)
        if sentence:
            self._wait(unit, words.runtime_trouble(agent, sentence), at)
        elif (
            agent in agents.modelless
            and (model := self._spec(unit).model)
            and CardKind.RUNTIME not in unit.approved
        ):
            self._hold(
                unit, words.no_model(unit, agent, model), at, f"{agent} cannot be told its model"
            )
            return True
        return bool(sentence)

    def _wrong_prompt(self) -> words.Ask | None:
        """What the open card says of the prompts that rule now."""
        key = self._prompts_key()
        card = self._escalations.open_card(f"{words.PROMPTS}{key}")
        return words.wrong_prompt(card.evidence, key) if card else None

    def _prompts_key(self) -> str:
        ruling = self._judge.rulings.current
        return ruling.conventions.prompts_key if ruling else ""

    def _tell_room(self, at: datetime) -> None:
        if self._full:
            self._escalations.raise_card(self._full, now=at)
        elif self._escalations.open_card("disk"):
            self._escalations.close("disk", now=at, why="there is room again")
            self._state.ring_all()

    def _close_settled_causes(self, agents: Agents, at: datetime) -> None:
        obstacle = self._judge.rulings.obstacle
        why = f"it is another now: {obstacle.question}" if obstacle else "trunk has gates now"
        for cause in ("no_gate", "rules", words.RULES_TOO_LARGE):
            if obstacle is None or obstacle.cause != cause:
                self._escalations.close(cause, now=at, why=why)
        self._close_prompt_cards(at)
        self._close_runtime_cards(agents, at)
        self._close_budget_cards(agents, at)

    def _close_prompt_cards(self, at: datetime) -> None:
        for card in self._store.open(Card):
            if card.fingerprint.startswith(words.PROMPTS) and not card.fingerprint.endswith(
                self._prompts_key()
            ):
                self._escalations.close(card.fingerprint, now=at, why="trunk has other prompts now")

    def _close_budget_cards(self, agents: Agents, at: datetime) -> None:
        ledger = Ledger(self._store, self._state.settings.budget, at)
        for card in self._store.open(Card):
            if card.fingerprint.startswith(DAY) and card.fingerprint != ledger.day_cause:
                why = "there is money again: another day, or another cap"
                self._escalations.close(card.fingerprint, now=at, why=why)
            unit = (
                self._store.get(Unit, card.unit)
                if card.fingerprint == f"{words.UNIT_SPENT}{card.unit}"
                else None
            )
            if unit and self._granted(unit, agents, ledger) is not Short.UNIT:
                ready = advance(
                    unit, UnitState.READY, now=at, why="its cap in factory.toml was raised"
                )
                with self._store.transaction():
                    self._escalations.close(card.fingerprint, now=at, why=ready.why)
                    self._store.write(Event.UNIT_READY, ready, now=at, unit=unit.id)

    def _close_runtime_cards(self, agents: Agents, at: datetime) -> None:
        wanted = {*(self._agent(unit, agents) for unit in self._store.open(Unit)), agents.acting}
        for card in self._store.open(Card):
            # A card with evidence is about a login or the like, of which nothing can be seen from here.
            if not card.fingerprint.startswith(words.RUNTIME) or card.evidence:
                continue
            agent = card.fingerprint.removeprefix(words.RUNTIME)
            if (
                agent not in wanted
            ):  # factory.toml names another now: the units that waited are looked at anew
                why = "there is an agent now" if not agent else "no unit asks for it any more"
                self._escalations.close(card.fingerprint, now=at, why=why)
                continue
            trouble = agents.trouble(agent or agents.default)
            if not trouble:
                self._escalations.close(card.fingerprint, now=at, why="the program is there now")
            elif trouble != card.question and agent:
                self._escalations.raise_card(words.runtime_trouble(agent, trouble), now=at)

    def _wait(self, unit: Unit, ask: words.Ask, at: datetime) -> None:
        with self._store.transaction():
            card = self._escalations.raise_card(ask, now=at, unit=unit)
            waits = advance(
                replace(unit, cause=ask.cause),
                UnitState.WAITING,
                now=at,
                why=f"waits for {card.id}",
            )
            self._store.write(Event.UNIT_WAITING, waits, now=at, unit=unit.id)

    def _hold(self, unit: Unit, ask: words.Ask, at: datetime, why: str) -> None:
        with self._store.transaction():
            self._escalations.raise_card(ask, now=at, unit=unit)
            self._store.write(
                Event.UNIT_HELD,
                advance(unit, UnitState.HELD, now=at, why=why),
                now=at,
                unit=unit.id,
            )

    def _say_why(self, unit: Unit, why: str, at: datetime) -> None:
        if unit.why != why:
            self._store.write(Event.UNIT_READY, replace(unit, why=why), now=at, unit=unit.id)

    def _hang(self, unit: Unit, hook: Hook, agents: Agents, ledger: Ledger, at: datetime) -> None:
        agent = self._agent(unit, agents)
        granted = self._granted(unit, agents, ledger)
        if isinstance(
            granted, Short
        ):  # those that were hung just now have what is left: the next pass says so
            self._state.pool.send()
            return
        number = 1 + max(unit.attempt, self._newest_number(unit.id))
        because = f": {agents.because}" if agent == agents.deputy and not unit.agent else ""
        why = f"attempt {number} on {hook.worker}{because}"
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
        # One transaction: either the unit hangs on this hook under this epoch, or nothing happened.
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
        self._workers[hook.worker].wake()

    def _newest_number(self, unit: str) -> int:
        """The highest number that an attempt of the unit ever had, as far as anything is left of it."""
        where = self._state.places
        on_record = [attempt.number for attempt in self._store.select(Attempt, unit=unit)]
        left = (*_numbers(where.unit_dir(unit)), *_numbers(where.git / ATTEMPTS / unit))
        return max((*on_record, *left), default=0)

    def _check_hooks(self, at: datetime) -> None:
        for hook in self._store.select(Hook):
            worker = self._workers.get(hook.worker)
            overdue = (
                hook.unit and hook.since and abs(at - hook.since) > OVERDUE
            )  # a clock may be set back
            if overdue and worker and not worker.busy:
                log.info(HOOK_OVERDUE, worker=hook.worker, unit=hook.unit)
                worker.wake()

    def _spec(self, unit: Unit) -> Spec:
        spec = self._store.get(Spec, unit.id)
        assert spec is not None, f"unit {unit.id} has no spec"
        return spec

    def _seconds_to_next(self, at: datetime) -> float:
        times = [
            scheduling.next_time(self._store.open(Unit), now=at),
            self._escalations.next_deadline(),
        ]
        times += [at + timedelta(seconds=ROOM_SECONDS)] if self._full else []
        times += resting(self._store, at).values()
        soonest = min(
            (time for time in times if time), default=at + timedelta(seconds=TICK_SECONDS)
        )
        seconds = min([(soonest - at).total_seconds(), *self._unproved.waits()])
        return min(TICK_SECONDS, max(0.05, seconds))


_EVENTS: Mapping[UnitState, Event] = {
    UnitState.READY: Event.UNIT_READY,
    UnitState.WAITING: Event.UNIT_WAITING,
    UnitState.HELD: Event.UNIT_HELD,
    UnitState.QUEUED: Event.UNIT_QUEUED,
}


def _numbers(folder: Path) -> list[int]:
    """The names in the folder that are numbers; none where there is no folder."""
    with suppress(OSError):
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208
    return []


def _new_hook(name: str, number: int, at: datetime) -> Hook:
    return Hook(worker=name, index=number, since=at, workspace=name)
