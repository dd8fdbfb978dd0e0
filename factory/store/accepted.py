"""What was accepted of a task file: how its records are made, and how they are found again.

Invariant: a unit whose task cannot be read has a spec that says so, and nobody judges it by that.
"""

from dataclasses import fields

from factory.ground.errors import FactoryError, TaskFileError
from factory.ground.front_matter import split_front_matter
from factory.store.ports import Store
from factory.store.records import Task
from factory.store.spec import Spec
from factory.store.task_file import TaskFile, parse

# What a task asks for is whatever both its file and its record have a field for.
_ASKED = {each.name for each in fields(TaskFile)} & {each.name for each in fields(Spec)}


class NoSpec(FactoryError):
    """It is not known what a unit's task asks for, so the unit is not judged."""


class NoMarkdown(FactoryError):
    """The text of a unit's task is gone, so no agent can be told it."""


def spec_from(file: TaskFile, *, unit: str, name: str, source: str) -> Spec:
    """The record of a task file that was understood."""
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
    """What the unit's task asks for; raise NoSpec where that is not known."""
    spec = store.get(Spec, unit)
    if spec is None:
        raise NoSpec(f"What the task of {unit} asks for is not on record.")
    if spec.trouble:
        raise NoSpec(unread(spec))
    return spec


def unread(spec: Spec) -> str:
    """What is to be said of a unit whose task cannot be read any more."""
    what_to_do = f"Cancel {spec.unit}, and drop the file again when it is mended."
    return f"its task file is not right for this release ({spec.trouble}). {what_to_do}"


def body_of(store: Store, unit: str) -> str:
    """Return the Markdown below the unit's front matter; raise NoMarkdown if the text is gone."""
    task = store.get(Task, unit)
    if task is None or not task.text:
        raise NoMarkdown("the text of its task file is not on record any more")
    _, body, _ = split_front_matter(task.text)
    return body
