"""Prompts: strict templates, filled in.

Invariant: text of a person, an agent or a gate is inserted verbatim and never read as a template;
no attempt begins with a prompt without the task.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from factory.ground.conventions import Convention, Note, overlay
from factory.ground.errors import ConfigError
from factory.store.records import Remark

# An attempt begins with one of these prompts.
BEGIN = ("unit", "retry", "conflict", "question", "review", "simplify", "split", "told")
HOUSE = "house.md"  # the repository's own rules, the end of each of these prompts
_MARK = "the-mark-that-stands-for-it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """Everything that a prompt may contain; templates use these names (conventions/README.md)."""

    unit: str
    title: str
    body: str
    outbox: str  # path of the folder for done.md, question.md and handoff.md
    trunk: str = ""  # the branch that the work lands on
    attempt: int = 1
    attempts: int = 3  # number of attempts that may fail before a card asks
    minutes: float = 0  # 0: no limit
    scope: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    gates: tuple[tuple[str, str], ...] = ()  # pairs of name and command
    knowledge: tuple[Note, ...] = ()
    remarks: tuple[Remark, ...] = ()  # the dialogue so far, oldest first
    digest: str = ""  # why the last attempt failed
    handoff: str = ""  # what the last attempt left for this one
    carried: bool = False  # whether the earlier work is uncommitted in the workspace
    conflicts: tuple[str, ...] = ()  # paths that conflicted
    old_diff: str = ""  # file with the earlier work if it conflicted with trunk
    intent: str = ""  # what landed on trunk meanwhile: commit messages and tasks
    may_split: bool = False  # whether the agent may replace the unit by smaller tasks
    resumed: bool = False  # whether a session continues, which has read the earlier prompts


def prompt(name: str, brief: Brief, prompts: Mapping[str, Convention]) -> str:
    """Return the prompt `name` (one of BEGIN, or a part), filled in; raise ConfigError."""
    template = prompts.get(f"{name}.md")
    if template is None:
        raise ConfigError(f"There is no prompt {name}.md in conventions/prompts.")
    text = _filled(template, brief, prompts)
    if name not in BEGIN:  # a part that others include may be empty
        return text
    if not text.strip():
        what_to_do = "Write a prompt, or remove the file to use the shipped one."
        raise ConfigError(f"{template.where} contains no text. {what_to_do}")
    if brief.resumed:  # a continued session already has the task and the rules
        return text
    _check_task(template, brief, prompts)
    rules = _filled(prompts[HOUSE], brief, prompts).strip() if HOUSE in prompts else ""
    return f"{text.rstrip()}\n\n## House rules\n\n{rules}\n" if rules else text


def _filled(template: Convention, brief: Brief, prompts: Mapping[str, Convention]) -> str:
    # Imported here because Jinja2 takes 3 MiB, and a daemon without work needs no prompt.
    from factory.attempt.templates import render

    values = {field.name: getattr(brief, field.name) for field in fields(brief)}
    return render(template.text, where=template.where, includes=prompts, **values)


def _check_task(template: Convention, brief: Brief, prompts: Mapping[str, Convention]) -> None:
    """Raise ConfigError if the prompt would not contain the task."""
    at_fault = prompts["task.md"] if template.is_shipped else template
    if at_fault.is_shipped:
        return
    name = "body" if brief.body.strip() else "title"
    fields_marked: dict[str, Any] = {name: _MARK}
    marked = replace(brief, **fields_marked)
    if _MARK not in _filled(template, marked, prompts).casefold():
        raise ConfigError(
            f"{at_fault.where} does not contain the task. Write {{{{ {name} }}}} where the task "
            "should stand, or remove the file to use the shipped one."
        )


def check_prompt(name: str, prompts: Mapping[str, Convention]) -> None:
    """Raise ConfigError if the prompt cannot be filled in with the least or the most content."""
    little = Brief(
        unit="u",
        title="t",
        body="b",
        outbox="o",
    )
    remark = Remark(
        unit="u",
        seq=1,
        who="person",
        kind="tell",
        text="t",
        at=datetime.min,
    )
    much: dict[str, Any] = {
        "minutes": 1.0,
        "gates": (("g", "c"),),
        "knowledge": (Note("n", "t"),),
        "remarks": (remark,),
    }
    much |= dict.fromkeys(("scope", "accept", "conflicts"), ("x",)) | dict.fromkeys(
        ("carried", "may_split"), True
    )
    much |= dict.fromkeys(("trunk", "digest", "handoff", "old_diff", "intent"), "x")
    for brief in (little, replace(little, **much), replace(little, **much, resumed=True)):
        prompt(name.removesuffix(".md"), brief, prompts)


# What an agent needs to know, each with a text that shows that a prompt contains it. The task
# has a separate check.
_NEEDED: Mapping[str, str] = {
    "what was said so far": "mark-remarks",
    "knowledge": "mark-knowledge",
    "gates": "mark-gates",
    "accept": "mark-accept",
    "scope": "mark-scope",
    "why the last attempt failed": "mark-digest",
    "handoff": "mark-handoff",
    "the diff of the earlier work": "mark-diff",
    "the outbox": "$FACTORY_OUTBOX",
    "done.md": "done.md",
    "question.md": "question.md",
    "handoff.md": "handoff.md",
}
_MARKED = Brief(
    unit="unit",
    title="title",
    body="body",
    outbox=_NEEDED["the outbox"],
    remarks=(
        Remark(
            unit="unit",
            seq=1,
            who="person",
            kind="tell",
            text=_NEEDED["what was said so far"],
            at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
    ),
    knowledge=(Note("note", _NEEDED["knowledge"]),),
    gates=(("gate", _NEEDED["gates"]),),
    accept=(_NEEDED["accept"],),
    scope=(_NEEDED["scope"],),
    digest=_NEEDED["why the last attempt failed"],
    handoff=_NEEDED["handoff"],
    old_diff=_NEEDED["the diff of the earlier work"],
)
_CASES = (*((name, _MARKED) for name in BEGIN), ("question", replace(_MARKED, resumed=True)))


def left_out(prompts: Mapping[str, Convention], shipped: Mapping[str, str]) -> list[str]:
    """Return a sentence for each prompt file of the repository that loses something or is unusable.

    A file loses something if the shipped prompts (from `read_shipped`) contain it and the
    repository's prompts, taken together, do not contain it.
    """
    own = {name: file for name, file in prompts.items() if not file.is_shipped}
    if not own:
        return []
    plain = overlay({}, shipped).prompts
    wrong = list[str]()
    lost = list[frozenset[str]]()
    for name, brief in _CASES:
        try:
            lost.append(_told(name, brief, plain) - _told(name, brief, prompts))
        except ConfigError as error:
            lost.append(frozenset())
            wrong.append(str(error))
    said = list(dict.fromkeys(wrong))
    added = {name: file for name, file in own.items() if name not in plain}
    for name, file in own.items():
        alone = {**plain, **added, name: file}
        words = _lost_by(alone, lost)
        if words:
            said.append(_complaint(file, [noun for noun in _NEEDED if noun in words]))
    return said


def _lost_by(alone: Mapping[str, Convention], lost: Sequence[frozenset[str]]) -> frozenset[str]:
    """Return the part of `lost` that one file alone loses; `lost` has one entry for each case."""
    words = frozenset[str]()
    for (name, brief), missing in zip(_CASES, lost, strict=True):
        if missing:
            with suppress(ConfigError):  # reported already
                words |= missing - _told(name, brief, alone)
    return words


def _told(name: str, brief: Brief, prompts: Mapping[str, Convention]) -> frozenset[str]:
    text = prompt(name, brief, prompts)
    return frozenset(noun for noun, mark in _NEEDED.items() if mark in text)


def _complaint(file: Convention, words: Sequence[str]) -> str:
    shipped = file.where.rpartition("/")[2].removesuffix(".md")
    return (
        f"{file.where} leaves out {', '.join(words)}. Put it back (the shipped text: "
        f"factory config --prompt {shipped}). For rules that only add, there is house.md."
    )
