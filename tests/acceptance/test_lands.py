"""Work that lands: what a person drops ends as one tested commit on trunk each."""

import signal
import subprocess
import time
from pathlib import Path

from factory.store.journal import Event
from factory.store.records import Attempt, CardKind, Remark, Verdict
from factory.store.unit import UnitState
from tests.acceptance.line import GATE, Line
from tests.git_repo import EMAIL, PERSON, commit, environment, git


def test_a_run_unit_lands_with_green_gates(shared: Line) -> None:
    shared.drop_text("format", "---\nrun: echo made > made.txt\n---\nFormat it.\n")

    landed = shared.unit("format")

    assert shared.git("show", f"{landed.commit}:made.txt") == "made"
    assert (shared.root / "made.txt").read_text() == "made\n"
    assert shared.attempts("format") == ["submitted"]


def test_what_an_agent_wrote_lands_as_one_commit_with_its_words(shared: Line) -> None:
    shared.drop(
        "hello",
        "write('hello.txt', 'hi'); leave('done.md', 'Say hello\\n\\nBecause nobody did.')",
        title="T",
    )

    landed = shared.unit("hello")

    shown = shared.git("log", "-1", "--format=%an <%ae>%n%cn%n%s%n%b", landed.commit)
    run = shared.attempt("hello").nonce
    assert shown.splitlines() == [
        "scripted <agent@factoryd.invalid>",
        "Ada Tester",
        "Say hello",
        "Because nobody did.",
        "",
        "Factory-Unit: hello",
        "Factory-Attempt: 1",
        "Factory-Agent: scripted",
        f"Factory-Run: {run}",
    ]


def test_a_branch_that_a_person_submits_lands_as_one_commit_of_theirs(shared: Line) -> None:
    there = shared.folder / "tree"
    shared.git("worktree", "add", "-q", "-b", "add-poem", str(there), "main")
    commit(there, {"poem.txt": "roses\n"}, "Add a poem\n\nIt was asked for.")
    commit(there, {"poem.txt": "roses are red\n"}, "Say the colour")

    code, said = shared.factory("submit", "add-poem")
    landed = shared.unit("add-poem")

    assert (code, said) == (
        0,
        "add-poem: 2 commits submitted; factoryd judges and lands the change as one commit\n",
    )
    shown = shared.git("log", "-1", "--format=%an <%ae>%n%B", landed.commit).splitlines()
    assert shown[:7] == [
        f"{PERSON} <{EMAIL}>",
        "Add a poem",
        "",
        "* Add a poem",
        "",
        "It was asked for.",
        "",
    ]
    assert "Factory-Agent: person" in shown
    assert (shared.root / "poem.txt").read_text() == "roses are red\n"
    assert shared.git("log", "--format=%s", "main..add-poem").splitlines() == [
        "Say the colour",
        "Add a poem",
    ]


def test_after_a_red_gate_the_next_attempt_reads_why_and_lands_on_top_of_its_own_work(
    shared: Line,
) -> None:
    code = """
        if attempt == 1:
            write('kept.txt', 'kept')
            write('bad.txt', 'BROKEN')
        elif './bad.txt:1:BROKEN' in told and Path('kept.txt').exists():
            write('bad.txt', 'mended')
        """
    shared.drop("second-try", code)

    landed = shared.unit("second-try")

    assert shared.attempts("second-try") == ["gate_red", "submitted"]
    assert shared.git("show", f"{landed.commit}:bad.txt") == "mended"
    assert shared.git("show", f"{landed.commit}:kept.txt") == "kept"
    first, _ = shared.store.select(Attempt, unit="second-try")
    own = shared.places.git
    assert git(own, "show", f"{first.ref}:bad.txt") == "BROKEN"


