"""The lines of a run's output, read while its file grows.

Invariant: no line is returned twice, even if output.log is rotated to output.1.log. One call reads
at most LOOK_BYTES and returns at most LOOK_LINES lines. `lost` counts the skipped bytes.
"""

import os
import weakref
from contextlib import suppress

LOOK_BYTES = 1 << 20  # most bytes that one call reads
LOOK_LINES = 500  # most lines that one call returns
# bytes of the longest line that is returned whole; parsing its JSON takes up to 0.1 s
LONGEST = 2 << 20
LAST_BYTES = 256 << 10  # bytes at the end of a skipped part that are still read
_KEPT = 16_000  # bytes of the longest fragment


class Fragment(bytes):
    """The end of a line, or of a part of it, that was not read whole."""


class Tail:
    """Reads a run's output from the beginning; each later call returns only what was added."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lost = 0  # the number of skipped bytes, at least
        self.is_behind = False  # there may be more to read now
        self._file: _File | None = None
        self._rest = b""
        self._in_part = False  # the beginning of the current line was skipped

    def lines(self) -> list[bytes]:
        """Return the next lines. A line that is too long or partly skipped becomes a Fragment."""
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
        """Return the last line, which may be incomplete. Call this only after the run's end."""
        last = self._rest
        self._rest = b""
        if self._in_part:
            last = self._fragment(last)
        return [last] if last else []

    def skip(self) -> None:
        """Skip everything that is not read yet, except the last LAST_BYTES."""
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
        """Return the files with unread output, each positioned where its unread part begins."""
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
            # Open the newest file before reading. If it is not `_file`, then `_file` no longer
            # grows.
            newest = self._open("output.log")
            chunk = self._file.read()
            if chunk:
                return chunk
            if newest is None or newest.inode == self._file.inode:
                break
            self._go_on(self._file, newest)
        return b""

    def _go_on(self, ended: "_File", newest: "_File") -> None:
        """After the end of one file, continue with the next file."""
        self._file = newest
        older = self._open("output.1.log")
        # The output was rotated more than once, so files between these two may be lost.
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
    """An open file. While it is open, no other file can have its inode number."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        seen = os.fstat(self._fd)
        self.inode = seen.st_ino
        self.size = seen.st_size
        self.at = 0

    def begin(self, at: int) -> None:
        """Continue at that offset in the file."""
        self.at = os.lseek(self._fd, at, os.SEEK_SET)

    def read(self) -> bytes:
        """Read new bytes, at most LOOK_BYTES."""
        chunk = os.read(self._fd, LOOK_BYTES)
        self.at += len(chunk)
        return chunk
