"""What an agent's output tells, read by the rules of its runtime file as it grows.

Invariant: one look costs a bounded time, and all looks together a bounded memory, whatever the agent prints. What was
passed over is counted, and sums that miss it say so.
"""

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import anyio

from factory.agents.resets import reset_time
from factory.agents.runtime import OWN, LimitRules, OutputRules, Runtime
from factory.agents.tail import Fragment, Tail
from factory.child import process, report
from factory.ground.selectors import Selector, plain

LOOKS = 8  # at the output, before other things get their turn
END_SECONDS = 2.0  # that are spent on reading on after the end; then only the last part is read
# A loop: so many steps in a row, no more than so many of them different. A model that goes round makes 8 to 20 steps a
# second and costs money with each; of who tests and edits in turn every edit is another, and who waits sleeps longer.
LOOP_STEPS, LOOP_KINDS = 40, 3
MOST_TOOLS = 1000  # open at once; of more, the newest
_MOST = 1e12  # tokens or dollars: what says more, or less than nothing, tells nothing
_TAIL = 4000  # characters kept of plain text
_SAID = 16_000  # characters kept of its last words
_NAME = 500  # characters of a session's or a tool's id

Found = Callable[[Iterable[Selector]], list[Any]]  # what selectors find in an event


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and dollars where they are told."""

    input: int = 0
    output: int = 0
    cost: float = 0.0
    estimated: bool = False  # the cost is reckoned from tokens
    priced: bool = field(default=False, compare=False)  # the cost is known, even if it is nothing


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the output has told so far."""

    first: datetime | None = None  # sign of life
    last: datetime | None = None
    session: str = ""
    tools: frozenset[str] = frozenset()  # calls that are open
    steps: tuple[int, ...] = field(
        default=(), compare=False
    )  # the newest, each as a number for what it did
    looped: bool = False  # it said that it stopped because it went round
    usage: Usage = Usage()
    result: str = ""  # its last words
    tail: str = ""  # the end of what it printed besides events: all of it for text, else its stderr
    done: bool = False  # the final word was seen
    failed: bool = False
    error: str = ""
    limited: bool = False
    reset: datetime | None = None  # when the limit ends, where it says so
    unauthorized: bool = False
    unread: int = 0  # bytes that were passed over, at least
    too_little: bool = False  # the usage is a sum, and some of it was not read

    @property
    def good(self) -> bool:
        """Whether the output's own final word is that all went well."""
        return self.done and not self.failed and not self.looped

    @property
    def tells_tokens(self) -> bool:
        """Whether all tokens that it used are known."""
        return bool(self.usage.input or self.usage.output) and not self.too_little

    @property
    def looping(self) -> bool:
        """Whether it does the same again and again."""
        return self.looped or (len(self.steps) == LOOP_STEPS and len(set(self.steps)) <= LOOP_KINDS)


