"""Agents that do what they should not: the line goes on, and nothing of theirs is left behind."""

from pathlib import Path

from factory.store.journal import Event
from factory.store.records import CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line
from tests.attempt.test_outbox import ALIASES
from tests.git_repo import git


def test_a_flood_of_output_is_kept_to_its_end_and_the_work_lands(shared: Line) -> None:
    code = """
        chunk = b'x' * (1 << 20)
        for _ in range(50):
            os.write(1, chunk)
        write('flood.txt', 'fine')
        """
    shared.drop("flood", code)

    shared.unit("flood")

    kept = sum(
        path.stat().st_size for path in shared.places.run_dir("flood", 1).glob("output*.log")
    )
    assert 16 << 20 <= kept <= 34 << 20


def test_a_question_made_of_yaml_aliases_is_asked_and_answered_and_the_line_goes_on(
    shared: Line,
) -> None:
    shared.drop(
        "aliases",
        f"""
        if attempt == 1:
            leave('question.md', {ALIASES + "options: [*l, *m]" + chr(10) + "---" + chr(10) + "Red or blue?"!r})
        else:
            write('colour.txt', 'fine')
        """,
    )

    card = shared.card(CardKind.QUESTION)
    shared.answer(card, "blue")

    shared.unit("aliases")
    assert card.question.startswith("aliases asks: Red or blue?")
    assert "line 2: &a is read as a YAML anchor" in card.evidence
    assert "blue" in shared.prompt("aliases", 2)


def test_binary_output_stops_nobody(shared: Line) -> None:
    shared.drop(
        "binary",
        "os.write(1, bytes(range(256)) * 9); write('b.txt', 'BROKEN' if attempt == 1 else 'fine')",
    )

    shared.unit("binary")

    assert shared.attempts("binary") == ["gate_red", "submitted"]


def test_an_agent_that_ignores_its_end_is_killed_when_its_minutes_are_over(shared: Line) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); hold('/never')"
    shared.drop("stubborn", code, minutes=0.01, attempts=1)

    shared.answer(shared.card(CardKind.ATTEMPTS_EXHAUSTED), "Cancel it")

    assert shared.attempts("stubborn") == ["timed_out"]
    assert not _agents(shared)


def test_what_an_agent_left_running_in_another_session_is_ended_before_its_tree_is_taken(
    shared: Line,
) -> None:
    code = """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.environ.pop('FACTORY_RUN', None)
                while True:
                    write('late.md', 'x' * 100000)
            os._exit(0)
        while not Path('late.md').exists():
            time.sleep(0.01)
        """
    shared.drop("double-fork", code)

    shared.unit("double-fork")

    assert not _agents(shared)


def test_an_agent_that_forks_and_exits_lands_what_was_there_when_it_ended(shared: Line) -> None:
    code = "os.fork() == 0 and (os.setsid(), hold('/never')); write('parent.txt', 'fine')"
    shared.drop("leaves-a-child", code)

    shared.unit("leaves-a-child")

    assert not _agents(shared)


def test_an_agent_that_deletes_its_workspace_has_done_nothing_and_the_next_one_finds_a_whole_tree(
    shared: Line,
) -> None:
    code = """
        import shutil
        if attempt == 1:
            shutil.rmtree(os.getcwd())
        else:
            write('whole.txt', str(Path('story.txt').exists()))
        """
    shared.drop("deletes", code)

    landed = shared.unit("deletes")

    assert shared.attempts("deletes") == ["empty", "submitted"]
    assert shared.git("show", f"{landed.commit}:whole.txt") == "True"


def test_an_agent_that_deletes_all_workspaces_and_benches_costs_only_its_own_attempt(
    line: Line,
) -> None:
    code = """
        import shutil
        if attempt == 1:
            shutil.rmtree(Path.cwd().parents[2], ignore_errors=True)
        else:
            write('after.txt', 'fine')
        """
    line.drop("razes", code)

    line.unit("razes")

    line.drop("next", "write('next.txt', 'fine')")
    line.unit("next")
    assert line.attempts("next") == ["submitted"]


