"""What needs a person: one card for one cause, its answers, and what a person says without being asked."""

from pathlib import Path

from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Verdict
from factory.store.unit import UnitState
from tests.acceptance.line import Line, files, line_in
from tests.git_repo import git

FINE = "write(f'{os.environ[\"FACTORY_UNIT\"]}.txt', 'fine')"
# An agent's way to write smaller tasks: name=(front matter, code).
SPLIT = """
        def split(**parts):
            Path(os.environ['FACTORY_OUTBOX'], 'split').mkdir()
            for name, (head, code) in parts.items():
                leave(f'split/{name}.md', f"---\\n{head}\\n---\\nDo it.\\n\\n{'`' * 3}python\\n{code}\\n{'`' * 3}\\n")
"""
BROKEN = "write('bad.txt', 'BROKEN ' + str(attempt))"


# ── about one unit ──


def test_when_its_attempts_are_used_up_a_unit_waits_for_an_answer_and_goes_on_by_it(
    shared: Line,
) -> None:
    shared.drop("hard", "write('hard.txt', 'eased' if 'ease it' in told else 'BROKEN')", attempts=2)
    card = shared.card(CardKind.ATTEMPTS_EXHAUSTED)
    assert shared.attempts("hard") == ["gate_red", "gate_red"]
    assert "10-whole is red" in card.question

    shared.answer(card, "ease it")

    shared.unit("hard")
    assert shared.attempts("hard") == ["gate_red", "gate_red", "submitted"]


def test_a_unit_whose_attempts_are_used_up_can_be_cancelled_and_keeps_its_trees(
    shared: Line,
) -> None:
    shared.drop("hopeless", BROKEN, attempts=1)

    shared.answer(shared.card(CardKind.ATTEMPTS_EXHAUSTED), "Cancel it")

    shared.unit("hopeless", UnitState.CANCELLED)
    assert git(shared.places.git, "show", "refs/factory/attempts/hopeless/1:bad.txt") == "BROKEN 1"


def test_a_proof_that_passes_already_is_asked_about_before_any_attempt(shared: Line) -> None:
    shared.drop("nothing-to-do", FINE, accept=["test -e story.txt"])
    card = shared.card(CardKind.ACCEPT)
    unit = shared.unit("nothing-to-do", UnitState.HELD)
    assert (unit.attempt, shared.attempts("nothing-to-do")) == (0, [])

    shared.answer(card, "Run it anyway")

    shared.unit("nothing-to-do")
    shared.no_card(CardKind.ACCEPT)


def test_a_change_of_a_gate_waits_until_a_person_lets_it_land(shared: Line) -> None:
    shared.drop(
        "weaker",
        "write('conventions/gates/10-whole.sh', Path('conventions/gates/10-whole.sh').read_text() + '#\\n')",
    )
    card = shared.card(CardKind.GUARD)
    assert "conventions/gates/10-whole.sh" in card.evidence
    assert shared.attempts("weaker") == ["guard"]

    shared.answer(card, "Let it land")

    shared.unit("weaker")
    assert shared.attempts("weaker") == ["guard"]


def test_a_change_of_a_gate_that_is_sent_back_starts_from_trunk(shared: Line) -> None:
    code = """
        if 'leave the gate' in told:
            write('as-told.txt', str(Path('conventions/gates/90-none.sh').exists()))
        else:
            write('conventions/gates/90-none.sh', 'true')
        """
    shared.drop("sent-back", code)

    shared.answer(shared.card(CardKind.GUARD), "leave the gate alone")

    landed = shared.unit("sent-back")
    assert shared.git("show", f"{landed.commit}:as-told.txt") == "False"
    assert (
        shared.git("ls-tree", "--name-only", landed.commit, "conventions/gates/")
        == "conventions/gates/10-whole.sh"
    )


def test_a_gate_that_a_task_allows_to_edit_lands_by_itself(shared: Line) -> None:
    shared.drop("allowed", "write('conventions/gates/20-more.sh', 'true\\n')", allow=["edit-gates"])

    shared.unit("allowed")

    assert shared.store.open(Card) == []


