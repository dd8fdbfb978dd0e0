"""Front matter that anybody may have written: YAML, of which only `key: text` and `key: [text, text]` is taken.

Invariant: reading it costs no more than its bytes. It has no alias, anchor or tag, is not nested deeply, and holds a
limited number of values; everything else is refused in one sentence.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

MOST_BYTES = 64 << 10
MOST_VALUES = 500  # some 10 ms
_DEEPEST = 8  # one key's value: deeper text is refused, since the scanner gets slow with depth
_SIGNS = "a value that starts with a sign needs quotes"


class NotPlain(Exception):
    """Front matter that is not plain. `line`: counted from 0."""

    def __init__(self, reason: str, *, line: int = 0, form: str = "") -> None:
        super().__init__(reason)
        self.reason, self.line, self.form = reason, line, form


@dataclass(frozen=True, slots=True)
class Text:
    """One value as it was written. `is_plain`: no for a list or a mapping where a text belongs."""

    text: str
    is_plain: bool = True
    is_quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Whether nothing was written."""
        return (
            self.is_plain and not self.is_quoted and self.text in ("", "~", "null", "Null", "NULL")
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with what was written behind it. `line`: counted from 0."""

    key: str
    line: int
    texts: tuple[Text, ...]
    is_list: bool = False


def entries(head: str, *, most: int = MOST_VALUES) -> tuple[Entry, ...]:
    """The keys of the front matter in their order; raise NotPlain with the line. `most`: values that it may hold."""
    if len(head) > MOST_BYTES or len(head.encode(errors="replace")) > MOST_BYTES:
        raise NotPlain(
            f"front matter is larger than {MOST_BYTES >> 10} KiB", form="write the text below it"
        )
    try:
        return tuple(_Reader(head, most).entries())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "not YAML"
        form = "indent with spaces, not with tabs" if r"\t" in problem else ""
        raise NotPlain(
            f"front matter cannot be read: {problem}", line=mark.line if mark else 0, form=form
        ) from None
    except yaml.reader.ReaderError as error:
        line = head.count("\n", 0, int(error.position))
        raise NotPlain("a control character", line=line, form="remove it") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise NotPlain("front matter cannot be read") from None


class _Reader:
    """Takes the parser's events one by one, so that it stops at the first that is refused."""

    def __init__(self, head: str, most: int) -> None:
        self._head, self._most = head, most
        self._events = self._checked()

    def entries(self) -> Iterator[Entry]:
        """The entries of the one mapping."""
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return
        root = next(self._events)
        if isinstance(root, yaml.ScalarEvent) and not root.value:
            return
        if not isinstance(root, yaml.MappingStartEvent):
            raise NotPlain("front matter is not made of `key: value` lines")
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            name = self._text(key)
            line = _line(key)
            if not name.is_plain:
                raise NotPlain("a key that is not text", line=line)
            texts, is_list = self._value()
            yield Entry(name.text, line, texts, is_list)
        next(self._events)  # the document ends
        if not isinstance(more := next(self._events), yaml.StreamEndEvent):
            raise NotPlain("front matter holds a second document", line=_line(more))

    def _value(self) -> tuple[tuple[Text, ...], bool]:
        first = next(self._events)
        if not isinstance(first, yaml.SequenceStartEvent):
            return (self._text(first),), False
        texts = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            texts.append(self._text(item))
        return tuple(texts), True

    def _text(self, event: yaml.Event) -> Text:
        if isinstance(event, yaml.ScalarEvent):
            return Text(event.value, is_quoted=bool(event.style))
        depth, last = 1, event
        begins = event.start_mark.index if event.start_mark else 0
        while depth:
            last = next(self._events)
            depth += isinstance(last, yaml.CollectionStartEvent) - isinstance(
                last, yaml.CollectionEndEvent
            )
            if depth > _DEEPEST:
                raise NotPlain(
                    "front matter cannot be read: it is nested too deeply", line=_line(last)
                )
        ends = last.end_mark.index if last.end_mark else begins
        written = self._head[begins:ends]
        return Text(written.strip(), is_plain=False)

    def _checked(self) -> Iterator[yaml.Event]:
        for number, event in enumerate(yaml.parse(self._head, Loader=yaml.SafeLoader)):
            if number > self._most:
                raise NotPlain(
                    f"front matter holds more than {self._most} values", line=_line(event)
                )
            if refused := _refused(event):
                raise NotPlain(refused, line=_line(event), form=_SIGNS)
            yield event


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0


def _refused(event: yaml.Event) -> str:
    """Why the event is not plain; empty where it is."""
    anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
    if isinstance(event, yaml.AliasEvent):
        return f"*{anchor} is read as a YAML alias, and aliases are not followed: write out what it stands for"
    if anchor:
        return f"&{anchor} is read as a YAML anchor, and anchors are not allowed: leave it out"
    if tag:
        return f"{tag.replace('tag:yaml.org,2002:', '!!')} is read as a YAML tag; put quotes around the value"
    return ""
