"""What an agent left in its outbox: plain files with size limits; symlinks are never followed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from factory.ground.front_matter import loose
from factory.ground.regular import SAFELY, read_at
from factory.store.task_file import PARTS_BYTES

CAP_BYTES = 65536
MOST_FILES = 30  # factoryd reads at most so many files from split/; no valid split has more
MOST_OPTIONS = 9  # most options of a question
LONGEST_OPTION = 200  # characters
LONGEST_S = 366 * 86400.0  # seconds; a later deadline is ignored


@dataclass(frozen=True, slots=True)
class Question:
    """An agent's question to a person."""

    text: str
    options: tuple[str, ...] = ()
    default: str = ""  # an option's label or number, as the agent wrote it
    deadline_s: float = 0

    @property
    def default_key(self) -> str:
        """The key of the default option; "" if the question names none."""
        labels = [label.casefold() for label in self.options]
        wanted = self.default.casefold()
        if wanted in labels:
            return str(labels.index(wanted) + 1)
        return wanted if wanted in map(str, range(1, len(labels) + 1)) else ""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The files of one attempt's outbox; a missing file is an empty text."""

    done: str = ""
    question: Question | None = None
    handoff: str = ""
    split: Mapping[str, bytes] = field(default_factory=dict)  # task files of the parts, by name
    not_yet: tuple[str, ...] = ()  # names in the contract that no released version supports


def read_outbox(folder: Path) -> Outbox:
    """Read the outbox; skip everything but regular files, cut each file at 64 KiB."""
    try:
        box = os.open(folder, SAFELY | os.O_DIRECTORY)
    except OSError:
        return Outbox()
    try:
        asked = _text("question.md", box)
        folders = {entry.name for entry in os.scandir(box) if entry.is_dir(follow_symlinks=False)}
        return Outbox(
            done=_text("done.md", box),
            question=_question(asked) if asked.strip() else None,
            handoff=_text("handoff.md", box),
            split=_task_files(box) if "split" in folders else {},
            not_yet=tuple({"discovered"} & folders),
        )
    finally:
        os.close(box)


def _task_files(box: int) -> dict[str, bytes]:
    """Return the files in split/, empty if the folder is unreadable.

    Reads each file up to one byte more than the limit for all files together.
    """
    try:
        folder = os.open("split", SAFELY | os.O_DIRECTORY, dir_fd=box)
    except OSError:
        return {}
    try:
        files = []
        for entry in os.scandir(folder):
            is_task = entry.name.lower().endswith(".md") and entry.name[0] not in ".#~"
            if is_task and entry.is_file(follow_symlinks=False):
                files.append(entry.name)
        first = sorted(files)[:MOST_FILES]
        return {name: read_at(name, folder, PARTS_BYTES + 1) for name in first}
    finally:
        os.close(folder)


def _question(text: str) -> Question:
    """Return the question; its text also quotes invalid parts of its front matter."""
    file = loose(text)
    options = []
    written = file.keys.get("options")
    if isinstance(written, list):
        options = list(filter(None, map(str.strip, written)))
    deadline = 0.0
    with suppress(ValueError):
        deadline = float(str(file.keys.get("deadline_s")))
    parts = [file.body.strip() or "(the agent's question has no text)", *_untaken(options)]
    if file.trouble:
        what = "the front matter of this question"
        parts.append(f"The factory could not read {what}: {file.trouble}.")
        parts.append(file.head.strip())
    return Question(
        text="\n\n".join(parts).strip(),
        options=tuple(map(_label, options[:MOST_OPTIONS])),
        default=_label(str(file.keys.get("default", "")).strip()),
        deadline_s=deadline if 0 < deadline <= LONGEST_S else 0,
    )


def _untaken(options: Sequence[str]) -> Iterator[str]:
    """Yield the options that do not fit on the card, as sentences."""
    for number, option in enumerate(options[:MOST_OPTIONS], start=1):
        if option != _label(option):
            yield f"Option {number} in full: {option}"
    more = options[MOST_OPTIONS:]
    if more:
        what_to_do = "The agent also wrote these; answer one of them as text:"
        yield f"A question has at most {MOST_OPTIONS} options. {what_to_do}"
        yield "\n".join(f"- {option}" for option in more)


def _label(option: str) -> str:
    return option if len(option) <= LONGEST_OPTION else f"{option[: LONGEST_OPTION - 1]}…"


def _text(name: str, box: int) -> str:
    text = read_at(name, box, CAP_BYTES).decode(errors="replace")
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # git accepts no NUL in a message
