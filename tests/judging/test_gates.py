"""Judging on real benches: what a verdict says, when it is asked again, and the ways to a false green."""

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from factory.child import process
from factory.child.sandbox import Sandbox
from factory.ground.settings import GateLimits
from factory.inference.infer import rules_of, wanted
from factory.inference.rules import Gate, Rules, Setup
from factory.judging.case import Case, accepting
from factory.judging.commands import Commands
from factory.judging.environments import Environments
from factory.judging.gates import Answer, Gates, Judgement
from factory.judging.machine import Machine
from factory.judging.measured import time_limit
from factory.judging.setups import Suspect
from factory.repo.benches import Bench, Benches
from factory.repo.git import Git
from factory.store.journal import Event
from factory.store.records import Verdict
from tests.floor import unconfined, underway
from tests.git_repo import commit, environment, git, make_repo
from tests.journal import entries_of
from tests.memory_store import MemoryStore


class Another(Sandbox):
    """None, by another name."""

    @property
    def name(self) -> str:
        return "another"


class Court:
    """A repository, its benches, and the gates that judge on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = make_repo(folder / "repo", {"a.txt": "good\n"})
        self.store = MemoryStore()
        self.limits = GateLimits()
        self.passed: tuple[str, ...] = ()
        self.leaves = False  # what runs to the next daemon
        machine = Machine(
            environ={"PATH": os.environ["PATH"], "HOME": str(folder / "person")},
            root=self.repo,
            caches=folder / "work/caches",
            passed=lambda: self.passed,
        )
        self.commands = Commands(
            machine=machine,
            underway=underway(folder, self.store, leaves=lambda: self.leaves),
            sandbox=unconfined(),
        )
        self.gates = self.courtroom()

    def courtroom(self) -> Gates:
        return Gates(
            store=self.store, environments=Environments(self.commands), limits=lambda: self.limits
        )

    def benches(self) -> Benches:
        own = self.folder / "own.git"
        if not own.exists():
            git(self.folder, "clone", "-q", "--bare", "repo", "own.git")
        git(self.folder, "--git-dir=own.git", "fetch", "-q", "repo", "+refs/heads/*:refs/heads/*")
        return Benches(
            own=Git(git_dir=own, own=True, environ=environment()),
            folder=self.folder / "work/benches",
            index_dir=self.folder / "index",
            trunk_branch="main",
            size=2,
        )

    def change(self, files: dict[str, str]) -> str:
        return commit(self.repo, files)

    def rules(self, rev: str = "HEAD") -> Rules:
        listing = git(self.repo, "ls-tree", "-r", "--name-only", rev).splitlines()
        return rules_of(
            listing, {name: git(self.repo, "show", f"{rev}:{name}") for name in wanted(listing)}
        )

    def case(self, bench: Bench, rules: Rules, rev: str = "HEAD", trunk: str = "HEAD") -> Case:
        asked = (rev, f"{rev}^{{tree}}", trunk, f"{trunk}^{{tree}}")
        commit, tree, below, below_tree = git(self.repo, "rev-parse", *asked).split()
        return Case(
            bench=bench,
            commit=commit,
            tree=tree,
            rules=rules,
            unit="u",
            trunk=below,
            trunk_tree=below_tree,
        )

    async def judge(
        self, rules: Rules, rev: str = "HEAD", *, trunk: str = "HEAD", accept: tuple[str, ...] = ()
    ) -> Judgement:
        async with self.benches().take() as bench:
            return await self.gates.judge(self.case(bench, rules, rev, trunk), accept=accept)

    async def prove(self, accept: tuple[str, ...], rev: str = "HEAD") -> Judgement:
        async with self.benches().take() as bench:
            return await self.gates.prove(self.case(bench, Rules(), rev), accept)

    def count(self, name: str = "ran") -> int:
        path = self.folder / name
        return len(path.read_text().split()) if path.exists() else 0

    def counting(self, script: str = "") -> str:
        return f"echo x >> {self.folder}/ran\n{script}"


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


def gate(script: str, name: str = "10-test", **more: object) -> Gate:
    made = Gate(
        name=name,
        group=int(name.split("-")[0]),
        script=script,
        reason=f"conventions/gates/{name}.sh",
    )
    return replace(made, **more)  # type: ignore[arg-type]


def only(*gates: Gate, setup: Setup | None = None) -> Rules:
    return Rules(gates=gates, setup=setup or Setup())


# ── verdicts ──


async def test_a_green_verdict_is_kept_whole_with_its_journal_entry(court: Court) -> None:
    judgement = await court.judge(only(gate("grep good a.txt\n")))

    (verdict,) = judgement.verdicts
    assert judgement == Judgement(answer=Answer.GREEN, verdicts=(verdict,))
    assert verdict == Verdict(
        key=verdict.key,
        gate="10-test",
        tree=git(court.repo, "rev-parse", "HEAD^{tree}"),
        ok=True,
        settled=True,
        at=verdict.at,
        seconds=verdict.seconds,
        command="sh conventions/gates/10-test.sh",
        log=verdict.log,
    )
    assert court.store.get(Verdict, verdict.key) == verdict
    assert Path(verdict.log).read_text() == "good\n"
    (entry,) = entries_of(court.store)
    assert (entry.event, entry.unit, entry.detail) == (
        Event.VERDICT_GIVEN,
        "u",
        {"gate": "10-test", "ok": True, "cached": False},
    )


async def test_a_red_verdict_has_the_end_of_what_was_said(court: Court) -> None:
    judgement = await court.judge(only(gate("seq 9999; echo boom; exit 1\n")))

    (verdict,) = judgement.red
    assert judgement.answer is Answer.RED
    assert verdict.settled
    assert verdict.tail.endswith("9999\nboom\n")


async def test_no_gate_is_not_green(court: Court) -> None:
    assert await court.judge(only(), accept=("true",)) == Judgement(answer=Answer.NO_GATE)


async def test_groups_run_in_order_up_to_the_first_red_one(court: Court) -> None:
    rules = only(
        gate(court.counting(), "30-late"), gate("exit 1\n", "20-red"), gate("true\n", "5-lint")
    )

    judgement = await court.judge(rules)

    assert [(verdict.gate, verdict.ok) for verdict in judgement.verdicts] == [
        ("5-lint", True),
        ("20-red", False),
    ]
    assert court.count() == 0


async def test_gates_of_one_number_run_side_by_side(court: Court) -> None:
    os.mkfifo(court.folder / "pipe")
    pair = (
        gate(f"cat {court.folder}/pipe\n", "10-a"),
        gate(f"echo hello > {court.folder}/pipe\n", "10-b"),
    )

    judgement = await court.judge(only(*(replace(one, timeout_s=20) for one in pair)))

    assert judgement.answer is Answer.GREEN


# ── asked once, asked again ──


async def test_a_settled_verdict_is_not_asked_for_twice_a_red_one_neither(court: Court) -> None:
    rules = only(gate(court.counting(), "10-a"), gate(court.counting("exit 1\n"), "20-b"))
    first = await court.judge(rules)

    second = await court.judge(rules)

    assert court.count() == 3
    assert second.answer is Answer.RED
    assert second.verdicts == first.verdicts


async def test_a_gate_during_which_the_sandbox_was_switched_gives_no_verdict(court: Court) -> None:
    name = property(lambda _: "off" if court.count() else "bwrap")
    switched = type("Switched", (Sandbox,), {"name": name})
    court.commands.sandbox = switched(
        environ={}, hidden=(), work=court.folder, objects=court.folder, mode=lambda: "off"
    )

    judgement = await court.judge(only(gate(court.counting())))

    assert judgement == Judgement(answer=Answer.UNSETTLED)
    assert court.store.select(Verdict) == []


@pytest.mark.parametrize("change", ["gate", "tree", "setup", "sandbox"])
async def test_another_gate_text_tree_environment_or_sandbox_is_judged_anew(
    court: Court, change: str
) -> None:
    await court.judge(only(gate(court.counting())))
    rules = only(gate(court.counting("true" if change == "gate" else "")))
    if change == "setup":
        rules = replace(rules, setup=Setup(kind="script", script="true", reason="s"))
    if change == "tree":
        court.change({"a.txt": "other\n"})
    if change == "sandbox":
        court.commands.sandbox = Another(
            environ={}, hidden=(), work=court.folder, objects=court.folder, mode=lambda: "off"
        )

    await court.judge(rules)

    assert court.count() == 2


async def test_a_gate_that_fails_once_is_flaky_and_never_blamed(court: Court) -> None:
    script = court.counting(f"test $(wc -l < {court.folder}/ran) -ge 2\n")

    judgement = await court.judge(only(gate(script)))

    (verdict,) = judgement.verdicts
    assert judgement.answer is Answer.GREEN
    assert (verdict.flaky, verdict.settled) == (True, True)


@pytest.mark.parametrize(("own", "configured", "runs"), [(None, 2, 3), (0, 2, 1), (1, 0, 2)])
async def test_reruns_are_the_gate_s_own_else_as_configured(
    court: Court, own: int | None, configured: int, runs: int
) -> None:
    court.limits = GateLimits(flaky_reruns=configured)
    rules = only(replace(gate(court.counting("exit 1\n")), flaky_reruns=own))

    judgement = await court.judge(rules)

    assert court.count() == runs
    assert judgement.red[0].settled is (runs > 1)


async def test_a_gate_that_takes_too_long_is_red_says_so_and_is_not_settled(court: Court) -> None:
    judgement = await court.judge(only(gate("echo begun\nsleep 1000\n", timeout_s=0.3)))

    (verdict,) = judgement.red
    assert not verdict.settled
    assert verdict.seconds >= 0.3  # beside a load it takes longer to end it
    ended = f"[ended after {verdict.seconds:.1f} s: it took too long]"
    assert verdict.tail.startswith(f"begun\n\n{ended}")


def test_the_time_limit_is_thrice_what_was_measured_doubled_for_each_rerun() -> None:
    measured = [float(number) for number in range(101)]

    assert time_limit([], runs=0) == 1800
    assert time_limit([1.0], runs=0) == 60
    assert time_limit(measured, runs=0) == 3 * 95
    assert time_limit(measured[::-1], runs=2) == 4 * 3 * 95


async def test_what_green_runs_took_is_remembered_across_a_restart(court: Court) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    old = Verdict(key="k", gate="10-test", tree="t", ok=True, settled=True, at=at, seconds=100.0)
    court.store.write(Event.VERDICT_GIVEN, old, now=at)

    await court.judge(only(gate("true\n")))

    assert court.gates.verdicts.limit(gate("true\n")) == 300
    assert court.gates.verdicts.limit(gate("true\n", "10-other")) == 1800
    assert court.gates.verdicts.limit(gate("true\n", timeout_s=7)) == 7


async def test_a_command_that_must_fail_has_ten_minutes_until_it_is_measured(court: Court) -> None:
    await court.judge(only(gate("true\n")))

    limit = court.gates.verdicts.limit

    assert court.gates.proof_seconds(("test -e a", "test -e b")) == 1200
    assert limit(gate("true\n", "10-other"), proving=True) == 600
    assert limit(gate("true\n"), proving=True) == 60


async def test_an_interrupted_gate_is_nobody_s_verdict(court: Court) -> None:
    judgement = await court.judge(only(gate("kill -9 $PPID\nsleep 1000\n")))

    assert (judgement.answer, judgement.verdicts) == (Answer.UNSETTLED, ())
    assert court.store.select(Verdict) == []


@pytest.mark.parametrize(
    "script", ["kill -9 $$\n", "kill $$; sleep 5\n", "sh -c 'kill -9 $$'\n", "kill -INT $$\n"]
)
async def test_a_gate_that_somebody_else_kills_has_no_verdict(court: Court, script: str) -> None:
    judgement = await court.judge(only(gate(script)))

    assert (judgement.answer, court.store.select(Verdict)) == (Answer.UNSETTLED, [])
    assert judgement.failed is not None
    assert judgement.failed.suspect is Suspect.MACHINE


@pytest.mark.parametrize("script", ["kill -SEGV $$\n", "sh -c 'kill -ABRT $$'\n", "exit 129\n"])
async def test_a_gate_that_crashes_by_itself_is_red(court: Court, script: str) -> None:
    assert (await court.judge(only(gate(script)))).answer is Answer.RED


async def test_an_accept_command_that_somebody_kills_does_not_count_as_failing_before(
    court: Court,
) -> None:
    assert (await court.prove(("kill -9 $$",))).answer is Answer.UNSETTLED


async def test_a_red_on_a_full_disk_is_nobody_s_verdict(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.disk.LEAST", 1 << 60)

    red, green = await court.judge(only(gate("exit 1\n"))), await court.judge(only(gate("true\n")))

    assert (red, green.answer) == (Judgement(answer=Answer.UNSETTLED), Answer.GREEN)


async def test_a_runner_that_is_not_there_is_a_setup_failure_a_script_of_the_tree_s_is_red(
    court: Court,
) -> None:
    missing = Gate(name="lint", group=1, command=("no-such-linter", "."), reason="r")
    deleted = Gate(name="lint", group=1, command=("./check.sh",), reason="r")

    nobody, unit = await court.judge(only(missing)), await court.judge(only(deleted))

    assert nobody.answer is Answer.SETUP
    assert nobody.failed is not None
    assert "no-such-linter is not in its environment" in nobody.failed.sentence
    assert unit.answer is Answer.RED


async def test_a_failed_setup_is_nobody_s_verdict(court: Court) -> None:
    rules = only(gate(court.counting()), setup=Setup(kind="script", script="exit 9\n", reason="s"))

    judgement = await court.judge(rules)

    assert judgement.answer is Answer.SETUP
    assert judgement.failed is not None
    assert "ended with exit code 9" in judgement.failed.sentence
    assert court.count() == 0


async def test_a_cancelled_judging_ends_its_gates(court: Court) -> None:
    os.mkfifo(court.folder / "pid")

    async with anyio.create_task_group() as group:
        group.start_soon(court.judge, only(gate(f"echo $$ > {court.folder}/pid\nsleep 1000\n")))
        pid = await to_thread.run_sync((court.folder / "pid").read_text)
        group.cancel_scope.cancel()

    assert not Path(f"/proc/{pid.strip()}/environ").exists()
    assert court.store.select(Verdict) == []


async def test_what_a_dead_daemon_s_gates_left_running_is_ended(court: Court) -> None:
    command = process.Command(
        argv=("sleep", "1000"),
        cwd=court.folder,
        env={"PATH": os.environ["PATH"]},
        run_dir=court.folder / "judged/b1-x",
    )
    child = await process.start(command)
    while not (command.run_dir / "start.json").exists():
        await anyio.lowlevel.checkpoint()

    gone = await court.gates.end_leftovers()

    assert gone
    assert (await child.wait()).cause in ("stopped", "lost")


# ── accept ──


async def test_accept_commands_fail_before_and_pass_after_ahead_of_the_gates(court: Court) -> None:
    accept = ("grep -q fixed a.txt", "test -f b.txt")
    before = await court.prove(accept)
    court.change({"a.txt": "fixed\n", "b.txt": ""})

    after = await court.judge(only(gate("true\n")), accept=accept)

    assert (before.answer, [verdict.ok for verdict in before.verdicts]) == (
        Answer.RED,
        [False, False],
    )
    assert after.answer is Answer.GREEN
    given = [
        entry.detail for entry in entries_of(court.store) if entry.event is Event.VERDICT_GIVEN
    ]
    assert [told.get("before", False) for told in given] == [True, True, False, False, False]
    names = [verdict.gate for verdict in after.verdicts]
    assert names == ["accept: grep -q fixed a.txt", "accept: test -f b.txt", "10-test"]


async def test_an_accept_command_that_passes_already_proves_nothing(court: Court) -> None:
    proof = await court.prove(("false", "grep -q good a.txt"))

    assert proof.answer is Answer.GREEN
    assert [verdict.command for verdict in proof.verdicts if verdict.ok] == ["grep -q good a.txt"]


async def test_each_accept_command_has_a_clean_checkout(court: Court) -> None:
    proof = await court.prove(("touch made; false", "test -f made"))

    assert proof.answer is Answer.RED
    assert [one.group for one in accepting(("a", "b"))] == [-2, -1]


# ── ways to a false green ──


async def test_a_gate_that_the_candidate_edits_is_not_the_one_that_judges_it(court: Court) -> None:
    path = "conventions/gates/10-test.sh"
    court.change({path: "grep good a.txt\n"})
    court.change({path: "true\n", "a.txt": "bad\n"})

    judgement = await court.judge(court.rules("HEAD~1"))

    assert (await court.judge(court.rules())).answer is Answer.GREEN
    assert judgement.answer is Answer.RED


async def test_a_bench_is_made_clean_before_each_group_and_not_twice_before_the_first(
    court: Court,
) -> None:
    shown = []

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Counted(Bench):
        async def show(self, commit: str, *, keeps: tuple[str, ...] = ()) -> None:
            shown.append(commit)
            await Bench.show(self, commit, keeps=keeps)

    rules = only(gate("echo x > left.txt\n"), gate("! test -e left.txt\n", "20-clean"))
    await court.judge(only(gate("true\n", "30-other")))  # the environment is there

    async with court.benches().take() as bench:
        counted = Counted(name=bench.name, place=bench.place, benches=bench.benches)
        judgement = await court.gates.judge(court.case(counted, rules))

    assert judgement.answer is Answer.GREEN
    assert len(shown) == 2


async def test_what_a_red_run_left_behind_does_not_make_its_rerun_green(court: Court) -> None:
    assert (
        await court.judge(only(gate("test -f made || { touch made; exit 1; }\n")))
    ).answer is Answer.RED


async def test_what_one_group_changes_in_the_tree_does_not_help_the_next(court: Court) -> None:
    court.change({".gitignore": "made\n"})
    script = "echo fixed > a.txt; touch made ~/made $TMPDIR/made\n"
    fix = gate(script, "10-fix", rewrites=("a.txt",))
    test = gate(
        "grep -q fixed a.txt || test -f made || test -f ~/made || test -f $TMPDIR/made\n", "20-test"
    )

    judgement = await court.judge(only(fix, test))

    assert [verdict.gate for verdict in judgement.red] == ["20-test"]


VENV = Setup(
    kind="script",
    commands=(("{python}", "-I", "-m", "venv", "--without-pip", "{venv}"),),
    reason="s",
)


async def test_a_gate_that_always_changes_its_environment_settles_nothing_and_is_named(
    court: Court,
) -> None:
    judgement = await court.judge(
        only(gate(court.counting('touch "$VIRTUAL_ENV/bin/tool"\n')), setup=VENV)
    )

    assert judgement.answer is Answer.SETUP
    assert judgement.failed is not None
    assert (
        "Gate 10-test (or a gate that runs at the same time) changes its"
        in judgement.failed.sentence
    )
    assert [verdict.settled for verdict in judgement.verdicts] == [False]
    assert court.count() == 2


async def test_what_a_gate_installs_does_not_serve_the_next_judgement(court: Court) -> None:
    plant = gate(
        'printf "#!/bin/sh\\n" > "$VIRTUAL_ENV/bin/tool"; chmod +x "$VIRTUAL_ENV/bin/tool"; false\n'
    )
    use = Gate(name="tool", group=1, command=("tool",), reason="r")

    first = await court.judge(only(plant, setup=VENV))
    second = await court.judge(only(use, setup=VENV))

    assert first.answer is Answer.RED
    assert not first.red[0].settled
    assert second.answer is Answer.SETUP


async def test_a_green_in_an_environment_that_changed_once_is_judged_again_in_a_fresh_one(
    court: Court,
) -> None:
    script = court.counting(f'test $(wc -l < {court.folder}/ran) -ge 2 || touch "$VIRTUAL_ENV/x"\n')

    judgement = await court.judge(only(gate(script), setup=VENV))

    assert judgement.answer is Answer.GREEN
    assert (court.count(), judgement.verdicts[0].settled) == (2, True)


async def test_a_gate_that_closes_its_checkout_stops_no_later_one(court: Court) -> None:
    rules = only(
        gate("mkdir -p pkg/in; chmod 0 pkg .\n"), setup=replace(VENV, keeps=("node_modules",))
    )
    first = await court.judge(rules)
    court.change({"a.txt": "better\n"})

    assert [first.answer, (await court.judge(rules)).answer] == [Answer.GREEN, Answer.GREEN]


async def test_a_verdict_in_one_environment_says_nothing_about_a_newer_one(court: Court) -> None:
    setup = replace(VENV, inputs=("requirements.txt",))
    await court.judge(only(gate(court.counting()), setup=setup))
    court.change({"requirements.txt": "newer\n"})

    judgement = await court.judge(only(gate(court.counting()), setup=setup))

    assert (judgement.answer, court.count()) == (Answer.GREEN, 2)


async def test_an_environment_that_a_candidate_s_code_made_serves_nobody_else(court: Court) -> None:
    setup = replace(VENV, script='sh more.sh "$VIRTUAL_ENV"\n', inputs=("asked.txt",))
    rules = only(gate('test -e "$VIRTUAL_ENV/poison"\n'), setup=setup)
    court.change({"more.sh": ":\n", "asked.txt": "1"})
    poison = {"more.sh": "touch $1/poison\n"}

    court.change(poison)
    asks_the_same = await court.judge(rules, trunk="HEAD~1")
    court.change(poison | {"asked.txt": "2"})
    asks_for_more = await court.judge(rules, trunk="HEAD~2")
    court.change({"more.sh": ":\n"})
    another = await court.judge(rules, trunk="HEAD~3")
    on_trunk = await court.judge(rules)

    answers = [judgement.answer for judgement in (asks_the_same, asks_for_more, another, on_trunk)]
    assert answers == [Answer.RED, Answer.GREEN, Answer.RED, Answer.RED]


# ── the real thing, over the network: one of each ──


async def test_network_a_python_project_is_judged_as_the_candidate_has_it_without_a_new_install(
    court: Court,
) -> None:
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "pkg"\nversion = "1"\n',
        "src/pkg/__init__.py": "right = True\n",
        "tests/test_a.py": "import pkg\n\ndef test_right(): assert pkg.right\n",
        ".gitignore": "*.egg-info/\n__pycache__/\n",
    }
    court.change(files)
    rules = court.rules()
    good = await court.judge(rules)
    stamp = (court.folder / "work/benches/b1/environment.json").read_bytes()
    court.change({"src/pkg/__init__.py": "right = False\n"})

    bad = await court.judge(rules, trunk="HEAD~1")

    assert good.answer is Answer.GREEN, good
    assert [verdict.gate for verdict in bad.red] == ["pytest"]
    assert "assert False" in bad.red[0].tail
    assert (court.folder / "work/benches/b1/environment.json").read_bytes() == stamp


async def test_network_node_packages_are_installed_as_locked_and_serve_the_next_candidate(
    court: Court,
) -> None:
    locked = {
        "": {"name": "a", "version": "1.0.0", "dependencies": {"isarray": "1.0.0"}},
        "node_modules/isarray": {"version": "1.0.0", "integrity": ISARRAY},
    }
    package = {
        "name": "a",
        "version": "1.0.0",
        "scripts": {"test": "node t.js"},
        "dependencies": {"isarray": "1.0.0"},
    }
    lock = {
        "name": "a",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "requires": True,
        "packages": locked,
    }
    test = "process.exit(require('isarray')([]) ? 0 : 1)\n"
    court.change(
        {"package.json": json.dumps(package), "package-lock.json": json.dumps(lock), "t.js": test}
    )
    rules = court.rules()
    good = await court.judge(rules)
    court.change({"t.js": "process.exit(require('isarray')({}) ? 0 : 1)\n"})

    bad = await court.judge(rules, trunk="HEAD~1")

    assert good.answer is Answer.GREEN, good
    assert [verdict.gate for verdict in bad.red] == ["test"]
    assert len(list((court.folder / "judged").glob("*-setup"))) == 1


ISARRAY = "sha512-VLghIWNM6ELQzo7zwmcg0NmTVyWKYjvIeM83yjp0wRDTmUnrM678fQbcKBo6n2CJEF0szoG//ytg+TKla89ALQ=="
