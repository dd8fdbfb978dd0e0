"""Reads a YAML file of a repository into lists, mappings and texts that know their lines.

Invariant: the cost of reading is bounded, whatever the file contains. An alias costs nothing, since
all its users share one value; a value that contains itself is refused.
"""

from collections.abc import Iterator
from typing import Any, Self

MOST_BYTES = 256 << 10
_DEEPEST = 50


class Text(str):
    """A scalar as written; `line`: counted from 1."""

    line: int

    def __new__(cls, text: str, line: int) -> Self:
        """Make a text that starts in this line of its file."""
        made = super().__new__(cls, text)
        made.line = line
        return made

    @property
    def first(self) -> int:
        """The line of its content: a block of several lines begins on the line after its key."""
        return self.line + (1 if "\n" in self else 0)


Tree = Text | list["Tree"] | dict[str, "Tree"]


def tree_of(text: str) -> Tree | None:
    """Return the first document of a file; None if it is empty, too large or not YAML."""
    if not text or len(text) > MOST_BYTES:
        return None
    import yaml  # here, because PyYAML takes 1 MiB, and many projects have no such file

    # The loader in C is ten times faster, but a PyYAML without libyaml lacks it.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text, Loader=loader)
        return _Reader().value(root, 0) if root else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def table(value: Tree | None) -> dict[str, Tree]:
    """Return the value if it is a mapping; otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Tree | None) -> list[Tree]:
    """Return the items of a list. A single value counts as a list of one, and null as empty."""
    if isinstance(value, list):
        return value
    return [value] if value else []


def text(value: Tree | None) -> str:
    """Return the value if it is a text; otherwise ""."""
    return value if isinstance(value, str) else ""


def texts(value: Tree | None) -> Iterator[str]:
    """Yield the texts of a list, or the single text."""
    for item in items(value):
        if isinstance(item, str):
            yield item


class _Reader:
    """Turns PyYAML's nodes into values. Each node is read once, even if many aliases name it."""

    def __init__(self) -> None:
        self._known: dict[int, Tree] = {}
        self._open = set[int]()

    def value(self, node: Any, depth: int) -> Tree:
        key = id(node)
        if key in self._known:
            return self._known[key]
        if key in self._open or depth > _DEEPEST:
            raise ValueError("a value that contains itself, or is nested too deeply")
        self._open.add(key)
        found: Tree
        if node.id == "scalar":
            found = Text(node.value, node.start_mark.line + 1)
        elif node.id == "sequence":
            found = [self.value(item, depth + 1) for item in node.value]
        else:
            found = self._mapping(node, depth)
        self._open.discard(key)
        self._known[key] = found
        return found

    def _mapping(self, node: Any, depth: int) -> dict[str, Tree]:
        found: dict[str, Tree] = {}
        for name, below in node.value:
            key = self.value(name, depth + 1)
            value = self.value(below, depth + 1)
            if key == "<<":
                for merged in items(value):
                    found = {**table(merged), **found}
            elif isinstance(key, str):
                found[key] = value
        return found
