"""A store made anew from git and folders: what had landed stays landed, what was unfinished goes on, nothing twice."""

import os
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from factory.assembly import assemble
from factory.child import process
from factory.child.process import Command
from factory.ground.daemon_state import now
from factory.repair.rebuild import Rebuild
from factory.store.records import Attempt, Fact, Hook, Task
from factory.store.spec import Spec
from factory.store.sqlite import SqliteStore
from factory.store.unit import Unit, UnitState
from tests.attempt.test_worker import until, work_once
from tests.floor import Scene, at, scene_in
from tests.git_repo import git
from tests.journal import entries_of, fold
from tests.store_contract import tables


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


async def dropped(scene: Scene, name: str, text: str) -> Unit:
    """A task file that was taken as a daemon takes it."""
    file = scene.state.places.inbox / f"{name}.md"
    file.write_text(text)
    await until(lambda: now().timestamp() - file.stat().st_mtime > 0.03)
    scan = await scene.floor.intake.tick(now())
    return scene.unit(scan.accepted[0])


def run(line: str, more: str = "") -> str:
    return f"---\nrun: {line}\n{more}---\n"


async def worked(scene: Scene, unit: Unit, line: str) -> None:
    """One attempt of the unit, from the hook to its end."""
    await scene.trunk_judge.look(await scene.floor.trunk.refresh(), scene.group)
    spec, task = scene.store.get(Spec, unit.id), scene.store.get(Task, unit.id)
    scene.hang(unit.id, run=line, number=scene.unit(unit.id).attempt + 1)
    assert spec is not None
    assert task is not None
    scene.store.write("task.accepted", spec, task, now=at(), unit=unit.id)  # type: ignore[arg-type]
    await work_once(scene)


async def rebuilt(scene: Scene, path: Path) -> SqliteStore:
    """A store made anew beside the one that is there."""
    store = SqliteStore(path)
    floor = assemble(store, scene.state, scene.floor.repository, scene.floor.trunk.own)
    where = scene.state.places
    await Rebuild(store=store, where=where, trunk=floor.trunk, workspaces=floor.workspaces).run(
        at()
    )
    return store


async def states(scene: Scene) -> dict[str, tuple[str, int]]:
    """Unit → state and attempt number in a rebuilt store."""
    with closing(await rebuilt(scene, scene.folder / f"again-{at().timestamp()}.sqlite")) as store:
        assert fold(entries_of(store)) == tables(store)
        return {unit.id: (str(unit.state), unit.attempt) for unit in store.select(Unit)}


async def test_a_unit_that_was_never_begun_is_ready_again_with_all_that_its_file_says(
    scene: Scene,
) -> None:
    await dropped(scene, "first", run("'true'"))
    before = await dropped(
        scene, "then", "---\nneeds: first\npriority: 1\nscope: docs/**\n---\n# Then\n\ndo it\n"
    )

    with closing(await rebuilt(scene, scene.folder / "again.sqlite")) as store:
        after = store.get(Unit, "then")
        assert after is not None
        assert (
            replace(after, since=before.since, accepted=before.accepted, why=before.why) == before
        )
        assert store.get(Task, "then") == scene.store.get(Task, "then")
        assert store.get(Spec, "then") == scene.store.get(Spec, "then")
        assert [unit.state for unit in store.select(Unit)] == ["ready", "waiting"]


async def test_a_unit_that_was_named_after_its_title_has_the_same_id_again(scene: Scene) -> None:
    for name in ("日本語", "中文"):
        await dropped(scene, name, f"---\nrun: 'true'\n---\n# {name} the login\n")

    assert await states(scene) == {"the-login": ("ready", 0), "the-login-2": ("ready", 0)}


async def test_attempts_go_on_under_new_numbers_with_the_tree_that_was_kept(scene: Scene) -> None:
    unit = await dropped(scene, "fix", run("'echo made > made.txt; exit 1'"))
    await worked(scene, unit, "echo made > made.txt; exit 1")
    await worked(scene, unit, "echo again > made.txt; exit 1")

    with closing(await rebuilt(scene, scene.folder / "again.sqlite")) as store:
        assert [unit.attempt for unit in store.select(Unit)] == [2]
        assert [unit.state for unit in store.select(Unit)] == ["ready"]
        last, known = store.get(Attempt, "fix", 2), scene.store.get(Attempt, "fix", 2)
        assert last is not None
        assert known is not None
        assert (last.commit, last.tree, last.base, last.ref) == (
            known.commit,
            known.tree,
            known.base,
            known.ref,
        )
        assert (last.reason, last.end is None) == ("handed_back", False)


async def test_what_trunk_holds_is_landed_also_where_the_record_had_not_been_written(
    scene: Scene,
) -> None:
    unit = await dropped(scene, "fix", run("'echo made > made.txt'"))
    await worked(scene, unit, "echo made > made.txt")
    await scene.settle()
    assert scene.state_of("fix") == "landed"

    before = await states(scene)  # its file still lies among the taken ones
    await scene.floor.keeper.tick(at())
    after = await states(scene)

    assert before == after == {"fix": ("landed", 1)}


async def test_landed_and_taken_out_of_trunk_by_a_person_it_stays_landed(scene: Scene) -> None:
    start = scene.head()
    unit = await dropped(scene, "fix", run("'echo made > made.txt'"))
    await worked(scene, unit, "echo made > made.txt")
    await scene.settle()
    git(scene.root, "reset", "-q", "--hard", start)

    assert await states(scene) == {"fix": ("landed", 1)}


