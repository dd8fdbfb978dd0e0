"""A worker on real workspaces and processes: wherever a daemon dies, nothing is lost and nothing is done twice."""

import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.agents.output import OutputReader
from factory.attempt.worker import Worker
from factory.child import process
from factory.child.process import Command
from factory.dispatch.crew import Runs
from factory.ground.daemon_state import Stopping
from factory.ground.errors import Deposed, GitError, StoreError, TooLong
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Fact
from factory.store.sqlite import SqliteStore
from factory.store.unit import Unit, UnitState, advance
from tests.floor import FILES, Scene, at, scene_in
from tests.git_repo import git
from tests.locked_store import locked

LIMITED = """
command = ["sh", "-c", "echo 'limit reached|1000000001'; exit 1"]
[limit]
patterns = ['limit reached\\|(?P<reset>\\d+)']
"""
SPLITTER = r"""
command = ["sh", "-c", '''echo half > new.txt; mkdir $FACTORY_OUTBOX/split && cd $FACTORY_OUTBOX/split
printf -- '---\nneeds: older\n---\nA' > a.md; echo B > b.md''']
"""
RUNTIMES = FILES | {
    "conventions/runtimes/limited.toml": LIMITED,
    "conventions/runtimes/splitter.toml": SPLITTER,
}


class Killed(BaseException):
    """Stands for `kill -9`: no handler of ours catches it."""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path, RUNTIMES) as made:
        await made.trunk_judge.look(await made.floor.trunk.refresh(), made.group)
        yield made


def worker(scene: Scene) -> Runs:
    """W1, new as after a start."""
    return scene.floor.pool._crew._make_worker("w1")


async def until(look: Callable[[], object]) -> None:
    """Wait for something to be so."""
    with anyio.fail_after(15):
        while not look():  # noqa: ASYNC110 - what is waited for happens outside of this process
            await anyio.sleep(0.01)


async def work_once(scene: Scene, one: Runs | None = None) -> None:
    """A worker runs until its hook is empty."""
    one = one or worker(scene)
    async with anyio.create_task_group() as group:
        group.start_soon(one.run)
        await until(lambda: not scene.hook().unit)
        group.cancel_scope.cancel()


def command(scene: Scene, then: str = "") -> str:
    """A command that makes a file, and counts how often it ran."""
    return f"echo x >> {scene.folder}/ran; echo new > new.txt; {then or 'true'}"


def kept(scene: Scene, number: int = 1) -> str:
    """What the ref of an attempt holds in new.txt."""
    return git(scene.state.places.git, "show", f"refs/factory/attempts/u/{number}:new.txt")


# ── one run ──


async def test_a_command_is_submitted_with_its_tree_kept_and_its_hook_empty(scene: Scene) -> None:
    scene.hang("u", run=command(scene))

    await work_once(scene)

    unit = scene.unit("u")
    assert (unit.state, unit.base, scene.reasons("u")) == (
        UnitState.QUEUED,
        scene.head(),
        ["submitted"],
    )
    assert git(scene.state.places.git, "rev-parse", "refs/factory/attempts/u/1") == unit.submission
    assert kept(scene) == "new"


async def test_a_command_that_fails_is_asked_about_at_once_and_what_it_made_is_kept(
    scene: Scene,
) -> None:
    scene.hang("u", run=command(scene, "exit 3"))

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.unit("u").submission) == (
        "held",
        ["crashed"],
        "",
    )
    assert scene.cards() == [CardKind.ATTEMPTS_EXHAUSTED]
    assert kept(scene) == "new"


async def test_hung_just_before_a_kill_it_is_handed_back_where_trunk_is_gone_by_the_next_start(
    scene: Scene,
) -> None:
    scene.hang("u", run=command(scene))
    scene.judge.rulings.tip = ""

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.unit("u").spent) == (
        "ready",
        ["handed_back"],
        0,
    )


