"""Splits a unit that is too big: the agent's files in the outbox become the task files of parts.

Invariant: no part gets more rights than the split unit (the whole). Its scope lies inside the
whole's scope, its priority is not higher, and it inherits all other keys. The last part gets the
accept commands and needs all other parts, so a split does not avoid them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from factory.dispatch.scheduling import circle
from factory.ground.errors import TaskFileError, did_you_mean
from factory.ground.reserved import PERSON
from factory.ground.scope import covers
from factory.inbox.dropped import shown
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.task_file import FORMS, PARTS_BYTES, TaskFile, decode, free_id, parse, slug
from factory.store.unit import Unit, UnitState

FEWEST, MOST = 2, 20  # parts
MOST_GLOBS = 50  # globs of a part; each pass of the pool compares the globs of every two units
MOST_VALUES = 150  # values in a part's front matter; one turn of the event loop parses all parts
SETTABLE = ("title", "priority", "needs", "scope")  # keys that a part may set (line.md §5)
INHERITED = ("agent", "model", "attempts", "minutes", "allow", "review")


@dataclass(frozen=True, slots=True)
class Part:
    """A future unit: its id and its task file. `left_out`: keys to ignore in it."""

    id: str
    text: str
    needs: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def part_ids(whole: str, names: Sequence[str], taken: Callable[[str], bool]) -> dict[str, str]:
    """Return a dictionary from file name to id of the part: the whole's id and the file's name."""
    found = dict[str, str]()
    used = set[str]()
    for name in names:
        part = free_id(f"{whole}-{name}", lambda each: each in used or taken(each))
        found[name] = part
        used.add(part)
    return found


def plan(
    whole: Unit,
    spec: Spec,
    files: Mapping[str, bytes],
    *,
    units: Sequence[Unit],
    taken: Callable[[str], bool],
) -> tuple[Part, ...]:
    """Return the parts of `whole`, in the order of their names.

    `files`: name → content; `units`: all units that are not final, and all split units, whose needs
    are their parts; `taken`: returns whether a unit already has that id. Raises TaskFileError with
    the file's name if the files are not a valid split.
    """
    _check_whole(whole, spec, units)
    _check_files(files)
    split = _Split(whole, spec, part_ids(whole.id, sorted(files), taken), taken)
    stands_for = {whole.id: split.ids.values()}
    needs = {unit.id: replaced(unit.needs, stands_for) for unit in units}
    parts = {}
    for name in split.ids:
        part = split.part(name, files[name])
        parts[name] = part
        needs[part.id] = part.needs
    for name, part in parts.items():
        way = circle(part.id, needs)
        if way:
            form = FORMS["needs"]
            if spec.accept:
                form = "the last file by name proves the whole and waits for all others"
            raise _in(name, TaskFileError(in_a_circle(way), form=form))
    return tuple(parts.values())


def _check_whole(whole: Unit, spec: Spec, units: Iterable[Unit]) -> None:
    why = ""
    if spec.run:
        why = "a `run` unit cannot be split"
    elif any(each.state is UnitState.SPLIT and whole.id in each.needs for each in units):
        why = f"{whole.id} is a part already, and a part cannot be split again"
    if why:
        raise TaskFileError(
            f"split/: {why}", form="one change that does the task, or a question.md"
        )


def _check_files(files: Mapping[str, bytes]) -> None:
    form = f"from {FEWEST} to {MOST} files split/NAME.md"
    if len(files) > MOST:
        raise TaskFileError(f"split/: holds more than {MOST} task files", form=form)
    if len(files) < FEWEST:
        held = "1 task file" if files else "0 task files"
        raise TaskFileError(f"split/: holds {held}", form=form)
    if sum(map(len, files.values())) > PARTS_BYTES:
        form = f"at most {PARTS_BYTES >> 10} KiB in all its files"
        raise TaskFileError("split/: is too large", form=form)


def told(parts: Iterable[Part]) -> str:
    """Return the ids of the parts, and the keys that were left out, as a sentence."""
    names = []
    left_out = []
    for part in parts:
        names.append(part.id)
        if part.left_out:
            left_out.append(f"{', '.join(part.left_out)} of {part.id}")
    said = ", ".join(names)
    if left_out:
        said += f"; left out, because a part may not set it: {'; '.join(left_out)}"
    return said


def replaced(needs: Iterable[str], parts: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the needs, with each split unit replaced by its `parts`, recursively."""
    found = dict[str, None]()
    for need in needs:
        if need not in parts:
            found[need] = None
            continue
        others = dict(parts)
        del others[need]
        found |= dict.fromkeys(replaced(parts[need], others))
    return tuple(found)


