"""All exceptions that factoryd raises on purpose. `exit_code`: the exit code of a command.

Each message says what happened, how factoryd reacted, and what the reader can do.
"""

from collections.abc import Iterable, Iterator


class FactoryError(Exception):
    """A refusal or a failure, with a sentence for a person."""

    exit_code = 1


class UsageError(FactoryError):
    """The user's command has the wrong form."""

    exit_code = 2


class RefusedByState(FactoryError):
    """The present state does not allow a well-formed request."""

    exit_code = 3


class NotYet(UsageError):
    """The user asked for a documented feature that no release has yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not yet: {what}")


class ConfigError(UsageError):
    """factory.toml, a gate or a runtime file is wrong: the message says where, and how."""


class TaskFileError(UsageError):
    """A task file is wrong. `line` counts from 1; 0 means that the error has no single line."""

    def __init__(self, reason: str, *, line: int = 0, form: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.form = form


class RepositoryError(FactoryError):
    """factoryd cannot work with the user's repository; the message says what to do."""


class GitError(FactoryError):
    """A git command failed in an unexpected way."""

    def __init__(self, argv: tuple[str, ...], code: int, stderr: str) -> None:
        super().__init__(f"git {' '.join(argv)[:200]} ended with {code}: {stderr.strip()[:600]}")
        self.argv = argv
        self.code = code
        self.stderr = stderr


class TooLong(GitError):
    """A git command reached its time limit. `left`: factoryd could not end it; it may run on."""

    def __init__(
        self, argv: tuple[str, ...], code: int, stderr: str, *, left: bool = False
    ) -> None:
        super().__init__(argv, code, stderr)
        self.left = left


class TooMuch(GitError):
    """A git command printed too much, so factoryd ended it. `out`: the start of its output."""

    def __init__(self, argv: tuple[str, ...], code: int, out: bytes, most: int) -> None:
        super().__init__(
            argv, code, f"it printed more than {most >> 20} MiB, so the factory ended it"
        )
        self.out = out


class StoreError(FactoryError):
    """The store cannot be opened or is damaged."""


class NoRoom(FactoryError):
    """A disk is full; factoryd waits until the disk has room again and then writes."""


class DamagedStore(StoreError):
    """The store's file is damaged, missing or foreign; `factory doctor --rebuild` repairs it."""


class Fenced(FactoryError):
    """An attempt tried to change something, but the unit has a newer attempt."""


class Deposed(BaseException):
    """Another daemon has taken over.

    It is not an Exception, so that no broad `except` keeps this daemon running.
    """

    exit_code = 3

    def __init__(
        self, why: str = "Another factoryd uses the store, or the store is gone: this daemon stops."
    ) -> None:
        super().__init__(why)


class IllegalTransition(FactoryError):
    """The table in unit.py does not allow this change of state."""

    def __init__(self, unit: str, current: str, to: str) -> None:
        super().__init__(f"unit {unit} cannot go from {current} to {to}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `: did you mean NAME?` for an unknown word; "" if no known word is similar."""
    # imported here, so that only a wrong name costs the time of this import
    from difflib import get_close_matches

    names = {name.casefold(): name for name in known}
    near = [name for name in names if name.endswith(f".{word}")]
    if not near:
        near = get_close_matches(word.casefold(), names, n=1)
    return f": did you mean {names[near[0]]}?" if near else ""


def first_of(error: BaseException) -> BaseException:
    """Return the error itself; of a group of errors, return the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, the errors inside a group, and the causes of each error."""
    yield error
    below = (*getattr(error, "exceptions", ()), error.__cause__, error.__context__)
    for each in below:
        if each is not None:
            yield from causes(each)
