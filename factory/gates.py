"""Gates run on a bench, and their verdicts.

Invariant: a verdict is about a clean checkout of exactly its tree, in an environment that was the same afterwards, by
the gates that the caller's rules hold (trunk's), and a settled one is not asked for twice.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from factory import faults, process
from factory.disk import lacking
from factory.environments import Environments, Ran, SetupFailed
from factory.errors import StoreError
from factory.inference import Gate, Rules, digest
from factory.journal import Event
from factory.judging import rewrites
from factory.judging.place import Place
from factory.judging.standing import Ready
from factory.log import TICK_BROKE, log
from factory.ports import Store
from factory.records import Verdict
from factory.scope import within
from factory.settings import GateLimits
from factory.workspaces import Bench

UNMEASURED_SECONDS, LEAST_SECONDS, MEASURED = 1800.0, 60.0, 200
RECORD_SECONDS = 1.0  # between two tries to write a verdict down
SPARED = 100  # paths that setup built, which git is told to leave in a checkout: more are copied into it
FIRST_BENCH = 100  # place index of benches: workers have lower ones
Limits = Callable[[], GateLimits]
_JUDGED = "unchanged"  # part of each key: older releases did not look at what a gate changes


class Answer(StrEnum):
    """What judging came to."""

    GREEN = "green"
    RED = "red"
    NO_GATE = "no_gate"  # nothing to judge by, which is not green
    SETUP = "setup"  # no environment to judge in: nobody's verdict
    UNSETTLED = "unsettled"  # a gate was interrupted: ask again


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The answer and all verdicts behind it, those from the store included."""

    answer: Answer
    verdicts: tuple[Verdict, ...] = ()
    failed: SetupFailed | None = None

    @property
    def red(self) -> tuple[Verdict, ...]:
        """The verdicts to blame."""
        return tuple(verdict for verdict in self.verdicts if not verdict.ok)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is judged, where, by which rules; `reruns` is off where a red is what is hoped for."""

    bench: Bench
    commit: str
    tree: str
    rules: Rules
    unit: str = ""
    stacked: bool = False  # below it are units that have not landed: a red may be theirs
    reruns: bool = True
    trunk: str = ""  # the commit whose code may make what serves others

    @property
    def place(self) -> Place:
        """The bench with its environment."""
        index = FIRST_BENCH + int("".join(filter(str.isdigit, self.bench.name)) or 0)
        candidate = "" if self.commit == self.trunk else self.tree
        return Place(
            self.bench.place,
            index,
            keeps=self.rules.setup.dependencies,
            caches="benches",
            candidate=candidate,
            shows=self.tree,
            contents=partial(self.bench.benches.contents, self.commit),
            ignored=self.bench.ignored,
        )


@dataclass(slots=True)
class Trial:
    """One gate in one judging: its runs so far, oldest first."""

    gate: Gate
    key: str
    runs: list[Ran] = field(default_factory=list)

    @property
    def last(self) -> Ran:
        """The run that counts."""
        return self.runs[-1]

    @property
    def interrupted(self) -> bool:
        """Whether the last run says nothing about the tree."""
        return self.last.exit.cause in ("lost", "stopped") or bool(self.last.exit.left)

    @property
    def red(self) -> bool:
        """Whether the last run is to be blamed on the tree, or on the gate."""
        return not (self.last.ok or self.interrupted or self.missing)

    @property
    def missing(self) -> bool:
        """Whether its command is not there (one with a `/` in it is the tree's own)."""
        return self.last.exit.cause == "unstartable" and not self.gate.script and "/" not in self.gate.command[0]


def accepting(commands: Sequence[str]) -> tuple[Gate, ...]:
    """Accept commands as gates, each with a clean checkout of its own, before all others."""
    return tuple(
        Gate(f"accept: {command}", at - len(commands), ("sh", "-c", command), "accept", said=command)
        for at, command in enumerate(commands)
    )


def time_limit(measured: Collection[float], *, runs: int) -> float:
    """Three times the 95th percentile, at least 60 s, doubled for each run so far: it may just have grown."""
    if not measured:
        return UNMEASURED_SECONDS
    p95 = sorted(measured)[round(0.95 * (len(measured) - 1))]
    return max(LEAST_SECONDS, 3 * p95) * float(2**runs)


class Gates:
    """Judges trees on benches."""

    def __init__(self, *, store: Store, environments: Environments, logs: Path, limits: Limits) -> None:
        self._store, self._environments, self._logs, self._limits = store, environments, logs, limits
        self._seconds: dict[str, deque[float]] = {}

    async def judge(self, case: Case, *, accept: Sequence[str] = ()) -> Judgement:
        """Run `accept`, then the gates, group by group, up to the first red group."""
        if not case.rules.gates:
            return Judgement(answer=Answer.NO_GATE)
        return await self._judge(case, (*accepting(accept), *case.rules.gates), stop=True)

    async def prove(self, case: Case, accept: Sequence[str]) -> Judgement:
        """Run each of the `accept` commands where they should fail: RED when all of them do, as verdicts say."""
        judgement = await self._judge(replace(case, reruns=False), accepting(accept), stop=False)
        if judgement.answer is Answer.RED and any(verdict.succeeded for verdict in judgement.verdicts):
            return replace(judgement, answer=Answer.GREEN)
        return judgement

    async def end_leftovers(self) -> bool:
        """End what a dead daemon's gates and setups left running; true when nothing is left of them."""
        starts = await to_thread.run_sync(lambda: sorted(self._logs.glob("*/start.json")))
        with faults.step("command.end"):
            return all([await process.end(at.parent) for at in starts if not at.with_name("exit.json").exists()])

    def limit(self, gate: Gate, runs: int = 0) -> float:
        """Seconds that the gate may take: as its file says, else as configured, else as measured."""
        return gate.timeout_s or self._limits().timeout_s or time_limit(self._measured(gate.name), runs=runs)

    async def _judge(self, case: Case, gates: Sequence[Gate], *, stop: bool) -> Judgement:
        judgement, changed = await self._try(case, gates, stop=stop)
        if changed:
            judgement, changed = await self._try(case, gates, stop=stop)
        if changed and judgement.answer is Answer.GREEN:
            # Twice, and from a fresh environment: whatever passes here passes in something that nobody prepared.
            last = judgement.verdicts[-1]
            sentence = (
                f"Gate {last.gate} (or one beside it) changes the environment that it runs in, e.g. {changed[0]}: what "
                "passes afterwards proves nothing. Do that in conventions/workspace/setup.sh."
            )
            return replace(judgement, answer=Answer.SETUP, failed=SetupFailed(sentence=sentence, log=last.log))
        return judgement

    async def _try(self, case: Case, gates: Sequence[Gate], *, stop: bool) -> tuple[Judgement, list[str]]:
        """One pass, and what it changed in the environment: then it ends early."""
        prepared = await self._prepared(case)
        if isinstance(prepared, SetupFailed):
            return Judgement(answer=Answer.SETUP, failed=prepared), []
        ready, clean = prepared
        verdicts, changed, sandbox = list[Verdict](), list[str](), self._environments.sandbox.name
        for _, group in groupby(sorted(gates, key=lambda gate: gate.group), key=lambda gate: gate.group):
            trials = [Trial(gate, digest(_JUDGED, case.tree, gate.digest, ready.key, sandbox)) for gate in group]
            found = [self._store.get(Verdict, trial.key) for trial in trials]
            known = [verdict for verdict in found if verdict and verdict.settled]
            asked = [trial for trial in trials if trial.key not in {verdict.key for verdict in known}]
            await self._run_group(case, asked, ready, clean=clean)
            clean = clean and not asked
            changed = await self._environments.changed(case.place, ready) if asked else []
            verdicts += known
            for verdict in known:
                self._tell(case, verdict, datetime.now(UTC), cached=True)
            switched = self._environments.sandbox.name != sandbox  # an edit of factory.toml counts at once
            if odd := Judgement(answer=Answer.UNSETTLED) if switched else _odd(asked):
                return replace(odd, verdicts=tuple(verdicts)), []
            for trial in asked:
                verdicts.append(await self._recorded(case, trial, disturbed=bool(changed)))
            if changed or (stop and not all(verdict.ok for verdict in verdicts)):
                break
        answer = Answer.GREEN if all(verdict.ok for verdict in verdicts) else Answer.RED
        return Judgement(answer=answer, verdicts=tuple(verdicts)), changed

    async def _prepared(self, case: Case) -> tuple[Ready, bool] | SetupFailed:
        """The environment, and whether the tree is as it would land already."""
        await case.bench.show(case.commit, keeps=case.rules.setup.dependencies)
        ready = await self._environments.found(case.place, case.rules.setup) or await self._make_environment(case)
        if isinstance(ready, SetupFailed):
            return ready
        clean = not ready.built
        if case.rules.setup.builds:  # which may be what git tracks
            if not clean:
                await self._lay_out(case, ready)
            if over := await self._changed(case, None):
                return SetupFailed(sentence=rewrites.built_over(over))
            clean = True
        return ready, clean

    async def _make_environment(self, case: Case) -> Ready | SetupFailed:
        """By trunk's code where trunk asks for the same one, so that it serves others too; else by the case's own."""
        environments, setup, keeps = self._environments, case.rules.setup, case.rules.setup.dependencies
        another = bool(case.trunk and case.place.candidate)
        if another and not await environments.lacks_only_its_build(case.place, setup):
            trunk = replace(case, commit=case.trunk, tree=await case.bench.benches.tree_of(case.trunk))
            asked = await environments.asked(case.place, setup)
            await case.bench.show(case.trunk, keeps=keeps)
            if (await environments.asked(trunk.place, setup)).dependencies == asked.dependencies:
                await environments.ready(trunk.place, setup)  # a failure shows where the case's own is made
            await case.bench.show(case.commit, keeps=keeps)
        return await environments.ready(case.place, setup)

    async def _run_group(self, case: Case, trials: Sequence[Trial], ready: Ready, *, clean: bool) -> None:
        """Run them side by side, then the red ones again, each time in a checkout that is `clean` or made so.

        Again means one by one where they share a tree: what one of them changed there may have made another red.
        """
        shares = not self._environments.sandbox.layers
        left = deque(_batches(trials, shares=shares))
        while left:
            batch = left.popleft()
            if not clean:
                await self._lay_out(case, ready)
            clean = False
            await self._environments.refresh(case.place)
            async with anyio.create_task_group() as together:
                for trial in batch:
                    together.start_soon(self._run, case, trial, len(batch) > 1)
            again = await self._again_of(case, batch, shared=shares and len(batch) > 1)
            left.extend([[trial] for trial in again] if shares else _batches(again, shares=False))

    async def _lay_out(self, case: Case, ready: Ready) -> None:
        """Show the tree as it would land, with what setup built in it."""
        await case.bench.show(case.commit, keeps=(*case.rules.setup.dependencies, *ready.made[:SPARED]))
        await self._environments.lay(case.place, ready)

    async def _again_of(self, case: Case, batch: Sequence[Trial], *, shared: bool) -> list[Trial]:
        """Those that run again; all of them where one changed the tree that they `shared`, and nobody knows which."""
        if shared and any(trial.last.succeeded for trial in batch) and await self._changed(case, None):
            for trial in batch:
                trial.runs.clear()
            return [*batch]
        if shared:
            return [trial for trial in batch if trial.red]
        return [trial for trial in batch if case.reruns and self._again(trial)]

    async def _run(self, case: Case, trial: Trial, beside: bool) -> None:
        gate, seconds = trial.gate, self.limit(trial.gate, len(trial.runs))
        ran = await self._environments.run(
            gate.command, case.place, name=gate.name, script=gate.script, seconds=seconds, judging=True, beside=beside
        )
        if ran.succeeded and (ran.wrote or not beside):
            changed = await self._changed(case, ran.wrote)
            rewrote = [path for path in changed if not within(path, gate.rewrites)]
            ran = replace(ran, rewrote=tuple(rewrote))
        await self._environments.forget(ran)
        trial.runs.append(ran)

    async def _changed(self, case: Case, wrote: Path | None) -> list[str]:
        """The tracked files that are not what would land; `wrote`: what a gate wrote above the tree."""
        git = case.bench.benches.git(case.bench.name)
        if wrote:
            return await rewrites.changed_above(git, wrote)
        return await rewrites.changed_in(git, case.commit, beside=case.place.layers / "before")

    def _again(self, trial: Trial) -> bool:
        reruns = self._limits().flaky_reruns if trial.gate.flaky_reruns is None else trial.gate.flaky_reruns
        return trial.red and len(trial.runs) <= reruns

    def _measured(self, gate: str) -> deque[float]:
        if gate not in self._seconds:
            greens = sorted(self._store.select(Verdict, gate=gate, ok=1), key=lambda verdict: verdict.at)
            self._seconds[gate] = deque((verdict.seconds for verdict in greens), maxlen=MEASURED)
        return self._seconds[gate]

    async def _recorded(self, case: Case, trial: Trial, *, disturbed: bool) -> Verdict:
        """The verdict, once the store has taken it: a gate that ran for an hour does not run again for a lock."""
        while True:
            try:
                return self._record(case, trial, disturbed=disturbed)
            except StoreError:
                log.exception(TICK_BROKE, loop="judge", unit=case.unit)
            await anyio.sleep(RECORD_SECONDS)

    def _record(self, case: Case, trial: Trial, *, disturbed: bool) -> Verdict:
        ran, agreed = trial.last, all(run.exit.cause != "timeout" for run in trial.runs) and len(trial.runs) > 1
        verdict = Verdict(
            key=trial.key,
            gate=trial.gate.name,
            tree=case.tree,
            ok=ran.ok,
            settled=not disturbed and (ran.ok or agreed),
            at=ran.exit.at,
            flaky=ran.ok and len(trial.runs) > 1,
            seconds=ran.exit.seconds,
            command=trial.gate.shown,
            tail="" if ran.ok else _said(ran, trial.gate.shown),
            log=ran.where,
            rewrote=ran.rewrote[: rewrites.MOST_KEPT],
        )
        self._measured(trial.gate.name)  # before it is written, else it would be counted twice
        self._tell(case, verdict, verdict.at, cached=False)
        if ran.ok:
            self._measured(trial.gate.name).append(verdict.seconds)
        return verdict

    def _tell(self, case: Case, verdict: Verdict, at: datetime, *, cached: bool) -> None:
        """Journal a verdict; one that was taken from the store only for the unit that it was taken for."""
        if case.unit or not cached:
            told: dict[str, Any] = {"gate": verdict.gate, "ok": verdict.ok, "cached": cached}
            told |= {} if case.reruns else {"before": True}  # asked without the change, where it must fail
            told |= {"stacked": True} if case.stacked else {}
            self._store.write(Event.VERDICT_GIVEN, verdict, now=at, unit=case.unit, **told)


def _odd(trials: Sequence[Trial]) -> Judgement | None:
    """What makes a group's answer nobody's: a runner that is not there, a run that was broken off."""
    for trial in trials:
        if trial.missing:
            sentence = (
                f"Gate {trial.gate.name} cannot run: {trial.gate.command[0]} is not in its environment. "
                "Install it in conventions/workspace/setup.sh."
            )
            return Judgement(answer=Answer.SETUP, failed=SetupFailed(sentence=sentence))
    # A red for want of room is nobody's either.
    red = [trial for trial in trials if not trial.last.ok]
    cramped = bool(red) and bool(lacking([red[0].last.log.parent]))
    return Judgement(answer=Answer.UNSETTLED) if cramped or any(trial.interrupted for trial in trials) else None


def _batches(trials: Sequence[Trial], *, shares: bool) -> list[Sequence[Trial]]:
    """Those that run together; what may change the tree runs alone where it `shares` it."""
    together = [trial for trial in trials if not (shares and trial.gate.rewrites)]
    alone = [[trial] for trial in trials if shares and trial.gate.rewrites]
    return [together, *alone] if together else [*alone]


def _said(ran: Ran, command: str) -> str:
    end = f"[ended by signal {ran.exit.signal}]" if ran.exit.signal else ran.exit.detail
    if ran.exit.cause == "overran":
        end = f"[ended: it uses too much: {ran.exit.detail}]"
    if ran.exit.cause == "timeout":
        end = f"[ended after {ran.exit.seconds:.1f} s: it takes too long]"
    if ran.rewrote:
        end = f"[red: {rewrites.sentence(ran.rewrote, rewrites.told(command, ran.tail))}]"
    return f"{ran.tail}\n{end}" if end else ran.tail
