"""What hangs next, in virtual time."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from factory.dispatch.contested import Precedence
from factory.dispatch.scheduling import Choice, choose, next_time, settle
from factory.ground.times import stamp
from factory.store.records import Hook
from factory.store.starts import Conditions, contenders, rank, reasons
from factory.store.unit import Unit, UnitState

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LANDED, CANCELLED, RUNNING = UnitState.LANDED, UnitState.CANCELLED, UnitState.RUNNING


def a_unit(
    id: str, *, minutes_old: float = 0, state: UnitState = UnitState.READY, **fields: Any
) -> Unit:
    accepted = NOW - timedelta(minutes=minutes_old)
    return Unit(id=id, title=id, state=state, since=accepted, accepted=accepted, **fields)


def rank_of(unit: Unit, now: datetime) -> Any:
    return rank(unit.priority, unit.accepted, unit.id, now)


def hooks(count: int) -> list[Hook]:
    return [Hook(worker=f"w{number}", index=number) for number in range(1, count + 1)]


def chosen(units: list[Unit], hooks: list[Hook], **facts: Any) -> list[Choice]:
    """What starts, by the pool's rules; the sentences of `factory status` must say the same."""
    conditions = Conditions(agent="claude", **facts)

    def is_stopped(unit: Unit) -> bool:
        return bool(conditions.why_stopped(unit.agent or "claude", unit.priority))

    precedence = Precedence(units, lambda unit: 45, NOW)
    return choose(units, hooks, is_stopped=is_stopped, homes={}, precedence=precedence)


def picked(units: list[Unit], count: int = 9, **facts: Any) -> list[str]:
    started = [choice.unit.id for choice in chosen(units, hooks(count), **facts)]
    if len(started) < count:
        waiting = {unit.id for unit in units if unit.state is UnitState.READY} - {*started}
        due = {unit.id for unit in units if (unit.not_before or NOW) <= NOW}
        assert why_not(units, **facts).keys() == waiting & due
    return started


def why_not(units: list[Unit], *, is_free: bool = True, **facts: Any) -> dict[str, str]:
    conditions = Conditions(agent="claude", **facts)
    some = contenders([vars_of(unit) for unit in units], conditions, {})
    return reasons(some, conditions, is_free=is_free, proofs={}, now=NOW)


def vars_of(unit: Unit) -> dict[str, Any]:
    return asdict(unit) | {"accepted": stamp(unit.accepted)}


def test_the_most_urgent_go_first_and_the_rest_waits_for_a_free_worker() -> None:
    urgent, usual, later = (
        a_unit("urgent", priority=0),
        a_unit("usual"),
        a_unit("later", priority=4),
    )

    choices = chosen([later, usual, urgent], hooks(2))

    assert choices == [
        Choice(urgent, Hook(worker="w1", index=1)),
        Choice(usual, Hook(worker="w2", index=2)),
    ]
    assert why_not([later], is_free=False) == {"later": "waits for a free worker"}


def test_among_equals_the_first_accepted_goes_first_and_then_the_id_decides() -> None:
    units = [a_unit("b"), a_unit("old", minutes_old=20), a_unit("a")]

    assert picked(units) == ["old", "a", "b"]


def test_each_half_hour_of_waiting_raises_a_unit_by_one() -> None:
    units = [
        a_unit("fresh"),
        a_unit("old-but-whenever", priority=4, minutes_old=61),
        a_unit("younger", minutes_old=29),
    ]

    assert picked(units) == ["old-but-whenever", "younger", "fresh"]


def test_what_is_wanted_now_goes_ahead_of_last_nights_backlog() -> None:
    backlog = [a_unit(f"night-{hour}", minutes_old=60 * hour) for hour in range(1, 13)]

    assert picked([*backlog, a_unit("hotfix", priority=0)], 1) == ["hotfix"]


def test_a_unit_of_the_future_is_not_put_behind_others_when_the_clock_was_set_back() -> None:
    tomorrow = a_unit("tomorrow", minutes_old=-1440)

    assert rank_of(tomorrow, NOW)[0] == 2


def test_what_is_wanted_now_goes_ahead_of_two_hundred_units_of_two_days_ago() -> None:
    backlog = [a_unit(f"old-{number}", minutes_old=2 * 24 * 60) for number in range(200)]

    assert picked([*backlog, a_unit("hotfix", priority=0)], 1) == ["hotfix"]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 4000))
def test_only_what_is_wanted_now_overtakes_for_ever(mine: int, theirs: int, my_age: int) -> None:
    waiting = a_unit("waiting", priority=mine, minutes_old=my_age)
    newcomer = a_unit("newcomer", priority=theirs, minutes_old=-24 * 60)
    a_day_on = NOW + timedelta(days=1)

    assert rank_of(waiting, a_day_on) < rank_of(newcomer, a_day_on)
    assert rank_of(waiting, a_day_on) > rank_of(replace(newcomer, priority=0), a_day_on)


def test_only_ready_units_go_on_hooks_that_are_idle_and_empty() -> None:
    units = [a_unit(state.value, state=state) for state in UnitState]
    taken = [Hook(worker="w1", index=1, unit="x"), Hook(worker="w2", index=2, state="draining")]
    free = Hook(worker="w3", index=3)

    choices = chosen(units, [*taken, free])

    assert choices == [Choice(a_unit("ready"), free)]


def test_a_unit_whose_time_has_not_come_is_not_due() -> None:
    units = [a_unit("soon", not_before=NOW + timedelta(seconds=1)), a_unit("due", not_before=NOW)]

    assert picked(units) == ["due"]


