"""What an agent left in its outbox: plain files, capped, never followed through a symlink."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from factory.task_file import loose

CAP_BYTES = 65536
LONGEST_S = 366 * 86400.0  # a later deadline is none


@dataclass(frozen=True, slots=True)
class Question:
    """An agent's question to a person."""

    text: str
    options: tuple[str, ...] = ()
    default: str = ""  # an option's label or number, as the agent wrote it
    deadline_s: float = 0

    @property
    def default_key(self) -> str:
        """The key of the default option; "" where it names none."""
        labels = [label.casefold() for label in self.options]
        wanted = self.default.casefold()
        if wanted in labels:
            return str(labels.index(wanted) + 1)
        return wanted if wanted in map(str, range(1, len(labels) + 1)) else ""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The files of one attempt's outbox; absent ones are empty."""

    done: str = ""
    question: Question | None = None
    handoff: str = ""
    not_yet: tuple[str, ...] = ()  # names that the contract knows and no released version acts on


def read_outbox(folder: Path) -> Outbox:
    """Read the outbox; what is not a regular file is passed over, a file is cut at 64 KiB."""
    with _opened(folder, os.O_DIRECTORY) as box:
        if box is None:
            return Outbox()
        asked = _text("question.md", box)
        return Outbox(
            done=_text("done.md", box),
            question=_question(asked) if asked.strip() else None,
            handoff=_text("handoff.md", box),
            not_yet=tuple(name for name in ("split", "discovered") if _is_folder(name, box)),
        )


def _question(text: str) -> Question:
    keys, body = loose(text)
    options = keys.get("options")
    return Question(
        text=body.strip() or "(the agent asked without a text)",
        options=tuple(str(option) for option in options if option) if isinstance(options, list) else (),
        default=str(keys.get("default", "")),
        deadline_s=_seconds(keys.get("deadline_s")),
    )


def _seconds(value: object) -> float:
    with suppress(ValueError):
        seconds = float(str(value))
        return seconds if 0 < seconds <= LONGEST_S else 0
    return 0


def _text(name: str, folder: int) -> str:
    with _opened(name, folder=folder) as handle:
        if handle is None or not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        with open(handle, "rb", closefd=False) as file:
            raw = file.read(CAP_BYTES)
    return raw.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")  # git takes no NUL in a message


def _is_folder(name: str, folder: int) -> bool:
    with _opened(name, os.O_DIRECTORY, folder=folder) as handle:
        return handle is not None


@contextmanager
def _opened(path: str | Path, flags: int = 0, *, folder: int | None = None) -> Iterator[int | None]:
    """The file at `path` (in an open folder), opened without following a link and without waiting for a writer."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=folder)
    except OSError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
