"""A task file is read once, when it is accepted: a real daemon goes on without the Markdown of its open units."""

from factory.ground.daemon_state import now
from factory.store.journal import Event
from factory.store.records import CardKind, Task, Verdict
from factory.store.unit import UnitState
from tests.acceptance.line import Line

HELD = "hold({go!r}); write({name!r}, {text!r})"


def at_work(line: Line, name: str, text: str, **front: object) -> None:
    """A unit whose agent is at work until `go` lets it write its file."""
    code = HELD.format(go=str(line.folder / "go"), name=f"{name}.txt", text=text)
    line.drop(name, code, **front)
    line.attempt(name)


def lose_markdown(line: Line, name: str) -> None:
    """Delete the unit's text from the store, and its file wherever it lies."""
    line.store.write(Event.TASK_REPLACED, Task(unit=name, text=""), now=now(), unit=name)
    for folder in (line.places.intake / "taken", line.places.unit_dir(name)):
        for path in folder.glob(f"*-{name}.md"):
            path.unlink()


def test_without_its_markdown_a_unit_is_judged_and_lands_and_only_the_next_prompt_lacks_it(
    line: Line,
) -> None:
    at_work(line, "lands", "fine", accept=["test -e lands.txt"], scope=["*.txt"])
    at_work(line, "red", "BROKEN", attempts=2)

    for name in ("lands", "red"):
        lose_markdown(line, name)
    line.kill()
    line.start()
    for argv in (("status",), ("show", "lands"), ("why", "lands"), ("log", "lands")):
        code, said = line.factory(*argv)
        assert (code, "lands" in said) == (0, True), said
    (line.folder / "go").touch()

    landed = line.unit("lands")
    proofs = [
        each for each in line.store.select(Verdict, ok=True) if each.command == "test -e lands.txt"
    ]
    assert proofs, "its proof was run"
    assert line.git("show", f"{landed.commit}:lands.txt") == "fine"
    card = line.card(CardKind.CRASH_LOOP)
    assert card.question == (
        "red cannot start an agent: the text of its task file (red.md) is not on record any more. "
        "Its work is kept, and other units continue. What now?"
    )
    assert line.attempts("red") == ["gate_red", "handed_back"]
    assert card.id in line.unit("red", UnitState.WAITING).why
    line.factory("retry", "red")
    line.event(Event.ATTEMPT_ENDED, unit="red", attempt=3)
    again = line.card(CardKind.CRASH_LOOP)
    assert (again.id != card.id, line.unit("red", UnitState.WAITING).spent) == (True, 1)
    assert line.factory("cancel", "red")[0] == 0
    line.unit("red", UnitState.CANCELLED)
    line.no_card(CardKind.CRASH_LOOP)
