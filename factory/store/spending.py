"""Computes how much an attempt counts against a budget, for the daemon and `factory status`.

What must not live here: an import that `factory status` does not need.
"""


def charge(used: float, held: float) -> float:
    """Return how much an attempt counts; the report `used` may be too low, so `held` counts too."""
    return max(used, held)


def minutes_used(held: float, *, ended: bool) -> float:
    """Return how many of the held minutes the attempt used. Only after its end is this known."""
    return held if ended else 0
