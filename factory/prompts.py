"""What an agent is told: strict templates, filled in.

Invariant: what a person, an agent or a gate wrote goes in verbatim and is never read as a template.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined, TemplateError, TemplateNotFound, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from factory.conventions import Convention, Note
from factory.errors import ConfigError
from factory.records import Remark

BEGIN = ("unit", "retry", "conflict", "question", "review", "simplify", "split")  # an attempt begins with one of these
_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """Everything that a prompt may say, by the names that the templates use (listed in conventions/README.md)."""

    unit: str
    title: str
    body: str
    outbox: str  # path of the folder for done.md, question.md and handoff.md
    trunk: str = ""  # the branch that the work lands on
    attempt: int = 1
    attempts: int = 3  # so many may fail before a person is asked
    minutes: float = 0  # 0: no limit
    scope: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    gates: tuple[tuple[str, str], ...] = ()  # name, command
    knowledge: tuple[Note, ...] = ()
    remarks: tuple[Remark, ...] = ()  # the dialogue so far, oldest first
    digest: str = ""  # why the last attempt failed
    handoff: str = ""  # what the last attempt left for this one
    carried: bool = False  # the earlier work lies uncommitted in the workspace
    conflicts: tuple[str, ...] = ()  # paths that conflicted
    old_diff: str = ""  # file that holds the earlier work where it could not be carried
    intent: str = ""  # what landed on trunk meanwhile, in its own words
    may_split: bool = False  # smaller tasks in its place are taken
    resumed: bool = False  # the session continues: it has read everything before


def prompt(name: str, brief: Brief, prompts: Mapping[str, Convention]) -> str:
    """The prompt `name` (one of BEGIN, or a part), filled in; raise ConfigError naming file and line."""
    template = prompts.get(f"{name}.md")
    if template is None:
        raise ConfigError(f"There is no prompt {name}.md in conventions/prompts.")
    values = {field.name: getattr(brief, field.name) for field in fields(brief)}
    text = render(template.text, where=template.where, includes=prompts, **values)
    if name in BEGIN and not text.strip():  # a part of others may be empty now and then
        raise ConfigError(f"{template.where} says nothing. Write a prompt, or remove the file to have the shipped one.")
    return text


def check_prompt(name: str, prompts: Mapping[str, Convention]) -> None:
    """Raise ConfigError where the prompt file cannot be filled in with little, or with all that there may be to say."""
    little = Brief(unit="u", title="t", body="b", outbox="o")
    remark = Remark(unit="u", seq=1, who="person", kind="tell", text="t", at=datetime.min)
    much: dict[str, Any] = {
        "minutes": 1.0,
        "gates": (("g", "c"),),
        "knowledge": (Note("n", "t"),),
        "remarks": (remark,),
    }
    much |= dict.fromkeys(("scope", "accept", "conflicts"), ("x",)) | dict.fromkeys(("carried", "may_split"), True)
    much |= dict.fromkeys(("trunk", "digest", "handoff", "old_diff", "intent"), "x")
    for brief in (little, replace(little, **much), replace(little, **much, resumed=True)):
        prompt(name.removesuffix(".md"), brief, prompts)


def render(template: str, *, where: str, includes: Mapping[str, Convention] | None = None, **values: object) -> str:
    """Fill in one template; `includes` are what it may `{% include %}`. Raise ConfigError naming file and line."""
    files = {**(includes or {}), where: Convention(template, where)}

    def load(name: str) -> tuple[str, str, None] | None:
        file = files.get(name)
        return (file.text, file.where, None) if file else None

    environment = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        autoescape=False,  # prompts are text, not HTML
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        return environment.get_template(where).render(**values)
    except _FAILURES as error:
        templates = {file.where for file in files.values()}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in templates]
        place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else where
        if isinstance(error, TemplateSyntaxError):
            place = f"{error.filename}, line {error.lineno}"
        reason = (str(error) or type(error).__name__).rstrip(".")
        if isinstance(error, TemplateNotFound):
            reason = f"there is no {error.name} in conventions/prompts to include"
        raise ConfigError(f"{place}: {reason}. A prompt is a Jinja2 template; see conventions/README.md.") from error
