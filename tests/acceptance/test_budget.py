"""Money: what is spent never exceeds a cap, whatever starts together, runs over, is killed, or tells nothing."""

import contextlib
import os
import signal
import sys

import pytest

from factory.dispatch import budget
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import AGENT, Line
from tests.git_repo import git

METERED = f"""
command = ["{sys.executable}", "-I", "-S", ["-X", "model={{model}}"], "{AGENT}", "{{prompt_file}}"]
stop = {{ grace_s = 0.3 }}
[set]
SCRIPTED_JSONL = "1"
[output]
format = "jsonl"
done_if = "end"
[output.usage]
mode = "step"
input = "step:in"
output = "step:out"
"""
COST = 'cost = "step:usd"\n'
PRICE = 'price = {"big-*" = [10.0, 20.0], "*" = [1.0, 2.0]}\n'
STEP = 'print(\'{{"type":"step","usd":{usd},"in":{tokens},"out":0}}\', flush=True); '


def metered(line: Line, config: str, *, usage: str = COST) -> Line:
    """Start the line with an agent that tells what it uses, and with these caps."""
    line.commit(
        {
            "conventions/runtimes/metered.toml": METERED + usage,
            "factory.toml": f'agent = "metered"\nworkers = 8\n[budget]\n{config}',
        }
    )
    return line.start()


def uses(usd: float, code: str, *, tokens: int = 0) -> str:
    """The work of an agent that uses so much, and then does that."""
    return STEP.format(usd=usd, tokens=tokens) + code


def charged(line: Line) -> float:
    """What all attempts are charged with."""
    return budget.total(map(budget.charge, line.store.select(Attempt))).usd


def test_of_eight_workers_against_a_cap_that_pays_for_three_and_a_half_units_three_land_and_one_card_comes(
    cold: Line,
) -> None:
    metered(cold, "day_usd = 3.5\n")
    for number in range(8):
        cold.drop(f"u{number}", uses(1.0, f"write('{number}.txt', 'fine')"))

    card = cold.card(CardKind.BUDGET, count=5)

    cold.until("three have landed", lambda: len(cold.on_trunk()) == 3)
    assert len(cold.store.select(Attempt)) == 3
    assert charged(cold) == 3.0
    assert card.question.startswith("$3.00 of today's $3.50 are spent")
    assert cold.status()["budget"] | {"day": ""} == {
        **{"day": "", "spent_usd": 3.0, "reserved_usd": 0.0, "estimated": False, "spent_tokens": 0},
        **{
            "reserved_tokens": 0,
            "attempt_usd": None,
            "unit_usd": None,
            "day_usd": 3.5,
            "attempt_tokens": None,
        },
        **{"unit_tokens": None, "day_tokens": None, "regardless": False},
        **{"spent_minutes": pytest.approx(0.05, abs=0.05), "reserved_minutes": 0.0},
        **{"unit_minutes": None, "day_minutes": None},
    }
    assert "today $3.00 of $3.50 spent, $0.00 held back" in cold.factory("status")[1]


def test_a_day_goes_on_regardless_or_with_a_higher_cap_and_the_card_closes(cold: Line) -> None:
    metered(cold, "day_usd = 1.5\n")
    for name in ("one", "two", "three"):
        cold.drop(name, uses(1.0, f"write('{name}.txt', 'fine')"))
    cold.card(CardKind.BUDGET, count=2)

    cold.configure('agent = "metered"\n[budget]\nday_usd = 2.5\n')
    cold.until("two have landed", lambda: len(cold.on_trunk()) == 2)
    cold.answer(cold.card(CardKind.BUDGET, count=1), "Remove the limit for today")

    for name in ("one", "two", "three"):
        cold.unit(name)
    assert cold.store.open(Card) == []
    assert charged(cold) == 3.0
    assert "no limit today, by your answer" in cold.factory("status")[1]


