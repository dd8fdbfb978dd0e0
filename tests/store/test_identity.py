"""Whose a store is: the same, a moved or a copied one; and what is never given out twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from factory.ground.places import Places
from factory.store import names
from factory.store.high_water import HighWater, Marks
from factory.store.identity import (
    Found,
    Identity,
    compare,
    here,
    is_nonce_of,
    is_same_place,
    new_nonce,
    record,
    recorded,
)
from factory.store.journal import Event
from factory.store.unit import Unit, UnitState
from tests.journal import entries_of
from tests.memory_store import MemoryStore
from tests.store_contract import NOW

KNOWN = Identity(id="aa", root="/old", git_dir="/old/.git", device=1, inode=7)
NEW_PATH = replace(KNOWN, root="/new", git_dir="/new/.git")
ANOTHER = replace(NEW_PATH, inode=8)
OLDER_RELEASE = replace(KNOWN, id="", device=0, inode=0)


@pytest.mark.parametrize(
    ("known", "now", "other", "found"),
    [
        (KNOWN, NEW_PATH, "", Found.MOVED),
        (
            KNOWN,
            NEW_PATH,
            "aa",
            Found.MOVED,
        ),  # a folder that can be seen under two paths: the same inode
        (KNOWN, ANOTHER, "", Found.MOVED),  # to another disk
        (KNOWN, ANOTHER, "aa", Found.COPIED),
        (KNOWN, ANOTHER, None, Found.COPIED),  # nobody can tell
        (KNOWN, ANOTHER, "bb", Found.MOVED),  # another factory took its place there
        (
            KNOWN,
            replace(KNOWN, root="/new"),
            "aa",
            Found.COPIED,
        ),  # a working tree of the same repository
        (KNOWN, replace(KNOWN, root="/new"), "", Found.MOVED),
        (OLDER_RELEASE, ANOTHER, "", Found.MOVED),
        (
            OLDER_RELEASE,
            ANOTHER,
            "bb",
            Found.COPIED,
        ),  # the original may have been brought up to date first
        (OLDER_RELEASE, ANOTHER, None, Found.COPIED),
    ],
)
def test_a_store_that_is_used_elsewhere_was_moved_or_copied(
    known: Identity, now: Identity, other: str | None, found: Found
) -> None:
    assert compare(known, now, other=other) is found


def test_a_folder_that_was_restored_in_its_place_is_the_same_place() -> None:
    assert is_same_place(KNOWN, replace(KNOWN, device=2, inode=9))
    assert not is_same_place(KNOWN, NEW_PATH)


def test_what_is_recorded_is_read_again_and_journaled_once(tmp_path: Path) -> None:
    store = MemoryStore()
    (tmp_path / ".git").mkdir()
    identity = here(tmp_path, tmp_path / ".git", tmp_path / "work", identity="aa")

    for _ in range(2):
        record(store, identity, now=NOW)

    assert recorded(store) == identity
    assert [entry.event for entry in entries_of(store)] == [Event.FACT_CHANGED]


def test_each_nonce_is_another_one_and_tells_whose_it_is(tmp_path: Path) -> None:
    store = MemoryStore()
    record(store, KNOWN, now=NOW)

    nonces = {new_nonce(store) for _ in range(100)}

    assert len(nonces) == 100
    assert all(is_nonce_of("aa", nonce) for nonce in nonces)
    assert not any(is_nonce_of("a", nonce) or is_nonce_of("", nonce) for nonce in nonces)


# ── numbers ──


def test_a_card_number_is_never_given_out_twice(tmp_path: Path) -> None:
    marks = HighWater(tmp_path / "marks")

    given = [marks.next_card(0), marks.next_card(1), marks.next_card(0), marks.next_card(9)]

    assert given == [1, 2, 3, 10]
    assert HighWater(tmp_path / "marks").read() == Marks(card=10)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seq": "x", "card": 1}', b"\xff"])
def test_marks_that_cannot_be_read_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "marks").write_bytes(content)

    assert HighWater(tmp_path / "marks").read() == Marks()
    assert HighWater(tmp_path / "marks").next_card(4) == 5


def test_where_marks_cannot_be_written_the_numbers_on_record_count(tmp_path: Path) -> None:
    marks = HighWater(tmp_path / "no folder" / "marks")

    assert [marks.next_card(0), marks.next_card(1)] == [1, 2]


# ── names ──


@pytest.fixture
def where(tmp_path: Path) -> Places:
    return Places(root=tmp_path, common_dir=tmp_path / ".git", work=tmp_path / "work")


def test_an_id_is_taken_by_a_unit_a_run_dir_or_another_life(where: Places) -> None:
    store = MemoryStore()
    unit = Unit(id="mine", title="", state=UnitState.READY, since=NOW, accepted=NOW)
    store.write(Event.TASK_ACCEPTED, unit, now=NOW)
    where.unit_dir("on-disk").mkdir(parents=True)
    names.add(store, ["on-trunk", "mine"], now=NOW)

    taken = {
        name: names.is_taken(store, where, name) for name in ("mine", "on-disk", "on-trunk", "free")
    }

    assert taken == {"mine": True, "on-disk": True, "on-trunk": True, "free": False}
    assert not names.was_here(store, "mine"), "it is a unit of this life"


def test_the_same_names_again_are_not_journaled_again(where: Places) -> None:
    store = MemoryStore()
    for found in (["a"], ["a"], ["b", "a"]):
        names.add(store, found, now=NOW)

    assert len(list(entries_of(store))) == 2
    assert names.was_here(store, "a")
    assert names.was_here(store, "b")
