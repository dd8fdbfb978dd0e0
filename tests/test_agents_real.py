"""The shipped runtime files with the real CLIs and a scripted model at the other end."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from factory.agents.output import OutputReader, Seen, Usage
from factory.agents.runtime import Runtime, environment, invocation
from factory.agents.runtime_file import parse_runtime
from factory.attempt.homes import empty
from factory.child.process import Child, Command, Exit, start
from tests.fake_model import FakeModel, Step, fail, fake_model, hang, say, shell, write_file
from tests.git_repo import make_repo
from tests.real_agents import FEWER, KEYS, MODELS, NAMES, PATH, program, provide

pytestmark = pytest.mark.agents

ROOT = Path(__file__).parents[1]
EPOCH = int(time.time()) + 5 * 86_400  # a limit by the week; nothing beyond eight days is believed


@dataclass
class Agent:
    """One real CLI, logged in nowhere, with a HOME of its own."""

    runtime: Runtime
    folder: Path
    own: Mapping[str, str]
    runs: int = 0

    async def start(self, model: FakeModel, *, session: str = "") -> Child:
        self.runs += 1
        run_dir = self.folder / f"run{self.runs}"
        (run_dir / "own").mkdir(parents=True)
        (run_dir / "prompt.md").write_text("Do it.\n")
        argv, stdin = invocation(
            self.runtime,
            run_dir=run_dir,
            workspace=self.workspace,
            model=MODELS.get(self.runtime.name, "fake-model"),
            session=session,
        )
        own = {"HOME": str(self.folder / "home"), "PATH": PATH, **self.own}
        where = provide(self.runtime.name, model.url, self.folder / "home")
        return await start(
            Command(
                argv=(str(program(argv[0])), *argv[1:]),
                cwd=self.workspace,
                env=environment(self.runtime, {"LANG": "C.UTF-8"}, own) | where,
                run_dir=run_dir,
                stdin=stdin,
                seconds=60,
                stop_signal=self.runtime.stop.signal,
                grace_s=self.runtime.stop.grace_s,
            )
        )

    async def run(
        self, *steps: Step, session: str = "", earlier: Usage | None = None
    ) -> tuple[Exit, Seen]:
        with fake_model(*steps) as model:
            child = await self.start(model, session=session)
            ended = await child.wait()
        return ended, await self.seen(child, earlier)

    async def seen(self, child: Child, earlier: Usage | None = None) -> Seen:
        return await OutputReader(self.runtime, child.run_dir, earlier=earlier).finish(
            partial(datetime.now, UTC)
        )

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"


def agent_named(name: str, folder: Path) -> Agent:
    file = ROOT / "conventions" / "runtimes" / f"{name}.toml"
    runtime = parse_runtime(name, file.read_text(), where=file.name)
    program(name)
    (folder / "home").mkdir()
    make_repo(folder / "workspace", {"README": "here\n"})
    return Agent(runtime, folder, KEYS | FEWER)


@pytest.fixture(params=NAMES)
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    return agent_named(request.param, tmp_path)


async def test_a_run_does_its_work_and_says_so(agent: Agent) -> None:
    ended, seen = await agent.run(write_file("hello.txt", "hi\n"), say("All done."))

    assert (ended.code, seen.good) == (0, True)
    assert (agent.workspace / "hello.txt").read_text() == "hi\n"
    assert (seen.tools, seen.limited, seen.unauthorized) == (frozenset(), False, False)
    assert seen.first
    if (
        agent.runtime.output.result
    ):  # aider gives one answer, and tells no number that could be added
        assert (seen.result.strip(), seen.usage.input, seen.usage.output) == (
            "All done.",
            2000,
            100,
        )
    assert bool(seen.session) is bool(agent.runtime.resume)


async def test_a_session_is_resumed_and_only_its_own_use_is_counted(agent: Agent) -> None:
    if not agent.runtime.resume:
        pytest.skip(f"{agent.runtime.name} cannot continue a session")
    _, before = await agent.run(say("First."), say("Second."))

    ended, seen = await agent.run(
        say("First."), say("Second."), session=before.session, earlier=before.usage
    )

    assert (ended.code, seen.result, seen.session) == (0, "Second.", before.session)
    assert (seen.usage.input, seen.usage.output) == (1000, 50)


async def test_a_session_is_resumed_after_its_home_was_emptied_but_for_what_its_file_keeps(
    agent: Agent,
) -> None:
    if not agent.runtime.resume:
        pytest.skip(f"{agent.runtime.name} cannot continue a session")
    _, before = await agent.run(say("First."), say("Second."))
    empty(agent.folder / "home", agent.runtime.keep)

    ended, seen = await agent.run(say("First."), say("Second."), session=before.session)

    assert (ended.code, seen.result, seen.session) == (0, "Second.", before.session)


async def test_a_refused_login_is_seen(agent: Agent) -> None:
    _, seen = await agent.run(fail(401, kind="authentication_error"))

    assert (seen.good, seen.unauthorized, seen.limited) == (False, True, False)


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_a_busy_server_is_a_limit_and_not_a_failed_attempt(agent: Agent, status: int) -> None:
    if agent.runtime.name in ("opencode", "aider"):
        pytest.skip(f"{agent.runtime.name} tries again by itself for more than a minute")

    _, seen = await agent.run(fail(status, kind="overloaded_error"))

    assert (seen.good, seen.limited, seen.unauthorized) == (False, True, False)
    assert seen.error or seen.tail


async def test_the_reset_of_a_usage_limit_is_told_by_claude(tmp_path: Path) -> None:
    agent = agent_named("claude", tmp_path)
    agent.own = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy"}
    told = {"status": "rejected", "reset": str(EPOCH), "representative-claim": "five_hour"}

    headers = {f"anthropic-ratelimit-unified-{name}": value for name, value in told.items()}
    _, seen = await agent.run(fail(429, kind="rate_limit_error", headers=headers))

    assert (seen.good, seen.limited, seen.reset) == (
        False,
        True,
        datetime.fromtimestamp(EPOCH, UTC),
    )


async def test_the_reset_of_a_usage_limit_is_told_by_codex(tmp_path: Path) -> None:
    agent = agent_named("codex", tmp_path)

    _, seen = await agent.run(
        fail(429, kind="usage_limit_reached", plan_type="plus", resets_at=EPOCH)
    )

    assert (seen.good, seen.limited) == (False, True)
    assert seen.reset == datetime.fromtimestamp(EPOCH, UTC).replace(second=0)


async def test_a_run_that_waits_for_its_model_is_stopped(agent: Agent) -> None:
    with fake_model(hang()) as model:
        child = await agent.start(model)
        await to_thread.run_sync(model.asked.acquire)

        ended = await child.stop()

        assert (ended.cause, ended.left) == ("stopped", 0)


async def test_a_run_that_is_killed_in_a_tool_leaves_nothing_behind(agent: Agent) -> None:
    if agent.runtime.name == "aider":
        pytest.skip("aider runs no tools")
    signs = agent.workspace / "signs"
    os.mkfifo(signs)
    with fake_model(shell("echo $$ > signs; sleep 300"), say("never")) as model:
        child = await agent.start(model)
        with anyio.fail_after(30):
            pid = int(await to_thread.run_sync(signs.read_text, abandon_on_cancel=True))

        ended = await child.stop(0)
        seen = await agent.seen(child)

    assert (ended.cause, ended.left, seen.good) == ("stopped", 0, False)
    assert not Path(f"/proc/{pid}").exists()
    if agent.runtime.name != "opencode":  # it tells its session with the first step that has ended
        assert bool(seen.session) is bool(agent.runtime.resume)