def test_a_conflicting_pair_lands_and_the_second_is_told_both_intents(shared: Line) -> None:
    go = shared.folder / "go"
    code = """
        if attempt == 1:
            hold({go!r})
        story = Path('story.txt').read_text()
        new = story.replace('line 5', 'line 5 {word}') if 'line 5\\n' in story else story.replace('5 ', '5 {word} ')
        write('story.txt', new)
        leave('done.md', 'Give line five its {word}')
        """
    for word in ("alpha", "beta"):
        shared.drop(word, code.format(go=str(go), word=word))
    for word in ("alpha", "beta"):
        shared.event(Event.ATTEMPT_STARTED, unit=word)
    go.touch()

    last = max(
        shared.unit("alpha"), shared.unit("beta"), key=lambda unit: unit.landed or unit.accepted
    )

    other = "alpha" if last.id == "beta" else "beta"
    assert shared.attempts(other) == ["submitted"]
    assert shared.attempts(last.id) == ["conflict", "submitted"]
    told = shared.prompt(last.id, 2)
    assert "- `story.txt`" in told
    assert f"Give line five its {other}" in told
    assert (
        f"line 5 {last.id}" in Path(shared.places.run_dir(last.id, 2) / "before.diff").read_text()
    )
    assert f"line 5 {last.id} {other}" in (shared.root / "story.txt").read_text()


def test_units_that_need_each_other_land_in_order(shared: Line) -> None:
    shared.drop("third", "write('third.txt', Path('second.txt').read_text())", needs=["second"])
    shared.unit("third", UnitState.WAITING, why="needs second, which does not exist yet")
    shared.drop("second", "write('second.txt', Path('first.txt').read_text())", needs=["first"])
    shared.drop("first", "write('first.txt', 'from the first')")

    landed = shared.unit("third")

    assert shared.git("show", f"{landed.commit}:third.txt") == "from the first"
    order = [name for name in shared.on_trunk() if name in ("first", "second", "third")]
    assert order == ["first", "second", "third"]


def test_a_question_becomes_a_card_and_its_answer_reaches_a_fresh_context(shared: Line) -> None:
    code = """
        if 'Redis, please' not in told:
            write('begun.txt', 'half')
            leave('question.md', '---\\noptions: [Redis, "No, files"]\\n---\\nWhich store?\\n')
        else:
            write('store.txt', Path('begun.txt').read_text())
        """
    shared.drop("ask", code)
    card = shared.card(CardKind.QUESTION)
    shared.unit("ask", UnitState.HELD)
    assert [option.label for option in card.options] == ["Redis", "No, files"]
    assert shared.factory("answer", card.id, "7")[0] == 2

    shared.answer(card, "Redis, please")

    landed = shared.unit("ask")
    assert shared.git("show", f"{landed.commit}:store.txt") == "half"
    assert shared.attempts("ask") == ["asked", "submitted"]
    assert "Which store?" in shared.prompt("ask", 2)
    assert shared.factory("answer", card.id, "1")[0] == 3
    assert [(r.who, r.kind, r.text) for r in shared.store.select(Remark, unit="ask")] == [
        ("agent", "question", "Which store?"),
        ("person", "answer", "Redis, please"),
    ]


def test_a_unit_may_ask_twice(shared: Line) -> None:
    code = """
        if attempt < 3:
            leave('question.md', f'Number {attempt}?')
        else:
            write('asked.txt', str('first answer' in told and 'second answer' in told))
        """
    shared.drop("asks-twice", code)
    first = shared.card(CardKind.QUESTION)
    shared.answer(first, "the first answer")
    shared.event(Event.ATTEMPT_ENDED, unit="asks-twice", attempt=2)

    second = shared.card(CardKind.QUESTION)
    shared.answer(second, "the second answer")

    landed = shared.unit("asks-twice")
    assert second.id != first.id
    assert shared.git("show", f"{landed.commit}:asked.txt") == "True"


def test_an_answered_session_is_continued_where_it_was_born(shared: Line) -> None:
    code = """
        if not resumed:
            leave('question.md', '---\\noptions: [left, right]\\n---\\nWhich way?\\n')
        else:
            write('way.txt', 'right' if 'right' in prompt else 'lost')
        """
    shared.drop("which-way", code, agent="sessions")

    shared.answer(shared.card(CardKind.QUESTION), "right")

    landed = shared.unit("which-way")
    assert shared.git("show", f"{landed.commit}:way.txt") == "right"
    first, second = shared.store.select(Attempt, unit="which-way")
    assert (second.resumed, second.session) == (True, first.session)
    assert "```python" not in shared.prompt("which-way", 2)


