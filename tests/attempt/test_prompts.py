"""Prompts: strict, and nobody's words are read as a template."""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.attempt.prompts import BEGIN, Brief, check_prompt, left_out, prompt
from factory.attempt.templates import render
from factory.ground.conventions import Convention, Note, overlay, read_shipped
from factory.ground.errors import ConfigError
from factory.store.records import Remark

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
PUT_BACK = "Put it back (the shipped text: factory config --prompt {}). For rules that only add, there is house.md."


def overridden(**own: str) -> Mapping[str, Convention]:
    """The prompts of a repository with these files of its own."""
    files = {f"conventions/prompts/{name}.md": text for name, text in own.items()}
    return overlay(files, read_shipped()).prompts


def refusal(template: str, x: str) -> str:
    with pytest.raises(ConfigError) as caught:
        render(template, where="conventions/prompts/unit.md", x=x)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "brief", [LEAST, replace(LEAST, resumed=True), FULL, replace(FULL, carried=False)]
)
def test_every_shipped_prompt_can_be_filled_in(name: str, brief: Brief) -> None:
    text = prompt(name, brief, SHIPPED)

    assert brief.resumed or brief.body in text
    assert "\n\n\n\n" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_tells_how_the_work_is_judged_and_where_messages_go(name: str) -> None:
    text = prompt(name, FULL, SHIPPED)

    told = (
        "/run/outbox",
        "done.md",
        "question.md",
        "handoff.md",
        "Do not commit",
        "make test",
        "pytest -q",
        "src/**",
    )
    assert [
        word for word in (*told, "Cents.", "Left or {{ right }}?", "Left.") if word not in text
    ] == []


def test_each_kind_of_prompt_brings_its_own_evidence() -> None:
    assert "E   assert {{ x }}" in prompt("retry", FULL, SHIPPED)
    assert "I tried {% y %}" in prompt("retry", FULL, SHIPPED)
    assert "/run/old.diff" in prompt("retry", replace(FULL, carried=False), SHIPPED)
    assert all(
        word in prompt("conflict", FULL, SHIPPED) for word in ("a.py", "/run/old.diff", "Rename z")
    )
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
    prompts = overlay(
        {"conventions/prompts/unit.md": 'Ours. {% include "task.md" %}'}, read_shipped()
    ).prompts

    assert prompt("unit", LEAST, prompts) == "Ours. ## The task\n\nBody.\n"


def test_a_part_may_be_overridden_by_itself() -> None:
    prompts = overridden(task="Ours: {{ body }}\n")

    assert "Ours: Body." in prompt("unit", LEAST, prompts)


# ── what an override may not lose


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("brief", [LEAST, FULL, replace(LEAST, body="\n")])
def test_a_prompt_without_the_task_is_refused(name: str, brief: Brief) -> None:
    prompts = overridden(**{name: "Do what has to be done in {{ trunk }}.\n"})

    with pytest.raises(ConfigError) as refused:
        prompt(name, brief, prompts)

    needs = "{{ body }}" if brief.body.strip() else "{{ title }}"
    assert str(refused.value) == (
        f"conventions/prompts/{name}.md does not contain the task. Write {needs} where the task should stand, "
        "or remove the file to use the shipped one."
    )


def test_a_part_without_the_task_is_the_one_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^conventions/prompts/task\.md does not contain the task\."
    ):
        prompt("unit", LEAST, overridden(task="Think.\n"))


@pytest.mark.parametrize(
    "shown", ["{{ body | indent(4) }}", "{{ body.splitlines() | join(' ') }}", "{{ body | upper }}"]
)
def test_the_task_may_be_told_in_another_shape(shown: str) -> None:
    brief = replace(LEAST, body="One.\nTwo.\n")

    assert "TWO." in prompt("unit", brief, overridden(unit=shown)).upper()


def test_a_session_that_continues_need_not_be_told_the_task_again() -> None:
    assert "Left." in prompt("question", replace(FULL, resumed=True), overridden(task="{{ body }}"))


def test_shipped_prompts_leave_out_nothing() -> None:
    assert left_out(SHIPPED, read_shipped()) == []


