"""The keeper on a real repository, store and workspaces: what attempts made is never lost, and refs do not grow."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from factory.child import process
from factory.child.proc import MARKER
from factory.child.process import Command
from factory.ground.errors import GitError, StoreError
from factory.ground.settings import Keep, Settings
from factory.repair.keeper import Keeper
from factory.repo.archive import AT_ONCE, CHAINS
from factory.repo.packing import Packing
from factory.store.journal import Event
from factory.store.records import Attempt
from factory.store.unit import EndReason, Unit, UnitState
from tests.accepted import accepted
from tests.floor import Scene, at, scene_in
from tests.git_repo import git
from tests.journal import entries_of
from tests.locked_store import locked

MONTH = f"{at():%Y-%m}"
LATER = timedelta(days=31)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


def own(scene: Scene, *argv: str) -> str:
    """What git says of the factory repository."""
    return git(scene.state.places.git, *argv)


def refs(scene: Scene) -> list[str]:
    """The factory's refs."""
    return own(scene, "for-each-ref", "--format=%(refname)", "refs/factory").splitlines()


async def made(
    scene: Scene, name: str, state: UnitState, *, attempts: int = 1, source: str = ""
) -> list[str]:
    """A unit with attempts that each left a tree, kept as a worker keeps it; the commits."""
    base = await scene.floor.trunk.refresh()
    workspaces, commits = scene.floor.workspaces, []
    unit = Unit(id=name, title=name, state=state, since=at(), accepted=at(), attempt=attempts)
    told = accepted(name, "do it", source=source)
    scene.store.write(Event.TASK_ACCEPTED, unit, *told, now=at(), unit=name)
    for number in range(1, attempts + 1):
        blob = subprocess.run(
            ["git", "hash-object", "-w", "--stdin"],
            cwd=scene.state.places.git,
            input=f"{name} {number}".encode(),
            capture_output=True,
            check=True,
        ).stdout.decode()
        tree = subprocess.run(
            ["git", "mktree"],
            cwd=scene.state.places.git,
            input=f"100644 blob {blob.strip()}\tmade.txt\n".encode(),
            capture_output=True,
            check=True,
        ).stdout.decode()
        commits.append(
            await workspaces.keep(
                name, number, tree=tree.strip(), base=base, message=f"{name} {number}"
            )
        )
        run_dir = scene.state.places.run_dir(name, number)
        run_dir.mkdir(parents=True)
        attempt = Attempt(
            unit=name,
            number=number,
            worker="w1",
            agent="a",
            start=at(),
            end=at(),
            reason=EndReason.GATE_RED,
            base=base,
            commit=commits[-1],
            ref=f"refs/factory/attempts/{name}/{number}",
        )
        scene.store.write(Event.ATTEMPT_ENDED, attempt, now=at(), unit=name)
    return commits


def attempt(scene: Scene, name: str, number: int = 1) -> Attempt:
    found = scene.store.get(Attempt, name, number)
    assert found is not None
    return found


def again(scene: Scene) -> Keeper:
    """The keeper of the next daemon."""
    keeper = scene.floor.keeper
    return Keeper(
        store=scene.store,
        state=scene.state,
        own=scene.floor.trunk.own,
        trunk_ref="refs/heads/main",
        workspaces=keeper.workspaces,
    )


# ── the archive ──


async def test_the_attempts_of_final_units_move_into_the_months_chain_and_those_of_open_ones_stay(
    scene: Scene,
) -> None:
    landed = await made(scene, "landed", UnitState.LANDED, attempts=2)
    await made(scene, "open", UnitState.HELD)

    await scene.floor.keeper.tick(at())

    assert refs(scene) == [f"{CHAINS}{MONTH}", "refs/factory/attempts/open/1"]
    assert own(scene, "log", "-1", "--format=%P", f"{CHAINS}{MONTH}").split()[1:] == landed
    assert f"landed/1 {landed[0]}\nlanded/2 {landed[1]}" in own(
        scene, "log", "-1", "--format=%B", f"{CHAINS}{MONTH}"
    )
    assert [attempt(scene, "landed", number).ref for number in (1, 2)] == [f"{CHAINS}{MONTH}"] * 2
    assert own(scene, "show", f"{landed[1]}:made.txt") == "landed 2"


