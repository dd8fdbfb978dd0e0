"""What a pass that breaks leaves: a warning, until it works again."""

from pathlib import Path

import pytest

from factory.ground import daemon_state as module
from factory.ground.daemon_state import DaemonState
from factory.ground.places import Places
from factory.ground.settings import Settings


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DaemonState:
    monkeypatch.setattr(module, "BROKEN_SECONDS", 0.0)
    return DaemonState(
        settings=Settings(),
        places=Places(root=tmp_path, common_dir=tmp_path, work=tmp_path),
        environ={},
    )


async def breaks() -> int:
    raise RuntimeError("no room\nand more")


async def works() -> int:
    return 3


async def test_a_pass_that_breaks_is_said_until_it_works_again(state: DaemonState) -> None:
    assert await state.guarded("queue", breaks) is None
    assert state.broken == {
        "queue": "The merge queue failed and is tried again: no room (traceback in .factory/daemon.log)"
    }

    await state.requests.wait(0)
    assert await state.guarded("queue", works) == 3
    assert state.broken == {}
    assert await state.requests.wait(0), "status drops the warning at once"


async def test_a_pass_that_always_worked_wakes_nobody(state: DaemonState) -> None:
    await state.guarded("queue", works)
    state.mended("landing")

    assert not await state.requests.wait(0)


async def test_what_breaks_in_one_loop_is_none_of_another_ones(state: DaemonState) -> None:
    await state.guarded("queue", breaks)
    await state.guarded("pool", works)

    assert set(state.broken) == {"queue"}
