"""The real agent CLIs in a whole line, confined where bubblewrap works, with a scripted model at the other end.

What each does alone is in test_agents_real.py. `make matrix` (FACTORY_MATRIX=all) adds the cells that take long.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from factory.store.records import Attempt, Card, CardKind
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import Line, files
from tests.acceptance.test_sandbox import bubblewrap
from tests.fake_model import (
    FakeModel,
    Step,
    fail,
    fake_model,
    garbage,
    hang,
    say,
    shell,
    stall,
    write_file,
)
from tests.real_agents import FEWER, KEYS, MODELS, NAMES, PATH, program, provide

pytestmark = pytest.mark.agents
long = pytest.mark.skipif("FACTORY_MATRIX" not in os.environ, reason="takes minutes: `make matrix`")

SANDBOX = "required" if bubblewrap() else "off"
PATIENCE_S = 100
RESUMES = {"claude", "codex", "opencode", "gemini"}
RED = "NOT-WHOLE-YET"
GATE = "! grep -rn BROKEN --include=*.txt . || { printf 'NOT-%s-YET' WHOLE; exit 1; }\n"
DONE = (write_file("fine.txt", "fine\n"), say("All done."))
SHORT = "[limits]\nfirst_event_s = 12\nsilence_s = 6\n"

PARTS = ("part-1", "part-2", "part-3", "part-4")  # units, each of which fills its file


def own_part(asked: str) -> Sequence[Step]:
    """The file of the unit that asks."""
    part = re.search(r"Fill (part-\d)", asked)
    return (write_file(f"{part[1] if part else 'none'}.txt", "fine\n"), say("All done."))


Script = Callable[[str], Sequence[Step]]


@dataclass
class Bench:
    """A line whose only agent is one real CLI, and the model that it talks to."""

    line: Line
    name: str
    model: FakeModel

    def drop(self, unit: str, body: str = "Do it.") -> None:
        model = f"model: {MODELS[self.name]}\n" if self.name in MODELS else ""
        self.line.drop_text(unit, f"---\n{model}---\n{body}\n")

    def drop_parts(self, count: int) -> Sequence[str]:
        """Units that get in nobody's way."""
        for unit in PARTS[:count]:
            self.drop(unit, f"Fill {unit}.")
        return PARTS[:count]

    def lands(self, unit: str, *ends: str) -> list[Attempt]:
        """Wait for it; its attempts, which ended so."""

        def look() -> bool:
            found = self.line.store.get(Unit, unit)
            return found is not None and found.state is UnitState.LANDED

        self.line.until(f"{unit} lands", look, seconds=PATIENCE_S)
        assert not ends or tuple(self.line.attempts(unit)) == ends
        return list(self.line.store.select(Attempt, unit=unit))

    def ends(self, unit: str) -> Attempt:
        """Wait until its first attempt has ended."""

        def look() -> Attempt | None:
            found = self.line.store.get(Attempt, unit, 1)
            return found if found and found.end else None

        return self.line.until(f"{unit} ends", look, seconds=PATIENCE_S)

    def asks(self, kind: CardKind) -> Card:
        def look() -> Card | None:
            return next((card for card in self.line.store.open(Card) if card.kind is kind), None)

        return self.line.until(f"a card {kind}", look, seconds=PATIENCE_S)

    def spent(self, unit: str) -> int:
        found = self.line.store.get(Unit, unit)
        assert found is not None
        return found.spent


@contextmanager
def bench(
    folder: Path, name: str, script: Script, *, settings: str = "", url: str = "", **environ: str
) -> Iterator[Bench]:
    """`settings` follow the agent in factory.toml; `url`: where the agent looks for the model instead."""
    program(name)
    contents = files(
        **{
            "conventions__gates__10-whole.sh": GATE,
            "fine.txt": "",
            "factory.toml": f'agent = "{name}"\n{settings}',
        }
    )
    contents |= {f"{part}.txt": "" for part in PARTS}  # aider writes to what it is shown only
    with fake_model(choose=script) as model:
        line = Line(folder, contents, sandbox=SANDBOX)
        line.environ |= {"PATH": os.pathsep.join([line.environment()["PATH"], PATH])}
        line.environ |= KEYS | FEWER | provide(name, url or model.url, line.home) | environ
        try:
            yield Bench(line.start(), name, model)
        finally:
            line.close()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """One of the six."""
    return str(request.param)


