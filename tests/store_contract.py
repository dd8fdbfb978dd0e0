"""What every store must do: inherited by a test class per implementation, which gives a `store` fixture."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from factory.ground.errors import Fenced
from factory.store import story
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import (
    HINTS,
    KEYS,
    Attempt,
    Card,
    CardKind,
    Clash,
    Fact,
    Hook,
    Option,
    Record,
    Remark,
    Request,
    Step,
    Task,
    Verdict,
    kind_name,
    to_row,
)
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit, UnitState
from tests.finished import fill
from tests.journal import Entry, State, entries_of, fold
from tests.memory_store import key_of

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
READY = Unit(id="fix-login", title="Fix the login", state=UnitState.READY, since=NOW, accepted=NOW)
ATTEMPT = Attempt(unit="fix-login", number=1, worker="w1", agent="claude", start=NOW)
CARD = Card(
    id="E1", kind=CardKind.QUESTION, fingerprint="q:fix-login", since=NOW, question="Which one?"
)
ONE_OF_EACH: tuple[Record, ...] = (
    replace(
        READY,
        needs=("a", "b"),
        scope=("src/**",),
        not_before=NOW,
        landed=None,
        resume=True,
        attempt=1,
    ),
    Spec(
        unit="fix-login",
        name="fix-login.md",
        source="k3-fix-login.md",
        title="Fix „jetzt“",
        priority=1,
        accept=("make check",),
        attempts=2,
        minutes=45.0,
        ignored=("model",),
    ),
    Task(unit="fix-login", text="# Fix\n\nthe login — „jetzt“\x00\n"),
    replace(
        ATTEMPT, end=NOW, reason=EndReason.GATE_RED, cost_usd=0.25, tokens_input=12, resumed=True
    ),
    Hook(
        worker="w1",
        index=0,
        unit="fix-login",
        attempt=1,
        state="running",
        phase="working",
        since=NOW,
    ),
    replace(
        CARD,
        units=("fix-login",),
        options=(Option(key="1", label="left", effect="goes left", action="a"),),
    ),
    Remark(unit="fix-login", seq=1, who="person", kind="answer", text="left", at=NOW),
    Verdict(key="k", gate="20-test", tree="t", ok=True, settled=True, at=NOW, seconds=1.5),
    Step(id="s1", kind="landing", data="{}", at=NOW),
    Request(id=1, kind="pause", args="{}", at=NOW),
    Fact(name="trunk", value='{"branch": "main"}'),
)


def tables(store: Store) -> State:
    """Every row of the store, in the form that fold gives."""
    records: list[Record] = []
    for kind in KEYS:
        found: Any = store.select(kind)
        records += found
    return {(kind_name(type(record)), key_of(record)): to_row(record) for record in records}


def of_kind(kind: type[Record], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any record of the kind; some fields drawn as said."""
    return st.builds(
        kind, **{name: fixed.get(name, _values(hint)) for name, hint in HINTS[kind].items()}
    )


def _values(hint: Any) -> st.SearchStrategy[Any]:
    text = st.text(max_size=8)
    known: dict[Any, st.SearchStrategy[Any]] = {
        str: text,
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        datetime: st.datetimes(timezones=st.just(UTC)),
        tuple[str, ...]: st.lists(text, max_size=3).map(tuple),
        tuple[Clash, ...]: st.lists(st.builds(Clash), max_size=2).map(tuple),
        tuple[Option, ...]: st.lists(st.builds(Option), max_size=2).map(tuple),
    }
    for plain in (datetime, EndReason, int, float):
        known[plain | None] = st.none() | known.get(plain, st.sampled_from(EndReason))
    return known[hint] if hint in known else st.sampled_from(hint)


class Undone(Exception):
    """What is raised inside a transaction to undo it."""