def test_a_change_outside_its_scope_waits_for_a_person(shared: Line) -> None:
    shared.drop("narrow", "write('src/in.txt', 'fine'); write('out.txt', 'fine')", scope=["src/**"])
    card = shared.card(CardKind.OUT_OF_SCOPE)
    assert card.evidence == "out.txt"

    shared.answer(card, "Let it land")

    landed = shared.unit("narrow")
    assert shared.git("show", "--format=", "--name-only", landed.commit).splitlines() == [
        "out.txt",
        "src/in.txt",
    ]


def test_nothing_lets_a_change_of_the_factorys_own_folders_land(shared: Line) -> None:
    shared.drop("intruder", "write('Inbox/new.md', 'do this too')", allow=["edit-gates"])

    card = shared.card(CardKind.OUT_OF_SCOPE)

    assert [option.label for option in card.options] == ["Send it back", "Cancel it"]
    shared.answer(card, "Cancel it")
    shared.unit("intruder", UnitState.CANCELLED)


def test_a_required_review_is_approved_and_lands(shared: Line) -> None:
    shared.drop("read-me", FINE, review="required")
    card = shared.card(CardKind.REVIEW)
    shared.unit("read-me", UnitState.HELD)
    assert "read-me" not in shared.on_trunk()

    shared.answer(card, "Approve")

    shared.unit("read-me")
    assert shared.attempts("read-me") == ["submitted"]


def test_a_review_that_sends_back_is_heard_and_reviewed_again(shared: Line) -> None:
    shared.drop(
        "again",
        "write('again.txt', 'shorter' if 'make it shorter' in told else 'longer')",
        review="required",
    )
    first = shared.card(CardKind.REVIEW)

    shared.answer(first, "make it shorter")

    second = shared.until(
        "a second review",
        lambda: next((c for c in shared.store.open(Card) if c.id != first.id), None),
    )
    shared.answer(second, "Approve")
    landed = shared.unit("again")
    assert shared.git("show", f"{landed.commit}:again.txt") == "shorter"


def test_a_green_change_is_made_smaller_and_reviewed_again(shared: Line) -> None:
    code = "write('lean.txt', 'less' if 'make it smaller' in told else 'more' * 9)"
    shared.drop("lean", code, review="required")
    first = shared.card(CardKind.REVIEW)

    said = shared.answer(first, "Make the change smaller")

    second = shared.until(
        "a second review",
        lambda: next((c for c in shared.store.open(Card) if c.id != first.id), None),
    )
    assert said == "lean: a new attempt makes the change smaller\n"
    told = [shared.prompt("lean", number) for number in (1, 2)]
    assert ["split/NAME.md" in each for each in told] == [
        True,
        False,
    ]  # what was read is not to become parts
    shared.answer(second, "Approve")
    landed = shared.unit("lean")
    assert shared.git("show", f"{landed.commit}:lean.txt") == "less"
    assert shared.attempts("lean") == ["submitted", "submitted"]


def test_a_unit_that_nobody_could_do_is_split_on_request_and_its_parts_land(shared: Line) -> None:
    code = f"""
        {SPLIT}
        if 'write smaller tasks' in told:
            split(first=('', "write('first.txt', 'fine')"), second=('needs: first', "write('second.txt', 'fine')"))
        else:
            write('huge.txt', 'BROKEN')
        """
    proof = "test -e first.txt && test -e second.txt"
    shared.drop("huge", code, attempts=1, accept=[proof])
    shared.drop("after-huge", "write('after.txt', Path('second.txt').read_text())", needs=["huge"])
    card = shared.card(CardKind.ATTEMPTS_EXHAUSTED)

    said = shared.answer(card, "Split it into smaller tasks")

    whole = shared.unit("huge", UnitState.SPLIT)
    shared.unit("after-huge")
    assert said == "huge: a new attempt writes smaller tasks\n"
    assert (whole.needs, whole.why) == (
        ("huge-first", "huge-second"),
        "its parts: huge-first, huge-second",
    )
    assert shared.attempts("huge") == ["not_proven", "split"]
    order = [name for name in shared.on_trunk() if "huge" in name]
    assert order == ["huge-first", "huge-second", "after-huge"]
    proofs = {verdict.gate for verdict in shared.store.select(Verdict) if verdict.ok}
    assert f"accept: {proof}" in proofs, "no tree of the whole's own ever passed it"
    assert "huge is split: its parts: huge-first, huge-second" in shared.factory("why", "huge")[1]