@pytest.fixture
def tooled(name: str) -> str:
    """One that runs tools."""
    if name == "aider":
        pytest.skip("aider runs no tools")
    return name


def test_what_is_red_is_told_to_a_second_attempt_which_lands(name: str, tmp_path: Path) -> None:
    def script(asked: str) -> Sequence[Step]:
        return DONE if RED in asked else (write_file("fine.txt", "BROKEN\n"), say("Done, I think."))

    with bench(tmp_path, name, script) as it:
        it.drop("one")

        first, second = it.lands("one", "gate_red", "submitted")

        assert it.line.git("show", "--format=", "--name-only", "main") == "fine.txt", (
            "and nothing that it left besides"
        )
        assert (first.resumed, second.resumed) == (False, False)
        if name != "aider":  # it tells no number that could be added
            assert {(each.tokens_input, each.tokens_output) for each in (first, second)} == {
                (2000, 100)
            }
        assert bool(first.session) is (name in RESUMES)
        assert first.cost_usd == pytest.approx(second.cost_usd)
        assert bool(first.cost_usd) is (name not in ("mini", "aider")), (
            "a model without a price, or no number"
        )


def test_an_answer_goes_to_the_session_that_asked(tooled: str, tmp_path: Path) -> None:
    asking = (
        shell(': asks; echo "Which colour?" > "$FACTORY_OUTBOX/question.md"'),
        say("I have asked."),
    )
    painting = (write_file("fine.txt", "cobalt\n"), say("Done."))

    def script(asked: str) -> Sequence[Step]:
        return painting if "cobalt" in asked and ": asks" not in asked else (*asking, *painting)

    with bench(tmp_path, tooled, script) as it:
        it.drop("one")
        it.line.answer(it.asks(CardKind.QUESTION), "cobalt")

        _, second = it.lands("one", "asked", "submitted")

        assert second.resumed is (": asks" in str(it.model.requests[-1])) is (tooled in RESUMES)
        assert (second.tokens_input, second.tokens_output) == (2000, 100)


@long
def test_a_refused_login_is_one_card_and_no_attempt(name: str, tmp_path: Path) -> None:
    logged_in = threading.Event()

    def script(asked: str) -> Sequence[Step]:
        return own_part(asked) if logged_in.is_set() else (fail(401, kind="authentication_error"),)

    with bench(tmp_path, name, script, settings="workers = 1\n") as it:
        units = it.drop_parts(2)
        card = it.asks(CardKind.RUNTIME)
        logged_in.set()
        it.line.answer(card, "Try again")

        ended = [str(each.reason) for unit in units for each in it.lands(unit)]

        assert ({*ended}, ended.count("submitted")) == ({"auth", "submitted"}, 2)
        assert [it.spent(unit) for unit in units] == [0, 0]
        assert it.line.store.open(Card) == []


def test_a_cli_that_is_killed_in_a_tool_leaves_nothing_and_its_unit_lands(
    tooled: str, tmp_path: Path
) -> None:
    killed = threading.Event()

    def script(_: str) -> Sequence[Step]:
        return DONE if killed.is_set() else (shell("sleep 86397"), say("never"))

    with bench(tmp_path, tooled, script) as it:
        it.drop("one")

        def running(*without: str) -> dict[int, str]:
            return {
                pid: argv
                for pid, argv in it.line.left().items()
                if not any(word in argv for word in without)
            }

        def sleeps() -> list[int]:
            return [pid for pid, argv in running().items() if argv.startswith("sleep 86397")]

        it.line.until("it is in its tool", sleeps, seconds=PATIENCE_S)
        killed.set()
        tools, clis = sleeps(), running("factory.daemon", "factory.child.shim", "bwrap", "86397")
        assert clis
        for pid in clis:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        assert it.ends("one").reason == "crashed"
        assert not {*tools, *clis} & {*it.line.left()}
        it.lands("one", "crashed", "submitted")


@long
def test_four_at_once_from_a_cold_home_land(name: str, tmp_path: Path) -> None:
    with bench(tmp_path, name, own_part, settings="workers = 4\n") as it:
        ended = {unit: [str(each.reason) for each in it.lands(unit)] for unit in it.drop_parts(4)}

        print(f"\n{name}: {ended}")
        assert all(reasons[-1] == "submitted" for reasons in ended.values())


