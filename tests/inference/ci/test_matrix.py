"""Which entries of a matrix run here."""

from typing import Any

import pytest

from factory.ground.yaml_tree import tree_of
from factory.inference.ci.matrix import chosen


def entries(matrix: str, python: tuple[int, int] = (3, 12)) -> list[dict[str, Any]]:
    tree = tree_of(matrix)
    assert tree is not None
    return [dict(entry) for entry in chosen({"matrix": tree}, python)]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("python: ['3.9', '3.12', '3.14']", [{"python": "3.12"}]),
        ("python-version: ['3.9', '3.10']", [{"python-version": "3.10"}]),
        ("python: ['3.12t', '3.13', pypy3.11]", [{"python": "3.13"}]),
        ("{os: [windows-latest, ubuntu-latest], node: [18, 20]}", [{"os": "ubuntu-latest", "node": "18"}]),
        ("{os: [windows-latest, macos-latest]}", []),
        ("{include: [{tox: py312, python: '3.12'}, {tox: lint, python: '3.12'}]}",
         [{"tox": "py312", "python": "3.12"}, {"tox": "lint", "python": "3.12"}]),
        ("{python: ['3.12'], include: [{python: '3.12', cov: 'on'}, {python: '3.13', job: docs}]}",
         [{"python": "3.12", "cov": "on"}, {"python": "3.13", "job": "docs"}]),
        ("{a: [x, y], exclude: [{a: x}]}", [{"a": "y"}]),
        ("{python: '${{ fromJSON(needs.a.outputs.b) }}', task: [lint]}",
         [{"python": "3.12", "task": "lint"}]),
        ("'${{ fromJSON(x) }}'", [{}]),
    ],
)  # fmt: skip
def test_one_entry_of_each_task_runs_here_with_the_nearest_python_on_linux(
    matrix: str, expected: list[dict[str, str]]
) -> None:
    assert entries(matrix) == expected


def test_a_huge_matrix_costs_little() -> None:
    axes = "\n".join(f"a{at}: [{', '.join(f'x{value}' for value in range(50))}]" for at in range(9))

    assert 0 < len(entries(axes)) <= 12