def test_units_whose_agent_is_not_installed_share_one_card_that_counts_them(shared: Line) -> None:
    for number in range(3):
        shared.drop(f"codex-{number}", FINE, agent="codex")

    card = shared.card(CardKind.RUNTIME, count=3)

    assert "'codex', is not installed" in card.question
    assert [shared.unit(f"codex-{n}", UnitState.WAITING).attempt for n in range(3)] == [0, 0, 0]
    shared.answer(card, "Cancel the waiting units")
    for number in range(3):
        shared.unit(f"codex-{number}", UnitState.CANCELLED)


def test_an_agent_that_nobody_knows_is_said_and_spends_no_attempt(shared: Line) -> None:
    shared.drop("unknown", FINE, agent="clod")

    card = shared.card(CardKind.RUNTIME)

    assert "'clod'" in card.question
    unit = shared.unit("unknown", UnitState.WAITING)
    assert unit.attempt <= 1
    shared.answer(card, "Cancel the waiting units")
    shared.unit("unknown", UnitState.CANCELLED)


def test_an_agent_that_is_committed_later_takes_up_what_waited_for_it(line: Line) -> None:
    (line.bin / "late").write_text("#!/bin/sh\necho fine > late.txt\n")
    (line.bin / "late").chmod(0o755)
    line.drop("early", FINE, agent="late")
    line.card(CardKind.RUNTIME)

    line.commit({"conventions/runtimes/late.toml": 'command = ["late"]\n'})

    line.unit("early")
    line.no_card(CardKind.RUNTIME)


def test_a_program_that_cannot_be_executed_is_one_card_and_no_storm_of_attempts(line: Line) -> None:
    (line.bin / "ghost").write_text("#!/nonexistent/interpreter\n")
    (line.bin / "ghost").chmod(0o755)
    commit = line.commit({"conventions/runtimes/ghost.toml": 'command = ["ghost"]\n'})
    line.event(Event.TRUNK_JUDGED, commit=commit)
    line.drop("haunted", FINE, agent="ghost")

    card = line.card(CardKind.RUNTIME)

    assert len(line.attempts("haunted")) == 1
    (line.bin / "ghost").write_text("#!/bin/sh\necho fine > haunted.txt\n")
    line.answer(card, "Try again")
    line.unit("haunted")


# ── about the line ──


def test_without_a_gate_nothing_lands_until_a_person_says_so(tmp_path: Path) -> None:
    bare = {name: text for name, text in files().items() if "gates" not in name}
    with line_in(tmp_path, bare) as line:
        line.drop("one", FINE)
        line.drop("two", FINE)
        card = line.card(CardKind.NO_GATE, count=2)
        assert [line.unit(name, UnitState.WAITING).attempt for name in ("one", "two")] == [0, 0]

        line.answer(card, "Land these without a gate")
        line.unit("one")
        line.unit("two")

        line.drop("three", FINE)
        line.card(CardKind.NO_GATE)
        line.commit({"conventions/gates/10-any.sh": "true\n"})
        line.unit("three")
        line.no_card(CardKind.NO_GATE)


def test_a_setup_that_fails_is_one_card_and_no_attempt_is_spent(tmp_path: Path) -> None:
    with line_in(
        tmp_path, files() | {"conventions/workspace/setup.sh": "echo no wheel of fortune; exit 3\n"}
    ) as line:
        line.drop("one", FINE)
        line.drop("two", FINE)

        card = line.card(CardKind.SETUP, count=2)

        assert "no wheel of fortune" in card.evidence
        assert [line.unit(name, UnitState.WAITING).spent for name in ("one", "two")] == [0, 0]
        line.commit({"conventions/workspace/setup.sh": "true\n"})
        line.unit("one")
        line.unit("two")
        line.no_card(CardKind.SETUP)


def test_gate_files_that_cannot_be_used_stop_the_line_with_one_card(line: Line) -> None:
    line.commit({"conventions/gates/20-odd.toml": "comand = 'true'\n"})
    line.event(Event.TRUNK_MOVED)
    line.drop("one", FINE)

    card = line.card(CardKind.CONFIG)

    assert "comand" in card.question
    line.commit({"conventions/gates/20-odd.toml": "command = 'true'\n"})
    line.unit("one")
    line.no_card(CardKind.CONFIG)


