"""An agent that is told something while it works: on real workspaces and processes, with a worker and no daemon."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from factory.store.journal import Event
from factory.store.records import Attempt
from factory.store.unit import UnitState, advance
from tests.floor import FILES, Scene, at, scene_in
from tests.git_repo import git

# It reads its prompt, tells its session, and does what the script says; with `--resume` its first argument is that.
SESSIONS = r"""
command = ["sh", "-c", '''cat > /dev/null; echo '{"type":"begin","session":"s1"}'
sh "$DO" "$@" && echo '{"type":"end"}' ''', "sh", "{resume}"]
resume = ["{session}"]
set = { DO = "FOLDER/do" }
[output]
format = "jsonl"
session = "begin:session"
done_if = "end"
"""
PLAIN = 'command = ["sh", "-c", \'cat > /dev/null; sh "$DO"\']\nset = { DO = "FOLDER/do" }\n'
FIRST = "echo one > new.txt; printf 'Do it\\n' > $FACTORY_OUTBOX/done.md; touch FOLDER/ran"
HOLD = "until test -e FOLDER/go; do sleep 0.02; done"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    texts = {"sessions": SESSIONS, "plain": PLAIN}
    files = {
        f"conventions/runtimes/{name}.toml": told(text, tmp_path) for name, text in texts.items()
    }
    async with scene_in(tmp_path, FILES | files) as made:
        await made.trunk_judge.look(await made.floor.trunk.refresh(), made.group)
        yield made


def told(text: str, folder: Path) -> str:
    return text.replace("FOLDER", str(folder))


def script(scene: Scene, **attempts: str) -> None:
    """What the agent does in its attempt a1, a2 …"""
    cases = "\n".join(
        f"{name[1:]}) {told(does, scene.folder)};;" for name, does in attempts.items()
    )
    (scene.folder / "do").write_text(f"case $FACTORY_ATTEMPT in\n{cases}\nesac\n")


async def until(look: Callable[[], object]) -> None:
    with anyio.fail_after(15):
        while not look():  # noqa: ASYNC110 - what is waited for happens outside of this process
            await anyio.sleep(0.01)


async def work_once(scene: Scene, during: Callable[[], None] | None = None) -> None:
    """A worker runs until its hook is empty; `during` is done while its agent holds."""
    async with anyio.create_task_group() as group:
        group.start_soon(scene.floor.pool._crew._make_worker("w1").run)
        if during:
            await until((scene.folder / "ran").exists)
            during()
            (scene.folder / "go").touch()
        await until(lambda: not scene.hook().unit)
        group.cancel_scope.cancel()


async def told_at_work(scene: Scene, agent: str) -> None:
    """The first attempt is told something while it works, and ends without having read it."""
    scene.hang("u", agent=agent)
    await work_once(scene, lambda: say(scene, "and two"))
    assert (scene.reasons("u"), scene.state_of("u"), scene.unit("u").resume) == (
        ["told"],
        "ready",
        True,
    )


def say(scene: Scene, text: str) -> None:
    scene.floor.escalations.remark("u", "tell", text, now=at())


def hang_again(scene: Scene) -> None:
    """The unit's next attempt hangs on w1."""
    unit = scene.unit("u")
    number = unit.attempt + 1
    running = advance(replace(unit, attempt=number), UnitState.RUNNING, now=at())
    attempt = Attempt(unit="u", number=number, worker="w1", agent=unit.agent, start=at())
    hook = replace(scene.hook(), unit="u", attempt=number, state="running", since=at())
    scene.store.write(Event.HOOK_FILLED, running, attempt, hook, now=at(), unit="u", attempt=number)


def attempt(scene: Scene, number: int) -> Attempt:
    found = scene.store.get(Attempt, "u", number)
    assert found is not None
    return found


def prompt(scene: Scene, number: int) -> str:
    return (scene.state.places.run_dir("u", number) / "prompt.md").read_text()


def submitted(scene: Scene, name: str = "new.txt") -> str:
    return git(scene.state.places.git, "show", f"{scene.unit('u').submission}:{name}")


async def test_a_session_is_continued_with_what_it_had_not_read(scene: Scene) -> None:
    script(scene, a1=f"{FIRST}; {HOLD}", a2='echo "$1" > session.txt; echo two >> new.txt')
    await told_at_work(scene, "sessions")

    hang_again(scene)
    await work_once(scene)

    unit, second = scene.unit("u"), attempt(scene, 2)
    assert (unit.state, unit.spent, scene.reasons("u")) == (
        UnitState.QUEUED,
        0,
        ["told", "submitted"],
    )
    assert (submitted(scene), submitted(scene, "session.txt")) == ("one\ntwo", "s1")
    assert (second.resumed, second.base, second.heard, second.summary) == (
        True,
        attempt(scene, 1).base,
        1,
        "Do it\n",
    )
    assert "A person said:\n\nand two\n" in prompt(scene, 2)
    assert "## The task" not in prompt(scene, 2)


async def test_without_sessions_a_fresh_attempt_starts_on_the_tree(scene: Scene) -> None:
    script(scene, a1=f"{FIRST}; {HOLD}", a2="echo two >> new.txt")
    await told_at_work(scene, "plain")
    moved = scene.commit({"other.txt": "trunk moved on\n"})
    await scene.trunk_judge.look(await scene.floor.trunk.refresh(), scene.group)

    hang_again(scene)
    await work_once(scene)

    second = attempt(scene, 2)
    assert (scene.state_of("u"), second.reason, second.resumed, second.base) == (
        "queued",
        "submitted",
        False,
        moved,
    )
    assert (submitted(scene), submitted(scene, "other.txt")) == ("one\ntwo", "trunk moved on")
    assert "The task was done. Then a person sent a message that the agent had not read" in prompt(
        scene, 2
    )
    assert "A person said:\n\nand two\n" in prompt(scene, 2)