class OutputReader:
    """Reads the output of one run as it grows, across the rotation of its file and from its start after an adoption.

    `earlier`: what the same session had used before this run (for runtimes that tell totals of the session).
    `model`: the one that its task names, for its price.
    """

    def __init__(
        self, runtime: Runtime, run_dir: Path, *, earlier: Usage | None = None, model: str = ""
    ) -> None:
        self._rules, self._limit, self._tail = runtime.output, runtime.limit, Tail(str(run_dir))
        self._earlier, self._own = earlier or Usage(), run_dir / OWN
        self._seen = Seen(done=not self._rules.done_if)
        self._tools: dict[str, None] = {}
        self._lost = 0  # of its output, when it was last read
        self._unread = 0  # of its report
        prices = runtime.output.usage.price.items()
        self._price = next(
            (price for pattern, price in prices if fnmatchcase(model, pattern)), None
        )

    @property
    def is_behind(self) -> bool:
        """Whether there may be more to read at once."""
        return self._tail.is_behind

    async def catch_up(self, clock: Callable[[], datetime]) -> Seen:
        """Read on, with a turn for others after each look; no more than LOOKS, for an agent may never pause."""
        for _ in range(LOOKS):
            self.look(clock())
            if not self.is_behind:
                break
            await anyio.lowlevel.checkpoint()
        return self.seen()

    async def finish(self, clock: Callable[[], datetime], *, seconds: float = END_SECONDS) -> Seen:
        """Read to the end of a run that has ended, its report too, and judge what is plain text.

        What was not read after so many `seconds` is passed over, but for its last part: there stands how it ended.
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
        """Read a bounded part of what is new."""
        lines = self._tail.lines()
        if self._tail.lost > self._lost:
            self._lost = self._tail.lost
            self._tools.clear()  # what was passed over may have closed them
        self._read(lines, now)

    def end(self, now: datetime) -> None:
        """Take the last line, which may have no end, and judge what is plain text:

        while it runs, a line on stderr about a limit may well be followed by a retry that works.
        """
        self._read(self._tail.last(), now)
        if self._rules.done_text:
            self._seen.done = any(
                pattern.search(self._seen.tail) for pattern in self._rules.done_text
            )
        if not (self._rules.done_text and self._seen.done):
            self._trouble(self._seen.tail, now)

    def seen(self) -> Seen:
        """What is known now."""
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
        self._step(
            *(found for each in self._rules.step_text for found in each.findall(text[-2 * _TAIL :]))
        )
        if self._rules.format == "text":
            self._alive(now)

    def _event(self, line: bytes, now: datetime) -> bool:
        """Read a line as an event; false where it is none. A piece of one is no plain text either."""
        if isinstance(line, Fragment):
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
        """Read the report that it may have written at its end as one more event."""
        if not self._rules.report:
            return
        selectors = _selectors(self._rules, self._limit)
        argv, stdin = report.command(self._own, self._rules.report), report.asked(selectors)
        done = await process.run(argv, env={}, stdin=stdin, seconds=report.SECONDS)
        if done.code or done.over:
            self._unread = report.MOST_BYTES
        elif done.out:
            found = dict(zip(selectors, json.loads(done.out), strict=True))
            self._take(
                lambda asked: [value for each in asked for value in found.get(each, ())], now
            )

    def _take(self, found: Found, now: datetime) -> None:
        rules, seen = self._rules, self._seen
        if not rules.progress or found(rules.progress):
            self._alive(now)
        for name in found(rules.session):
            if (
                isinstance(name, str)
                and name.isprintable()
                and name[:1] != "-"
                and len(name) <= _NAME
            ):
                seen.session = name
        is_about_tools = self._tool_calls(found)
        if did := found(rules.step):
            self._step(json.dumps(did, sort_keys=True))
        seen.looped |= bool(found(rules.looped))
        seen.usage = self._usage(found)
        if rules.joined:
            said = "" if is_about_tools else seen.result
            seen.result = (said + "".join(map(plain, found(rules.result))))[-_SAID:]
        else:
            seen.result = plain(_last(found(rules.result), seen.result))[-_SAID:]
        seen.failed = bool(_last(found(rules.failed), seen.failed))
        seen.done = bool(_last(found(rules.done_if), seen.done))
        self._troubles(found, now)

    def _troubles(self, found: Found, now: datetime) -> None:
        """What the event tells of errors and limits."""
        seen = self._seen
        for text in map(plain, found(self._rules.error)):
            seen.error = text[:_TAIL]
            self._trouble(text, now)
        for status in found(self._limit.status):
            seen.unauthorized |= status in (401, 403)
            seen.limited |= isinstance(status, int) and (status == 429 or status >= 500)
        for epoch in found(self._limit.reset):
            seen.limited, seen.reset = True, reset_time(plain(epoch), now) or seen.reset

    def _tool_calls(self, found: Found) -> bool:
        """Note which calls are open; whether the event is about any."""
        opened, closed = (
            [plain(each)[:_NAME] for each in found(part)] for part in self._tool_rules
        )
        self._tools |= dict.fromkeys(opened)
        for each in closed:
            self._tools.pop(each, None)
        while len(self._tools) > MOST_TOOLS:
            del self._tools[next(iter(self._tools))]
        return bool(opened or closed)

    @property
    def _tool_rules(self) -> tuple[Iterable[Selector], Iterable[Selector]]:
        return self._rules.tool_open, self._rules.tool_close

    def _step(self, *did: str) -> None:
        self._seen.steps = (*self._seen.steps, *map(hash, did))[-LOOP_STEPS:]

    def _alive(self, now: datetime) -> None:
        self._seen.first, self._seen.last = self._seen.first or now, now

    def _trouble(self, text: str, now: datetime) -> None:
        seen = self._seen
        text = text if len(text) <= 2 * _TAIL else f"{text[:_TAIL]}\n{text[-_TAIL:]}"
        seen.unauthorized |= any(pattern.search(text) for pattern in self._limit.login)
        for match in filter(None, (pattern.search(text) for pattern in self._limit.patterns)):
            seen.limited = True
            seen.error = seen.error or text[match.start() :].partition("\n")[0]
            seen.reset = seen.reset or reset_time(match.groupdict().get("reset") or "", now)

    def _usage(self, found: Found) -> Usage:
        rules, known = self._rules.usage, self._seen.usage
        told = [_numbers(found(part)) for part in (rules.input, rules.output, rules.cost)]
        if not any(told):
            return known
        sums = list(map(sum, told))
        sign, other = {"run": (0, known), "step": (1, known), "thread": (-1, self._earlier)}[
            rules.mode
        ]
        tokens_in = int(_within(sums[0] + sign * other.input))
        tokens_out = int(_within(sums[1] + sign * other.output))
        if not rules.cost and self._price:
            reckoned = _within((tokens_in * self._price[0] + tokens_out * self._price[1]) / 1e6)
            return Usage(tokens_in, tokens_out, reckoned, estimated=True, priced=True)
        cost = _within(sums[2] + sign * other.cost)
        return Usage(tokens_in, tokens_out, cost, priced=bool(told[2]) or known.priced)


def _selectors(rules: OutputRules, limit: LimitRules) -> tuple[Selector, ...]:
    """All that a report is asked for."""
    usage = rules.usage
    says = (
        rules.progress,
        rules.session,
        rules.step,
        rules.looped,
        rules.result,
        rules.failed,
        rules.done_if,
    )
    costs = (usage.input, usage.output, usage.cost)
    troubles = (rules.error, limit.status, limit.reset)
    parts = (*says, rules.tool_open, rules.tool_close, *costs, *troubles)
    return tuple(dict.fromkeys(each for part in parts for each in part))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the garbage collector wait: it would look again and again at all that a long event consists of."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _all(selectors: Iterable[Selector], event: Mapping[str, Any]) -> list[Any]:
    return [value for each in selectors for value in each.find(event)]


def _numbers(values: Iterable[Any]) -> list[float]:
    return [each for each in values if isinstance(each, int | float) and 0 <= each <= _MOST]


def _within(number: float) -> float:
    return min(max(0.0, number), _MOST)


def _last(found: Sequence[Any], known: Any) -> Any:
    return found[-1] if found else known
