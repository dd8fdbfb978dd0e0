"""What an agent wrote in place of a change too big for one: smaller tasks, none of which goes beyond the whole."""

from dataclasses import replace
from typing import Any

import pytest

from factory.ground.errors import TaskFileError
from factory.inbox.split import INHERITED, MOST, MOST_VALUES, SETTABLE, Part, plan, replaced, told
from factory.store.task_file import KEYS, PARTS_BYTES, TaskFile, parse
from factory.store.unit import Unit, UnitState
from tests.accepted import accepted
from tests.on_record import NOW

HEAD = "---\npriority: 1\nscope: [src/**, '*.md']\nagent: codex\nmodel: m-1\nattempts: 2\nminutes: 0.5\n"
HEAD += (
    "allow: [edit-gates]\nreview: required\naccept: ['test -e \"a b\"', 'true']\n---\nAll of it.\n"
)


def a_unit(name: str = "big", **fields: Any) -> Unit:
    return Unit(id=name, title=name, state=UnitState.RUNNING, since=NOW, accepted=NOW, **fields)


def split(
    files: dict[str, str],
    *,
    text: str = "All of it.",
    others: tuple[Unit, ...] = (),
    taken: tuple[str, ...] = (),
    is_part: bool = False,
) -> tuple[Part, ...]:
    spec, _ = accepted("big", text)
    whole = a_unit("whole", needs=("big", "more"))
    others += (replace(whole, state=UnitState.SPLIT),) if is_part else ()
    return plan(
        a_unit(priority=spec.priority, scope=spec.scope),
        spec,
        {name: text.encode() for name, text in files.items()},
        units=(a_unit(), *others),
        taken=lambda name: name in {"big", *taken, *(each.id for each in others)},
    )


def files(parts: tuple[Part, ...]) -> list[TaskFile]:
    return [parse(part.text, f"{part.id}.md") for part in parts]


def test_each_file_is_a_unit_named_after_both_and_says_what_it_says() -> None:
    parts = split(
        {"b API.md": "# The API\n\nDo `{{ b }}`.\n", "a.md": "---\ntitle: 'One: two'\n---\nDo a."}
    )

    assert [part.id for part in parts] == ["big-a", "big-b-api"]
    assert [(file.title, file.body) for file in files(parts)] == [
        ("One: two", "Do a."),
        ("The API", "# The API\n\nDo `{{ b }}`.\n"),
    ]


def test_all_that_a_part_may_not_say_is_inherited() -> None:
    first, last = files(split({"a.md": "A", "b.md": "B"}, text=HEAD))

    for part in (first, last):
        assert (part.agent, part.model, part.attempts, part.minutes) == ("codex", "m-1", 2, 0.5)
        assert (part.allow, part.review, part.scope, part.priority) == (
            ("edit-gates",),
            "required",
            ("src/**", "*.md"),
            1,
        )


def test_of_every_key_that_there_is_it_is_said_what_becomes_of_it_in_a_part() -> None:
    assert {*SETTABLE, *INHERITED, "accept", "run"} == set(KEYS)


def test_the_proof_is_asked_of_the_last_part_which_waits_for_all_others() -> None:
    parts = split({"a.md": "A", "b.md": "B", "c.md": "---\nneeds: b\n---\nC"}, text=HEAD)

    assert [file.accept for file in files(parts)] == [(), (), ('test -e "a b"', "true")]
    assert [part.needs for part in parts] == [(), (), ("big-b", "big-a")]


def test_without_a_proof_no_part_waits_for_another_unless_it_says_so() -> None:
    assert [part.needs for part in split({"a.md": "A", "b.md": "B"})] == [(), ()]


def test_parts_need_each_other_by_file_name_or_id_and_other_units_by_id() -> None:
    needs = "---\nneeds: [a-1, big-c, other]\n---\nB"
    parts = split({"A 1.md": "A", "b.md": needs, "c.md": "C"}, others=(a_unit("other"),))

    assert parts[1].needs == files(parts)[1].needs == ("big-a-1", "big-c", "other")


