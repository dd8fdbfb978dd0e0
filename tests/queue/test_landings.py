"""A landing that git refuses: one card says what git said and what mends it, and the rest of the line goes on."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from factory.ground.errors import GitError
from factory.repo.landing_plan import Outcome
from factory.repo.trunk import Trunk
from factory.store.journal import Event
from factory.store.records import Card, CardKind, Step
from tests.floor import Scene, at, scene_in, time_passes
from tests.git_repo import git
from tests.journal import entries_of
from tests.repair.test_rescue import opened, rescue


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


def fan_out(objects: Path) -> list[Path]:
    """The folders of loose objects that are not there yet."""
    return [
        path for path in (objects / f"{number:02x}" for number in range(256)) if not path.exists()
    ]


@contextmanager
def unwritable(scene: Scene) -> Iterator[None]:
    """No object can be added to the user's repository, root or not: a file lies where each new folder would."""
    taken = fan_out(scene.root / ".git/objects")
    for path in taken:
        path.touch()
    yield
    for path in taken:
        path.unlink()


@contextmanager
def forbidden(scene: Scene) -> Iterator[None]:
    """The same by permissions."""
    folders = [scene.root / ".git/objects", *(scene.root / ".git/objects").iterdir()]
    for path in folders:
        path.chmod(0o500)
    yield
    for path in folders:
        path.chmod(0o700)


def card(scene: Scene) -> Card:
    (found,) = scene.store.open(Card)
    return found


AS_ROOT = os.geteuid() == 0


