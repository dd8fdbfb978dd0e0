"""What the session of an attempt had used before the attempt began."""

from factory.agents.output import Usage
from factory.store.ports import Store
from factory.store.records import Attempt


def of_session(store: Store, attempt: Attempt) -> Usage | None:
    """What earlier attempts used in the same session: some runtimes tell totals of the session."""
    if not attempt.resumed:
        return None
    total = Usage()
    for each in store.select(Attempt, unit=attempt.unit):
        if each.session == attempt.session and each.number < attempt.number:
            read, written = total.input + each.tokens_input, total.output + each.tokens_output
            total = Usage(read, written, total.cost + each.cost_usd)
    return total