def test_an_agent_that_commits_rebases_and_tags_lands_as_one_commit_and_no_ref_of_its_own_gets_out(
    shared: Line,
) -> None:
    before = _refs(shared)
    code = """
        write('one.txt', 'fine'); git('add', '-A'); git('commit', '-qm', 'mine')
        write('two.txt', 'fine'); git('add', '-A'); git('commit', '-qm', 'mine too')
        git('tag', 'mine'); git('branch', 'side'); git('config', 'core.hooksPath', '/tmp')
        """
    shared.drop("commits", code)

    landed = shared.unit("commits")

    assert sorted(shared.git("show", "--format=", "--name-only", landed.commit).splitlines()) == [
        "one.txt",
        "two.txt",
    ]
    assert _refs(shared) == before
    assert git(shared.places.git, "tag") == ""


def test_an_agent_that_switches_its_branch_lands_what_its_tree_holds(shared: Line) -> None:
    shared.drop(
        "switches",
        "git('checkout', '-q', '--orphan', 'new'); git('rm', '-rqf', '--cached', '.'); write('s.txt', 'fine')",
    )

    landed = shared.unit("switches")

    assert shared.git("show", "--format=", "--name-only", landed.commit) == "s.txt"


def test_a_repository_that_an_agent_made_lands_as_plain_files_and_the_digest_says_so(
    shared: Line,
) -> None:
    code = """
        if attempt == 1:
            git('init', '-q', 'inner')
            write('inner/in.txt', 'BROKEN')
        else:
            write('inner/in.txt', 'fine')
        """
    shared.drop("nests", code)

    landed = shared.unit("nests")

    assert (
        "inner was a separate git repository; its files were added as plain files"
        in shared.prompt("nests", 2)
    )
    assert shared.git("ls-tree", "-r", landed.commit, "inner").startswith("100644 blob")


def test_what_an_agent_plants_in_its_git_dir_never_runs(shared: Line) -> None:
    planted = shared.folder / "planted"
    code = f"""
        script = '#!/bin/sh\\ntouch {planted}\\n'
        for name in ('pre-commit', 'post-checkout', 'post-index-change', 'post-merge', 'reference-transaction'):
            write('.git/hooks/' + name, script); os.chmod('.git/hooks/' + name, 0o755)
        write('.git/config', Path('.git/config').read_text() + '[core]\\n\\tfsmonitor = touch {planted}\\n')
        write('.gitattributes', '*.txt filter=evil diff=evil\\n')
        write('.git/config', Path('.git/config').read_text() + '[filter "evil"]\\n\\tclean = touch {planted}; cat\\n')
        write('plain.txt', 'BROKEN' if attempt == 1 else 'fine')
        """
    shared.drop("plants", code, allow=["edit-gates"])  # else a card asks first

    shared.unit("plants")

    assert not planted.exists()
    shared.git("rm", "-q", ".gitattributes")
    shared.git("commit", "-qm", "no attributes")


def test_a_symlink_out_of_the_tree_is_submitted_as_a_link(shared: Line) -> None:
    secret = shared.folder / "secret"
    secret.write_text("secret")
    shared.drop(
        "links",
        f"os.symlink({str(secret)!r}, 'link.md'); os.remove('.git/HEAD'); os.symlink('/etc', '.git/x')",
    )

    landed = shared.unit("links")

    assert shared.git("ls-tree", landed.commit, "link.md").startswith("120000 blob")


def test_an_agent_that_only_sleeps_is_silent_and_stopped(line: Line) -> None:
    line.configure('agent = "scripted"\n[limits]\nfirst_event_s = 0.5\nattempts = 1\n')
    line.event(Event.CONFIG_CHANGED, after=line.mark() - 1)
    line.until(
        "the config is in force", lambda: line.fact("config")["limits.attempts"]["value"] == 1
    )
    line.drop("sleeps", "hold('/never')")

    line.answer(line.card(CardKind.ATTEMPTS_EXHAUSTED), "Cancel it")

    assert line.attempts("sleeps") == ["silent"]
    assert not _agents(line)


