"""Runs gates on a bench, and makes their verdicts.

Invariant: a verdict is about a clean checkout of exactly its tree, in an environment that the gate
did not change. The gates come from the caller's rules (trunk's). Settled verdicts are used again.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from operator import attrgetter

from factory.child.killed import killed_by
from factory.ground.disk import lacking
from factory.ground.settings import GateLimits
from factory.inference.rules import Gate, Rules
from factory.judging.adoption import Adoption
from factory.judging.batches import Batches
from factory.judging.case import Case, accepting
from factory.judging.course import Course
from factory.judging.environments import Environments
from factory.judging.preparation import Preparation
from factory.judging.setups import SetupFailed, Suspect, killed, unconfined
from factory.judging.standing import Ready
from factory.judging.trials import Trial
from factory.judging.verdicts import Verdicts, key_of
from factory.repo.benches import Bench
from factory.repo.underway import Fit
from factory.store.ports import Store
from factory.store.records import Verdict


class Answer(StrEnum):
    """The result of a judging."""

    GREEN = "green"
    RED = "red"
    NO_GATE = "no_gate"  # there are no gates; this does not count as green
    SETUP = "setup"  # no environment could be made, so no gate ran
    UNSETTLED = "unsettled"  # a gate was interrupted, so judge again


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The answer and all verdicts that led to it, including verdicts from the store."""

    answer: Answer
    verdicts: tuple[Verdict, ...] = ()
    failed: SetupFailed | None = None
    endless: str = ""  # the first command that did not end within its time limit
    group: tuple[Trial, ...] = ()  # the gates that ran side by side when one of them was killed

    @property
    def red(self) -> tuple[Verdict, ...]:
        """The verdicts that are not ok."""
        return tuple(verdict for verdict in self.verdicts if not verdict.ok)

    @property
    def killed(self) -> tuple[Gate, ...]:
        """The gates that a program ended which is not factoryd; maybe they did it themselves."""
        return tuple(trial.gate for trial in self.group if trial.killed)


