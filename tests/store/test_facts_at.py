"""Single facts of a store that nobody has open."""

import json
from datetime import UTC, datetime
from pathlib import Path

from factory.store.facts_at import identity_at, remembered_trunk
from factory.store.journal import Event
from factory.store.records import Fact
from factory.store.sqlite import SqliteStore

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def told(root: Path, **facts: object) -> None:
    """A store at `root` that holds these facts."""
    (root / ".factory").mkdir()
    store = SqliteStore(root / ".factory" / "store.sqlite")
    for name, value in facts.items():
        store.write(Event.FACT_CHANGED, Fact(name=name, value=json.dumps(value)), now=NOW)
    store.close()


def test_the_trunk_of_earlier_starts_is_remembered_and_without_any_there_is_none(
    tmp_path: Path,
) -> None:
    assert remembered_trunk(str(tmp_path)) == ""
    told(tmp_path, trunk={"branch": "main", "commit": "c0"})

    assert remembered_trunk(str(tmp_path)) == "main"


def test_the_identity_of_a_store_is_told_from_no_store_and_from_an_unknown_one(
    tmp_path: Path,
) -> None:
    known, old, odd = tmp_path / "known", tmp_path / "old", tmp_path / "odd"
    for root in (known, old, odd):
        root.mkdir()
    told(known, identity={"id": "0123abcd", "root": "/r", "git_dir": "/r/.git"})
    told(old)
    (odd / ".factory").mkdir()
    (odd / ".factory" / "store.sqlite").write_text("no database")

    assert identity_at(str(known)) == "0123abcd"
    assert identity_at(str(tmp_path)) == ""
    assert identity_at(str(old)) is None
    assert identity_at(str(odd)) is None
