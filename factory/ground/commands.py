"""The git commands that this process runs, how long each kind took, and how long it may take.

Invariant: every command has a time limit. The caller gives the limit, or factoryd computes it from
the time that earlier commands of the same kind took.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

LEAST_S = 60.0  # the smallest limit, even if all commands of the same kind were faster
TIMES = 20  # the limit is so many times the slowest command of the same kind
# `status` shows a command that takes longer than this and twice as long as any of its kind
SLOW_S = 10.0
SHOWN = 100  # the most characters of a command in a sentence


@dataclass(slots=True, eq=False)
class Running:
    """A running command."""

    kind: str
    command: str
    begun: float
    limit: float  # seconds
    pid: int = 0  # 0: not started yet
    said: str = ""  # the sentence about the command, once it is slow

    def started(self, then: Callable[[int], None] | None) -> Callable[[int], None]:
        """Return a function that stores the pid and then passes the pid to `then`."""

        def note(pid: int) -> None:
            self.pid = pid
            if then is not None:
                then(pid)

        return note

    @property
    def ended(self) -> str:
        """The sentence that says that factoryd ended the command."""
        return f"it took too long, so the factory ended it (pid {self.pid}). "


class Commands:
    """All running commands. Only the event loop's thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slowest: dict[str, float] = {}
        self._running: list[Running] = []
        self._hurried = math.inf  # the most seconds for any command, counted from `_since`
        self._since = 0.0
        # `Commands` calls this function when the result of `slow` has changed.
        self.tell: Callable[[], None] = _nobody_listens

    @contextmanager
    def running(self, argv: Sequence[str], seconds: float = 0) -> Iterator[Running]:
        """List a command as running inside the block. `seconds`: its limit; 0: its kind's limit."""
        kind = kind_of(argv)
        limit = seconds or self.limit(kind)
        one = Running(kind, f"git {' '.join(argv)}"[:SHOWN], self._clock(), limit)
        self._running.append(one)
        try:
            yield one
            self._learn(one)
        finally:
            self._running.remove(one)
            if one.said:
                self.tell()

    def limit(self, kind: str) -> float:
        """Return the seconds that a command of this kind may take if the caller gives no limit."""
        return LEAST_S + TIMES * self._slowest.get(kind, 0.0)

    def left(self, one: Running) -> float:
        """Return the seconds until the command must end; call `tell` when it becomes slow."""
        now = self._clock()
        left = one.begun + one.limit - now
        hurried = max(self._since, one.begun) + self._hurried - now
        if not one.said and self._is_slow(one, now):
            self._say(one, now, min(left, hurried))
        return min(left, hurried)

    def hurry(self, seconds: float) -> None:
        """End each command at most this many seconds from now, and report slow commands again."""
        self._since = self._clock()
        self._hurried = seconds
        for one in self._running:
            one.said = ""

    @property
    def hurries(self) -> bool:
        """Whether `hurry` has shortened the limits of all commands."""
        return math.isfinite(self._hurried)

    @contextmanager
    def hurried(self, seconds: float) -> Iterator[None]:
        """Shorten the limits of commands, as `hurry` does, inside the block only."""
        before = self._since, self._hurried
        self.hurry(seconds)
        try:
            yield
        finally:
            self._since, self._hurried = before

    @property
    def slow(self) -> list[str]:
        """Return a sentence about each slow command, with its pid and its command line."""
        return [one.said for one in self._running if one.said]

    def _is_slow(self, one: Running, now: float) -> bool:
        usual = self._slowest.get(one.kind, 0.0)
        patience = min(SLOW_S + 2 * usual, self._hurried / 10)
        return bool(one.pid) and now - one.begun > patience

    def _say(self, one: Running, now: float, left: float) -> None:
        age = now - one.begun
        ends = f"the factory ends it after {age + max(0.0, left):.0f} s"
        one.said = f"git {one.kind} (pid {one.pid}) has run for {age:.0f} s; {ends}: {one.command}"
        self.tell()

    def _learn(self, one: Running) -> None:
        """Note the command's time. If it reached its limit, give its kind one minute more."""
        took = self._clock() - one.begun
        known = self._slowest.get(one.kind, 0.0)
        at_limit = took >= one.limit or took >= self._hurried
        self._slowest[one.kind] = max(known, took / TIMES if at_limit else took)


def kind_of(argv: Sequence[str]) -> str:
    """Return git's subcommand: the first word that is neither an option nor an option's value."""
    words = iter(argv)
    for word in words:
        if word == "-c":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _nobody_listens() -> None:
    """Do nothing. This is the value of `tell` until a caller sets another function."""
