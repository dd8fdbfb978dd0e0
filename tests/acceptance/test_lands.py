"""Work that lands: what a person drops ends as one tested commit on trunk each."""

from factory.unit import UnitState
from tests.acceptance.line import Line


def test_a_run_unit_lands_with_green_gates(shared: Line) -> None:
    shared.drop_text("format", "---\nrun: echo made > made.txt\n---\nFormat it.\n")

    landed = shared.unit("format")

    assert shared.git("show", f"{landed.commit}:made.txt") == "made"
    assert (shared.root / "made.txt").read_text() == "made\n"
    assert shared.attempts("format") == ["submitted"]


def test_what_an_agent_wrote_lands_as_one_commit_with_its_words(shared: Line) -> None:
    shared.drop("hello", "write('hello.txt', 'hi'); leave('done.md', 'Say hello\\n\\nBecause nobody did.')", title="T")

    landed = shared.unit("hello")

    shown = shared.git("log", "-1", "--format=%an <%ae>%n%cn%n%s%n%b", landed.commit)
    assert shown.splitlines() == [
        "scripted <agent@factoryd.invalid>",
        "Ada Tester",
        "Say hello",
        "Because nobody did.",
        "",
        "Factory-Unit: hello",
        "Factory-Attempt: 1",
        "Factory-Agent: scripted",
    ]
