"""The highest numbers that the store has given out, kept beside it.

Invariant: no card number is given out twice, also after a backup of the store was put back. A start
can tell that a store is older than what has happened.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from factory.ground import bounded, faults


@dataclass(frozen=True, slots=True)
class Marks:
    """What was given out last."""

    seq: int = 0  # of the journal
    card: int = 0


class HighWater:
    """The file with the marks. It is not synced: after a power cut it may be old, never wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Marks:
        """The marks; zeros where there is no file, or one that cannot be read."""
        try:
            told = json.loads(bounded.whole(self._path, bounded.PARSED))
            return Marks(seq=int(told["seq"]), card=int(told["card"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Marks()

    def next_card(self, on_record: int) -> int:
        """The number for a new card, where the store has so many."""
        known = self.read()
        number = 1 + max(on_record, known.card)
        self._write(replace(known, card=number))
        return number

    def note_seq(self, seq: int) -> None:
        """Note the journal's newest entry."""
        known = self.read()
        if seq != known.seq:
            self._write(replace(known, seq=seq))

    @faults.during("marks.write")
    def _write(self, marks: Marks) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):  # a full disk: the numbers on record still count
            fresh.write_text(json.dumps(asdict(marks)))
            fresh.replace(self._path)
