"""What a start reads in a child process, and that the daemon does not load what only the child needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from factory.ground.errors import ConfigError, FactoryError, RepositoryError
from factory.ground.settings_file import load
from factory.reading import read_outset, read_settings, signature_of
from factory.repo.locate import locate
from tests.git_repo import make_repo

# package → why a daemon does not need it while it is idle
NOT_AT_START = {
    "pydantic": "the child reads factory.toml",
    "pydantic_settings": "the child reads factory.toml",
    "factory.ground.settings_file": "the child reads factory.toml",
    "git": "the child finds the git dirs",
    "rich": "it is for terminals",
    "jinja2": "only an attempt by an agent has a prompt",
    "yaml": "only front matter needs it",
    "tenacity": "only a landing waits for the user's git",
    "configparser": "only a project with setuptools needs it",
    "factory.store.views": "only commands need it",
    "factory.child.seatbelt": "only a Mac has it",
}


def test_importing_the_daemon_loads_nothing_that_an_idle_daemon_does_not_need() -> None:
    code = "import json, sys, factory.daemon, anyio._backends._asyncio; print(json.dumps(list(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert set(json.loads(done.stdout)).intersection(NOT_AT_START) == set()


async def test_the_child_reads_what_the_commands_read(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    make_repo(root, {"factory.toml": "workers = 5\n[env]\npass = ['TOKEN']\n"})
    environ = {"FACTORY__LIMITS__MINUTES": "0.5"}

    outset = await read_outset(root, environ)

    assert outset.settings == load(root / "factory.toml", environ)
    assert outset.settings.sources == {
        "workers": "factory.toml line 1",
        "env.pass": "factory.toml line 3",
        "limits.minutes": "FACTORY__LIMITS__MINUTES",
    }
    assert outset.locate(root) == locate(root)
    assert outset.signature == signature_of(root) != ()


async def test_a_folder_without_a_repository_is_refused_as_by_the_commands(tmp_path: Path) -> None:
    outset = await read_outset(tmp_path, {})

    with pytest.raises(RepositoryError) as here:
        locate(tmp_path)
    with pytest.raises(RepositoryError) as there:
        outset.locate(tmp_path)
    assert str(there.value) == str(here.value)


async def test_a_wrong_file_is_refused_as_by_the_commands(tmp_path: Path) -> None:
    (tmp_path / "factory.toml").write_text("wrokers = 1\n[limits]\nattempts = 0\n")

    with pytest.raises(ConfigError) as here:
        load(tmp_path / "factory.toml", {})
    with pytest.raises(ConfigError) as there:
        await read_settings(tmp_path, {})
    assert str(there.value) == str(here.value)


async def test_a_reader_that_dies_is_an_error_and_no_wrong_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(FactoryError, match="could not be read: its reader ended with 1") as raised:
        await read_settings(tmp_path, {})

    assert not isinstance(raised.value, ConfigError)
