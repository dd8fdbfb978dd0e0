"""The daemon's log: one bounded file of JSON lines. Only this module imports structlog.

Invariant: hidden values never reach the file, and a failure to write the log stops nothing.
"""

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from factory.ground.imports import hidden

# structlog loads rich, if it is installed, to color tracebacks on a terminal. That takes 4 MiB, and
# this log is a file.
with hidden("rich"):
    import structlog

# The log's events. These events are unexpected; the journal has the expected events
# (journal.Event).
HOOK_OVERDUE = "hook.overdue"  # a hook had a unit but no run, so a run was started
# a worker's run failed with a traceback, or an attempt was no longer the newest
RUN_BROKE = "run.broke"
TICK_BROKE = "tick.broke"  # a service's pass failed with a traceback, but the service continues
LANDING_REFUSED = "landing.refused"
TRUNK_PUT_BACK = "trunk.put_back"  # somebody switched branches during a landing

CAP_BYTES = 16 * 1024 * 1024
# Values such as "1" and "true" are no secrets; hiding them would make all lines unreadable.
SHORTEST_SECRET = 6

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    structlog.processors.format_exc_info,
]

# Silent until a `Log` is open: code that a command calls must not print log lines.
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("factory"),
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)
logging.getLogger("factory").addHandler(logging.NullHandler())

# `with bound(unit=…, attempt=…, worker=…):` adds these fields to each line.
bound = structlog.contextvars.bound_contextvars


class Log:
    """An open log. It gets the lines of `log` and the warnings of libraries until it is closed."""

    def __init__(self, path: Path, *, cap_bytes: int = CAP_BYTES) -> None:
        """Write to `path`, and keep older lines in `path`.1; limit both to `cap_bytes` together."""
        self._secrets: list[str] = []  # as JSON writes them, the longest first
        self._handler = RotatingFileHandler(
            path,
            maxBytes=cap_bytes // 2,
            backupCount=1,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(serializer=json.dumps, default=str),
                    lambda _, __, line: self._cleaned(str(line)),
                ],
            )
        )
        logging.getLogger().addHandler(self._handler)
        logging.getLogger("factory").setLevel(logging.INFO)

    def hide(self, secrets: Iterable[str]) -> None:
        """Hide these values (not names) from now on, instead of those of the last call."""
        hidden = set()
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                hidden.add(json.dumps(secret)[1:-1])
        self._secrets = sorted(hidden, key=len, reverse=True)

    def close(self) -> None:
        """Stop writing."""
        logging.getLogger().removeHandler(self._handler)
        with suppress(OSError):  # only lines that could not be written are lost
            self._handler.close()

    def _cleaned(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line
