"""Reads front matter from untrusted files: `key: text` and `key: [text, text]`, in YAML.

Invariant: the cost of reading is bounded. The reader accepts only front matter without aliases,
anchors, tags and deep nesting, and with a limited number of values. It refuses all other front
matter with one sentence.
"""

from collections.abc import Iterator

import yaml

from factory.ground.entry import MOST_VALUES, Entry, NotPlain, Text

MOST_BYTES = 64 << 10
# allowed depth of a value; the reader refuses deeper ones because depth makes the scanner slow
_DEEPEST = 8
_SIGNS = "a value that starts with a sign needs quotes"


def entries(head: str, *, most: int = MOST_VALUES) -> tuple[Entry, ...]:
    """Return the entries in the order of the file; raise NotPlain with the line.

    `most`: how many values the front matter may hold.
    """
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
    """Takes the parser's events one by one and stops at the first event that is not allowed."""

    def __init__(self, head: str, most: int) -> None:
        self._head = head
        self._most = most
        self._events = self._checked()

    def entries(self) -> Iterator[Entry]:
        """Return the entries of the single mapping."""
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return
        root = next(self._events)
        if isinstance(root, yaml.ScalarEvent) and not root.value:
            return
        if not isinstance(root, yaml.MappingStartEvent):
            raise NotPlain("front matter is not made of `key: value` lines")
        for key in self._until(yaml.MappingEndEvent):
            name = self._text(key)
            line = _line(key)
            if not name.is_plain:
                raise NotPlain("a key that is not text", line=line)
            first = next(self._events)
            if isinstance(first, yaml.SequenceStartEvent):
                texts = tuple(map(self._text, self._until(yaml.SequenceEndEvent)))
                yield Entry(name.text, line, texts, is_list=True)
            else:
                yield Entry(name.text, line, (self._text(first),))
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise NotPlain("front matter holds a second document", line=_line(after))

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        """Yield the first event of each item, until the end of the collection."""
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _text(self, event: yaml.Event) -> Text:
        if isinstance(event, yaml.ScalarEvent):
            return Text(event.value, is_quoted=bool(event.style))
        begin = event.start_mark.index if event.start_mark else 0
        last = self._end_of_collection()
        end = last.end_mark.index if last.end_mark else begin
        return Text(self._head[begin:end].strip(), is_plain=False)

    def _end_of_collection(self) -> yaml.Event:
        """Skip the rest of the collection; return its last event."""
        depth = 1
        for event in self._events:
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if not depth:
                return event
            if depth > _DEEPEST:
                raise NotPlain(
                    "front matter cannot be read: it is nested too deeply", line=_line(event)
                )
        raise NotPlain("front matter cannot be read")

    def _checked(self) -> Iterator[yaml.Event]:
        for number, event in enumerate(yaml.parse(self._head, Loader=yaml.SafeLoader)):
            if number > self._most:
                raise NotPlain(
                    f"front matter holds more than {self._most} values", line=_line(event)
                )
            refused = _refused(event)
            if refused:
                raise NotPlain(refused, line=_line(event), form=_SIGNS)
            yield event


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0


def _refused(event: yaml.Event) -> str:
    """Return why the event is not plain; "" if it is plain."""
    anchor = getattr(event, "anchor", None)
    tag = getattr(event, "tag", None)
    if isinstance(event, yaml.AliasEvent):
        return (
            f"*{anchor} is read as a YAML alias, and aliases are not followed: "
            "write out what it stands for"
        )
    if anchor:
        return f"&{anchor} is read as a YAML anchor, and anchors are not allowed: leave it out"
    if tag:
        short = tag.replace("tag:yaml.org,2002:", "!!")
        return f"{short} is read as a YAML tag; put quotes around the value"
    return ""