def test_a_prompt_that_is_wrong_stops_agents_on_one_card_until_trunk_has_another(
    line: Line,
) -> None:
    wrong = line.commit({"conventions/prompts/unit.md": "{{ nobody }}\n"})
    line.until("trunk is looked at", lambda: line.fact("trunk")["commit"] == wrong)
    line.drop("one", "write('one.txt', 'x')")
    assert "unit.md, line 1: 'nobody' is undefined" in line.card(CardKind.CONFIG).question

    line.commit({"conventions/prompts/unit.md": "First: {% include 'task.md' %}\n"})

    line.unit("one")
    line.no_card(CardKind.CONFIG)
    assert line.attempts("one") == ["handed_back", "submitted"]
    assert line.prompt("one", 2).startswith("First: ")


def test_while_trunk_is_red_only_urgent_work_starts_and_nobody_is_blamed(line: Line) -> None:
    line.commit({"bad.txt": "BROKEN"})
    card = line.card(CardKind.TRUNK_RED)
    line.drop("patient", FINE)
    line.drop("urgent", FINE, priority=0)

    line.unit("patient", UnitState.READY, why="trunk is red")
    line.unit("urgent", UnitState.WAITING, why=card.id)
    assert line.status()["trunk"]["state"] == "red"
    line.commit({"bad.txt": "mended"})

    for name in ("patient", "urgent"):
        line.unit(name)
        assert line.attempts(name) == ["submitted"]
    line.no_card(CardKind.TRUNK_RED)


def test_a_candidate_that_is_red_like_trunk_waits_and_lands_when_trunk_is_mended_from_outside(
    line: Line,
) -> None:
    go = line.folder / "go"
    line.drop("waits", f"hold({str(go)!r}); write('fine.txt', 'fine')")
    line.event(Event.ATTEMPT_STARTED, unit="waits")
    line.commit({"bad.txt": "BROKEN"})
    line.card(CardKind.TRUNK_RED)
    go.touch()
    line.unit("waits", UnitState.WAITING)
    line.card(CardKind.TRUNK_RED, count=1)

    line.commit({"bad.txt": "mended"})

    line.unit("waits")
    line.no_card(CardKind.TRUNK_RED)
    assert line.attempts("waits") == ["submitted"]


def test_a_green_candidate_lands_on_a_red_trunk_and_closes_the_card(line: Line) -> None:
    line.commit({"bad.txt": "BROKEN"})
    line.card(CardKind.TRUNK_RED)

    line.drop("mender", "write('bad.txt', 'mended')", priority=0)

    line.unit("mender")
    line.no_card(CardKind.TRUNK_RED)
    line.until("trunk is green", lambda: line.status()["trunk"]["state"] == "green")


def test_a_repair_unit_is_hung_with_the_evidence_and_mends_trunk(tmp_path: Path) -> None:
    healer = '#!/bin/sh\ngrep -q "bad.txt:1:BROKEN" "$1" && echo mended > bad.txt\n'
    runtime = 'command = ["healer", "{prompt_file}"]\n'
    contents = files() | {
        "bad.txt": "BROKEN",
        "factory.toml": 'agent = "healer"\n',
        "conventions/runtimes/healer.toml": runtime,
    }
    line = Line(tmp_path, contents)
    (line.bin / "healer").write_text(healer)
    (line.bin / "healer").chmod(0o755)
    try:
        card = line.start().card(CardKind.TRUNK_RED)

        line.answer(card, "Create a repair unit")

        line.unit("repair-trunk")
        line.no_card(CardKind.TRUNK_RED)
    finally:
        line.close()


def test_land_anyway_lets_units_land_that_are_red_like_trunk_and_says_so(line: Line) -> None:
    go = line.folder / "go"
    line.drop("anyway", f"hold({str(go)!r}); write('fine.txt', 'fine')")
    line.event(Event.ATTEMPT_STARTED, unit="anyway")
    line.commit({"bad.txt": "BROKEN"})
    line.card(CardKind.TRUNK_RED)
    go.touch()
    line.unit("anyway", UnitState.WAITING)

    line.answer(line.card(CardKind.TRUNK_RED), "Land anyway")

    landed = line.unit("anyway")
    assert landed.approved == ("trunk_red",)
    assert line.status()["trunk"]["state"] == "red"