def test_a_proof_that_fails_before_and_passes_after_lands(shared: Line) -> None:
    code = "write('proof.txt', 'no') if attempt == 1 else write('proof.txt', 'yes')"
    shared.drop("proof", code, accept=["grep -q yes proof.txt"])

    landed = shared.unit("proof")

    assert shared.attempts("proof") == ["not_proven", "submitted"]
    assert shared.git("show", f"{landed.commit}:proof.txt") == "yes"
    assert "grep -q yes proof.txt" in shared.prompt("proof", 2)


def test_an_agent_that_changed_nothing_is_not_done_whatever_it_says(shared: Line) -> None:
    shared.drop(
        "claims", "leave('done.md', 'All done') if attempt == 1 else write('claims.txt', 'done')"
    )

    shared.unit("claims")

    assert shared.attempts("claims") == ["empty", "submitted"]


def test_what_one_attempt_hands_off_the_next_one_reads(shared: Line) -> None:
    code = """
        leave('handoff.md', 'The trap is in the cellar.')
        write('trap.txt', 'BROKEN' if attempt == 1 else str('The trap is in the cellar.' in told))
        """
    shared.drop("memento", code)

    landed = shared.unit("memento")

    assert shared.git("show", f"{landed.commit}:trap.txt") == "True"


def test_at_every_commit_of_trunk_the_gates_pass(line: Line, tmp_path: Path) -> None:
    for number in range(8):
        text = "write('{0}.txt', 'BROKEN' if attempt == 1 and {0} % 3 == 0 else 'fine'); write('all.txt', '{0}')"
        line.drop(f"u{number}", text.format(number), attempts=9)

    for number in range(8):
        line.unit(f"u{number}")

    git(tmp_path, "clone", "-q", str(line.root), "judge")
    commits = line.git("rev-list", "--reverse", f"{line.begin}..main").splitlines()
    assert len(commits) == 8
    for landed in commits:
        git(tmp_path / "judge", "checkout", "-q", landed)
        gate = subprocess.run(
            ["sh", "-c", GATE], cwd=tmp_path / "judge", env=environment(), check=False
        )
        assert gate.returncode == 0, landed
    assert line.git("status", "--porcelain") == ""


def test_the_uncommitted_work_of_a_user_is_as_it_was_after_units_landed_beside_it(
    line: Line,
) -> None:
    (line.root / "story.txt").write_text("mine, not committed\n")
    (line.root / "new.txt").write_text("mine, untracked\n")
    line.commit({"staged.txt": "old\n"})
    (line.root / "staged.txt").write_text("mine, staged\n")
    line.git("add", "staged.txt")
    before = line.git("status", "--porcelain")

    for name in ("one", "two", "three"):
        line.drop(name, f"write('{name}.txt', 'fine')")
    for name in ("one", "two", "three"):
        line.unit(name)

    assert line.git("status", "--porcelain") == before
    assert (line.root / "story.txt").read_text() == "mine, not committed\n"
    assert (line.root / "new.txt").read_text() == "mine, untracked\n"
    assert line.git("show", ":staged.txt") == "mine, staged"


def test_a_quiet_line_spends_one_run_of_each_gate_on_a_unit(line: Line) -> None:
    line.event(Event.VERDICT_GIVEN, gate="10-whole")
    mark = line.mark()

    line.drop("once", "write('once.txt', 'once')")
    line.unit("once")

    verdicts = line.entries(Event.VERDICT_GIVEN, after=mark)
    assert [(entry.unit, entry.detail["gate"]) for entry in verdicts] == [("once", "10-whole")]


