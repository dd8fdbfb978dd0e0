"""The start-up reconcile: for each place where a daemon can die, the world and the records agree again afterwards."""

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from factory.repair.rescue import Rescue
from factory.repo.landing_plan import LandingPlan
from factory.store.journal import Event
from factory.store.records import Attempt, Hook, Step
from factory.store.unit import EndReason, UnitState
from tests.floor import FILES, Scene, at, scene_in
from tests.git_repo import environment, git, shows_arguments
from tests.journal import entries_of

DEAD = 2**22 + 1  # no process has this pid


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


async def rescue(scene: Scene) -> None:
    """What a start does first."""
    floor = scene.floor
    await Rescue(
        store=floor.store, gates=floor.gates, landings=floor.queue.landings, outcomes=floor.outcomes
    ).run(at())


async def opened(scene: Scene, *, sent: bool = True) -> LandingPlan:
    """A unit whose landing is open on record, its objects sent, and git about to run."""
    unit = await scene.submit("one", {"one.txt": "fine\n", "story.txt": "changed\n"})
    plan = await scene.floor.trunk.plan_landing(unit.submission, now=at())
    assert isinstance(plan, LandingPlan)
    if sent:
        await scene.floor.trunk._send(plan.to, plan.base)
        plan = replace(plan, pid=DEAD)
    data = json.dumps({"plan": plan.data(), "units": [("one", unit.submission)]})
    step = Step(id=f"landing:{plan.to}", kind="landing", data=data, at=at())
    scene.store.write(Event.LANDING_OPENED, step, now=at(), to=plan.to, units=["one"])
    return plan


# ── landings ──


@pytest.mark.parametrize("sent", [False, True], ids=["before anything was sent", "before git ran"])
async def test_died_before_git_moved_trunk_the_landing_is_carried_out(
    scene: Scene, sent: bool
) -> None:
    plan = await opened(scene, sent=sent)

    await rescue(scene)

    assert (scene.state_of("one"), scene.unit("one").commit, scene.head()) == (
        "landed",
        plan.to,
        plan.to,
    )
    assert (git(scene.root, "status", "--porcelain"), scene.store.open(Step)) == ("", [])


async def test_died_after_git_moved_trunk_the_landing_is_written_down(scene: Scene) -> None:
    plan = await opened(scene)
    git(scene.root, "merge", "-q", "--ff-only", plan.to)

    await rescue(scene)

    assert (scene.state_of("one"), scene.reasons("one"), scene.head()) == (
        "landed",
        ["submitted"],
        plan.to,
    )


async def test_landed_and_taken_back_by_a_person_before_the_start_it_stays_landed(
    scene: Scene,
) -> None:
    plan = await opened(scene)
    git(scene.root, "merge", "-q", "--ff-only", plan.to)
    git(scene.root, "reset", "-q", "--hard", plan.base)

    await rescue(scene)
    await scene.settle()

    assert (scene.state_of("one"), scene.head()) == ("landed", plan.base)


async def test_died_with_trunk_moved_on_by_a_person_the_unit_lands_in_its_turn(
    scene: Scene,
) -> None:
    await opened(scene)
    scene.commit({"theirs.txt": "x\n"})

    await rescue(scene)
    assert (scene.state_of("one"), scene.store.open(Step)) == ("queued", [])
    await scene.settle()

    assert (scene.state_of("one"), scene.log()) == ("landed", ["one", "change", "start"])


async def test_commits_that_a_person_took_back_before_the_start_are_not_brought_back(
    scene: Scene,
) -> None:
    start = scene.head()
    scene.commit({"regretted.txt": "x\n"})
    await opened(scene)
    git(scene.root, "reset", "-q", "--hard", start)

    await rescue(scene)
    assert scene.head() == start
    await scene.settle()

    assert scene.log() == ["one", "start"]


