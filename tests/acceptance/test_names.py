"""The factory's folders under their hidden names."""

from pathlib import Path

import pytest

from factory.store.records import CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line, files, task

MINE = {"inbox/models.txt": "a model\n", "inbox/__init__.py": ""}
HIDDEN = {
    f".{name}" if name.startswith("conventions/") else name: text for name, text in files().items()
}


def hidden_drop(line: Line, name: str, code: str) -> str:
    line.drop(name, code)
    (line.root / f"inbox/{name}.md").replace(line.root / f".inbox/{name}.md")
    return name


def test_a_project_with_a_package_called_inbox_keeps_it_and_works_with_the_hidden_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(tmp_path, HIDDEN | MINE | {"conventions/naming.txt": "the project's own\n"})
    for name, value in line.environment().items():
        monkeypatch.setenv(name, value)
    try:
        code, said = line.factoryd("start")
        try:
            assert code == 0
            assert "Task files go into .inbox/, because inbox/ is the project's own." in said
            assert f"drop task files into {line.root}/.inbox/" in said
            assert line.status()["inbox"] == ".inbox"
            assert line.git("status", "--porcelain") == ""

            file = line.root.parent / "grow.md"
            file.write_text(
                task(
                    'write("inbox/models.txt", "two models"); write("conventions/naming.txt", "x")'
                )
            )
            assert "accepted: grow" in line.factory("add", str(file))[1]
            line.unit("grow")
            assert line.git("show", "main:inbox/models.txt") == "two models"

            hidden_drop(line, "meddles", 'write(".inbox/x.md", "do it")')
            line.unit("meddles", UnitState.HELD)
            assert line.card(CardKind.OUT_OF_SCOPE).units == ("meddles",)
            hidden_drop(line, "weakens", 'write(".conventions/gates/10-whole.sh", "true")')
            line.unit("weakens", UnitState.HELD)
            assert line.card(CardKind.GUARD).units == ("weakens",)
            hidden_drop(line, "breaks", 'write("a.txt", "BROKEN" if attempt == 1 else "fine")')
            line.unit("breaks")
            assert line.attempts("breaks") == ["gate_red", "submitted"]
            (line.root / ".inbox/bad.md").write_text("---\npriority: high\n---\nx\n")
            line.until("it is refused", (line.root / ".inbox/rejected/bad.md.error.txt").exists)
        finally:
            line.factoryd("stop", "--now")
    finally:
        line.close()


def test_two_inboxes_with_something_in_them_are_refused_at_start(cold: Line) -> None:
    for name in ("inbox", ".inbox"):
        (cold.root / name).mkdir()
        (cold.root / name / "a.md").write_text("do it")

    code, said = cold.refused()

    assert code == 1
    assert "Both inbox/ and .inbox/ hold files in the checkout" in said
    assert not (cold.root / ".factory").exists()
