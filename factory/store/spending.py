"""How much an attempt counts against a budget: the daemon and `factory status` share this rule.

What must not live here: an import that `factory status` does not need.
"""


def charge(used: float, held: float) -> float:
    """Return how much an attempt counts; its own report `used` may be too low."""
    return max(used, held)


def minutes_used(held: float, *, ended: bool) -> float:
    """Return how many of the held minutes are used. This is known only after the end."""
    return held if ended else 0
