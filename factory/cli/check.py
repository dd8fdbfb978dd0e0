"""Says whether a task file would be accepted, and what it would become. Exit code 1: it would not.

factory check inbox/fix-login.md
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from factory.cli import place, say
from factory.errors import FactoryError, TaskFileError, UsageError
from factory.stores import views
from factory.task_file import TaskFile, decode, parse, slug

_SHOWN = ("priority", "needs", "scope", "accept", "run", "agent", "model", "attempts", "minutes", "allow", "review")


def run(args: Namespace) -> int:
    """Print what it would become, or what is wrong."""
    path = Path(args.file)
    if path.is_symlink():
        raise FactoryError(f"{path} is a symbolic link; the inbox takes files only")
    try:
        task = read(content(path), path.name)
    except UsageError as error:
        raise FactoryError(str(error)) from error  # the answer is "no"; the command itself was right
    print(f"{slug(path.name)}: {say.line(task.title)}")
    for row in say.table([(key, _plain(getattr(task, key))) for key in _SHOWN if key in task.lines]):
        print(row)
    for doubt in _doubts(task):
        print(f"  ! {doubt}")
    print("it would be accepted")
    return 0


def content(path: Path) -> bytes:
    """The file's bytes; raise FactoryError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FactoryError(f"{path} cannot be read: {error.strerror}") from error


def read(raw: bytes, name: str) -> TaskFile:
    """The task file; raise UsageError with place, reason and correct form."""
    try:
        return parse(decode(raw), name)
    except TaskFileError as error:
        where = f"{name}:{error.line}" if error.line else name
        form = f"\n  the correct form: {error.form}" if error.form else ""
        raise UsageError(f"{where}: {error.reason}{form}") from error


def _plain(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _doubts(task: TaskFile) -> Iterator[str]:
    """What would not refuse it, and yet make it wait."""
    try:
        with place.store(place.root()) as con:
            missing = [need for need in task.needs if not views.show(con, need)]
            yield from (
                f"needs {need}, which is no unit yet{place.meant(con, need)}: it would wait" for need in missing
            )
    except FactoryError:
        return  # no factory here yet: every unit is still to come