def test_a_unit_that_runs_over_its_cap_is_ended_in_flight_and_its_work_is_kept_for_when_it_may_go_on(
    cold: Line,
) -> None:
    metered(cold, "unit_usd = 1.0\n")
    code = f"""
        if attempt == 1:
            write('half.txt', 'half')
            for step in range(9):
                {STEP.format(usd=0.3, tokens=0)}
                time.sleep(1.2)
        {STEP.format(usd=0.3, tokens=0)}
        write('half.txt', Path('half.txt').read_text() + ' and whole')
        """
    cold.drop("greedy", code)

    card = cold.card(CardKind.BUDGET)

    assert cold.attempts("greedy") == ["over_budget"]
    assert charged(cold) <= 1.0
    assert cold.unit("greedy", UnitState.HELD).spent == 1
    assert git(cold.places.git, "show", "refs/factory/attempts/greedy/1:half.txt") == "half"
    cold.answer(card, "Give it as much again")
    landed = cold.unit("greedy")
    assert cold.git("show", f"{landed.commit}:half.txt") == "half and whole"


def test_an_agent_that_needs_more_than_was_held_back_gets_it_while_there_is_money(
    cold: Line,
) -> None:
    metered(cold, "day_usd = 50\n")
    go = cold.folder / "go"
    cold.drop("big", uses(9.0, f"hold({str(go)!r}); write('big.txt', 'fine')"))

    noted = cold.event(Event.ATTEMPT_NOTED, unit="big")
    cold.until("it has more", lambda: cold.store.select(Attempt, unit="big")[0].reserved_usd >= 9.0)
    go.touch()

    cold.unit("big")
    assert noted.attempt == 1
    assert charged(cold) == 9.0


def test_where_only_tokens_are_told_they_are_priced_and_it_says_about(cold: Line) -> None:
    metered(cold, "day_usd = 5\n", usage=PRICE)
    cold.drop("cheap", uses(0, "write('cheap.txt', 'fine')", tokens=100_000))
    cold.drop("dear", uses(0, "write('dear.txt', 'fine')", tokens=100_000), model="big-one")

    for name in ("cheap", "dear"):
        cold.unit(name)

    assert charged(cold) == pytest.approx(1.1)
    assert "≈ $1.00" in cold.factory("show", "dear")[1]
    assert "today ≈$1.10 of $5.00 spent" in cold.factory("status")[1]


def test_a_cap_in_tokens_holds_like_one_in_dollars(cold: Line) -> None:
    metered(cold, "unit_tokens = 1000\nday_tokens = 2500\n", usage="")
    for name in ("one", "two", "three"):
        cold.drop(name, uses(0, f"write('{name}.txt', 'fine')", tokens=1000))

    card = cold.card(CardKind.BUDGET, count=1)

    cold.until("two have landed", lambda: len(cold.on_trunk()) == 2)
    assert card.question.startswith("2,000 tokens of today's 2,500 tokens are spent")


def test_killed_at_work_nothing_that_was_spent_is_forgotten_and_nothing_stays_held_back(
    cold: Line,
) -> None:
    metered(cold, "day_usd = 5\n")
    cold.drop("spends", uses(1.0, "hold('/never')") + "\n", attempts=1)
    cold.event(Event.ATTEMPT_NOTED, unit="spends")
    cold.until(
        "it told", lambda: charged(cold) >= 1.0 and cold.status()["budget"]["spent_usd"] == 1.0
    )
    cold.kill()
    for pid in cold.left():  # the machine went down
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    cold.start()

    cold.event(Event.ATTEMPT_ENDED, unit="spends", reason="lost")
    assert cold.store.select(Attempt, unit="spends")[0].cost_usd == 1.0
    cold.factory("cancel", "spends")
    cold.until("it has ended", lambda: all(each.end for each in cold.store.select(Attempt)))
    money = cold.status()["budget"]
    assert (money["reserved_usd"], money["spent_usd"] >= 1.0) == (0.0, True)


def test_an_attempt_that_tells_nothing_is_charged_with_what_was_held_back_for_it(
    cold: Line,
) -> None:
    metered(cold, "unit_usd = 1.0\nday_usd = 1.5\n")
    for name in ("mute-one", "mute-two"):
        cold.drop(name, f"write('{name}.txt', 'fine')")

    cold.card(CardKind.BUDGET, count=1)

    cold.until("one has landed", lambda: len(cold.on_trunk()) == 1)
    assert charged(cold) == 1.0
    (landed,) = cold.on_trunk()
    assert "≈ $1.00" in cold.factory("show", landed)[1]


