"""Blame: a unit goes back only for what its own change broke."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factory.ground.settings import GateLimits
from factory.store.records import Attempt, Card, CardKind, Verdict
from tests.floor import FILES, Scene, at, scene_in, time_passes


def two_gates(folder: Path) -> dict[str, str]:
    """Trunk is red in both gates, and its own judging stops at the first."""
    return {
        "conventions/gates/10-lint.sh": "! grep -rn UGLY --include=*.txt .\n",
        "conventions/gates/20-test.sh": (
            f"echo x >> {folder}/tested\n! grep -rn WRONG --include=*.txt .\n"
        ),
        "lint.txt": "UGLY\n",
        "test.txt": "WRONG\n",
    }


@pytest.fixture
async def red(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path, two_gates(tmp_path)) as made:
        await made.settle()
        yield made


# ── gates that trunk's own judging did not reach ──


async def test_a_unit_that_makes_the_first_red_gate_of_trunk_green_is_not_blamed_for_the_second(
    red: Scene,
) -> None:
    await red.submit("lint", {"lint.txt": "neat\n"})

    await red.settle()

    (card,) = red.store.open(Card)
    assert (red.state_of("lint"), red.reasons("lint")) == ("waiting", ["submitted"])
    assert (card.kind, card.units) == (CardKind.TRUNK_RED, ("lint",))
    assert f"main ({red.head()[:10]}) fails 10-lint, 20-test without any" in card.question


async def test_the_second_gate_runs_on_trunk_only_once(red: Scene) -> None:
    await red.submit("one", {"lint.txt": "neat\n"})
    await red.settle()
    before = red.count("tested")

    await red.submit("two", {"lint.txt": "fine\n"})
    await red.settle()

    assert (red.state_of("two"), red.reasons("two")) == ("waiting", ["submitted"])
    assert (before, red.count("tested")) == (4, 6), "each red runs twice, and trunk's only once"


async def test_a_unit_that_breaks_a_later_gate_is_blamed_for_this_gate_alone(red: Scene) -> None:
    red.commit({"test.txt": "right\n"})
    await red.settle()
    await red.submit("both", {"lint.txt": "neat\n", "more.txt": "WRONG\n"})

    await red.settle()

    attempt = red.store.get(Attempt, "both", 1)
    assert attempt is not None
    assert (red.reasons("both"), attempt.detail) == (["gate_red"], "gate 20-test is red")
    assert red.trunk_judge.is_red


async def test_whoever_makes_both_gates_green_lands_and_the_others_follow(red: Scene) -> None:
    await red.submit("lint", {"lint.txt": "neat\n"})
    await red.settle()

    await red.submit("both", {"lint.txt": "neat\n", "test.txt": "right\n", "more.txt": "x\n"})
    await red.settle()

    assert (red.state_of("both"), red.cards()) == ("landed", [])


async def test_an_answer_that_lands_units_on_a_red_trunk_lands_none_that_breaks_another_gate(
    tmp_path: Path,
) -> None:
    """The unit's own judging stopped at trunk's red gate, so nobody knew about the other gate."""
    async with scene_in(tmp_path, two_gates(tmp_path) | {"test.txt": "right\n"}) as scene:
        await scene.submit("fine", {"fine.txt": "x\n"})
        await scene.submit("breaks", {"more.txt": "WRONG\n"})
        await scene.settle()
        assert (scene.state_of("fine"), scene.state_of("breaks")) == ("waiting", "waiting")
        (card,) = scene.store.open(Card)

        scene.floor.escalations.answer(card.id, "Land anyway", now=at())
        scene.floor.pool.tick(scene.group, at())
        await scene.settle()

        assert (scene.state_of("fine"), scene.reasons("breaks")) == ("landed", ["gate_red"])
        assert scene.log() == ["fine", "start"]


async def test_an_answer_lands_a_unit_that_is_red_only_in_a_later_gate_of_trunk(red: Scene) -> None:
    await red.submit("lint", {"lint.txt": "neat\n"})
    await red.settle()
    (card,) = red.store.open(Card)

    red.floor.escalations.answer(card.id, "Land anyway", now=at())
    red.floor.pool.tick(red.group, at())
    await red.settle()

    assert red.state_of("lint") == "landed"


async def test_after_land_anyway_a_card_asks_at_once_if_ready_units_wait_for_a_green_trunk(
    red: Scene,
) -> None:
    await red.submit("lint", {"lint.txt": "neat\n"})
    await red.settle()
    (first,) = red.store.open(Card)
    red.ready("next")

    red.floor.escalations.answer(first.id, "Land anyway", now=at())
    red.floor.pool.tick(red.group, at())

    (second,) = red.store.open(Card)
    assert (second.kind, second.units, second.answer) == (CardKind.TRUNK_RED, (), "")
    assert second.id != first.id
    assert red.state_of("next") == "ready"
    await red.settle()
    assert (red.state_of("lint"), red.cards()) == ("landed", [CardKind.TRUNK_RED])


async def test_no_card_asks_about_a_red_trunk_that_stops_no_unit(red: Scene) -> None:
    (first,) = red.store.open(Card)
    red.ready("repair", priority=0)

    red.floor.escalations.answer(first.id, "Land anyway", now=at())
    red.floor.pool.tick(red.group, at())

    assert red.cards() == []


WORKFLOW = """\
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make lint
      - run: make test
