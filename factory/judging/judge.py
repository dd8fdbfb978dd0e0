"""The judge: decides whether a commit passes, and whether accept commands prove anything.

Invariant: the gates that judge a candidate are those of the commit below it, never its own.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from factory.inference.rules import Rules
from factory.judging.case import ACCEPT, Case
from factory.judging.gates import Answer, Gates, Judgement, all_gates
from factory.judging.ruled import Proof, Ruled, not_set_up, setup_card
from factory.judging.rulings import Rulings
from factory.judging.setups import SetupFailed, Suspect, setup_seconds
from factory.people import line_cards
from factory.repo.benches import Bench, Benches, Yielding
from factory.repo.trunk import Trunk
from factory.repo.underway import Fit
from factory.store.records import CardKind, Verdict
from factory.store.unit import Unit

Ask = Callable[[], Awaitable[Judgement]]
Accepts = Callable[[], Collection[tuple[str, ...]]]
OnBench = Callable[..., Case]  # makes the case as soon as there is a bench
TRIES = 3  # how often factoryd judges if gates are interrupted


class Judge:
    """Judges commits of the factory repository on benches; `rulings` has the rules."""

    def __init__(self, *, trunk: Trunk, benches: Benches, gates: Gates, rulings: Rulings) -> None:
        self.rulings = rulings
        self._trunk = trunk
        self._benches = benches
        self._gates = gates

    @property
    def branch(self) -> str:
        """Trunk's name."""
        return self._trunk.branch

    def seconds(self, accept: Sequence[str]) -> float:
        """Return how long a judging may take at most, by the limits in force, without its setup."""
        ruling = self.rulings.latest
        return self._gates.seconds(ruling.rules, accept) if ruling else 0

    def proof_seconds(self, accept: Sequence[str]) -> float:
        """Return how long accept commands may take on trunk, by the limits in force."""
        return self._gates.proof_seconds(accept)

    def setup_seconds(self) -> float:
        """Return how long the setup of trunk may take at most."""
        ruling = self.rulings.latest
        return setup_seconds(ruling.rules.setup) if ruling else 0

    async def judge(
        self,
        commit: str,
        *,
        parent: str,
        unit: Unit | None = None,
        accept: Sequence[str] = (),
        begun: Callable[[], None] = lambda: None,
    ) -> Ruled:
        """Judge a commit by the rules of `parent`.

        `accept` must fail on `parent` and pass on `commit`. It calls `begun` when it has a bench.
        """
        ruling = await self.rulings.of(parent)
        if ruling.obstacle:
            return Ruled(ok=False, setup=ruling.obstacle)
        on, below = await self._cases(commit, parent, ruling.rules, unit, accept)
        async with self._benches.take(partial(self._fit, on, below, accept)) as bench:
            begun()
            case = on(bench=bench)
            if below and not self._gates.is_judging(case, accept):
                before = await _asked(partial(self._gates.prove, below(bench=bench), accept))
                if before.answer is not Answer.RED:
                    return _unproven(before)
            ask = partial(self._gates.judge, case, accept=accept, stop=_may_stop(unit))
            judgement = await _asked(ask)
            if judgement.answer is Answer.SETUP and unit and not case.stacked:
                if not judgement.killed:
                    judgement = await self._cleared(case, judgement, ask)
                elif _may_stop(unit):  # else later gates must be known, and they have no verdict
                    judgement = await self._after_kills(case, judgement, ask)
            if judgement.answer is Answer.NO_GATE:
                return await self._ungated(case, accept, unit)
            return _ruled(judgement)

    async def _cleared(self, case: Case, judgement: Judgement, ask: Ask) -> Judgement:
        """Return the judgement of a unit directly on trunk, after its setup failed.

        The unit is to blame only if trunk's setup works here now, and its own fails again after it.
        """
        assert judgement.failed is not None, "the setup did not fail"
        if judgement.failed.suspect is not Suspect.UNKNOWN:
            return judgement
        if not await self._gates.preparation.may_be_broken(case):
            return judgement
        again = await _asked(ask)
        if again.failed is None or again.failed.suspect is not Suspect.UNKNOWN:
            return again
        return replace(again, failed=replace(again.failed, suspect=Suspect.UNIT))

    async def _after_kills(self, case: Case, judgement: Judgement, ask: Ask) -> Judgement:
        """Return the judgement of a unit directly on trunk, after its gates were killed each time.

        The unit is to blame only if these gates run to their end on trunk now, and are killed again
        on its tree after that.
        """
        on_trunk = replace(case.by_trunk, unit="", proof=(), afresh=True)
        control = await _asked(partial(self._gates.judge_some, on_trunk, judgement.killed))
        if control.failed is not None:
            return judgement
        again = await ask()
        if again.answer is not Answer.UNSETTLED:
            return again
        is_same = bool(again.killed) and set(again.killed) <= set(judgement.killed)
        return await self._gates.count_as_red(case, again) if is_same else judgement

    async def judge_trunk(self, tip: str) -> Ruled:
        """Judge trunk's commit by all its gates, also by the checks that are only advisory."""
        ruling = await self.rulings.of(tip, advisory=True)
        if ruling.obstacle:
            return Ruled(ok=False, setup=ruling.obstacle)
        return await self._judge_trunk(tip, ruling.rules)

    async def judge_in(self, gates: Collection[str]) -> Ruled:
        """Judge trunk's commit by these of its gates only, even if some are red."""
        tip = self.rulings.tip
        ruling = await self.rulings.of(tip)
        chosen = tuple(gate for gate in ruling.rules.gates if gate.name in gates)
        return await self._judge_trunk(tip, replace(ruling.rules, gates=chosen), stop=False)

    async def _judge_trunk(self, tip: str, rules: Rules, *, stop: bool = True) -> Ruled:
        on = await self._case(tip, tip, rules)
        async with self._benches.take(partial(self._fit, on, None, ())) as bench:
            ask = partial(self._gates.judge, on(bench=bench), stop=stop)
            return _ruled(await _asked(ask))

    async def prove(
        self,
        accept: Sequence[str],
        *,
        yielding: Yielding | None = None,
        begun: Callable[[float], None] = lambda seconds: None,
    ) -> Proof:
        """Run accept commands on trunk, where all of them must fail; return the result.

        `begun` is called as soon as there is a bench, with the seconds that the commands may take.
        """
        tip = self.rulings.tip
        ruling = await self.rulings.of(tip)
        on = await self._case(tip, tip, ruling.rules)

        def fit(bench: Bench) -> Fit:
            return self._gates.fit(on(bench=bench), accept, proving=True)

        async with self._benches.take(fit, yielding) as bench:
            begun(self.proof_seconds(accept))
            judgement = await _asked(partial(self._gates.prove, on(bench=bench), accept))
        if judgement.failed is not None:
            return Proof(commit=tip, setup=setup_card(judgement.failed))
        passing = _first_passing(judgement.verdicts)
        return Proof(commit=tip, passing=passing, endless=judgement.endless)

    @property
    def idle_benches(self) -> int:
        """The number of benches that nobody uses now."""
        return self._benches.idle

    async def passes(
        self,
        commit: str,
        *,
        parent: str,
        unit: Unit,
        gates: Collection[str],
        yielding: Yielding,
    ) -> bool | None:
        """Whether a change on an older commit of trunk passes these gates, by the rules there.

        `gates`: the gates and accept commands, as verdicts name them. None: no verdict.
        """
        ruling = await self.rulings.of(parent)
        if ruling.obstacle:
            return None
        commands = [name.removeprefix(ACCEPT) for name in gates if name.startswith(ACCEPT)]
        asked = [gate for gate in all_gates(ruling.rules, commands) if gate.name in gates]
        if not asked:
            return True
        on = await self._case(commit, parent, ruling.rules, unit)
        async with self._benches.take(yielding=yielding) as bench:
            case = replace(on(bench=bench), stacked=False, on=parent)
            judgement = await _asked(partial(self._gates.judge_some, case, asked))
        return None if judgement.failed else judgement.answer is Answer.GREEN

    async def end_unwanted(self, trees: Collection[str], accepts: Accepts) -> None:
        """End an earlier daemon's work, unless it is about one of these trees or trunk's.

        Accept commands on trunk must also be among `accepts`, the commands of units that are open.
        """
        for bench in self._benches.begun():
            wanted = {*trees, await self._trunk.own.tree(self.rulings.tip)}
            if await self._is_orphan(bench, accepts):
                wanted = set()
            if bench in self._benches.begun():  # unless the work ended meanwhile
                await self._gates.end_unwanted(bench, wanted)
                self._benches.look_again()

    async def _is_orphan(self, bench: Bench, accepts: Accepts) -> bool:
        """Whether accept commands run on trunk that no unit has any more."""
        tip = self.rulings.tip
        if not self._gates.is_proving(bench, await self._trunk.own.tree(tip)):
            return False
        ruling = await self.rulings.of(tip)
        on = await self._case(tip, tip, ruling.rules)
        case = on(bench=bench)
        fits = [self._gates.fit(case, accept, proving=True) for accept in accepts()]
        return Fit.SAME not in fits

    async def _case(
        self, commit: str, parent: str, rules: Rules, unit: Unit | None = None
    ) -> OnBench:
        own = self._trunk.own
        is_trunk = unit is None and commit == parent
        trunk = parent if is_trunk else self.rulings.tip
        on = partial(
            Case,
            commit=commit,
            tree=await own.tree(commit),
            rules=rules,
            trunk=trunk,
            trunk_tree=await own.tree(trunk) if trunk else "",
        )
        if unit is None:
            return on
        return partial(on, unit=unit.id, stacked=parent != self.rulings.tip)

    async def _cases(
        self, commit: str, parent: str, rules: Rules, unit: Unit | None, accept: Sequence[str]
    ) -> tuple[OnBench, OnBench | None]:
        """Return the case, and the case below it if accept commands must first fail there."""
        on = await self._case(commit, parent, rules, unit)
        if unit is None or not accept or CardKind.ACCEPT in unit.approved:
            return on, None
        tree = await self._trunk.own.tree(parent)
        return partial(on, proof=(tree, *accept)), partial(on, commit=parent, tree=tree)

    def _fit(self, on: OnBench, below: OnBench | None, accept: Sequence[str], bench: Bench) -> Fit:
        """Return how the record on a bench fits the present judging."""
        fit = self._gates.fit(on(bench=bench), accept)
        if below is None:
            return fit
        return max(fit, self._gates.fit(below(bench=bench), accept, proving=True))

    async def _ungated(self, case: Case, accept: Sequence[str], unit: Unit | None) -> Ruled:
        """Judge without gates. Green if a person permitted this and the accept commands pass."""
        if unit is None or CardKind.NO_GATE not in unit.approved:
            return Ruled(ok=False, setup=line_cards.no_gate())
        if not accept:
            return Ruled(ok=True)
        proof = await _asked(partial(self._gates.prove, case, accept))
        if proof.failed is not None:
            return not_set_up(proof.failed)
        red = proof.red
        return Ruled(ok=not red, red=red, not_proven=bool(red))


