"""Finds out whether somebody else than factoryd killed a command.

Invariant: a program that crashes by itself was not killed.
"""

import signal

from factory.child.process import Exit

# The kernel kills a program if memory is short; people and programs interrupt or terminate it.
# SIGHUP is not here: supervised commands have no terminal, and git exits with 128 + SIGHUP if it
# is called wrongly.
_SENT = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


def killed_by(ended: Exit) -> int:
    """Return the signal by which somebody else killed a command; 0 if nobody did."""
    if ended.cause != "exited":
        return 0
    # If only a child was killed, a shell or a confiner exits with 128 + the signal.
    number = ended.signal or (ended.code or 0) - 128
    return number if number in _SENT else 0