def test_uncommitted_work_in_the_way_blocks_one_landing_while_others_land(line: Line) -> None:
    (line.root / "story.txt").write_text("mine\n")
    line.drop("blocked", "write('story.txt', 'theirs\\n')")
    card = line.card(CardKind.LANDING_BLOCKED)
    assert (card.units, card.evidence) == (("blocked",), "story.txt")

    line.drop("free", FINE)
    line.unit("free")
    assert (line.root / "story.txt").read_text() == "mine\n"
    line.git("checkout", "-q", "--", "story.txt")

    line.unit("blocked")
    line.no_card(CardKind.LANDING_BLOCKED)
    assert (line.root / "story.txt").read_text() == "theirs\n"


def test_of_two_green_units_the_blocked_one_steps_aside_for_the_other(line: Line) -> None:
    go = line.folder / "go"
    (line.root / "story.txt").write_text("mine\n")
    line.drop("aa-blocked", f"hold({str(go)!r}); write('story.txt', 'theirs\\n')", priority=0)
    line.drop("bb-free", f"hold({str(go)!r}); write('free.txt', 'fine\\n')", priority=4)
    for name in ("aa-blocked", "bb-free"):
        line.event(Event.ATTEMPT_STARTED, unit=name)
    go.touch()

    line.unit("bb-free")

    line.card(CardKind.LANDING_BLOCKED)
    line.git("stash", "-q")
    line.unit("aa-blocked")
    line.git("stash", "drop", "-q")


def test_an_untracked_file_in_the_way_blocks_and_moving_it_away_is_enough(line: Line) -> None:
    (line.root / "new.txt").write_text("mine\n")
    line.drop("adds", "write('new.txt', 'theirs\\n')")
    line.card(CardKind.LANDING_BLOCKED)

    (line.root / "new.txt").rename(line.root / "mine.txt")

    line.unit("adds")
    line.no_card(CardKind.LANDING_BLOCKED)
    assert (line.root / "mine.txt").read_text() == "mine\n"


# ── said without being asked ──


def test_cancelling_a_running_unit_ends_its_agent_and_keeps_what_it_made(shared: Line) -> None:
    shared.drop("cancelled", "write('half.txt', 'half'); hold('/never')")
    shared.until("it wrote", lambda: (shared.workspace("cancelled") / "half.txt").exists())

    code, said = shared.factory("cancel", "cancelled")

    assert (code, "factoryd ends its agent" in said) == (0, True)
    shared.event(Event.ATTEMPT_ENDED, unit="cancelled")
    assert shared.attempts("cancelled") == ["cancelled"]
    assert git(shared.places.git, "show", "refs/factory/attempts/cancelled/1:half.txt") == "half"
    assert shared.unit("cancelled", UnitState.CANCELLED).spent == 0
    assert not [argv for argv in shared.left().values() if "scripted.py" in argv]


def test_a_need_that_was_cancelled_holds_the_unit(shared: Line) -> None:
    shared.drop("needed", "hold('/never')")
    shared.drop("needing", FINE, needs=["needed"])
    shared.unit("needed", UnitState.RUNNING)
    shared.unit("needing", UnitState.WAITING)

    shared.factory("cancel", "needed")

    shared.unit("needing", UnitState.HELD, why="needs needed, which was cancelled")
    shared.factory("cancel", "needing")
    shared.unit("needing", UnitState.CANCELLED)


def test_what_is_told_reaches_the_next_attempt(shared: Line) -> None:
    go = shared.folder / "go-told"
    shared.drop(
        "told",
        f"hold({str(go)!r}); write('told.txt', 'mind the gap' if 'mind the gap' in told else 'BROKEN')",
    )
    shared.event(Event.ATTEMPT_STARTED, unit="told")

    assert shared.factory("tell", "told", "mind the gap")[0] == 0
    go.touch()

    landed = shared.unit("told")
    assert shared.git("show", f"{landed.commit}:told.txt") == "mind the gap"
    assert shared.attempts("told") == ["told", "submitted"]


