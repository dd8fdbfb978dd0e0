"""Watching: a hint that something changed, and no hint when somebody only looked."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from factory.ground.signal import Signal
from factory.ground.watch import Watch


class Woken:
    """A signal that counts."""

    def __init__(self) -> None:
        self.signal, self.count = Signal(), 0

    def __call__(self) -> None:
        self.count += 1
        self.signal.send()

    async def next(self) -> bool:
        return await self.signal.wait(5)


class Names:
    """Wants some names, and remembers all that it was asked about."""

    def __init__(self, *wanted: str) -> None:
        self.wanted, self.seen = wanted, list[str]()

    def __call__(self, name: str) -> bool:
        self.seen.append(name)
        return name in self.wanted


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
async def watch(woken: Woken) -> AsyncIterator[Watch]:
    watch = Watch(woken)
    watch.start()
    yield watch
    watch.stop()


async def test_a_file_that_is_written_wakes(tmp_path: Path, watch: Watch, woken: Woken) -> None:
    trouble = watch.folder(tmp_path, lambda name: name.endswith(".md"))

    (tmp_path / "a.md").write_text("x")

    assert (trouble, await woken.next()) == ("", True)


async def test_a_file_that_is_renamed_into_place_wakes(
    tmp_path: Path, watch: Watch, woken: Woken
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "a.md").write_text("x")
    watch.folder(inbox, lambda name: True)

    (tmp_path / "a.md").rename(inbox / "a.md")

    assert await woken.next()


async def test_a_rename_out_of_the_folder_holds_nothing_back(tmp_path: Path, watch: Watch) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.md").write_text("x")
    names = Names()
    watch.folder(inbox, names)

    (inbox / "a.md").rename(tmp_path / "a.md")
    (inbox / "b.md").touch()
    with anyio.fail_after(0.4):
        while "b.md" not in names.seen:
            await anyio.lowlevel.checkpoint()

    assert names.seen[0] == "a.md"


async def test_a_file_that_goes_away_wakes(tmp_path: Path, watch: Watch, woken: Woken) -> None:
    (tmp_path / ".a.md.swp").touch()
    watch.folder(tmp_path, lambda name: True)

    (tmp_path / ".a.md.swp").unlink()

    assert await woken.next()


async def test_reading_and_unwanted_names_do_not_wake(
    tmp_path: Path, watch: Watch, woken: Woken
) -> None:
    (tmp_path / "a.md").write_text("x")
    names = Names("last")
    watch.folder(tmp_path, names)

    (tmp_path / "a.md").read_text()
    (tmp_path / "other").write_text("x")
    list(tmp_path.iterdir())
    (tmp_path / "last").touch()  # events come in order: when this one is seen, all others were

    assert await woken.next()
    assert set(names.seen) == {"other", "last"}


async def test_many_changes_while_the_loop_is_busy_wake_once(
    tmp_path: Path, watch: Watch, woken: Woken
) -> None:
    names = Names(*(f"{number}.md" for number in range(100)))
    watch.folder(tmp_path, names)

    for number in range(100):
        (tmp_path / f"{number}.md").write_text("x")
    while (
        "99.md" not in names.seen
    ):  # the loop is kept busy until the watching thread has seen them
        pass

    assert await woken.next()
    assert woken.count <= 3


async def test_a_folder_that_is_not_there_is_said_and_not_raised(
    tmp_path: Path, watch: Watch
) -> None:
    trouble = watch.folder(tmp_path / "gone", lambda name: True)

    assert trouble.endswith("it looks there every 30 s")


async def test_a_watch_that_never_started_can_be_stopped(woken: Woken) -> None:
    Watch(woken).stop()

    assert woken.count == 0
