import io
import sys
from pathlib import Path

import pytest

from factory.cli import add, ask
from factory.cli.main import factory
from factory.store.unit import UnitState
from tests.cli_line import Line


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path)
    line = Line(tmp_path / "repo")
    monkeypatch.chdir(line.root)
    return line


def inbox(line: Line) -> dict[str, str]:
    return {path.name: path.read_text() for path in (line.root / "inbox").glob("*")}


def say_on_stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_a_file_is_dropped_whole_under_its_name(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fix.md").write_text("---\npriority: 1\n---\n# Fix\r\n")

    code = factory(["add", str(tmp_path / "fix.md")])

    assert code == 0
    assert inbox(line) == {"fix.md": "---\npriority: 1\n---\n# Fix\n"}
    assert (
        capsys.readouterr().out
        == "dropped as inbox/fix.md; the next start takes it (factoryd start)\n"
    )


@pytest.mark.parametrize("name", ["fix.txt", ".fix.md", "~fix.md", "fix\x1b[2J.md", "fix\u202e.md"])
def test_a_name_that_the_inbox_does_not_take_is_refused_with_the_form(
    name: str, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("do it")

    codes = [factory([command, str(tmp_path / name)]) for command in ("add", "check")]

    assert codes == [2, 1]
    assert capsys.readouterr().err.count("the correct form: fix") == 2
    assert inbox(line) == {}


def test_standard_input_is_named_after_its_title_and_replaces_nothing(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.unit("fix-it", UnitState.READY)
    (line.root / ".factory" / "intake").mkdir()
    (line.root / ".factory" / "intake" / "x1-fix-it-2.md").touch()

    for _ in range(2):
        say_on_stdin(monkeypatch, b"# Fix it\nplease")
        assert factory(["add", "-"]) == 0

    assert inbox(line) == dict.fromkeys(("fix-it-3.md", "fix-it-4.md"), "# Fix it\nplease")


@pytest.mark.parametrize(
    ("name", "text", "unit"),
    [
        ("日本語.md", "# Fix 日本語", "fix: Fix 日本語"),
        ("日本語.md", "文書", "unit-0001: 日本語"),
        ("a  b.md", "文書", "a-b: a  b"),
    ],
)
def test_check_says_the_id_of_a_file_with_a_name_in_another_script(
    name: str, text: str, unit: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text(text)

    factory(["check", name])

    assert capsys.readouterr().out.splitlines()[0] == unit


def test_standard_input_with_a_title_in_another_script_is_kept_too(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.unit("unit-0001", UnitState.READY)
    for text in ("# 日本語", "# 中文"):
        say_on_stdin(monkeypatch, text.encode())
        factory(["add", "-"])

    assert inbox(line) == {"unit-0002.md": "# 日本語", "unit-0003.md": "# 中文"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"---\nprio: 1\n---\nx", "bad.md:2: unknown key"),
        (b"\xff\xfe", "UTF-8"),
        (b"---\npriority: 1\n", "never closed"),
    ],
)
def test_a_bad_file_is_refused_with_its_line_and_nothing_is_dropped(
    raw: bytes, said: str, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.md").write_bytes(raw)

    code = factory(["add", str(tmp_path / "bad.md")])

    err = capsys.readouterr().err
    assert code == 2
    assert said in err
    assert "the correct form: " in err
    assert inbox(line) == {}


def test_a_missing_file_and_a_folder_are_said_in_plain_words(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (line.root / "folder.md").mkdir()

    names = ("nowhere", "nowhere.md", "folder.md")

    codes = [factory([command, name]) for command in ("add", "check") for name in names]

    missing = [f"factory: {name}: No such file or directory" for name in names[:2]]
    said = [*missing, "factory: folder.md: Is a directory"] * 2
    assert (codes, capsys.readouterr().err.splitlines()) == ([1] * 6, said)


def test_an_inbox_that_cannot_be_written_to_is_said_in_plain_words(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fix.md").write_text("do it")
    (line.root / "inbox").write_text("no folder")

    code = factory(["add", str(tmp_path / "fix.md")])

    err = capsys.readouterr().err
    assert code == 1
    assert "nothing was dropped: " in err
    assert "Errno" not in err


def test_with_the_daemon_up_it_says_which_unit_it_became(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fix.md").write_text("do it")
    drop = add._drop

    def drop_and_take(inbox: Path, name: str, text: str) -> None:
        drop(inbox, name, text)
        line.unit("other", UnitState.READY)
        line.unit("fix", UnitState.READY)

    monkeypatch.setattr(add, "_drop", drop_and_take)
    with line.daemon():
        code = factory(["add", str(tmp_path / "fix.md")])

    assert (code, capsys.readouterr().out) == (0, "accepted: fix\n")


def test_with_a_busy_daemon_it_does_not_wait_for_ever(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fix.md").write_text("do it")
    monkeypatch.setattr(ask, "WAIT_S", 0.02)

    with line.daemon():
        code = factory(["add", str(tmp_path / "fix.md")])

    assert code == 0
    assert "takes it soon" in capsys.readouterr().out


def test_check_says_what_a_file_would_become(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("add-users", UnitState.LANDED)
    (tmp_path / "Fix Login.md").write_text(
        "---\nneeds: [add-users]\ntitle: fix: the  login #12\nrun: make: x # all\n---\n"
    )

    code = factory(["check", str(tmp_path / "Fix Login.md")])

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        "fix-login: fix: the  login #12",
        "runs: make: x # all",
        "it would be accepted",
    ]


def test_a_need_that_is_no_unit_is_remarked_on(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("add-users", UnitState.READY)
    (line.root / "inbox").mkdir()
    (line.root / "inbox" / "Waiting One.md").write_text("x")
    (tmp_path / "a.md").write_text("---\nneeds: [add-user, waiting-one, zebra, zebra]\n---\nx")

    codes = [factory([command, str(tmp_path / "a.md")]) for command in ("check", "add")]

    remarks = [
        "! there is no unit 'add-user' yet: did you mean add-users?",
        "! there is no unit 'zebra' yet",
        "  this unit waits until they have landed",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert codes == [0, 0]
    assert lines[2:5] == remarks
    assert lines[6:] == remarks


def test_an_agent_that_nobody_knows_is_remarked_on(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("inferred", {"runtimes": ["claude", "codex"]})
    for name in ("claud", "codex"):
        (tmp_path / f"{name}.md").write_text(f"---\nagent: {name}\n---\nx\n")

    asked = [
        (command, str(tmp_path / f"{name}.md"))
        for command in ("check", "add")
        for name in ("claud", "codex")
    ]
    codes = [factory(each) for each in asked]

    remark = "! there is no runtime 'claud' yet: did you mean claude?"
    assert (codes, capsys.readouterr().out.splitlines().count(remark)) == ([0] * 4, 2)


def test_check_says_no_to_a_bad_file_a_link_and_a_missing_one(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.md").write_text("---\npriority: 9\n---\nx")
    (tmp_path / "link.md").symlink_to("bad.md")

    codes = [factory(["check", str(tmp_path / name)]) for name in ("bad.md", "link.md", "none.md")]

    assert codes == [1, 1, 1]
    assert "bad.md:2: priority" in capsys.readouterr().err


def test_check_works_without_a_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("---\nneeds: b\n---\nx")

    assert factory(["check", "a.md"]) == 0
    assert capsys.readouterr().out.endswith("it would be accepted\n")