def test_a_retry_gives_a_held_unit_its_attempts_again_and_closes_its_card(shared: Line) -> None:
    shared.drop("retried", "write('retried.txt', 'BROKEN' if attempt < 3 else 'fine')", attempts=2)
    shared.card(CardKind.ATTEMPTS_EXHAUSTED)

    assert shared.factory("retry", "retried")[0] == 0

    shared.unit("retried")
    shared.no_card(CardKind.ATTEMPTS_EXHAUSTED)


def test_a_paused_line_starts_nothing_new_and_lands_what_runs(shared: Line) -> None:
    go = shared.folder / "go-paused"
    shared.drop("runs", f"hold({str(go)!r}); write('runs.txt', 'fine')")
    shared.event(Event.ATTEMPT_STARTED, unit="runs")

    assert shared.factory("pause")[0] == 0
    assert shared.factory("pause")[0] == 3
    shared.drop("later", FINE)
    shared.event(Event.TASK_ACCEPTED, unit="later")
    go.touch()
    shared.unit("runs")
    assert shared.unit("later", UnitState.READY).attempt == 0
    assert shared.status()["paused"]

    assert shared.factory("resume")[0] == 0
    shared.unit("later")


def test_what_is_asked_for_with_the_daemon_down_is_done_at_the_next_start(line: Line) -> None:
    line.drop(
        "asks",
        "leave('question.md', 'Which?') if attempt == 1 else write('asks.txt', str('that one' in told))",
    )
    card = line.card(CardKind.QUESTION)
    line.stop()

    code, said = line.factory("answer", card.id, "that one")
    line.drop("dropped-while-down", FINE)
    assert (code, "the next start does this" in said) == (0, True)
    line.start()

    landed = line.unit("asks")
    assert line.git("show", f"{landed.commit}:asks.txt") == "True"
    line.unit("dropped-while-down")


def test_a_question_with_a_deadline_takes_its_default(shared: Line) -> None:
    head = "---\\noptions: [red, blue]\\ndefault: blue\\ndeadline_s: 0.5\\n---\\nWhich colour?"
    shared.drop(
        "default",
        f"leave('question.md', '{head}') if attempt == 1 else write('d.txt', str('blue' in told))",
    )

    landed = shared.unit("default")

    assert shared.git("show", f"{landed.commit}:d.txt") == "True"


def test_a_task_file_that_is_wrong_is_rejected_with_its_reason_and_stops_nobody(
    shared: Line,
) -> None:
    shared.drop_text("wrong", "---\npriorty: 1\n---\nDo it.\n")
    shared.drop("right", FINE)

    entry = shared.event(Event.TASK_REJECTED)

    shared.unit("right")
    assert "did you mean" in (shared.root / "inbox/rejected/wrong.md.error.txt").read_text()
    assert entry.detail["name"] == "wrong.md"
    (shown,) = shared.status()["rejected"]
    assert (shown["file"], "did you mean" in shown["why"]) == ("wrong.md", True)


def test_an_attempt_out_of_time_is_ended_counted_and_its_work_is_there_for_the_next(
    shared: Line,
) -> None:
    code = "Path('late.txt').exists() and sys.exit(); write('late.txt', 'fine'); hold('/never')"
    shared.drop("late", code, minutes=0.01, attempts=1)

    card = shared.card(CardKind.ATTEMPTS_EXHAUSTED)

    assert shared.attempts("late") == ["timed_out"]
    shared.answer(card, "Cancel it")
    (attempt,) = shared.store.select(Attempt, unit="late")
    assert git(shared.places.git, "show", f"{attempt.ref}:late.txt") == "fine"


# ── about an agent's account ──

TOLD = """
command = ["sh", "-c", "echo $1 > $FACTORY_UNIT.txt", "sh", "{model}", "{prompt_file}"]
"""
LIMITED = """
command = ["limited", "{prompt_file}"]
[limit]
patterns = ['limit reached until (?P<reset>\\d+)']
login = ['Not logged in']
"""