@pytest.mark.parametrize(
    ("broken", "mend"),
    [
        pytest.param(unwritable, "mv ", id="a file in the way"),
        pytest.param(
            forbidden,
            "chmod -R u+rwX ",
            id="permissions",
            marks=pytest.mark.skipif(AS_ROOT, reason="root may all"),
        ),
    ],
)
async def test_a_landing_that_git_refuses_is_a_card_that_says_what_mends_it_and_it_lands_then(
    scene: Scene, broken: object, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.submit("one", {"one.txt": "fine\n"})
    before = scene.head()
    assert callable(broken)

    with broken(scene):
        await scene.settle()

        asked = card(scene)
        assert (asked.kind, asked.unit, scene.state_of("one")) == (
            CardKind.LANDING_BLOCKED,
            "one",
            "queued",
        )
        assert asked.question.startswith("one is green, but git refused to land it: ")
        assert f"To fix it: {mend}" in asked.evidence
        assert "unpack-objects" in asked.evidence
        assert "git unpack-objects" in scene.unit("one").why
        assert (scene.head(), scene.store.open(Step)) == (before, [])

    time_passes(monkeypatch, 3)
    await scene.settle()
    assert (scene.state_of("one"), scene.cards()) == ("landed", [])


async def test_what_mends_it_is_noticed_without_waiting_for_the_next_try(scene: Scene) -> None:
    await scene.submit("one", {"one.txt": "fine\n"})
    with unwritable(scene):
        await scene.settle()
        seen = scene.queue.lander.in_the_way.look()

    assert scene.queue.lander.in_the_way.look() != seen
    scene.queue._noticed(seen)
    await scene.settle()

    assert (scene.state_of("one"), scene.cards()) == ("landed", [])


async def test_units_behind_one_whose_landing_git_refuses_land(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends, refused = Trunk._send, list[str]()

    async def some(self: Trunk, commit: str, have: str) -> None:
        if "first.txt" in git(scene.state.places.git, "ls-tree", "--name-only", commit):
            refused.append(commit)
            raise GitError(("unpack-objects", "-q"), 128, "fatal: failed to write object")
        await sends(self, commit, have)

    monkeypatch.setattr(Trunk, "_send", some)
    await scene.submit("first", {"first.txt": "fine\n"}, priority=0)
    await scene.submit("second", {"second.txt": "fine\n"})

    await scene.settle()

    assert (scene.state_of("first"), scene.state_of("second")) == ("queued", "landed")
    assert card(scene).unit == "first"


@pytest.mark.parametrize("what", ["plan_landing", "land"])
async def test_whatever_git_refuses_on_the_way_is_said(
    scene: Scene, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object, **__: object) -> Outcome:
        raise GitError(
            ("status",), 128, "fatal: .git/index: index file open failed: Permission denied"
        )

    monkeypatch.setattr(Trunk, what, refuses)
    await scene.submit("one", {"one.txt": "fine\n"})
    await scene.settle()

    assert "index file open failed: Permission denied" in card(scene).question
    assert scene.store.open(Step) == []


# ── once git may have moved trunk ──


async def test_where_what_git_did_cannot_be_found_out_the_step_stays_open_with_a_card_and_is_found_out_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds, asked = Trunk.holds, list[str]()

    async def unreadable(self: Trunk, commit: str) -> bool:
        asked.append(commit)
        raise GitError(("merge-base",), 128, "fatal: bad config line 1 in file .git/config")

    monkeypatch.setattr(Trunk, "holds", unreadable)
    await scene.submit("one", {"one.txt": "fine\n"})
    await scene.submit("two", {"one.txt": "other\n", "two.txt": "BROKEN\n"})
    await scene.settle()

    assert (scene.state_of("one"), scene.state_of("two"), len(scene.store.open(Step))) == (
        "queued",
        "queued",
        1,
    )
    assert card(scene).question.startswith("factoryd cannot find out whether one landed: ")
    assert "bad config line 1" in card(scene).question
    monkeypatch.setattr(Trunk, "holds", holds)
    time_passes(monkeypatch, 5)
    await scene.settle()

    assert (scene.state_of("one"), scene.cards(), scene.store.open(Step)) == ("landed", [], [])
    assert scene.reasons("two") == ["conflict"]


# ── at the start ──


async def test_a_recovery_that_git_refuses_does_not_keep_the_line_from_starting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(scene)
    config = scene.root / ".git/config"
    whole = config.read_text()
    config.write_text("[core\n")

    await rescue(scene)

    assert (scene.state_of("one"), len(scene.store.open(Step))) == ("queued", 1)
    assert card(scene).kind is CardKind.LANDING_BLOCKED
    config.write_text(whole)
    time_passes(monkeypatch, 3)
    await scene.settle()
    assert (scene.state_of("one"), scene.cards(), scene.store.open(Step)) == ("landed", [], [])


async def test_a_landing_that_never_began_and_is_refused_at_the_start_is_asked_about_in_its_turn(
    scene: Scene,
) -> None:
    await opened(scene, sent=False)

    with unwritable(scene):
        await rescue(scene)
        assert (scene.state_of("one"), scene.store.open(Step)) == ("queued", [])
        await scene.settle()
        assert card(scene).unit == "one"


async def test_a_factory_repository_that_cannot_be_asked_does_not_keep_the_line_from_starting(
    scene: Scene,
) -> None:
    await scene.submit("one", {"one.txt": "fine\n"})
    shutil.move(scene.state.places.git / "HEAD", scene.folder / "HEAD")

    await rescue(scene)

    assert scene.state_of("one") == "queued"
    assert not [entry for entry in entries_of(scene.store) if entry.event is Event.ATTEMPT_NOTED]


# ── trunk itself ──


async def test_a_trunk_that_cannot_be_read_is_a_card_at_the_third_time_and_closes_when_it_can(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(self: Trunk) -> str:
        raise GitError(("fetch",), 128, "fatal: unable to read 1234: Permission denied")

    monkeypatch.setattr(Trunk, "refresh", unreadable)
    for _ in range(2):
        assert not await scene.queue.look_at_trunk(scene.group, at())
    assert scene.cards() == []
    assert not await scene.queue.look_at_trunk(scene.group, at())

    assert "Permission denied" in card(scene).question
    monkeypatch.undo()
    assert await scene.queue.look_at_trunk(scene.group, at())
    assert scene.cards() == []


async def test_what_has_to_be_known_of_trunk_first_is_tried_again_and_nothing_is_looked_at_before(
    scene: Scene,
) -> None:
    failures = [GitError(("log",), 128, "fatal: bad object")]

    async def catch_up(_: datetime) -> None:
        if failures:
            raise failures.pop()

    scene.queue.before_trunk = catch_up
    assert not await scene.queue.look_at_trunk(scene.group, at())
    assert scene.judge.rulings.tip == ""

    assert await scene.queue.look_at_trunk(scene.group, at())
    assert scene.judge.rulings.tip == scene.head()
    assert failures == []
