"""The judge of chaos finds each kind of damage: one that finds nothing proves nothing."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.line import Line, files
from tests.chaos.checker import Checker, Found
from tests.chaos.work import GATE
from tests.git_repo import commit, git, write

NOTHING = "lost 0, twice 0, red trunk 0, strays 0, user files changed 0"
DROPPED = {"one": ("units/one.txt", "one\n"), "two": ("units/two.txt", "two\n")}


class Scene:
    """A line that has landed two units and was stopped, and a person's file."""

    def __init__(self, line: Line) -> None:
        self.line, self.root = line, line.root
        self.files = {"mine.txt": b"not committed\n"}
        (line.root / "mine.txt").write_bytes(self.files["mine.txt"])
        self.commits = [git(line.root, "rev-parse", "HEAD")]

    def judge(self) -> Found:
        found = Found()
        Checker(self.line.folder, self.root).settled(
            found, DROPPED, files=self.files, commits=self.commits, branches={}
        )
        return found

    def sql(self, query: str) -> None:
        with closing(sqlite3.connect(self.root / ".factory/store.sqlite")) as con, con:
            con.execute(query)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a line."""
    line = Line(
        tmp_path_factory.mktemp("played"), files() | {"conventions/gates/10-whole.sh": GATE}
    )
    line.start()
    for name, (path, text) in DROPPED.items():
        line.drop(name, f"write({path!r}, {text!r})")
        line.unit(name)
    line.close()
    return line.folder


@pytest.fixture
def scene(played: Path, tmp_path: Path) -> Scene:
    subprocess.run(["cp", "-a", f"{played}/.", tmp_path], check=True)
    return Scene(Line(tmp_path))


def test_a_line_that_kept_its_promises_passes(scene: Scene) -> None:
    assert (str(scene.judge()), scene.judge().all) == (NOTHING, [])


def again(scene: Scene) -> None:
    commit(scene.root, {"units/one.txt": "one\n\n"}, "once more\n\nFactory-Unit: one")


def without_its_work(scene: Scene) -> None:
    git(scene.root, "reset", "-q", "--soft", "HEAD^")
    git(
        scene.root,
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "two\n\nFactory-Unit: two",
        "--",
        "factory.toml",
    )


def forgotten(scene: Scene) -> None:
    scene.sql("DELETE FROM unit WHERE id = 'two'")
    scene.sql("DELETE FROM spec WHERE unit = 'two'")


def unaccounted(scene: Scene) -> None:
    scene.sql("UPDATE unit SET state = 'held' WHERE id = 'two'")


def never_landed(scene: Scene) -> None:
    scene.sql("UPDATE unit SET \"commit\" = 'f00' WHERE id = 'two'")


def tree_gone(scene: Scene) -> None:
    own = scene.root / ".factory/git"
    for ref in git(own, "for-each-ref", "--format=%(refname)", "refs/factory").splitlines():
        git(own, "update-ref", "-d", ref)


def red(scene: Scene) -> None:
    commit(scene.root, {"bad.txt": "BROKEN\n"}, "by whomever")
    commit(scene.root, {"bad.txt": "fine\n"}, "green again")


def locked(scene: Scene) -> None:
    (scene.root / ".git/refs/heads/main.lock").touch()


def edited(scene: Scene) -> None:
    (scene.root / "mine.txt").write_text("not committed, and touched\n")


def dropped_commit(scene: Scene) -> None:
    scene.commits.append("1" * 40)


def a_ref_of_ours(scene: Scene) -> None:
    git(scene.root, "update-ref", "refs/factory/x", "HEAD")


def torn(scene: Scene) -> None:
    write(scene.root, {"story.txt": "half\n"})


@pytest.mark.parametrize(
    ("damage", "promise"),
    [
        (again, "twice"),
        (without_its_work, "lost"),
        (forgotten, "lost"),
        (unaccounted, "lost"),
        (never_landed, "lost"),
        (tree_gone, "lost"),
        (red, "red"),
        (locked, "strays"),
        (edited, "changed"),
        (dropped_commit, "changed"),
        (a_ref_of_ours, "changed"),
        (torn, "changed"),
    ],
)
def test_each_damage_is_found(scene: Scene, damage: Callable[[Scene], None], promise: str) -> None:
    damage(scene)

    assert getattr(scene.judge(), promise) != []


def test_a_part_that_is_no_unit_and_one_too_many_are_found(scene: Scene) -> None:
    scene.sql("UPDATE unit SET state = 'split', needs = '[\"one\", \"two-a\"]' WHERE id = 'two'")
    scene.sql("INSERT INTO spec (unit, name) VALUES ('two-a-2', 'two-a-2.md')")

    found = scene.judge()

    assert "two-a, a part of two, is no unit" in found.lost
    assert found.twice == ["two was split twice: ['two-a-2']"]


def test_a_process_that_carries_the_mark_is_a_stray(scene: Scene) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "FACTORY_RUN": f"{scene.line.folder}/repo/.factory/attempts/one/1",
    }
    with subprocess.Popen(["sleep", "100"], env=environ) as stray:
        found = scene.judge()
        stray.send_signal(signal.SIGKILL)

    assert [f"process {stray.pid} of" in each for each in found.strays] == [True]
