import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from factory import __version__
from factory.cli import place
from factory.cli.main import FACTORY, FACTORYD, factory, factoryd
from tests.cli_line import Line

HEAVY = {
    "pathlib",
    "typing",
    "dataclasses",
    "asyncio",
    "anyio",
    "pydantic",
    "structlog",
    "git",
    "jinja2",
    "yaml",
    "rich",
}
ALL = [(factory, name) for name in FACTORY] + [(factoryd, name) for name in FACTORYD]


def test_no_command_shows_them_all_in_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    code = factory([])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert all(any(line.split()[:1] == [name] for line in lines) for name in FACTORY)
    assert max(map(len, lines)) <= 80
    assert not any("…" in line[40:] for line in lines)


@pytest.mark.parametrize(("program", "name"), ALL)
def test_every_command_has_help_with_an_example(
    program: Callable[[list[str]], int], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = program([name, "--help"])

    out = capsys.readouterr().out
    assert code == 0
    assert f"usage: {program.__name__} {name}" in out
    assert (
        f"\n  {program.__name__} {name}" in out.partition("examples:")[2]
        or f"| factory {name}" in out
    )


@pytest.mark.parametrize(
    ("argv", "near"),
    [(["stauts"], "status"), (["anwser"], "answer"), (["start"], "factoryd start")],
)
def test_a_mistyped_command_is_a_usage_error_with_a_did_you_mean(
    argv: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(argv)

    assert code == 2
    assert f"did you mean {near}?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report", "inbox", "top"])
def test_what_is_not_built_is_refused_as_not_yet(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory([name])

    assert code == 2
    assert capsys.readouterr().err.startswith("factory: not yet: ")


@pytest.mark.parametrize(
    "argv",
    [["show"], ["status", "--jsn"], ["show", "a", "b"], ["log", "--fol"], ["gate", "--tree"]],
)
def test_wrong_arguments_are_a_usage_error(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(argv)

    assert code == 2
    assert f"usage: factory {argv[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["status", "--jsn"], "unrecognized arguments: --jsn: did you mean --json?\n"),
        (["log", "--fol"], "--fol: did you mean --follow?\n"),
        (["log", "--snce=2h"], "--snce=2h: did you mean --since?\n"),
        (["doctor", "--agnet", "claude"], "--agnet claude: did you mean --agent?\n"),
        (["pause", "--quickly"], "unrecognized arguments: --quickly\n"),
        (["show", "a", "b"], "unrecognized arguments: b\n"),
    ],
)
def test_a_mistyped_option_is_a_usage_error_with_a_did_you_mean(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(argv) == 2
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize(("output", "code"), [(">&-", 0), ("2>&- >&-", 0), (">/dev/full", 1)])
def test_output_that_nobody_takes_gives_no_traceback(
    output: str, code: int, tmp_path: Path
) -> None:
    Line(tmp_path)
    program = "import sys; from factory.cli.main import factory; sys.exit(factory(['status']))"
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = ["sh", "-c", f'exec "$0" -c "$1" {output}', sys.executable, program]

    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert len(done.stderr.splitlines()) == code
    assert "Errno" not in done.stderr


def test_a_files_name_that_is_said_does_not_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Line(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert factory(["add", "no\x1b[2J\x9b2Jpe"]) == 1

    assert capsys.readouterr().err == "factory: nope: No such file or directory\n"


@pytest.mark.parametrize("word", ["--version", "version"])
@pytest.mark.parametrize("program", [factory, factoryd])
def test_the_version_is_said(
    program: Callable[[list[str]], int], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program([word]) == 0
    assert capsys.readouterr().out == f"{program.__name__} {__version__}\n"


@pytest.mark.parametrize("program", [factory, factoryd])
def test_help_without_a_command_lists_the_commands(
    program: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for argv in ([], ["help"], ["--help"], ["-h"]):
        assert program(argv) == 0
        shown.append(capsys.readouterr().out)

    assert shown == [shown[0]] * 4
    assert shown[0].startswith(f"usage: {program.__name__} COMMAND")


def test_help_of_a_command_is_what_the_command_says_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    codes = [factoryd(["help", "stop"]), factoryd(["stop", "--help"])]

    first, second = capsys.readouterr().out.split("usage: ")[1:]
    assert (codes, first) == ([0, 0], second)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("anwser", "did you mean answer?"),
        ("start", "did you mean factoryd start?"),
        ("top", "not yet: factory top"),
    ],
)
def test_help_of_an_unknown_command_is_a_usage_error(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["help", command]) == 2
    assert said in capsys.readouterr().err


def test_outside_of_a_repository_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = factory(["status"])

    assert code == 1
    assert "git init" in capsys.readouterr().err


def test_without_a_factory_the_error_names_the_command_that_starts_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)

    code = factory(["status"])

    assert code == 1
    assert "factoryd start" in capsys.readouterr().err


def test_a_damaged_store_is_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".factory").mkdir()
    (tmp_path / ".factory" / "store.sqlite").write_bytes(b"no store at all" * 100)
    monkeypatch.chdir(tmp_path)

    code = factory(["status"])

    assert code == 1
    assert "cannot be" in capsys.readouterr().err


def test_the_root_is_found_from_a_folder_below_and_from_a_linked_worktree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(tmp_path / "main")
    (tmp_path / "main" / "src").mkdir()
    admin = tmp_path / "main" / ".git" / "worktrees" / "linked"
    admin.mkdir(parents=True)
    (admin / "commondir").write_text("../..\n")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".git").write_text(f"gitdir: {admin}\n")

    codes = []  # each asks the same factory
    for folder in (line.root / "src", tmp_path / "linked"):
        monkeypatch.chdir(folder)
        codes.append(factory(["status"]))

    assert codes == [0, 0]


def test_a_linked_worktree_of_a_repository_without_a_factory_stands_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = tmp_path / "main" / ".git" / "worktrees" / "linked"
    admin.mkdir(parents=True)
    (admin / "commondir").write_text("../..\n")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".git").write_text(f"gitdir: {admin}\n")
    monkeypatch.chdir(tmp_path / "linked")

    assert place.repository() == str(tmp_path / "linked")


def test_a_repository_inside_another_does_not_see_its_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Line(tmp_path)
    (tmp_path / "vendored" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "vendored")

    assert factory(["status"]) == 1


@pytest.mark.parametrize("argv", [["status", "--json"], ["status"]])
def test_status_imports_next_to_nothing(argv: list[str], tmp_path: Path) -> None:
    Line(tmp_path)
    program = f"from factory.cli.main import factory; factory({argv!r})"

    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-S", "-c", program],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "factory.store.views" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("name", ["show", "log", "answer", "tell", "why", "retry"])
def test_quick_commands_import_no_framework(name: str, tmp_path: Path) -> None:
    program = f"import sys, factory.cli.{FACTORY[name]}; print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert not set(done.stdout.split()) & (HEAVY - {"typing"})


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.card("E1", evidence="evidence\n" * 100_000)
    program = "import sys; from factory.cli.main import factory; sys.exit(factory(['show', 'E1']))"

    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.readline()
        child.stdout.close()
        said = child.stderr.read()

    assert (child.returncode, said) == (141, b"")
