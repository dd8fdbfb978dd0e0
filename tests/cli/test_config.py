import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from factory.cli.main import factory, factoryd
from factory.judging.guards import RULES
from tests.cli_line import Line
from tests.git_repo import write

INFERRED = {
    "gates": [
        {"name": "test", "command": "pytest -q", "reason": "pyproject.toml configures pytest"}
    ],
    "setup": {"kind": "uv", "reason": "uv.lock"},
    "agents": ["claude", "codex"],
    "agent": "claude",
}
CONFIG = {"workers": {"value": 7, "source": "factory.toml line 1"}}


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FACTORY__")]:
        monkeypatch.delenv(name)
    return Line(tmp_path)


def rows(out: str) -> list[list[str]]:
    return [text.split() for text in out.splitlines()]


def test_config_shows_each_value_and_where_it_was_written(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line.root / "factory.toml").write_text("workers = 5\n")
    monkeypatch.setenv("FACTORY__LIMITS__ATTEMPTS", "9")

    code = factory(["config"])

    shown = rows(capsys.readouterr().out)
    assert code == 0
    assert ["workers", "5", "factory.toml", "line", "1"] in shown
    assert ["limits.attempts", "9", "FACTORY__LIMITS__ATTEMPTS"] in shown
    assert ["gates.benches", "2", "default"] in shown


