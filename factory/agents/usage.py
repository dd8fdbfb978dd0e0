"""Finds how much an attempt's session had used before the attempt began."""

from factory.agents.output import Usage
from factory.store.ports import Store
from factory.store.records import Attempt


def of_session(store: Store, attempt: Attempt) -> Usage | None:
    """Return what earlier attempts used in the same session; None if the session is new.

    This is needed because some runtimes report totals of the whole session.
    """
    if not attempt.resumed:
        return None
    total = Usage()
    for each in store.select(Attempt, unit=attempt.unit):
        if each.session == attempt.session and each.number < attempt.number:
            read, written = total.input + each.tokens_input, total.output + each.tokens_output
            total = Usage(read, written, total.cost + each.cost_usd)
    return total
