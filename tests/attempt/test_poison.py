"""What one unit leaves in a workspace: nothing of it runs in the next unit, or lands under its name."""

import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factory.ground import disk
from factory.store.records import Attempt
from tests.attempt.test_worker import work_once
from tests.floor import FILES, Scene, at, scene_in
from tests.git_repo import git

SETUP = """\
python3 -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"
mkdir -p node_modules/lib dist
echo sound > node_modules/lib/index.js
echo sound > dist/built
"""
SITE = 'site=$(echo "$VIRTUAL_ENV"/lib/python*/site-packages)\n'
PLANTS = {
    "a program": 'printf "#!/bin/sh\\n" > "$VIRTUAL_ENV/bin/sed"; chmod +x "$VIRTUAL_ENV/bin/sed"',
    "a .pth": 'echo "import os" > "$site/x.pth"',
    "a .pyc": 'mkdir -p "$site/__pycache__"; echo x > "$site/__pycache__/x.pyc"',
    "an ignored file": "mkdir build; echo x > build/x",
    "a cache": "mkdir -p __pycache__; echo x > __pycache__/x.pyc",
    "a dependency": "echo poison > node_modules/lib/index.js",
    "one more dependency": "mkdir node_modules/more; echo x > node_modules/more/index.js",
    "the tree's own build": "echo poison > dist/built",
    "more of the build": "echo x > dist/more",
    "the shell's start": "echo x > ~/.bashrc; echo x > ~/.profile",
    "git's configuration": "git config --global alias.x y",
    "npm's configuration": "echo x > ~/.npmrc",
    "the repository's configuration": "git config core.hooksPath hooks",
}
LOOK = """\
set -e
test "$(command -v sed)" != "$VIRTUAL_ENV/bin/sed"
test ! -e "$site/x.pth"
test ! -e "$site/__pycache__/x.pyc"
test ! -e build
test ! -e __pycache__
test "$(cat node_modules/lib/index.js)" = sound
test ! -e node_modules/more
test "$(cat dist/built)" = sound
test ! -e dist/more
test -z "$(ls -A ~)"
test -z "$(git config core.hooksPath)"
echo fine > fine.txt
"""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    files = {
        "conventions/workspace/setup.sh": SETUP,
        ".gitignore": "build\ndist\nnode_modules\n__pycache__\n",
    }
    command = f'["sh", "-c", "exec sh {tmp_path}/$FACTORY_UNIT.sh", "{{prompt_file}}"]'
    files["conventions/runtimes/shell.toml"] = f"command = {command}\n"
    async with scene_in(tmp_path, FILES | files) as made:
        await made.trunk_judge.look(await made.floor.trunk.refresh(), made.group)
        yield made


async def run(scene: Scene, name: str, *lines: str, number: int = 1, agent: str = "") -> str:
    """How an attempt ends that runs these shell commands, as a `run` unit's or as an agent's."""
    script = scene.folder / f"{name}.sh"
    script.write_text(SITE + "\n".join(lines))
    accepted = scene.unit(name).accepted if number > 1 else at()
    scene.hang(name, run="" if agent else f"sh {script}", agent=agent, number=number)
    scene.change(name, accepted=accepted)
    await work_once(scene)
    attempt = scene.store.get(Attempt, name, number)
    assert attempt is not None
    return f"{attempt.reason}: {attempt.detail}"


async def test_nothing_that_a_unit_plants_is_there_in_the_next(scene: Scene) -> None:
    planted = await run(scene, "plants", *PLANTS.values(), "echo x > new.txt")

    looked = await run(scene, "looks", LOOK)

    assert planted.startswith("submitted"), planted
    assert looked.startswith("submitted"), looked
    changed = git(
        scene.state.places.git, "diff", "--name-only", "main", "refs/factory/attempts/looks/1"
    )
    assert changed == "fine.txt"


async def test_the_next_attempt_of_the_same_unit_finds_its_ignored_files(scene: Scene) -> None:
    await run(scene, "warm", "mkdir build; echo x > build/x; exit 1")

    again = await run(scene, "warm", "test -e build/x && echo x > new.txt", number=2)
    other = await run(scene, "other", "test ! -e build && echo x > new.txt")

    assert again.startswith("submitted"), again
    assert other.startswith("submitted"), other


async def test_what_setup_built_is_not_submitted_even_if_it_is_no_longer_ignored(
    scene: Scene,
) -> None:
    ended = await run(
        scene, "tracks", "echo node_modules > .gitignore; test -e dist/built; echo x > more.txt"
    )

    assert ended.startswith("submitted"), ended
    changed = git(
        scene.state.places.git, "diff", "--name-only", "main", "refs/factory/attempts/tracks/1"
    )
    assert changed.split() == [".gitignore", "more.txt"]


async def test_no_file_of_an_attempt_runs_as_its_owner_afterwards(scene: Scene) -> None:
    armed = 'x.sh build "$VIRTUAL_ENV/bin/x" "$FACTORY_OUTBOX/x" "$TMPDIR/x"'
    arm = f"for each in {armed}; do touch $each; chmod 6755 $each; done".replace("$each", '"$each"')

    ended = await run(
        scene, "armed", arm, "mkdir closed; cp x.sh closed/; chmod 6755 closed/x.sh; chmod 0 closed"
    )

    assert ended.startswith("submitted"), ended
    where = scene.state.places
    files = [
        path
        for folder in (where.work, where.home / "attempts")
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert len([path for path in files if path.name == "x.sh"]) == 2
    assert [path for path in files if path.stat().st_mode & 0o6000] == []


def test_a_file_that_has_another_name_elsewhere_is_left_as_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    mine = tmp_path / "mine"
    mine.touch()
    mine.chmod(0o4755)
    os.link(mine, tmp_path / "tree/linked")

    disk.disarm(tmp_path / "tree", tmp_path / "absent")

    assert (stat.S_IMODE(mine.stat().st_mode), list((tmp_path / "tree").iterdir())) == (0o4755, [])


async def test_what_the_code_of_a_unit_installed_serves_no_other_unit(scene: Scene) -> None:
    """A second attempt begins with the first one's work, so that setup runs its code."""
    scene.commit(
        {"conventions/workspace/setup.sh": "# inputs: asks\nmkdir -p node_modules\nsh -e more.sh\n"}
    )
    scene.commit({"more.sh": ":\n", "asks": "1"})
    await scene.trunk_judge.look(await scene.floor.trunk.refresh(), scene.group)
    await run(
        scene, "first", "echo 'echo x > node_modules/planted' > more.sh; exit 1", agent="shell"
    )
    shutil.rmtree(
        scene.floor.workspaces.place("w1")
    )  # as in another workspace, where nothing is prepared
    look = "test -e node_modules/planted && echo x > new.txt"
    again = await run(scene, "first", look, number=2, agent="shell")

    other = await run(scene, "other", "test ! -e node_modules/planted && echo x > new.txt")

    assert (again.partition(":")[0], other.partition(":")[0]) == ("submitted", "submitted")
