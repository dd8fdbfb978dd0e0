"""Makes the records of an accepted task file, and finds them again.

Invariant: if a unit's task cannot be read, its spec says so, and factoryd never judges the unit by
such a spec.
"""

from dataclasses import fields

from factory.ground.errors import FactoryError, TaskFileError
from factory.ground.front_matter import split_front_matter
from factory.store.ports import Store
from factory.store.records import Task
from factory.store.spec import Spec
from factory.store.task_file import TaskFile, parse

# The fields that a task file and its record have in common.
_ASKED = {each.name for each in fields(TaskFile)} & {each.name for each in fields(Spec)}


class NoSpec(FactoryError):
    """A unit's spec is missing or unreadable, so factoryd cannot judge the unit."""


class NoMarkdown(FactoryError):
    """The text of a unit's task is missing, so factoryd cannot write a prompt."""


def spec_from(file: TaskFile, *, unit: str, name: str, source: str) -> Spec:
    """Return the record of a parsed task file."""
    asked = {field: getattr(file, field) for field in _ASKED}
    return Spec(unit=unit, name=name, source=source, **asked)


def spec_again(text: str, *, unit: str, name: str, source: str) -> Spec:
    """Return the record of a task file that an earlier release accepted."""
    try:
        file = parse(text, name)
    except TaskFileError as error:
        return Spec(unit=unit, name=name, source=source, title=unit, trouble=str(error))
    return spec_from(file, unit=unit, name=name, source=source)


def spec_of(store: Store, unit: str) -> Spec:
    """Return the unit's spec; raise NoSpec if it is missing or unreadable."""
    spec = store.get(Spec, unit)
    if spec is None:
        raise NoSpec(f"The store has no record of the task of {unit}.")
    if spec.trouble:
        raise NoSpec(unread(spec))
    return spec


def unread(spec: Spec) -> str:
    """Return the sentence for a unit whose task file this release cannot read."""
    what_to_do = f"Cancel {spec.unit}, and drop the file again once it is fixed."
    return f"this release cannot read its task file ({spec.trouble}). {what_to_do}"


def body_of(store: Store, unit: str) -> str:
    """Return the Markdown below the unit's front matter; raise NoMarkdown if the text is gone."""
    task = store.get(Task, unit)
    if task is None or not task.text:
        raise NoMarkdown("the text of its task file is not on record any more")
    _, body, _ = split_front_matter(task.text)
    return body