def test_units_whose_runtime_is_stopped_are_passed_over_whether_named_or_configured() -> None:
    units = [a_unit("default"), a_unit("named", agent="codex"), a_unit("shell", agent="run")]

    assert picked(units, paused={"claude": "rests"}) == ["named", "shell"]
    assert picked(units, paused=dict.fromkeys(("codex", "claude", "run"), "rests")) == ["shell"]
    assert why_not(units, paused={"claude": "rests"}) == {"default": "its agent claude rests"}


def test_while_trunk_is_red_only_priority_0_starts_and_age_does_not_help() -> None:
    units = [a_unit("repair", priority=0), a_unit("old", priority=1, minutes_old=10_000)]

    assert picked(units, trunk_red=True) == ["repair"]
    assert why_not(units, trunk_red=True) == {
        "old": "trunk is red: until it is green again, only units with priority 0 start"
    }


def test_units_with_overlapping_scopes_do_not_run_beside_each_other() -> None:
    running = a_unit("running", state=RUNNING, scope=("src/**",))
    queued = a_unit("queued", state=UnitState.QUEUED, scope=("docs",))
    units = [
        running,
        queued,
        a_unit("a", scope=("src/a.py",)),
        a_unit("b", scope=("docs/x.md",)),
        a_unit("c", scope=("lib",)),
    ]

    assert picked(units) == ["c"]
    assert why_not(units) == {
        "a": "its scope overlaps the scope of running, which goes first",
        "b": "its scope overlaps the scope of queued, which goes first",
    }


def test_two_that_overlap_are_not_both_chosen_in_one_pass() -> None:
    assert picked([a_unit("a", scope=("src",)), a_unit("b", scope=("src/x.py",))]) == ["a"]


def test_units_without_scope_run_beside_everything() -> None:
    units = [
        a_unit("running", state=RUNNING, scope=("**",)),
        a_unit("a"),
        a_unit("b", state=RUNNING),
    ]

    assert picked(units) == ["a"]


def test_a_wide_scope_is_not_starved_by_narrow_ones_that_follow_each_other() -> None:
    units = [
        a_unit("running", state=RUNNING, scope=("src/a",)),
        a_unit("wide", minutes_old=5, scope=("src",)),
        a_unit("narrow", scope=("src/b",)),
    ]

    assert picked(units) == []
    assert picked([units[1], units[2]]) == ["wide"]


def test_a_unit_that_cannot_start_anyway_keeps_nobody_off_its_scope() -> None:
    units = [
        a_unit("stopped", minutes_old=5, agent="codex", scope=("src",)),
        a_unit("free", scope=("src/a",)),
    ]

    assert picked(units, paused={"codex": "rests"}) == ["free"]


def test_a_waiting_unit_becomes_ready_once_all_it_needs_has_landed() -> None:
    unit = a_unit("b", state=UnitState.WAITING, needs=("a", "x"), why="needs a, which is running")

    settled = settle([unit], {"a": LANDED, "x": LANDED}, now=NOW)

    assert settled == [a_unit("b", needs=("a", "x"))]


def test_a_unit_whose_need_moves_on_is_not_written_again() -> None:
    unit = a_unit("b", state=UnitState.WAITING, needs=("a",), why="needs a, which is running")

    assert settle([unit], {"a": UnitState.QUEUED}, now=NOW) == []


def test_an_unknown_need_is_shown_with_a_did_you_mean() -> None:
    unit = a_unit("b", state=UnitState.WAITING, needs=("add-logn", "zzz"))

    settled = settle([unit], {"add-login": RUNNING}, now=NOW)

    assert [each.why for each in settled] == [
        "needs add-logn, which does not exist yet: did you mean add-login?; needs zzz, which does not exist yet"
    ]


def test_a_cancelled_need_holds_the_unit() -> None:
    unit = a_unit("b", needs=("a",), minutes_old=5)

    (held,) = settle([unit], {"a": CANCELLED}, now=NOW)

    assert (held.state, held.why, held.since) == (
        UnitState.HELD,
        "needs a, which was cancelled",
        NOW,
    )


def test_a_ready_unit_that_misses_something_goes_back_to_waiting() -> None:
    later = NOW + timedelta(minutes=5)

    (waiting,) = settle([a_unit("b", not_before=later)], {}, now=NOW)

    assert (waiting.state, waiting.why) == (
        UnitState.WAITING,
        "waits until 2026-01-05 12:05:00 UTC",
    )


def test_what_has_not_changed_is_not_written_again() -> None:
    waiting = a_unit("b", state=UnitState.WAITING, needs=("a",))
    (told,) = settle([waiting], {"a": RUNNING}, now=NOW)

    assert (
        settle(
            [told, a_unit("c"), a_unit("d", state=RUNNING, needs=("a",))], {"a": RUNNING}, now=NOW
        )
        == []
    )


def test_a_unit_that_waits_for_a_shared_cause_is_left_to_whoever_closes_it() -> None:
    assert settle([a_unit("b", state=UnitState.WAITING, cause="setup:1")], {}, now=NOW) == []


def test_the_next_time_is_the_earliest_still_to_come_and_none_without_one() -> None:
    soon, later = NOW + timedelta(seconds=10), NOW + timedelta(hours=1)
    units = [
        a_unit("later", state=UnitState.WAITING, not_before=later),
        a_unit("soon", state=UnitState.WAITING, not_before=soon),
        a_unit("past", state=UnitState.WAITING, not_before=NOW),
        a_unit(
            "caused",
            state=UnitState.WAITING,
            not_before=NOW + timedelta(seconds=1),
            cause="setup:1",
        ),
    ]

    assert next_time(units, now=NOW) == soon
    assert next_time([], now=NOW) is None
