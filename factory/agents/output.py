"""Reads an agent's output while it grows, by the rules of the agent's runtime file.

Invariant: whatever the agent prints, each call of `look` takes a bounded time, and all calls
together take a bounded memory. Skipped bytes are counted. If a sum lacks skipped parts, it is
marked.
"""

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

import anyio

from factory.agents.resets import reset_time
from factory.agents.runtime import OWN, LimitRules, OutputRules, Runtime
from factory.agents.tail import Fragment, Tail
from factory.child import process, report
from factory.ground.selectors import Selector, plain

LOOKS = 8  # after so many calls of `look`, other tasks get their turn
# seconds to read after the agent's end; then the rest is skipped, except its last part
END_SECONDS = 2.0
# An agent is in a loop if its last LOOP_STEPS steps are of at most LOOP_KINDS kinds. An agent in a
# loop makes 8 to 20 steps a second, and each step costs money. An agent that alternates between
# tests and edits is not in a loop, because each edit differs. An agent that waits makes fewer
# steps.
LOOP_STEPS = 40
LOOP_KINDS = 3
MOST_TOOLS = 1000  # most open calls that are kept; if there are more, the oldest are forgotten
_MOST = 1e12  # most tokens or dollars; larger and negative numbers are ignored
_TAIL = 4000  # characters kept of plain text
_SAID = 16_000  # characters kept of the agent's last message
_NAME = 500  # characters kept of the id of a session or a tool call

