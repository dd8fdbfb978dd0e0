"""A task file on its way into the inbox, or only looked at: what `check` refuses, `add` does not drop."""

import sys
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from factory.cli import place, say
from factory.cli.ask import soon
from factory.ground.errors import FactoryError, TaskFileError, UsageError, did_you_mean
from factory.inbox.intake import PASSED_OVER
from factory.store import views
from factory.store.task_file import TaskFile, decode, ids, parse, slug


def add(args: Namespace) -> int:
    """Drops a task file into the inbox, whole at once; `-` reads it from standard input. Says what became of it.

    factory add fix-login.md
    echo "Fix the login redirect" | factory add -
    """
    top = Path(place.root())
    if args.file == "-":
        raw = sys.stdin.buffer.read()
        task = _read(raw, "standard input")
        name = _free(top, slug(task.title))
    else:
        raw = Path(args.file).read_bytes()
        name = _named(Path(args.file))
        task = _read(raw, name)
    remark = _unknown_agent(task)
    with place.store(str(top)) as con:
        before = views.last_seq(con)
        inbox = views.inbox(con)
        _drop(top / inbox, name, decode(raw))
        if views.daemon(con)["state"] == "stopped":
            print(f"dropped as {inbox}/{name}; the next start takes it (factoryd start){remark}")
            return 0
        taken = soon(
            lambda: next(
                (each for each in views.log(con, after=before) if each.get("name") == name), None
            )
        )
    if taken is None:
        print(f"dropped as {inbox}/{name}; the daemon takes it soon (factory status){remark}")
        return 0
    verb = taken["event"].removeprefix("task.")
    print(
        f"{verb}: {taken['unit'] or name}"
        + (f": {say.line(taken['why'])}" if taken.get("why") else "")
        + remark
    )
    return 1 if verb == "rejected" else 0


def check(args: Namespace) -> int:
    """Says whether a task file would be accepted, and as what. Exit code 1: it would not.

    factory check inbox/fix-login.md
    """
    path = Path(args.file)
    if path.is_symlink():
        raise FactoryError(f"{path} is a symbolic link; the inbox takes files only")
    raw = path.read_bytes()
    try:
        task = _read(raw, _named(path))
    except UsageError as error:
        raise FactoryError(
            str(error)
        ) from error  # the answer is "no"; the command itself was right
    print(f"{slug(path.name)}: {say.line(task.title)}\nit would be accepted{_unknown_agent(task)}")
    return 0


def _unknown_agent(task: TaskFile) -> str:
    """A remark about an agent that the line does not know: no reason to refuse, for it may come with a commit."""
    with suppress(FactoryError), place.store(place.root()) as con:
        known = (views.fact(con, "inferred") or {}).get("runtimes") or [task.agent]
        if task.agent and task.agent not in known:
            return f"\n! there is no runtime {task.agent!r} yet{did_you_mean(task.agent, known)}"
    return ""


def _read(raw: bytes, name: str) -> TaskFile:
    """The task file; raise UsageError with place, reason and correct form."""
    try:
        return parse(decode(raw), name)
    except TaskFileError as error:
        where = f"{name}:{error.line}" if error.line else name
        form = f"\n  the correct form: {error.form}" if error.form else ""
        raise UsageError(f"{where}: {error.reason}{form}") from error


def _named(path: Path) -> str:
    """The file's name; raise UsageError where the inbox takes none of that name."""
    taken = path.suffix.lower() == ".md" and not PASSED_OVER.fullmatch(path.name)
    if taken and path.name.isprintable():
        return path.name
    raise UsageError(
        f"{say.line(path.name) or path} is no name that the inbox takes: it ends in .md, begins with no . # or ~, and "
        "has only signs that can be shown\n"
        f"  the correct form: {slug(path.name)}.md"
    )


def _free(top: Path, base: str) -> str:
    """A file name that stands for no other task that waits: standard input never replaces one."""
    waiting = {path.name.partition("-")[2] for path in (top / ".factory/intake").glob("*.md")}
    with place.store(str(top)) as con:
        waiting |= {path.name for path in (top / views.inbox(con)).glob("*.md")}
        return next(
            f"{name}.md"
            for name in ids(base)
            if not views.show(con, name) and f"{name}.md" not in waiting
        )


def _drop(inbox: Path, name: str, text: str) -> None:
    # Renamed into place, so that the daemon never sees half of it; names with a dot in front are not its business.
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