async def test_a_circle_by_way_of_a_unit_that_was_split_before_is_no_split(scene: Scene) -> None:
    for name, state, needs in (
        ("older", UnitState.SPLIT, ("older-a",)),
        ("older-a", UnitState.WAITING, ("u",)),
    ):
        unit = Unit(id=name, title=name, state=state, since=at(), accepted=at(), needs=needs)
        scene.store.write(Event.TASK_ACCEPTED, unit, now=at(), unit=name)
    scene.hang("u", agent="splitter")

    await work_once(scene)

    (attempt,) = scene.store.select(Attempt, unit="u")
    ended = (scene.state_of("u"), attempt.reason)
    assert ended == ("ready", "empty"), "nor is the change a submission, without done.md"
    circle = (
        "needs: they form a circle, so none of these units could start: u-a → older → older-a → u-a"
    )
    assert attempt.detail.startswith(f"it was not split: split/a.md: {circle}")
    assert kept(scene) == "half"


@pytest.mark.parametrize(
    ("parts", "may"), [(("u", "more"), False), (("more",), True)], ids=["part", "whole"]
)
async def test_only_what_is_no_part_hears_that_it_may_be_split(
    scene: Scene, parts: tuple[str, ...], may: bool
) -> None:
    big = Unit(id="big", title="big", state=UnitState.SPLIT, since=at(), accepted=at(), needs=parts)
    scene.store.write(Event.TASK_ACCEPTED, big, now=at(), unit="big")
    scene.hang("u", agent="splitter")

    await work_once(scene)

    (attempt,) = scene.store.select(Attempt, unit="u")
    told = (scene.state.places.run_dir("u", attempt.number) / "prompt.md").read_text()
    assert ("split/NAME.md" in told, "u is a part already" in attempt.digest) == (may, not may)


async def test_of_a_workspace_that_its_command_deleted_that_is_said(scene: Scene) -> None:
    scene.hang("u", run=command(scene, 'rm -rf "$PWD"'))

    await work_once(scene)

    attempt = scene.store.get(Attempt, "u", 1)
    assert attempt is not None
    assert (attempt.reason, attempt.detail) == (
        "empty",
        "its workspace was gone at the end, and what it did with it",
    )


@pytest.mark.parametrize("late", [False, True], ids=["while it is prepared", "while it runs"])
async def test_where_a_newer_daemon_took_over_nothing_is_started_ended_or_kept(
    scene: Scene, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: scene.trunk_judge.ruled(scene.judge.rulings.tip))
    scene.floor.store.own("older", now=at())
    scene.hang("u", run=command(scene, f"until test -e {scene.folder}/go; do sleep 0.05; done"))
    prepare = scene.floor.workspaces.prepare

    def take_over() -> None:
        with closing(SqliteStore(scene.state.places.store)) as newer:
            newer.own("newer", now=at())

    async def prepared(*args: Any, **named: Any) -> Any:
        if not late:
            take_over()
        return await prepare(*args, **named)

    monkeypatch.setattr(scene.floor.workspaces, "prepare", prepared)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker(scene).run)
            if late:
                await until(lambda: scene.count("ran"))
                take_over()
                await anyio.Path(scene.folder, "go").touch()

    with pytest.raises(BaseExceptionGroup) as raised:
        await both()

    assert raised.value.subgroup(Deposed)
    assert (scene.count("ran"), scene.reasons("u"), scene.hook().unit) == (int(late), ["None"], "u")
    assert git(scene.state.places.git, "for-each-ref", "refs/factory/attempts") == ""


async def test_what_a_daemon_ended_and_died_before_it_could_say_so_is_handed_back(
    scene: Scene,
) -> None:
    scene.hang("u", run=command(scene, "sleep 600"))
    async with anyio.create_task_group() as group:
        group.start_soon(worker(scene).run)
        await until(lambda: scene.count("ran"))
        group.cancel_scope.cancel()
    await process.end(scene.state.places.run_dir("u", 1))

    await work_once(scene)

    assert (scene.reasons("u"), scene.unit("u").spent, scene.state_of("u")) == (
        ["handed_back"],
        0,
        "ready",
    )
    assert (kept(scene), scene.cards()) == ("new", [])


