"""What an agent left in its outbox: plain files, capped, never followed through a symlink."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from factory.ground.front_matter import loose
from factory.ground.regular import SAFELY, read_at
from factory.store.task_file import PARTS_BYTES

CAP_BYTES = 65536
MOST_FILES = 30  # that are read of split/: more than any split may have
MOST_OPTIONS = 9  # that a question offers
LONGEST_OPTION = 200  # characters
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
    split: Mapping[str, bytes] = field(default_factory=dict)  # task files of the parts, by name
    not_yet: tuple[str, ...] = ()  # names that the contract knows and no released version acts on


def read_outbox(folder: Path) -> Outbox:
    """Read the outbox; what is not a regular file is passed over, a file is cut at 64 KiB."""
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
    """What lies in split/, of each file a byte more than all may have.

    Nothing where the folder may not be read.
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
    """The question; its text also holds what cannot be taken of its front matter."""
    file = loose(text)
    options = []
    written = file.keys.get("options")
    if isinstance(written, list):
        options = list(filter(None, map(str.strip, written)))
    deadline = 0.0
    with suppress(ValueError):
        deadline = float(str(file.keys.get("deadline_s")))
    parts = [file.body.strip() or "(the agent asked without a text)", *_untaken(options)]
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
    """What of the options can only be answered in words."""
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
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # git takes no NUL in a message
