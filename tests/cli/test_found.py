"""What judges here, as lines."""

from factory.cli.found import found_lines
from factory.store import found_rows


def gate(number: int) -> found_rows.FoundGate:
    return found_rows.FoundGate(
        name=f"t{number}", command=f"make t{number}", reason=f"ci.yml:{number}"
    )


def test_each_line_names_where_it_was_read_and_what_is_left_out_or_advisory() -> None:
    found = found_rows.Inferred(
        gates=[
            found_rows.FoundGate(
                name="lint",
                command='PRE_COMMIT_HOME="$PIP_CACHE_DIR/pre-commit" pre-commit run -a',
                reason="lint.yml:19",
            ),
            found_rows.FoundGate(
                name="mypy", command="export A=1 B=2 && mypy src", reason="lint.yml:34"
            ),
        ],
        advisory=[found_rows.FoundGate(name="ruff", command="ruff check .", reason="ruff.toml")],
        skipped=[
            found_rows.FoundStep(code="pytest -m db", origin="ci.yml:7", why="it needs services"),
        ],
        setup=found_rows.FoundSetup(
            kind="pip",
            reason="what CI installs (ci.yml:3)",
            commands=["python3 -I -m venv venv", "venv/bin/pip install -e ."],
        ),
        agents=["claude"],
        agent="claude",
    )

    assert found_lines(found) == [
        "  gate      lint    lint.yml:19  pre-commit run -a",
        "  gate      mypy    lint.yml:34  mypy src",
        "  advisory  ruff    ruff.toml    fails on trunk, so it does not judge yet: ruff check .",
        "  left out          ci.yml:7     pytest -m db: it needs services",
        "  setup     pip                  what CI installs (ci.yml:3)",
        "  agent     claude               default",
        "  setup runs",
        "    python3 -I -m venv venv",
        "    venv/bin/pip install -e .",
    ]


def test_the_short_form_names_the_first_gates_and_where_all_of_them_are() -> None:
    found = found_rows.Inferred(gates=[gate(number) for number in range(9)])

    lines = found_lines(found, short=True)

    assert len(lines) == 8
    assert lines[4].split() == ["gate", "t4", "ci.yml:4", "make", "t4"]
    assert lines[5].split() == ["gate", "…", "and", "4", "more:", "factory", "config"]
    assert len(found_lines(found)) == 11


def test_where_nothing_was_found_it_says_what_follows_from_that() -> None:
    assert found_lines(None) == [
        "  gate   none    nothing lands before you add a gate",
        "  setup  none",
        "  agent  none    only tasks with `run:` can be done",
    ]
