"""The simulated trunk gives the same outcomes as the one that git moves: sentences that hold for both."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Protocol, cast

import pytest

from factory.repo.git import Person
from factory.repo.landing_plan import Blocked, LandingPlan
from factory.repo.trunk import Trunk
from tests.git_repo import commit, git, make_repo, write
from tests.repo.test_trunk import begin
from tests.simulation.clock import START, Clock
from tests.simulation.world import Branch, Hand, Life, World

FILES = {"a.txt": "a\n", "b.txt": "b\n"}


class Ground(Protocol):
    """What a person and an agent do, and the trunk that is asked."""

    trunk: Trunk

    async def work(self, files: Mapping[str, str]) -> str: ...
    def person(self, files: Mapping[str, str]) -> str: ...
    def take_back(self) -> None: ...
    def edit(self, path: str) -> None: ...
    def hide(self) -> None: ...


class OnDisk:
    """Real git."""

    def __init__(self, world: Any) -> None:
        self.world, self.trunk = world, world.trunk

    async def work(self, files: Mapping[str, str]) -> str:
        return str(await self.world.candidate(dict(files), ()))

    def person(self, files: Mapping[str, str]) -> str:
        return commit(self.world.repo, files)

    def take_back(self) -> None:
        git(self.world.repo, "reset", "-q", "--hard", "HEAD^")

    def edit(self, path: str) -> None:
        write(self.world.repo, {path: "mine\n"})

    def hide(self) -> None:
        git(self.world.repo, "branch", "-m", "main", "elsewhere")


class InMemory:
    """The simulation's."""

    def __init__(self) -> None:
        self.world = World(Clock(), Random(1), calm=True)
        self.world.reflog = [self.world.commit("", FILES).id]
        self.trunk = cast("Trunk", Branch(Hand(self.world, Life())))

    async def work(self, files: Mapping[str, str]) -> str:
        below = self.world.commits[self.world.tip]
        return self.world.commit(below.id, {**below.files, **files}).id

    def person(self, files: Mapping[str, str]) -> str:
        below = self.world.commits[self.world.tip]
        self.world.reflog.append(
            self.world.commit(below.id, {**below.files, **files}, said="person").id
        )
        return self.world.tip

    def take_back(self) -> None:
        self.world.reflog.append(self.world.commits[self.world.tip].parent)

    def edit(self, path: str) -> None:
        self.world.dirty.add(path)

    def hide(self) -> None:
        self.world.gone = True


@pytest.fixture(params=["git", "simulated"])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    return (
        OnDisk(await begin(make_repo(tmp_path / "r", FILES)))
        if request.param == "git"
        else InMemory()
    )


async def rehearsed(ground: Ground, files: Mapping[str, str], base: str, since: str) -> str:
    """What becomes of a change of `since` on `base`."""
    to = await ground.work(files)
    text = "Work\n\nFactory-Unit: u\n"
    found = await ground.trunk.rehearse(
        base=base,
        submission=to,
        submission_base=since,
        text=text,
        author=Person("claude", "c@example.invalid"),
    )
    return type(found).__name__


async def land(ground: Ground, to: str) -> str:
    plan = await ground.trunk.plan_landing(to, now=START)
    outcome = (
        await ground.trunk.land(plan, lambda _: None) if isinstance(plan, LandingPlan) else plan
    )
    return outcome.kind if isinstance(outcome, Blocked) else type(outcome).__name__


async def test_a_change_merges_or_conflicts_or_is_nothing(ground: Ground) -> None:
    start = await ground.trunk.refresh()
    theirs = {"a.txt": "theirs\n"}

    assert await rehearsed(ground, {"c.txt": "new\n"}, start, start) == "Rehearsed"
    assert await rehearsed(ground, {}, start, start) == "Nothing"
    other = await ground.work({"a.txt": "ours\n"})
    assert await rehearsed(ground, theirs, other, start) == "Conflict"
    assert await rehearsed(ground, {"a.txt": "ours\n"}, other, start) == "Nothing"


async def test_it_lands_once(ground: Ground) -> None:
    await ground.trunk.refresh()
    to = await ground.work({"c.txt": "new\n"})

    assert await land(ground, to) == "Landed"
    assert await ground.trunk.tip() == await ground.trunk.refresh() == to
    assert await land(ground, to) == "Landed"


async def test_a_trunk_that_went_on_or_back_or_away_is_not_moved(ground: Ground) -> None:
    await ground.trunk.refresh()
    ground.person({"b.txt": "more\n"})
    await ground.trunk.refresh()
    to = await ground.work({"c.txt": "new\n"})
    plan = await ground.trunk.plan_landing(to, now=START)
    assert isinstance(plan, LandingPlan)

    theirs = ground.person({"d.txt": "theirs\n"})
    assert await land(ground, to) == "Moved"
    assert type(await ground.trunk.land(plan, lambda _: None)).__name__ == "Moved"
    assert await ground.trunk.tip() == theirs
    ground.hide()
    assert (await land(ground, to), await ground.trunk.refresh()) == ("Moved", "")


async def test_uncommitted_work_blocks_what_touches_it_and_nothing_else(ground: Ground) -> None:
    await ground.trunk.refresh()
    ground.edit("a.txt")

    assert await land(ground, await ground.work({"a.txt": "ours\n"})) == "dirty"
    assert await land(ground, await ground.work({"b.txt": "ours\n"})) == "Landed"


async def test_a_landing_that_was_cut_short_is_finished_or_told_or_left(ground: Ground) -> None:
    await ground.trunk.refresh()
    to = await ground.work({"c.txt": "new\n"})
    plan = await ground.trunk.plan_landing(to, now=START)
    assert isinstance(plan, LandingPlan)
    told: list[LandingPlan] = []

    async def recovered(plan: LandingPlan) -> str:
        return type(await ground.trunk.recover(plan, told.append, now=START)).__name__

    assert (await recovered(plan), await ground.trunk.tip(), bool(told)) == ("Landed", to, True)
    ground.take_back()
    assert (await recovered(plan), await ground.trunk.tip()) == ("Landed", plan.base)
    ground.person({"d.txt": "theirs\n"})
    other = await ground.work({"e.txt": "new\n"})
    later = LandingPlan(base=plan.base, to=other, paths=("e.txt",), at=START.timestamp())
    assert await recovered(later) == "Moved"