async def test_a_git_that_outlived_the_daemon_is_waited_for_and_the_unit_is_not_blamed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.1)
    plan = await opened(scene)
    idle = ["git", "hash-object", "--stdin", plan.to]  # names the commit, as our merge does
    with subprocess.Popen(idle, cwd=scene.root, env=environment(), stdin=subprocess.PIPE) as ours:  # noqa: ASYNC220
        shows_arguments(ours)
        await rescue(scene)
        assert not await scene.queue.tick(scene.group, at())
        assert (scene.state_of("one"), len(scene.store.open(Step))) == ("queued", 1)
        git(scene.root, "merge", "-q", "--ff-only", plan.to)
        ours.kill()

    await scene.settle()

    assert (scene.state_of("one"), scene.reasons("one"), scene.store.open(Step)) == (
        "landed",
        ["submitted"],
        [],
    )


async def test_a_persons_uncommitted_work_in_the_way_is_left_alone_and_the_step_is_closed(
    scene: Scene,
) -> None:
    plan = await opened(scene)
    (scene.root / "story.txt").write_text("mine\n")

    await rescue(scene)

    assert (scene.state_of("one"), scene.head(), scene.store.open(Step)) == (
        "queued",
        plan.base,
        [],
    )
    assert (scene.root / "story.txt").read_text() == "mine\n"


# ── units and gates ──


async def test_a_unit_that_runs_on_no_hook_goes_on_uncounted(scene: Scene) -> None:
    hook = scene.hang("lost")
    empty = replace(hook, unit="", attempt=0, state="idle")
    scene.store.write(Event.WORKER_JOINED, empty, now=at())

    await rescue(scene)

    assert (scene.state_of("lost"), scene.unit("lost").spent, scene.reasons("lost")) == (
        "waiting",
        0,
        ["lost"],
    )
    assert scene.store.open(Attempt) == []


async def test_an_older_attempt_that_was_never_closed_is_closed_and_its_unit_left_alone(
    scene: Scene,
) -> None:
    await scene.submit("one", {"one.txt": "fine\n"})
    old = Attempt(unit="one", number=0, worker="w9", agent="scripted", start=at())
    scene.store.write(Event.HOOK_FILLED, old, now=at(), unit="one")

    await rescue(scene)

    assert scene.store.open(Attempt) == []
    assert scene.unit("one").state is UnitState.QUEUED


async def test_a_full_hook_is_left_to_its_worker(scene: Scene) -> None:
    hook = scene.hang("held")

    await rescue(scene)

    assert (scene.state_of("held"), scene.hook(), len(scene.store.open(Attempt))) == (
        "running",
        hook,
        1,
    )
    assert scene.store.select(Hook) == [hook]
    assert EndReason.LOST not in scene.reasons("held")


async def test_what_the_factory_repository_has_lost_is_begun_anew_uncounted(scene: Scene) -> None:
    unit = await scene.submit("one", {"one.txt": "fine\n"})
    await scene.submit("held", {"two.txt": "fine\n"})
    scene.change("held", state=UnitState.HELD)
    for name in ("one", "held"):
        attempt = scene.store.get(Attempt, name, 1)
        assert attempt is not None
        scene.store.write(
            Event.ATTEMPT_NOTED, replace(attempt, commit="1" * 40, tree="2" * 40), now=at()
        )
    for name in ("one", "held"):
        scene.change(name, submission="1" * 40)

    await rescue(scene)

    kept = [
        (each.unit, each.reason, each.commit, each.tree) for each in scene.store.select(Attempt)
    ]
    assert kept == [("held", "submitted", "", ""), ("one", "lost", "", "")]
    assert (scene.state_of("one"), scene.unit("one").spent, scene.unit("one").attempt) == (
        "waiting",
        0,
        unit.attempt,
    )
    assert (scene.state_of("held"), scene.unit("held").submission) == ("held", "")


async def test_a_second_start_finds_nothing_to_do(tmp_path: Path) -> None:
    async with scene_in(tmp_path, FILES) as scene:
        await opened(scene)
        await rescue(scene)
        before = len(list(entries_of(scene.store)))

        await rescue(scene)

        assert len(list(entries_of(scene.store))) == before
