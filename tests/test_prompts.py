"""Prompts: strict, and nobody's words are read as a template."""

import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.conventions import Convention, Note, overlay, read_shipped
from factory.errors import ConfigError
from factory.prompts import BEGIN, Brief, prompt, render
from factory.records import Remark

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHIPPED = overlay({}, read_shipped()).prompts
LEAST = Brief(unit="fix", title="Fix it", body="Body.", outbox="/run/outbox")
FULL = Brief(
    unit="fix",
    title="Fix it",
    body="Body {{ 7 * 7 }} {% raw %} <&>\n",
    outbox="/run/outbox",
    trunk="main",
    attempt=2,
    attempts=4,
    minutes=1.5,
    scope=("src/**",),
    accept=("pytest -q",),
    gates=(("test", "make test"),),
    knowledge=(Note("money", "Cents."),),
    remarks=(
        Remark(unit="fix", seq=1, who="agent", kind="question", text="Left or {{ right }}?", at=AT),
        Remark(unit="fix", seq=2, who="person", kind="answer", text="Left.", at=AT),
    ),
    digest="E   assert {{ x }}",
    handoff="I tried {% y %}",
    carried=True,
    conflicts=("a.py",),
    old_diff="/run/old.diff",
    intent="Rename z",
)
NAMES = BEGIN


def refusal(template: str, x: str) -> str:
    with pytest.raises(ConfigError) as caught:
        render(template, where="conventions/prompts/unit.md", x=x)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("brief", [LEAST, replace(LEAST, resumed=True), FULL, replace(FULL, carried=False)])
def test_every_shipped_prompt_can_be_filled_in(name: str, brief: Brief) -> None:
    text = prompt(name, brief, SHIPPED)

    assert brief.resumed or brief.body in text
    assert "\n\n\n\n" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_tells_how_the_work_is_judged_and_where_messages_go(name: str) -> None:
    text = prompt(name, FULL, SHIPPED)

    told = ("/run/outbox", "done.md", "question.md", "handoff.md", "Do not commit", "make test", "pytest -q", "src/**")
    assert [word for word in (*told, "Cents.", "Left or {{ right }}?", "Left.") if word not in text] == []


def test_each_kind_of_prompt_brings_its_own_evidence() -> None:
    assert "E   assert {{ x }}" in prompt("retry", FULL, SHIPPED)
    assert "I tried {% y %}" in prompt("retry", FULL, SHIPPED)
    assert "/run/old.diff" in prompt("retry", replace(FULL, carried=False), SHIPPED)
    assert all(word in prompt("conflict", FULL, SHIPPED) for word in ("a.py", "/run/old.diff", "Rename z"))
    assert "git diff" in prompt("question", FULL, SHIPPED)
    for name in ("review", "simplify"):
        assert "git diff" in prompt(name, FULL, SHIPPED)
        assert "/run/old.diff" in prompt(name, replace(FULL, carried=False), SHIPPED)
    assert "E   assert {{ x }}" in prompt("split", FULL, SHIPPED)
    assert "/run/outbox/split/NAME.md" in prompt("split", FULL, SHIPPED)


def test_only_who_may_split_is_told_how() -> None:
    assert "split/NAME.md" in prompt("unit", replace(LEAST, may_split=True), SHIPPED)
    assert "split/" not in prompt("unit", LEAST, SHIPPED)


def test_a_session_that_continues_is_told_the_answer_and_not_the_task_again() -> None:
    text = prompt("question", replace(FULL, resumed=True), SHIPPED)

    assert "Left." in text
    assert FULL.body not in text


def test_a_prompt_of_the_repository_may_include_shipped_parts() -> None:
    prompts = overlay({"conventions/prompts/unit.md": 'Ours. {% include "task.md" %}'}, read_shipped()).prompts

    assert prompt("unit", LEAST, prompts) == "Ours. ## The task\n\nBody.\n"


def test_a_part_may_be_overridden_by_itself() -> None:
    prompts = overlay({"conventions/prompts/task.md": "Ours: {{ unit }}\n"}, read_shipped()).prompts

    assert "Ours: fix" in prompt("unit", LEAST, prompts)


def test_a_prompt_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no prompt nothing\.md"):
        prompt("nothing", LEAST, SHIPPED)


@pytest.mark.parametrize("template", ["", " \n", "{# for later #}\n", "{% if resumed %}only then{% endif %}"])
def test_a_prompt_that_says_nothing_is_refused_and_a_part_of_one_is_not(template: str) -> None:
    prompts = {name: Convention(template, f"conventions/prompts/{name}") for name in ("unit.md", "part.md")}

    with pytest.raises(ConfigError, match=r"conventions/prompts/unit\.md says nothing"):
        prompt("unit", LEAST, prompts)
    assert prompt("part", LEAST, prompts).strip() == ""


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("a\n{{ nobody }}", 2, "'nobody' is undefined"),
        ("a\n\n{% if nobody %}{% endif %}", 3, "'nobody' is undefined"),
        ("{{ x.secret }}", 1, "no attribute 'secret'"),
        ("a\n{% for %}", 2, "Expected an expression"),
        ("{% include 'gone.md' %}", 1, "there is no gone.md in conventions/prompts to include"),
        ("a\n{{ 1 / 0 }}", 2, "division by zero"),
        ("\n\n{{ x + 1 }}", 3, "concatenate"),
        ("{{ x.__class__.__mro__ }}", 1, "unsafe"),
        ("{{ range(10 ** 9) }}", 1, "Range too big"),
        ("{{ x | nofilter }}", 1, "nofilter"),
    ],
)
def test_a_template_that_fails_is_told_with_file_and_line(template: str, line: int, reason: str) -> None:
    sentence = refusal(template, x="text")

    assert sentence.startswith(f"conventions/prompts/unit.md, line {line}: ")
    assert reason in sentence


def test_a_part_that_fails_is_the_one_named() -> None:
    part = {"part.md": Convention("a\n{{ nobody }}", "conventions/prompts/part.md")}

    with pytest.raises(ConfigError, match=r"^conventions/prompts/part\.md, line 2: "):
        render('{% include "part.md" %}', where="conventions/prompts/unit.md", includes=part)


def test_a_part_that_cannot_be_parsed_is_the_one_named() -> None:
    part = {"part.md": Convention("a\n{% if %}", "conventions/prompts/part.md")}

    with pytest.raises(ConfigError, match=r"^conventions/prompts/part\.md, line 2: "):
        render('{% include "part.md" %}', where="conventions/prompts/unit.md", includes=part)


def test_a_template_that_includes_itself_is_refused() -> None:
    part = {"part.md": Convention('{% include "part.md" %}', "conventions/prompts/part.md")}

    with pytest.raises(ConfigError, match="recursion"):
        render('{% include "part.md" %}', where="w", includes=part)


def test_every_name_that_a_template_may_use_is_documented() -> None:
    text = (Path(__file__).parent.parent / "conventions" / "README.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))

    assert {field.name for field in fields(Brief)} - documented == set()