def test_a_gate_that_fails_and_then_passes_on_the_same_tree_is_flaky_and_nobody_is_blamed(
    line: Line,
) -> None:
    line.drop("lucky", f"hold({str(line.folder / 'go')!r}); write('lucky.txt', 'fine')")
    line.event(Event.ATTEMPT_STARTED, unit="lucky")
    coin = line.folder / "coin"
    line.commit(
        {
            "conventions/gates/20-coin.sh": f"[ -e lucky.txt ] && mkdir {coin} 2> /dev/null && exit 1\nexit 0\n"
        }
    )
    line.event(Event.TRUNK_MOVED)
    (line.folder / "go").touch()

    line.unit("lucky")

    assert line.attempts("lucky") == ["submitted"]
    verdicts = line.store.select(Verdict, gate="20-coin")
    assert sorted((verdict.ok, verdict.flaky) for verdict in verdicts) == [
        (True, False),
        (True, True),
    ]


def test_units_whose_scopes_overlap_do_not_run_at_the_same_time(shared: Line) -> None:
    go = shared.folder / "go-scopes"
    shared.drop("scope-a", f"hold({str(go)!r}); write('src/a.txt', 'fine')", scope=["src/**"])
    shared.event(Event.ATTEMPT_STARTED, unit="scope-a")
    shared.drop("scope-b", "write('src/b.txt', 'fine')", scope=["src/b.txt"])

    shared.unit("scope-b", UnitState.READY, why="its scope overlaps the scope of scope-a")

    go.touch()
    shared.unit("scope-a")
    shared.unit("scope-b")


def test_the_same_file_dropped_again_later_is_a_new_unit(shared: Line) -> None:
    shared.drop("twice", "write('twice.txt', '1')")
    shared.unit("twice")

    shared.drop("twice", "write('twice.txt', '2')")

    landed = shared.unit("twice-2")
    assert shared.git("show", f"{landed.commit}:twice.txt") == "2"


def test_what_everyone_here_knows_is_told_to_those_whom_it_concerns(line: Line) -> None:
    note = "---\npaths: ['billing/**']\n---\nAmounts are in cents.\n"
    line.commit(
        {"conventions/knowledge/money.md": note, "conventions/knowledge/all.md": "Be brief.\n"}
    )
    line.event(Event.TRUNK_MOVED)

    for name, scope in (("bills", "billing/**"), ("words", "docs/**")):
        line.drop(name, f"write('{scope[:-3]}/x.txt', 'fine')", scope=[scope])
        line.unit(name)

    assert "Amounts are in cents." in line.prompt("bills", 1)
    assert "Amounts are in cents." not in line.prompt("words", 1)
    assert "Be brief." in line.prompt("words", 1)


def test_an_idle_line_does_nothing(line: Line) -> None:
    line.drop("one", "write('one.txt', 'fine')")
    line.unit("one")
    line.until(
        "all is told", lambda: line.fact("trunk")["state"] == "green" and line.fact("queue") == []
    )
    assert line.daemon is not None
    stat = Path(f"/proc/{line.daemon.pid}/status")
    settled = line.until("it sleeps", lambda: line.mark() if _still(stat, 0.3) else 0)

    assert _still(stat, 1.0)

    assert line.mark() == settled


def _still(status: Path, seconds: float) -> bool:
    """Whether a process has run at most a few times in a while: the one thing here that only time can show."""
    before = _switches(status)
    time.sleep(seconds)
    return _switches(status) - before <= 4


def _switches(status: Path) -> int:
    return sum(
        int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line
    )


def test_in_the_foreground_the_daemon_prints_the_journal_to_its_last_line(cold: Line) -> None:
    cold.program = ("-m", "factory.cli.foreground", str(cold.root))
    cold.start()
    cold.drop_text("format", "---\nrun: echo made > made.txt\n---\nFormat it.\n")
    landed = cold.unit("format")

    cold.stop(signal.SIGTERM)

    lines = (cold.folder / "daemon.out").read_text().splitlines()
    told = [text.partition("  ")[2] for text in lines]
    assert told[0] == "daemon: running"
    assert "format: attempt 1 started on w1: run" in told
    assert f"format: landed as {landed.commit[:10]}" in told
    assert told[-2:] == ["daemon: draining", "daemon: stopped"]
