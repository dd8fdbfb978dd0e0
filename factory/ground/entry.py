"""The values that plain_yaml.py reads from front matter, and its error.

Invariant: this module does not import PyYAML, so that a daemon loads it with the first task file.
"""

from dataclasses import dataclass

MOST_VALUES = 500  # so many values take about 10 ms to read


class NotPlain(Exception):
    """Front matter is not plain YAML, as described above. `line`: counted from 0."""

    def __init__(self, reason: str, *, line: int = 0, form: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.form = form


@dataclass(frozen=True, slots=True)
class Text:
    """One value, as written. `is_plain`: false if the value is a list or a mapping."""

    text: str
    is_plain: bool = True
    is_quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Whether the value is empty."""
        is_bare = self.is_plain and not self.is_quoted
        return is_bare and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value. `line`: counted from 0."""

    key: str
    line: int
    texts: tuple[Text, ...]
    is_list: bool = False
