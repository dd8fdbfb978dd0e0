"""The judge's results: about a commit, and about accept commands."""

from dataclasses import dataclass

from factory.ground.sentences import shown
from factory.judging.setups import SetupFailed, Suspect
from factory.people import line_cards
from factory.people.causes import Ask
from factory.store.records import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """The judge's result for one commit."""

    ok: bool
    red: tuple[Verdict, ...] = ()
    setup: Ask | None = None  # set if there is no environment, or if the rules are wrong
    suspect: Suspect = Suspect.MACHINE  # what made `setup` fail
    passed_before: str = ""  # the accept command that passes even on the commit below
    not_proven: bool = False  # whether an accept command is red
    seen: frozenset[str] = frozenset()  # the gates that have a verdict, red or green

    @property
    def sentence(self) -> str:
        """The result as one sentence for a person."""
        if not self.red:
            return "green" if self.ok else "not judged"
        first = self.red[0]
        command = f"`{first.command}`"
        gate = f"gate {first.gate}"
        if first.rewrote:
            what = command if self.not_proven else gate
            return f"{what} changes what it judges: {shown(sorted(first.rewrote))}"
        return f"{command} does not pass" if self.not_proven else f"{gate} is red"

    @property
    def gates_red(self) -> list[str]:
        """The names of the gates that are red."""
        return [verdict.gate for verdict in self.red]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether the accept commands fail on trunk. They must fail before the work is done."""

    commit: str
    passing: str = ""  # the first command that passes on trunk
    endless: str = ""  # the first command that did not end within its time limit
    setup: Ask | None = None


def not_set_up(failed: SetupFailed) -> Ruled:
    """Return the result for a commit without an environment."""
    return Ruled(ok=False, setup=setup_card(failed), suspect=failed.suspect)


def setup_card(failed: SetupFailed) -> Ask:
    """Return the card that asks a person about a missing environment."""
    if failed.unconfined:
        return line_cards.unconfined(failed.sentence, failed.log)
    return line_cards.setup_failed(sentence=failed.sentence, tail=failed.tail, log=failed.log)