def test_what_an_override_leaves_out_is_said() -> None:
    prompts = overridden(footer="Use tabs.\n")

    assert left_out(prompts, read_shipped()) == [
        "conventions/prompts/footer.md leaves out what was said so far, knowledge, gates, accept, scope, the outbox, "
        f"done.md, question.md, handoff.md. {PUT_BACK.format('footer')}"
    ]


def test_each_file_is_said_by_itself_and_what_it_does_not_lose_is_not() -> None:
    retry = (
        '{{ title }} {{ handoff }} {{ old_diff }} {% include "task.md" %}{% include "footer.md" %}'
    )
    said = left_out(overridden(retry=retry, dialogue="Nothing.", task="{{ body }}"), read_shipped())

    assert said == [
        f"conventions/prompts/dialogue.md leaves out what was said so far. {PUT_BACK.format('dialogue')}",
        f"conventions/prompts/retry.md leaves out why the last attempt failed. {PUT_BACK.format('retry')}",
    ]


def test_what_another_file_of_the_repository_tells_is_not_left_out() -> None:
    footer = read_shipped()["prompts/footer.md"]
    lean = re.sub(r"{% if gates %}.*?{% endif %}\n", "", footer, flags=re.DOTALL)
    told = (
        '{% for name, command in gates %}`{{ command }}` {% endfor %}{% include "task-text.md" %}'
    )
    own = {"footer": lean, "task": told, "task-text": "{{ body }}"}

    assert lean != footer
    assert left_out(overridden(**own), read_shipped()) == []
    assert "leaves out gates." in left_out(overridden(footer=lean), read_shipped())[0]


def test_the_outbox_may_be_named_by_its_variable() -> None:
    footer = read_shipped()["prompts/footer.md"].replace("{{ outbox }}", "$FACTORY_OUTBOX")

    assert left_out(overridden(footer=footer), read_shipped()) == []


def test_a_prompt_that_cannot_be_used_is_said_too() -> None:
    said = left_out(overridden(unit="{{ nobody }}", retry="Go on."), read_shipped())

    assert "conventions/prompts/unit.md, line 1: 'nobody' is undefined" in said[0]
    assert "conventions/prompts/retry.md does not contain the task." in said[1]


# ── house rules


@pytest.mark.parametrize("name", NAMES)
def test_house_rules_are_added_whatever_the_other_files_say(name: str) -> None:
    house = "Use tabs in {{ unit }}.\n"
    for own in ({}, {"footer": "", name: "{{ body }}"}):
        text = prompt(name, FULL, overridden(house=house, **own))

        assert (
            text
            == f"{prompt(name, FULL, overridden(**own)).rstrip()}\n\n## House rules\n\nUse tabs in fix.\n"
        )


def test_a_session_that_continues_is_not_told_the_house_rules_again() -> None:
    assert "tabs" not in prompt(
        "question", replace(FULL, resumed=True), overridden(house="Use tabs.")
    )


def test_house_rules_are_a_template_like_the_others() -> None:
    with pytest.raises(
        ConfigError, match=r"^conventions/prompts/house\.md, line 2: 'nobody' is undefined"
    ):
        prompt("unit", LEAST, overridden(house="a\n{{ nobody }}"))
    with pytest.raises(ConfigError, match=r"house\.md, line 1: "):
        check_prompt("house.md", overridden(house="{% if %}"))


def test_a_prompt_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no prompt nothing\.md"):
        prompt("nothing", LEAST, SHIPPED)


@pytest.mark.parametrize(
    "template", ["", " \n", "{# for later #}\n", "{% if resumed %}only then{% endif %}"]
)
def test_a_prompt_that_says_nothing_is_refused_and_a_part_of_one_is_not(template: str) -> None:
    prompts = {
        name: Convention(template, f"conventions/prompts/{name}") for name in ("unit.md", "part.md")
    }

    with pytest.raises(ConfigError, match=r"conventions/prompts/unit\.md contains no text"):
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
def test_a_template_that_fails_is_told_with_file_and_line(
    template: str, line: int, reason: str
) -> None:
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
    text = (Path(__file__).parents[2] / "conventions" / "README.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))

    assert {field.name for field in fields(Brief)} - documented == set()
