"""`factory tell`: whatever was said is read before work lands, and no finished work is lost for it."""

from collections.abc import Iterator

import pytest

from factory.store.journal import Event
from factory.store.records import Attempt
from factory.store.unit import UnitState
from tests.acceptance.line import Line, files, line_in

DONE = 'leave("done.md", "Add it\\n")'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A line whose gate holds a tree with held.txt until the test lets go."""
    folder = tmp_path_factory.mktemp("told")
    hold = f"if [ -e held.txt ]; then until [ -e {folder}/judge ]; do sleep 0.02; done; fi\n"
    with line_in(folder, files(**{"conventions__gates__20-hold.sh": hold})) as running:
        yield running


def tell(line: Line, name: str, text: str) -> str:
    code, said = line.factory("tell", name, text)
    assert code == 0, said
    return said


def let_go(line: Line, name: str) -> None:
    (line.folder / name).touch()


def on_trunk(line: Line, path: str) -> str:
    return line.git("show", f"main:{path}")


def test_what_is_said_while_the_agent_works_goes_into_its_session_before_anything_lands(
    shared: Line,
) -> None:
    code = f"""
        if resumed:
            assert "keep the old name" in told
            write("resumed.txt", Path("resumed.txt").read_text() + "old name")
        else:
            write("resumed.txt", "new name, ")
            {DONE}
            hold("{shared.folder}/resumed")
    """
    shared.drop("resumed", code, agent="sessions")
    shared.attempt("resumed")

    assert "its agent reads this before its work is submitted" in tell(
        shared, "resumed", "keep the old name"
    )
    let_go(shared, "resumed")

    unit = shared.unit("resumed")
    assert (shared.attempts("resumed"), unit.spent) == (["told", "submitted"], 0)
    assert on_trunk(shared, "resumed.txt") == "new name, old name"
    assert shared.git("log", "-1", "--format=%s", unit.commit) == "Add it"


def test_an_agent_without_sessions_goes_on_afresh_from_its_tree(shared: Line) -> None:
    code = f"""
        if attempt == 2:
            assert "keep the old name" in told
            write("fresh.txt", Path("fresh.txt").read_text() + "old name")
        else:
            write("fresh.txt", "new name, ")
            hold("{shared.folder}/fresh")
    """
    shared.drop("fresh", code)
    shared.attempt("fresh")

    tell(shared, "fresh", "keep the old name")
    let_go(shared, "fresh")

    unit = shared.unit("fresh")
    assert (shared.attempts("fresh"), unit.spent) == (["told", "submitted"], 0)
    assert on_trunk(shared, "fresh.txt") == "new name, old name"


def test_where_what_was_said_changes_nothing_the_work_lands_as_it_was(shared: Line) -> None:
    code = f"""
        if attempt == 1:
            write("same.txt", "as it was")
            {DONE}
            hold("{shared.folder}/same")
    """
    shared.drop("same", code, attempts=1)
    shared.attempt("same")

    tell(shared, "same", "well done")
    let_go(shared, "same")

    unit = shared.unit("same")
    assert (shared.attempts("same"), unit.spent) == (["told", "submitted"], 0)
    assert on_trunk(shared, "same.txt") == "as it was"
    assert shared.git("log", "-1", "--format=%s", unit.commit) == "Add it"
    second = shared.store.get(Attempt, "same", 2)
    assert second is not None
    assert second.detail == "it changed nothing: the work of attempt 1 is submitted as it was"


def test_a_unit_in_the_queue_is_taken_out_to_be_told(shared: Line) -> None:
    code = """
        if attempt == 1:
            write("held.txt", "a")
        else:
            assert "not held.txt" in told
            Path("held.txt").rename("queued.txt")
    """
    shared.drop("queued", code)
    shared.unit("queued", UnitState.QUEUED)

    assert "taken out of the queue" in tell(shared, "queued", "not held.txt")

    shared.unit("queued")
    let_go(shared, "judge")
    assert shared.attempts("queued") == ["told", "submitted"]
    assert on_trunk(shared, "queued.txt") == "a"
    assert "held.txt" not in shared.git("ls-tree", "--name-only", "main").splitlines()


def test_once_it_is_landing_it_cannot_be_told_any_more(shared: Line) -> None:
    reached, go = shared.folder / "reached", shared.folder / "go"
    shared.wrap_git(
        on=" --ff-only ", before=f"touch {reached}; until [ -e {go} ]; do sleep 0.02; done"
    )
    try:
        shared.drop("landing", 'write("landing.txt", "a")')
        shared.until("its landing is under way", reached.exists)
        code, said = shared.factory("tell", "landing", "wait")
    finally:
        go.touch()
        (shared.bin / "git").unlink()

    assert code == 3
    assert (
        "landing is landing at this moment, so no agent reads your message. Add a new task" in said
    )
    assert shared.unit("landing").attempt == 1
    assert shared.attempts("landing") == ["submitted"]
    assert shared.entries(Event.UNIT_TOLD, unit="landing") == []
