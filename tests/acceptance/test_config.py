"""factory.toml while the line runs: hot, forgiving, and told."""

import json

import pytest

from factory.store.journal import Event
from factory.store.records import CardKind, Hook
from factory.store.unit import UnitState
from tests.acceptance.line import CONFIG, Line

FINE = "write(f'{os.environ[\"FACTORY_UNIT\"]}.txt', 'fine')"


def test_an_edit_is_in_force_within_a_second_and_a_bad_one_keeps_the_last_good_one(
    line: Line,
) -> None:
    line.configure(CONFIG.replace("workers = 2", "workers = 3"))
    # The child that reads the file takes 0.3 s; on a busy machine more, but far less than a pass every 30 s.
    line.until("three workers", lambda: len(line.status()["workers"]) == 3, seconds=8)

    line.configure(CONFIG + "wrokers = 9\n")

    card = line.card(CardKind.CONFIG)
    assert "wrokers" in card.question
    assert "did you mean" in card.question
    line.until(
        "status says so", lambda: any("wrokers" in each for each in line.status()["warnings"])
    )
    assert "wrokers" in line.factory("config")[1]
    assert line.fact("config")["workers"]["value"] == 3
    line.drop("works", FINE)
    line.unit("works")

    line.configure(CONFIG + "[limits]\nattempts = 7\n")

    line.no_card(CardKind.CONFIG)
    line.until("in force", lambda: line.fact("config")["limits.attempts"]["value"] == 7)
    line.until("nothing is complained of", lambda: line.status()["warnings"] == [])


def test_a_bad_edit_that_is_saved_twice_is_one_card(line: Line) -> None:
    line.configure("workers = 'many'\n")
    line.event(Event.CONFIG_REFUSED)
    mark = line.mark()
    line.configure("workers = []\n")
    line.event(Event.CONFIG_REFUSED, after=mark)

    card = line.card(CardKind.CONFIG)

    assert card.count == 1


def test_workers_grow_at_once_and_shrink_by_draining(line: Line) -> None:
    go = line.folder / "go"
    for name in ("a", "b"):
        line.drop(name, f"hold({str(go)!r}); {FINE}")
        line.event(Event.ATTEMPT_STARTED, unit=name)
    line.drop("c", f"hold({str(go)!r}); {FINE}")
    line.event(Event.TASK_ACCEPTED, unit="c")
    assert line.unit("c", UnitState.READY, why="free worker").attempt == 0

    line.configure(CONFIG.replace("workers = 2", "workers = 3"))
    line.event(Event.ATTEMPT_STARTED, unit="c")
    line.configure(CONFIG.replace("workers = 2", "workers = 1"))
    line.until("two drain", lambda: _states(line).count("draining") == 2)
    line.drop("d", FINE)
    go.touch()

    for name in ("a", "b", "c", "d"):
        line.unit(name)
        assert line.attempts(name) == ["submitted"]
    line.until("one is left", lambda: sorted(_states(line)) == ["gone", "gone", "idle"])


def test_a_file_that_is_removed_gives_the_defaults_back(line: Line) -> None:
    line.configure("workers = 1\n")
    line.until("one worker", lambda: line.fact("config")["workers"]["value"] == 1)

    (line.root / "factory.toml").unlink()

    line.until("the default", lambda: line.fact("config")["workers"]["value"] == 3)
    line.git("checkout", "--", "factory.toml")


def test_the_environment_overrules_the_file_and_config_says_from_where(cold: Line) -> None:
    cold.start(FACTORY__WORKERS="4")

    known = json.loads(cold.factory("config", "--json")[1])

    cold.until("four workers", lambda: len(cold.status()["workers"]) == 4)
    assert "FACTORY__WORKERS" in json.dumps(known)


def test_a_daemon_does_not_start_on_a_bad_file_and_says_where_it_is_wrong(cold: Line) -> None:
    (cold.root / "factory.toml").write_text("workers = 2\nagnet = 'x'\n")

    code, said = cold.refused()

    assert code == 2
    assert "agnet" in said
    assert "line 2" in said
    assert not (cold.root / ".factory/store.sqlite").exists()


def test_what_is_not_built_yet_is_refused_by_name(cold: Line) -> None:
    (cold.root / "factory.toml").write_text("[notify]\nurls = ['NTFY']\n")

    code, said = cold.refused()

    assert (code, "not yet" in said) == (2, True)


def test_a_variable_that_is_let_through_reaches_gates_and_run_units_and_others_do_not(
    cold: Line,
) -> None:
    cold.commit(
        {
            "factory.toml": CONFIG + '[env]\npass = ["TOKEN_FOR_TESTS"]\n',
            "conventions/gates/20-env.sh": 'test "$TOKEN_FOR_TESTS" = fine && test -z "$OTHER"\n',
        }
    )
    cold.start(TOKEN_FOR_TESTS="fine", OTHER="secret")
    cold.drop_text("env", '---\nrun: echo "$TOKEN_FOR_TESTS$OTHER" > env.txt\n---\nTell.\n')

    landed = cold.unit("env")

    assert cold.git("show", f"{landed.commit}:env.txt") == "fine"
    assert "fine" not in cold.places.log.read_text()


def _states(line: Line) -> list[str]:
    return [hook.state for hook in line.store.select(Hook)]


def test_a_start_says_which_of_the_repositorys_prompts_leaves_out_what_agents_need(
    cold: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold.commit({"conventions/prompts/footer.md": "Use tabs.\n"})
    for name, value in cold.environment().items():
        monkeypatch.setenv(name, value)

    try:
        code, said = cold.factoryd("start")
    finally:
        cold.factoryd("stop", "--now")

    assert code == 0
    assert (
        "! conventions/prompts/footer.md leaves out what was said so far, knowledge, gates, accept"
        in said
    )
