"""Which agents can be used, and why the others cannot."""

from pathlib import Path

import pytest

from factory.dispatch.agents import Agents, find_agents, shell_runtime, the_runtime
from factory.ground.conventions import Conventions, overlay, read_shipped
from factory.ground.errors import ConfigError
from tests.on_record import NOW, later


def runtimes(**commands: str) -> Conventions:
    return overlay(
        {f"conventions/runtimes/{name}.toml": text for name, text in commands.items()}, {}
    )


def runs(program: str) -> str:
    return f'command = ["{program}", "{{prompt}}"]\n'


def program(folder: Path, name: str, mode: int = 0o755) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(mode)


def found(root: Path, conventions: Conventions, configured: str = "") -> Agents:
    return find_agents(conventions, configured=configured, path=str(root / "bin"), root=root)


def test_a_program_that_is_named_by_its_path_is_not_said_to_be_missing_on_the_other(
    tmp_path: Path,
) -> None:
    why = found(tmp_path, runtimes(a=runs("tools/agent"))).missing["a"]

    assert why.endswith("'tools/agent', is not installed: that file is missing or not executable.")


def test_the_default_is_the_first_that_is_installed(tmp_path: Path) -> None:
    program(tmp_path / "bin", "second")
    program(tmp_path / "bin", "third")

    agents = found(tmp_path, runtimes(a=runs("first"), b=runs("second"), c=runs("third")))

    assert (agents.default, agents.installed) == ("b", ("b", "c"))
    assert agents.missing == {
        "a": "The program of agent a, 'first', is not installed: it is not on PATH."
    }
    assert [bool(agents.trouble(name)) for name in "abc"] == [True, False, False]


def test_the_configured_one_is_the_default_even_where_its_program_is_missing(
    tmp_path: Path,
) -> None:
    program(tmp_path / "bin", "second")

    agents = found(tmp_path, runtimes(a=runs("first"), b=runs("second")), "a")

    assert agents.default == "a"
    assert "'first', is not installed" in agents.trouble("a")


def test_a_configured_agent_without_a_file_is_said(tmp_path: Path) -> None:
    agents = found(tmp_path, runtimes(a=runs("first")), "nobody")

    assert agents.default == "nobody"
    assert (
        agents.trouble("nobody")
        == "factory.toml names the agent 'nobody', but there is no runtime file for it."
    )
    assert agents.trouble("somebody") == "There is no runtime 'somebody'. The runtimes are a."


def test_an_agent_that_only_a_task_names_and_that_nobody_knows_is_trouble_too(
    tmp_path: Path,
) -> None:
    program(tmp_path / "bin", "second")

    agents = found(tmp_path, runtimes(a=runs("first"), b=runs("second")))

    assert agents.trouble("clawde") == "There is no runtime 'clawde'. The runtimes are a, b."
    assert (
        agents.trouble("bb") == "There is no runtime 'bb': did you mean b? The runtimes are a, b."
    )


def test_nothing_installed_is_no_default(tmp_path: Path) -> None:
    agents = found(tmp_path, runtimes(a=runs("first")))

    assert (agents.default, agents.installed) == ("", ())
    assert agents.trouble("").startswith("No agent program is installed")


def test_a_file_that_cannot_be_run_is_no_program(tmp_path: Path) -> None:
    program(tmp_path / "bin", "first", mode=0o644)

    assert found(tmp_path, runtimes(a=runs("first"))).installed == ()


def test_a_program_may_lie_in_the_repository_or_anywhere(tmp_path: Path) -> None:
    program(tmp_path / "tools", "agent")
    program(tmp_path / "elsewhere", "agent")

    agents = found(
        tmp_path,
        runtimes(a=runs("tools/agent"), b=runs(f"{tmp_path}/elsewhere/agent"), c=runs("x/agent")),
    )

    assert agents.installed == ("a", "b")


@pytest.mark.parametrize("text", ["command = [", "command = 7", "", 'nonsense = "x"'])
def test_a_runtime_file_that_is_wrong_makes_one_agent_unusable_and_no_other(
    tmp_path: Path, text: str
) -> None:
    program(tmp_path / "bin", "second")

    agents = found(tmp_path, runtimes(a=text, b=runs("second")))

    assert agents.default == "b"
    assert "conventions/runtimes/a.toml" in agents.trouble("a")
    with pytest.raises(ConfigError):
        the_runtime("a", runtimes(a=text))


def test_a_runtime_that_is_called_as_units_with_a_command_are_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"conventions/runtimes/run.toml: the name run is reserved for units"
    ):
        the_runtime("run", runtimes(run=runs("x")))


def test_a_runtime_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"no runtime 'c'\. The runtimes are a, b\."):
        the_runtime("c", runtimes(b=runs("b"), a=runs("a")))


def test_the_shipped_runtimes_are_good_and_nothing_else_is_needed_for_them(tmp_path: Path) -> None:
    names = ("claude", "codex", "gemini", "opencode", "aider", "mini")
    for name in names:
        program(tmp_path / "bin", name)

    agents = found(tmp_path, overlay({}, read_shipped()))

    assert agents == Agents(default="claude", missing={}, installed=names)


def test_a_repositorys_own_runtime_comes_before_the_shipped_ones(tmp_path: Path) -> None:
    for name in ("claude", "zed"):
        program(tmp_path / "bin", name)

    agents = found(
        tmp_path, overlay({"conventions/runtimes/zed.toml": runs("zed")}, read_shipped())
    )

    assert agents.default == "zed"


def test_a_run_unit_is_a_shell_with_its_command() -> None:
    runtime = shell_runtime("ruff format . && echo '{done}'")

    assert (runtime.name, runtime.command) == (
        "run",
        ("sh", "-c", "ruff format . && echo '{done}'"),
    )


def test_while_the_default_cannot_work_the_first_of_the_fallback_that_can_acts_else_who_can_soonest(
    tmp_path: Path,
) -> None:
    for name in ("one", "two", "three"):
        program(tmp_path / "bin", name)
    every = runtimes(a=runs("one"), b=runs("two"), c=runs("three"), d=runs("none"))
    agents = find_agents(
        every, configured="a", path=str(tmp_path / "bin"), root=tmp_path, fallback=("d", "b", "c")
    )

    def acting(**minutes: float) -> str:
        return agents.deputized(
            {name: later(60 * until) for name, until in minutes.items()}, NOW
        ).acting

    assert [
        acting(),
        acting(a=9),
        acting(a=9, b=9),
        acting(a=9, b=8, c=7),
        acting(a=5, b=8, c=7),
    ] == list("abcca")


def test_a_default_that_is_not_installed_is_stood_in_for(tmp_path: Path) -> None:
    program(tmp_path / "bin", "two")
    every = runtimes(a=runs("one"), b=runs("two"))

    agents = find_agents(
        every, configured="a", path=str(tmp_path / "bin"), root=tmp_path, fallback=("b",)
    )

    assert agents.deputized({}, NOW).deputy == "b"


def test_a_fallback_that_nobody_knows_is_said_with_what_was_meant(tmp_path: Path) -> None:
    agents = find_agents(
        runtimes(codex=runs("x")), configured="codex", path="", root=tmp_path, fallback=("codx",)
    )

    why = "factory.toml names the agent 'codx', but there is no runtime file for it: did you mean codex?"
    assert agents.missing["codx"] == why