def _may_stop(unit: Unit | None) -> bool:
    """Whether judging may stop after a red group.

    If a person lets the unit land although trunk is red, its other gates must be known too.
    """
    return unit is None or CardKind.TRUNK_RED not in unit.approved


async def _asked(ask: Ask) -> Judgement:
    """Call `ask` to judge. If gates are interrupted, call it again, at most TRIES times in all."""
    for _ in range(TRIES):
        judgement = await ask()
        if judgement.answer is not Answer.UNSETTLED:
            return judgement
    return replace(judgement, answer=Answer.SETUP, failed=_always(judgement.failed))


def _always(failed: SetupFailed | None) -> SetupFailed:
    """Return why the last of TRIES judgings was interrupted; None: only that is known."""
    if failed is None:
        sentence = (
            f"Gates were interrupted {TRIES} times in a row, by a program that they started "
            "or from outside, so there is no verdict."
        )
        return SetupFailed(sentence=sentence, suspect=Suspect.MACHINE)
    if failed.unconfined:
        return failed
    return replace(failed, sentence=f"{failed.sentence} This happened {TRIES} times in a row.")


def _ruled(judgement: Judgement) -> Ruled:
    if judgement.failed is not None:
        return not_set_up(judgement.failed)
    red = judgement.red
    not_proven = any(verdict.gate.startswith(ACCEPT) for verdict in red)
    seen = frozenset(verdict.gate for verdict in judgement.verdicts)
    return Ruled(ok=not red, red=red, not_proven=not_proven, seen=seen)


def _unproven(before: Judgement) -> Ruled:
    """Return the result if the accept commands did not fail on the commit below."""
    if before.failed is not None:
        # The commit below has no change of the unit.
        failed = before.failed
        if failed.suspect is Suspect.UNIT:
            failed = replace(failed, suspect=Suspect.MACHINE)
        return not_set_up(failed)
    return Ruled(ok=False, passed_before=_first_passing(before.verdicts))


def _first_passing(verdicts: Sequence[Verdict]) -> str:
    """Return the first accept command that passed; empty if all of them failed."""
    for verdict in verdicts:
        if verdict.succeeded:
            return verdict.command
    return ""