Price = tuple[float, float]  # dollars per million tokens, input and output
# returns the values that selectors find in an event
Found = Callable[[Iterable[Selector]], list[Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """The number of tokens, and the dollars if the agent reports them."""

    input: int = 0
    output: int = 0
    cost: float = 0.0
    estimated: bool = False  # the cost is calculated from tokens
    # the agent reported the cost, even if it is 0
    priced: bool = field(default=False, compare=False)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the output has shown so far."""

    first: datetime | None = None  # when the agent first showed activity
    last: datetime | None = None
    session: str = ""
    tools: frozenset[str] = frozenset()  # ids of open tool calls
    # The newest steps, as numbers: equal actions have equal numbers.
    steps: tuple[int, ...] = field(default=(), compare=False)
    looped: bool = False  # the agent reported that it stopped because it was in a loop
    usage: Usage = Usage()
    result: str = ""  # the agent's last message
    tail: str = ""  # the end of its plain text; if the agent prints events, this is only stderr
    done: bool = False  # the agent's final message was read
    failed: bool = False
    error: str = ""
    limited: bool = False
    reset: datetime | None = None  # when the usage limit ends, if the agent reports it
    unauthorized: bool = False
    unread: int = 0  # the number of skipped bytes, at least
    too_little: bool = False  # the usage is a sum, and skipped parts are missing in it

    @property
    def good(self) -> bool:
        """Whether the agent's final message reports success."""
        return self.done and not self.failed and not self.looped

    @property
    def tells_tokens(self) -> bool:
        """Whether the number of all tokens that the agent used is known."""
        return bool(self.usage.input or self.usage.output) and not self.too_little

    @property
    def looping(self) -> bool:
        """Whether the agent repeats the same few steps."""
        return self.looped or (len(self.steps) == LOOP_STEPS and len(set(self.steps)) <= LOOP_KINDS)


class OutputReader:
    """Reads the output of one run while it grows, from its beginning and across file rotations.

    `earlier`: the session's usage before this run, for runtimes that report totals of the session.
    `model`: the model that the task names, which determines the price.
    """

    def __init__(
        self, runtime: Runtime, run_dir: Path, *, earlier: Usage | None = None, model: str = ""
    ) -> None:
        self._rules = runtime.output
        self._limit = runtime.limit
        self._tail = Tail(str(run_dir))
        self._own = run_dir / OWN
        self._earlier = earlier or Usage()
        self._price = _price_of(model, runtime.output.usage.price)
        self._seen = Seen(done=not self._rules.done_if)
        self._tools: dict[str, None] = {}
        self._lost = 0  # the number of skipped bytes of the output after the last look
        self._unread = 0  # the number of skipped bytes of the report

    @property
    def is_behind(self) -> bool:
        """Whether there may be more to read now."""
        return self._tail.is_behind

    async def catch_up(self, clock: Callable[[], datetime]) -> Seen:
        """Call `look` up to LOOKS times, until nothing is left; other tasks run in between."""
        for _ in range(LOOKS):
            self.look(clock())
            if not self.is_behind:
                break
            await anyio.lowlevel.checkpoint()
        return self.seen()

    async def finish(self, clock: Callable[[], datetime], *, seconds: float = END_SECONDS) -> Seen:
        """Read the rest of a run that has ended, with its report, and interpret its plain text.

        After `seconds`, skip the rest, but read its last part, because that says how the run ended.
        """
        until = anyio.current_time() + seconds
        self.look(clock())
        while self.is_behind and anyio.current_time() < until:
            await anyio.lowlevel.checkpoint()
            self.look(clock())
        if self.is_behind:
            self._tail.skip()
        while self.is_behind:
            await anyio.lowlevel.checkpoint()
            self.look(clock())
        await self._report(clock())
        self.end(clock())
        return self.seen()

    def look(self, now: datetime) -> None:
        """Read a bounded part of the new output."""
        lines = self._tail.lines()
        if self._tail.lost > self._lost:
            self._lost = self._tail.lost
            self._tools.clear()  # the skipped part may contain the ends of these tool calls
        self._read(lines, now)

    def end(self, now: datetime) -> None:
        """Read the last line, which may be incomplete, and interpret the plain text.

        Call this only after the run's end, because a retry may succeed after a line on stderr about
        a limit.
        """
        self._read(self._tail.last(), now)
        tail = self._seen.tail
        if self._rules.done_text:
            self._seen.done = any(pattern.search(tail) for pattern in self._rules.done_text)
            if self._seen.done:
                return
        self._trouble(tail, now)

    def seen(self) -> Seen:
        """Return everything that is known now."""
        unread = self._tail.lost + self._unread
        is_sum = self._rules.usage.mode == "step" or self._unread > 0
        known = replace(self._seen, tools=frozenset(self._tools), unread=unread)
        if not unread or not is_sum:
            return known
        usage = replace(known.usage, estimated=True, priced=False)
        return replace(known, usage=usage, too_little=True)

    def _read(self, lines: Sequence[bytes], now: datetime) -> None:
        plain_lines = lines
        if self._rules.format == "jsonl":
            plain_lines = [line for line in lines if not self._event(line, now)]
        text = b"\n".join(plain_lines)[-4 * _TAIL :].decode(errors="replace").strip()
        if not text:
            return
        self._seen.tail = f"{self._seen.tail}\n{text}"[-_TAIL:].strip()
        for pattern in self._rules.step_text:
            self._step(*pattern.findall(text[-2 * _TAIL :]))
        if self._rules.format == "text":
            self._alive(now)

    def _event(self, line: bytes, now: datetime) -> bool:
        """Read a line as an event; return False if it is plain text."""
        if isinstance(line, Fragment):  # the line is only a part of an event
            return True
        if not line.startswith(b"{"):
            return False
        try:
            with _no_collection():
                self._take_line(line, now)
        except (ValueError, RecursionError):
            return False
        return True

    def _take_line(self, line: bytes, now: datetime) -> None:
        event = json.loads(line)
        self._take(lambda selectors: _all(selectors, event), now)

    async def _report(self, now: datetime) -> None:
        """Read the report, if the agent wrote one at its end, and handle it as one more event."""
        if not self._rules.report:
            return
        selectors = _selectors(self._rules, self._limit)
        argv = report.command(self._own, self._rules.report)
        stdin = report.asked(selectors)
        done = await process.run(argv, env={}, stdin=stdin, seconds=report.SECONDS)
        if done.code or done.over:
            self._unread = report.MOST_BYTES
            return
        if not done.out:
            return
        told = dict(zip(selectors, json.loads(done.out), strict=True))

        def find(asked: Iterable[Selector]) -> list[Any]:
            values = list[Any]()
            for each in asked:
                values += told.get(each, ())
            return values

        self._take(find, now)

    def _take(self, found: Found, now: datetime) -> None:
        """Note what an event contains."""
        rules = self._rules
        seen = self._seen
        if not rules.progress or found(rules.progress):
            self._alive(now)
        for name in found(rules.session):
            if _is_session(name):
                seen.session = name
        is_about_tools = self._tool_calls(found)
        did = found(rules.step)
        if did:
            self._step(json.dumps(did, sort_keys=True))
        seen.looped |= bool(found(rules.looped))
        seen.usage = self._usage(found)
        said = found(rules.result)
        if rules.joined:
            earlier = "" if is_about_tools else seen.result
            seen.result = (earlier + "".join(map(plain, said)))[-_SAID:]
        else:
            seen.result = plain(_last(said, seen.result))[-_SAID:]
        seen.failed = bool(_last(found(rules.failed), seen.failed))
        seen.done = bool(_last(found(rules.done_if), seen.done))
        self._troubles(found, now)

    def _troubles(self, found: Found, now: datetime) -> None:
        """Note errors and limits that the event reports."""
        seen = self._seen
        for text in map(plain, found(self._rules.error)):
            seen.error = text[:_TAIL]
            self._trouble(text, now)
        for status in found(self._limit.status):
            seen.unauthorized |= status in (401, 403)
            seen.limited |= isinstance(status, int) and (status == 429 or status >= 500)
        for epoch in found(self._limit.reset):
            seen.limited = True
            seen.reset = reset_time(plain(epoch), now) or seen.reset

    def _tool_calls(self, found: Found) -> bool:
        """Note which tool calls are open; return True if the event is about a tool call."""
        opened = _names(found(self._rules.tool_open))
        closed = _names(found(self._rules.tool_close))
        self._tools |= dict.fromkeys(opened)
        for each in closed:
            self._tools.pop(each, None)
        while len(self._tools) > MOST_TOOLS:
            del self._tools[next(iter(self._tools))]
        return bool(opened or closed)

    def _step(self, *did: str) -> None:
        self._seen.steps = (*self._seen.steps, *map(hash, did))[-LOOP_STEPS:]

    def _alive(self, now: datetime) -> None:
        self._seen.first = self._seen.first or now
        self._seen.last = now

    def _trouble(self, text: str, now: datetime) -> None:
        """Look for a missing login or a usage limit in the text of an error."""
        seen = self._seen
        if len(text) > 2 * _TAIL:
            text = f"{text[:_TAIL]}\n{text[-_TAIL:]}"
        seen.unauthorized |= any(pattern.search(text) for pattern in self._limit.login)
        for pattern in self._limit.patterns:
            match = pattern.search(text)
            if match is None:
                continue
            seen.limited = True
            seen.error = seen.error or text[match.start() :].partition("\n")[0]
            seen.reset = seen.reset or reset_time(match.groupdict().get("reset") or "", now)

    def _usage(self, found: Found) -> Usage:
        """Return the usage so far, including the usage that an event reports."""
        rules = self._rules.usage
        known = self._seen.usage
        read = _numbers(found(rules.input))
        written = _numbers(found(rules.output))
        costs = _numbers(found(rules.cost))
        if not (read or written or costs):
            return known
        base = Usage()
        if rules.mode == "step":
            base = known
        elif rules.mode == "thread":
            base = Usage(-self._earlier.input, -self._earlier.output, -self._earlier.cost)
        tokens_in = int(_within(base.input + sum(read)))
        tokens_out = int(_within(base.output + sum(written)))
        if not rules.cost and self._price:
            price_in, price_out = self._price
            cost = _within((tokens_in * price_in + tokens_out * price_out) / 1e6)
            return Usage(tokens_in, tokens_out, cost, estimated=True, priced=True)
        cost = _within(base.cost + sum(costs))
        return Usage(tokens_in, tokens_out, cost, priced=bool(costs) or known.priced)


def _price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return the price for the first pattern that matches the model; None if no pattern matches."""
    for pattern, price in prices.items():
        if fnmatchcase(model, pattern):
            return price
    return None


def _selectors(rules: OutputRules, limit: LimitRules) -> tuple[Selector, ...]:
    """Return all selectors that apply to a report."""
    every = chain(
        rules.progress,
        rules.session,
        rules.step,
        rules.looped,
        rules.result,
        rules.failed,
        rules.done_if,
        rules.tool_open,
        rules.tool_close,
        rules.usage.input,
        rules.usage.output,
        rules.usage.cost,
        rules.error,
        limit.status,
        limit.reset,
    )
    return tuple(dict.fromkeys(every))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the garbage collector, because it would visit all parts of a long event repeatedly."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _all(selectors: Iterable[Selector], event: Mapping[str, Any]) -> list[Any]:
    found = list[Any]()
    for each in selectors:
        found += each.find(event)
    return found


def _is_session(name: object) -> bool:
    """Whether the value can safely be a session id in a command line."""
    if not isinstance(name, str) or len(name) > _NAME:
        return False
    return name.isprintable() and not name.startswith("-")


def _names(values: Iterable[Any]) -> list[str]:
    return [plain(each)[:_NAME] for each in values]


def _numbers(values: Iterable[Any]) -> list[float]:
    return [each for each in values if isinstance(each, int | float) and 0 <= each <= _MOST]


def _within(number: float) -> float:
    return min(max(0.0, number), _MOST)


def _last(found: Sequence[Any], known: Any) -> Any:
    return found[-1] if found else known
