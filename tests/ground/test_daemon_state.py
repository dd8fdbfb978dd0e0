"""What a pass that breaks leaves: a warning, until it works again."""

from pathlib import Path

import pytest

from factory.ground import live as module
from factory.ground.live import Live
from factory.ground.places import Places
from factory.ground.settings import Settings


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr(module, "BROKEN_SECONDS", 0.0)
    return Live(settings=Settings(), places=Places(root=tmp_path, common_dir=tmp_path, work=tmp_path), environ={})


async def breaks() -> int:
    raise RuntimeError("no room\nand more")


async def works() -> int:
    return 3


async def test_a_pass_that_breaks_is_said_until_it_works_again(live: Live) -> None:
    assert await live.guarded("queue", breaks) is None
    assert live.broken == {"queue": "queue breaks and is tried again: no room (traceback in .factory/daemon.log)"}

    assert await live.guarded("queue", works) == 3
    assert live.broken == {}


async def test_what_breaks_in_one_loop_is_none_of_another_ones(live: Live) -> None:
    await live.guarded("queue", breaks)
    await live.guarded("pool", works)

    assert set(live.broken) == {"queue"}
