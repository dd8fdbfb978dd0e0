"""Blame: decides what happens to a red candidate that is directly on trunk.

Invariant: a unit goes back only if it fails a gate that passes on trunk.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes, Refusal
from factory.judging.ruled import Ruled
from factory.judging.setups import Suspect
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.queue.candidate import Candidate
from factory.queue.pairs import Pairs
from factory.queue.setbacks import Setbacks
from factory.store.records import Verdict
from factory.store.unit import EndReason, Unit


class Blame:
    """Decides whether the unit, trunk or the machine is to blame."""

    def __init__(
        self,
        *,
        trunk_judge: TrunkJudge,
        outcomes: Outcomes,
        setbacks: Setbacks,
        pairs: Pairs,
    ) -> None:
        self._trunk_judge = trunk_judge
        self._outcomes = outcomes
        self._setbacks = setbacks
        self._pairs = pairs

    def settle(
        self,
        candidate: Candidate,
        ruled: Ruled,
        tip: str,
        group: TaskGroup,
        at: datetime,
    ) -> bool:
        """Send the unit back, hold it or let it wait; False: trunk must be judged first."""
        unit = candidate.unit
        if ruled.setup is not None:
            self._setup_failed(unit, ruled, tip, at)
            return True
        if ruled.passed_before:
            self._outcomes.hold(unit, words.already_accepted(unit, ruled.passed_before), at)
            return True
        if ruled.red and not ruled.not_proven:
            return self._red(unit, ruled, tip, group, at)
        self._blame(unit, EndReason.NOT_PROVEN, ruled, tip, at)
        return True

    def _red(self, unit: Unit, ruled: Ruled, tip: str, group: TaskGroup, at: datetime) -> bool:
        """Blame the unit for red gates that are green on trunk; False: trunk is judged first."""
        trunk = self._trunk_judge.ruled(tip)
        cause = trunk.setup if trunk is not None else self._trunk_judge.breaks.card
        if cause is not None:
            self._outcomes.wait(unit, cause, at)
            return True
        if trunk is None:
            self._trunk_judge.start(group)
            return False
        others = [verdict for verdict in ruled.red if verdict.gate not in trunk.gates_red]
        if not others:
            self._outcomes.wait(unit, self._trunk_judge.card(trunk), at)
            return True
        own = tuple(each for each in others if trunk.ok or each.gate in trunk.seen)
        if not own:
            return self._look_further(unit, others, group, at)
        self._blame(unit, EndReason.GATE_RED, replace(ruled, red=own), tip, at)
        return True

    def _look_further(
        self, unit: Unit, red: Sequence[Verdict], group: TaskGroup, at: datetime
    ) -> bool:
        """Run gates on trunk that the judging of a red trunk did not reach."""
        cause = self._trunk_judge.breaks.card
        if cause is not None:
            self._outcomes.wait(unit, cause, at)
            return True
        self._trunk_judge.start_further([verdict.gate for verdict in red], group)
        return False

    def _blame(self, unit: Unit, reason: EndReason, ruled: Ruled, tip: str, at: datetime) -> None:
        self._pairs.refuse(unit, Refusal(reason, ruled.sentence, red=ruled.red), tip, at)

    def _setup_failed(self, unit: Unit, ruled: Ruled, tip: str, at: datetime) -> None:
        """Blame the unit if its change broke the setup; otherwise try again, or wait."""
        card = ruled.setup
        assert card is not None, "the setup did not fail"
        trunk = self._trunk_judge.ruled(tip)
        works_on_trunk = trunk is None or trunk.setup is None
        if ruled.suspect is Suspect.MACHINE or not works_on_trunk:
            self._outcomes.wait(unit, card, at)
            return
        evidence = f"{card.question}\n\n{card.evidence}"
        if ruled.suspect is Suspect.UNIT and trunk is not None and trunk.ok:
            refusal = Refusal(EndReason.GATE_RED, "its setup fails", said=evidence)
            self._outcomes.send_back(unit, refusal, at)
            return
        self._setbacks.keep_trying(unit, card, at)
