"""The pipes to and from a short command.

Invariant: memory never holds more output than the bound, however fast the command prints.
"""

import os
import time
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import IO

MOST = 256 << 20  # bytes that a short command may print if its caller gives no bound
COMPLAINTS = 256 << 10  # bytes of standard error that are kept; the rest is dropped
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Into:
    """The file for a short command's output, and its limit in bytes. No `file`: the caller."""

    most: int = MOST
    file: IO[bytes] | None = None

    def is_over(self) -> bool:
        """Return whether the file is larger than the bound."""
        return self.file is not None and os.fstat(self.file.fileno()).st_size > self.most


class Pipes:
    """The pipes of one command. Each of the pipes may be missing."""

    def __init__(
        self,
        stdin: IO[bytes] | None,
        stdout: IO[bytes] | None,
        stderr: IO[bytes] | None,
        *,
        sent: bytes = b"",
        most: int = MOST,
    ) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._unsent = memoryview(sent)
        self._most = most
        self._out: list[bytes] = []
        self._printed = 0
        self._err = bytearray()
        self.much = False  # the command printed more than its limit
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
        """What the command printed; only the beginning if it printed too much."""
        return b"".join(self._out)

    @property
    def err(self) -> bytes:
        """The beginning of the command's standard error."""
        return bytes(self._err)

    def exchange(self, seconds: float) -> bool:
        """Read and write for at most so many seconds; return whether all pipes have ended.

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
        """Close the pipes that are still open."""
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
        except OSError:  # the command does not read its input, or has ended
            written = len(self._unsent)
        self._unsent = self._unsent[written:]
        if not self._unsent:
            self._end(pipe)

    def _hear(self, pipe: IO[bytes]) -> None:
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            self._end(pipe)
        self._printed += len(chunk)
        if self._printed > self._most:
            self.much = True
            del self._out[1:]  # the beginning is enough for an error message
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
        except OSError:  # the other end of the pipe is closed
            return
