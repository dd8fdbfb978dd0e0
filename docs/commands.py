"""Writes the tables of commands and options in docs/commands.md, from factory/cli/declared.py.

`make commands` runs it; tests/test_docs.py fails while the page is stale. The text around them is written by hand.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from factory.cli import parsers
from factory.cli.about import LATER

PAGE = Path(__file__).with_name("commands.md")
MARK = "<!-- commands: written by `make commands` -->"
COMMANDS = """\
| command | what it does |
|---|---|
"""
OPTIONS = """
| command | option | what it does |
|---|---|---|
"""


def tables() -> str:
    """Return one row for each command, then one for each option."""
    every = list(_parsers())
    commands = [_command(parser) for parser in every]
    later = [f"| `factory {name}` | not available yet |\n" for name in LATER]
    options = [row for parser in every for row in _options(parser)]
    return "".join([COMMANDS, *commands, *later, OPTIONS, *options])


def page(text: str) -> str:
    """Return the page with new tables between its two marks."""
    before, _, after = text.split(MARK)
    return f"{before}{MARK}\n{tables()}{MARK}{after}"


def _parsers() -> Iterator[ArgumentParser]:
    for program in ("factoryd", "factory"):
        for name in parsers.declarations(program):
            yield parsers.make(program, name)


def _command(parser: ArgumentParser) -> str:
    what = " ".join(str(parser.description).split())
    return f"| `{_cell(str(parser.usage))}` | {_cell(what)} |\n"


def _options(parser: ArgumentParser) -> Iterator[str]:
    for action in parsers.actions(parser):
        form = ", ".join(action.option_strings)
        if form and action.nargs != 0:
            form += f" {action.metavar}"
        yield f"| `{parser.prog}` | `{_cell(form or str(action.metavar))}` | {_cell(str(action.help))} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} has {len(list(_parsers()))} commands")