async def test_handed_back_at_a_stop_it_is_not_counted(scene: Scene) -> None:
    scene.hang("u", run=command(scene, "sleep 600"))
    async with anyio.create_task_group() as group:
        group.start_soon(work_once, scene)
        await until(lambda: scene.count("ran"))
        scene.state.stopping = Stopping.HAND_BACK

    assert (scene.state_of("u"), scene.reasons("u"), scene.unit("u").spent) == (
        "ready",
        ["handed_back"],
        0,
    )
    assert kept(scene) == "new"


async def test_cancelled_while_it_runs_it_is_ended_and_its_tree_is_kept(scene: Scene) -> None:
    scene.hang("u", run=command(scene, "sleep 600"))
    async with anyio.create_task_group() as group:
        group.start_soon(work_once, scene)
        await until(lambda: scene.count("ran"))
        cancelled = advance(scene.unit("u"), UnitState.CANCELLED, now=at())
        scene.store.write(Event.UNIT_CANCELLED, cancelled, now=at(), unit="u")

    assert (scene.state_of("u"), scene.reasons("u")) == ("cancelled", ["cancelled"])
    assert kept(scene) == "new"


async def test_limits_in_a_row_whose_reset_is_over_already_hold_the_unit_longer_and_longer(
    scene: Scene,
) -> None:
    paused = []
    for number in range(1, 5):
        scene.hang("u", agent="limited", number=number)
        before = at()
        await work_once(scene)
        paused.append((scene.unit("u").not_before or before) - before)

    assert [pause > timedelta(seconds=2**row) for row, pause in enumerate(paused)] == [True] * 4
    assert (scene.state_of("u"), scene.reasons("u"), scene.unit("u").spent) == (
        "waiting",
        ["limit"] * 4,
        0,
    )
    assert scene.store.get(Fact, "pauses") is not None


async def test_paths_that_git_does_not_take_are_named_on_record_and_in_the_digest(
    scene: Scene,
) -> None:
    scene.hang(
        "u", run=command(scene, "mkdir .GIT 'git~1' && echo x > .GIT/x && echo x > 'git~1/x'")
    )

    await work_once(scene)

    attempt = scene.store.get(Attempt, "u", 1)
    assert attempt is not None
    assert (attempt.reason, attempt.left_out) == ("submitted", (".GIT/x", "git~1/x"))
    assert attempt.digest.startswith("Left out of what was submitted: .GIT/x, git~1/x\n")


# ── killed in between ──


def strike(scene: Scene, event: Event, *, after: bool) -> None:
    """Die just before, or just after, the first write of that event."""
    write = scene.store.write

    def dies(told: Event, *records: Any, **more: Any) -> int:
        if told is not event:
            return write(told, *records, **more)
        scene.store.write = write  # type: ignore[method-assign]
        if after:
            write(told, *records, **more)
        raise Killed

    scene.store.write = dies  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("event", [Event.ATTEMPT_NOTED, Event.ATTEMPT_STARTED, Event.ATTEMPT_ENDED])
async def test_killed_around_any_record_the_command_runs_once_and_is_submitted_once(
    scene: Scene, event: Event, after: bool
) -> None:
    scene.hang("u", run=command(scene))
    strike(scene, event, after=after)
    with pytest.raises(Killed):
        await worker(scene).run()
    if event is not Event.ATTEMPT_NOTED:  # a start takes longer than a shim
        await until((scene.state.places.run_dir("u", 1) / "start.json").exists)

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.count("ran")) == (
        "queued",
        ["submitted"],
        1,
    )
    assert kept(scene) == "new"


async def test_what_was_only_just_starting_when_the_daemon_died_is_ended_before_the_next_begins(
    scene: Scene,
) -> None:
    scene.hang("u", run=command(scene))
    run_dir = scene.state.places.run_dir("u", 1)
    env = {"PATH": os.environ["PATH"]}
    early = await process.start(
        Command(argv=("sleep", "600"), cwd=scene.folder, env=env, run_dir=run_dir)
    )
    await until((run_dir / "start.json").exists)
    (run_dir / "start.json").unlink()

    await work_once(scene)

    with anyio.fail_after(5):
        await early.wait()
    assert (scene.state_of("u"), scene.count("ran")) == ("queued", 1)


