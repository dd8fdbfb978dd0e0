"""What an agent wrote in a unit's place, where that can take it."""

from collections.abc import Callable, Mapping

from factory.ground.errors import TaskFileError
from factory.inbox.split import Part, plan
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.unit import Unit, UnitState

Files = Mapping[str, bytes]  # task files, by name


def parts_of(
    unit: Unit,
    spec: Spec,
    split: Files,
    *,
    store: Store,
    taken: Callable[[str], bool],
) -> tuple[tuple[Part, ...], str]:
    """The parts, or why they cannot take its place; both empty where the agent left the unit whole.

    `taken`: whether an id is another unit's.
    """
    if not split:
        return (), ""
    known = (*store.open(Unit), *store.select(Unit, state=UnitState.SPLIT))
    try:
        return plan(unit, spec, split, units=known, taken=taken), ""
    except TaskFileError as error:
        line = f", line {error.line}" if error.line else ""
        return (), f"{error.reason}{line}; correct form: {error.form}"
