"""Who gets a bench: judgings first; whoever gives way gets what they leave, and its turn in the end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.abc import TaskGroup

from factory.repo.benches import Benches, Yielding
from factory.repo.underway import UNDERWAY, Fit


@dataclass
class User:
    """Takes a bench and keeps it until it may go."""

    name: str
    yielding: Yielding | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    go: anyio.Event = field(default_factory=anyio.Event)


class Rush:
    """Users of a pool of benches without trees; `has` says who has a bench, in the order of taking."""

    def __init__(self, folder: Path, group: TaskGroup) -> None:
        self.folder, self.group = folder, group
        self.has: list[str] = []
        self.resize(1)

    def resize(self, size: int) -> None:
        """A pool of that size."""
        self.pool = Benches(
            own=cast("Any", _NoGit()),
            folder=self.folder / "benches",
            index_dir=self.folder / "index",
            trunk_branch="main",
            size=size,
        )

    async def judging(self, name: str) -> User:
        """A judging that wants a bench."""
        return await self._begin(User(name))

    async def yields(self, name: str, *, patience: float = 600, fit: Fit = Fit.OTHER) -> User:
        """A user that gives way for so many seconds."""
        user = User(name)
        until = anyio.current_time() + patience
        user.yielding = Yielding(give_way=user.scope.cancel, until=until)
        return await self._begin(user, fit)

    async def ends(self, user: User) -> None:
        """The user is done."""
        user.go.set()
        await anyio.wait_all_tasks_blocked()

    async def _begin(self, user: User, fit: Fit = Fit.OTHER) -> User:
        self.group.start_soon(self._use, user, fit)
        await anyio.wait_all_tasks_blocked()
        return user

    async def _use(self, user: User, fit: Fit) -> None:
        with user.scope:
            async with self.pool.take(lambda bench: fit, user.yielding):
                self.has.append(user.name)
                try:
                    await user.go.wait()
                finally:
                    self.has.remove(user.name)


class _NoGit:
    def __getattr__(self, name: str) -> tuple[()]:
        return ()


@pytest.fixture
async def rush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rush]:
    monkeypatch.setattr("factory.repo.checkouts.replace", lambda git, **changes: git)
    async with anyio.create_task_group() as group:
        yield Rush(tmp_path, group)
        group.cancel_scope.cancel()


async def test_whoever_gives_way_takes_no_bench_while_a_judging_waits(rush: Rush) -> None:
    first = await rush.judging("first")
    await rush.yields("proof")
    second = await rush.judging("second")

    await rush.ends(first)
    has = [*rush.has]
    await rush.ends(second)

    assert (has, rush.has) == (["second"], ["proof"])


async def test_the_only_bench_goes_to_a_judging_at_once(rush: Rush) -> None:
    await rush.yields("proof")

    await rush.judging("candidate")

    assert rush.has == ["candidate"]


async def test_each_judging_that_waits_gets_the_bench_of_the_newest_that_gives_way(
    rush: Rush,
) -> None:
    rush.resize(3)
    for name in ("one", "two", "three"):
        await rush.yields(name)

    await rush.judging("candidate")
    has = [*rush.has]
    await rush.judging("next")

    assert (has, rush.has) == (["one", "two", "candidate"], ["one", "candidate", "next"])


async def test_all_may_be_used_while_no_judging_wants_one(rush: Rush) -> None:
    rush.resize(2)

    await rush.yields("one")
    await rush.yields("two")

    assert rush.has == ["one", "two"]


async def test_a_user_that_lost_its_patience_keeps_the_only_bench(rush: Rush) -> None:
    proof = await rush.yields("proof", patience=0)

    await rush.judging("candidate")
    kept = [*rush.has]
    await rush.ends(proof)

    assert (kept, rush.has) == (["proof"], ["candidate"])


async def test_even_without_patience_they_never_hold_all_of_several_benches(rush: Rush) -> None:
    rush.resize(2)
    await rush.yields("one", patience=0)
    await rush.yields("two", patience=0)

    await rush.judging("candidate")

    assert rush.has == ["one", "candidate"]


async def test_when_its_patience_ends_it_takes_its_turn_like_a_judging(rush: Rush) -> None:
    first = await rush.judging("first")
    await rush.yields("proof", patience=0.02)
    await anyio.sleep(0.04)
    await rush.judging("second")
    await rush.yields("late")

    await rush.ends(first)

    assert rush.has == ["proof"]


async def test_if_a_judging_no_longer_waits_the_bench_is_for_the_others(rush: Rush) -> None:
    first = await rush.judging("first")
    second = await rush.judging("second")
    await rush.yields("proof")

    second.scope.cancel()
    await rush.ends(first)

    assert rush.has == ["proof"]


async def test_work_of_an_earlier_daemon_that_a_judging_waits_for_is_adopted_only_to_be_ended(
    rush: Rush,
) -> None:
    noted = rush.pool.place("b1") / UNDERWAY
    noted.parent.mkdir(parents=True)
    noted.touch()
    await rush.judging("candidate")
    waited = [*rush.has]

    proof = await rush.yields("proof", fit=Fit.SAME)
    noted.unlink()  # as the end of the work does
    rush.pool.look_again()
    await anyio.wait_all_tasks_blocked()

    assert (waited, proof.scope.cancelled_caught, rush.has) == ([], True, ["candidate"])