def test_config_shows_what_was_inferred_with_the_reason(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("inferred", INFERRED)

    factory(["config"])

    shown = rows(capsys.readouterr().out)[-4:]
    assert shown == [
        ["gate", "test", "pyproject.toml", "configures", "pytest", "pytest", "-q"],
        ["setup", "uv", "uv.lock"],
        ["agent", "claude", "default"],
        ["agent", "codex"],
    ]


def test_config_of_a_running_daemon_is_what_the_daemon_goes_by(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("config", CONFIG)

    with line.daemon():
        factory(["config", "--json"])

    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "settings": CONFIG,
        "inferred": {},
        "error": "",
    }


def test_a_bad_edit_is_said_beside_the_last_good_values(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("config", CONFIG)
    (line.root / "factory.toml").write_text("worker = 5\n")

    with line.daemon():
        code = factory(["config"])

    out = capsys.readouterr().out
    assert code == 1
    assert "workers  7" in out
    assert "unknown key worker: did you mean workers" in out


def test_a_bad_file_with_the_daemon_down_is_a_usage_error(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (line.root / "factory.toml").write_text("workers = 'many'\n")

    assert factory(["config"]) == 2
    assert "the correct form" in capsys.readouterr().err


def test_a_key_is_explained(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    code = factory(["config", "--explain", "limits.attempts"])

    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out[:3] == ["limits.attempts = 3", "  from     default", "  default  3"]
    assert out[-1].endswith("FACTORY__LIMITS__ATTEMPTS")


def test_an_unknown_key_is_refused_with_a_did_you_mean(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["config", "--explain", "limits.minute"]) == 2
    assert "did you mean limits.minutes?" in capsys.readouterr().err


def test_init_writes_a_file_that_changes_nothing_and_never_overwrites(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    factory(["config"])
    before = capsys.readouterr().out

    first = factoryd(["init"])
    capsys.readouterr()
    factory(["config"])
    after = capsys.readouterr().out
    second = factoryd(["init"])

    assert (first, second) == (0, 3)
    assert before == after
    assert "it was not changed" in capsys.readouterr().err


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Stands in for the daemon's assembly: the command is tried on what that would yield."""
    asked: list[object] = []
    verdicts = {
        "green": [("lint", True, 0.2, ""), ("test", True, 12.0, "")],
        "red": [("lint", True, 0.2, ""), ("test", False, 1.0, "E\x1b[31m assert 1 == 2\x1b[0m\n")],
        None: [],
    }

    def judge_once(
        root: Path, *, rev: str | None, here: bool
    ) -> Iterator[tuple[str, bool, float, str]]:
        asked.append((root, rev, here))
        yield from verdicts[rev]

    module = types.ModuleType("factory.once")
    module.judge_once = judge_once  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "factory.once", module)
    return asked


def test_gate_prints_each_verdict_and_is_fine_when_all_are_green(
    line: Line, judged: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["gate", "--tree", "green"])

    assert (code, capsys.readouterr().out) == (0, "green  lint  0.2 s\ngreen  test  12 s\n")
    assert judged == [(line.root, "green", False)]


def test_a_red_gate_shows_the_end_of_its_output_harmlessly(
    line: Line, judged: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["gate", "--tree", "red"])

    assert (code, capsys.readouterr().out) == (
        1,
        "green  lint  0.2 s\nred    test  1.0 s\n  │ E assert 1 == 2\n",
    )


def test_no_gate_is_not_green(
    line: Line, judged: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["gate", "--here"]) == 1
    assert "no gate was found" in capsys.readouterr().err
    assert judged == [(line.root, None, True)]


def test_gate_judges_one_thing_only(line: Line, judged: list[object]) -> None:
    assert factory(["gate", "--here", "--tree", "green"]) == 2
    assert judged == []


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real one, with a commit."""
    for name, value in (
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("HOME", str(tmp_path)),
        ("PATH", os.defpath),
    ):
        monkeypatch.setenv(name, value)
    root = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", "-b", "main", root], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "x"], cwd=root, check=True)
    monkeypatch.chdir(root)
    return root


def test_config_says_nothing_of_gates_that_nobody_has_looked_for_yet(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["config"]) == 0

    out = capsys.readouterr().out
    assert "the first start looks for gates, setup and agents: factoryd start" in out
    assert "gate   none" not in out


def test_doctor_finds_nothing_bad_in_a_plain_repository(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["doctor"])

    out = capsys.readouterr().out
    assert code == 0
    assert "ok    git repository, trunk is main" in out
    assert "note  the daemon is stopped; start it: factoryd start\n" in out


def test_doctor_names_what_is_bad_and_what_mends_it(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = repository / "conventions" / "runtimes"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text('command = ["no-such-agent", "{prompt}"]\n')
    (own / "broken.toml").write_text("comand = []\n")
    (repository / "factory.toml").write_text('agent = "mine"\n')

    code = factory(["doctor"])

    out = capsys.readouterr().out
    assert code == 1
    assert "bad   The program of agent mine, 'no-such-agent', is not installed" in out
    assert "bad   conventions/runtimes/broken.toml" in out


def test_doctor_finds_prompts_gates_and_knowledge_in_the_checkout_that_cannot_be_used(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        repository / "conventions",
        {
            "prompts/unit.md": "{{ titel }}\n",
            "prompts/retry.md": "{% if digest %}{{ digets }}{% endif %}\n",
            "gates/10-x.toml": "comand = 'true'\n",
            "knowledge/a.md": "---\npaths: [\n---\nx\n",
            "knowledge/b.md": "---\npaths: [src/**]\n---\nx\n",
        },
    )

    code = factory(["doctor"])

    bad = [
        text.split()[1].rstrip(",:")
        for text in capsys.readouterr().out.splitlines()
        if text.startswith("bad")
    ]
    assert code == 1
    assert sorted(bad) == [
        *("conventions/gates/10-x.toml", "conventions/knowledge/a.md"),
        *("conventions/prompts/retry.md", "conventions/prompts/unit.md"),
    ]


def test_doctor_notes_what_an_override_of_a_prompt_leaves_out(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = repository / "conventions/prompts"
    own.mkdir(parents=True)
    (own / "footer.md").write_text("Use tabs.\n")

    code = factory(["doctor"])

    told = capsys.readouterr().out
    assert code == 0
    assert (
        "note  conventions/prompts/footer.md leaves out what was said so far, knowledge, gates, "
        in told
    )


def test_doctor_says_once_that_a_prompt_does_not_tell_the_task(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = repository / "conventions/prompts"
    own.mkdir(parents=True)
    (own / "unit.md").write_text("Do something.\n")

    code = factory(["doctor"])

    told = capsys.readouterr().out
    assert code == 1
    assert told.count("conventions/prompts/unit.md does not contain the task.") == 1


def test_doctor_and_start_say_in_one_sentence_where_the_state_folder_cannot_be_written(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.parent / "state").write_text("a file, for no right stops root")
    monkeypatch.setenv("XDG_STATE_HOME", str(repository.parent / "state"))

    codes = factory(["doctor"]), factoryd(["start"])

    told = capsys.readouterr()
    assert codes == (1, 1)
    assert f"bad   {repository.parent}/state is not a folder that you can write to." in told.out
    assert told.err.count("\n") == 1
    assert "let XDG_STATE_HOME name another place" in told.err
    assert not (repository / ".factory").exists()


def test_doctor_says_before_the_first_start_what_is_on_and_that_a_start_would_be_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(repository.parent / "state"))
    monkeypatch.setenv("HOME", "/")
    codes = [factory(["doctor"])]
    (repository / "factory.toml").write_text('[sandbox]\nmode = "required"\n')
    codes.append(factory(["doctor"]))

    out = capsys.readouterr().out
    assert codes == [0, 1]
    assert out.count("note  unsandboxed, HOME is /, which cannot be hidden: ") == 2
    assert out.count('bad   sandbox.mode is "required", but HOME is /') == 1
    assert not (repository / ".factory").exists()


def test_doctor_says_what_is_wrong_with_the_repository_the_settings_and_the_store(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "factory.toml").write_text("nonsense\n")
    subprocess.run(["git", "checkout", "-q", "--detach"], check=True)
    (repository / ".factory").mkdir()
    (repository / ".factory" / "store.sqlite").write_bytes(b"x" * 4096)

    code = factory(["doctor"])

    out = capsys.readouterr().out
    assert code == 1
    assert out.count("bad  ") == 3


@pytest.mark.parametrize("name", ["footer", "footer.md", "house"])
def test_config_writes_the_shipped_text_of_a_prompt(
    line: Line, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write(line.root, {"conventions/prompts/footer.md": "Ours."})

    code = factory(["config", "--prompt", name])

    shipped = Path(__file__).parents[2] / "conventions/prompts" / f"{name.removesuffix('.md')}.md"
    assert (code, capsys.readouterr().out) == (0, shipped.read_text())


def test_config_knows_no_other_prompt(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    code = factory(["config", "--prompt", "foter"])

    said = capsys.readouterr().err
    assert code == 2
    assert "there is no shipped prompt 'foter': did you mean footer?" in said
    assert "there are: conflict, dialogue, footer, house," in said


def test_config_shows_one_thing_at_a_time(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    assert factory(["config", "--prompt", "unit", "--guards"]) == 2
    assert "--explain, --prompt and --guards exclude each other" in capsys.readouterr().err
    assert factory(["config", "--prompt", "unit", "--json"]) == 2
    assert "--json goes with --guards, or alone" in capsys.readouterr().err


def test_config_shows_each_guarded_path_with_what_it_runs_and_what_lifts_it(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["config", "--guards"])

    out = capsys.readouterr().out
    assert code == 0
    assert (
        "\nyour CI and your forge: allow: [edit-gates]\n  GitHub Actions\n    /.github/workflows /.github"
        in out
    )
    assert "\nagents on your machine: allow: [edit-agents]\n" in out
    assert (
        "\nthe factory's own files; their guard cannot be lifted\n    /.factory /.inbox /inbox\n"
        in out
    )
    assert {rule.path for rule in RULES} <= set(out.split())
    assert max(map(len, out.splitlines())) <= 100


def test_config_tells_programs_the_table_of_guards(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["config", "--guards", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["schema"], told["never"]) == (0, 1, [".factory", ".inbox", "inbox"])
    assert told["guards"] == [asdict(rule) for rule in RULES]
    assert told["guards"][0] == {
        "path": "/factory.toml",
        "runs": "settings of the factory",
        "where": "the factory",
        "allow": "edit-gates",
    }
