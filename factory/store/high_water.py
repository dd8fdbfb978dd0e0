"""Keeps the highest numbers that the store has used, in a file beside the store.

Invariant: no two cards ever get the same number, even after somebody restored a backup of the
store. With this file, a starting daemon notices that the store is older than the last events.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from factory.ground import bounded, faults


@dataclass(frozen=True, slots=True)
class Marks:
    """The highest numbers that the store has used."""

    seq: int = 0  # the newest entry of the journal
    card: int = 0


class HighWater:
    """The file with the marks.

    The file is not synced. After a power cut its numbers may be too low, but never too high.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Marks:
        """Return the marks; zeros if the file is missing or unreadable."""
        try:
            told = json.loads(bounded.whole(self._path, bounded.PARSED))
            return Marks(seq=int(told["seq"]), card=int(told["card"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Marks()

    def next_card(self, on_record: int) -> int:
        """Return the number for a new card. `on_record`: the number of the store's newest card."""
        known = self.read()
        number = 1 + max(on_record, known.card)
        self._write(replace(known, card=number))
        return number

    def note_seq(self, seq: int) -> None:
        """Note the number of the journal's newest entry."""
        known = self.read()
        if seq != known.seq:
            self._write(replace(known, seq=seq))

    @faults.during("marks.write")
    def _write(self, marks: Marks) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):  # on a full disk, only the numbers in the store count
            fresh.write_text(json.dumps(asdict(marks)))
            fresh.replace(self._path)
