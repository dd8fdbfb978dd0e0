"""A gate that changes what it judges is red, however it does that, and whoever judges beside it.

The gates here succeed. If they were believed, a tree would land that none of them passed.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from factory.child.sandbox import Sandbox
from factory.ground.settings import GateLimits
from factory.inference.infer import rules_of
from factory.inference.rules import Gate, digest
from factory.judging.gates import Answer, Judgement
from factory.judging.rewrites import check_form, sentence
from factory.store.journal import Event
from factory.store.records import Verdict
from tests.git_repo import git
from tests.journal import entries_of
from tests.judging.test_gates import Court, gate, only

SETUP = "conventions/workspace/setup.sh"
FIX = "sed -i s/bad/good/ src/app.txt\n"
LOOK = "grep -q good src/app.txt\n"


def made(folder: Path) -> Court:
    """A court whose gates run once."""
    court = Court(folder)
    court.change({"src/app.txt": "bad\n", "lock.txt": "1\n", ".gitignore": "made/\n"})
    court.limits = GateLimits(flaky_reruns=0)
    return court


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return made(tmp_path)


@pytest.fixture(params=["layers", "shared"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> Court:
    """With a sandbox that keeps apart what gates write beside each other, and without one."""
    court = made(tmp_path)
    if request.param == "layers":
        sandbox = await sandboxed(court, path=os.environ["PATH"])
        if not sandbox.layers:
            pytest.skip("there are no overlays here")
    return court


async def sandboxed(court: Court, *, path: str) -> Sandbox:
    """Confine the gates of that court; `path`: where bubblewrap is looked for."""
    work = court.folder / "work"
    work.mkdir()
    sandbox = Sandbox(
        environ={"PATH": path, "HOME": str(court.folder / "person")},
        hidden=(),
        work=work,
        objects=court.folder / "own.git/objects",
        mode=lambda: "auto",
    )
    await sandbox.look()
    court.commands.sandbox = sandbox
    return sandbox


def reds(judgement: Judgement) -> dict[str, tuple[str, ...]]:
    """What each red gate changed."""
    return {verdict.gate: verdict.rewrote for verdict in judgement.red}


def beside(scripts: dict[str, str]) -> list[Gate]:
    """Gates of one group."""
    return [gate(script, f"10-{name.replace(' ', '-')}") for name, script in scripts.items()]


# ── how a file is changed ──

WAYS = {
    "content": FIX,
    "content and time": (
        "touch -r src/app.txt $TMPDIR/t; sed -i s/bad/god/ src/app.txt; touch -r $TMPDIR/t src/app.txt\n"
    ),
    "mode": "chmod +x src/app.txt\n",
    "deleted": "rm src/app.txt\n",
    "a link": "mv src/app.txt src/x; ln -s x src/app.txt\n",
    "a folder": "rm src/app.txt; mkdir src/app.txt\n",
    "its folder is a link": "cp -r src made; rm -r src; ln -s made src\n",
    "its folder is gone": "rm -r src\n",
    "its folder is another": "rm -r src; mkdir src\n",
    "committed": f"{FIX}git -c user.name=a -c user.email=a@b commit -qam fixed\n",
    "assumed unchanged": f"git update-index --assume-unchanged src/app.txt\n{FIX}",
    "not in the work tree": f"git update-index --skip-worktree src/app.txt\n{FIX}",
    "without modes": "git config core.fileMode false; chmod +x src/app.txt\n",
    "attributes": "echo '* text=auto ident' > .gitattributes; printf 'bad\\r\\n' > src/app.txt\n",
    "closed": f"{FIX}chmod 0 src\n",
}
HARMLESS = {
    "touched": "touch src/app.txt\n",
    "written as it was": "cp src/app.txt $TMPDIR/x; rm src/app.txt; cp $TMPDIR/x src/app.txt\n",
    "changed back": f"{FIX}sed -i s/good/bad/ src/app.txt\n",
    "its folder made once more": "cp -r src $TMPDIR; rm -r src; cp -r $TMPDIR/src .\n",
    "new files": "mkdir -p made new; echo x > made/a; echo y > new/b; git add -A\n",
    "closed": "mkdir shut; chmod 0 shut\n",
}


async def test_whoever_changes_a_tracked_file_is_red_and_says_which(either: Court) -> None:
    gates = beside(WAYS)

    judgement = await either.judge(only(*gates))

    assert reds(judgement) == {each.name: ("src/app.txt",) for each in gates}
    assert all(
        "src/app.txt. So it did not judge what would land" in each.tail for each in judgement.red
    )


async def test_whoever_leaves_tracked_files_as_they_are_is_green(either: Court) -> None:
    judgement = await either.judge(only(*beside(HARMLESS)))

    assert reds(judgement) == {}
    assert not list((either.folder / "work/benches/b1/layers").glob("*"))


async def test_attributes_of_the_candidate_itself_hide_no_change(either: Court) -> None:
    either.change({".gitattributes": "* text=auto\n*.id ident\n", "a.id": "$Id$\n"})
    lines = gate("printf 'bad\\r\\n' > src/app.txt\n", "10-lines")
    ident = gate("echo '$Id: other code $' > a.id\n", "10-ident")

    judgement = await either.judge(only(lines, ident))

    assert reds(judgement) == {"10-lines": ("src/app.txt",), "10-ident": ("a.id",)}


async def test_line_ends_that_a_checkout_makes_are_no_change(either: Court) -> None:
    either.change({".gitattributes": "*.bat eol=crlf\n", "run.bat": "one\ntwo\n"})
    touches, other = (
        gate("grep -q '\r' run.bat; touch run.bat\n", "10-touches"),
        gate("true\n", "10-other"),
    )

    judgement = await either.judge(only(touches, other))

    assert judgement.answer is Answer.GREEN


async def test_a_gate_that_runs_alone_is_looked_at_too(court: Court) -> None:
    court.limits = GateLimits(flaky_reruns=1)

    judgement = await court.judge(only(gate(court.counting(f"echo '> eslint . --fix'\n{FIX}"))))

    (verdict,) = judgement.red
    assert (verdict.rewrote, verdict.settled, court.count()) == (("src/app.txt",), True, 2)
    assert "it changed a tracked file: src/app.txt" in verdict.tail
    assert "(eslint without --fix)" in verdict.tail


async def test_what_stops_whoever_reads_it_stops_no_look_at_a_tree(court: Court) -> None:
    waits = gate(
        "mkfifo .gitattributes src/.gitattributes src/.gitignore; touch src/app.txt\n", "10-waits"
    )
    instead = gate("rm src/app.txt; mkfifo src/app.txt .gitattributes\n", "20-instead")

    judgement = await court.judge(only(waits, instead))

    assert reds(judgement) == {"20-instead": ("src/app.txt",)}


@pytest.mark.parametrize("script", ['rm -rf "$PWD"\n', 'mv "$PWD" ../away; ln -s away "$PWD"\n'])
async def test_a_gate_without_a_tree_in_the_end_is_red_and_the_next_one_has_one(
    court: Court, script: str
) -> None:
    judgement = await court.judge(only(gate(script)))
    later = await court.judge(only(gate(LOOK.replace("good", "bad"))))

    assert reds(judgement) == {"10-test": ("the whole tree",)}
    assert later.answer is Answer.GREEN


async def test_a_gate_that_is_red_by_itself_is_not_blamed_for_what_it_changed(court: Court) -> None:
    judgement = await court.judge(only(gate(f"{FIX}exit 1\n")))

    assert reds(judgement) == {"10-test": ()}


def test_many_files_are_named_in_part_and_a_known_tool_by_the_form_that_only_checks() -> None:
    said = sentence([f"f{number}" for number in range(9)], "black .")

    assert "9 tracked files: f0, f1, f2, f3, f4 and 4 more" in said
    assert "(black --check)" in said
    assert check_form("make lint") == ""


# ── what it may change ──


async def test_files_that_a_gate_names_are_put_back_and_others_are_not(court: Court) -> None:
    names = gate("echo 2 > lock.txt\n", "10-lock", rewrites=("*.lock", "lock.txt"))
    later = gate("grep -q 1 lock.txt\n", "20-later")
    more = gate(f"echo 2 > lock.txt\n{FIX}", "30-more", rewrites=("lock.txt",))

    judgement = await court.judge(only(names, later, more))

    assert reds(judgement) == {"30-more": ("src/app.txt",)}


# ── gates beside each other ──


async def test_of_gates_that_run_together_the_blame_goes_to_each_for_what_it_did(
    either: Court,
) -> None:
    waits = "for _ in $(seq 20); do sleep 0.02; if grep -q good src/app.txt; then exit 0; fi; done; exit 1\n"
    gates = beside({"fix": FIX, "look": LOOK, "waits": waits, "fine": "sleep 0.1\n"})

    judgement = await either.judge(only(*gates))

    assert reds(judgement) == {"10-fix": ("src/app.txt",), "10-look": (), "10-waits": ()}


async def test_a_group_in_which_all_succeed_and_one_changes_files_is_red(either: Court) -> None:
    judgement = await either.judge(only(*beside({"fix": FIX, "fine": "sleep 0.1\n"})))

    assert judgement.answer is Answer.RED
    assert reds(judgement) == {"10-fix": ("src/app.txt",)}


async def test_what_a_gate_may_change_the_one_beside_it_does_not_see(either: Court) -> None:
    lock = gate("echo 2 > lock.txt; sleep 0.1\n", "10-lock", rewrites=("lock.txt",))
    look = gate("for _ in 1 2 3; do grep -q 1 lock.txt || exit 1; sleep 0.05; done\n", "10-look")

    judgement = await either.judge(only(lock, look))

    assert judgement.answer is Answer.GREEN
    assert [verdict.flaky for verdict in judgement.verdicts] == [False, False]


async def test_a_red_gate_that_shared_a_tree_runs_again_alone(court: Court) -> None:
    spoils, red = "touch left; sleep 0.3\n", court.counting("exit 1\n")
    gates = beside({"spoils": spoils, "spoilt": "sleep 0.1; test ! -e left\n", "red": red})

    judgement = await court.judge(only(*gates))

    assert list(reds(judgement)) == ["10-red"]
    assert (court.count(), judgement.red[0].settled) == (2, True)


async def test_a_build_that_writes_over_tracked_files_is_the_setups_matter_and_no_gates(
    court: Court,
) -> None:
    court.change({"dist/app.txt": "stale\n"})
    script = "mkdir -p dist; cp src/app.txt dist/\n"
    setup = rules_of([SETUP], {SETUP: f"# keeps: dist\n{script}"}).setup

    first = await court.judge(only(gate("true\n"), setup=setup))
    again = await court.judge(only(gate("true\n", "20-other"), setup=setup))
    court.change({"dist/app.txt": "bad\n"})
    fresh = await court.judge(only(gate("true\n"), setup=setup))

    for judgement in (first, again):
        assert judgement.failed is not None
        assert "Setup overwrites dist/app.txt, which git tracks" in judgement.failed.sentence
    assert fresh.answer is Answer.GREEN


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
async def test_on_a_disk_that_can_hold_no_layer_gates_share_a_tree_and_are_looked_at(
    court: Court,
) -> None:
    real, stand_in = shutil.which("bwrap"), court.folder / "bin/bwrap"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f'#!/bin/sh\ncase " $* " in *" --overlay "*) exit 1 ;; esac\nexec {real} "$@"\n'
    )
    stand_in.chmod(0o755)
    sandbox = await sandboxed(court, path=f"{stand_in.parent}:{os.environ['PATH']}")
    if not sandbox.on:
        pytest.skip("bubblewrap does not work here")

    judgement = await court.judge(only(*beside({"fix": FIX, "fine": "true\n"})))

    assert reds(judgement) == {"10-fix": ("src/app.txt",)}
    assert sandbox.protections.endswith("gates of one group share a checkout")


# ── verdicts ──


async def test_a_verdict_of_a_release_that_did_not_look_is_not_believed(court: Court) -> None:
    fix = gate(FIX)
    await court.judge(only(fix))
    (verdict,) = court.store.select(Verdict)
    key = json.loads((court.folder / "work/benches/b1/environment.json").read_text())["key"]
    older = digest(git(court.repo, "rev-parse", "HEAD^{tree}"), fix.digest, key, "off")
    court.store.write(
        Event.VERDICT_GIVEN,
        replace(verdict, key=older, ok=True, settled=True, rewrote=()),
        now=verdict.at,
    )

    judgement = await court.judge(only(fix))

    assert judgement.answer is Answer.RED


async def test_what_a_gate_changed_is_kept_with_its_verdict(court: Court) -> None:
    court.limits = GateLimits(flaky_reruns=1)
    first = await court.judge(only(gate(FIX)))

    again = await court.judge(only(gate(FIX)))

    assert again.verdicts == first.verdicts
    given = [
        entry.detail for entry in entries_of(court.store) if entry.event is Event.VERDICT_GIVEN
    ]
    assert [told["cached"] for told in given] == [False, True]


async def test_a_proof_that_succeeds_only_by_changing_files_shows_no_need_for_the_work(
    court: Court,
) -> None:
    proof = await court.prove((FIX.strip(),))

    assert proof.answer is Answer.GREEN
    assert [verdict.succeeded for verdict in proof.verdicts] == [True]
