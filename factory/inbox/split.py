"""A unit that is too big, replaced by parts: what its agent wrote into the outbox becomes task files.

Invariant: no part goes beyond its whole. Scope and priority stay inside, all else is inherited, and the proof is not
lost: the last part has it, and needs all the others.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from factory.dispatch.scheduling import circle
from factory.ground.errors import TaskFileError, did_you_mean
from factory.ground.scope import covers
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.task_file import FORMS, PARTS_BYTES, TaskFile, decode, ids, parse, slug
from factory.store.unit import Unit, UnitState

FEWEST, MOST = 2, 20  # parts
MOST_GLOBS = 50  # of a part: each pass of the pool compares those of one unit with those of another
MOST_VALUES = 150  # in the front matter of a part: all parts are read in one turn of the loop
SETTABLE = ("title", "priority", "needs", "scope")  # what a part may say for itself (line.md §5)
INHERITED = ("agent", "model", "attempts", "minutes", "allow", "review")


@dataclass(frozen=True, slots=True)
class Part:
    """One unit that is to be: its id and its task file. `left_out`: the keys that its agent may not set."""

    id: str
    text: str
    needs: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def part_ids(whole: str, names: Sequence[str], taken: Callable[[str], bool]) -> dict[str, str]:
    """File name → the id that its part gets, of the unit's and the file's name; none that is `taken`."""
    found = dict[str, str]()
    for name in names:
        free = (
            each
            for each in ids(f"{whole}-{name}")
            if not taken(each) and each not in found.values()
        )
        found[name] = next(free)
    return found


def plan(
    whole: Unit,
    spec: Spec,
    files: Mapping[str, bytes],
    *,
    units: Sequence[Unit],
    taken: Callable[[str], bool],
) -> tuple[Part, ...]:
    """The parts of `whole`, in the order of their names; raise TaskFileError, naming the file, for what is no split.

    `files`: name → content; `units`: all that are not final, and those that were split, with their parts as needs;
    `taken`: whether a unit has that id already.
    """
    is_part = any(each.state is UnitState.SPLIT and whole.id in each.needs for each in units)
    if spec.run or is_part:
        why = (
            "a `run` unit is not split"
            if spec.run
            else f"{whole.id} is a part already, and parts are not split again"
        )
        raise TaskFileError(f"split/: {why}", form="one change that does it, or a question.md")
    if not FEWEST <= len(files) <= MOST:
        form = f"from {FEWEST} to {MOST} files split/NAME.md"
        held = (
            f"more than {MOST} task files"
            if len(files) > MOST
            else f"{len(files)} task file{'s' * (not files)}"
        )
        raise TaskFileError(f"split/: holds {held}", form=form)
    if sum(map(len, files.values())) > PARTS_BYTES:
        raise TaskFileError(
            "split/: is too large", form=f"at most {PARTS_BYTES >> 10} KiB in all its files"
        )
    split = _Split(whole, spec, part_ids(whole.id, sorted(files), taken), taken)
    parts = {name: split.part(name, files[name]) for name in split.ids}
    ways = {each.id: replaced(each.needs, {whole.id: split.ids.values()}) for each in units}
    ways |= {part.id: part.needs for part in parts.values()}
    form = (
        "the last by name, which proves the whole, waits for all others"
        if spec.accept
        else FORMS["needs"]
    )
    for name, part in parts.items():
        if way := circle(part.id, ways):
            reason = f"needs: they go in a circle, so none could ever start: {' → '.join(way)}"
            raise _in(name, TaskFileError(reason, form=form))
    return tuple(parts.values())


def told(parts: Iterable[Part]) -> str:
    """The parts, and what their agent may not set and is therefore not in force."""
    left_out = [f"{', '.join(part.left_out)} of {part.id}" for part in parts if part.left_out]
    more = f"; left out, for a part may not set it: {'; '.join(left_out)}" if left_out else ""
    return ", ".join(part.id for part in parts) + more


def replaced(needs: Iterable[str], parts: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """`needs`, in which its `parts` stand for each unit that was split, and theirs for them."""
    found = dict[str, None]()
    for need in needs:
        rest = {name: each for name, each in parts.items() if name != need}
        found |= dict.fromkeys(replaced(parts[need], rest) if need in parts else (need,))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Split:
    whole: Unit
    spec: Spec
    ids: Mapping[str, str]  # file name → id
    taken: Callable[[str], bool]

    def part(self, name: str, raw: bytes) -> Part:
        try:
            return self._part(self.ids[name], raw, is_last=name == [*self.ids][-1])
        except TaskFileError as error:
            raise _in(name, error) from None

    def _part(self, part: str, raw: bytes, *, is_last: bool) -> Part:
        file = parse(decode(raw), f"{part}.md", most=MOST_VALUES)
        proves = bool(self.spec.accept) and is_last
        others = [each for each in self.ids.values() if each != part and proves]
        needs = tuple(dict.fromkeys([*(self._need(need, file) for need in file.needs), *others]))
        priority = (
            max(file.priority, self.whole.priority)
            if "priority" in file.lines
            else self.whole.priority
        )
        keys = {
            "title": file.title,
            "priority": priority,
            "needs": needs,
            "scope": self._scope(file),
        }
        keys |= {name: getattr(self.spec, name) for name in INHERITED} | {
            "accept": self.spec.accept * proves
        }
        if not file.body.strip() and "title" not in file.lines:  # it said `run`, perhaps
            raise TaskFileError("says nothing to do", form="write the task below the front matter")
        given = {key: _written(value) for key, value in keys.items() if value or value == 0}
        text = "".join(
            ["---\n", *(f"{key}: {value}\n" for key, value in given.items()), "---\n", file.body]
        )
        parse(text, f"{part}.md")  # all together may be too much, or a heading no title
        return Part(part, text, needs, tuple(name for name in file.lines if name not in SETTABLE))

    def _need(self, need: str, file: TaskFile) -> str:
        siblings = {slug(name): each for name, each in self.ids.items()}
        if need in siblings or need in self.ids.values():
            return siblings.get(need, need)
        if need == self.whole.id or not self.taken(need):
            reason = f"needs: there is neither a part nor another unit {need!r}{did_you_mean(need, siblings)}"
            raise TaskFileError(
                reason, line=file.lines["needs"], form="names of files beside it, or ids of units"
            )
        return need

    def _scope(self, file: TaskFile) -> tuple[str, ...]:
        scope = self.spec.scope
        if len(file.scope) > MOST_GLOBS:
            form = f"at most {MOST_GLOBS} globs; folder/** is all of a folder"
            raise TaskFileError(
                f"scope: holds {len(file.scope)} globs", line=file.lines["scope"], form=form
            )
        if beyond := [glob for glob in file.scope if scope and not covers(scope, glob)]:
            reason = (
                f"scope: {beyond[0]} reaches beyond that of {self.whole.id} ({', '.join(scope)})"
            )
            raise TaskFileError(reason, line=file.lines["scope"], form=FORMS["scope"])
        return file.scope or scope


def _written(value: object) -> str:
    """As YAML and the task file take it, who know no 1e-05."""
    return f"{value:.9f}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _in(name: str, error: TaskFileError) -> TaskFileError:
    shown = "".join(sign if sign.isprintable() else "?" for sign in PurePosixPath(name).name)
    return TaskFileError(f"split/{shown}: {error.reason}", line=error.line, form=error.form)


def is_part(store: Store, unit: str) -> bool:
    """Whether it came of a unit that was split."""
    return any(unit in whole.needs for whole in store.select(Unit, state=UnitState.SPLIT))
