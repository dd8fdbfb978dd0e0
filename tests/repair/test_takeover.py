"""What a start does about earlier lives, at the floor of one store and real processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from factory.child import process
from factory.child.process import Child, Command
from factory.child.users import users
from factory.repair import takeover
from factory.repair.takeover import SET_ASIDE, Told, take_over
from factory.store.identity import Found, recorded
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Fact, Hook, Request, Step
from factory.store.unit import Unit, UnitState
from tests.floor import Scene, at, scene_in

NOTHING = Told(Found.SAME)
STUBBORN = (  # ignores every polite signal
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
STARTS_ONE = """
import os, subprocess, time
print("up", flush=True)
while not os.path.exists("start"): time.sleep(0.002)
child = subprocess.Popen(["sleep", "60"])
open("started", "w").close()
child.wait()
"""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


async def start(scene: Scene, other: str | None = "") -> Told:
    """What a start does first; `other`: what lies where the store was used before."""
    return await take_over(
        scene.store, scene.state.places, identity_at=lambda root: other, now=at()
    )


async def running(
    scene: Scene, run: Path, *, nonce: str = "", cwd: Path | None = None, code: str = STUBBORN
) -> Child:
    """A run under its shim."""
    command = Command(
        argv=(sys.executable, "-I", "-S", "-c", code),
        cwd=cwd or scene.folder,
        env={"PATH": os.environ["PATH"]},
        run_dir=run,
        nonce=nonce,
    )
    child = await process.start(command)
    with anyio.fail_after(10):
        while not is_up(run):  # noqa: ASYNC110 - what is waited for happens outside of this process
            await anyio.sleep(0.01)
    return child


def is_up(run: Path) -> bool:
    log = run / "output.log"
    return log.exists() and b"up" in log.read_bytes()


async def is_over(child: Child) -> bool:
    with anyio.move_on_after(5):
        await child.wait()
        return True
    return False


@contextmanager
def stranger(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in the folder and carries no sign of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["sleep", "60"], cwd=folder) as child:
        try:
            yield child
        finally:
            child.kill()


async def test_a_first_start_gives_the_store_an_identity_and_has_nothing_to_say(
    scene: Scene,
) -> None:
    told = await start(scene)
    again = await start(scene)

    assert (told, again) == (Told(Found.NEW), NOTHING)
    known = recorded(scene.store)
    assert known is not None
    assert (known.root, known.work) == (str(scene.root), str(scene.state.places.work))


async def test_a_run_that_no_hook_holds_is_ended_and_named(scene: Scene) -> None:
    await start(scene)
    child = await running(scene, scene.state.places.run_dir("old", 1))

    told = await start(scene)

    assert await is_over(child)
    (line,) = told.lines
    assert "2 processes" in line
    assert "old/1" in line


@pytest.mark.parametrize(("nonce", "adopted"), [("aa-1", True), ("aa-2", False)])
async def test_the_run_of_a_filled_hook_goes_on_if_it_is_that_very_attempt(
    scene: Scene, nonce: str, adopted: bool
) -> None:
    await start(scene)
    scene.hang("fix")
    attempt = scene.store.get(Attempt, "fix", 1)
    assert attempt is not None
    scene.store.write(Event.ATTEMPT_NOTED, replace(attempt, nonce="aa-1"), now=at())
    child = await running(scene, scene.state.places.run_dir("fix", 1), nonce=nonce)

    told = await start(scene)

    assert (await is_over(child), bool(told.lines)) == (not adopted, not adopted)
    await child.stop(grace_s=0)


async def test_runs_of_a_deleted_factory_are_ended_whatever_they_were(scene: Scene) -> None:
    where = scene.state.places
    agent = await running(scene, where.run_dir("old", 1))
    gate = await running(scene, where.judged / "b1-x")

    told = await start(scene)

    assert told.found is Found.NEW
    assert await is_over(agent)
    assert await is_over(gate)


async def test_gates_of_this_life_are_left_to_those_who_judge(scene: Scene) -> None:
    await start(scene)
    gate = await running(scene, scene.state.places.judged / "b1-x")

    told = await start(scene)

    assert told == NOTHING
    await gate.stop(grace_s=0)


async def test_the_workspaces_of_a_deleted_factory_are_put_aside_unread(scene: Scene) -> None:
    place = scene.state.places.work / "workspaces/w1"
    (place / "tree").mkdir(parents=True)
    (place / "tree/half.txt").write_text("half\n")

    told = await start(scene)

    (aside,) = place.parent.glob("w1.abandoned-*")
    assert (aside / "tree/half.txt").read_text() == "half\n"
    assert "w1" in told.lines[0]
    assert "is gone" in told.lines[0]


async def test_where_a_stranger_works_in_a_free_workspace_or_bench_it_is_put_aside(
    scene: Scene,
) -> None:
    await start(scene)
    scene.hang("fix")
    scene.store.write(
        Event.ATTEMPT_ENDED, replace(scene.hook(), unit="", attempt=0, state="idle"), now=at()
    )
    work = scene.state.places.work
    (work / "benches/b2").mkdir(parents=True)

    with stranger(work / "workspaces/w1/tree") as one, stranger(work / "benches/b1/tree") as two:
        told = await start(scene)

        assert [one.poll(), two.poll()] == [None, None], "nobody is ended whom we did not start"
    assert "w1, b1" in told.lines[0]
    assert [path.name for path in (work / "benches").iterdir() if "." not in path.name] == ["b2"]


async def test_a_gate_that_starts_a_process_during_the_look_keeps_its_bench(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(scene)
    where = scene.state.places
    bench = where.work / "benches/b1"
    bench.mkdir(parents=True)
    gate = await running(scene, where.judged / "b1-gate", cwd=bench, code=STARTS_ONE)

    def look(folder: Path) -> dict[int, str]:
        (bench / "start").touch()
        deadline = time.monotonic() + 10
        while not (bench / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return users(folder)

    monkeypatch.setattr(takeover, "users", look)
    told = await start(scene)

    assert told == NOTHING
    assert bench.exists()
    await gate.stop(grace_s=0)


# ── a copy ──


async def test_a_copy_forgets_what_the_original_goes_on_with_and_ends_nothing(scene: Scene) -> None:
    where, store = scene.state.places, scene.store
    await start(scene)
    known = recorded(store)
    assert known is not None
    scene.hang("mine")
    child = await running(scene, where.run_dir("mine", 1))
    await elsewhere(scene)
    waits = Unit(id="waits", title="", state=UnitState.HELD, since=at(), accepted=at())
    card = Card(
        id="E1", kind=CardKind.QUESTION, fingerprint="q", since=at(), question="?", unit="waits"
    )
    step = Step(id="landing:x", kind="landing", data="{}", at=at())
    request = Request(id=1, kind="pause", args="{}", at=at())
    store.write(
        Event.TASK_ACCEPTED,
        waits,
        card,
        step,
        request,
        Fact(name="pauses", value='{"a": 1}'),
        now=at(),
    )
    for path in (where.inbox / "a.md", where.intake / "1-b.md", where.intake / "taken" / "2-c.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    os.rename(where.run_dir("mine", 1), where.run_dir("theirs", 1).parent.with_name("mine-1"))  # noqa: PTH104
    where.run_dir("theirs", 1).mkdir(parents=True)
    (where.run_dir("theirs", 1) / "start.json").write_text("{}")

    told = await start(scene, known.id)

    fresh = recorded(store)
    assert told.found is Found.COPIED
    assert fresh is not None
    assert fresh.id != known.id
    assert [unit.state for unit in store.select(Unit)] == ["cancelled", "cancelled"]
    assert (store.open(Attempt), store.open(Card), store.open(Step), store.open(Request)) == (
        [],
        [],
        [],
        [],
    )
    assert store.select(Hook) == [
        Hook(worker="w1", index=1, workspace="w1", since=store.select(Hook)[0].since)
    ]
    assert store.get(Fact, "pauses") == Fact(name="pauses", value="{}")
    assert sorted(path.name for path in (where.home / SET_ASIDE).iterdir()) == ["1-b.md", "a.md"]
    assert not (where.run_dir("theirs", 1) / "start.json").exists()
    assert "2 open units were left to the original" in told.lines[0]
    assert "2 task files" in told.lines[1]
    await child.stop(grace_s=0)


async def elsewhere(scene: Scene) -> None:
    """Let the store say that it was last used in another repository."""
    known = recorded(scene.store)
    assert known is not None
    old = replace(known, root="/nonexistent/old", git_dir="/nonexistent/old/.git", inode=0)
    value = json.dumps({name: getattr(old, name) for name in old.__slots__})
    scene.store.write(Event.FACT_CHANGED, Fact(name="identity", value=value), now=at())


async def test_of_two_files_of_one_name_none_is_lost(scene: Scene) -> None:
    await start(scene)
    known = recorded(scene.store)
    assert known is not None
    await elsewhere(scene)
    where = scene.state.places
    (where.home / SET_ASIDE).mkdir()
    (where.home / SET_ASIDE / "a.md").write_text("first")
    (where.inbox / "a.md").write_text("second")

    await start(scene, known.id)

    texts = {path.name: path.read_text() for path in (where.home / SET_ASIDE).iterdir()}
    assert texts == {"a.md": "first", "a-2.md": "second"}


# ── a move ──


@pytest.mark.parametrize("taken", ["nothing", "empty", "full"])
async def test_a_move_takes_the_work_folder_along_whatever_lies_in_its_new_place(
    scene: Scene, taken: str
) -> None:
    where = scene.state.places
    await start(scene)
    await elsewhere(scene)
    known = recorded(scene.store)
    assert known is not None
    old = scene.folder / "old-work"
    (old / "workspaces/w1/tree").mkdir(parents=True)
    (old / "workspaces/w1/environment.json").write_text("{}")
    value = json.dumps(
        {name: getattr(replace(known, work=str(old)), name) for name in known.__slots__}
    )
    hook = Hook(worker="w1", index=1, workspace="w1")
    resumed = Unit(
        id="asks", title="", state=UnitState.READY, since=at(), accepted=at(), resume=True
    )
    plan = {"checkout": "/nonexistent/old", "git_dir": "/nonexistent/old/.git", "to": "x"}
    step = Step(
        id="landing:x",
        kind="landing",
        data=json.dumps({"plan": json.dumps(plan), "units": []}),
        at=at(),
    )
    scene.store.write(
        Event.FACT_CHANGED, Fact(name="identity", value=value), hook, resumed, step, now=at()
    )
    for path in sorted(where.work.rglob("*"), reverse=True):
        path.rmdir()
    if taken == "nothing":
        where.work.rmdir()
    elif taken == "full":
        (where.work / "benches/b1").mkdir(parents=True)

    told = await start(scene)

    assert told == Told(Found.MOVED, ["This repository was in /nonexistent/old before."])
    assert (where.work / "workspaces/w1/tree").is_dir()
    assert not (where.work / "workspaces/w1/environment.json").exists(), (
        "paths in an environment do not survive a move"
    )
    assert not scene.unit("asks").resume, "sessions are found by the path that they were born in"
    (moved,) = scene.store.open(Step)
    moved_plan = json.loads(json.loads(moved.data)["plan"])
    assert (moved_plan["checkout"], moved_plan["git_dir"]) == (
        str(scene.root),
        str(scene.root / ".git"),
    )
    assert len(list(where.work.parent.glob("*.abandoned-*"))) == (taken == "full")


async def test_a_move_without_a_work_folder_says_that_workspaces_are_made_again(
    scene: Scene,
) -> None:
    await start(scene)
    await elsewhere(scene)
    known = recorded(scene.store)
    assert known is not None
    value = json.dumps(
        {name: getattr(replace(known, work="/nonexistent/work"), name) for name in known.__slots__}
    )
    scene.store.write(Event.FACT_CHANGED, Fact(name="identity", value=value), now=at())

    told = await start(scene)

    assert "its workspaces were not found, so new ones are made" in told.lines[0]


async def test_a_store_of_format_3_that_was_used_here_is_the_same(scene: Scene) -> None:
    said = {
        "state": "stopped",
        "lock": str(scene.root / ".git/factoryd.lock"),
        "work": str(scene.state.places.work),
    }
    scene.store.write(Event.FACT_CHANGED, Fact(name="daemon", value=json.dumps(said)), now=at())

    assert await start(scene) == NOTHING


@pytest.mark.parametrize(
    ("other", "found"), [("", Found.MOVED), ("bb", Found.COPIED), (None, Found.COPIED)]
)
async def test_a_store_of_format_3_that_was_used_elsewhere_was_moved_or_copied(
    scene: Scene, other: str | None, found: Found
) -> None:
    said = {
        "state": "stopped",
        "lock": "/nonexistent/old/.git/factoryd.lock",
        "work": "/nonexistent/work",
    }
    scene.store.write(Event.FACT_CHANGED, Fact(name="daemon", value=json.dumps(said)), now=at())

    assert (await start(scene, other)).found is found