@pytest.mark.parametrize("agent", ["sessions", "plain"])
@pytest.mark.parametrize(
    "does", ["true", 'rm -rf "$PWD"'], ids=["nothing", "away with its workspace"]
)
async def test_what_changes_nothing_is_submitted_as_it_was(
    scene: Scene, agent: str, does: str
) -> None:
    script(scene, a1=f"{FIRST}; {HOLD}", a2=does)
    await told_at_work(scene, agent)

    hang_again(scene)
    await work_once(scene)

    first, second, unit = attempt(scene, 1), attempt(scene, 2), scene.unit("u")
    assert (unit.state, unit.spent, scene.reasons("u")) == (
        UnitState.QUEUED,
        0,
        ["told", "submitted"],
    )
    assert (second.tree, second.base, second.summary) == (first.tree, first.base, "Do it\n")
    assert (unit.submission, unit.base) == (second.commit, first.base)
    assert git(scene.state.places.git, "rev-parse", f"{unit.submission}^{{tree}}") == first.tree
    assert git(scene.state.places.git, "rev-parse", second.ref) == second.commit


async def test_what_crashes_and_changes_nothing_is_submitted_as_it_was(scene: Scene) -> None:
    script(scene, a1=f"{FIRST}; {HOLD}", a2="exit 3")
    await told_at_work(scene, "plain")

    hang_again(scene)
    await work_once(scene)

    assert (scene.state_of("u"), scene.reasons("u"), submitted(scene)) == (
        "queued",
        ["told", "submitted"],
        "one",
    )


async def test_a_session_that_cannot_be_continued_is_followed_by_a_fresh_attempt(
    scene: Scene,
) -> None:
    script(
        scene, a1=f"{FIRST}; {HOLD}", a2="echo no such session; exit 1", a3="echo two >> new.txt"
    )
    await told_at_work(scene, "sessions")

    for number in (2, 3):
        hang_again(scene)
        assert scene.unit("u").attempt == number
        await work_once(scene)

    assert scene.reasons("u") == ["told", "handed_back", "submitted"]
    assert (scene.unit("u").spent, submitted(scene)) == (0, "one\ntwo")
    assert "A person said:\n\nand two\n" in prompt(scene, 3)
    assert "The task was done." in prompt(scene, 3)


async def test_where_the_tree_conflicts_with_trunk_and_nothing_is_made_it_is_submitted_as_it_was(
    scene: Scene,
) -> None:
    script(scene, a1=f"{FIRST}; {HOLD}", a2="true")
    await told_at_work(scene, "plain")
    scene.commit({"new.txt": "theirs\n"})
    await scene.trunk_judge.look(await scene.floor.trunk.refresh(), scene.group)

    hang_again(scene)
    await work_once(scene)

    first, unit = attempt(scene, 1), scene.unit("u")
    assert (unit.state, unit.base, submitted(scene)) == (UnitState.QUEUED, first.base, "one")
    assert "does not fit onto it any more" in prompt(scene, 2)


async def test_told_again_while_it_goes_on_it_goes_on_once_more(scene: Scene) -> None:
    again = f"rm -f FOLDER/ran FOLDER/go; echo two >> new.txt; touch FOLDER/ran; {HOLD}"
    script(scene, a1=f"{FIRST}; {HOLD}", a2=again, a3="true")
    await told_at_work(scene, "sessions")
    (scene.folder / "ran").unlink()

    hang_again(scene)
    await work_once(scene, lambda: say(scene, "and three"))
    hang_again(scene)
    await work_once(scene)

    assert scene.reasons("u") == ["told", "told", "submitted"]
    assert (scene.state_of("u"), scene.unit("u").spent, submitted(scene)) == (
        "queued",
        0,
        "one\ntwo",
    )


async def test_what_was_said_before_its_prompt_was_made_is_no_news(scene: Scene) -> None:
    script(scene, a1=f"{FIRST}; {HOLD}")
    scene.hang("u", agent="plain")
    say(scene, "early")

    await work_once(scene, lambda: None)

    assert (scene.state_of("u"), scene.reasons("u"), attempt(scene, 1).heard) == (
        "queued",
        ["submitted"],
        1,
    )
    assert "A person said:\n\nearly\n" in prompt(scene, 1)


async def test_a_daemon_that_dies_once_the_agent_has_started_knows_what_its_prompt_held(
    scene: Scene,
) -> None:
    class Killed(BaseException):
        """Stands for `kill -9`."""

    script(scene, a1=f"{FIRST}; {HOLD}")
    scene.hang("u", agent="plain")
    say(scene, "early")
    write = scene.store.write

    def dies(event: Event, *records: object, **more: object) -> int:
        if event is Event.ATTEMPT_STARTED:
            scene.store.write = write  # type: ignore[method-assign]
            raise Killed
        return write(event, *records, **more)  # type: ignore[arg-type]

    scene.store.write = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await scene.floor.pool._crew._make_worker("w1").run()
    await until((scene.state.places.run_dir("u", 1) / "start.json").exists)

    await work_once(scene, lambda: None)

    assert (scene.state_of("u"), scene.reasons("u")) == ("queued", ["submitted"])