def test_a_part_may_say_title_needs_scope_and_priority_and_nothing_else_counts() -> None:
    text = "---\nscope: src/api/**\npriority: 3\nallow: edit-gates\nagent: other\nrun: make\naccept: 'true'\n---\nA"
    text = text.replace("run: make\n", "")
    parts = split({"a.md": text, "b.md": "B"}, text="---\nscope: src/**\n---\nAll.")
    (first, _) = files(parts)

    assert (first.scope, first.priority, first.allow, first.agent, first.accept) == (
        ("src/api/**",),
        3,
        (),
        "",
        (),
    )
    assert parts[0].left_out == ("allow", "agent", "accept")
    assert (
        told(parts)
        == "big-a, big-b; left out, because a part may not set it: allow, agent, accept of big-a"
    )
    assert told(parts[1:]) == "big-b"


def test_no_part_goes_before_the_whole() -> None:
    (first, _) = files(split({"a.md": "---\npriority: 0\n---\nA", "b.md": "B"}))

    assert first.priority == 2


def test_ids_that_are_taken_are_not_taken_again() -> None:
    parts = split(
        {"a!.md": "A", "a?.md": "B", "c.md": "---\nneeds: big-a-3\n---\nC"}, taken=("big-a",)
    )

    assert [part.id for part in parts] == ["big-a-2", "big-a-3", "big-c"]


def test_a_long_name_keeps_the_ids_apart() -> None:
    parts = split({f"{'x' * 70}{number}.md": "A" for number in range(3)})

    assert len({part.id for part in parts}) == 3
    assert max(len(part.id) for part in parts) == 60


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "split/: holds 0 task files"),
        ({"a.md": "A"}, "split/: holds 1 task file"),
        (
            {f"{number}.md": "A" for number in range(MOST + 1)},
            f"split/: holds more than {MOST} task files",
        ),
        ({"a.md": "", "b.md": "B"}, "split/a.md: has no task"),
        ({"a.md": "A", "b.md": "---\nrun: make\n---\n"}, "split/b.md: has no task"),
        (
            {"a.md": "A", "b.md": "---\npriorty: 1\n---\nB"},
            "split/b.md: unknown key 'priorty': did you mean priority?",
        ),
        ({"a.md": "A", "b.md": "---\nuntil: 'true'\n---\nB"}, "split/b.md: not yet"),
        (
            {"a.md": "A", "b.md": "---\nneeds: c\n---\nB"},
            "split/b.md: needs: 'c' is neither a part nor another unit",
        ),
        ({"a.md": "A", "b.md": "---\nneeds: big\n---\nB"}, "split/b.md: needs: 'big' is neither"),
        ({"a.md": "---\nneeds: a\n---\nA", "b.md": "B"}, "split/a.md: needs: they form a circle"),
        (
            {"a.md": "---\nneeds: b\n---\nA", "b.md": "---\nneeds: a\n---\nB"},
            "split/a.md: needs: they form a circle",
        ),
        (
            {"a.md": "---\nneeds: waits\n---\nA", "b.md": "B"},
            "split/a.md: needs: they form a circle",
        ),
        (
            {"a.md": "---\nneeds: older\n---\nA", "b.md": "B"},
            "split/a.md: needs: they form a circle",
        ),
        ({"a.md": "A", "b.md": "# B \ufffe\n"}, "split/b.md: a control character"),
    ],
)
def test_what_is_no_split_is_refused_with_the_file_and_the_reason(
    given: dict[str, str], says: str
) -> None:
    others = (
        a_unit("waits", needs=("big",)),
        a_unit("older", needs=("waits",)),
    )  # which was split into `waits`
    with pytest.raises(TaskFileError) as caught:
        split(given, others=others)

    assert caught.value.reason.startswith(says)
    assert caught.value.form