async def test_each_pass_adds_a_link_to_the_chain_and_everything_survives_a_gc_by_hand(
    scene: Scene,
) -> None:
    first = await made(scene, "one", UnitState.LANDED)
    await scene.floor.keeper.tick(at())
    second = await made(scene, "two", UnitState.CANCELLED)
    await scene.floor.keeper.tick(at())

    own(scene, "gc", "-q", "--prune=now")

    assert [own(scene, "show", f"{commit}:made.txt") for commit in (*first, *second)] == [
        "one 1",
        "two 1",
    ]
    assert (
        len(own(scene, "log", "--first-parent", "--format=%s", f"{CHAINS}{MONTH}").split("\n")) == 3
    )
    assert set(await scene.floor.keeper.archive.entries()) == {"one/1", "two/1"}


async def test_more_attempts_than_one_commit_takes_go_in_several_and_leave_no_ref(
    scene: Scene,
) -> None:
    base = await scene.floor.trunk.refresh()
    count = AT_ONCE + 3
    orders = "".join(
        f"create refs/factory/attempts/u{number}/1 {base}\n" for number in range(count)
    )
    subprocess.run(
        ["git", "update-ref", "--stdin"],
        cwd=scene.state.places.git,
        input=orders.encode(),
        check=True,
    )
    units = [
        Unit(id=f"u{number}", title="u", state=UnitState.LANDED, since=at(), accepted=at())
        for number in range(count)
    ]
    scene.store.write(Event.TASK_ACCEPTED, *units, now=at())

    await scene.floor.keeper.tick(at())

    assert refs(scene) == [f"{CHAINS}{MONTH}"]
    assert len(await scene.floor.keeper.archive.entries()) == count


async def test_a_quiet_line_with_open_units_starts_no_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(scene, "open", UnitState.READY)
    await made(scene, "over", UnitState.LANDED)
    await scene.floor.keeper.tick(at())
    # an estimate by the ids of objects, which differ from run to run
    monkeypatch.setattr(Packing, "loose", lambda packing: 0)
    monkeypatch.setattr("factory.child.process.Popen", None)

    await scene.floor.keeper.tick(at() + timedelta(days=8))

    assert len(refs(scene)) == 2


async def test_an_attempt_that_still_runs_after_its_unit_was_cancelled_is_waited_for(
    scene: Scene,
) -> None:
    await made(scene, "u", UnitState.CANCELLED)
    ended = attempt(scene, "u")
    scene.store.write(Event.ATTEMPT_NOTED, replace(ended, end=None), now=at(), unit="u")
    await scene.floor.keeper.tick(at())
    assert refs(scene) == ["refs/factory/attempts/u/1"]
    scene.store.write(Event.ATTEMPT_ENDED, ended, now=at(), unit="u")

    await scene.floor.keeper.tick(at())

    assert refs(scene) == [f"{CHAINS}{MONTH}"]


async def test_died_between_the_chain_and_the_record_the_next_daemon_writes_it_down(
    scene: Scene,
) -> None:
    (commit,) = await made(scene, "u", UnitState.LANDED)
    await scene.floor.keeper.archive.put({"u/1": commit}, at())
    assert attempt(scene, "u").ref == "refs/factory/attempts/u/1"

    await again(scene).tick(at())

    assert attempt(scene, "u").ref == f"{CHAINS}{MONTH}"


async def test_a_chain_that_was_written_while_its_refs_stayed_is_no_harm(scene: Scene) -> None:
    (commit,) = await made(scene, "u", UnitState.LANDED)
    await scene.floor.keeper.archive.put({"u/1": commit}, at())
    own(
        scene, "update-ref", "refs/factory/attempts/u/1", commit
    )  # as if killed before the deletion

    await again(scene).tick(at())

    assert refs(scene) == [f"{CHAINS}{MONTH}"]
    assert own(scene, "show", f"{commit}:made.txt") == "u 1"


async def test_a_ref_that_moved_meanwhile_is_not_deleted(scene: Scene) -> None:
    (commit,) = await made(scene, "u", UnitState.LANDED)
    own(scene, "update-ref", "refs/factory/attempts/u/1", scene.head())

    with pytest.raises(GitError):
        await scene.floor.keeper.archive.put({"u/1": commit}, at())

    assert refs(scene) == ["refs/factory/attempts/u/1"]


# ── task files ──


async def test_what_lies_among_the_taken_files_is_unfinished_the_others_go_to_their_units(
    scene: Scene,
) -> None:
    taken = scene.state.places.intake / "taken"
    taken.mkdir(parents=True)
    for source in ("1-open.md", "1-over.md", "0-over.md"):
        (taken / source).write_text(source)
    await made(scene, "open", UnitState.READY)
    await made(scene, "over", UnitState.LANDED)

    await scene.floor.keeper.tick(at())

    assert [path.name for path in taken.iterdir()] == ["1-open.md"]
    assert (scene.state.places.unit_dir("over") / "1-over.md").read_text() == "1-over.md"
    assert (scene.state.places.intake / "replaced" / "0-over.md").read_text() == "0-over.md"


