"""The daemon's log: structlog to one bounded file of JSON lines; the only importer of structlog.

Invariant: hidden values never reach the file, and a log that cannot be written stops nothing.
"""

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

# The table of events. The journal has the expected ones (journal.Event); these are surprises.
HOOK_OVERDUE = "hook.overdue"  # a full hook had no run under way, and was given one
RUN_BROKE = "run.broke"  # a worker's run ended with a traceback, or was fenced
TICK_BROKE = "tick.broke"  # a service's pass ended with a traceback; the next one is tried
LANDING_REFUSED = "landing.refused"
TRUNK_PUT_BACK = "trunk.put_back"  # somebody switched branches while a landing was under way

CAP_BYTES = 16 * 1024 * 1024
SHORTEST_SECRET = 6  # "1" or "true" is no secret, and hiding it would make every line unreadable

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    structlog.processors.format_exc_info,
]

# Silent until a `Log` is open: what a command calls must not print.
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

# `with bound(unit=…, attempt=…, worker=…):` names them on each line.
bound = structlog.contextvars.bound_contextvars


class Log:
    """The open log: it gets the lines of `log` and warnings of libraries, until it is closed."""

    def __init__(self, path: Path, *, cap_bytes: int = CAP_BYTES) -> None:
        """Write to `path`, and its older half to `path`.1: together at most `cap_bytes`."""
        self._secrets: list[str] = []  # as they look in JSON, the longest first
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
        """Hide these values (not names) from now on, in place of those of the last call."""
        hidden = set()
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                hidden.add(json.dumps(secret)[1:-1])
        self._secrets = sorted(hidden, key=len, reverse=True)

    def close(self) -> None:
        """Write no more."""
        logging.getLogger().removeHandler(self._handler)
        with suppress(OSError):  # only lines that could not be written are lost
            self._handler.close()

    def _cleaned(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line
