"""Fault points: named brackets around every effect outside the store, where a test can let the process die.

Invariant: whatever this daemon changes in the world it changes inside a bracket that EFFECTS names, and every commit of
the store is one as well (`store.EVENT`); so a kill between any two of its effects has been tried.

FACTORY_FAULT=NAME:before or NAME:after, with :N for the Nth passage, ends the process there by SIGKILL. Where it is
unset, as it is but in tests, a bracket does nothing.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from itertools import count
from typing import Any, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Effect(NamedTuple):
    """One way in which the world is changed, and what the next start makes of a death on either side of it."""

    what: str
    order: str
    before: str
    after: str


_AGAIN = "done again from the start"
_NOTHING = "nothing is left to do"

# World first: the effect, then its record, since a start can look at the world. Record first: the intention is in the
# journal before the world moves. Cache: no record tells of it; it is made anew whenever it is not as it should be.
EFFECTS: Mapping[str, Effect] = {
    "folders.make": Effect("the factory's own folders", "cache", _AGAIN, _AGAIN),
    "exclude.write": Effect("/.factory/ and /inbox/ in .git/info/exclude", "cache", _AGAIN, "found there, and left"),
    "clone.make": Effect(
        "the factory repository", "cache", "half a clone lies under another name: made anew", "found there, and used"
    ),
    "clone.seize": Effect("what a dead daemon's git holds in it is let go", "cache", _AGAIN, _NOTHING),
    "store.make": Effect("the store's file", "cache", "half a store lies under another name: made anew", "opened"),
    "pid.write": Effect(
        "daemon.pid", "cache", "written anew", "written anew: who reads it looks whether the pid lives"
    ),
    "pid.remove": Effect("daemon.pid", "record first", "who reads it looks whether the pid lives", _NOTHING),
    "inbox.take": Effect(
        "a task file goes from the inbox to the intake folder",
        "world first",
        "it lies in the inbox: taken by the first scan",
        "it lies in the intake folder, where each scan looks first: its unit is made once, keyed by that name",
    ),
    "inbox.copy": Effect(
        "a task file that git tracks is copied into the intake folder",
        "world first",
        "copied by the first scan",
        "the name is the content's digest: copied onto itself, and its unit is made once",
    ),
    "inbox.settle": Effect(
        "an accepted file goes to intake/taken",
        "record first",
        "its unit is on record: only the file is moved",
        _NOTHING,
    ),
    "inbox.hang": Effect(
        "the file of a task that the factory itself wrote",
        "world first",
        "the card is open still: asked again",
        "no unit has it: the card is open still, and the file goes to intake/replaced",
    ),
    "inbox.explain": Effect("rejected/NAME.error.txt", "world first", "rejected again", "written again, the same"),
    "inbox.reject": Effect(
        "a refused file goes to inbox/rejected",
        "world first",
        "rejected again",
        "it lies there with its reason; the journal lacks the line",
    ),
    "tree.enter": Effect(
        "a workspace's or bench's folder, opened and without a dead git's lock", "cache", _AGAIN, _AGAIN
    ),
    "tree.excludes": Effect("the ignore rules of a workspace or bench", "cache", _AGAIN, _AGAIN),
    "tree.reset": Effect(
        "a workspace or bench is made to show a commit",
        "cache",
        "reset again, from whatever state",
        "reset again: no attempt has begun in it",
    ),
    "tree.git": Effect("its .git is replaced by a new one", "cache", _AGAIN, "made anew, as for each attempt"),
    "tree.carry": Effect("the work of the attempt before is laid into it", "cache", _AGAIN, _AGAIN),
    "tree.abandon": Effect(
        "a workspace is put out of use under another name",
        "world first",
        "put aside again, when the attempt is given up again",
        "the next attempt gets a new one; what lies aside stays",
    ),
    "attempt.files": Effect("outbox, TMPDIR and prompt of an attempt", "world first", _AGAIN, "written again"),
    "attempt.carry": Effect("the work of the attempt before, merged in memory", "world first", _AGAIN, _AGAIN),
    "agent.start": Effect(
        "the agent, under its shim",
        "world first",
        "no start.json: prepared and started anew, under the same number",
        "start.json names the shim: adopted, or its exit file is read; one that has told nothing yet is ended first",
    ),
    "agent.stop": Effect(
        "an agent and all that it started are ended",
        "world first",
        "adopted, and ended for the same reason",
        "its exit file is read: the attempt ends as it was left",
    ),
    "agent.end": Effect("the rest of an attempt that is given up is ended", "world first", _AGAIN, _AGAIN),
    "attempt.nested": Effect(
        "git dirs that an agent made in its tree go to the attempt's folder", "world first", _AGAIN, "staged plainly"
    ),
    "attempt.stage": Effect(
        "what the agent left becomes a tree object", "world first", "its exit file is read: staged again", _AGAIN
    ),
    "attempt.keep": Effect(
        "the attempt's tree in its ref, before its end is recorded",
        "world first",
        "staged and kept again",
        "kept again: the same tree, the same ref",
    ),
    "archive.put": Effect(
        "the refs of what finished units made move into the month's chain",
        "world first",
        "moved by the first look",
        "found in the chain, and noted; what is kept twice loses its ref the next time",
    ),
    "archive.task": Effect("a finished unit's task file goes to its folder", "record first", _AGAIN, _NOTHING),
    "archive.prune": Effect("what is older than `keep.days` is deleted", "record first", _AGAIN, _NOTHING),
    "environment.build": Effect(
        "venv and set-up of a workspace or bench", "cache", "no stamp: built anew", "the stamp says what it is of: used"
    ),
    "environment.print": Effect("build caches go before an environment is compared", "cache", _AGAIN, _NOTHING),
    "environment.distrust": Effect("the stamp of one that a gate changed", "world first", "built anew", "built anew"),
    "place.empty": Effect("HOME and TMPDIR of what runs next", "cache", _AGAIN, _NOTHING),
    "command.start": Effect(
        "a gate or set-up, under its shim",
        "world first",
        "asked for again",
        "no daemon waits for it: ended, and asked for again",
    ),
    "command.stop": Effect("one that nobody needs any more is ended", "world first", "ended at start", _NOTHING),
    "command.end": Effect("what a dead daemon's gates left is ended", "world first", _AGAIN, _NOTHING),
    "trunk.fetch": Effect("trunk and tags, into the factory repository", "cache", "fetched", "found there"),
    "trunk.rehearse": Effect("a unit merged onto its parent, in memory", "cache", _AGAIN, "objects that nothing names"),
    "landing.send": Effect(
        "the objects of a landing, into the user's repository",
        "record first",
        "the open step is planned again",
        "the open step is planned again; git takes the objects twice",
    ),
    "landing.move": Effect(
        "trunk's ref, where it is checked out nowhere",
        "record first",
        "not in trunk: planned again, and landed",
        "trunk holds it: recorded as landed",
    ),
    "landing.merge": Effect(
        "trunk and its checkout, by git's fast-forward",
        "record first",
        "not in trunk: planned again, and landed",
        "trunk holds it: recorded as landed (half-way: what is ours is completed or taken back, what is theirs stays)",
    ),
    "landing.follow": Effect("trunk's copy in the factory repository", "world first", "fetched", _NOTHING),
    "landing.mend": Effect("the traces of a git of ours that died half-way", "record first", _AGAIN, _AGAIN),
    "landing.unlock": Effect("locks that it left", "record first", "removed", _NOTHING),
    "landing.put_back": Effect(
        "a branch that was switched to while trunk landed", "record first", "put back", "trunk lacks it: landed anew"
    ),
    "store.EVENT": Effect(
        "a transaction of the store, named after each event that it journals",
        "the record itself",
        "it never was: whatever preceded it in the world is found again, as above",
        "it is durable: whatever follows it is done by the first pass that sees it",
    ),
}

OPEN = ContextVar[tuple[str, ...]]("open", default=())  # the brackets around what runs; kept while a fault is armed


def _armed(fault: str) -> Callable[..., AbstractContextManager[None]]:
    """The bracket for one setting of FACTORY_FAULT."""
    nothing = nullcontext()
    if not fault:
        return lambda *names: nothing
    name, wanted, passage, *_ = [*fault.split(":"), "1", "1"]
    passages = count(1)

    def pass_by(names: tuple[str, ...], side: str) -> None:
        if side == wanted and name in names and next(passages) == int(passage):
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def bracket(*names: str) -> Iterator[None]:
        pass_by(names, "before")
        token = OPEN.set(OPEN.get() + names)
        try:
            yield
        finally:
            OPEN.reset(token)
        pass_by(names, "after")

    return bracket


step = _armed(os.environ.get("FACTORY_FAULT", ""))  # `with step(NAME):` brackets one effect


def during(name: str) -> Callable[[F], F]:
    """Bracket a whole function, which is left as it is while no fault is armed."""
    return _wrapped(name) if os.environ.get("FACTORY_FAULT") else lambda function: function


def _wrapped(name: str) -> Callable[[F], F]:
    def around(function: Any) -> Any:
        @wraps(function)
        async def asynchronous(*args: Any, **named: Any) -> Any:
            with step(name):
                return await function(*args, **named)

        @wraps(function)
        def synchronous(*args: Any, **named: Any) -> Any:
            with step(name):
                return function(*args, **named)

        return asynchronous if iscoroutinefunction(function) else synchronous

    return around
