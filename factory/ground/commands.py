"""The git commands that this process runs: how long each kind has taken, and how long one may take.

Invariant: every command has an end. A limit is given, or follows from what its kind took so far.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

LEAST_S = 60.0  # that a command may take, whatever its kind took so far
TIMES = 20  # and so many times the slowest of its kind
SLOW_S = 10.0  # a command that takes longer, and twice as long as the slowest of its kind, is shown
SHOWN = 100  # characters of a command


@dataclass(slots=True, eq=False)
class Running:
    """One command while it runs."""

    kind: str
    command: str
    begun: float
    limit: float  # seconds
    pid: int = 0  # 0: not started yet
    said: str = ""  # the sentence about it, once it is slow

    def started(self, then: Callable[[int], None] | None) -> Callable[[int], None]:
        """What notes its pid, and then tells it to `then`."""

        def note(pid: int) -> None:
            self.pid = pid
            if then is not None:
                then(pid)

        return note

    @property
    def ended(self) -> str:
        """The sentence about a command that was ended."""
        return f"it took too long, so the factory ended it (pid {self.pid}). "


class Commands:
    """All commands that run now. It is used in the event loop's thread alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slowest: dict[str, float] = {}
        self._running: list[Running] = []
        self._hurried = math.inf  # seconds that any command has from `_since` on
        self._since = 0.0
        self.tell: Callable[[], None] = _nobody_listens  # called when `slow` has changed

    @contextmanager
    def running(self, argv: Sequence[str], seconds: float = 0) -> Iterator[Running]:
        """Note a command while it runs; `seconds` is its limit, 0 stands for that of its kind."""
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
        """Seconds that a command of this kind may take where none are given."""
        return LEAST_S + TIMES * self._slowest.get(kind, 0.0)

    def left(self, one: Running) -> float:
        """Seconds until the command has to end; the first look that finds it slow says so."""
        now = self._clock()
        left = one.begun + one.limit - now
        hurried = max(self._since, one.begun) + self._hurried - now
        if not one.said and self._is_slow(one, now):
            self._say(one, now, min(left, hurried))
        return min(left, hurried)

    def hurry(self, seconds: float) -> None:
        """Let no command take longer than so many seconds from now on, and say which ones run."""
        self._since = self._clock()
        self._hurried = seconds
        for one in self._running:
            one.said = ""

    @property
    def hurries(self) -> bool:
        """Whether commands are ended before their limit."""
        return math.isfinite(self._hurried)

    @contextmanager
    def hurried(self, seconds: float) -> Iterator[None]:
        """Hurry inside the block only."""
        before = self._since, self._hurried
        self.hurry(seconds)
        try:
            yield
        finally:
            self._since, self._hurried = before

    @property
    def slow(self) -> list[str]:
        """A sentence about each command that takes long, with its pid and its words."""
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
        """Note how long it took. One that was ended at its limit gets its kind a minute more."""
        took = self._clock() - one.begun
        known = self._slowest.get(one.kind, 0.0)
        at_limit = took >= one.limit or took >= self._hurried
        self._slowest[one.kind] = max(known, took / TIMES if at_limit else took)


def kind_of(argv: Sequence[str]) -> str:
    """The subcommand: the first word that is no option of git's own, nor the value of one."""
    words = iter(argv)
    for word in words:
        if word == "-c":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _nobody_listens() -> None:
    """Before there is a place to show it."""