def test_at_its_usage_limit_an_agent_rests_until_the_reset_and_no_attempt_is_spent(
    line: Line,
) -> None:
    limited(
        line,
        f'[ -e {line.folder}/reset ] && exec sh -c "echo fine > $FACTORY_UNIT.txt"\ntouch {line.folder}/reset\n'
        "echo limit reached until $(($(date +%s) + 2)); exit 1\n",
    )
    line.drop("first", FINE, agent="limited")
    line.event(Event.ATTEMPT_ENDED, unit="first", reason="limit")
    line.drop("second", FINE, agent="limited")
    line.unit("second", UnitState.READY, why="limited is paused until")

    for name in ("first", "second"):
        line.unit(name)

    assert line.attempts("first") == ["limit", "submitted"]
    assert line.attempts("second") == ["submitted"]
    assert line.unit("first").spent == 0


def test_a_unit_gets_the_runtime_and_the_model_that_it_names_or_a_card_says_why_not(
    line: Line,
) -> None:
    line.commit({"conventions/runtimes/told.toml": TOLD})
    line.drop("role", FINE, agent="told", model="opus-9")
    line.drop("deaf", FINE, agent="scripted", model="opus-9")
    line.drop("typo", FINE, agent="scriptd")

    landed = line.unit("role")
    line.unit("deaf", UnitState.HELD)
    line.unit("typo", UnitState.WAITING)

    assert line.git("show", f"{landed.commit}:role.txt") == "opus-9"
    asked = {card.units[0]: card for card in line.store.open(Card)}
    assert "There is no runtime 'scriptd': did you mean scripted?" in asked["typo"].question
    assert asked["deaf"].question.startswith(
        "deaf asks for the model opus-9, but agent scripted takes no model"
    )
    line.answer(asked["deaf"], "Run it anyway")
    line.answer(asked["typo"], "Cancel the waiting units")
    line.unit("deaf")


def test_while_an_agent_is_at_its_limit_the_next_of_the_fallback_order_lands_its_units(
    line: Line,
) -> None:
    reset = line.folder / "reset"
    limited(
        line,
        f'[ -e {reset} ] && exec sh -c "echo fine > $FACTORY_UNIT.txt"\ntouch {reset}\n'
        "echo limit reached until $(($(date +%s) + 4)); exit 1\n",
    )
    line.configure('agent = "limited"\nfallback = ["nobody", "scripted"]\n')
    line.until("in force", lambda: line.fact("config")["agent"]["value"] == "limited")
    line.drop("first", FINE)
    line.unit("first")
    line.drop("second", FINE)
    line.until(
        "it is said",
        lambda: "scripted stands in: limited is paused until" in line.factory("status")[1],
    )
    line.unit("second")
    assert "scripted stands in: limited is paused until" in line.factory("why", "first")[1]
    assert (
        "names the agent 'nobody', but there is no runtime file for it" in line.factory("status")[1]
    )

    line.until("the pause is over", lambda: "stands in" not in line.factory("status")[1])
    line.drop("third", FINE)
    line.unit("third")

    took = [(each.agent, str(each.reason)) for each in line.store.select(Attempt)]
    assert took == [
        ("limited", "limit"),
        *[("scripted", "submitted")] * 2,
        ("limited", "submitted"),
    ]
    assert (line.unit("first").spent, line.store.select(Card)) == (0, [])


def test_an_agent_that_is_not_logged_in_is_one_card_for_all_its_units(line: Line) -> None:
    limited(
        line,
        f'[ -e {line.folder}/login ] && exec sh -c "echo fine > $FACTORY_UNIT.txt"\necho Not logged in; exit 1\n',
    )
    for name in ("one", "two", "three"):
        line.drop(name, FINE, agent="limited")

    card = line.card(CardKind.RUNTIME, count=3)

    assert "log it in" in card.question
    (line.folder / "login").touch()
    line.answer(card, "Try again")
    for name in ("one", "two", "three"):
        assert line.unit(name).spent == 0
        assert set(line.attempts(name)) <= {"auth", "submitted"}


def limited(line: Line, script: str) -> None:
    """Give the line an agent with an account."""
    (line.bin / "limited").write_text(f"#!/bin/sh\n{script}")
    (line.bin / "limited").chmod(0o755)
    line.commit({"conventions/runtimes/limited.toml": LIMITED})
    line.event(Event.TRUNK_MOVED)
