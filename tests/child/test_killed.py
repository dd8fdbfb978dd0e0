"""Who ended a command: somebody else, factoryd, or the command itself."""

from datetime import UTC, datetime
from signal import SIGABRT, SIGHUP, SIGINT, SIGKILL, SIGSEGV, SIGTERM

import pytest

from factory.child.killed import killed_by
from factory.child.process import Cause, Exit
from factory.repo.underway import says_something


def ended(cause: Cause = "exited", *, code: int | None = None, by: int = 0) -> Exit:
    return Exit(cause=cause, code=code, signal=by, at=datetime.now(UTC))


@pytest.mark.parametrize("number", [SIGINT, SIGKILL, SIGTERM])
def test_a_signal_that_factoryd_did_not_send_came_from_somebody_else(number: int) -> None:
    assert killed_by(ended(by=number)) == killed_by(ended(code=128 + number)) == number
    assert not says_something(ended(by=number)), "the next daemon runs the gate again"


@pytest.mark.parametrize("number", [SIGSEGV, SIGABRT])
def test_a_program_that_crashes_was_not_killed(number: int) -> None:
    assert killed_by(ended(by=number)) == killed_by(ended(code=128 + number)) == 0
    assert says_something(ended(by=number))


def test_git_that_is_called_wrongly_was_not_killed() -> None:
    assert killed_by(ended(code=128 + SIGHUP)) == 0


@pytest.mark.parametrize("cause", ["timeout", "overran"])
def test_a_limit_of_factoryd_is_a_failure_of_the_command(cause: Cause) -> None:
    assert killed_by(ended(cause, by=SIGKILL)) == 0
    assert says_something(ended(cause, by=SIGKILL))


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_a_plain_exit_code_is_no_signal(code: int) -> None:
    assert killed_by(ended(code=code)) == 0