async def test_whose_a_run_dir_is_can_be_told_by_the_task_in_its_units_folder(scene: Scene) -> None:
    taken = scene.state.places.intake / "taken"
    taken.mkdir(parents=True)
    (taken / "1-open.md").write_text("do it")
    await made(scene, "open", UnitState.READY)

    await scene.floor.keeper.tick(at())
    copied = (scene.state.places.unit_dir("open") / "1-open.md").read_text()
    scene.change("open", state=UnitState.CANCELLED)
    await scene.floor.keeper.tick(at())

    assert (copied, list(taken.iterdir())) == ("do it", [])
    assert (scene.state.places.unit_dir("open") / "1-open.md").read_text() == "do it"


async def test_refs_whose_move_the_store_could_not_take_are_noted_by_the_next_look(
    scene: Scene,
) -> None:
    await made(scene, "landed", UnitState.LANDED)
    keeper = scene.floor.keeper
    await keeper._move_refs(at())
    await made(scene, "later", UnitState.LANDED)

    with locked(scene.store), pytest.raises(StoreError, match="locked"):
        await keeper._move_refs(at())
    assert attempt(scene, "later").ref == "refs/factory/attempts/later/1"
    await keeper._move_refs(at())

    assert attempt(scene, "later").ref == f"refs/factory/archive/{at():%Y-%m}"


async def test_both_trees_that_an_attempt_kept_move_into_the_chain(scene: Scene) -> None:
    (first,) = await made(scene, "landed", UnitState.LANDED)
    base = git(scene.state.places.git, "rev-parse", f"{first}^")
    tree = git(scene.state.places.git, "rev-parse", f"{base}^{{tree}}")
    second = await scene.floor.workspaces.keep("landed", 1, tree=tree, base=base, message="another")

    await scene.floor.keeper.tick(at())

    kept = await scene.floor.keeper.archive.entries()
    assert {name: each.commit for name, each in kept.items()} == {
        "landed/1": second,
        f"landed/1-{first[:12]}": first,
    }
    assert git(scene.state.places.git, "for-each-ref", "refs/factory/attempts") == ""


async def test_a_copy_of_a_task_that_was_cut_short_is_made_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = scene.state.places.intake / "taken"
    taken.mkdir(parents=True)
    (taken / "1-open.md").write_text("do it")
    await made(scene, "open", UnitState.READY)

    def cut_short(_: Path, to: Path) -> None:
        to.write_text("do")
        raise OSError("no room")

    with monkeypatch.context() as broken:
        broken.setattr("shutil.copyfile", cut_short)
        with pytest.raises(OSError, match="no room"):
            await scene.floor.keeper.tick(at())
    await scene.floor.keeper.tick(at())

    assert (scene.state.places.unit_dir("open") / "1-open.md").read_text() == "do it"


# ── retention ──


async def test_run_dirs_of_final_units_go_after_the_set_days_and_their_trees_stay(
    scene: Scene,
) -> None:
    (commit,) = await made(scene, "over", UnitState.LANDED)
    await made(scene, "open", UnitState.HELD)
    attempts = scene.state.places.home / "attempts"
    await scene.floor.keeper.tick(at() + timedelta(days=29))
    assert sorted(path.name for path in attempts.iterdir()) == ["open", "over"]

    await scene.floor.keeper.tick(at() + LATER)

    assert [path.name for path in attempts.iterdir()] == ["open"]
    assert own(scene, "show", f"{commit}:made.txt") == "over 1"
    (told,) = [entry for entry in entries_of(scene.store) if entry.event is Event.KEPT_PRUNED]
    assert told.detail == {"runs": 1, "logs": 0, "workspaces": []}


async def test_with_nought_days_nothing_is_ever_deleted(tmp_path: Path) -> None:
    async with scene_in(tmp_path, keep=Keep(days=0)) as scene:
        await made(scene, "over", UnitState.LANDED)

        await scene.floor.keeper.tick(at() + timedelta(days=9999))

        assert scene.state.places.run_dir("over", 1).is_dir()


async def test_logs_of_gates_stay_while_a_unit_that_may_ask_for_them_is_open(scene: Scene) -> None:
    log = scene.state.places.judged / "b1-0000-test"
    log.mkdir()
    (log / "exit.json").touch()
    await made(scene, "open", UnitState.HELD)
    scene.change("open", accepted=at() - timedelta(days=3))
    await scene.floor.keeper.tick(at() + LATER)
    assert log.exists()
    scene.change("open", state=UnitState.CANCELLED)

    await scene.floor.keeper.tick(at() + 2 * LATER)

    assert not log.exists()


