"""What an attempt counts for, in any unit of money: one rule for the daemon and for `factory status`.

What must not live here: an import that `factory status` does not need.
"""


def charge(used: float, held: float) -> float:
    """What an attempt counts for that used and held back so much: it may not have told all of it."""
    return max(used, held)


def minutes_used(held: float, *, ended: bool) -> float:
    """Of the minutes that are held back: how many are used, which is known at the end."""
    return held if ended else 0
