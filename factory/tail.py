"""The lines of a run's output as they are added to its file.

Invariant: no line is read twice or passed over, also across the rotation of output.log to output.1.log.
"""

import os
from contextlib import suppress

LONGEST = 8 << 20  # bytes of a line that does not end


class Tail:
    """Reads what one run folder's output has more each time, from its start, also where it was rotated before."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._inode = self._at = 0  # the file that was read, and up to where
        self._rest = b""

    def lines(self, *, ended: bool = False) -> list[bytes]:
        """The new lines that are whole; a last one without its end counts when the run has `ended`."""
        *lines, self._rest = (self._rest + self._fresh()).split(b"\n")
        if ended or len(self._rest) > LONGEST:
            lines, self._rest = [*lines, self._rest], b""
        return lines

    def _fresh(self) -> bytes:
        fresh = b""
        with suppress(FileNotFoundError), open(f"{self.folder}/output.log", "rb") as file:  # noqa: PTH123 -- place.py
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:
                fresh, self._at = self._older(), 0
            file.seek(self._at)
            fresh += file.read()
            self._inode, self._at = inode, file.tell()
        return fresh

    def _older(self) -> bytes:
        """What of the rotated file was not read before."""
        with suppress(FileNotFoundError), open(f"{self.folder}/output.1.log", "rb") as file:  # noqa: PTH123
            file.seek(self._at if os.fstat(file.fileno()).st_ino == self._inode else 0)
            return file.read()
        return b""
