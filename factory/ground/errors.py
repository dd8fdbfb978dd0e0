"""Everything factoryd raises on purpose, as one tree; `exit_code` is what a command ends with.

A sentence says what happened, what the factory did about it, and what the reader can do.
"""

from collections.abc import Iterable


class FactoryError(Exception):
    """A refusal or failure with a sentence for a person."""

    exit_code = 1


class UsageError(FactoryError):
    """What was asked for is not of the right form."""

    exit_code = 2


class RefusedByState(FactoryError):
    """A well-formed request that the present state does not allow."""

    exit_code = 3


class NotYet(UsageError):
    """The contract names it and no released version has built it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not yet: {what}")


class ConfigError(UsageError):
    """factory.toml, a gate file or a runtime file is wrong: says where and the correct form."""


class TaskFileError(UsageError):
    """A task file is wrong; `line` is 1-based, 0 where no line is to blame."""

    def __init__(self, reason: str, *, line: int = 0, form: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.form = form


class RepositoryError(FactoryError):
    """The user's repository cannot be worked with; the sentence says what to do."""


class GitError(FactoryError):
    """A git command failed in a way that no rule foresees."""

    def __init__(self, argv: tuple[str, ...], code: int, stderr: str) -> None:
        super().__init__(f"git {' '.join(argv)[:200]} ended with {code}: {stderr.strip()[:600]}")
        self.argv = argv
        self.code = code
        self.stderr = stderr


class TooLong(GitError):
    """A git command reached its limit. `left`: it could not be ended and may still run."""

    def __init__(
        self, argv: tuple[str, ...], code: int, stderr: str, *, left: bool = False
    ) -> None:
        super().__init__(argv, code, stderr)
        self.left = left


class TooMuch(GitError):
    """A git command printed more than its bound, and was ended. `out`: how its output began."""

    def __init__(self, argv: tuple[str, ...], code: int, out: bytes, most: int) -> None:
        super().__init__(
            argv, code, f"it printed more than {most >> 20} MiB, so the factory ended it"
        )
        self.out = out


class StoreError(FactoryError):
    """The store cannot be opened or is damaged."""


class NoRoom(FactoryError):
    """A disk is full; what the factory wanted to write waits for room."""


class DamagedStore(StoreError):
    """The store's file is damaged, missing or foreign; `factory doctor --rebuild` mends it."""


class Fenced(FactoryError):
    """An attempt that is no longer the unit's newest tried to change something."""


class Deposed(BaseException):
    """Another daemon has taken over. No Exception: no broad `except` may keep this one running."""

    exit_code = 3

    def __init__(
        self, why: str = "Another factoryd uses the store, or the store is gone: this daemon stops."
    ) -> None:
        super().__init__(why)


class IllegalTransition(FactoryError):
    """A state change that the table in unit.py lacks."""

    def __init__(self, unit: str, current: str, to: str) -> None:
        super().__init__(f"unit {unit} cannot go from {current} to {to}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `: did you mean NAME?` for an unknown word; "" if no known one is similar."""
    from difflib import get_close_matches  # only a mistake pays for this import

    names = {name.casefold(): name for name in known}
    near = [name for name in names if name.endswith(f".{word}")]
    if not near:
        near = get_close_matches(word.casefold(), names, n=1)
    return f": did you mean {names[near[0]]}?" if near else ""


def first_of(error: Exception) -> Exception:
    """Return the error itself, or the first one of a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
