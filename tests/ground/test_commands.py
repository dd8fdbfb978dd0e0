"""How long a git command may take, and what is said of one that is slow, by a clock of the test's."""

import pytest

from factory.ground.commands import LEAST_S, SLOW_S, TIMES, Commands, kind_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def commands(clock: Clock) -> Commands:
    return Commands(clock)


def took(commands: Commands, clock: Clock, seconds: float, *argv: str) -> None:
    with commands.running(argv):
        clock.now += seconds


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (("add", "-A"), "add"),
        (("-c", "fetch.pruneTags=false", "fetch", "-q"), "fetch"),
        (("--attr-source=abc", "merge-tree", "x"), "merge-tree"),
        ((), ""),
    ],
)
def test_the_kind_of_a_command_is_its_subcommand(argv: tuple[str, ...], kind: str) -> None:
    assert kind_of(argv) == kind


def test_a_kind_may_take_a_minute_and_twenty_times_its_slowest_so_far(
    commands: Commands, clock: Clock
) -> None:
    took(commands, clock, 2, "add")
    took(commands, clock, 1, "add")

    assert commands.limit("add") == LEAST_S + TIMES * 2
    assert commands.limit("fetch") == LEAST_S


def test_a_command_that_was_ended_at_its_limit_gets_its_kind_no_more_than_that_again(
    commands: Commands, clock: Clock
) -> None:
    took(commands, clock, LEAST_S, "add")
    assert commands.limit("add") == 2 * LEAST_S

    took(commands, clock, 2 * LEAST_S, "add")
    assert commands.limit("add") == 3 * LEAST_S


def test_one_that_broke_teaches_nothing(commands: Commands, clock: Clock) -> None:
    def breaks() -> None:
        with commands.running(["add"]):
            clock.now += 30
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks()

    assert commands.limit("add") == LEAST_S


def test_a_limit_that_is_given_holds(commands: Commands, clock: Clock) -> None:
    with commands.running(["merge"], 300) as one:
        clock.now += 100

        assert commands.left(one) == 200


def test_a_slow_command_is_said_with_pid_and_words_until_it_ends(
    commands: Commands, clock: Clock
) -> None:
    heard: list[list[str]] = []
    commands.tell = lambda: heard.append(commands.slow)

    with commands.running(["add", "-A"]) as one:
        one.started(None)(4711)
        clock.now += SLOW_S
        commands.left(one)
        clock.now += 1
        commands.left(one)
        clock.now += 1
        commands.left(one)

    said = "git add (pid 4711) has run for 11 s; the factory ends it after 60 s: git add -A"
    assert heard == [[said], []]


def test_what_its_kind_often_takes_is_not_slow(commands: Commands, clock: Clock) -> None:
    took(commands, clock, 30, "add")

    with commands.running(["add"]) as one:
        one.started(None)(4711)
        clock.now += 60
        commands.left(one)

        assert commands.slow == []


def test_in_a_hurry_each_command_has_so_long_and_what_runs_is_said_at_once(
    commands: Commands, clock: Clock
) -> None:
    with commands.running(["add"]) as one:
        one.started(None)(4711)
        clock.now += 30
        commands.hurry(10)

        assert commands.left(one) == 10
        clock.now += 2
        assert commands.left(one) == 8
        assert commands.slow == [
            "git add (pid 4711) has run for 30 s; the factory ends it after 40 s: git add"
        ]

    with commands.running(["gc"], 300) as later:
        clock.now += 4
        assert commands.left(later) == 6


def test_a_hurry_that_is_over_leaves_no_trace(commands: Commands, clock: Clock) -> None:
    with commands.hurried(5), commands.running(["add"]) as one:
        assert commands.left(one) == 5
        clock.now += 5

    assert commands.limit("add") == LEAST_S + 5
    with commands.running(["fetch"]) as one:
        assert commands.left(one) == LEAST_S
