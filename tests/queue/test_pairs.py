"""The pair is named on real git and benches: the landed unit without which a red unit is green."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from factory.attempt.outcomes import Refusal
from factory.ground.settings import GateLimits
from factory.people.clashes import red_together
from factory.queue.suspects import EXTRA_RUNS, Suspects
from factory.repo.meanwhile import OnTrunk
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Clash, Verdict
from factory.store.unit import EndReason, UnitState, advance
from tests.floor import FILES, Scene, at, scene_in
from tests.git_repo import commit
from tests.journal import entries_of

# A file in clash/ names a path that must not be there with it. Each run leaves a line in `runs`.
APART = """echo x >> {runs}
for each in clash/*; do test ! -e "$each" || test ! -e "$(cat "$each")" || { echo "$each with $(cat "$each")"; exit 1; }; done
"""
CASES = int(os.environ.get("FACTORY_PAIRS", "1"))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    gate = APART.replace("{runs}", str(tmp_path / "runs"))
    files = FILES | {"conventions/gates/20-apart.sh": gate}
    async with scene_in(tmp_path, files, gates=GateLimits(flaky_reruns=0)) as made:
        yield made


def last(scene: Scene, name: str) -> Attempt:
    """Its newest attempt."""
    return scene.store.select(Attempt, unit=name)[-1]


async def landed(scene: Scene, *names: str) -> None:
    """Units that each add a file of their name."""
    for name in names:
        await scene.submit(name, {f"{name}.txt": "fine\n"})
        await scene.settle()
        assert scene.state_of(name) == "landed"


async def test_a_unit_that_is_green_alone_says_which_landed_unit_makes_it_red(
    scene: Scene,
) -> None:
    base = scene.head()
    await landed(scene, "sem1")

    await scene.submit("sem2", {"clash/2": "sem1.txt"}, base=base)
    await scene.settle()

    commit = scene.unit("sem1").commit
    attempt = last(scene, "sem2")
    said = f"green alone; red together with `sem1` (landed {commit[:7]}): gate 20-apart is red"
    assert (scene.state_of("sem2"), attempt.reason) == ("ready", EndReason.GATE_RED)
    assert attempt.detail == said
    assert scene.unit("sem2").why == f"attempt 1 ended: {said}"
    assert attempt.clashes == (Clash(unit="sem1", commit=commit, title="sem1"),)
    assert attempt.digest.startswith(
        f"The attempt ended: gate_red.\n{said}\n\nWhat landed meanwhile:\n"
        f"- `sem1` (landed {commit[:7]}): sem1\n    do it\n\n"
        "What this unit (sem2) is for: sem2\n"
    )


async def test_a_unit_that_is_red_alone_names_nobody(scene: Scene) -> None:
    base = scene.head()
    await landed(scene, "other")

    await scene.submit("bad", {"bad.txt": "BROKEN\n"}, base=base)
    await scene.settle()

    attempt = last(scene, "bad")
    assert (attempt.detail, attempt.clashes) == ("gate 10-whole is red", ())


async def test_without_a_landing_since_its_base_nothing_more_is_judged(scene: Scene) -> None:
    await scene.settle()
    before = scene.count("runs")

    await scene.submit("bad", {"clash/1": "story.txt"})
    await scene.settle()

    assert (scene.reasons("bad"), scene.count("runs") - before) == (["gate_red"], 1)


async def test_with_three_suspects_the_named_one_is_the_culprit_in_drawn_cases(
    scene: Scene,
) -> None:
    chance = Random(12)
    base = scene.head()
    names = ["sem1", "sem2", "sem3"]
    for name in names:
        trailers = f"Add {name}\n\nFactory-Unit: {name}\nFactory-Attempt: 1\n"
        commit(scene.root, {f"{name}.txt": "fine\n"}, trailers)
    await scene.settle()
    for case in range(CASES):
        before = scene.count("runs")
        culprit = chance.choice(names)

        await scene.submit(f"case{case}", {f"clash/{case}": f"{culprit}.txt"}, base=base)
        await scene.settle()

        (clash,) = last(scene, f"case{case}").clashes
        assert (clash.unit, clash.title) == (culprit, f"Add {culprit}")
        assert scene.count("runs") - before <= 4  # red, alone, and two more


async def test_a_commit_of_a_person_is_named_by_its_message(scene: Scene) -> None:
    base = scene.head()
    theirs = scene.commit({"theirs.txt": "fine\n"})

    await scene.submit("one", {"clash/1": "theirs.txt"}, base=base)
    await scene.settle()

    said = f"green alone; red together with commit {theirs[:7]} (change): gate 20-apart is red"
    assert last(scene, "one").detail == said


async def test_a_card_says_first_what_a_unit_does_not_fit(scene: Scene) -> None:
    base = scene.head()
    await landed(scene, "sem1")

    await scene.submit("sem2", {"clash/2": "sem1.txt"}, base=base, head="attempts: 1")
    await scene.settle()

    (card,) = scene.store.open(Card)
    short = scene.unit("sem1").commit[:7]
    assert (card.kind, scene.state_of("sem2")) == (CardKind.ATTEMPTS_EXHAUSTED, UnitState.HELD)
    assert card.question == (
        f"sem2 is green alone; red together with `sem1` (landed {short}): gate 20-apart is red. "
        "It failed after 1 attempt. What now?"
    )
    assert "What landed meanwhile:" in card.evidence
    assert "factory gate" not in card.evidence  # there it is green


async def test_a_conflict_names_the_unit_that_landed_the_other_lines(scene: Scene) -> None:
    scene.commit({"list.txt": "".join(f"{number}\n" for number in range(20))})
    base = scene.head()
    first = "".join(f"{number}\n" for number in range(20)).replace("3\n", "three\n", 1)
    await scene.submit("top", {"list.txt": first}, base=base)
    await scene.settle()
    await scene.submit("end", {"list.txt": first.replace("17\n", "seventeen\n")})
    await scene.settle()

    mine = "".join(f"{number}\n" for number in range(20)).replace("17\n", "17 of mine\n")
    await scene.submit("late", {"list.txt": mine}, base=base)
    await scene.settle()

    end = scene.unit("end").commit
    attempt = last(scene, "late")
    assert attempt.detail == f"conflicts with `end` (landed {end[:7]}) in list.txt"
    assert attempt.clashes == (Clash(unit="end", commit=end, title="end"),)


async def test_a_unit_is_sent_back_at_once_while_candidates_need_the_benches(
    scene: Scene, tmp_path: Path
) -> None:
    base = scene.head()
    await landed(scene, "sem1")
    pairs = scene.queue.pairs
    unit = await scene.submit("sem2", {"clash/2": "sem1.txt"}, base=base)
    red = Refusal(EndReason.GATE_RED, "gate 20-apart is red", red=[red_of("20-apart")])

    pairs.refuse(unit, red, scene.head(), at())
    assert pairs.held == {"sem2"}
    pairs.go_on(0, scene.group, at())  # no bench is idle

    assert (pairs.held, scene.state_of("sem2")) == (set(), "ready")
    assert last(scene, "sem2").detail == "gate 20-apart is red"

    await scene.settle()  # now both benches are idle
    await searched(scene)

    short = scene.unit("sem1").commit[:7]
    said = f"green alone; red together with `sem1` (landed {short}): gate 20-apart is red"
    (told,) = [entry for entry in entries_of(scene.store) if entry.event == "attempt.explained"]
    assert (last(scene, "sem2").detail, told.detail["why"]) == (said, said)
    assert scene.unit("sem2").why == f"attempt 1 ended: {said}"


async def test_a_search_gives_its_bench_to_a_candidate_that_waits(
    tmp_path: Path,
) -> None:
    slow = f"[ ! -e clash/2 ] || [ -e sem1.txt ] || {{ touch {tmp_path}/began; sleep 60; }}\n"
    gate = slow + APART.replace("{runs}", str(tmp_path / "runs"))
    files = FILES | {"conventions/gates/20-apart.sh": gate}
    async with scene_in(tmp_path, files, gates=GateLimits(flaky_reruns=0, benches=1)) as scene:
        base = scene.head()
        await landed(scene, "sem1")
        await scene.submit("sem2", {"clash/2": "sem1.txt"}, base=base)
        while not (tmp_path / "began").exists():
            await scene.queue.tick(scene.group, at())
            await scene.state.queue.wait(0.05)

        await scene.submit("next", {"next.txt": "fine\n"})
        while scene.state_of("next") != "landed":
            await scene.queue.tick(scene.group, at())
            await scene.state.queue.wait(0.05)

        assert (scene.state_of("sem2"), last(scene, "sem2").detail) == (
            "ready",
            "gate 20-apart is red",
        )


async def test_a_search_ends_with_its_unit(scene: Scene) -> None:
    base = scene.head()
    await landed(scene, "sem1")
    unit = await scene.submit("sem2", {"clash/2": "sem1.txt"}, base=base)
    red = Refusal(EndReason.GATE_RED, "gate 20-apart is red", red=[red_of("20-apart")])
    scene.queue.pairs.refuse(unit, red, scene.head(), at())

    cancelled = advance(scene.unit("sem2"), UnitState.CANCELLED, now=at())
    scene.store.write(Event.UNIT_CANCELLED, cancelled, now=at(), unit="sem2")
    scene.queue.pairs.go_on(2, scene.group, at())

    assert (scene.queue.pairs.held, scene.reasons("sem2")) == (set(), ["submitted"])


async def test_what_was_judged_before_a_kill_is_not_judged_again_after_it(
    tmp_path: Path,
) -> None:
    gate = APART.replace("{runs}", str(tmp_path / "runs"))
    async with scene_in(tmp_path, FILES | {"conventions/gates/20-apart.sh": gate}) as scene:
        base = scene.head()
        await landed(scene, "sem1", "sem3")
        await scene.submit("sem2", {"clash/2": "sem3.txt"}, base=base)
        await scene.settle()
        before = scene.count("runs")
        attempt = last(scene, "sem2")

        # The daemon died before it recorded what it had found.
        unit = replace(
            scene.unit("sem2"), state=UnitState.QUEUED, submission=attempt.commit, base=base
        )
        submitted = replace(attempt, reason=EndReason.SUBMITTED, clashes=(), digest="")
        scene.store.write(Event.UNIT_QUEUED, unit, submitted, now=at(), unit="sem2")
        await scene.settle()

        assert last(scene, "sem2").clashes == attempt.clashes
        assert [clash.unit for clash in attempt.clashes] == ["sem3"]
        assert scene.count("runs") == before


# ── which suspects are left ──


@pytest.mark.parametrize("culprit", range(1, 5))
@pytest.mark.parametrize("count", range(1, 5))
def test_up_to_four_suspects_two_runs_find_the_one(count: int, culprit: int) -> None:
    suspects = drawn(count)

    runs = asked(suspects, min(culprit, count))

    assert [each.commit for each in suspects.likeliest()] == [str(min(culprit, count))]
    assert runs <= 1 + EXTRA_RUNS


def test_of_many_suspects_a_likely_one_is_found_and_others_are_named_in_order() -> None:
    likely = drawn(40, weights={"23": 100})
    asked(likely, 23)
    assert [each.commit for each in likely.likeliest()] == ["23"]

    several = drawn(12, weights={"5": 2})
    asked(several, 4)
    assert [each.commit for each in several.likeliest()] == ["5", "4"]


def test_without_a_verdict_all_suspects_are_left_and_before_the_first_one_none() -> None:
    before, after = drawn(3), drawn(3)
    before.learn(green=None)
    after.learn(green=True)
    after.learn(green=None)

    assert (before.likeliest(), before.next_commit()) == ([], "")
    assert (len(after.likeliest()), after.next_commit()) == (3, "")


def test_a_sentence_names_three_and_counts_the_rest() -> None:
    clashes = [Clash(unit=name, commit=f"{name}234567890", title="t") for name in "abc"]

    assert red_together(clashes, 5) == (
        "green alone; red together with one of "
        "`a` (landed a234567), `b` (landed b234567), `c` (landed c234567), 2 more"
    )


def drawn(count: int, weights: dict[str, int] | None = None) -> Suspects:
    """So many commits, named by their numbers."""
    left = [OnTrunk(str(number), f"u{number}", "s") for number in range(1, count + 1)]
    return Suspects(base="0", left=left, weights=weights or {})


def asked(suspects: Suspects, culprit: int) -> int:
    """Answer as a gate that is red from the culprit on; return how often it was asked."""
    runs = 0
    while commit := suspects.next_commit():
        suspects.learn(green=int(commit) < culprit)
        runs += 1
    return runs


def red_of(gate: str) -> Verdict:
    """A red verdict of that gate."""
    return Verdict(key="k", gate=gate, tree="t", ok=False, settled=True, at=at())


async def searched(scene: Scene) -> None:
    """Tick until no search is left."""
    while scene.queue.pairs._searches:
        await scene.queue.tick(scene.group, at())
        await scene.state.queue.wait(0.1)