async def test_links_among_what_is_old_are_removed_and_never_followed(scene: Scene) -> None:
    theirs = scene.folder / "theirs"
    theirs.mkdir()
    (theirs / "diary.txt").write_text("mine")
    await made(scene, "over", UnitState.LANDED)
    (scene.state.places.run_dir("over", 1) / "link").symlink_to(theirs)
    (scene.state.places.work / "workspaces").mkdir()
    (scene.state.places.work / "workspaces/w1.abandoned-0").symlink_to(theirs)

    await scene.floor.keeper.tick(at() + LATER)

    assert (theirs / "diary.txt").read_text() == "mine"
    assert not scene.state.places.unit_dir("over").exists()
    assert not os.path.lexists(scene.state.places.work / "workspaces/w1.abandoned-0")


async def test_a_folder_of_ours_that_became_a_link_is_not_looked_into(scene: Scene) -> None:
    await made(scene, "over", UnitState.LANDED)
    attempts, theirs = scene.state.places.home / "attempts", scene.folder / "theirs"
    attempts.rename(theirs)
    attempts.symlink_to(theirs)

    await scene.floor.keeper.tick(at() + LATER)

    assert (theirs / "over/1").is_dir()


# ── workspaces ──


async def aside(scene: Scene, text: str = "left\n") -> Path:
    """A workspace with work in it that was put out of use."""
    workspace = await scene.floor.workspaces.prepare(
        scene.floor.workspaces.at("w1"), base=await scene.floor.trunk.refresh()
    )
    (workspace.tree / "left.txt").write_text(text)
    return scene.floor.workspaces.abandon("w1")


async def test_an_abandoned_workspace_is_kept_as_a_tree_before_it_goes(scene: Scene) -> None:
    place = await aside(scene)
    await scene.floor.keeper.tick(at())
    assert place.exists()

    await scene.floor.keeper.tick(at() + LATER)

    ((name, kept),) = (await scene.floor.keeper.archive.entries()).items()
    assert (place.exists(), name) == (False, f"rescue/{place.name}")
    assert own(scene, "show", f"{kept.commit}:left.txt") == "left"
    assert list(scene.state.places.index.glob("*abandoned*")) == []


async def test_where_somebody_still_works_in_it_it_stays(scene: Scene) -> None:
    place = await aside(scene)
    waits = [sys.executable, "-c", "input()"]
    tree = place / "tree"
    with subprocess.Popen(waits, cwd=tree, stdin=subprocess.PIPE) as child:  # noqa: ASYNC220
        await scene.floor.keeper.tick(at() + LATER)
        child.kill()

    assert place.exists()


async def test_what_still_runs_of_an_attempt_that_is_over_is_ended_first(scene: Scene) -> None:
    place = await aside(scene)
    run_dir = scene.state.places.run_dir("gone", 1)
    env = {"PATH": os.environ["PATH"]}
    child = await process.start(
        Command(argv=("sleep", "600"), cwd=scene.folder, env=env, run_dir=run_dir)
    )
    while not process.living(f"{MARKER}={run_dir}"):  # noqa: ASYNC110 - another process's environment
        await anyio.sleep(0.01)
    assert scene.floor.keeper.strays() == [run_dir]

    await scene.floor.keeper.tick(at() + LATER)

    with anyio.fail_after(5):
        await child.wait()
    assert not place.exists()


async def test_what_git_cannot_take_is_not_deleted(scene: Scene) -> None:
    place = await aside(scene)
    long = place / "tree" / "/".join(["d" * 200] * 19)
    long.mkdir(parents=True)
    os.chdir(long)
    try:
        Path("e" * 200).mkdir()
        os.chdir("e" * 200)
        Path("f" * 200).write_text("too deep for a path")
    finally:
        os.chdir(scene.folder)

    await scene.floor.keeper.tick(at() + LATER)

    assert place.exists()


async def test_settings_say_what_is_kept() -> None:
    assert Settings().keep.days == 30


async def test_a_keeper_that_failed_is_tried_again_soon_and_its_warning_goes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.0)
    keeper, warned = scene.floor.keeper, list[list[str]]()

    async def fails_once(when: datetime) -> bool:
        warned.append(list(scene.state.broken))
        if len(warned) == 1:
            raise StoreError("The store is locked.")
        return True

    monkeypatch.setattr(keeper, "tick", fails_once)
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.run)
        with anyio.fail_after(5):
            while len(warned) < 2 or scene.state.broken:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()

    assert warned == [[], ["keeper"]]
