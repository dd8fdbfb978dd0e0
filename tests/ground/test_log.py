"""The daemon's log file, read back as the JSON lines that it is."""

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.ground import log as module
from factory.ground.log import Log, bound, log


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path / "daemon.log", cap_bytes=8000)
    yield opened
    opened.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "daemon.log").read_text().splitlines()]


def test_a_line_holds_its_event_its_fields_and_what_was_bound(opened: Log, tmp_path: Path) -> None:
    with bound(unit="fix-login", attempt=2, worker="w1"):
        log.info("merge.landed", commit="abc", path=Path("x/y"))
    log.warning("hook.overdue")

    landed, overdue = lines(tmp_path)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", landed.pop("at"))
    assert landed == {
        "event": "merge.landed",
        "level": "info",
        "commit": "abc",
        "path": "x/y",
        "unit": "fix-login",
        "attempt": 2,
        "worker": "w1",
    }
    assert {name: overdue[name] for name in overdue if name != "at"} == {
        "event": "hook.overdue",
        "level": "warning",
    }


def test_hidden_values_are_nowhere_in_the_file_not_even_in_a_traceback(
    opened: Log, tmp_path: Path
) -> None:
    opened.hide(["s3cret-token", "1"])

    log.info(
        "env.read",
        token="s3cret-token",
        nested={"s3cret-token": ["xs3cret-tokenx"]},
        count=1,
        note=None,
    )
    try:
        raise ValueError("s3cret-token is not valid")
    except ValueError:
        log.exception("tick.failed")
    logging.getLogger("library").warning("got %s", "s3cret-token")

    text = (tmp_path / "daemon.log").read_text()
    assert "s3cret" not in text
    first, second, third = lines(tmp_path)
    assert (first["token"], first["nested"], first["count"], first["note"]) == (
        "***",
        {"***": ["x***x"]},
        1,
        None,
    )
    assert second["exception"].endswith("ValueError: *** is not valid")
    assert (third["event"], third["logger"]) == ("got ***", "library")


def test_what_libraries_chat_about_below_a_warning_is_left_out(opened: Log, tmp_path: Path) -> None:
    logging.getLogger("library").info("hello")
    log.debug("tick.ended")

    assert lines(tmp_path) == []


def test_the_files_stay_below_their_cap_and_the_newest_lines_are_kept(
    opened: Log, tmp_path: Path
) -> None:
    for number in range(500):
        log.info("tick.ended", number=number)

    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"daemon.log", "daemon.log.1"}
    assert sum(sizes.values()) <= 8000
    assert lines(tmp_path)[-1]["number"] == 499


def test_a_name_that_is_not_text_does_not_break_a_line(opened: Log, tmp_path: Path) -> None:
    log.info("file.seen", name="x\udcff", other=object)

    assert lines(tmp_path)[0]["name"] == "x\udcff"


def test_without_an_open_log_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    log.error("tick.failed")

    assert capfd.readouterr() == ("", "")


def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    opened = Log(tmp_path / "daemon.log")
    opened.close()

    log.error("tick.failed")

    assert lines(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_stop_the_line(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").symlink_to("/dev/full")
    opened = Log(tmp_path / "daemon.log", cap_bytes=0)

    log.error("tick.failed")

    opened.close()


def test_every_event_in_the_log_is_in_the_table() -> None:
    table = {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    said = [
        each for path in Path(module.__file__).parents[1].rglob("*.py") for each in _events(path)
    ]

    assert [value for value in table.values() if not re.fullmatch("[a-z_]+[.][a-z_]+", value)] == []
    assert len(set(table.values())) == len(table)
    assert [each for each in said if each not in table and not each.startswith("Event.")] == []


def _events(path: Path) -> Iterator[str]:
    """The names that calls of `log` in a module give to their events; the text of an event written out."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id="log"), attr="info" | "warning" | "error" | "exception"
                ),
                args=[ast.IfExp(body=one, orelse=other), *_],
            ):
                yield from (ast.unparse(one), ast.unparse(other))
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id="log"), attr="info" | "warning" | "error" | "exception"
                ),
                args=[event, *_],
            ):
                yield ast.unparse(event)
