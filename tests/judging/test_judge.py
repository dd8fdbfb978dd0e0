"""The judge: each way to a verdict has the tree, the rules and the environment that it says, or it is none."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.ground.errors import FactoryError, StoreError
from factory.ground.settings import GateLimits, Settings
from factory.judging.case import Case
from factory.judging.gates import Judgement
from factory.judging.ruled import Proof, Ruled
from factory.people import line_cards
from factory.people.answers import answers
from factory.repo.benches import Yielding
from factory.store.journal import Event
from factory.store.records import Card, CardKind, Fact, Verdict
from factory.store.unit import Unit, UnitState
from tests.floor import FILES, GATE, Scene, at, scene_in, time_passes
from tests.git_repo import git
from tests.journal import entries_of
from tests.locked_store import locked

UNIT = Unit(id="u", title="u", state=UnitState.QUEUED, since=at(), accepted=at())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


async def looked(scene: Scene) -> str:
    """Trunk, judged."""
    tip = await scene.floor.trunk.refresh()
    await scene.trunk_judge.look(tip, scene.group)
    while scene.trunk_judge.ruled(tip) is None and scene.judge.rulings.obstacle is None:
        await scene.state.queue.wait(0.1)
    return tip


def told(scene: Scene) -> str:
    """Trunk's state, as commands show it."""
    fact = scene.store.get(Fact, "trunk")
    assert fact is not None
    return str(json.loads(fact.value)["state"])


# ── what rules ──


