"""What an agent left in its outbox: plain files, capped, never followed through a symlink."""

import os
from dataclasses import dataclass
from pathlib import Path

from factory.task_file import loose

CAP_BYTES = 65536


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
        if self.default.isdigit() and 1 <= int(self.default) <= len(labels):
            return self.default
        wanted = self.default.casefold()
        return str(labels.index(wanted) + 1) if wanted in labels else ""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The files of one attempt's outbox; absent ones are empty."""

    done: str = ""
    question: Question | None = None
    handoff: str = ""
    not_yet: tuple[str, ...] = ()  # names that the contract knows and no released version acts on


def read_outbox(folder: Path) -> Outbox:
    """Read the outbox; whatever is not a regular file of at most 64 KiB of text is cut or passed over."""
    asked = _text(folder / "question.md")
    return Outbox(
        done=_text(folder / "done.md"),
        question=_question(asked) if asked.strip() else None,
        handoff=_text(folder / "handoff.md"),
        not_yet=tuple(name for name in ("split", "discovered") if (folder / name).is_dir()),
    )


def _question(text: str) -> Question:
    keys, body = loose(text)
    options, deadline = keys.get("options"), keys.get("deadline_s")
    return Question(
        text=body.strip() or "(the agent asked without a text)",
        options=tuple(str(option) for option in options) if isinstance(options, list) else (),
        default=str(keys.get("default", "")),
        deadline_s=float(deadline) if isinstance(deadline, int | float) and deadline > 0 else 0,
    )


def _text(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(handle, "rb") as file:
        try:
            return file.read(CAP_BYTES).decode(errors="replace")
        except OSError:  # a folder or a device by that name
            return ""