"""
MAKEFILE = """\
lint:
\t! grep -rn UGLY --include=*.txt .
test:
\ttrue
"""


async def test_a_unit_that_was_judged_before_a_check_became_advisory_is_not_blamed_for_it(
    tmp_path: Path,
) -> None:
    """Trunk shows that the check is advisory while the unit is judged with it."""
    files = {
        ".github/workflows/ci.yml": WORKFLOW,
        "Makefile": MAKEFILE,
        "ugly.txt": "UGLY\n",
    }
    async with scene_in(tmp_path, files) as scene:
        await scene.submit("one", {"one.txt": "fine\n"})

        await scene.settle()

        assert (scene.state_of("one"), scene.reasons("one")) == ("landed", ["submitted"])


# ── gates that somebody else kills ──


def killed_if(condition: str, folder: Path, *, whom: str = "$$") -> dict[str, str]:
    """A gate that notes each run on the unit's tree, and is killed there under this condition."""
    return {
        "conventions/gates/10-whole.sh": (
            f"if test -e one.txt; then echo x >> {folder}/ran; fi\n"
            f"if {condition}; then kill -9 {whom}; sleep 5; fi\n"
        )
    }


@pytest.mark.parametrize("killed", ["$$", "$PPID"], ids=["itself", "its supervisor"])
async def test_a_unit_is_blamed_if_its_change_alone_makes_a_gate_kill(
    tmp_path: Path, killed: str
) -> None:
    async with scene_in(tmp_path, killed_if("test -e one.txt", tmp_path, whom=killed)) as scene:
        await scene.settle()
        await scene.submit("one", {"one.txt": "fine\n"})

        await scene.settle()

        attempt = scene.store.get(Attempt, "one", 1)
        assert attempt is not None
        assert (scene.reasons("one"), attempt.detail) == (["gate_red"], "gate 10-whole is red")
        assert (scene.cards(), scene.count("ran")) == ([], 4), "three times, and after trunk's run"


async def test_the_verdict_on_a_killed_gate_says_so_and_is_not_used_again(tmp_path: Path) -> None:
    async with scene_in(tmp_path, killed_if("test -e one.txt", tmp_path)) as scene:
        await scene.submit("one", {"one.txt": "fine\n"})

        await scene.settle()

        (red,) = [each for each in scene.store.select(Verdict) if not each.ok]
        assert (red.gate, red.settled) == ("10-whole", False)
        assert red.tail.endswith("[ended by SIGKILL, which factoryd did not send]")


async def test_no_unit_is_blamed_if_the_gate_is_killed_on_trunk_too(tmp_path: Path) -> None:
    """The killer came after trunk was judged, and the verdict on trunk is in the store."""
    async with scene_in(tmp_path, killed_if(f"test -e {tmp_path}/short", tmp_path)) as scene:
        await scene.settle()
        (tmp_path / "short").touch()
        await scene.submit("one", {"one.txt": "fine\n"})

        await scene.settle()

        (card,) = scene.store.open(Card)
        assert (scene.state_of("one"), scene.reasons("one")) == ("waiting", ["submitted"])
        assert (scene.count("ran"), card.units) == (3, ("one",))
        assert card.question == (
            "Gate 10-whole was ended by SIGKILL, which factoryd did not send (is there enough "
            "memory?). This happened 3 times in a row. This did not count as an attempt. What now?"
        )


async def test_no_unit_is_blamed_if_its_gate_is_not_killed_again_after_trunks(
    tmp_path: Path,
) -> None:
    files = killed_if(f"test -e one.txt && test $(wc -l < {tmp_path}/ran) -le 3", tmp_path)
    async with scene_in(tmp_path, files) as scene:
        await scene.submit("one", {"one.txt": "fine\n"})

        await scene.settle()

        assert (scene.state_of("one"), scene.count("ran")) == ("landed", 4)


