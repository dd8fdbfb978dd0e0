"""Gates run on a bench, and their verdicts.

Invariant: a verdict is about a clean checkout of exactly its tree, in an environment that was the same afterwards, by
the gates that the caller's rules hold (trunk's), and a settled one is not asked for twice.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from factory.ground.disk import lacking
from factory.ground.errors import StoreError
from factory.ground.log import TICK_BROKE, log
from factory.ground.scope import within
from factory.ground.settings import GateLimits
from factory.inference.rules import Gate, Rules, digest
from factory.judging import rewrites, scratch
from factory.judging.commands import Order
from factory.judging.course import Course
from factory.judging.environments import Environments
from factory.judging.measured import Measured, time_limit
from factory.judging.place import Place
from factory.judging.progress import Done, Progress, progress_of
from factory.judging.setups import SetupFailed, unconfined
from factory.judging.standing import Ready, lay
from factory.judging.trials import Ran, Trial, repeated, said_by
from factory.repo.benches import Bench
from factory.repo.underway import BrokenOff, Fit, Record, Run, What, says_something
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Verdict

RECORD_SECONDS = 1.0  # between two tries to write a verdict down
SPARED = (
    100  # paths that setup built, which git is told to leave in a checkout: more are copied into it
)
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
    trunk_tree: str = ""  # and its tree
    proof: tuple[
        str, ...
    ] = ()  # accept commands that were seen to fail before, after the tree on which

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

    @property
    def what(self) -> What:
        """What its judging is called where it is under way."""
        return "gates" if self.reruns else "proof"

    @property
    def by_trunk(self) -> "Case":
        """Trunk in its place, where its code may make what serves the candidate."""
        return replace(self, commit=self.trunk, tree=self.trunk_tree) if self.trunk_tree else self


def accepting(commands: Sequence[str]) -> tuple[Gate, ...]:
    """Accept commands as gates, each with a clean checkout of its own, before all others."""
    return tuple(
        Gate(
            f"accept: {command}", at - len(commands), ("sh", "-c", command), "accept", said=command
        )
        for at, command in enumerate(commands)
    )


class Gates:
    """Judges trees on benches."""

    def __init__(self, *, store: Store, environments: Environments, limits: Limits) -> None:
        self._store, self._environments, self._limits = store, environments, limits
        self._commands = environments.commands
        self._underway = environments.commands.underway
        self._measured = Measured(store)

    async def judge(self, case: Case, *, accept: Sequence[str] = ()) -> Judgement:
        """Run `accept`, then the gates, group by group, up to the first red group."""
        if not case.rules.gates:
            return Judgement(answer=Answer.NO_GATE)
        return await self._judge(case, (*accepting(accept), *case.rules.gates), stop=True)

    async def prove(self, case: Case, accept: Sequence[str]) -> Judgement:
        """Run each of the `accept` commands where they should fail: RED when all of them do, as verdicts say."""
        judgement = await self._judge(replace(case, reruns=False), accepting(accept), stop=False)
        if judgement.answer is Answer.RED and any(
            verdict.succeeded for verdict in judgement.verdicts
        ):
            return replace(judgement, answer=Answer.GREEN)
        return judgement

    async def end_leftovers(self) -> bool:
        """End what a dead daemon's gates and setups left running and nobody will ask for; true when nothing is left."""
        return await self._underway.sort_out()

    def fit(self, case: Case, accept: Sequence[str], *, proving: bool = False) -> Fit:
        """How what is under way on that bench fits this case."""
        record = self._underway.at(case.place.folder)
        if record is None:
            return Fit.STALE
        case = replace(case, reruns=not proving)
        gates = (*accepting(accept), *(() if proving else case.rules.gates))
        if record.about in self._abouts(case, gates):
            return Fit.SAME
        trees = (case.tree, case.trunk_tree) if record.what == "setup" else (case.tree,)
        return (
            Fit.STALE if record.what in ("setup", case.what) and record.tree in trees else Fit.OTHER
        )

    async def end_unwanted(self, bench: Bench, trees: Collection[str]) -> None:
        """End what is under way on a bench for a tree that is none of these."""
        record = self._underway.at(bench.place)
        if record is None or record.tree not in trees:
            await self._underway.vacate(bench.place)

    def is_judging(self, case: Case, accept: Sequence[str]) -> bool:
        """Whether that is its gates, so that what comes before them was seen to."""
        record = self._underway.at(case.place.folder)
        return record is not None and record.about == self._about(
            case, (*accepting(accept), *case.rules.gates)
        )

    def limit(self, gate: Gate, runs: int = 0) -> float:
        """Seconds that the gate may take: as its file says, else as configured, else as measured."""
        return (
            gate.timeout_s
            or self._limits().timeout_s
            or time_limit(self._measured.of(gate.name), runs=runs)
        )

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
            return replace(
                judgement, answer=Answer.SETUP, failed=SetupFailed(sentence=sentence, log=last.log)
            )
        return judgement

    async def _try(
        self, case: Case, gates: Sequence[Gate], *, stop: bool
    ) -> tuple[Judgement, list[str]]:
        """One pass, and what it changed in the environment: then it ends early."""
        with self._underway.until_over(case.place.folder):
            course = await self._earlier(case, gates)
            if isinstance(course, SetupFailed):
                return Judgement(answer=Answer.SETUP, failed=course), []
            return await self._go_through(case, gates, course, stop=stop)

    async def _go_through(
        self, case: Case, gates: Sequence[Gate], course: Course | None, *, stop: bool
    ) -> tuple[Judgement, list[str]]:
        """Run the gates group by group, from where an earlier daemon's course has come."""
        prepared = await self._prepared(case)
        if isinstance(prepared, SetupFailed):
            return Judgement(answer=Answer.SETUP, failed=prepared), []
        ready, clean = prepared
        course = self._begun(case, gates, course)
        verdicts, changed, sandbox = list[Verdict](), list[str](), self._commands.sandbox.name
        for _, group in groupby(
            sorted(gates, key=lambda gate: gate.group), key=lambda gate: gate.group
        ):
            keys = {
                digest(_JUDGED, case.tree, gate.digest, ready.key, sandbox): gate for gate in group
            }
            trials = [course.trial(gate, key) for key, gate in keys.items()]
            found = [self._store.get(Verdict, trial.key) for trial in trials]
            known = [verdict for verdict in found if verdict and verdict.settled]
            asked = [
                trial for trial in trials if trial.key not in {verdict.key for verdict in known}
            ]
            await self._run_group(case, asked, ready, course, clean=clean)
            clean = clean and not asked
            changed = await self._environments.changed(case.place, ready) if asked else []
            verdicts += known
            for verdict in known:
                self._tell(case, verdict, datetime.now(UTC), cached=True)
            switched = (
                self._commands.sandbox.name != sandbox
            )  # an edit of factory.toml counts at once
            if odd := Judgement(answer=Answer.UNSETTLED) if switched else _odd(asked):
                self._abandon_stuck(case, asked)
                return replace(odd, verdicts=tuple(verdicts)), []
            for trial in asked:
                verdicts.append(await self._recorded(case, trial, disturbed=bool(changed)))
            if changed or (stop and not all(verdict.ok for verdict in verdicts)):
                break
        answer = Answer.GREEN if all(verdict.ok for verdict in verdicts) else Answer.RED
        return Judgement(answer=answer, verdicts=tuple(verdicts)), changed

    def _abandon_stuck(self, case: Case, trials: Sequence[Trial]) -> None:
        """Put the bench out of use where something of a gate cannot be ended: it may write there."""
        if any(trial.last.exit.left for trial in trials):
            case.bench.benches.abandon(case.bench.name)

    async def _prepared(self, case: Case) -> tuple[Ready, bool] | SetupFailed:
        """The environment, and whether the tree is as it would land already."""
        await case.bench.show(case.commit, keeps=case.rules.setup.dependencies)
        ready = await self._environments.found(
            case.place, case.rules.setup
        ) or await self._make_environment(case)
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

    def _begun(self, case: Case, gates: Sequence[Gate], course: Course | None) -> Course:
        """The course, unless a setup has taken its place: what ran in another environment counts for nothing."""
        folder = case.place.folder
        noted = self._underway.at(folder)
        if course and noted and noted.nonce == course.record.nonce:
            return course
        about = self._about(case, gates)
        return Course(self._underway.begin(folder, case.what, tree=case.tree, about=about))

    async def _make_environment(self, case: Case) -> Ready | SetupFailed:
        """By trunk's code where trunk asks for the same one, so that it serves others too; else by the case's own."""
        environments, setup, keeps = (
            self._environments,
            case.rules.setup,
            case.rules.setup.dependencies,
        )
        another = bool(case.trunk_tree and case.place.candidate)
        if another and not await environments.lacks_only_its_build(case.place, setup):
            trunk = case.by_trunk
            asked = await environments.asked(case.place, setup)
            await case.bench.show(case.trunk, keeps=keeps)
            if (await environments.asked(trunk.place, setup)).dependencies == asked.dependencies:
                await environments.ready(
                    trunk.place, setup
                )  # a failure shows where the case's own is made
            await case.bench.show(case.commit, keeps=keeps)
        return await environments.ready(case.place, setup)

    async def _run_group(
        self, case: Case, trials: Sequence[Trial], ready: Ready, course: Course, *, clean: bool
    ) -> None:
        """Run them side by side, then the red ones again, each time in a checkout that is `clean` or made so.

        Again means one by one where they share a tree: what one of them changed there may have made another red.
        """
        shares = not self._commands.sandbox.layers
        course.plan(trials, shares=shares)
        while batch := course.next(trials):
            # Before the tree is shown anew, where nobody sees any more what the gates before did to it.
            self._note(case, course)
            if not clean:
                await self._lay_out(case, ready)
            clean = False
            await to_thread.run_sync(scratch.empty, case.place)
            course.take(batch)
            await self._run_batch(case, course, batch)
            again = await self._again_of(case, batch, shared=shares and len(batch) > 1)
            course.put(repeated(again, shares=shares))
        if trials:
            self._note(case, course)
            await to_thread.run_sync(scratch.forget_layers, case.place)

    async def _run_batch(self, case: Case, course: Course, batch: Sequence[Trial]) -> None:
        folder, record = case.place.folder, course.record
        runs = {trial.key: self._underway.fresh(folder, trial.gate.name, record) for trial in batch}
        # Record first: a daemon that dies from here on leaves what it began to the next one.
        self._note(case, course, runs)
        async with anyio.create_task_group() as together:
            for trial in batch:
                together.start_soon(self._run, case, trial, runs[trial.key], len(batch) > 1)

    def _note(self, case: Case, course: Course, runs: Mapping[str, Run] | None = None) -> None:
        """Note for the next daemon how far the course has come; `runs`: what runs now."""
        running = {key: run.folder.name for key, run in (runs or {}).items()}
        layered = self._commands.sandbox.layers and len(running) > 1
        progress = course.progress(running, layered=layered)
        self._underway.note(case.place.folder, course.record, progress.told())

    async def _lay_out(self, case: Case, ready: Ready) -> None:
        """Show the tree as it would land, with what setup built in it."""
        await case.bench.show(
            case.commit, keeps=(*case.rules.setup.dependencies, *ready.made[:SPARED])
        )
        await to_thread.run_sync(lay, case.place, ready)

    async def _again_of(self, case: Case, batch: Sequence[Trial], *, shared: bool) -> list[Trial]:
        """Those that run again; all of them where one changed the tree that they `shared`, and nobody knows which."""
        if (
            shared
            and any(trial.last.succeeded for trial in batch)
            and await self._changed(case, None)
        ):
            for trial in batch:
                trial.runs.clear()
            return [*batch]
        if shared:
            return [trial for trial in batch if trial.red]
        return [trial for trial in batch if case.reruns and self._again(trial)]

    async def _run(self, case: Case, trial: Trial, run: Run, beside: bool) -> None:
        gate = trial.gate
        order = Order(
            argv=gate.command,
            script=gate.script,
            seconds=self.limit(gate, len(trial.runs)),
            judging=True,
            beside=beside,
        )
        ran = await self._commands.run(order, case.place, run)
        trial.runs.append(await self._looked_at(case, gate, ran, beside=beside))

    async def _looked_at(self, case: Case, gate: Gate, ran: Ran, *, beside: bool) -> Ran:
        """The run, with what it changed and must not."""
        if ran.succeeded and (ran.wrote or not beside):
            changed = await self._changed(case, ran.wrote)
            rewrote = [path for path in changed if not within(path, gate.rewrites)]
            ran = replace(ran, rewrote=tuple(rewrote))
        return ran

    async def _changed(self, case: Case, wrote: Path | None) -> list[str]:
        """The tracked files that are not what would land; `wrote`: what a gate wrote above the tree."""
        git = case.bench.benches.git(case.bench.name)
        if wrote:
            return await rewrites.changed_above(git, wrote)
        return await rewrites.changed_in(git, case.commit, beside=case.place.layers / "before")

    # ── after an earlier daemon ──

    async def _earlier(self, case: Case, gates: Sequence[Gate]) -> Course | SetupFailed | None:
        """What an earlier daemon began on this bench for this very case, once what runs of it has ended."""
        place = case.place
        record = self._underway.at(place.folder)
        if record is None or record.what == "setup":
            return await self._environments.setups.go_on(
                place, case.rules.setup, case.by_trunk.place
            )
        record = await self._underway.claim(place.folder, self._about(case, gates))
        if record is None:
            return None
        try:
            return await self._resumed(case, gates, record)
        except (KeyError, TypeError, AttributeError):  # of another release
            await self._underway.vacate(place.folder)
        except BrokenOff as broken:
            self._underway.let_go(place.folder, broken)
        return None

    async def _resumed(self, case: Case, gates: Sequence[Gate], record: Record) -> Course:
        """Wait for the batch that runs, and look at what it did; raises BrokenOff where that cannot be told."""
        progress, known = progress_of(record.found), {gate.digest: gate for gate in gates}
        trials = {key: Trial(known[gate], key) for key, gate in progress.gates.items()}
        for key, runs in progress.done.items():
            trials[key].runs.extend([await self._recalled(case, record, done) for done in runs])
        ended = await self._followed(case, record, progress)
        if ended and not await self._can_be_told(case, [*ended.values()], layered=progress.layered):
            raise BrokenOff(case.bench.name, left=0)
        beside = len(progress.running) > 1
        for key, ran in ended.items():
            trials[key].runs.append(
                await self._looked_at(case, trials[key].gate, ran, beside=beside)
            )
        again = [trials[key] for key in progress.running.keys() - ended.keys()]
        shared = beside and not progress.layered
        again += await self._again_of(case, [trials[key] for key in ended], shared=shared)
        course = Course(record, trials.values(), progress.left)
        course.put(repeated(again, shares=not self._commands.sandbox.layers))
        self._note(case, course)  # before the tree is shown anew
        return course

    async def _recalled(self, case: Case, record: Record, done: Done) -> Ran:
        """A run that had ended and was looked at."""
        ran = await self._commands.resume(case.place, self._underway.run(record, done.run))
        if ran is None:
            raise BrokenOff(done.run, left=0)
        return replace(ran, rewrote=done.rewrote)

    async def _followed(self, case: Case, record: Record, progress: Progress) -> dict[str, Ran]:
        """How those that ran side by side have ended, less what was broken off."""
        ended: dict[str, Ran] = {}

        async def follow(key: str, name: str) -> None:
            ran = await self._commands.resume(case.place, self._underway.run(record, name))
            if ran is not None:
                ended[key] = ran

        async with anyio.create_task_group() as together:
            for key, name in progress.running.items():
                together.start_soon(follow, key, name)
        if left := sum(ran.exit.left for ran in ended.values()):
            raise BrokenOff(case.bench.name, left=left)
        return {key: ran for key, ran in ended.items() if says_something(ran.exit)}

    async def _can_be_told(self, case: Case, ended: Sequence[Ran], *, layered: bool) -> bool:
        """Whether the bench still shows what was judged there, so that what a run changed can be seen."""
        if not await case.bench.shows(case.tree):
            return False
        if not layered:
            return True
        return all(ran.wrote for ran in ended) and not await self._changed(case, None)

    def _about(self, case: Case, gates: Sequence[Gate]) -> str:
        """Digest of all that a judging depends on, told without a look at the tree."""
        around = [*self._commands.machine.around(case.rules.setup), self._commands.sandbox.name]
        parts = [case.tree, repr(case.proof), str(case.reruns), *(gate.digest for gate in gates)]
        return digest("gates", *around, str(case.place.folder), *parts)

    def _abouts(self, case: Case, gates: Sequence[Gate]) -> list[str]:
        """The same, and of the setups that come before it."""
        setup = case.rules.setup
        makers = {
            self._environments.setups.about(each.place, setup) for each in (case, case.by_trunk)
        }
        return [self._about(case, gates), *makers]

    def _again(self, trial: Trial) -> bool:
        reruns = (
            self._limits().flaky_reruns
            if trial.gate.flaky_reruns is None
            else trial.gate.flaky_reruns
        )
        return trial.red and len(trial.runs) <= reruns

    async def _recorded(self, case: Case, trial: Trial, *, disturbed: bool) -> Verdict:
        """The verdict, once the store has taken it: a gate that ran for an hour does not run again for a lock."""
        while True:
            try:
                return self._record(case, trial, disturbed=disturbed)
            except StoreError:
                log.exception(TICK_BROKE, loop="judge", unit=case.unit)
            await anyio.sleep(RECORD_SECONDS)

    def _record(self, case: Case, trial: Trial, *, disturbed: bool) -> Verdict:
        ran, agreed = (
            trial.last,
            all(run.exit.cause != "timeout" for run in trial.runs) and len(trial.runs) > 1,
        )
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
            tail="" if ran.ok else said_by(ran, trial.gate.shown),
            log=ran.where,
            rewrote=ran.rewrote[: rewrites.MOST_KEPT],
        )
        self._measured.of(trial.gate.name)  # before it is written, else it would be counted twice
        self._tell(case, verdict, verdict.at, cached=False)
        if ran.ok:
            self._measured.of(trial.gate.name).append(verdict.seconds)
        return verdict

    def _tell(self, case: Case, verdict: Verdict, at: datetime, *, cached: bool) -> None:
        """Journal a verdict; one that was taken from the store only for the unit that it was taken for."""
        if case.unit or not cached:
            told: dict[str, Any] = {"gate": verdict.gate, "ok": verdict.ok, "cached": cached}
            told |= (
                {} if case.reruns else {"before": True}
            )  # asked without the change, where it must fail
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
    unstarted = next(
        (trial.last for trial in trials if trial.last.exit.cause == "unconfined"), None
    )
    if unstarted:
        return Judgement(answer=Answer.UNSETTLED, failed=unconfined(unstarted))
    # A red for want of room is nobody's either.
    red = [trial for trial in trials if not trial.last.ok]
    cramped = bool(red) and bool(lacking([red[0].last.log.parent]))
    return (
        Judgement(answer=Answer.UNSETTLED)
        if cramped or any(trial.interrupted for trial in trials)
        else None
    )
