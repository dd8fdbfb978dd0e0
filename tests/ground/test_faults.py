"""Fault points: the table and the code name the same places; a place that is chosen is died at, and no other."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import factory
from factory.ground import faults
from tests.faults import effects

CODE = Path(factory.__file__).parent

PASSES = """
from contextlib import suppress
from factory.ground.faults import OPEN, during, step

@during("landing.move")
def move(*, breaks=False):
    if breaks: raise ValueError
    print("moved", *OPEN.get(), flush=True)

with suppress(ValueError): move(breaks=True)
with step("tree.reset", "tree.git"): move()
move()
print("over", *OPEN.get(), flush=True)
"""


def named() -> list[str]:
    """The brackets in the code."""
    found = []
    for path in CODE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "faults.step",
                "faults.during",
            ):
                found += [
                    str(argument.value)
                    for argument in node.args
                    if isinstance(argument, ast.Constant)
                ]
    return found


def test_the_table_holds_every_bracket_of_the_code_and_no_other() -> None:
    assert set(named()) == {name for name in effects() if name != "store.EVENT"}


def test_every_effect_says_what_comes_first_and_what_a_start_makes_of_either_side() -> None:
    for name, (what, order, before, after) in effects().items():
        assert order in ("world first", "record first", "cache", "the record itself"), name
        assert all((what, before, after)), name


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("", "moved\nmoved\nover\n"),
        ("landing.move:before", ""),
        ("landing.move:after", "moved tree.reset tree.git landing.move\n"),
        ("tree.git:before", ""),
        ("tree.reset:after:1", "moved tree.reset tree.git landing.move\n"),
        ("landing.move:before:3", "moved tree.reset tree.git landing.move\n"),
        ("landing.move:after:3", None),
        ("landing:before", None),
    ],
)
def test_a_process_dies_at_the_place_that_was_chosen_and_nowhere_else(
    fault: str, said: str | None
) -> None:
    env = {"PYTHONPATH": str(CODE.parent), "PATH": os.environ["PATH"], "FACTORY_FAULT": fault}

    ran = subprocess.run(
        [sys.executable, "-c", PASSES], env=env, check=False, capture_output=True, text=True
    )

    lives = not fault or said is None
    whole = "moved tree.reset tree.git landing.move\nmoved landing.move\nover\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        0 if lives else -signal.SIGKILL,
        whole if said is None else said,
        "",
    )


def test_a_bracket_that_nobody_armed_is_nothing() -> None:
    def effect() -> None: ...

    assert faults.during("tree.reset")(effect) is effect
    assert faults.step("tree.reset") is faults.step("tree.git")