@pytest.mark.parametrize("step", ["snapshot", "keep"])
async def test_killed_while_a_tree_is_taken_it_is_taken_by_the_next_daemon(
    scene: Scene, step: str
) -> None:
    scene.hang("u", run=command(scene))
    whole: Callable[..., Awaitable[Any]] = getattr(scene.floor.workspaces, step)

    async def dies(*told: Any, **more: Any) -> Any:
        setattr(scene.floor.workspaces, step, whole)
        await whole(*told, **more)
        raise Killed

    setattr(scene.floor.workspaces, step, dies)
    with pytest.raises(Killed):
        await worker(scene).run()

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.count("ran")) == (
        "queued",
        ["submitted"],
        1,
    )
    assert kept(scene) == "new"


async def test_left_by_a_restart_it_runs_on_and_is_taken_over(scene: Scene) -> None:
    go = scene.folder / "go"
    scene.hang("u", run=command(scene, f"while [ ! -e {go} ]; do sleep 0.01; done"))
    async with anyio.create_task_group() as group:
        group.start_soon(worker(scene).run)
        await until(lambda: scene.count("ran"))
        group.cancel_scope.cancel()
    go.touch()

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.count("ran")) == (
        "queued",
        ["submitted"],
        1,
    )


# ── hooks that hold nothing ──


async def test_an_attempt_that_is_not_the_newest_changes_nothing_and_its_hook_is_emptied(
    scene: Scene,
) -> None:
    scene.hang("u", run=command(scene))
    scene.change("u", attempt=2)

    await work_once(scene)

    assert (scene.unit("u").attempt, scene.state_of("u"), scene.count("ran")) == (2, "running", 0)
    assert scene.reasons("u") == ["lost"]


async def test_a_hook_whose_attempt_is_not_on_record_is_emptied(scene: Scene) -> None:
    hook = scene.hang("u", run=command(scene))
    scene.store.write(Event.HOOK_FILLED, replace(hook, attempt=7), now=at(), unit="u")

    await work_once(scene)

    assert (scene.state_of("u"), scene.count("ran")) == ("running", 0)


async def test_an_attempt_that_is_over_already_is_not_gone_through_again(scene: Scene) -> None:
    hook = scene.hang("u", run=command(scene))
    await work_once(scene)
    scene.store.write(Event.HOOK_FILLED, hook, now=at(), unit="u")

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.count("ran")) == (
        "queued",
        ["submitted"],
        1,
    )


# ── what is too big to be kept ──

HUGE = "truncate -s 18G huge.bin; "


async def test_a_file_that_is_too_big_is_asked_about_and_all_that_the_attempt_left_stays(
    scene: Scene,
) -> None:
    scene.hang("u", run=command(scene, HUGE))

    await work_once(scene)

    (aside,) = scene.state.places.work.glob("workspaces/*.abandoned-*")
    (card,) = scene.store.open(Card)
    assert (scene.state_of("u"), scene.reasons("u"), card.kind) == (
        "held",
        ["guard"],
        CardKind.GUARD,
    )
    assert card.question == (
        "u: the files that it changed have 18 GiB together; the limit is 4 GiB: huge.bin (18 GiB). What now?"
    )
    assert card.evidence.splitlines() == [
        f"All files are in {aside}/tree until you delete that folder. Copy what you need.",
        "huge.bin: 18 GiB",
    ]
    assert [option.action for option in card.options] == ["rerun", "judge", "cancel"]
    assert (aside / "tree/huge.bin").stat().st_size == 18 << 30
    assert kept(scene) == "new"
    attempt = scene.store.get(Attempt, "u", 1)
    assert attempt is not None
    assert attempt.left_out == ("huge.bin",)
    assert "Not all of it could be kept" in attempt.digest


async def test_a_person_may_have_judged_what_could_be_kept(scene: Scene) -> None:
    scene.hang("u", run=command(scene, HUGE))
    await work_once(scene)

    scene.floor.escalations.answer("E1", "2", now=at())
    await scene.settle()

    assert (scene.state_of("u"), scene.cards()) == ("landed", [])
    assert git(scene.root, "show", "--stat=200", "--format=", "main").splitlines()[0].split() == [
        "new.txt",
        "|",
        "1",
        "+",
    ]