def test_what_the_whole_and_the_part_say_may_be_too_much_together() -> None:
    scope, proof = "x" * 40_000, "y" * 40_000

    with pytest.raises(TaskFileError, match=r"split/b\.md: front matter is larger"):
        split(
            {"a.md": "A", "b.md": f"---\nscope: {scope}\n---\nB"},
            text=f"---\naccept: {proof}\n---\nAll.",
        )


def test_the_circle_is_seen_where_the_proof_makes_one() -> None:
    with pytest.raises(TaskFileError, match="circle") as caught:
        split(
            {"a.md": "---\nneeds: b\n---\nA", "b.md": "B"}, text="---\naccept: 'false'\n---\nAll."
        )

    assert caught.value.form == "the last file by name proves the whole and waits for all others"


@pytest.mark.parametrize("scope", ["**", "src", "lib/x.py", "sr*/x", "src/../lib"])
def test_a_scope_beyond_that_of_the_whole_is_refused(scope: str) -> None:
    with pytest.raises(TaskFileError, match=r"split/a\.md: scope"):
        split(
            {"a.md": f"---\nscope: '{scope}'\n---\nA", "b.md": "B"},
            text="---\nscope: src/api/**\n---\nAll.",
        )


def test_front_matter_of_so_many_values_that_reading_it_would_stop_the_line_is_refused() -> None:
    values = ", ".join(f"f{number}" for number in range(MOST_VALUES))

    with pytest.raises(
        TaskFileError, match=r"split/a\.md: front matter holds more than 150 values"
    ):
        split({"a.md": f"---\nneeds: [{values}]\n---\nA", "b.md": "B"})


def test_a_scope_of_so_many_globs_that_comparing_them_would_stop_the_line_is_refused() -> None:
    scopes = [
        f"---\nscope: [{', '.join(f'a{number}' for number in range(many))}]\n---\nA"
        for many in (50, 51)
    ]

    assert split({"a.md": scopes[0], "b.md": "B"})
    with pytest.raises(TaskFileError, match=r"split/a\.md: scope: holds 51 globs"):
        split({"a.md": scopes[1], "b.md": "B"})


@pytest.mark.parametrize(
    ("raw", "says"),
    [(b"\xff", "not UTF-8"), (b"a\0", "NUL"), (b"x" * (PARTS_BYTES + 1), "is too large")],
)
def test_a_file_that_is_no_text_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(TaskFileError, match=says):
        plan(
            a_unit(),
            accepted("big", "All.")[0],
            {"a.md": raw, "b\n.md": b"B"},
            units=(),
            taken=lambda name: False,
        )


def test_a_name_that_could_steer_a_terminal_is_shown_harmless() -> None:
    with pytest.raises(TaskFileError) as caught:
        split({"a.md": "A", "\x1b[2Jb.md": ""})

    assert caught.value.reason.startswith("split/?[2Jb.md: ")


def test_a_part_is_not_split_again_nor_a_run_unit() -> None:
    both = {"a.md": "A", "b.md": "B"}

    with pytest.raises(TaskFileError, match="big is a part already"):
        split(both, is_part=True)
    with pytest.raises(TaskFileError, match="a `run` unit cannot be split"):
        split(both, text="---\nrun: make\n---\n")


def test_whoever_needs_a_unit_that_was_split_needs_its_parts() -> None:
    assert replaced(("x", "big", "a", "y"), {"big": ("a", "b")}) == ("x", "a", "b", "y")
    assert replaced(("x",), {"big": ("a", "b")}) == ("x",)


@pytest.mark.parametrize("minutes", ["0.000000001", "0.5", "45", "99999.999999999"])
def test_a_part_may_take_as_long_as_the_whole(minutes: str) -> None:
    (first, _) = files(
        split({"a.md": "A", "b.md": "B"}, text=f"---\nminutes: {minutes}\n---\nAll.")
    )

    assert first.minutes == float(minutes)
