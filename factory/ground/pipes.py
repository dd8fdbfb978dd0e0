"""What is written to a short command and what is read from it, of which no more than a bound is kept.

Invariant: no more than the bound is ever held, however fast the command prints.
"""

import os
import time
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import IO

MOST = 256 << 20  # bytes that a short command may print where nobody says otherwise
COMPLAINTS = 256 << 10  # bytes that are kept of what it complains of; the rest is passed over
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Into:
    """Where the output of a short command goes, and how many bytes it may be; no `file`: it is returned."""

    most: int = MOST
    file: IO[bytes] | None = None

    def is_over(self) -> bool:
        """Whether the file has more already."""
        return self.file is not None and os.fstat(self.file.fileno()).st_size > self.most


class Pipes:
    """The pipes of one command; each may be missing."""

    def __init__(
        self,
        stdin: IO[bytes] | None,
        stdout: IO[bytes] | None,
        stderr: IO[bytes] | None,
        *,
        sent: bytes = b"",
        most: int = MOST,
    ) -> None:
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._unsent, self._most = memoryview(sent), most
        self._out, self._said = list[bytes](), 0
        self._err = bytearray()
        self.much = False  # it printed more than it may
        self._open = DefaultSelector()
        for pipe in (stdout, stderr):
            if pipe:
                self._open.register(pipe, EVENT_READ)
        if stdin and sent:
            os.set_blocking(stdin.fileno(), False)
            self._open.register(stdin, EVENT_WRITE)
        elif stdin:
            stdin.close()

    @property
    def out(self) -> bytes:
        """What it printed; where that was too much, how it began."""
        return b"".join(self._out)

    @property
    def err(self) -> bytes:
        """What it complained of first."""
        return bytes(self._err)

    def exchange(self, seconds: float) -> bool:
        """Read and write for at most so long; whether all pipes have come to their end.

        It returns early once the command has printed too much.
        """
        until = time.monotonic() + seconds
        knew = self.much
        while self._open.get_map():
            left = until - time.monotonic()
            if left <= 0 or self.much > knew:
                return False
            for key, _ in self._open.select(left):
                self._go_on(key.fd)
        return True

    def close(self) -> None:
        """Close what is still open."""
        for pipe in (self._stdin, self._stdout, self._stderr):
            if pipe and not pipe.closed:
                self._end(pipe)
        self._open.close()

    def _go_on(self, fd: int) -> None:
        if self._stdin and not self._stdin.closed and fd == self._stdin.fileno():
            self._send(self._stdin)
        elif self._stdout and not self._stdout.closed and fd == self._stdout.fileno():
            self._hear(self._stdout)
        elif self._stderr:
            self._hear_complaints(self._stderr)

    def _send(self, pipe: IO[bytes]) -> None:
        try:
            written = os.write(pipe.fileno(), self._unsent[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it does not read, or has ended
            written = len(self._unsent)
        self._unsent = self._unsent[written:]
        if not self._unsent:
            self._end(pipe)

    def _hear(self, pipe: IO[bytes]) -> None:
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            self._end(pipe)
        self._said += len(chunk)
        if self._said > self._most:
            self.much = True
            del self._out[1:]  # how it began is enough to say what it was
            return
        self._out.append(chunk)

    def _hear_complaints(self, pipe: IO[bytes]) -> None:
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            self._end(pipe)
        room = COMPLAINTS - len(self._err)
        self._err += chunk[:room]

    def _end(self, pipe: IO[bytes]) -> None:
        if pipe.fileno() in self._open.get_map():
            self._open.unregister(pipe)
        try:
            pipe.close()
        except OSError:  # a broken pipe
            return