async def test_where_nothing_but_the_big_file_is_left_there_is_nothing_to_judge(
    scene: Scene,
) -> None:
    scene.hang("u", run=HUGE)

    await work_once(scene)

    (card,) = scene.store.open(Card)
    assert [option.action for option in card.options] == ["rerun", "cancel"]


async def test_an_attempt_that_is_cancelled_leaves_its_big_file_where_it_is(scene: Scene) -> None:
    scene.hang("u", run=command(scene, f"{HUGE} touch {scene.folder}/big; sleep 60"))
    async with anyio.create_task_group() as group:
        group.start_soon(worker(scene).run)
        await until((scene.folder / "big").exists)
        cancelled = advance(scene.unit("u"), UnitState.CANCELLED, now=at())
        scene.store.write(Event.UNIT_CANCELLED, cancelled, now=at(), unit="u")
        await until(lambda: not scene.hook().unit)
        group.cancel_scope.cancel()

    (aside,) = scene.state.places.work.glob("workspaces/*.abandoned-*")
    assert (scene.state_of("u"), scene.reasons("u"), scene.cards()) == (
        "cancelled",
        ["cancelled"],
        [],
    )
    assert (aside / "tree/huge.bin").exists()


async def test_a_daemon_that_dies_before_it_asks_finds_the_workspace_where_it_put_it(
    scene: Scene,
) -> None:
    hang(scene, command(scene, HUGE))
    strike(scene, Event.ATTEMPT_ENDED, after=False)
    with pytest.raises(Killed):
        await worker(scene).run()

    await work_once(scene)

    assert len(list(scene.state.places.work.glob("workspaces/*.abandoned-*"))) == 1
    assert (scene.reasons("u"), scene.cards(), scene.count("ran")) == (
        ["guard"],
        [CardKind.GUARD],
        1,
    )


async def test_a_workspace_that_holds_what_could_not_be_kept_is_never_deleted(scene: Scene) -> None:
    scene.hang("u", run=command(scene, HUGE))
    await work_once(scene)
    (aside,) = scene.state.places.work.glob("workspaces/*.abandoned-*")

    assert not await scene.floor.keeper.put_away(aside.name, at())

    assert (aside / "tree/huge.bin").exists()


# ── what breaks ──


async def test_a_trip_that_breaks_loses_its_attempt_and_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)
    monkeypatch.setattr(scene.floor.workspaces, "snapshot", breaks)
    scene.hang("u", run=command(scene))

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.unit("u").spent) == (
        "waiting",
        ["lost"],
        0,
    )
    (aside,) = scene.state.places.work.glob("workspaces/*.abandoned-*")
    assert (aside / "tree/new.txt").read_text() == "new\n"


async def test_what_the_agent_of_a_trip_that_broke_had_made_is_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("what it said cannot be read")

    monkeypatch.setattr("factory.attempt.worker.OutputReader", breaks)
    scene.hang("u", run=command(scene, "sleep 600"))
    broken = worker(scene)
    async with anyio.create_task_group() as group:
        group.start_soon(broken.run)
        await until(lambda: not scene.hook().unit)
        group.cancel_scope.cancel()

    attempt = scene.store.get(Attempt, "u", 1)
    assert attempt is not None
    assert (scene.reasons("u"), attempt.ref) == (["lost"], "refs/factory/attempts/u/1")
    assert git(scene.state.places.git, "rev-parse", attempt.ref) == attempt.commit


async def test_before_its_agent_ran_a_broken_trip_keeps_nothing_for_the_workspace_is_half_prepared(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(scene.floor.workspaces, "renew_git", breaks)
    scene.hang("u", run=command(scene))

    await work_once(scene)

    attempt = scene.store.get(Attempt, "u", 1)
    assert attempt is not None
    assert (attempt.reason, attempt.ref, attempt.tree) == ("lost", "", "")


@pytest.mark.parametrize("step", ["prepare", "snapshot", "keep"])
async def test_a_trip_that_breaks_on_a_full_disk_goes_on_when_there_is_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)
    whole: Callable[..., Awaitable[Any]] = getattr(scene.floor.workspaces, step)
    failures = [GitError(("add",), 128, "fatal: No space left on device")] * 3

    async def fails(*told: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return await whole(*told, **more)

    monkeypatch.setattr(scene.floor.workspaces, step, fails)
    scene.hang("u", run=command(scene))

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), scene.count("ran")) == (
        "queued",
        ["submitted"],
        1,
    )
    assert kept(scene) == "new"


