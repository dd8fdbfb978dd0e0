"""Blame: decides what happens to a red candidate that is directly on trunk.

Invariant: a unit goes back only if it fails a gate that passes on trunk.
"""

from datetime import datetime

from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes, Refusal
from factory.judging.ruled import Ruled
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.people.causes import UNCONFINED
from factory.queue.candidate import Candidate
from factory.store.unit import EndReason, Unit


class Blame:
    """Decides whether the unit, trunk or the machine is to blame."""

    def __init__(self, *, trunk_judge: TrunkJudge, outcomes: Outcomes) -> None:
        self._trunk_judge = trunk_judge
        self._outcomes = outcomes

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
            trunk = self._trunk_judge.ruled(tip)
            cause = trunk.setup if trunk is not None else self._trunk_judge.breaks.card
            if cause is not None:
                self._outcomes.wait(unit, cause, at)
                return True
            if trunk is None:
                self._trunk_judge.start(group)
                return False
            red_on_trunk = {verdict.gate for verdict in trunk.red}
            if all(verdict.gate in red_on_trunk for verdict in ruled.red):
                self._outcomes.wait(unit, self._trunk_judge.card(trunk), at)
                return True
        reason = EndReason.NOT_PROVEN if ruled.not_proven else EndReason.GATE_RED
        self._outcomes.send_back(unit, Refusal(reason, ruled.sentence, red=ruled.red), at)
        return True

    def _setup_failed(self, unit: Unit, ruled: Ruled, tip: str, at: datetime) -> None:
        card = ruled.setup
        assert card is not None, "the setup did not fail"
        trunk = self._trunk_judge.ruled(tip)
        works_on_trunk = trunk is not None and trunk.ok
        if not works_on_trunk or card.cause == UNCONFINED:
            self._outcomes.wait(unit, card, at)
            return
        # Setup works on trunk, so the unit broke it.
        evidence = f"{card.question}\n\n{card.evidence}"
        refusal = Refusal(EndReason.GATE_RED, "its setup fails", said=evidence)
        self._outcomes.send_back(unit, refusal, at)