class Gates:
    """Judges trees on benches."""

    def __init__(
        self, *, store: Store, environments: Environments, limits: Callable[[], GateLimits]
    ) -> None:
        self.verdicts = Verdicts(store, limits)
        self._environments = environments
        self._commands = environments.commands
        self._underway = environments.commands.underway
        self._batches = Batches(environments.commands, self.verdicts)
        self.preparation = Preparation(environments)

    async def judge(
        self, case: Case, *, accept: Sequence[str] = (), stop: bool = True
    ) -> Judgement:
        """Run `accept`, then the gates, group by group; `stop` after a group with a red gate."""
        if not case.rules.gates:
            return Judgement(answer=Answer.NO_GATE)
        return await self._judge(case, all_gates(case.rules, accept), stop=stop)

    async def judge_some(self, case: Case, gates: Sequence[Gate]) -> Judgement:
        """Run only these gates, group by group; stop after a group with a red gate."""
        return await self._judge(case, gates, stop=True)

    async def prove(self, case: Case, accept: Sequence[str]) -> Judgement:
        """Run `accept` commands on a tree where all of them should fail; RED if all do."""
        judgement = await self._judge(replace(case, reruns=False), accepting(accept), stop=False)
        passes = any(verdict.succeeded for verdict in judgement.verdicts)
        if judgement.answer is Answer.RED and passes:
            return replace(judgement, answer=Answer.GREEN)
        return judgement

    async def count_as_red(self, case: Case, judgement: Judgement) -> Judgement:
        """Return the judgement with a red verdict on each killed gate, which is not settled."""
        verdicts = [*judgement.verdicts]
        for trial in judgement.group:
            verdicts.append(await self.verdicts.record(case, trial, disturbed=True))
        return Judgement(answer=Answer.RED, verdicts=tuple(verdicts))

    # ── the limits in force ──

    def seconds(self, rules: Rules, accept: Sequence[str]) -> float:
        """Return how long gates and accept commands may take at most, with their reruns.

        The accept commands run on two trees: they must fail on the one below.
        """
        total = self.proof_seconds(accept)
        for gate in all_gates(rules, accept):
            total += self.verdicts.limit(gate) * (1 + self.verdicts.reruns(gate))
        return total

    def proof_seconds(self, accept: Sequence[str]) -> float:
        """Return the seconds that accept commands may take where they must fail."""
        return sum(self.verdicts.limit(gate, proving=True) for gate in accepting(accept))

    # ── what is running ──

    async def end_leftovers(self) -> bool:
        """End the runs of a dead daemon that nobody needs; return True if none is left."""
        return await self._underway.sort_out()

    def fit(self, case: Case, accept: Sequence[str], *, proving: bool = False) -> Fit:
        """Return how the record on the bench fits this case."""
        record = self._underway.at(case.place.folder)
        if record is None:
            return Fit.STALE
        case = replace(case, reruns=not proving)
        gates = accepting(accept) if proving else all_gates(case.rules, accept)
        if record.about in self._adoption(case, gates).abouts:
            return Fit.SAME
        trees = [case.tree]
        if record.what == "setup":
            trees.append(case.trunk_tree)
        is_its_own = record.what in ("setup", case.what) and record.tree in trees
        return Fit.STALE if is_its_own else Fit.OTHER

    async def end_unwanted(self, bench: Bench, trees: Collection[str]) -> None:
        """End all runs on a bench, unless they are about one of these trees."""
        record = self._underway.at(bench.place)
        if record is None or record.tree not in trees:
            await self._underway.vacate(bench.place)

    def is_proving(self, bench: Bench, tree: str) -> bool:
        """Whether accept commands that must fail on this tree are under way on the bench."""
        record = self._underway.at(bench.place)
        return record is not None and record.what == "proof" and record.tree == tree

    def is_judging(self, case: Case, accept: Sequence[str]) -> bool:
        """Whether gates of this case are running. If so, setup and proof are finished."""
        record = self._underway.at(case.place.folder)
        if record is None:
            return False
        return record.about == self._adoption(case, all_gates(case.rules, accept)).about

    def _adoption(self, case: Case, gates: Sequence[Gate]) -> Adoption:
        return Adoption(self._environments, self._batches, case, gates)

    # ── one judging ──

    async def _judge(self, case: Case, gates: Sequence[Gate], *, stop: bool) -> Judgement:
        """Judge. If a gate changed the environment, judge once more."""
        judgement, changed = await self._try(case, gates, stop=stop)
        if changed:
            judgement, changed = await self._try(case, gates, stop=stop)
        if not changed or judgement.answer is not Answer.GREEN:
            return judgement
        # Gates changed even a new environment, and may pass only because of such a change.
        last = judgement.verdicts[-1]
        sentence = (
            f"Gate {last.gate} (or a gate that runs at the same time) changes its environment, "
            f"e.g. {changed[0]}. Gates that pass afterwards prove nothing. "
            "Make such changes in conventions/workspace/setup.sh."
        )
        failed = SetupFailed(sentence=sentence, log=last.log, suspect=Suspect.UNIT)
        return replace(judgement, answer=Answer.SETUP, failed=failed)

    async def _try(
        self, case: Case, gates: Sequence[Gate], *, stop: bool
    ) -> tuple[Judgement, list[str]]:
        """Judge until a gate changes the environment; return judgement and changed paths."""
        adoption = self._adoption(case, gates)
        with self._underway.until_over(case.place.folder):
            course = await adoption.course()
            if isinstance(course, SetupFailed):
                return _unprepared(course), []
            prepared = await self.preparation.ready(case)
            if isinstance(prepared, SetupFailed):
                return _unprepared(prepared), []
            ready, clean = prepared
            course = self._begun(case, gates, adoption.about, course)
            return await self._go_through(case, gates, ready, course, clean=clean, stop=stop)

    def _begun(
        self, case: Case, gates: Sequence[Gate], about: str, course: Course | None
    ) -> Course:
        """Return the course. If a setup has run since it began, return a new course."""
        folder = case.place.folder
        noted = self._underway.at(folder)
        if course and noted and noted.nonce == course.record.nonce:
            return course
        named = {gate.digest: (gate.name, self.verdicts.usual(gate)) for gate in gates}
        shown = {"unit": case.unit, "gates": named}
        record = self._underway.begin(folder, case.what, tree=case.tree, about=about, shown=shown)
        return Course(record)

    async def _go_through(
        self,
        case: Case,
        gates: Sequence[Gate],
        ready: Ready,
        course: Course,
        *,
        clean: bool,
        stop: bool,
    ) -> tuple[Judgement, list[str]]:
        """Run the gates by group. With `stop`, end after a group with a red gate.

        `clean`: the bench shows the tree that would land.
        """
        sandbox = self._commands.sandbox.name
        verdicts = list[Verdict]()
        changed = list[str]()
        endless = ""
        for group in _groups(gates):
            keys = {key_of(case, gate, ready, sandbox): gate for gate in group}
            known = {} if case.afresh else self.verdicts.settled(keys)
            asked = [course.trial(gate, key) for key, gate in keys.items() if key not in known]
            if asked:
                await self._batches.run(case, asked, ready, course, clean=clean)
                clean = False
                changed = await self._environments.changed(case.place, ready)
            for verdict in known.values():
                verdicts.append(verdict)
                self.verdicts.tell_again(case, verdict, datetime.now(UTC))
            odd = self._odd(asked, sandbox)
            if odd:
                _abandon_stuck(case, asked)
                return replace(odd, verdicts=tuple(verdicts)), []
            for trial in asked:
                verdicts.append(await self.verdicts.record(case, trial, disturbed=bool(changed)))
                if trial.last.exit.cause == "timeout":
                    endless = endless or trial.gate.shown
            if changed or (stop and not _are_green(verdicts)):
                break
        answer = Answer.GREEN if _are_green(verdicts) else Answer.RED
        return Judgement(answer=answer, verdicts=tuple(verdicts), endless=endless), changed

    def _odd(self, trials: Sequence[Trial], sandbox: str) -> Judgement | None:
        """Return a judgement if a group proves nothing; `sandbox`: its name at the begin."""
        if self._commands.sandbox.name != sandbox:  # somebody has edited factory.toml meanwhile
            return Judgement(answer=Answer.UNSETTLED)
        return _broken_off(trials)


