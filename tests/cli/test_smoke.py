"""`factory doctor --agent`: what it finds of an agent that is a script, and what it leaves behind: nothing."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factory.cli.main import factory
from tests.acceptance.line import Line
from tests.fake_model import fail, fake_model, say, write_file
from tests.git_repo import write
from tests.real_agents import FEWER, KEYS, NAMES, program, provide

GOOD = "echo hello > hello.txt; echo Done."
DOCTOR = """
[doctor]
install = "npm install -g odd"
known_good = "2.0"
login = "odd login"
logged_in = [".odd/login.json", "ODD_KEY*"]
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A repository whose line never ran."""
    line = Line(tmp_path)
    for name, value in line.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(line.root)
    yield line
    assert line.left() == {}
    assert not (line.root / ".factory").exists()
    assert not [*tmp_path.glob("factory-doctor-*"), *tmp_path.glob("state/factoryd/*")]


def odd(line: Line, does: str = GOOD, *, version: str = "odd 2.0", rest: str = DOCTOR) -> None:
    """Install the agent, and its runtime file in the checkout."""
    tells = f"echo {version}" if version else "exit 3"
    (line.bin / "odd").write_text(
        f'#!/bin/sh\nif test "$1" = --version; then {tells}; exit; fi\n{does}\n'
    )
    (line.bin / "odd").chmod(0o755)
    write(line.root, {"conventions/runtimes/odd.toml": f'command = ["odd", "work"]\n{rest}'})


def told(capsys: pytest.CaptureFixture[str], code: int, agent: str = "odd") -> list[str]:
    """What is said, with times left out."""
    assert factory(["doctor", "--agent", agent]) == code
    return re.sub(r"in \d[\d.]* s", "in N s", capsys.readouterr().out).splitlines()


def test_an_agent_that_works_is_ok_in_every_line(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line)
    write(line.home, {".odd/login.json": "{}"})

    assert told(capsys, 0) == [
        f"ok    program: {line.bin}/odd",
        "ok    version: 2.0",
        "ok    login: ~/.odd/login.json",
        "ok    smoke: a unit landed in N s",
    ]


def test_a_program_that_is_not_there_is_named_with_its_install_line(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line)
    (line.bin / "odd").unlink()

    assert told(capsys, 1) == [
        "bad   program: odd is not on PATH",
        "      to fix it: npm install -g odd",
    ]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            "odd 10.1",
            ["note  version: 10.1 is newer than the one that factoryd was tested with, 2.0"],
        ),
        (
            "1.99.7",
            [
                "note  version: 1.99.7 is older than the one that factoryd was tested with, 2.0",
                "      to fix it: npm install -g odd",
            ],
        ),
        (
            "",
            [
                "bad   version: BIN/odd --version printed none (exit 3)",
                "      to fix it: npm install -g odd",
            ],
        ),
    ],
)
def test_another_version_is_a_note_and_none_at_all_is_bad(
    version: str, said: list[str], line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line, version=version)

    lines = told(capsys, 0 if version else 1)

    assert [text.replace(str(line.bin), "BIN") for text in lines[1 : 1 + len(said)]] == said


def test_no_sign_of_a_login_is_a_note_and_a_variable_is_one(
    line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd(line)
    none = told(capsys, 0)
    monkeypatch.setenv("ODD_KEY_2", "secret")

    found = told(capsys, 0)

    assert none[2:4] == [
        "note  login: none was found: no ~/.odd/login.json, ODD_KEY*",
        "      to fix it: odd login",
    ]
    assert found[2] == "ok    login: ODD_KEY*"


def test_an_agent_that_fails_is_told_with_its_last_words_and_how_to_see_them_again(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line, "echo; echo 'cannot reach'; printf 'the \\033[31mmodel\\n'; exit 4", rest="")

    assert told(capsys, 1) == [
        f"ok    program: {line.bin}/odd",
        "bad   smoke: a unit did not land: crashed: it ended with exit 4: the model",
        "      | cannot reach",
        "      | the model",
        "      to fix it: run it in an empty repository and read its messages: odd work",
    ]


def test_an_agent_that_is_not_logged_in_is_told_how_to_log_in(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line, "echo please log in; exit 1", rest=f"{DOCTOR}\n[limit]\nlogin = ['log in']\n")

    assert told(capsys, 1)[-3:] == [
        "bad   smoke: a unit did not land: auth: its agent is not logged in",
        "      | please log in",
        "      to fix it: odd login",
    ]


def test_one_that_fails_without_any_sign_of_a_login_is_told_how_to_log_in_too(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line, "echo what model; exit 1")

    assert told(capsys, 1)[-1] == (
        "      to fix it: odd login; or run it in an empty repository and read its messages: odd work"
    )


def test_an_agent_that_never_ends_is_ended(
    line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd(line, "echo begin; sleep 600", rest="")
    monkeypatch.setenv("FACTORY__LIMITS__SILENCE_S", "0.5")

    assert "it said nothing for too long and was stopped" in told(capsys, 1)[1]


def test_a_program_of_the_repository_and_its_settings_are_taken_along(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    odd(line, "test -e $FACTORY_OUTBOX && " + GOOD, rest="")
    (line.root / "tools").mkdir()
    (line.bin / "odd").rename(line.root / "tools/odd")
    write(
        line.root,
        {
            "conventions/runtimes/odd.toml": 'command = ["tools/odd"]\n',
            "factory.toml": "workers = 1\n",
        },
    )

    assert told(capsys, 0)[-1] == "ok    smoke: a unit landed in N s"


def test_programs_read_the_same(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    odd(line, "exit 1")

    assert factory(["doctor", "--agent", "odd", "--json"]) == 1

    seen = json.loads(capsys.readouterr().out)
    assert (seen["schema"], seen["agent"], seen["ok"]) == (1, "odd", False)
    assert [(each["check"], each["grade"]) for each in seen["checks"]] == [
        ("program", "ok"),
        ("version", "ok"),
        ("login", "note"),
        ("smoke", "bad"),
    ]


def test_what_cannot_be_looked_at_is_refused(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["doctor", "--agent", "clod"]) == 2
    assert (
        "There is no runtime 'clod': did you mean codex? The runtimes are aider, claude,"
        in capsys.readouterr().err
    )
    assert factory(["doctor", "--agent", "claude", "--fix"]) == 2


@pytest.fixture
def model_of(line: Line, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a real agent usable, with its model at that address."""

    def use(name: str, url: str) -> None:
        for needed in (name, "node") if name in ("codex", "gemini", "opencode") else (name,):
            (line.bin / needed).symlink_to(program(needed))
        for variable, value in {**KEYS, **FEWER, **provide(name, url, line.home)}.items():
            monkeypatch.setenv(variable, value)

    return use


@pytest.mark.agents
@pytest.mark.parametrize("name", NAMES)
def test_a_real_agent_is_of_the_known_version_and_lands_its_unit(
    name: str, line: Line, model_of: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_model(write_file("hello.txt", "hello\n"), say("Done.")) as model:
        model_of(name, model.url)

        lines = told(capsys, 0, name)

    assert [text.partition(":")[0] for text in lines] == [
        f"ok    {part}" for part in ("program", "version", "login", "smoke")
    ]


@pytest.mark.agents
@pytest.mark.parametrize("name", NAMES)
def test_a_real_agent_whose_login_is_refused_is_told_how_to_log_in(
    name: str, line: Line, model_of: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_model(fail(401, kind="authentication_error")) as model:
        model_of(name, model.url)

        lines = told(capsys, 1, name)

    assert lines[3] == "bad   smoke: a unit did not land: auth: its agent is not logged in"
    assert lines[-1].startswith("      to fix it: ")