async def test_a_gate_that_somebody_kills_once_is_judged_again_and_lands(tmp_path: Path) -> None:
    """A red gate gets no second try here, so the kill would count as the unit's failure."""
    once = f"echo x >> {tmp_path}/ran; test $(wc -l < {tmp_path}/ran) -ge 2 || kill -9 $$"
    gate = f"test ! -e one.txt || {{ {once}; }}\n"
    files = {"conventions/gates/10-whole.sh": gate}
    async with scene_in(tmp_path, files, gates=GateLimits(flaky_reruns=0)) as scene:
        await scene.submit("one", {"one.txt": "fine\n"})

        await scene.settle()

        assert (scene.state_of("one"), scene.count("ran")) == ("landed", 2)


# ── setups that fail ──


def with_setup(folder: Path) -> dict[str, str]:
    """A setup that needs the network, reads deps.txt as it says, and builds from any file."""
    setup = f"""\
# inputs: deps.txt
echo x >> {folder}/set-up
test -e {folder}/cached && test one = "$(cat deps.txt)" && exit 0
test -e {folder}/network || {{ cat {folder}/says; exit 1; }}
if grep wrong deps.txt; then exit 1; fi
mkdir -p dist
sh build.sh > dist/built
"""
    return FILES | {
        "conventions/workspace/setup.sh": f"set -e\n{setup}",
        "deps.txt": "one\n",
        "build.sh": "true\n",
        ".gitignore": "dist\n",
    }


@pytest.fixture
async def cold(tmp_path: Path) -> AsyncIterator[Scene]:
    """Trunk is green, its only bench has lost its environment, and the network is away."""
    network = tmp_path / "network"
    network.touch()
    (tmp_path / "says").write_text("cannot install\n")
    async with scene_in(tmp_path, with_setup(tmp_path), gates=GateLimits(benches=1)) as made:
        await made.settle()
        (made.state.places.work / "benches/b1/environment.json").unlink()
        network.unlink()
        yield made


CHANGES = [{"one.txt": "fine\n"}, {"deps.txt": "two\n"}, {"build.sh": "test 1\n"}]


@pytest.mark.parametrize("change", CHANGES, ids=["nothing", "inputs", "unknown inputs"])
async def test_while_the_network_is_away_no_unit_is_blamed_for_its_setup(
    cold: Scene, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await cold.submit("one", change, head="allow: edit-gates")

    await cold.settle()

    assert (cold.state_of("one"), cold.reasons("one")) == ("queued", ["submitted"])
    assert cold.unit("one").why == (
        "cannot be judged; factoryd tries again: "
        "Setup failed: `sh conventions/workspace/setup.sh` ended with exit code 1."
    )
    (cold.folder / "network").touch()
    time_passes(monkeypatch, 3)
    await cold.settle()
    assert cold.state_of("one") == "landed"


async def test_a_unit_is_not_blamed_if_its_setup_names_the_network_and_trunks_needs_only_a_cache(
    cold: Scene,
) -> None:
    (cold.folder / "cached").touch()
    (cold.folder / "says").write_text("error: could not resolve host: pypi.example\n")
    await cold.submit("one", {"deps.txt": "two\n"}, head="allow: edit-gates")

    await cold.settle()

    assert (cold.state_of("one"), cold.reasons("one")) == ("queued", ["submitted"])


async def test_after_the_third_failure_of_a_setup_a_card_asks_until_the_unit_lands(
    cold: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cold.submit("one", {"one.txt": "fine\n"})
    for _ in range(3):
        await cold.settle()
        time_passes(monkeypatch, 400)
    (card,) = cold.store.open(Card)
    assert (card.kind, card.units) == (CardKind.SETUP, ("one",))
    assert (cold.state_of("one"), cold.reasons("one")) == ("queued", ["submitted"])

    (cold.folder / "network").touch()
    await cold.settle()

    assert (cold.state_of("one"), cold.cards()) == ("landed", [])


@pytest.mark.parametrize("change", [{"deps.txt": "wrong\n"}, {"build.sh": "exit 1\n"}])
async def test_a_unit_that_breaks_the_setup_is_blamed_because_trunks_setup_works(
    cold: Scene, change: dict[str, str]
) -> None:
    (cold.folder / "network").touch()
    await cold.submit("one", change, head="allow: edit-gates")

    await cold.settle()

    attempt = cold.store.get(Attempt, "one", 1)
    assert attempt is not None
    assert (cold.reasons("one"), attempt.detail) == (["gate_red"], "its setup fails")
