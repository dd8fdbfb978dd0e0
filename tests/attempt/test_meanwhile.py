"""An agent whose earlier work conflicts with trunk reads what the units wanted that landed meanwhile."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from factory.attempt.intents import intents
from factory.store.journal import Event
from factory.store.records import Attempt, Clash
from factory.store.unit import EndReason, UnitState, advance
from tests.floor import FILES, Scene, at, scene_in
from tests.on_record import OnRecord

AGENT = (
    'command = ["sh", "-c", "cat > /dev/null; echo grey and blue > story.txt"]\nstdin = "prompt"\n'
)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path, FILES | {"conventions/runtimes/plain.toml": AGENT}) as made:
        await made.settle()
        yield made


async def tried_again(scene: Scene, reason: EndReason) -> str:
    """The next prompt of `u`, whose work conflicts with `other`; its first attempt ended so."""
    base = scene.head()
    await scene.submit("other", {"story.txt": "grey\n"})
    await scene.settle()
    await scene.submit("u", {"story.txt": "blue\n"}, base=base)
    await scene.settle()
    first = scene.store.get(Attempt, "u", 1)
    assert first is not None
    assert first.reason is EndReason.CONFLICT
    first = replace(first, tree="t", reason=reason, digest="")
    unit = advance(replace(scene.unit("u"), attempt=2), UnitState.RUNNING, now=at())
    second = Attempt(unit="u", number=2, worker="w1", agent="plain", start=at())
    hook = replace(scene.hang("w"), unit="u", attempt=2)
    scene.store.write(Event.HOOK_FILLED, first, unit, second, hook, now=at(), unit="u", attempt=2)

    async with anyio.create_task_group() as group:
        group.start_soon(scene.floor.pool._crew._make_worker("w1").run)
        with anyio.fail_after(15):
            while scene.hook().unit:  # noqa: ASYNC110 - the agent is another process
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    return (scene.state.places.run_dir("u", 2) / "prompt.md").read_text()


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (EndReason.CONFLICT, "changed the same places"),
        (EndReason.GATE_RED, "does not fit onto it any more"),
    ],
)
async def test_the_prompt_has_the_task_of_the_unit_that_landed_the_other_lines(
    scene: Scene, reason: EndReason, says: str
) -> None:
    told = await tried_again(scene, reason)

    commit = scene.unit("other").commit
    assert says in told
    assert f"- `other` (landed {commit[:7]}): other\n    do it\n" in told
    assert "What this unit (u) is for: u\nThe result must do both." in told


def test_a_long_task_is_cut_and_shows_that_it_goes_on(tmp_path: Path) -> None:
    line = OnRecord(tmp_path)
    line.unit("other", text="é" * 5000)
    unit = line.unit("u")

    told = intents(line.store, unit, [Clash(unit="other", commit="a" * 40, title="Other")], most=9)

    assert told[3] == "    éééé…"
