"""A unit that is too big, replaced by parts: an agent's files in the outbox become task files.

Invariant: no part goes beyond its whole. Scope and priority stay inside, all else is inherited, and
the proof is not lost: the last part has it, and needs all the others.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from factory.dispatch.scheduling import circle
from factory.ground.errors import TaskFileError, did_you_mean
from factory.ground.scope import covers
from factory.inbox.dropped import shown
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.task_file import FORMS, PARTS_BYTES, TaskFile, decode, free_id, parse, slug
from factory.store.unit import Unit, UnitState

FEWEST, MOST = 2, 20  # parts
MOST_GLOBS = 50  # of a part: each pass of the pool compares those of one unit with those of another
MOST_VALUES = 150  # in the front matter of a part: all parts are read in one turn of the loop
SETTABLE = ("title", "priority", "needs", "scope")  # what a part may say for itself (line.md §5)
INHERITED = ("agent", "model", "attempts", "minutes", "allow", "review")


@dataclass(frozen=True, slots=True)
class Part:
    """A unit to be: its id and its task file. `left_out`: keys that its agent may not set."""

    id: str
    text: str
    needs: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def part_ids(whole: str, names: Sequence[str], taken: Callable[[str], bool]) -> dict[str, str]:
    """The id of each part by its file's name: the whole's id and that name, if not `taken`."""
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
    """The parts of `whole`, in the order of their names.

    `files`: name → content; `units`: all that are not final, and those that were split, with their
    parts as needs; `taken`: whether a unit has that id already. Raises TaskFileError, which names
    the file, for what is no split.
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
                form = "the last by name, which proves the whole, waits for all others"
            raise _in(name, TaskFileError(in_a_circle(way), form=form))
    return tuple(parts.values())


def _check_whole(whole: Unit, spec: Spec, units: Iterable[Unit]) -> None:
    why = ""
    if spec.run:
        why = "a `run` unit is not split"
    elif any(each.state is UnitState.SPLIT and whole.id in each.needs for each in units):
        why = f"{whole.id} is a part already, and parts are not split again"
    if why:
        raise TaskFileError(f"split/: {why}", form="one change that does it, or a question.md")


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
    """The parts, and what their agent may not set and is therefore not in force."""
    names = []
    left_out = []
    for part in parts:
        names.append(part.id)
        if part.left_out:
            left_out.append(f"{', '.join(part.left_out)} of {part.id}")
    said = ", ".join(names)
    if left_out:
        said += f"; left out, for a part may not set it: {'; '.join(left_out)}"
    return said


def replaced(needs: Iterable[str], parts: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The needs, with its `parts` in the place of each unit that was split, and theirs for them."""
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
    """Why needs that lead back to where they began are refused."""
    return f"needs: they go in a circle, so none could ever start: {' → '.join(way)}"


def is_part(store: Store, unit: str) -> bool:
    """Whether the unit came of one that was split."""
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
        if is_last and self.spec.accept:  # it proves the whole, so all others come before it
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
        fields["accept"] = accept
        if not file.body.strip() and "title" not in file.lines:  # it said `run`, perhaps
            raise TaskFileError("says nothing to do", form="write the task below the front matter")
        text = _task_file(fields, file.body)
        parse(text, f"{part}.md")  # all together may be too much, or a heading no title
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
            reason = f"needs: there is neither a part nor another unit {need!r}{hint}"
            form = "names of files beside it, or ids of units"
            raise TaskFileError(reason, line=file.lines["needs"], form=form)
        return need

    def _scope(self, file: TaskFile) -> tuple[str, ...]:
        scope = self.spec.scope
        if not file.scope:
            return scope
        line = file.lines["scope"]
        if len(file.scope) > MOST_GLOBS:
            form = f"at most {MOST_GLOBS} globs; folder/** is all of a folder"
            raise TaskFileError(f"scope: holds {len(file.scope)} globs", line=line, form=form)
        for glob in file.scope:
            if scope and not covers(scope, glob):
                whole = f"{self.whole.id} ({', '.join(scope)})"
                reason = f"scope: {glob} reaches beyond that of {whole}"
                raise TaskFileError(reason, line=line, form=FORMS["scope"])
        return file.scope


def _task_file(fields: Mapping[str, object], body: str) -> str:
    """A task file with those of the fields that say something."""
    lines = ["---"]
    for name, value in fields.items():
        if value or value == 0:
            lines.append(f"{name}: {_written(value)}")
    lines.append("---")
    return "\n".join([*lines, body])


def _written(value: object) -> str:
    """As YAML and the task file take it, who know no 1e-05."""
    return f"{value:.9f}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _in(name: str, error: TaskFileError) -> TaskFileError:
    where = f"split/{shown(PurePosixPath(name).name)}"
    return TaskFileError(f"{where}: {error.reason}", line=error.line, form=error.form)
