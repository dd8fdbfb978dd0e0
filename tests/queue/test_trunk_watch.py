"""Which commits on trunk land a unit: those of its own attempts, and no others."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from factory.queue.trunk_watch import made_by
from factory.repo.message import Landing
from factory.store import names
from factory.store.identity import here, record
from factory.store.journal import Event
from factory.store.records import Attempt
from factory.store.unit import Unit
from tests.floor import Scene, at, scene_in
from tests.git_repo import git

MINE = "aaaaaaaa"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        where = made.state.places
        record(made.store, here(where.root, where.common_dir, where.work, identity=MINE), now=at())
        yield made


def commit(
    scene: Scene, unit: str, run: str, *, number: int = 1, author: str = "agent@factoryd.invalid"
) -> str:
    trailers = f"Factory-Unit: {unit}\nFactory-Attempt: {number}\n" + (
        f"Factory-Run: {run}\n" if run else ""
    )
    said = f"Do it\n\n{trailers}"
    git(scene.root, "commit", "-q", "--allow-empty", f"--author=a <{author}>", "-m", said)
    return git(scene.root, "rev-parse", "HEAD")


async def open_unit(scene: Scene, name: str, *, nonce: str = "") -> Unit:
    unit = await scene.submit(name, {f"{name}.txt": "fine\n"})
    attempt = scene.store.get(Attempt, name, 1)
    assert attempt is not None
    scene.store.write(Event.ATTEMPT_NOTED, replace(attempt, nonce=nonce), now=at(), unit=name)
    return unit


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_commit_with_an_attempts_nonce_lands_its_unit_whatever_the_record_says(
    scene: Scene, cancelled: bool
) -> None:
    await open_unit(scene, "fix", nonce=f"{MINE}-1")
    if cancelled:
        scene.change("fix", state="cancelled")
    made = commit(scene, "fix", f"{MINE}-1")

    found = await scene.queue.watch.recognize(at())

    assert (found, scene.state_of("fix"), scene.unit("fix").commit) == (["fix"], "landed", made)
    assert await scene.queue.watch.recognize(at()) == [], "once"


async def test_a_commit_of_an_attempt_whose_record_was_lost_lands_its_unit(scene: Scene) -> None:
    await open_unit(scene, "fix", nonce=f"{MINE}-1")
    commit(scene, "fix", f"{MINE}-2", number=2)

    assert await scene.queue.watch.recognize(at()) == ["fix"]


@pytest.mark.parametrize(
    ("run", "author"),
    [
        ("bbbbbbbb-1", "agent@factoryd.invalid"),
        ("", "agent@factoryd.invalid"),
        (f"{MINE}-1", "ada@example.invalid"),
    ],
    ids=["a colleague's factory", "an older release", "a person's commit"],
)
async def test_any_other_commit_with_the_units_name_does_not_land_it(
    scene: Scene, run: str, author: str
) -> None:
    await open_unit(scene, "fix", nonce=f"{MINE}-1")
    commit(scene, "fix", run, author=author)

    assert await scene.queue.watch.recognize(at()) == []
    assert scene.state_of("fix") == "queued"


@pytest.mark.parametrize(("seconds", "lands"), [(60, False), (-60, True)])
async def test_without_nonces_on_either_side_number_and_time_decide(
    scene: Scene, seconds: int, lands: bool
) -> None:
    unit = await open_unit(scene, "fix")
    attempt = scene.store.get(Attempt, "fix", 1)
    assert attempt is not None
    landing = Landing(
        commit="c", at=unit.accepted.timestamp() - seconds, subject="", unit="fix", attempt=1
    )
    assert made_by(scene.store, unit, landing) is lands
    assert not made_by(scene.store, unit, replace(landing, attempt=2))


async def test_ids_of_commits_that_are_nobodys_here_are_taken(scene: Scene) -> None:
    commit(scene, "theirs", "bbbbbbbb-1")

    await scene.queue.watch.recognize(at())

    assert names.was_here(scene.store, "theirs")


async def test_trunk_is_read_from_where_it_was_read_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        commit(scene, f"theirs-{number}", "bbbbbbbb-1")
    await scene.queue.watch.recognize(at())
    commit(scene, "later", "bbbbbbbb-1")
    asked: list[str] = []
    real = scene.floor.trunk.landings

    async def landings(*, since: str = "", history: bool = True) -> list[Landing]:
        found = await real(since=since, history=history)
        asked.extend(landing.unit for landing in found)
        return found

    monkeypatch.setattr(scene.floor.trunk, "landings", landings)
    await scene.queue.watch.recognize(at())

    assert asked == ["later"]


async def test_at_a_start_a_landing_counts_that_was_taken_back_above_the_tip_that_was_read(
    scene: Scene,
) -> None:
    await open_unit(scene, "fix", nonce=f"{MINE}-1")
    await scene.queue.watch.recognize(at())
    commit(scene, "fix", f"{MINE}-1")
    git(scene.root, "reset", "-q", "--hard", "HEAD~1")

    later = await scene.queue.watch.recognize(at())
    at_start = await scene.queue.watch.recognize(at(), at_start=True)

    assert (later, at_start, scene.state_of("fix")) == ([], ["fix"], "landed")


async def test_after_a_rewrite_each_landed_unit_has_the_commit_with_its_nonce(scene: Scene) -> None:
    for name in ("kept", "gone"):
        await open_unit(scene, name, nonce=f"{MINE}-{name}")
        commit(scene, name, f"{MINE}-{name}")
    await scene.queue.watch.recognize(at())
    begin = git(scene.root, "rev-list", "--max-parents=0", "main")
    git(scene.root, "reset", "-q", "--hard", begin)
    again = commit(scene, "kept", f"{MINE}-kept", number=1)
    commit(scene, "gone", "bbbbbbbb-1")

    missing = await scene.queue.watch.follow(at())

    assert missing == ["gone"]
    assert scene.unit("kept").commit == again


@pytest.mark.parametrize(
    "config",
    [
        ("log.showSignature", "true"),
        ("log.mailmap", "true"),
        ("grep.patternType", "perl"),
        ("i18n.logOutputEncoding", "UTF-16"),
        ("format.pretty", "oneline"),
        ("log.follow", "true"),
        ("color.ui", "always"),
    ],
    ids=lambda pair: pair[0],
)
async def test_whatever_the_user_configured_trunk_is_read_the_same(
    scene: Scene, config: tuple[str, str]
) -> None:
    git(scene.root, "config", *config)
    (scene.root / ".mailmap").write_text("Ada <ada@example.invalid> <agent@factoryd.invalid>\n")
    git(scene.root, "add", ".mailmap")
    made = commit(scene, "theirs", "bbbbbbbb-1")

    (landing,) = await scene.floor.trunk.landings()

    assert (landing.commit, landing.unit, landing.run) == (made, "theirs", "bbbbbbbb-1")
