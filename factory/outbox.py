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
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return Outbox()
    try:
        asked = _text("question.md", handle)
        return Outbox(
            done=_text("done.md", handle),
            question=_question(asked) if asked.strip() else None,
            handoff=_text("handoff.md", handle),
            not_yet=tuple(name for name in ("split", "discovered") if _is_folder(name, handle)),
        )
    finally:
        os.close(handle)


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
    with _opened(name, folder) as handle:
        if handle is None or not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        raw = b""
        while len(raw) < CAP_BYTES and (more := os.read(handle, CAP_BYTES - len(raw))):
            raw += more
        return raw.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")  # git takes no NUL in a message


def _is_folder(name: str, folder: int) -> bool:
    with _opened(name, folder) as handle:
        return handle is not None and stat.S_ISDIR(os.fstat(handle).st_mode)


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int | None]:
    """The file by that name in the folder, opened without following a link and without waiting for a writer."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