@long
def test_a_prompt_of_a_megabyte_arrives(name: str, tmp_path: Path) -> None:
    with bench(tmp_path, name, lambda _: DONE) as it:
        it.drop("one", "Here is a log.\n" + "0123456789abcde\n" * 62_000 + "THE-END-OF-IT")

        it.lands("one", "submitted")

        arrived = "THE-END-OF-IT" in str(it.model.requests[0])
        assert arrived is (name != "mini"), (
            "it takes its prompt as an argument only, and is told to read the file"
        )


@long
def test_trouble_of_the_provider_costs_no_attempt_and_no_card(name: str, tmp_path: Path) -> None:
    for status in (429, 503):
        good = time.monotonic() + 8

        def script(_: str, status: int = status, good: float = good) -> Sequence[Step]:
            return DONE if time.monotonic() > good else (fail(status, kind="overloaded_error"),)

        folder = tmp_path / str(status)
        folder.mkdir()
        with bench(folder, name, script) as it:
            it.drop("one")

            ended = [each.reason for each in it.lands("one")]

            print(f"\n{name} {status}: {ended}")
            assert {*ended} <= {"limit", "submitted"}
            assert (it.spent("one"), it.line.store.select(Card)) == (0, [])


@long
def test_a_network_that_is_down_costs_no_attempt(name: str, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    with bench(tmp_path, name, lambda _: DONE, url=nobody) as it:
        it.drop("one")

        ended = it.ends("one")

        print(f"\n{name}: {ended.detail}")
        assert (ended.reason, it.spent("one"), it.model.requests) == ("limit", 0, [])
        it.line.factory("cancel", "one")
        it.line.unit("one", UnitState.CANCELLED)


@long
def test_an_hour_that_it_would_wait_for_in_silence_costs_no_attempt(tmp_path: Path) -> None:
    good = time.monotonic() + 30

    def script(_: str) -> Sequence[Step]:
        limited = fail(429, kind="rate_limit_exceeded", headers={"retry-after": "3600"})
        return DONE if time.monotonic() > good else (limited,)

    with bench(tmp_path, "opencode", script) as it:
        it.drop("one")

        ended = it.lands("one", "limit", "submitted")

        assert (it.spent("one"), ended[0].detail.endswith('rate_limit_exceeded"')) == (0, True)


LIMITS: dict[str, Callable[[float], tuple[Step, dict[str, str]]]] = {
    "claude": lambda reset: (
        fail(
            429,
            kind="rate_limit_error",
            headers={
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": str(int(reset)),
                "anthropic-ratelimit-unified-representative-claim": "five_hour",
            },
        ),
        {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy", "ANTHROPIC_API_KEY": ""},
    ),
    "codex": lambda reset: (
        fail(429, kind="usage_limit_reached", plan_type="plus", resets_at=int(reset)),
        {},
    ),
    "gemini": lambda reset: (
        fail(
            429,
            kind=f"You exceeded your current quota. Suggested retry after {int(reset - time.time())}s",
        ),
        {},
    ),
}


@long
@pytest.mark.parametrize("limited", LIMITS)
def test_a_usage_limit_is_waited_for_in_silence_and_the_session_goes_on(
    limited: str, tmp_path: Path
) -> None:
    reset = time.time() + 75  # codex tells whole minutes
    step, environ = LIMITS[limited](reset)

    def script(asked: str) -> Sequence[Step]:
        return own_part(asked) if time.time() >= int(reset) // 60 * 60 else (step,)

    with bench(tmp_path, limited, script, **environ) as it:
        one, two = it.drop_parts(2)
        assert it.ends(one).reason == "limit"
        asked = len(it.model.requests)
        assert re.search("(waits|is paused) until .*: ", it.line.factory("status")[1])

        it.lands(one, "limit", "submitted")
        it.lands(two)

        assert len(it.model.requests) - asked <= 6
        assert (it.spent(one), it.spent(two), it.line.store.select(Card)) == (0, 0, [])


@long
@pytest.mark.parametrize("how", [hang, stall, garbage])
def test_a_model_that_says_nothing_more_is_ended_in_time_and_named(
    name: str, how: Callable[[], Step], tmp_path: Path
) -> None:
    good = threading.Event()

    def script(_: str) -> Sequence[Step]:
        return DONE if good.is_set() else (how(),)

    with bench(tmp_path, name, script, settings=SHORT) as it:
        it.drop("one")
        ended = it.ends("one")
        print(f"\n{name} {how.__name__}: {ended.reason}: {ended.detail}")
        good.set()

        assert ended.reason in ("silent", "crashed", "no_progress", "limit", "empty")
        assert ended.detail
        it.lands("one")
