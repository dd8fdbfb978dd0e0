"""What of a HOME outlives a unit: data that the runtime's file names, and nothing that runs."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from factory.agents.runtime_file import parse_runtime
from factory.attempt.homes import belongs_to, claim, empty, owner
from factory.ground.conventions import read_shipped
from factory.ground.errors import ConfigError
from factory.store.unit import Unit, UnitState
from tests.git_repo import write

KEEP = (".tool/sessions/**", ".tool/*.db")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def listed(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_only_the_data_that_is_named_outlives_a_unit(tmp_path: Path) -> None:
    kept = {".tool/sessions/a/1.jsonl": "{}", ".tool/state.db": "x"}
    gone = (
        ".bashrc",
        ".gitconfig",
        ".npmrc",
        ".tool/settings.json",
        ".tool/other/1.jsonl",
        "bin/sed",
        "cache/x",
    )
    write(tmp_path, kept | dict.fromkeys(gone, "planted"))
    (tmp_path / ".tool/other").chmod(0)

    empty(tmp_path, KEEP)

    assert listed(tmp_path) == [
        ".tool",
        ".tool/sessions",
        ".tool/sessions/a",
        ".tool/sessions/a/1.jsonl",
        ".tool/state.db",
    ]


def test_what_runs_or_configures_goes_wherever_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / ".tool/sessions"
    write(
        folder,
        {
            "script": "#!/bin/sh\n",
            "x.pth": "import os",
            "config.toml": "",
            "settings.json": "{}",
            "run": "",
        },
    )
    write(folder, {"set": "", "data": "", "a/.npmrc": "", "linked": ""})
    (folder / "program").write_bytes(b"\x7fELF...")
    (folder / "run").chmod(0o700)
    (folder / "set").chmod(0o4600)
    (folder / "away").symlink_to("/etc")
    os.link(folder / "linked", tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe")

    empty(tmp_path, KEEP)

    assert listed(tmp_path) == [".tool", ".tool/sessions", ".tool/sessions/data"]


def test_without_anything_to_keep_a_home_is_empty_however_deep_it_is(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):  # deeper than Python's recursion, and longer than a path may be
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)

    empty(tmp_path, ("*.jsonl",))

    assert listed(tmp_path) == []


@pytest.mark.parametrize(
    "glob",
    [
        *(
            "**",
            "*",
            ".*",
            ".claude",
            ".claude/**",
            "*.json",
            ".config/x",
            ".local/bin/x",
            ".local",
            ".codex/*",
        ),
        *(
            ".bash*",
            ".gitconfig",
            ".tool/settings.json",
            ".tool/hooks/x",
            ".tool/run.sh",
            ".gemini/tmp/*.md",
        ),
    ],
)
def test_a_glob_that_could_keep_configuration_or_a_program_is_refused(glob: str) -> None:
    with pytest.raises(
        ConfigError, match=r'x\.toml: keep: ".*" would keep .*Name its sessions alone, such as'
    ):
        parse_runtime("x", f'command = ["x", "{{prompt}}"]\nkeep = ["{glob}"]\n', where="x.toml")


@pytest.mark.parametrize("glob", ["", "/tmp/x", "../x", "a/../b", "~/x", "$HOME/x"])
def test_a_glob_that_leads_out_of_home_is_refused(glob: str) -> None:
    with pytest.raises(ConfigError, match="has to be a glob of files in HOME"):
        parse_runtime("x", f'command = ["x", "{{prompt}}"]\nkeep = ["{glob}"]\n', where="x.toml")


def test_each_shipped_runtime_that_resumes_a_session_says_what_keeps_it() -> None:
    shipped = {name: text for name, text in read_shipped().items() if name.startswith("runtimes/")}
    runtimes = [parse_runtime(name, text, where=name) for name, text in shipped.items()]

    assert len(runtimes) >= 6
    assert [each.name for each in runtimes if bool(each.resume) is not bool(each.keep)] == []


def test_a_folder_belongs_to_the_unit_that_was_there_last_and_to_none_of_the_same_name(
    tmp_path: Path,
) -> None:
    unit = Unit(id="u", title="u", state=UnitState.RUNNING, since=AT, accepted=AT)
    later = replace(unit, accepted=AT + timedelta(seconds=1))
    folder = tmp_path / "home"

    claim(folder, owner(unit))

    assert belongs_to(folder, owner(unit))
    assert not belongs_to(folder, owner(later))
    claim(folder, "")
    assert not belongs_to(folder, owner(unit))
    claim(folder, "")


def test_a_pipe_in_the_place_of_the_mark_is_nobodys_and_is_not_waited_for(tmp_path: Path) -> None:
    unit = Unit(id="u", title="u", state=UnitState.RUNNING, since=AT, accepted=AT)

    os.mkfifo(tmp_path / "home.unit")

    assert not belongs_to(tmp_path / "home", owner(unit))