async def test_what_landed_under_this_name_in_an_earlier_life_of_the_factory_was_another_unit(
    scene: Scene,
) -> None:
    git(
        scene.root,
        *("-c", "user.email=agent@factoryd.invalid", "commit", "-q", "--allow-empty"),
        *(
            "--author=a <agent@factoryd.invalid>",
            "-m",
            "old\n\nFactory-Unit: fix\nFactory-Attempt: 3",
        ),
    )

    await dropped(scene, "fix", run("'true'"))

    assert await states(scene) == {"fix": ("landed", 3), "fix-2": ("ready", 0)}


async def test_what_was_cancelled_is_not_begun_again(scene: Scene) -> None:
    await dropped(scene, "never", run("'true'"))
    unit = await dropped(scene, "begun", run("'echo made > made.txt; exit 1'"))
    await worked(scene, unit, "echo made > made.txt; exit 1")
    for name in ("never", "begun"):
        scene.change(name, state=UnitState.CANCELLED)

    await scene.floor.keeper.tick(at())

    assert await states(scene) == {"begun": ("cancelled", 1), "never": ("cancelled", 0)}


@pytest.mark.parametrize(
    ("big", "parts"),
    [
        ("big", ("big-a", "big-b-c", "big-b-c-2")),
        ("z" * 60, (f"{'z' * 58}-2", f"{'z' * 58}-3", f"{'z' * 58}-4")),
    ],
    ids=["short", "long"],
)
async def test_what_was_split_stays_split_and_only_its_parts_go_on(
    scene: Scene, big: str, parts: tuple[str, ...]
) -> None:
    unit = await dropped(scene, big, "all of it")
    await worked(scene, unit, "true")
    folder = scene.state.places.run_dir(big, 1) / "outbox/split"
    folder.mkdir(parents=True)
    for name in ("a", "b c", "b-c"):
        (folder / f"{name}.md").write_text(f"Do {name}.")
    alone = await states(scene)  # not one that only tried to
    for name in parts:
        scene.floor.intake.hang(f"{name}.md", "Do it.", now=now())
    await dropped(scene, "after", f"---\nneeds: [other, {big}]\n---\nThen.")

    assert alone == {big: ("ready", 1)}
    ready = dict.fromkeys(parts, ("ready", 0))
    assert await states(scene) == {"after": ("waiting", 0), big: ("split", 1), **ready}
    with closing(await rebuilt(scene, scene.folder / "again.sqlite")) as store:
        assert [unit.needs for unit in store.select(Unit) if unit.id in ("after", big)] == [
            ("other", *parts),
            parts,
        ]


async def test_after_its_folder_was_pruned_a_landed_unit_is_landed_still(scene: Scene) -> None:
    unit = await dropped(scene, "fix", run("'echo made > made.txt'"))
    await worked(scene, unit, "echo made > made.txt")
    await scene.settle()
    await scene.floor.keeper.tick(at() + timedelta(days=40))
    await scene.floor.keeper.tick(at() + timedelta(days=80))
    assert not scene.state.places.unit_dir("fix").exists()

    assert await states(scene) == {"fix": ("landed", 1)}


async def test_a_text_that_was_saved_anew_before_it_was_begun_is_one_unit(scene: Scene) -> None:
    await dropped(scene, "fix", run("'false'"))
    await dropped(scene, "fix", run("'true'"))

    with closing(await rebuilt(scene, scene.folder / "again.sqlite")) as store:
        assert [task.text for task in store.select(Task)] == [run("'true'")]


async def test_a_task_that_is_not_right_any_more_starts_nothing_and_says_so(scene: Scene) -> None:
    await dropped(scene, "fix", run("'true'"))
    (file,) = (scene.state.places.intake / "taken").iterdir()
    file.write_text("---\ncolour: red\n---\n")

    with closing(await rebuilt(scene, scene.folder / "again.sqlite")) as store:
        (unit,) = store.select(Unit)

    assert (unit.state, unit.why.partition(" (")[0]) == (
        "cancelled",
        "its task file is no longer valid",
    )


async def test_what_still_runs_is_ended_and_its_workspace_put_aside(scene: Scene) -> None:
    workspace = await scene.floor.workspaces.prepare(
        scene.floor.workspaces.at("w1"), base=await scene.floor.trunk.refresh()
    )
    (workspace.tree / "half.txt").write_text("half\n")
    run_dir = scene.state.places.run_dir("fix", 4)
    env = {"PATH": os.environ["PATH"]}
    child = await process.start(
        Command(argv=("sleep", "600"), cwd=workspace.tree, env=env, run_dir=run_dir)
    )
    await until((run_dir / "start.json").exists)

    found = await states(scene)

    with anyio.fail_after(10):
        await child.wait()
    (aside,) = scene.state.places.work.glob("workspaces/*.abandoned-*")
    assert (aside / "tree/half.txt").read_text() == "half\n"
    assert found == {"fix": ("cancelled", 4)}  # nothing says what it was to do


async def test_the_branch_is_remembered_and_no_hook_is_full(scene: Scene) -> None:
    with closing(await rebuilt(scene, scene.folder / "again.sqlite")) as store:
        assert store.get(Fact, "trunk") == Fact(name="trunk", value='{"branch": "main"}')
        assert store.select(Hook) == []
