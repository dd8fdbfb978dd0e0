"""Submissions of a line that has no git: no request there submits commits."""

from factory.queue.submissions import Submissions


class NothingSubmitted(Submissions):
    """Knows of no work."""

    def __init__(self) -> None:
        self._ready = {}
