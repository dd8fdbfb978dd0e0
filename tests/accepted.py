"""The records of a task file that was accepted, as intake or a migration makes them."""

from factory.store.accepted import spec_again
from factory.store.records import Task
from factory.store.spec import Spec


def accepted(unit: str, text: str, *, source: str = "", name: str = "") -> tuple[Spec, Task]:
    """Spec and Markdown of a unit; its file has the unit's name unless another is given."""
    name = name or f"{unit}.md"
    spec = spec_again(text, unit=unit, name=name, source=source or f"1-{name}")
    return spec, Task(unit=unit, text=text)