def all_gates(rules: Rules, accept: Sequence[str]) -> tuple[Gate, ...]:
    """Return the accept commands as gates, then the gates of the rules."""
    return (*accepting(accept), *rules.gates)


def _groups(gates: Sequence[Gate]) -> Iterator[list[Gate]]:
    """Yield the gates of each group, in the order of the groups."""
    by_group = attrgetter("group")
    for _, group in groupby(sorted(gates, key=by_group), key=by_group):
        yield list(group)


def _are_green(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.ok for verdict in verdicts)


def _unprepared(failed: SetupFailed) -> Judgement:
    """Return the judgement if there is no environment; a killed setup may run again."""
    is_killed = failed.suspect is Suspect.MACHINE and not failed.unconfined
    answer = Answer.UNSETTLED if is_killed else Answer.SETUP
    return Judgement(answer=answer, failed=failed)


def _broken_off(trials: Sequence[Trial]) -> Judgement | None:
    """Return a judgement if a gate's command is missing, or a run says nothing about the tree."""
    for trial in trials:
        if trial.missing:
            sentence = (
                f"Gate {trial.gate.name} cannot run: "
                f"{trial.gate.command[0]} is not in its environment. "
                "Install it in conventions/workspace/setup.sh."
            )
            return Judgement(answer=Answer.SETUP, failed=SetupFailed(sentence=sentence))
    return _unsettled(trials)


def _unsettled(trials: Sequence[Trial]) -> Judgement | None:
    """Return a judgement if a run says nothing about the tree."""
    for trial in trials:
        if trial.last.exit.cause == "unconfined":
            return Judgement(answer=Answer.UNSETTLED, failed=unconfined(trial.last))
    for trial in trials:
        # If the disk is full, a red gate says nothing about the tree.
        if not trial.last.ok and lacking([trial.last.log.parent]):
            return Judgement(answer=Answer.UNSETTLED, failed=_killed(trial))
    for trial in trials:
        if trial.interrupted:
            group = tuple(trials)
            return Judgement(answer=Answer.UNSETTLED, failed=_killed(trial), group=group)
    return None


def _killed(trial: Trial) -> SetupFailed | None:
    """Return a sentence about a gate that somebody else killed; None if it ended differently."""
    ran = trial.last
    if not killed_by(ran.exit):
        return None
    return SetupFailed(
        sentence=f"Gate {trial.gate.name} {killed(ran)}.",
        tail=ran.tail,
        log=ran.where,
        suspect=Suspect.MACHINE,
    )


def _abandon_stuck(case: Case, trials: Sequence[Trial]) -> None:
    """Stop using the bench if a gate's process cannot be ended: the process may write there."""
    if any(trial.last.exit.left for trial in trials):
        case.bench.benches.abandon(case.bench.name)
