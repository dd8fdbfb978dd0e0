"""The lines of a run's output as they are added to its file.

Invariant: no line is read twice, also across the rotation of output.log to output.1.log; one look
reads at most LOOK_BYTES and gives at most LOOK_LINES; skipped bytes are counted in `lost`.
"""

import os
import weakref
from contextlib import suppress

LOOK_BYTES = 1 << 20  # that one look reads
LOOK_LINES = 500  # that one look gives
LONGEST = 2 << 20  # bytes of a line that is given whole: 0.1 s to read, as JSON of small lists
LAST_BYTES = 256 << 10  # that are read of a skipped output
_KEPT = 16_000  # bytes of a fragment


class Fragment(bytes):
    """The end of a part of a line."""


class Tail:
    """Reads the output of one run folder from its start, each time what is new."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lost = 0  # bytes that were skipped, at least
        self.is_behind = False  # there may be more to read at once
        self._file: _File | None = None
        self._rest = b""
        self._in_part = False  # the next bytes belong to a line whose beginning was skipped

    def lines(self) -> list[bytes]:
        """The next whole lines; a Fragment of one that is too long or began in a skipped part."""
        self.is_behind = True
        if b"\n" not in self._rest:
            fresh = self._fresh()
            self._rest += fresh
            self.is_behind = bool(fresh)
        *lines, self._rest = self._rest.split(b"\n", LOOK_LINES)
        if self._in_part and lines:
            lines[0] = self._fragment(lines[0])
            self._in_part = False
        if len(self._rest) > LONGEST and b"\n" not in self._rest:
            lines.append(self._fragment(self._rest))
            self._rest = b""
            self._in_part = True
        return lines

    def last(self) -> list[bytes]:
        """Return the last line, which may be incomplete; call it when the run has ended."""
        last = self._rest
        self._rest = b""
        if self._in_part:
            last = self._fragment(last)
        return [last] if last else []

    def skip(self) -> None:
        """Go on at the last LAST_BYTES."""
        files = self._unread()
        unread = sum(file.size - file.at for file in files)
        if unread + len(self._rest) <= LAST_BYTES:
            return
        left = max(0, unread - LAST_BYTES)
        self.lost += left + len(self._rest)
        self._rest = b""
        self._in_part = True
        for file in files:
            step = min(left, file.size - file.at)
            file.begin(file.at + step)
            left -= step
            if file.at < file.size:
                self._file = file
                break

    def _unread(self) -> list["_File"]:
        """The files that were not read to their end, from there on."""
        found = list[_File]()
        for name in ("output.1.log", "output.log"):
            file = self._open(name)
            if file is None:
                continue
            if self._file and file.inode == self._file.inode:
                file.begin(self._file.at)
                found.clear()
            found.append(file)
        return found

    def _fragment(self, line: bytes) -> "Fragment":
        self.lost += max(0, len(line) - _KEPT)
        return Fragment(line[-_KEPT:])

    def _fresh(self) -> bytes:
        self._file = self._file or self._open("output.1.log") or self._open("output.log")
        while self._file:
            # Opened before the file is read: after a rotation it still has the rest of that file.
            newest = self._open("output.log")
            chunk = self._file.read()
            if chunk:
                return chunk
            if newest is None or newest.inode == self._file.inode:
                break
            self._go_on(self._file, newest)
        return b""

    def _go_on(self, ended: "_File", newest: "_File") -> None:
        """Go on with the next file when one was read to its end."""
        self._file = newest
        older = self._open("output.1.log")
        # Rotated more than once: files between the two may be gone.
        if older and older.inode != ended.inode:
            self._file = older
            self._in_part = bool(self._rest)
            self.lost += len(self._rest)
            self._rest = b""
            self.skip()

    def _open(self, name: str) -> "_File | None":
        with suppress(OSError):
            return _File(f"{self.folder}/{name}")
        return None


class _File:
    """An open file: while it is open, no other file gets its inode."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        seen = os.fstat(self._fd)
        self.inode = seen.st_ino
        self.size = seen.st_size
        self.at = 0

    def begin(self, at: int) -> None:
        """Read on from there."""
        self.at = os.lseek(self._fd, at, os.SEEK_SET)

    def read(self) -> bytes:
        """Read what is new, at most LOOK_BYTES."""
        chunk = os.read(self._fd, LOOK_BYTES)
        self.at += len(chunk)
        return chunk