def test_a_program_that_never_started_is_charged_with_nothing(cold: Line) -> None:
    (cold.bin / "prog").write_text("#!/no/such/interpreter\n")
    (cold.bin / "prog").chmod(0o755)
    cold.commit({"conventions/runtimes/prog.toml": 'command = ["prog"]\n'})
    cold.configure_before('agent = "prog"\n[budget]\nday_usd = 5\n')
    cold.start()
    cold.drop("never", "pass")

    cold.card(CardKind.RUNTIME)

    assert charged(cold) == 0


def test_a_cap_that_is_lowered_ends_what_has_used_more_and_one_that_is_raised_lets_it_go_on(
    cold: Line,
) -> None:
    metered(cold, "unit_usd = 9\n")
    go = cold.folder / "go"
    cold.drop(
        "dear",
        uses(1.0, f"write('dear.txt', 'half'); hold({str(go)!r}); write('dear.txt', 'whole')"),
    )
    cold.until("it told", lambda: cold.status()["budget"]["spent_usd"] == 1.0)

    cold.configure('agent = "metered"\n[budget]\nunit_usd = 0.5\n')
    card = cold.card(CardKind.BUDGET)

    assert cold.attempts("dear") == ["over_budget"]
    code, said = cold.factory("retry", "dear")
    assert (code, f"answer {card.id}" in said) == (3, True)
    go.touch()
    cold.configure('agent = "metered"\n[budget]\nunit_usd = 9\n')
    landed = cold.unit("dear")
    assert cold.git("show", f"{landed.commit}:dear.txt") == "whole"
    assert cold.store.open(Card) == []


def test_a_unit_that_has_used_its_minutes_is_ended_and_held_with_its_work(cold: Line) -> None:
    metered(cold, "unit_minutes = 0.05\nday_minutes = 60\n")
    cold.drop(
        "slow",
        uses(
            0.1,
            "write('slow.txt', 'half' if attempt == 1 else 'whole'); attempt == 1 and hold('/no')",
        ),
    )

    card = cold.card(CardKind.BUDGET)

    assert cold.attempts("slow") == ["timed_out"]
    assert card.question.startswith("slow has used 0.1 minutes of its limit of 0.1 minutes")
    assert "0.1 minutes of 60.0 minutes spent, 0.0 minutes held back" in cold.factory("status")[1]
    assert git(cold.places.git, "show", "refs/factory/attempts/slow/1:slow.txt") == "half"
    cold.answer(card, "Give it as much again")
    landed = cold.unit("slow")
    assert cold.git("show", f"{landed.commit}:slow.txt") == "whole"


def test_agents_that_start_together_stay_within_the_minutes_of_the_day(cold: Line) -> None:
    metered(cold, "day_minutes = 100\n")
    go = cold.folder / "go"
    for name in ("one", "two", "three"):
        cold.drop(name, uses(0.1, f"hold({str(go)!r}); write('{name}.txt', 'fine')"))
    cold.until("two run", lambda: cold.status()["budget"]["reserved_minutes"] == 90.0)

    def waits() -> bool:
        whys = [cold.why(unit.id) for unit in cold.store.select(Unit, state=UnitState.READY)]
        return whys == ["the rest of today's budget is reserved for running attempts"]

    cold.until("the third waits, and says why", waits)
    go.touch()
    for name in ("one", "two", "three"):
        cold.unit(name)
    assert cold.status()["budget"]["spent_minutes"] < 3


def test_a_command_needs_no_money(cold: Line) -> None:
    metered(cold, "day_usd = 0.1\n")
    cold.drop("agent", uses(0.1, "write('a.txt', 'fine')"))
    cold.unit("agent")
    cold.drop_text("free", "---\nrun: echo fine > free.txt\n---\nRun.\n")

    cold.unit("free")

    assert charged(cold) == 0.1