async def test_a_tree_that_a_full_disk_could_not_take_whole_is_taken_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)
    whole = scene.floor.workspaces.snapshot

    async def half(*told: Any, **more: Any) -> Any:
        monkeypatch.setattr("factory.ground.disk.LEAST", 1 << 60)
        monkeypatch.setattr(scene.floor.workspaces, "snapshot", then)
        return replace(
            await whole(*told, **more),
            tree=git(scene.root, "rev-parse", "main^{tree}"),
            left_out="error",
        )

    async def then(*told: Any, **more: Any) -> Any:
        monkeypatch.setattr("factory.ground.disk.LEAST", 0)
        return await whole(*told, **more)

    monkeypatch.setattr(scene.floor.workspaces, "snapshot", half)
    scene.hang("u", run=command(scene))

    await work_once(scene)

    assert (scene.state_of("u"), kept(scene)) == ("queued", "new")


async def test_a_command_that_failed_while_the_disk_was_full_is_lost_and_not_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.disk.LEAST", 1 << 60)
    scene.hang("u", run=command(scene, "exit 3"))

    await work_once(scene)

    assert (scene.reasons("u"), scene.unit("u").spent, kept(scene)) == (["lost"], 0, "new")


async def test_where_even_giving_up_fails_the_worker_lives_and_tries_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)
    write, failures = scene.store.write, [StoreError("disk full")] * 3

    def fails(event: Event, *records: Any, **told: Any) -> int:
        if event is Event.ATTEMPT_ENDED and failures:
            raise failures.pop()
        return write(event, *records, **told)

    monkeypatch.setattr(scene.store, "write", fails)
    scene.hang("u", run=command(scene))

    await work_once(scene)

    assert failures == []
    assert isinstance(scene.store.get(Unit, "u"), Unit)
    assert [attempt.end is not None for attempt in scene.store.select(Attempt, unit="u")] == [True]


# ── the store is locked by another program ──


def hang(scene: Scene, run: str) -> None:
    """The unit, hung by the pool: its attempt has a nonce."""
    scene.hang("u", run=run)
    hung = scene.store.get(Attempt, "u", 1)
    assert hung is not None
    scene.store.write(Event.ATTEMPT_NOTED, replace(hung, nonce="it.1"), now=at(), unit="u")


async def breaks_once(scene: Scene) -> None:
    """One run that breaks."""
    with pytest.raises(StoreError, match="locked"):
        await worker(scene)._run(scene.hook())  # type: ignore[attr-defined]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)


async def test_an_attempt_that_ends_while_the_store_is_locked_is_submitted_afterwards(
    scene: Scene, patient: None
) -> None:
    go = scene.folder / "go"
    hang(scene, command(scene, f"until [ -e {go} ]; do sleep 0.01; done"))
    running = worker(scene)
    async with anyio.create_task_group() as group:
        group.start_soon(running.run)
        await until(lambda: scene.hook().phase == "working")
        with locked(scene.store):
            go.touch()
            await until(lambda: "worker w1" in scene.state.broken)
            hook = scene.hook()
            assert (hook.unit, scene.state_of("u"), scene.reasons("u")) == (
                "u",
                "running",
                ["None"],
            )
        await until(lambda: not scene.hook().unit)
        group.cancel_scope.cancel()

    assert (scene.state_of("u"), scene.reasons("u"), scene.unit("u").spent) == (
        "queued",
        ["submitted"],
        0,
    )
    assert (kept(scene), scene.count("ran")) == ("new", 1)
    refs = git(
        scene.state.places.git, "for-each-ref", "--format=%(refname)", "refs/factory/attempts"
    )
    assert refs == "refs/factory/attempts/u/1"
    assert list(scene.state.places.work.glob("workspaces/*.abandoned-*")) == []


