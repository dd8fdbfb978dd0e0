"""Puts a task file into the inbox; `add` refuses everything that `check` refuses."""

import sqlite3
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from factory.cli import named, place, say
from factory.cli.ask import soon
from factory.ground.errors import FactoryError, TaskFileError, UsageError, did_you_mean
from factory.inbox.intake import PASSED_OVER
from factory.store import unit_rows, unit_views, views
from factory.store.task_file import TaskFile, decode, ids, parse


def add(args: Namespace) -> int:
    """Puts a task file into the inbox and prints the result."""
    top = Path(place.root())
    raw, name, task = _given(top, args.file)
    remark = _remarks(task)
    with place.store(str(top)) as con:
        before = unit_views.last_seq(con)
        inbox = views.inbox(con)
        _drop(top / inbox, name, decode(raw))
        is_here = not place.which_inbox(str(top), inbox)
        dropped = f"{inbox}/{name}" if is_here else str(top / inbox / name)
        if views.daemon(con).state == "stopped":
            print(f"dropped as {dropped}; the next start takes it (factoryd start){remark}")
            return 0
        taken = soon(lambda: _told_of(con, name, before))
    if taken is None:
        print(f"dropped as {dropped}; the daemon takes it soon (factory status){remark}")
        return 0
    verb = taken.event.removeprefix("task.")
    because = f": {say.line(taken.why)}" if taken.why else ""
    print(f"{verb}: {taken.unit or name}{because}{remark}")
    return 1 if verb == "rejected" else 0


def check(args: Namespace) -> int:
    """Says whether factoryd would accept a task file, and how it reads it. Exit code 1 if not."""
    path = Path(args.file)
    if path.is_symlink():
        raise FactoryError(f"{path} is a symbolic link; the inbox takes files only")
    raw = path.read_bytes()
    try:
        task = _read(raw, _named(path))
    except UsageError as error:  # the answer is "no", but the person used the command correctly
        raise FactoryError(str(error)) from error
    unit = next(ids(path.name, task.title))
    print(f"{unit}: {say.clean(task.title)}")
    if task.run:
        print(f"runs: {say.clean(task.run)}")
    print(f"it would be accepted{_remarks(task)}")
    return 0


def _given(top: Path, file: str) -> tuple[bytes, str, TaskFile]:
    """Return the text, its name in the inbox, and the task.

    Raises UsageError if it is not a task.
    """
    if file == "-":
        raw = sys.stdin.buffer.read()
        task = _read(raw, "standard input")
        return raw, _free(top, task.title), task
    raw = Path(file).read_bytes()
    name = _named(Path(file))
    return raw, name, _read(raw, name)


def _told_of(con: sqlite3.Connection, name: str, before: int) -> unit_rows.Entry | None:
    """Return the first later event that names the file."""
    for entry in unit_views.log(con, after=before):
        if entry.name == name:
            return entry
    return None


def _remarks(task: TaskFile) -> str:
    """Return lines about names that nobody knows; no errors, because both may come later."""
    lines = list[str]()
    with suppress(FactoryError):
        top = place.root()
        with place.store(top) as con:
            lines += _unknown_agent(con, task)
            lines += _unknown_needs(con, Path(top), task)
    return "".join(f"\n{line}" for line in lines)


def _unknown_agent(con: sqlite3.Connection, task: TaskFile) -> Iterator[str]:
    found = views.inferred(con)
    known = found.runtimes if found else ()
    if task.agent and known and task.agent not in known:
        yield f"! there is no runtime {task.agent!r} yet{did_you_mean(task.agent, known)}"


def _unknown_needs(con: sqlite3.Connection, top: Path, task: TaskFile) -> Iterator[str]:
    dropped = {next(ids(path.name)) for path in (top / views.inbox(con)).glob("*.[mM][dD]")}
    is_any = False
    for need in task.needs:
        if need not in dropped and not unit_views.has_unit(con, need):
            is_any = True
            yield f"! there is no unit {need!r} yet{named.meant(con, need)}"
    if is_any:
        yield "  this unit waits until they have landed"


def _read(raw: bytes, name: str) -> TaskFile:
    """Return the task file; raise UsageError with place, reason and correct form."""
    try:
        return parse(decode(raw), name)
    except TaskFileError as error:
        where = f"{name}:{error.line}" if error.line else name
        form = f"\n  the correct form: {error.form}" if error.form else ""
        raise UsageError(f"{where}: {error.reason}{form}") from error


def _named(path: Path) -> str:
    """Return the file's name; raise UsageError if the inbox does not accept such a name."""
    taken = path.suffix.lower() == ".md" and not PASSED_OVER.fullmatch(path.name)
    if taken and path.name.isprintable():
        return path.name
    raise UsageError(
        f"{say.line(path.name) or path} is not a valid name in the inbox: "
        "it must end in .md, must not begin with . # or ~, "
        "and must have printable characters only\n"
        f"  the correct form: {next(ids(path.name))}.md"
    )


def _free(top: Path, base: str) -> str:
    """Return a file name that no waiting task uses, so that standard input replaces no task."""
    waiting = {path.name.partition("-")[2] for path in (top / ".factory/intake").glob("*.md")}
    with place.store(str(top)) as con:
        waiting |= {path.name for path in (top / views.inbox(con)).glob("*.md")}
        for name in ids(base):
            if not unit_views.has_unit(con, name) and f"{name}.md" not in waiting:
                return f"{name}.md"
    raise AssertionError("ids never ends")


def _drop(inbox: Path, name: str, text: str) -> None:
    # The file gets its name only when it is complete, because the daemon ignores names that start
    # with a dot.
    half = inbox / f".{name}.{time.monotonic_ns()}"
    try:
        inbox.mkdir(exist_ok=True)
        half.write_text(text, encoding="utf-8", newline="")
        half.replace(inbox / name)
    except OSError as error:
        with suppress(OSError):
            half.unlink()
        raise FactoryError(
            f"nothing was dropped: {inbox} cannot be written to ({error.strerror})"
        ) from error