async def test_while_the_rules_of_a_new_commit_are_read_the_limits_of_the_one_before_hold(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    rulings = scene.judge.rulings
    await looked(scene)
    limits = (scene.judge.seconds(()), scene.judge.setup_seconds())
    assert limits[0] > 0
    scene.commit({"two.txt": "other\n"})
    tip = await scene.floor.trunk.refresh()
    read, met = rulings._read, list[tuple[float, float]]()

    async def slow(commit: str) -> Any:
        met.append((scene.judge.seconds(()), scene.judge.setup_seconds()))
        return await read(commit)

    monkeypatch.setattr(rulings, "_read", slow)
    await rulings.of_trunk(tip)

    assert met == [limits]


async def test_the_gates_are_those_of_the_commit_below(scene: Scene) -> None:
    tip = await looked(scene)
    weak = await scene.made({"conventions/gates/10-whole.sh": "true\n", "one.txt": "BROKEN\n"})

    assert [verdict.gate for verdict in (await scene.judge.judge(weak, parent=tip)).red] == [
        "10-whole"
    ]
    assert (await scene.judge.judge(weak, parent=weak)).ok


async def test_a_gate_that_only_the_checkout_has_does_not_rule(scene: Scene) -> None:
    tip = await looked(scene)
    (scene.root / "conventions/gates/10-whole.sh").write_text("exit 1\n")

    assert (await scene.judge.judge(tip, parent=tip)).ok


async def test_hidden_conventions_rule_like_visible_ones(tmp_path: Path) -> None:
    files = {".conventions/gates/10-whole.sh": GATE, "conventions/naming.md": "the project's own\n"}
    async with scene_in(tmp_path, files) as scene:
        await scene.queue.look_at_trunk(scene.group, at())
        await scene.submit("red", {"one.txt": "BROKEN\n"})
        await scene.submit("green", {"conventions/naming.md": "other\n"})
        await scene.submit("gate", {".conventions/gates/20-x.sh": "true\n"})
        await scene.submit("sly", {"conventions/gates/20-x.sh": "true\n"})

        await scene.settle()

        assert scene.judge.rulings.current is not None
        assert [gate.name for gate in scene.judge.rulings.current.rules.gates] == ["10-whole"]
        assert (scene.reasons("red"), scene.state_of("green")) == (["gate_red"], "landed")
        assert (scene.reasons("gate"), scene.reasons("sly")) == (["guard"], ["guard"])


async def test_of_two_folders_with_conventions_the_one_rules_that_ruled_before(
    scene: Scene,
) -> None:
    await scene.queue.look_at_trunk(scene.group, at())
    for name in ("one", "two"):
        scene.commit({f".conventions/gates/20-{name}.sh": "false\n"})
        await scene.queue.look_at_trunk(scene.group, at())

        assert scene.judge.rulings.current is not None
        assert [gate.name for gate in scene.judge.rulings.current.rules.gates] == ["10-whole"]

    git(scene.root, "rm", "-q", "-r", "conventions")
    scene.commit({})
    await scene.queue.look_at_trunk(scene.group, at())
    scene.commit({"conventions/gates/30-back.sh": "true\n"})
    await scene.queue.look_at_trunk(scene.group, at())

    assert scene.judge.rulings.current is not None
    assert [gate.name for gate in scene.judge.rulings.current.rules.gates] == ["20-one", "20-two"]


async def test_wrong_gate_files_let_nothing_pass(scene: Scene) -> None:
    tip = await looked(scene)
    wrong = await scene.made({"conventions/gates/check.sh": "true\n"})

    ruled = await scene.judge.judge(tip, parent=wrong)

    assert (ruled.ok, ruled.setup and ruled.setup.kind) == (False, CardKind.CONFIG)


async def test_a_wrong_gate_file_on_trunk_is_asked_about_at_once_in_its_present_words(
    scene: Scene,
) -> None:
    scene.commit({"conventions/gates/20-odd.toml": "comand = 'true'\n"})
    await looked(scene)
    scene.floor.escalations.answer("E1", "1", now=at())
    scene.commit({"conventions/gates/20-odd.toml": "cmd = 'true'\n"})
    await looked(scene)
    card = scene.store.open(Card)[0]

    scene.commit({"conventions/gates/20-odd.toml": "command = 'true'\n"})
    await looked(scene)
    scene.floor.pool.tick(scene.group, at())

    assert (card.id, card.answer, "cmd" in card.question) == ("E1", "", True)
    assert scene.cards() == []


@pytest.mark.parametrize(
    "name",
    ["pyproject.toml", "conventions/gates/20-more.sh", "conventions/prompts/unit.md", "uv.lock"],
)
async def test_a_file_that_rules_on_trunk_and_is_too_large_to_be_read_is_a_card_and_nothing_passes(
    scene: Scene, name: str
) -> None:
    before = await looked(scene)
    large = scene.root / name
    large.parent.mkdir(exist_ok=True, parents=True)
    with large.open("wb") as file:
        file.truncate(17 << 20)
    tip = scene.commit({})
    await looked(scene)
    (card,) = scene.store.open(Card)
    ruled = await scene.judge.judge(before, parent=tip)

    git(scene.root, "rm", "-q", name)
    scene.commit({})
    await looked(scene)
    scene.floor.pool.tick(scene.group, at())

    assert card.kind is CardKind.SETUP
    assert card.question == (
        "Nothing is judged: factoryd reads at most 1 MiB of a gate or settings file (16 MiB of a lock file), but trunk has "
        f"{name} (17 MiB). This did not count as an attempt."
    )
    assert (ruled.ok, ruled.setup and ruled.setup.cause.key) == (False, card.fingerprint)
    assert scene.cards() == []


async def test_without_gates_only_a_person_lets_a_unit_pass_and_its_proof_holds_all_the_same(
    tmp_path: Path,
) -> None:
    async with scene_in(tmp_path, {"story.txt": "x\n"}) as scene:
        tip = await looked(scene)
        made = await scene.made({"one.txt": "fine\n"})
        let = Unit(
            id="u",
            title="u",
            state=UnitState.QUEUED,
            since=at(),
            accepted=at(),
            approved=("no_gate",),
        )

        nobody = await scene.judge.judge(made, parent=tip, unit=UNIT)
        person = await scene.judge.judge(made, parent=tip, unit=let)
        proven = await scene.judge.judge(made, parent=tip, unit=let, accept=("test -e one.txt",))
        unproven = await scene.judge.judge(made, parent=tip, unit=let, accept=("test -e two.txt",))

        assert nobody.setup == line_cards.no_gate()
        assert (person.ok, proven.ok, unproven.ok, unproven.not_proven) == (True, True, False, True)


async def test_what_landed_where_nothing_judges_does_not_make_trunk_green(tmp_path: Path) -> None:
    async with scene_in(tmp_path, {"story.txt": "x\n"}) as scene:
        await scene.submit("one", {"one.txt": "fine\n"}, approved=("no_gate",))

        await scene.settle()

        assert (scene.state_of("one"), told(scene)) == ("landed", "unknown")


async def test_trunks_rules_are_kept_whatever_else_is_judged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.judging.rulings.RULINGS_KEPT", 2)
    await looked(scene)

    for number in range(3):
        await scene.judge.rulings.of(await scene.made({"n.txt": f"{number}\n"}))

    assert scene.judge.rulings.current is not None


async def test_an_inferred_gate_that_a_person_left_out_rules_no_more_and_one_from_a_file_does(
    tmp_path: Path,
) -> None:
    async with scene_in(tmp_path, {"Makefile": "test:\n\tfalse\n"}) as scene:
        tip = await looked(scene)
        before = [gate.name for gate in (await scene.judge.rulings.of(tip)).rules.gates]
        scene.store.write(
            Event.FACT_CHANGED, Fact(name="left_out", value='["test", "10-whole"]'), now=at()
        )
        scene.commit(FILES)

        after = [gate.name for gate in (await scene.judge.rulings.of(tip)).rules.gates]
        explicit = [
            gate.name for gate in (await scene.judge.rulings.of(await looked(scene))).rules.gates
        ]

        assert (before, after, explicit) == (["test"], [], ["10-whole"])


async def test_trunks_own_gate_that_changes_files_is_one_card_that_says_so(scene: Scene) -> None:
    scene.commit({"conventions/gates/20-fix.sh": "sed -i s/once/twice/ story.txt\n"})
    await looked(scene)

    (card,) = scene.store.open(Card)
    assert card.kind is CardKind.TRUNK_RED
    assert "20-fix changes files that it judges: story.txt" in card.question
    assert "`# rewrites: story.txt` into conventions/gates/20-fix.sh" in card.options[2].effect

    scene.commit(
        {"conventions/gates/20-fix.sh": "# rewrites: story.txt\nsed -i s/once/twice/ story.txt\n"}
    )
    await looked(scene)
    assert (scene.cards(), told(scene)) == ([], "green")


async def test_files_that_a_person_lets_an_inferred_gate_change_are_put_back_after_it(
    tmp_path: Path,
) -> None:
    async with scene_in(
        tmp_path, {"Makefile": "test:\n\tdate > 'now[1].txt'\n", "now[1].txt": ""}
    ) as scene:
        await looked(scene)
        (card,) = scene.store.open(Card)
        said = scene.floor.escalations.answer(card.id, "Restore the files after it", now=at())

        await looked(scene)

        assert said == "from now on, factoryd restores these files after test"
        assert (scene.cards(), told(scene)) == ([], "green")
        assert answers(scene.store).sentences == [
            "factoryd restores now[1].txt after the inferred gate test, because of your answer"
        ]


# ── accept ──


async def test_accept_fails_below_and_passes_above(scene: Scene) -> None:
    tip = await looked(scene)
    made = await scene.made({"one.txt": "fine\n"})

    proven = await scene.judge.judge(made, parent=tip, unit=UNIT, accept=("test -e one.txt",))
    passing = await scene.judge.judge(
        made, parent=tip, unit=UNIT, accept=("test -e one.txt", "test -e story.txt")
    )
    failing = await scene.judge.judge(made, parent=tip, unit=UNIT, accept=("test -e two.txt",))

    assert proven.ok
    assert (passing.ok, passing.passed_before) == (False, "test -e story.txt")
    assert (failing.ok, failing.not_proven) == (False, True)


async def test_a_proof_says_which_command_passes_on_trunk_already(scene: Scene) -> None:
    tip = await looked(scene)

    assert await scene.judge.prove(("test -e new.txt", "test -e story.txt")) == Proof(
        commit=tip, passing="test -e story.txt"
    )
    assert await scene.judge.prove(("test -e new.txt",)) == Proof(commit=tip)


async def test_a_proof_that_is_broken_off_time_after_time_proves_nothing(scene: Scene) -> None:
    await looked(scene)

    proof = await scene.judge.prove(("kill -9 $PPID; sleep 5",))

    assert proof.setup is not None
    assert proof.setup.kind is CardKind.SETUP


async def test_a_command_that_does_not_end_on_trunk_is_named(scene: Scene) -> None:
    tip = await looked(scene)
    scene.state.settings = Settings(gates=GateLimits(timeout_s=0.3))
    server = "sleep 60"
    seconds = list[float]()

    proof = await scene.judge.prove((server,), begun=seconds.append)

    assert (proof, seconds) == (Proof(commit=tip, endless=server), [0.3])


async def test_a_judging_gets_the_only_bench_from_a_proof_that_ignores_sigterm(
    tmp_path: Path,
) -> None:
    async with scene_in(tmp_path, gates=GateLimits(benches=1)) as scene:
        tip = await looked(scene)
        made = await scene.made({"one.txt": "fine\n"})
        scope = anyio.CancelScope()
        yielding = Yielding(give_way=scope.cancel, until=anyio.current_time() + 600)

        async def prove() -> None:
            command = f"trap '' TERM; echo x >> {tmp_path}/ran; sleep 60"
            with scope:
                await scene.judge.prove((command,), yielding=yielding)

        scene.group.start_soon(prove)
        with anyio.fail_after(20):
            while not scene.count("ran"):  # noqa: ASYNC110 - what runs is another program
                await anyio.sleep(0.01)
            ruled = await scene.judge.judge(made, parent=tip, unit=UNIT)

        assert (ruled.ok, scope.cancelled_caught) == (True, True)


# ── verdicts ──


async def test_a_kept_verdict_is_told_for_the_unit_that_it_serves(scene: Scene) -> None:
    tip = await looked(scene)
    made = await scene.made({"one.txt": "fine\n"})
    await scene.judge.judge(made, parent=tip, unit=UNIT)

    await scene.judge.judge(made, parent=tip, unit=UNIT)

    given = [
        entry for entry in entries_of(scene.store, unit="u") if entry.event is Event.VERDICT_GIVEN
    ]
    assert [entry.detail["cached"] for entry in given] == [False, True]
    assert len(scene.store.select(Verdict)) == 2


async def test_a_verdict_on_top_of_what_has_not_landed_is_told_as_one(scene: Scene) -> None:
    tip = await looked(scene)
    first = await scene.made({"one.txt": "fine\n"})
    await scene.judge.judge(first, parent=tip, unit=UNIT)

    await scene.judge.judge(await scene.made({"two.txt": "fine\n"}), parent=first, unit=UNIT)

    given = [
        entry for entry in entries_of(scene.store, unit="u") if entry.event is Event.VERDICT_GIVEN
    ]
    assert [entry.detail.get("stacked", False) for entry in given] == [False, True]


async def test_a_gate_that_ends_its_own_supervisor_gives_no_verdict_and_is_not_asked_for_ever(
    tmp_path: Path,
) -> None:
    gate = f"echo x >> {tmp_path}/ran; kill -9 $PPID; sleep 5\n"
    async with scene_in(tmp_path, {"conventions/gates/10-kills.sh": gate}) as scene:
        await looked(scene)

        assert scene.count("ran") == 3
        assert (scene.cards(), told(scene)) == ([CardKind.SETUP], "unknown")


async def test_trunk_whose_judging_broke_is_judged_by_a_later_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging, broke = scene.floor.gates.judge, anyio.Event()

    async def breaks(case: Case, **told: Any) -> Judgement:
        scene.floor.gates.judge = judging  # type: ignore[method-assign]
        broke.set()
        raise FactoryError("no bench")

    scene.floor.gates.judge = breaks  # type: ignore[method-assign]
    tip = await scene.floor.trunk.refresh()
    await scene.trunk_judge.look(tip, scene.group)
    await broke.wait()
    await anyio.wait_all_tasks_blocked()
    await scene.trunk_judge.look(tip, scene.group)
    time_passes(monkeypatch, 3)

    await looked(scene)

    assert told(scene) == "green"


async def test_the_judging_of_a_trunk_that_moved_on_says_nothing_about_the_new_one(
    scene: Scene,
) -> None:
    old = await scene.floor.trunk.refresh()
    await scene.trunk_judge.look(old, scene.group)
    scene.commit({"two.txt": "BROKEN\n"})

    await looked(scene)
    await scene.trunk_judge.look(await scene.floor.trunk.refresh(), scene.group)

    assert scene.trunk_judge.is_red
    assert scene.trunk_judge.ruled(old) is None
    assert (scene.cards(), told(scene)) == ([CardKind.TRUNK_RED], "red")


async def test_only_what_trunk_is_red_in_is_excused_and_only_for_whom_a_person_said_so(
    scene: Scene,
) -> None:
    scene.commit({"two.txt": "BROKEN\n", "conventions/gates/20-more.sh": "test ! -e bad\n"})
    tip = await looked(scene)
    let = Unit(
        id="u",
        title="u",
        state=UnitState.QUEUED,
        since=at(),
        accepted=at(),
        approved=("trunk_red",),
    )
    same = await scene.judge.judge(await scene.made({"one.txt": "fine\n"}), parent=tip, unit=let)

    assert scene.trunk_judge.excused(same, let)
    assert not scene.trunk_judge.excused(same, UNIT)


# ── the store fails ──


async def test_a_verdict_that_the_store_could_not_take_is_taken_when_it_can_and_its_gate_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.judging.verdicts.RECORD_SECONDS", 0.01)
    ran, go = tmp_path / "ran", tmp_path / "go"
    gate = f"echo x >> {ran}; until [ -e {go} ]; do sleep 0.01; done\n"
    async with scene_in(tmp_path, {"conventions/gates/10-slow.sh": gate}) as scene:
        tip = await scene.floor.trunk.refresh()
        ruled = list[Ruled]()

        async def judge() -> None:
            ruled.append(await scene.judge.judge(tip, parent=tip))

        async with anyio.create_task_group() as group:
            group.start_soon(judge)
            with anyio.fail_after(15):
                while not ran.exists():  # noqa: ASYNC110 - a gate sends no signal
                    await anyio.sleep(0.01)
            tried = list[str]()
            write = scene.store.write

            def tries(event: Event, *records: Any, **more: Any) -> int:
                tried.append(event)
                return write(event, *records, **more)

            monkeypatch.setattr(scene.store, "write", tries)
            with locked(scene.store):
                go.touch()
                with anyio.fail_after(15):
                    while len(tried) < 2:  # noqa: ASYNC110
                        await anyio.sleep(0.01)

        assert (ruled[0].ok, scene.count("ran"), len(scene.store.select(Verdict))) == (True, 1, 1)


async def test_what_was_judged_of_trunk_and_could_not_be_written_down_is_told_by_the_next_look(
    scene: Scene,
) -> None:
    tip = await looked(scene)
    scene.trunk_judge._tell("judging")

    ruled = scene.trunk_judge.ruled(tip)
    assert ruled is not None
    with locked(scene.store), pytest.raises(StoreError, match="locked"):
        scene.trunk_judge._settle(ruled, anew=True)
    assert told(scene) != "green"
    await scene.trunk_judge.look(tip, scene.group)

    assert told(scene) == "green"


async def test_a_result_that_could_not_be_written_down_says_nothing_about_the_next_commit(
    scene: Scene,
) -> None:
    tip = await looked(scene)
    scene.trunk_judge._tell("judging")
    ruled = scene.trunk_judge.ruled(tip)
    assert ruled is not None
    with locked(scene.store), pytest.raises(StoreError, match="locked"):
        scene.trunk_judge._settle(ruled, anew=True)
    scene.commit({"two.txt": "other\n"})
    tip = await scene.floor.trunk.refresh()

    await scene.trunk_judge.look(tip, scene.group)
    await scene.trunk_judge.look(tip, scene.group)

    assert told(scene) == "judging"


# ── repair units ──


async def test_a_repair_unit_ends_when_somebody_else_makes_trunk_green(scene: Scene) -> None:
    scene.commit({"two.txt": "BROKEN\n"})
    await looked(scene)
    scene.floor.escalations.answer("E1", "1", now=at())
    assert (scene.state_of("repair-trunk"), scene.cards()) == ("ready", [CardKind.TRUNK_RED])
    scene.commit({"two.txt": "fine\n"})

    await looked(scene)

    unit = scene.unit("repair-trunk")
    assert (unit.state, unit.why) == (
        UnitState.CANCELLED,
        "main is green again, so no repair is needed",
    )
    assert scene.cards() == []
