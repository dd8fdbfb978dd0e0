"""The parts that an agent wrote to replace a unit, if they can replace it."""

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
    """Return (parts, why they cannot replace the unit); both empty if the agent wrote none.

    `taken`: whether an id belongs to another unit.
    """
    if not split:
        return (), ""
    known = (*store.open(Unit), *store.select(Unit, state=UnitState.SPLIT))
    try:
        return plan(unit, spec, split, units=known, taken=taken), ""
    except TaskFileError as error:
        line = f", line {error.line}" if error.line else ""
        return (), f"{error.reason}{line}; correct form: {error.form}"
