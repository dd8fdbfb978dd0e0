"""Each folder of examples/ works as it says: copied into a repository of its own, its tasks land."""

from pathlib import Path

import pytest

from tests.acceptance.line import Line
from tests.git_repo import git

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
LANDS = {
    "gates": ["Add plum"],
    "own-agent": ["Note: Water the plants"],
    "proof": ["Sell cocoa", "Raise the price of tea"],
}


def contents(folder: Path) -> dict[str, str]:
    """The files of an example by their paths."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_example_is_tried_and_named() -> None:
    named = (EXAMPLES / "README.md").read_text()

    assert set(FOLDERS) == set(LANDS)
    assert [name for name in FOLDERS if f"[{name}]({name})" not in named] == []


@pytest.mark.parametrize("name", FOLDERS)
def test_the_tasks_of_an_example_land(name: str, tmp_path: Path) -> None:
    line = Line(tmp_path, contents(EXAMPLES / name))
    try:
        line.start()
        tasks = sorted((line.root / "tasks").glob("*.md"))

        for task in tasks:
            line.drop_text(task.stem, task.read_text())
        for task in tasks:
            line.unit(task.stem)
    finally:
        line.close()

    subjects = git(line.root, "log", "--format=%s", "--reverse", f"{line.begin}..").splitlines()
    assert subjects == LANDS[name]