def in_a_circle(way: Iterable[str]) -> str:
    """Return why needs that form a circle are refused."""
    return f"needs: they form a circle, so none of these units could start: {' → '.join(way)}"


def is_part(store: Store, unit: str) -> bool:
    """Whether the unit is a part of a split unit."""
    return any(unit in whole.needs for whole in store.select(Unit, state=UnitState.SPLIT))


@dataclass(frozen=True, slots=True)
class _Split:
    whole: Unit
    spec: Spec
    ids: Mapping[str, str]  # file name → id
    taken: Callable[[str], bool]

    def part(self, name: str, raw: bytes) -> Part:
        try:
            return self._part(self.ids[name], raw, is_last=name == list(self.ids)[-1])
        except TaskFileError as error:
            raise _in(name, error) from None

    def _part(
        self,
        part: str,
        raw: bytes,
        *,
        is_last: bool,
    ) -> Part:
        file = parse(decode(raw), f"{part}.md", most=MOST_VALUES)
        wanted = [self._need(need, file) for need in file.needs]
        accept: tuple[str, ...] = ()
        if is_last and self.spec.accept:  # the last part proves the whole, so it needs all others
            accept = self.spec.accept
            wanted += list(self.ids.values())[:-1]
        needs = tuple(dict.fromkeys(wanted))
        fields: dict[str, object] = {
            "title": file.title,
            "priority": self._priority(file),
            "needs": needs,
            "scope": self._scope(file),
        }
        for name in INHERITED:
            fields[name] = getattr(self.spec, name)
        if self.spec.agent == PERSON:  # an agent took the unit over
            del fields["agent"]
        fields["accept"] = accept
        if not file.body.strip() and "title" not in file.lines:  # the whole may have only `run`
            raise TaskFileError("has no task", form="write the task below the front matter")
        text = _task_file(fields, file.body)
        parse(text, f"{part}.md")  # too large, or an invalid title
        left_out = tuple(name for name in file.lines if name not in SETTABLE)
        return Part(part, text, needs, left_out)

    def _priority(self, file: TaskFile) -> int:
        if "priority" not in file.lines:
            return self.whole.priority
        return max(file.priority, self.whole.priority)

    def _need(self, need: str, file: TaskFile) -> str:
        siblings = {slug(name): each for name, each in self.ids.items()}
        if need in siblings:
            return siblings[need]
        if need in self.ids.values():
            return need
        if need == self.whole.id or not self.taken(need):
            hint = did_you_mean(need, siblings)
            reason = f"needs: {need!r} is neither a part nor another unit{hint}"
            form = "names of files in split/, or ids of units"
            raise TaskFileError(reason, line=file.lines["needs"], form=form)
        return need

    def _scope(self, file: TaskFile) -> tuple[str, ...]:
        scope = self.spec.scope
        if not file.scope:
            return scope
        line = file.lines["scope"]
        if len(file.scope) > MOST_GLOBS:
            form = f"at most {MOST_GLOBS} globs; folder/** matches all files in a folder"
            raise TaskFileError(f"scope: holds {len(file.scope)} globs", line=line, form=form)
        for glob in file.scope:
            if scope and not covers(scope, glob):
                whole = f"{self.whole.id} ({', '.join(scope)})"
                reason = f"scope: {glob} lies outside the scope of {whole}"
                raise TaskFileError(reason, line=line, form=FORMS["scope"])
        return file.scope


def _task_file(fields: Mapping[str, object], body: str) -> str:
    """Return a task file with the fields that have a value."""
    lines = ["---"]
    for name, value in fields.items():
        if value or value == 0:
            lines.append(f"{name}: {_written(value)}")
    lines.append("---")
    return "\n".join([*lines, body])


def _written(value: object) -> str:
    """Return the value in a form that a task file accepts: it does not read 1e-05 as a number."""
    return f"{value:.9f}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _in(name: str, error: TaskFileError) -> TaskFileError:
    where = f"split/{shown(PurePosixPath(name).name)}"
    return TaskFileError(f"{where}: {error.reason}", line=error.line, form=error.form)
