"""What `--json` prints is what docs/json/ says, and docs/json/ is what the rows say."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import schemas
from factory.cli import parsers
from factory.cli.main import factory
from factory.ground import settings, settings_file
from factory.store.journal import Event
from factory.store.records import Clash, Remark, Request, Verdict
from factory.store.sqlite import SqliteStore
from factory.store.states import UnitState
from factory.store.unit import EndReason
from tests import printed
from tests.cli_line import NOW, Line

STORES = Path(__file__).parent / "stores"
NAMES = (
    "attempt",
    "heard",
    "number",
    "pid",
    "position",
    "priority",
    "request",
    "seq",
)  # no quantities


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FACTORY__")]:
        monkeypatch.delenv(name)
    return Line(tmp_path)


def printed_by(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    code = factory([*argv, "--json"])
    out = capsys.readouterr().out
    assert code == 0
    return json.loads(out)


def check_all(capsys: pytest.CaptureFixture[str], units: list[str], cards: list[str]) -> None:
    """Check what every command prints that reads the store."""
    printed.check("status", printed_by(capsys, "status"))
    printed.check("list", printed_by(capsys, "list"))
    printed.check("config", printed_by(capsys, "config"))
    for unit in units:
        printed.check("show-unit", printed_by(capsys, "show", unit))
        printed.check("why", printed_by(capsys, "why", unit))
    for card in cards:
        printed.check("show-card", printed_by(capsys, "show", card))
    assert factory(["log", "--json"]) == 0
    for text in capsys.readouterr().out.splitlines():
        printed.check("log", json.loads(text))


# ── the schemas ──


def test_the_schemas_are_those_of_the_rows() -> None:
    there = {path: path.read_text(encoding="utf-8") for path in schemas.FOLDER.glob("*.json")}

    assert there == schemas.texts(), "make schemas"


def test_every_command_with_json_has_a_schema() -> None:
    with_json = set()
    for program in parsers.PROGRAMS:
        for name in parsers.declarations(program):
            if "--json" in parsers.usage(parsers.make(program, name)):
                with_json.add(name)

    assert with_json == {name.partition("-")[0] for name in schemas.PRINTED}


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema.get("type"), str):
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def is_number(schema: dict[str, Any]) -> bool:
    kinds = [schema, *schema.get("anyOf", [])]
    return any(kind.get("type") in ("integer", "number") for kind in kinds)


@pytest.mark.parametrize("name", sorted(schemas.PRINTED))
def test_every_key_is_described_has_a_unit_if_it_counts_and_no_other_key_is_allowed(
    name: str,
) -> None:
    schema = printed.validator(name).schema

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for each in objects(schema):
        assert each["additionalProperties"] is False
        for key, value in each["properties"].items():
            assert value["description"], key
            if is_number(value) and key not in NAMES and each.get("unit") is None:
                assert value.get("unit"), key


# ── what is printed ──


def test_of_an_empty_store_everything_is_as_the_schemas_say(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    check_all(capsys, [], [])


def test_without_a_store_the_config_is_printed_and_is_as_its_schema_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)

    printed.check("config", printed_by(capsys, "config"))
    printed.check("config-guards", printed_by(capsys, "config", "--guards"))
    assert factory(["status", "--json"]) == 1


def test_a_damaged_store_gives_no_json_but_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".factory").mkdir()
    (tmp_path / ".factory" / "store.sqlite").write_bytes(b"no store at all" * 100)
    monkeypatch.chdir(tmp_path)

    assert factory(["status", "--json"]) == 1

    told = capsys.readouterr()
    assert told.out == ""
    assert "cannot be" in told.err


@pytest.mark.parametrize("state", UnitState)
def test_a_unit_in_each_state_is_as_the_schemas_say(
    line: Line, capsys: pytest.CaptureFixture[str], state: UnitState
) -> None:
    landed: dict[str, Any] = {}
    if state is UnitState.LANDED:
        landed = {"commit": "a" * 40, "landed": NOW}
    line.unit("one", state, needs=("two",), attempt=2, not_before=NOW, **landed)
    line.unit("two", UnitState.RUNNING)
    for number, reason in enumerate(EndReason, start=1):
        line.attempt("one", number, end=NOW, reason=reason, left_out=(".GIT/x",), day="2026-01-01")
    clash = Clash(unit="one", commit="a" * 40, title="One")
    line.attempt("two", 1, reserved_usd=1.5, clashes=(clash,))
    line.hook("w1", "two", 1)
    line.hook("w2")
    verdict = Verdict(key="k", gate="g", tree="t", ok=True, settled=True, at=NOW, seconds=1.5)
    line.store.write(Event.VERDICT_GIVEN, verdict, now=NOW, unit="one", gate="g", ok=True)
    remark = Remark(unit="one", seq=1, who="person", kind="tell", text="hurry", at=NOW)
    line.store.write(Event.UNIT_TOLD, remark, now=NOW, unit="one", kind="tell", who="person")
    line.card("E1", "one", deadline=NOW, default="1")
    line.card("E2", state="closed", closed=NOW, answer="Redis", closed_why="answered")

    check_all(capsys, ["one", "two"], ["E1", "E2"])


@pytest.mark.parametrize("paused", [False, True])
def test_with_the_daemon_up_everything_is_as_the_schemas_say(
    line: Line, capsys: pytest.CaptureFixture[str], paused: bool
) -> None:
    told = settings.explain(
        settings_file.load(line.root / "factory.toml", {"FACTORY__BUDGET__DAY_USD": "5"})
    )
    line.fact(
        "config", {key: {"value": value, "source": source} for key, (value, source) in told.items()}
    )
    line.fact("sandbox", {"mode": "off", "says": "unsandboxed"})
    line.fact(
        "trunk",
        {"branch": "main", "commit": "c", "state": "judging", "gates_red": [], "missing": []},
    )
    line.fact("paused", {"by": "you", "since": "2026-01-01T00:00:00Z"} if paused else None)
    line.fact(
        "inferred",
        {
            "gates": [{"name": "test", "command": "pytest", "reason": "pyproject.toml"}],
            "setup": {"kind": "uv", "reason": "uv.lock"},
            "agents": ["claude"],
            "runtimes": ["claude", "codex"],
            "agent": "claude",
        },
    )

    with line.daemon():
        seen = printed_by(capsys, "status")
        check_all(capsys, [], [])

    assert seen["daemon"]["state"] == "running"
    assert seen["budget"]["day_usd"] == 5.0
    printed.check("status", seen)


def test_requests_in_the_journal_are_as_the_schema_says(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("one", UnitState.HELD)
    line.card("E1", "one")
    for argv in (["answer", "E1", "2"], ["tell", "one", "hurry"], ["retry", "one"], ["pause"]):
        assert factory(argv) == 0
    capsys.readouterr()

    check_all(capsys, ["one"], ["E1"])

    assert [request.kind for request in line.store.select(Request)] == [
        "answer",
        "tell",
        "retry",
        "pause",
    ]


def test_a_line_that_a_real_daemon_brought_into_every_state_is_as_the_schemas_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(STORES / "format-3.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    (store,) = tmp_path.rglob("store.sqlite")
    SqliteStore(store).close()  # it is brought up to date
    monkeypatch.chdir(store.parents[1])

    seen = printed_by(capsys, "status")

    units = [unit["id"] for unit in seen["units_open"]]
    units += [unit["unit"] for unit in seen["last_landed"]]
    check_all(capsys, units, [card["id"] for card in seen["escalations"]])
    assert {unit["state"] for unit in seen["units_open"]} == {
        "waiting",
        "ready",
        "running",
        "queued",
        "held",
    }