async def test_an_agent_that_runs_while_the_store_is_locked_runs_on(
    scene: Scene, patient: None
) -> None:
    go = scene.folder / "go"
    hang(scene, command(scene, f"until [ -e {go} ]; do sleep 0.01; done"))
    one = worker(scene)
    async with anyio.create_task_group() as group:
        group.start_soon(one.run)
        await until(lambda: scene.hook().phase == "working" and scene.count("ran"))
        group.cancel_scope.cancel()

    with locked(scene.store):
        await breaks_once(scene)  # it takes the agent over, and cannot write that down
    go.touch()
    await work_once(scene)

    assert (scene.reasons("u"), scene.count("ran"), kept(scene)) == (["submitted"], 1, "new")


async def test_a_store_that_is_locked_when_an_agent_is_just_started_costs_nothing(
    scene: Scene, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, locks = process.start, ExitStack()

    async def then_locked(told: Command) -> process.Child:
        child = await start(told)
        if "attempts" in told.run_dir.parts:  # and no gate, which may start just now
            locks.enter_context(locked(scene.store))
        return child

    monkeypatch.setattr("factory.child.process.start", then_locked)
    hang(scene, command(scene))
    await breaks_once(scene)
    await until(lambda: scene.count("ran"))
    locks.close()
    monkeypatch.setattr("factory.child.process.start", start)

    await work_once(scene)

    assert (scene.reasons("u"), scene.count("ran"), kept(scene)) == (["submitted"], 1, "new")


async def test_given_up_and_not_written_down_its_tree_is_taken_from_where_it_was_put(
    scene: Scene, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = ExitStack()

    def breaks(_: object, run_dir: Path, **__: object) -> None:
        while not process._read(run_dir / "exit.json"):
            time.sleep(0.01)  # its command comes to its end
        raise RuntimeError("what it said cannot be read")

    rescued = Worker._rescued

    async def then_locked(self: Worker, *told: Any) -> Attempt:
        done = await rescued(self, *told)
        locks.enter_context(locked(scene.store))
        return done

    monkeypatch.setattr("factory.attempt.worker.OutputReader", breaks)
    monkeypatch.setattr(Worker, "_rescued", then_locked)
    hang(scene, command(scene))
    await breaks_once(scene)
    locks.close()
    (aside,) = scene.state.places.work.glob("workspaces/*.abandoned-*")
    assert ((aside / "tree/new.txt").exists(), kept(scene)) == (True, "new")

    monkeypatch.setattr("factory.attempt.worker.OutputReader", OutputReader)
    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), kept(scene)) == (
        "queued",
        ["submitted"],
        "new",
    )


async def test_a_workspace_that_vanished_after_its_tree_was_kept_has_not_done_nothing(
    scene: Scene, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, locks = Worker._settle, ExitStack()

    def locked_first(self: Worker, *told: Any, **more: Any) -> None:
        if not (scene.folder / "locked").exists():
            (scene.folder / "locked").touch()
            locks.enter_context(locked(scene.store))
        settle(self, *told, **more)

    monkeypatch.setattr(Worker, "_settle", locked_first)
    hang(scene, command(scene))
    await breaks_once(scene)
    locks.close()
    shutil.rmtree(scene.state.places.work / "workspaces/w1")

    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), kept(scene)) == (
        "queued",
        ["submitted"],
        "new",
    )


async def test_a_git_that_is_ended_because_the_daemon_goes_gives_nothing_up(
    scene: Scene, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = scene.floor.workspaces.snapshot

    async def ended(*_: Any, **__: Any) -> None:
        scene.state.stopping = Stopping.HAND_BACK
        raise TooLong(("add", "-A"), -15, "it took too long")

    monkeypatch.setattr(scene.floor.workspaces, "snapshot", ended)
    hang(scene, command(scene))
    with pytest.raises(TooLong):
        await worker(scene)._run(scene.hook())  # type: ignore[attr-defined]
    assert scene.hook().unit == "u"
    scene.state.stopping = Stopping.NO
    monkeypatch.setattr(scene.floor.workspaces, "snapshot", snapshot)

    await work_once(scene)

    assert (scene.reasons("u"), kept(scene)) == (["submitted"], "new")
