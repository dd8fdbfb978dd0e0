"""The shipped runtime files with the real CLIs and a scripted model at the other end.

FACTORY_TEST_AGENTS names the folder that has the CLIs, unless they are on PATH.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from factory.process import Child, Command, Exit, start
from factory.runtime import OutputReader, Runtime, Seen, Usage, environment, find, invocation, parse_runtime
from tests.fake_model import FakeModel, Step, fail, fake_model, hang, say, shell, write_file
from tests.git_repo import make_repo

pytestmark = pytest.mark.agents

ROOT = Path(__file__).parents[1]
PATH = os.pathsep.join([os.environ.get("FACTORY_TEST_AGENTS", ""), os.environ["PATH"]])
EPOCH = 1_900_000_000
NAMES = ("claude", "codex", "opencode", "gemini", "mini", "aider")


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
        run_dir.mkdir()
        (run_dir / "prompt.md").write_text("Do it.\n")
        argv, stdin = invocation(
            self.runtime,
            run_dir=run_dir,
            workspace=self.workspace,
            model=MODELS.get(self.runtime.name, "fake-model"),
            session=session,
        )
        program = find(argv[0], path=PATH, root=ROOT)
        own = {"HOME": str(self.folder / "home"), "PATH": PATH, **self.own}
        return await start(
            Command(
                argv=(str(program), *argv[1:]),
                cwd=self.workspace,
                env=environment(self.runtime, {"LANG": "C.UTF-8"}, own) | self._provider(model),
                run_dir=run_dir,
                stdin=stdin,
                seconds=60,
                stop_signal=self.runtime.stop.signal,
                grace_s=self.runtime.stop.grace_s,
            )
        )

    async def run(self, *steps: Step, session: str = "", earlier: Usage | None = None) -> tuple[Exit, Seen]:
        with fake_model(*steps) as model:
            child = await self.start(model, session=session)
            ended = await child.wait()
        return ended, self.seen(child, earlier)

    def seen(self, child: Child, earlier: Usage | None = None) -> Seen:
        return OutputReader(self.runtime, child.run_dir, earlier=earlier).read(datetime.now(UTC), ended=True)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def _provider(self, model: FakeModel) -> dict[str, str]:
        """What tells it where its model is."""
        home = self.folder / "home"
        match self.runtime.name:
            case "codex":
                _write(
                    home / ".codex/config.toml",
                    'model_provider = "fake"\n[model_providers.fake]\nname = "fake"\nenv_key = "OPENAI_API_KEY"\n'
                    f'wire_api = "responses"\nbase_url = "{model.url}/v1"\n'
                    "request_max_retries = 0\nstream_max_retries = 0\n",
                )
            case "opencode":
                options = {"baseURL": f"{model.url}/v1", "apiKey": "dummy"}
                models = {"fake-model": {"limit": {"context": 200000, "output": 8000}}}
                provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": models}
                settings = {"autoupdate": False, "share": "disabled", "provider": {"fake": provider}}
                _write(home / ".config/opencode/opencode.json", json.dumps(settings))
            case "gemini":
                general = {"enableAutoUpdate": False, "maxAttempts": 1}
                auth = {"auth": {"selectedType": "gemini-api-key"}}
                quiet = {"usageStatisticsEnabled": False}
                _write(
                    home / ".gemini/settings.json", json.dumps({"security": auth, "general": general, "privacy": quiet})
                )
        return {
            "ANTHROPIC_BASE_URL": model.url,
            "OPENAI_API_BASE": f"{model.url}/v1",
            "GOOGLE_GEMINI_BASE_URL": model.url,
            "npm_config_registry": "http://127.0.0.1:9",  # nothing is fetched
        }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


MODELS = {"opencode": "fake/fake-model", "mini": "openai/fake-model", "aider": "openai/fake-model"}
KEYS = {f"{name}_API_KEY": "dummy" for name in ("ANTHROPIC", "OPENAI", "GEMINI")}


def agent_named(name: str, folder: Path) -> Agent:
    file = ROOT / "conventions" / "runtimes" / f"{name}.toml"
    runtime = parse_runtime(name, file.read_text(), where=file.name)
    if shutil.which(str(runtime.command[0]), path=PATH) is None:
        pytest.skip(f"{name} is neither in FACTORY_TEST_AGENTS nor on PATH")
    (folder / "home").mkdir()
    make_repo(folder / "workspace", {"README": "here\n"})
    fewer = {"CLAUDE_CODE_MAX_RETRIES": "0", "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1"}
    return Agent(runtime, folder, KEYS | fewer)


@pytest.fixture(params=NAMES)
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    return agent_named(request.param, tmp_path)


async def test_a_run_does_its_work_and_says_so(agent: Agent) -> None:
    ended, seen = await agent.run(write_file("hello.txt", "hi\n"), say("All done."))

    assert (ended.code, seen.good) == (0, True)
    assert (agent.workspace / "hello.txt").read_text() == "hi\n"
    assert (seen.tools, seen.limited, seen.unauthorized) == (frozenset(), False, False)
    assert seen.first
    if agent.runtime.output.result:  # aider gives one answer, and tells no number that could be added
        assert (seen.result.strip(), seen.usage.input, seen.usage.output) == ("All done.", 2000, 100)
    assert bool(seen.session) is bool(agent.runtime.resume)


async def test_a_session_is_resumed_and_only_its_own_use_is_counted(agent: Agent) -> None:
    if not agent.runtime.resume:
        pytest.skip(f"{agent.runtime.name} cannot continue a session")
    _, before = await agent.run(say("First."), say("Second."))

    ended, seen = await agent.run(say("First."), say("Second."), session=before.session, earlier=before.usage)

    assert (ended.code, seen.result, seen.session) == (0, "Second.", before.session)
    assert (seen.usage.input, seen.usage.output) == (1000, 50)


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

    assert (seen.good, seen.limited, seen.reset) == (False, True, datetime.fromtimestamp(EPOCH, UTC))


async def test_the_reset_of_a_usage_limit_is_told_by_codex(tmp_path: Path) -> None:
    agent = agent_named("codex", tmp_path)

    _, seen = await agent.run(fail(429, kind="usage_limit_reached", plan_type="plus", resets_at=EPOCH))

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
        seen = agent.seen(child)

    assert (ended.cause, ended.left, seen.good) == ("stopped", 0, False)
    assert not Path(f"/proc/{pid}").exists()
    if agent.runtime.name != "opencode":  # it tells its session with the first step that has ended
        assert bool(seen.session) is bool(agent.runtime.resume)
