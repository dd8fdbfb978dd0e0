"""Gates and setups under way when a daemon goes: the next one goes on with them, or ends them.

What an adopted run says counts only for what it really judged; each way to a false green is tried here.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

from factory.child import process
from factory.child.sandbox import Sandbox
from factory.ground.settings import GateLimits
from factory.inference.infer import rules_of
from factory.inference.rules import Rules, Setup
from factory.judging.case import Case
from factory.judging.gates import Answer, Judgement
from factory.repo.benches import Bench, Benches
from factory.repo.underway import UNDERWAY, Fit
from factory.store.identity import Identity, record
from factory.store.records import Verdict
from tests.git_repo import git
from tests.judging.test_gates import Another, Court, gate, only

SETUP = "conventions/workspace/setup.sh"
PATIENCE_S = 20.0


class Watched(Benches):
    """Benches whose files are never touched while anything runs there."""

    court: "Restarted"

    async def reset(self, name: str, rev: str, **more: Any) -> None:
        assert not [path for path in self.court.runs() if path.name.startswith(f"{name}-")]
        record = self.court.commands.underway.at(self.place(name))
        # Afterwards nobody could see what it did to the tree.
        assert record is None or (record.what != "setup" and not record.found.get("running"))
        await super().reset(name, rev, **more)


class Restarted(Court):
    """A court whose daemon goes, and leaves what runs to the next one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.limits = GateLimits(flaky_reruns=0)
        self.pool = self.benches()
        (folder / "judged").mkdir()

    def change(self, files: dict[str, str]) -> str:
        made = super().change(files)
        super().benches()  # which fetches it
        return made

    def holding(self, more: str = "grep good a.txt\n") -> str:
        """A script that says that it runs, and then waits for `go`."""
        wait = f"while [ ! -e {self.folder}/go ]; do sleep 0.01; done\n"
        return self.counting(f"{wait}{more}")

    async def until(self, look: Callable[[], object]) -> None:
        with anyio.fail_after(PATIENCE_S):
            while not look():  # noqa: ASYNC110 - what runs is another program
                await anyio.sleep(0.01)

    async def confine(self) -> bool:
        """Use a sandbox that keeps apart what gates write; whether there is one."""
        environ, objects = (
            {"PATH": os.environ["PATH"], "HOME": str(self.folder / "person")},
            self.folder / "own.git",
        )
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        sandbox = Sandbox(
            environ=environ, hidden=(), work=work, objects=objects / "objects", mode=lambda: "auto"
        )
        await sandbox.look()
        self.commands.sandbox = sandbox
        return sandbox.layers

    async def cut_short(
        self, rules: Rules, *, ran: int = 1, begun: int = 0, trunk: str = "HEAD"
    ) -> None:
        """Judge until so many commands run; then the daemon goes as for a restart, and the next one starts."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.asked, rules, trunk)
            await self.until(lambda: len(self.runs()) >= begun if begun else self.count() >= ran)
            self.leaves = True
            group.cancel_scope.cancel()
        await self.starts()

    async def starts(self) -> None:
        self.leaves = False
        self.gates, self.pool = self.courtroom(), self.benches()
        await self.gates.end_leftovers()

    async def asked(self, rules: Rules, trunk: str = "HEAD", *, rev: str = "HEAD") -> Judgement:
        """What the judge says who takes a bench as the line does."""

        def on(bench: Bench) -> Case:
            return self.case(bench, rules, rev, trunk)

        async with self.pool.take(lambda bench: self.gates.fit(on(bench), ())) as bench:
            return await self.gates.judge(on(bench))

    async def adopted(
        self, rules: Rules, trunk: str = "HEAD", *, bench: Bench | None = None
    ) -> Judgement:
        """The same (on that very bench), while what is under way comes to its end."""
        (self.folder / "go").touch()
        return await (
            self.gates.judge(self.case(bench, rules)) if bench else self.asked(rules, trunk)
        )

    @property
    def bench(self) -> Bench:
        """The first one."""
        return Bench(name="b1", place=self.folder / "work/benches/b1", benches=self.pool)

    def benches(self) -> Benches:
        made = super().benches()
        made.__class__ = Watched
        assert isinstance(made, Watched)
        made.court = self
        return made

    def run_dirs(self) -> list[Path]:
        return sorted((self.folder / "judged").iterdir(), key=lambda path: path.stat().st_ctime)

    async def ended(self) -> None:
        """Wait for what runs while no daemon does."""
        (self.folder / "go").touch()
        await self.until(lambda: all((path / "exit.json").exists() for path in self.run_dirs()))

    def runs(self) -> list[Path]:
        return [path for path in self.run_dirs() if process.is_running(path)]


@pytest.fixture
def court(tmp_path: Path) -> Restarted:
    return Restarted(tmp_path)


# ── gates ──


async def test_a_gate_that_is_left_again_and_again_runs_once_and_its_verdict_counts(
    court: Restarted,
) -> None:
    rules = only(gate(court.holding()))
    for _ in range(2):
        await court.cut_short(rules)

    judgement = await court.adopted(rules)

    assert (judgement.answer, court.count()) == (Answer.GREEN, 1)
    assert [verdict.settled for verdict in judgement.verdicts] == [True]
    assert not (court.bench.place / UNDERWAY).exists()


@pytest.mark.parametrize("ok", [True, False])
async def test_a_gate_that_ended_while_no_daemon_watched_has_judged(
    court: Restarted, *, ok: bool
) -> None:
    rules = only(gate(court.holding("" if ok else "echo broken; exit 1\n")))
    await court.cut_short(rules)
    await court.ended()
    await court.starts()

    judgement = await court.asked(rules)

    assert (judgement.answer, court.count()) == (Answer.GREEN if ok else Answer.RED, 1)
    assert [verdict.tail for verdict in judgement.verdicts] == ["" if ok else "broken\n"]


async def test_a_red_before_the_restart_and_a_green_after_it_are_a_flaky_gate(
    court: Restarted,
) -> None:
    court.limits = GateLimits(flaky_reruns=1)
    first = f"if [ ! -e {court.folder}/tried ]; then touch {court.folder}/tried; exit 1; fi\n"
    rules = only(gate(f"{first}{court.holding()}"))
    await court.cut_short(rules)

    judgement = await court.adopted(rules)

    assert [(verdict.ok, verdict.flaky) for verdict in judgement.verdicts] == [(True, True)]
    assert court.count() == 1


async def test_of_gates_side_by_side_only_the_one_that_was_lost_runs_again(
    court: Restarted,
) -> None:
    rules = only(
        gate(court.holding(), "10-a"), gate(court.holding(), "10-b"), gate("true\n", "20-c")
    )
    await court.cut_short(rules, ran=2)
    (lost, *_) = (path for path in court.runs() if "10-b" in path.name)
    await process.end(lost)

    judgement = await court.adopted(rules)

    assert (judgement.answer, court.count()) == (Answer.GREEN, 3)


async def test_a_time_limit_counts_from_the_start_of_a_gate_and_not_from_its_adoption(
    court: Restarted,
) -> None:
    rules = only(gate(court.holding(), timeout_s=0.6))
    await court.cut_short(rules)
    await court.until(lambda: not court.runs())

    judgement = await court.asked(rules)

    (verdict,) = judgement.verdicts
    assert (verdict.ok, verdict.settled, court.count()) == (False, False, 1)
    assert "it took too long" in verdict.tail


# ── no false green ──


@pytest.mark.parametrize("change", ["gate", "tree", "setup", "sandbox", "environment"])
async def test_a_gate_of_anything_else_is_ended_before_its_bench_is_used(
    court: Restarted, change: str
) -> None:
    await court.cut_short(only(gate(court.holding())))
    (running,) = court.runs()
    rules = only(
        gate(court.holding("test ! -e never\n" if change == "gate" else "grep good a.txt\n"))
    )
    if change == "tree":
        court.change({"a.txt": "bad\n"})
    if change == "setup":
        rules = replace(rules, setup=Setup(kind="script", script="true", reason="s"))
    if change == "sandbox":
        court.commands.sandbox = Another(
            environ={}, hidden=(), work=court.folder, objects=court.folder, mode=lambda: "off"
        )
    if change == "environment":
        court.passed = ("HOME",)
    fit = court.gates.fit(court.case(court.bench, rules), ())

    judgement = await court.adopted(rules, bench=court.bench)

    assert fit is (Fit.OTHER if change == "tree" else Fit.STALE)
    assert (process.is_running(running), court.count()) == (False, 2)
    assert judgement.answer is (Answer.RED if change == "tree" else Answer.GREEN)


async def test_what_was_begun_in_a_folder_that_was_moved_since_is_not_gone_on_with(
    court: Restarted,
) -> None:
    rules, bench = only(gate(court.holding())), court.bench
    moved = replace(bench, place=court.folder / "moved/benches/b1")
    await court.cut_short(rules)
    before = court.gates.fit(court.case(bench, rules), ())
    moved.place.parent.mkdir(parents=True)
    bench.place.rename(moved.place)

    after = court.gates.fit(court.case(moved, rules), ())

    assert (before, after) == (Fit.SAME, Fit.STALE)
    await process.end(*court.runs())


@pytest.mark.parametrize("what", ["half an end", "another nonce", "no end", "half a record"])
async def test_what_is_not_whole_says_nothing(court: Restarted, what: str) -> None:
    rules = only(gate(court.holding("exit 1\n")))
    await court.cut_short(rules)
    await court.ended()
    (folder,) = court.run_dirs()
    told = json.loads((folder / "exit.json").read_text()) | {"code": 0}
    forged = told | ({"nonce": "00000000-0badcafe"} if what == "another nonce" else {})
    whole = json.dumps(forged)
    (folder / "exit.json").write_text(whole[: len(whole) // 2] if what == "half an end" else whole)
    if what == "no end":
        (folder / "exit.json").unlink()
    if what == "half a record":
        record = court.bench.place / UNDERWAY
        record.write_text(record.read_text()[:-9])
    await court.starts()

    judgement = await court.asked(rules)

    assert (judgement.answer, court.count()) == (Answer.RED, 2)


@pytest.mark.parametrize("who", ["the gate", "somebody"])
async def test_a_tree_that_is_changed_while_no_daemon_watches_has_passed_nothing(
    court: Restarted, who: str
) -> None:
    court.change({"a.txt": "bad\n"})
    rules = only(
        gate(
            court.holding(f"{'echo good > a.txt; ' if who == 'the gate' else ''}grep good a.txt\n")
        )
    )
    await court.cut_short(rules)
    if who == "somebody":
        (court.bench.tree / "a.txt").write_text("good\n")
    await court.ended()
    await court.starts()

    judgement = await court.asked(rules)

    assert (judgement.answer, court.count()) == (Answer.RED, 1)
    assert [verdict.rewrote for verdict in judgement.red] == [("a.txt",)]


async def test_a_gate_that_changed_the_tree_has_done_so_after_each_restart(
    court: Restarted,
) -> None:
    court.change({"a.txt": "bad\n"})
    mends, looks = (
        gate("echo good > a.txt\n", "10-mends", flaky_reruns=1),
        gate(court.holding("true\n"), "10-looks"),
    )
    rules = only(mends, looks)
    await court.cut_short(rules)
    await court.cut_short(rules)  # one by one by now, in a tree that is shown anew

    judgement = await court.adopted(rules)

    assert {verdict.gate: verdict.rewrote for verdict in judgement.red} == {"10-mends": ("a.txt",)}


@pytest.mark.parametrize("kind", ["layers", "shared"])
async def test_side_by_side_too_the_gate_that_changes_the_tree_is_red(
    court: Restarted, kind: str
) -> None:
    if kind == "layers" and not await court.confine():
        pytest.skip("there are no overlays here")
    court.change({"a.txt": "bad\n"})
    rules = only(
        gate("sleep 0.5; echo good > a.txt\n", "10-mends"),
        gate("sleep 0.5; grep bad a.txt\n", "10-looks"),
    )
    await court.cut_short(rules, begun=2)
    await court.ended()
    await court.starts()

    judgement = await court.asked(rules)

    assert {verdict.gate: verdict.rewrote for verdict in judgement.red} == {"10-mends": ("a.txt",)}
    assert len(court.run_dirs()) == (2 if kind == "layers" else 4)


async def test_a_bench_that_shows_something_else_has_the_gate_run_again(court: Restarted) -> None:
    court.change({"a.txt": "bad\n"})
    rules = only(gate(court.holding("true\n")))
    await court.cut_short(rules)
    await court.ended()
    (court.folder / "index/benches-b1").unlink()
    await court.starts()

    judgement = await court.asked(rules)

    assert (judgement.answer, court.count()) == (Answer.GREEN, 2)


async def test_a_gate_that_changed_its_environment_has_judged_in_none_that_counts(
    court: Restarted,
) -> None:
    setup = Setup(
        kind="script", script=f"mkdir node_modules; echo x >> {court.folder}/installed", reason="s"
    )
    break_in = f"test -e {court.folder}/once || touch {court.folder}/once node_modules/more\n"
    rules = only(gate(court.holding(break_in)), setup=setup)
    await court.cut_short(rules)

    judgement = await court.adopted(rules)

    assert (judgement.answer, court.count(), court.count("installed")) == (Answer.GREEN, 2, 2)


async def test_a_bench_where_something_cannot_be_ended_is_not_used_again(
    court: Restarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await court.cut_short(only(gate(court.holding())))
    (running,) = court.runs()

    async def in_vain(run_dir: Path) -> bool:
        return False

    with monkeypatch.context() as stubborn:
        stubborn.setattr(process, "end", in_vain)
        stubborn.setattr(Restarted, "runs", lambda self: [])
        judgement = await court.gates.judge(court.case(court.bench, only(gate("true\n"))))

    (aside,) = court.folder.glob("work/benches/b1.abandoned-*")
    assert (judgement.answer, (aside / "tree/a.txt").read_text()) == (Answer.GREEN, "good\n")
    assert process.is_running(running)
    await process.end(running)


async def test_of_another_store_nothing_is_adopted(court: Restarted) -> None:
    rules = only(gate(court.holding()))
    await court.cut_short(rules)
    (running,) = court.runs()
    record(court.store, Identity(id="0badcafe", root="/", git_dir="/"), now=datetime.now(UTC))

    await court.starts()

    assert not process.is_running(running)
    assert not (court.bench.place / UNDERWAY).exists()
    judgement = await court.adopted(rules)
    assert (judgement.answer, court.count()) == (Answer.GREEN, 2)


# ── what nobody asks for ──


async def test_what_nobody_asks_for_after_a_start_is_ended_and_its_bench_is_free(
    court: Restarted,
) -> None:
    await court.cut_short(only(gate(court.holding())))
    (running,) = court.runs()
    other = only(gate("true\n"))

    await court.gates.end_leftovers()
    async with court.pool.take() as bench:
        first = bench.name
    await court.commands.underway.end_unclaimed()

    assert first == "b2"
    assert not process.is_running(running)
    assert (await court.asked(other)).answer is Answer.GREEN
    assert not (court.folder / "work/benches/b2").exists()


async def test_what_was_asked_for_in_time_runs_on(court: Restarted) -> None:
    rules = only(gate(court.holding()))
    await court.cut_short(rules)

    async with anyio.create_task_group() as group:
        group.start_soon(court.asked, rules)
        await anyio.wait_all_tasks_blocked()
        await court.commands.underway.end_unclaimed()
        (court.folder / "go").touch()

    assert court.count() == 1
    assert [verdict.ok for verdict in court.store.select(Verdict)] == [True]


async def test_a_judging_that_nobody_needs_any_more_ends_the_gate_that_it_adopted(
    court: Restarted,
) -> None:
    rules = only(gate(court.holding()))
    await court.cut_short(rules)
    (running,) = court.runs()

    async with anyio.create_task_group() as group:
        group.start_soon(court.asked, rules)
        await court.until(lambda: court.pool._users)
        group.cancel_scope.cancel()

    assert not process.is_running(running)
    assert not (court.bench.place / UNDERWAY).exists()
    assert court.store.select(Verdict) == []


async def test_a_bench_where_something_is_under_way_waits_for_its_taker_while_others_wait(
    court: Restarted,
) -> None:
    rules = only(gate(court.holding()))
    await court.cut_short(rules)
    court.pool.resize(1)
    taken = list[str]()

    async def another() -> None:
        async with court.pool.take() as bench:
            taken.append(bench.name)

    async with anyio.create_task_group() as group:
        group.start_soon(another)
        await anyio.wait_all_tasks_blocked()
        before = [*taken]
        judgement = await court.adopted(rules)

    assert (before, taken) == ([], ["b1"])
    assert (judgement.answer, court.count()) == (Answer.GREEN, 1)


async def test_with_no_other_bench_what_the_same_tree_is_asked_otherwise_takes_its_place(
    court: Restarted,
) -> None:
    await court.cut_short(only(gate(court.holding())))
    (running,) = court.runs()
    court.pool.resize(1)

    judgement = await court.asked(only(gate("true\n")))

    assert judgement.answer is Answer.GREEN
    assert not process.is_running(running)


async def test_what_was_begun_for_a_tree_that_nobody_wants_any_more_is_ended(
    court: Restarted,
) -> None:
    await court.cut_short(only(gate(court.holding())))
    (running,), (bench,) = court.runs(), court.pool.begun()
    wanted = git(court.repo, "rev-parse", "HEAD^{tree}")

    await court.gates.end_unwanted(bench, {wanted})
    before = process.is_running(running)
    await court.gates.end_unwanted(bench, {"another"})

    assert (before, process.is_running(running)) == (True, False)
    assert court.pool.begun() == []


# ── accept ──


async def test_accept_commands_under_way_are_adopted_where_they_have_to_fail(
    court: Restarted,
) -> None:
    accept = (court.holding("false\n"),)
    async with anyio.create_task_group() as group:
        group.start_soon(proven, court, accept)
        await court.until(court.count)
        court.leaves = True
        group.cancel_scope.cancel()
    await court.starts()
    (court.folder / "go").touch()

    judgement = await proven(court, accept)

    assert (judgement.answer, court.count()) == (Answer.RED, 1)


async def test_of_two_accept_commands_the_one_that_has_failed_is_not_asked_again(
    court: Restarted,
) -> None:
    accept = (f"echo x >> {court.folder}/first; false", court.holding("false\n"))
    async with anyio.create_task_group() as group:
        group.start_soon(proven, court, accept)
        await court.until(court.count)
        court.leaves = True
        group.cancel_scope.cancel()
    await court.starts()
    (court.folder / "go").touch()

    judgement = await proven(court, accept)

    assert (judgement.answer, court.count("first"), court.count()) == (Answer.RED, 1, 1)


async def proven(court: Restarted, accept: tuple[str, ...]) -> Judgement:
    """Accept commands where they have to fail, on the bench where that is under way."""

    def fit(bench: Bench) -> Fit:
        return court.gates.fit(court.case(bench, Rules()), accept, proving=True)

    async with court.pool.take(fit) as bench:
        return await court.gates.prove(court.case(bench, Rules()), accept)


# ── setups ──

STEPS = """\
echo x >> {folder}/ran
while [ ! -e {folder}/go ]; do sleep 0.01; done
mkdir node_modules
cp a.txt node_modules/lib
{more}
"""


def prepared(
    court: Restarted, more: str = "", *, judge: str = "grep good node_modules/lib\n"
) -> Rules:
    """A setup that waits for `go`, and a gate that looks at what it made."""
    script = STEPS.format(folder=court.folder, more=more)
    setup = rules_of([SETUP], {SETUP: script}).setup
    return Rules(gates=(gate(judge),), setup=setup)


async def test_a_setup_under_way_is_adopted_and_serves(court: Restarted) -> None:
    rules = prepared(court)
    for _ in range(2):
        await court.cut_short(rules)

    judgement = await court.adopted(rules)
    again = await court.asked(prepared(court, judge="test -e node_modules/lib\n"))

    assert (judgement.answer, again.answer, court.count()) == (Answer.GREEN, Answer.GREEN, 1)


async def test_a_setup_goes_on_after_the_steps_that_ran_while_no_daemon_watched(
    court: Restarted,
) -> None:
    step = (
        "sh",
        "-c",
        f"echo x >> {court.folder}/ran; while [ ! -e {court.folder}/go ]; do sleep 0.01; done",
    )
    last = ("sh", "-c", f"echo x >> {court.folder}/last; mkdir node_modules")
    setup = Setup(kind="npm", commands=(step, last), keeps=("node_modules",), reason="r")
    rules = only(gate("test -d node_modules\n"), setup=setup)
    await court.cut_short(rules)
    await court.ended()
    await court.starts()

    judgement = await court.asked(rules)

    assert (judgement.answer, court.count(), court.count("last")) == (Answer.GREEN, 1, 1)


async def test_a_setup_that_fails_while_no_daemon_watches_has_failed(court: Restarted) -> None:
    rules = prepared(court, "echo no such package; exit 7")
    await court.cut_short(rules)
    await court.ended()
    await court.starts()

    judgement = await court.asked(rules)

    assert (judgement.answer, court.count()) == (Answer.SETUP, 1)
    assert judgement.failed is not None
    assert "ended with exit code 7" in judgement.failed.sentence
    assert "no such package" in judgement.failed.tail


async def test_a_setup_that_was_lost_begins_from_nothing(court: Restarted) -> None:
    rules = prepared(court)
    await court.cut_short(rules)
    (running,) = court.runs()
    await process.end(running)
    (court.bench.tree / "node_modules").mkdir()  # with which it would fail

    judgement = await court.adopted(rules)

    assert (judgement.answer, court.count()) == (Answer.GREEN, 2)


@pytest.mark.parametrize("change", ["tree", "environment"])
async def test_a_setup_of_anything_else_is_ended_before_its_bench_is_used(
    court: Restarted, change: str
) -> None:
    await court.cut_short(prepared(court))
    (running,) = court.runs()
    rules = prepared(court)
    if change == "tree":
        court.change({"a.txt": "bad\n"})
    if change == "environment":
        court.passed = ("HOME",)

    judgement = await court.adopted(rules, bench=court.bench)

    assert (process.is_running(running), court.count()) == (False, 2)
    assert judgement.answer is (Answer.RED if change == "tree" else Answer.GREEN)


async def test_a_setup_by_trunk_s_code_is_adopted_for_the_candidate_that_it_was_begun_for(
    court: Restarted,
) -> None:
    rules = prepared(court)
    court.change({"b.txt": ""})
    await court.cut_short(rules, trunk="HEAD~1")

    judgement = await court.adopted(rules, trunk="HEAD~1")

    assert (judgement.answer, court.count()) == (Answer.GREEN, 1)


async def test_a_setup_by_trunk_s_code_that_fails_is_not_the_candidate_s_failure(
    court: Restarted,
) -> None:
    rules = prepared(court, "test -e b.txt")
    court.change({"b.txt": ""})
    await court.cut_short(rules, trunk="HEAD~1")

    judgement = await court.adopted(rules, trunk="HEAD~1")

    assert (judgement.answer, court.count()) == (Answer.GREEN, 3)


async def test_a_build_on_dependencies_is_adopted_and_what_it_changes_in_them_nobody_else_sees(
    court: Restarted,
) -> None:
    folder = court.folder
    script = f"""\
        # inputs: deps.txt
        echo x >> {folder}/ran
        if [ "$1" != build ]; then mkdir node_modules; echo sound > node_modules/lib; fi
        test ! -e poison || echo poison > node_modules/lib
        test "$1" != build || while [ ! -e {folder}/go ]; do sleep 0.01; done
        mkdir -p dist; cp a.txt dist/
    """
    setup = rules_of([SETUP], {SETUP: dedent(script)}).setup
    rules = Rules(
        gates=(gate("grep sound node_modules/lib && grep -q good dist/a.txt\n"),), setup=setup
    )
    court.change({".gitignore": "dist/\nnode_modules\n"})
    good = await court.asked(rules)
    court.change({"poison": ""})
    await court.cut_short(rules, ran=2, trunk="HEAD~1")

    poisoned = await court.adopted(rules, trunk="HEAD~1")
    ran = court.count()
    court.change({"b.txt": ""})
    (court.repo / "poison").unlink()
    court.change({"poison": "x"})
    other = await court.asked(rules, rev="HEAD~3", trunk="HEAD~3")

    assert (good.answer, poisoned.answer, ran) == (Answer.GREEN, Answer.RED, 2)
    assert other.answer is Answer.GREEN