class StoreContract:
    """Sentences that hold for any ports.Store."""

    @pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: kind_name(type(record)))
    def test_every_kind_of_record_comes_back_as_it_was_written(
        self, store: Store, record: Record
    ) -> None:
        store.write(Event.FACT_CHANGED, record, now=NOW)

        kind: Any = type(record)
        key: tuple[Any, ...] = key_of(record)
        assert store.get(kind, *key) == record
        assert store.select(kind) == [record]

    def test_what_is_not_there_is_none_or_empty(self, store: Store) -> None:
        assert store.get(Unit, "nobody") is None
        assert store.get(Attempt, "nobody", 1) is None
        assert store.open(Unit) == []
        assert store.select(Card, unit="nobody") == []
        assert list(entries_of(store)) == []

    def test_a_later_write_of_the_same_key_replaces_the_record(self, store: Store) -> None:
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)
        store.write(Event.UNIT_HELD, held := replace(READY, state=UnitState.HELD), now=NOW)

        assert store.select(Unit) == [held]

    def test_the_journal_says_what_happened_with_the_rows_it_changed(self, store: Store) -> None:
        later = NOW + timedelta(seconds=1)

        first = store.write(
            Event.TASK_ACCEPTED, READY, now=NOW, unit="fix-login", file="fix-login.md"
        )
        second = store.write(
            Event.ATTEMPT_NOTED, now=later, unit="other", attempt=2, worker="w1", seen=NOW, n=(1, 2)
        )

        assert list(entries_of(store)) == [
            Entry(
                seq=first,
                at=NOW,
                event=Event.TASK_ACCEPTED,
                unit="fix-login",
                detail={"file": "fix-login.md"},
                changes=(("unit", to_row(READY)),),
            ),
            Entry(
                seq=second,
                at=later,
                event=Event.ATTEMPT_NOTED,
                unit="other",
                attempt=2,
                worker="w1",
                detail={"seen": "2026-03-04T05:06:07.891011Z", "n": [1, 2]},
                changes=(),
            ),
        ]

    def test_the_journal_can_be_read_from_a_place_and_for_one_unit(self, store: Store) -> None:
        seqs = [store.write(Event.UNIT_READY, now=NOW, unit=unit) for unit in ("a", "b", "a")]

        assert [entry.seq for entry in entries_of(store, after=seqs[0])] == seqs[1:]
        assert [entry.seq for entry in entries_of(store, unit="a")] == [seqs[0], seqs[2]]
        assert [entry.seq for entry in entries_of(store, after=seqs[0], unit="a")] == [seqs[2]]
        assert list(entries_of(store, after=seqs[2])) == []

    def test_a_long_journal_is_read_whole(self, store: Store) -> None:
        with store.transaction():
            seqs = [store.write(Event.UNIT_READY, now=NOW, unit="a") for _ in range(1201)]

        assert [entry.seq for entry in entries_of(store)] == seqs

    def test_open_gives_the_unfinished_ones_by_key(self, store: Store) -> None:
        units = [replace(READY, id=f"u-{state}", state=state) for state in UnitState]
        store.write(
            Event.FACT_CHANGED,
            *reversed(units),
            CARD,
            replace(CARD, id="E2", state="closed"),
            replace(ATTEMPT, end=NOW),
            running := replace(ATTEMPT, number=2),
            Step(id="s1", kind="landing", data="{}", at=NOW, done=True),
            step := Step(id="s2", kind="landing", data="{}", at=NOW),
            Request(id=1, kind="pause", args="{}", at=NOW, state="refused"),
            request := Request(id=2, kind="pause", args="{}", at=NOW),
            now=NOW,
        )

        assert [unit.state for unit in store.open(Unit)] == [
            "held",
            "queued",
            "ready",
            "running",
            "waiting",
        ]
        assert store.open(Card) == [CARD]
        assert store.open(Attempt) == [running]
        assert store.open(Step) == [step]
        assert store.open(Request) == [request]

    def test_open_gives_all_of_a_kind_that_never_finishes(self, store: Store) -> None:
        facts = [Fact(name="a", value="1"), Fact(name="b", value="2")]
        store.write(Event.FACT_CHANGED, *facts, now=NOW)

        assert store.open(Fact) == facts

    def test_numbered_keys_sort_as_numbers(self, store: Store) -> None:
        attempts = [replace(ATTEMPT, number=number) for number in (10, 9, 2)]
        store.write(Event.ATTEMPT_STARTED, *attempts, now=NOW)

        assert [attempt.number for attempt in store.select(Attempt, unit="fix-login")] == [2, 9, 10]

    def test_select_takes_several_columns_and_states(self, store: Store) -> None:
        store.write(
            Event.CARD_RAISED, CARD, answered := replace(CARD, id="E2", state="closed"), now=NOW
        )

        assert store.select(Card, fingerprint="q:fix-login", state="closed") == [answered]
        assert store.select(Card, kind=CardKind.QUESTION, count=1) == [CARD, answered]

    def test_select_takes_any_of_a_set_however_many_there_are(self, store: Store) -> None:
        others = [replace(ATTEMPT, unit=f"u{number}", day="d") for number in (1, 2, 3)]
        store.write(Event.ATTEMPT_STARTED, *others, now=NOW)
        many = frozenset(f"x{number}" for number in range(40_000))

        assert store.select(Attempt, unit=many | {"u3", "u1"}) == [others[0], others[2]]
        assert store.select(Attempt, unit=frozenset({"u2"}), day="d") == [others[1]]
        assert store.select(Attempt, unit=frozenset()) == []

    def test_newest_gives_the_last_written_first_and_no_more_than_asked(self, store: Store) -> None:
        for number in range(1, 6):
            card = replace(CARD, id=f"E{number}", unit="a" if number % 2 else "b")
            store.write(Event.CARD_RAISED, card, now=NOW)
        store.write(Event.CARD_CLOSED, replace(CARD, state="closed", unit="a"), now=NOW)

        assert [card.id for card in store.newest(Card, 2)] == ["E5", "E4"]
        assert [card.id for card in store.newest(Card, 9, unit="a")] == ["E5", "E3", "E1"]
        assert store.newest(Card, 0) == []

    def test_select_refuses_a_column_that_the_kind_lacks(self, store: Store) -> None:
        with pytest.raises(TypeError, match="a unit has no colour"):
            store.select(Unit, colour="red")

    def test_an_exception_undoes_the_whole_transaction(self, store: Store) -> None:
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)
        before = tables(store), list(entries_of(store))

        with suppress(Undone), store.transaction():
            store.write(Event.UNIT_HELD, replace(READY, state=UnitState.HELD), now=NOW)
            store.write(Event.CARD_RAISED, CARD, now=NOW)
            raise Undone

        assert (tables(store), list(entries_of(store))) == before

    def test_an_inner_transaction_is_undone_alone(self, store: Store) -> None:
        with store.transaction():
            store.write(Event.TASK_ACCEPTED, READY, now=NOW)
            with suppress(Undone), store.transaction():
                store.write(Event.CARD_RAISED, CARD, now=NOW)
                raise Undone
            store.write(Event.ATTEMPT_STARTED, ATTEMPT, now=NOW)

        assert [entry.event for entry in entries_of(store)] == [
            Event.TASK_ACCEPTED,
            Event.ATTEMPT_STARTED,
        ]
        assert store.select(Card) == []

    def test_an_outer_exception_undoes_a_finished_inner_transaction(self, store: Store) -> None:
        with suppress(Undone), store.transaction():
            with store.transaction():
                store.write(Event.TASK_ACCEPTED, READY, now=NOW)
            raise Undone

        assert tables(store) == {}

    def test_a_transaction_reads_its_own_writes(self, store: Store) -> None:
        with store.transaction():
            store.write(Event.TASK_ACCEPTED, READY, now=NOW)

            assert store.get(Unit, "fix-login") == READY

    def test_the_newest_attempt_passes_the_fence(self, store: Store) -> None:
        store.write(Event.HOOK_FILLED, replace(READY, attempt=2), now=NOW)

        store.write(
            Event.ATTEMPT_NOTED,
            noted := replace(ATTEMPT, number=2),
            now=NOW,
            unit="fix-login",
            attempt=2,
            fence=True,
        )

        assert store.select(Attempt) == [noted]

    @pytest.mark.parametrize(
        ("unit", "attempt"), [("fix-login", 1), ("fix-login", 3), ("nobody", 0)]
    )
    def test_any_other_attempt_is_fenced_and_writes_nothing(
        self, store: Store, unit: str, attempt: int
    ) -> None:
        store.write(Event.HOOK_FILLED, replace(READY, attempt=2), now=NOW)
        before = tables(store), list(entries_of(store))

        with pytest.raises(Fenced, match=f"Attempt {attempt} is not the newest of {unit}"):
            store.write(
                Event.ATTEMPT_ENDED, ATTEMPT, now=NOW, unit=unit, attempt=attempt, fence=True
            )

        assert (tables(store), list(entries_of(store))) == before

    def test_a_fenced_write_leaves_the_rest_of_its_transaction(self, store: Store) -> None:
        with store.transaction():
            store.write(Event.TASK_ACCEPTED, READY, now=NOW)
            with pytest.raises(Fenced):
                store.write(
                    Event.ATTEMPT_ENDED, ATTEMPT, now=NOW, unit="fix-login", attempt=7, fence=True
                )

        assert store.select(Unit) == [READY]

    def test_a_detail_that_json_cannot_say_writes_nothing(self, store: Store) -> None:
        with pytest.raises(TypeError, match="the journal cannot hold object"):
            store.write(Event.TASK_ACCEPTED, READY, now=NOW, what=object())

        assert tables(store) == {}

    def test_text_that_is_not_utf8_does_not_stop_the_line(self, store: Store) -> None:
        name = b"caf\xe9.py".decode(errors="surrogateescape")

        store.write(Event.CARD_RAISED, replace(CARD, evidence=name), now=NOW, path=name)

        assert [card.evidence for card in store.open(Card)] == ["caf?.py"]
        assert [entry.detail for entry in entries_of(store)] == [{"path": "caf?.py"}]

    def test_the_journal_folded_from_empty_gives_the_tables(self, store: Store) -> None:
        for record in ONE_OF_EACH:
            store.write(Event.FACT_CHANGED, record, now=NOW)
        store.write(Event.UNIT_LANDED, replace(READY, state=UnitState.LANDED, landed=NOW), now=NOW)

        assert fold(entries_of(store)) == tables(store)

    def test_compaction_keeps_the_state_the_story_and_everything_young(self, store: Store) -> None:
        names = fill(store, 20, until=NOW)
        young = store.write(Event.UNIT_READY, READY, now=NOW, unit=READY.id)
        before = tables(store)
        told = [_story(store, name) for name in names]
        size = _size(store)

        while store.compact(before=NOW, now=NOW):
            pass

        assert fold(entries_of(store)) == tables(store)
        assert [_story(store, name) for name in names] == told
        assert _size(store) < size / 2
        changed = {key[0] for key, row in tables(store).items() if before.get(key) != row}
        assert changed == {"fact", "verdict", "card", "attempt"}  # the last three: long texts
        assert {entry.event for entry in entries_of(store, after=young)} == {Event.KEPT_COMPACTED}
        assert store.compact(before=NOW, now=NOW) == 0

    def test_compaction_again_and_again_loses_no_more(self, store: Store) -> None:
        names = fill(store, 20, until=NOW)
        while store.compact(before=NOW, now=NOW):
            pass
        before, told = tables(store), [_story(store, name) for name in names]
        later = NOW + timedelta(days=1)
        store.write(Event.FACT_CHANGED, Fact(name="compacted", value="0"), now=later)

        while store.compact(before=later, now=later):
            pass

        assert [_story(store, name) for name in names] == told
        position = store.get(Fact, "compacted")
        assert position is not None
        assert tables(store) == before | {("fact", ("compacted",)): to_row(position)}
        assert fold(entries_of(store)) == tables(store)

    def test_the_digest_of_an_open_unit_stays_whole_for_its_next_attempt(
        self, store: Store
    ) -> None:
        long = replace(ATTEMPT, end=NOW, reason=EndReason.GATE_RED, digest="x" * 9000)
        open_card = replace(CARD, evidence="x" * 9000)
        store.write(Event.ATTEMPT_ENDED, READY, long, open_card, now=NOW, unit=READY.id)

        store.compact(before=NOW + timedelta(days=1), now=NOW)

        assert (store.select(Attempt), store.select(Card)) == ([long], [open_card])


def _story(store: Store, unit: str) -> list[tuple[Any, ...]]:
    """What a person reads about a unit in the log, and its verdicts."""
    told = list[tuple[Any, ...]]()
    for entry in entries_of(store, unit=unit):
        if entry.event in (Event.HOOK_FILLED, Event.ATTEMPT_NOTED):
            continue
        said = []
        for table, row in entry.changes:
            said += [row[column] for column in story.shown(entry.event, table)]
            if entry.event is Event.VERDICT_GIVEN:
                said += [row["gate"], row["tree"], row["ok"], row["seconds"]]
        told.append((entry.seq, entry.at, entry.event, dict(entry.detail), said))
    return told


def _size(store: Store) -> int:
    return len(str(list(entries_of(store))))