def test_an_agent_that_goes_round_and_round_is_stopped_and_its_work_is_kept(line: Line) -> None:
    text = line.root.joinpath("conventions/runtimes/sessions.toml").read_text()
    line.commit({"conventions/runtimes/round.toml": text + 'step = "tool:command"\n'})
    code = """
        write('before.txt', 'before')
        for number in range(100):
            print('{"type": "tool", "id": %d, "command": "ls"}' % number, flush=True)
        hold('/never')
        """
    line.drop("round", code, agent="round", attempts=1)

    card = line.card(CardKind.ATTEMPTS_EXHAUSTED)

    assert "the same again and again" in card.question
    assert line.attempts("round") == ["no_progress"]
    assert git(line.places.git, "show", "refs/factory/attempts/round/1:before.txt") == "before"
    assert not _agents(line)
    line.answer(card, "Cancel it")


def test_an_agent_that_crashes_is_tried_again_later_and_what_it_left_is_kept(shared: Line) -> None:
    shared.drop("crashes", "write('half.txt', 'half'); sys.exit('out of luck')", attempts=1)

    card = shared.card(CardKind.ATTEMPTS_EXHAUSTED)

    assert "out of luck" in card.question
    assert shared.attempts("crashes") == ["crashed"]
    assert git(shared.places.git, "show", "refs/factory/attempts/crashes/1:half.txt") == "half"
    shared.answer(card, "Cancel it")


def test_an_agent_that_crashes_waits_before_it_is_tried_again(shared: Line) -> None:
    shared.drop("backs-off", "sys.exit(7)")

    unit = shared.unit("backs-off", UnitState.WAITING)

    assert "waits until" in unit.why or "exit 7" in unit.why
    assert unit.not_before is not None
    assert 9 < (unit.not_before - unit.since).total_seconds() < 11
    shared.factory("cancel", "backs-off")


def test_an_agent_that_fills_its_outbox_with_nonsense_still_lands(shared: Line) -> None:
    code = """
        (Path(os.environ['FACTORY_OUTBOX']) / 'question.md').mkdir()
        os.symlink('/etc/passwd', os.environ['FACTORY_OUTBOX'] + '/handoff.md')
        (Path(os.environ['FACTORY_OUTBOX']) / 'done.md').write_bytes(b'\\xff\\x00 Odd subject\\n' + b'y' * 200000)
        write('odd.txt', 'fine')
        """
    shared.drop("nonsense", code)

    landed = shared.unit("nonsense")

    assert "Odd subject" in shared.git("log", "-1", "--format=%s", landed.commit)
    assert "root:" not in shared.git("log", "-1", "--format=%B", landed.commit)


def test_a_kill_9_of_the_agent_itself_is_a_crash_and_the_line_goes_on(shared: Line) -> None:
    shared.drop("shot", "write('shot.txt', 'fine'); os.kill(os.getpid(), 9)", attempts=1)

    card = shared.card(CardKind.ATTEMPTS_EXHAUSTED)

    assert shared.attempts("shot") == ["crashed"]
    assert "signal 9" in card.question
    shared.answer(card, "Cancel it")


def test_a_gate_that_forks_and_ignores_its_end_leaves_nothing(line: Line) -> None:
    line.commit(
        {
            "conventions/gates/20-fork.sh": "trap '' TERM\n(trap '' TERM; sleep 600) &\nsetsid sleep 600 &\nexit 0\n"
        }
    )
    line.event(Event.TRUNK_MOVED)
    line.drop("gated", "write('gated.txt', 'fine')")

    line.unit("gated")

    line.until(
        "nothing sleeps",
        lambda: not [argv for argv in line.left().values() if argv.startswith("sleep")],
    )


def test_a_gate_that_destroys_its_bench_leaves_the_next_judging_whole(line: Line) -> None:
    gate = "# rewrites: *.txt factory.toml conventions/**\nrm -rf .git ../tree/*\nexit 0\n"
    line.commit({"conventions/gates/20-raze.sh": gate})
    line.event(Event.TRUNK_MOVED)

    for name in ("one", "two"):
        line.drop(name, f"write('{name}.txt', 'BROKEN' if attempt == 1 else 'fine')")
        line.unit(name)

    assert line.attempts("two") == ["gate_red", "submitted"]


def _agents(line: Line) -> list[str]:
    return [argv for argv in line.left().values() if "scripted.py" in argv]


def _refs(line: Line) -> list[str]:
    names = line.git("for-each-ref", "--format=%(refname)").splitlines()
    return [name for name in names if Path(name).name != "main"]
