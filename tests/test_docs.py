"""The pages and the code say the same: whatever there is is documented, and the other way round.

A table is found by its heading row; what it is about stands in backticks in the first cell of each of its rows.
"""

import ast
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from docs import commands, settings
from factory.agents import runtime, runtime_file
from factory.attempt.prompts import Brief
from factory.cli import about, parsers
from factory.ground.errors import ConfigError, FactoryError
from factory.ground.settings_file import KEYS, NOT_YET
from factory.inference.infer import rules_of
from factory.judging.machine import Machine
from factory.judging.place import Place
from factory.people import cards, line_cards
from factory.store import task_file
from factory.store.journal import Event
from factory.store.records import CardKind
from factory.store.unit import SPENDS, EndReason, UnitState
from tests.floor import untracked

ROOT = Path(__file__).parent.parent
CONVENTIONS = Path("conventions/README.md")
CARDS = "docs/cards.md"
COMMANDS = "docs/commands.md"
CONFIGURATION = "docs/configuration.md"
SETTING = "key | default | unit | allowed values | meaning"
STATES = "docs/states.md"
TASKS = "docs/tasks.md"
TROUBLESHOOTING = "docs/troubleshooting.md"
INDEX = "docs/index.md"
RUNTIMES = "docs/runtimes.md"
OTHERS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "conventions/README.md",
    "examples/README.md",
    "factory/effects.md",
)
PAGES = (*OTHERS, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
# Each heading of the README when it was one long page, and the place that has its contents now.
FORMER = {
    "factoryd": "README.md",
    "Five minutes in your own repository": "docs/tour.md",
    "Start": "docs/tour.md#start",
    "The first unit, without an agent": "docs/tour.md#the-first-unit-without-an-agent",
    "A change that is not good": "docs/tour.md#a-change-that-fails",
    "With an agent": "docs/tour.md#with-an-agent",
    "Your own unfinished work": "docs/tour.md#your-own-unfinished-work",
    "Stop": "docs/tour.md#stop",
    "Task files": "docs/tasks.md",
    "Configuration": "docs/configuration.md",
    "Money": "docs/money.md",
    "Commands": "docs/commands.md",
    "Cards": "docs/cards.md",
    "States and records": "docs/states.md",
    "Landing and your checkout": "docs/landing.md",
    "When the repository is moved, copied, cleaned or restored": "docs/landing.md"
    "#when-the-repository-is-moved-copied-cleaned-or-restored",
    "What an agent and a gate can do": "docs/sandbox.md#what-an-agent-and-a-gate-can-do",
    "On a Mac": "docs/sandbox.md#on-a-mac",
    "With and without a sandbox": "docs/sandbox.md#with-and-without-a-sandbox",
    "Agents tried": "docs/agents.md#agents-tried",
    "Platforms": "docs/platforms.md",
    "Working on factoryd": "CONTRIBUTING.md",
    "Benchmarks": "docs/benchmarks.md",
    "Why it is so": "docs/design.md",
    "Where this departs from its contract": "docs/design.md#departures-from-the-contract",
}
MOST_LINES = 300  # of a page
BENCH = "<!-- bench -->"
MACHINE = re.compile(
    r"/(?:home|root|tmp|work|Users|private|mnt)/|https?://(?!github\.com|keepachangelog|semver)"
)


@cache
def text(name: Path | str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table(heading: str, name: Path | str) -> dict[str, list[str]]:
    """What stands in backticks in the first cell → the other cells of its row."""
    _, found, below = text(name).partition(f"\n| {heading} |\n")
    assert found, f"{name} has no table headed {heading}"
    rows = dict[str, list[str]]()
    for line in below.splitlines()[1:]:
        if not line.startswith("|"):
            break
        first, *others = (
            cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))
        )
        rows |= dict.fromkeys(re.findall(r"`([^`]+)`", first), others)
    return rows


def option_labels() -> Iterator[tuple[str, str]]:
    """Card kind → label of an option, for every card that can be raised; … for what is filled in."""
    texts = [Path(str(each.__file__)).read_text(encoding="utf-8") for each in (cards, line_cards)]
    module = ast.parse("\n".join(texts))
    named = dict(_named_choices(module))
    assert {"CANCEL", "CANCEL_ALL", "RECHECK"} <= named.keys()
    for function in (node for node in module.body if isinstance(node, ast.FunctionDef)):
        kinds = (
            re.findall(r"CardKind\.(\w+)", ast.unparse(function))
            if "sk(" in ast.unparse(function)
            else []
        )
        nodes = [
            named.get(node.id, node) if isinstance(node, ast.Name) else node
            for node in ast.walk(function)
        ]
        labels = {
            _said(node.elts[0])
            for node in nodes
            if isinstance(node, ast.Tuple) and len(node.elts) == 3
        }
        shared = (
            {"guard", "out_of_scope"}
            if function.name == "guard"
            else {kind.lower() for kind in kinds}
        )
        yield from ((kind, label) for kind in shared for label in labels if label)


def _named_choices(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _said(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    return str(node.value) if isinstance(node, ast.Constant) else ""


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {key: cells[0] for key, cells in table(SETTING, CONFIGURATION).items()}

    assert documented == {key: f"`{_default(field.default)}`" for key, field in KEYS.items()}


def _default(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def test_a_setting_that_is_not_built_says_so_and_no_other_does() -> None:
    rows = table(SETTING, CONFIGURATION)

    assert {key for key, cells in rows.items() if "Not available yet" in cells[-1]} == set(NOT_YET)


def test_the_tables_of_commands_and_options_are_what_the_parsers_say() -> None:
    page = text(COMMANDS)

    assert commands.page(page) == page, "write it again: make commands"


def test_the_table_of_settings_is_what_the_code_says() -> None:
    page = text(CONFIGURATION)

    assert settings.page(page) == page, "write it again: make settings"


def test_every_setting_has_a_description_that_ends_as_a_sentence() -> None:
    cells = table(SETTING, CONFIGURATION).values()

    assert [meaning for *_, meaning in cells if not meaning.endswith(".")] == []
    assert [unit for _, unit, *_ in cells if not unit] == []
    assert [allowed for _, _, allowed, _ in cells if not allowed] == []


def test_every_key_of_a_task_file_is_documented() -> None:
    documented = table("key | meaning | default", TASKS)

    assert set(documented) == {*task_file.READERS, *task_file.LATER}
    assert {key for key, cells in documented.items() if "not available yet" in cells[0]} == set(
        task_file.LATER
    )


def test_every_guard_that_a_task_may_lift_is_documented() -> None:
    meaning = table("key | meaning | default", TASKS)["allow"][0]

    assert set(re.findall(r"`([a-z-]+)`", meaning)) == {*task_file.GUARDS, *task_file.LATER_GUARDS}


def test_every_kind_of_card_is_documented() -> None:
    documented = table("kind | raised when | options", CARDS)

    assert set(documented) == set(CardKind)


@pytest.mark.parametrize(("kind", "label"), sorted(set(option_labels())))
def test_every_option_of_a_card_is_documented(kind: str, label: str) -> None:
    options = table("kind | raised when | options", CARDS)[kind][1]

    assert label in options


def test_the_options_of_all_kinds_of_cards_were_looked_at() -> None:
    kinds = {kind for kind, _ in option_labels()}

    assert kinds == set(CardKind)


@cache
def said_by_the_code() -> str:
    """Every text in factory/, with … for the values of an f-string."""
    texts = []
    for source in (ROOT / "factory").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                texts.append(_said(node))
    return "\n".join(texts)


def quotes() -> Iterator[str]:
    """What the first cells of the troubleshooting page quote from cards: `card kind: quote`."""
    for cell in re.findall(r"^\| (card .*?) \|", text(TROUBLESHOOTING), re.MULTILINE):
        yield from re.findall(r"`: ([^,]+)", cell)


@pytest.mark.parametrize("quoted", sorted(quotes()))
def test_the_words_of_cards_in_troubleshooting_are_those_on_the_screen(quoted: str) -> None:
    parts = [part.strip() for part in quoted.split("…")]

    assert [part for part in parts if part not in said_by_the_code()] == []


def test_every_state_of_a_unit_is_documented() -> None:
    assert set(table("state | where the unit is", STATES)) == set(UnitState)


def test_every_end_of_an_attempt_is_documented_and_whether_it_counts() -> None:
    rows = table("reason | counts | what happened, and what comes next", STATES)

    documented = {reason: cells[0] for reason, cells in rows.items()}
    assert documented == {str(reason): "yes" if SPENDS[reason] else "no" for reason in EndReason}


def test_every_event_of_the_journal_is_documented() -> None:
    assert set(table("event | when", STATES)) == set(Event)


def test_every_command_of_both_programs_is_documented_with_its_flags() -> None:
    documented = table("command | what it does", COMMANDS)
    built = {
        parsers.make(program, name).usage
        for program in parsers.PROGRAMS
        for name in parsers.declarations(program)
    }
    later = {f"factory {name}" for name in about.LATER}

    assert set(documented) == built | later
    assert {
        command for command, cells in documented.items() if cells == ["not available yet"]
    } == later


def test_the_words_of_json_are_those_of_the_code() -> None:
    sources = [*(ROOT / "factory").rglob("*.py")]
    code = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    rows = re.findall(r"^\| .* \| .* \| .* \| (.*) \|$", text("docs/words.md"), re.MULTILINE)
    words = {word for row in rows for word in re.findall(r"`([\w.]+)`", row)}

    assert len(words) > 30
    assert {word for word in words if not re.search(rf"\b{re.escape(word)}\b", code)} == set()


def test_every_exit_code_of_a_command_is_documented() -> None:
    codes = {kind.exit_code for kind in _below(FactoryError)}
    said = re.search(r"Exit codes: (.*?)\.\n", text(COMMANDS), re.DOTALL)

    assert said
    assert {int(code) for code in re.findall(r"\d", said[1])} == {0, *codes}


def _below(kind: type[FactoryError]) -> list[type[FactoryError]]:
    return [kind, *(below for each in kind.__subclasses__() for below in _below(each))]


def test_every_key_of_a_gate_file_is_documented() -> None:
    gate = "conventions/gates/10-g.toml"

    with pytest.raises(ConfigError) as refused:  # says the whole form
        rules_of([gate], {gate: 'comand = "true"'})

    assert set(re.findall(r"(\w+) = ", str(refused.value))) == set(
        table("key | meaning | default", CONVENTIONS)
    )


def test_the_comments_of_a_setup_script_are_documented() -> None:
    documented = table("comment | meaning | without it", CONVENTIONS)
    path = "conventions/workspace/setup.sh"
    script = "# inputs: a b\n# keeps: made here\n# made-from: c\ntrue\n"

    setup = rules_of([path], {path: script}).setup

    assert set(documented) == {"# inputs:", "# keeps:", "# made-from:"}
    assert (setup.inputs, setup.keeps, setup.made_from) == (("a", "b"), ("made", "here"), ("c",))


def test_every_variable_that_a_gate_finds_is_documented(tmp_path: Path) -> None:
    place, caches = Place(tmp_path / "b1", contents=untracked), tmp_path / "caches"
    (place.venv / "bin").mkdir(parents=True)
    machine = Machine(environ={"HOME": "/none"}, root=tmp_path, caches=caches, passed=tuple)

    variables = machine.variables(place, judging=True)

    named = {
        name for name, value in variables.items() if not value.startswith(str(caches))
    }  # caches: by their tools
    assert {name for name in named if not re.search(rf"\b{name}\b", text(CONVENTIONS))} == set()


def test_every_key_of_a_runtime_file_is_documented() -> None:
    keys = {key for readers in runtime_file.TABLES for key in readers} - {"name"}

    page = text(RUNTIMES)
    assert {
        key for key in keys if not re.search(rf"[`\[.]{key}[`\].]|^{key} = ", page, re.MULTILINE)
    } == set()


def test_every_key_of_the_output_table_of_a_runtime_exists() -> None:
    documented = table("key | what it finds", RUNTIMES)

    assert set(documented) - set(runtime_file.USAGE) <= set(runtime_file.OUTPUT)


def test_every_placeholder_of_a_runtime_is_documented() -> None:
    documented = table("placeholder | what it is", RUNTIMES)

    assert {name.strip("{}") for name in documented} == set(runtime.PLACEHOLDERS)


def test_every_value_of_a_prompt_is_documented_and_exists() -> None:
    documented = set(table("name | what it is", CONVENTIONS))

    assert documented == {field.name for field in fields(Brief)}


def test_every_shipped_prompt_and_folder_is_documented() -> None:
    prompts = {path.name for path in (ROOT / "conventions/prompts").glob("*.md")}
    below = text(CONVENTIONS).partition("## prompts/")[2].partition("## ")[0]

    assert prompts - set(re.findall(r"`(\w+\.md)`", below)) == set()
    assert {f"{path.name}/" for path in (ROOT / "conventions").iterdir() if path.is_dir()} <= set(
        table("place | what it is", CONVENTIONS)
    )


@pytest.mark.parametrize("name", PAGES)
def test_no_path_of_a_machine_and_no_index_host_is_in_the_documents(name: str) -> None:
    assert MACHINE.findall(text(name)) == []


def links(name: str) -> list[tuple[str, str]]:
    """The page (or other file) and the anchor that each link of a page leads to; not those to other sites."""
    targets = re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text(name), flags=re.DOTALL | re.MULTILINE)
    )
    found = []
    for target in targets:
        path, _, anchor = target.partition("#")
        if "://" not in target:
            to = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            found.append((to, anchor))
    return found


def anchors(name: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_within_the_documents_leads_somewhere(name: str) -> None:
    for to, anchor in links(name):
        assert (ROOT / to).exists(), to
        assert not anchor or anchor in anchors(to), f"{to}#{anchor}"


def test_every_page_is_reached_from_the_index_in_one_click() -> None:
    reached = {to for to, _ in links(INDEX)}

    assert set(PAGES) - {INDEX, str(CONVENTIONS)} <= reached
    assert str(CONVENTIONS) in {to for to, _ in links("docs/conventions.md")}


@pytest.mark.parametrize(("heading", "place"), FORMER.items())
def test_every_heading_of_the_former_readme_is_found_from_the_index(
    heading: str, place: str
) -> None:
    page, _, anchor = place.partition("#")
    first = links(INDEX)
    second = [link for to, _ in first if to in PAGES for link in links(to)]

    assert not anchor or anchor in anchors(page), heading
    assert {(page, anchor), (page, "")} & {*first, *second}, heading


def test_the_readme_leads_to_the_index() -> None:
    assert (INDEX, "") in links("README.md")


def test_the_readme_is_a_first_visit() -> None:
    assert len(text("README.md").splitlines()) <= 200
    assert len(text("README.md").encode()) <= 10 * 1024


@pytest.mark.parametrize("name", sorted({*PAGES} - {"CHANGELOG.md"}))
def test_no_page_is_too_long_to_be_read(name: str) -> None:
    assert len(text(name).splitlines()) <= MOST_LINES


def test_the_figures_in_the_readme_are_those_of_the_benchmarks() -> None:
    _, few, _ = text("README.md").split(BENCH)
    _, all_of_them, _ = text("docs/benchmarks.md").split(BENCH)

    assert set(few.splitlines()) <= set(all_of_them.splitlines())
    assert len(few.strip().splitlines()) == 2 + 3


def test_every_target_of_make_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", text("Makefile"), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)\b", text(page), re.MULTILINE)
    }

    assert {
        "test",
        "check",
        "demo",
        "matrix",
        "faults",
        "chaos",
        "simulation",
        "bench",
        "agents",
        "lock",
    } <= named
    assert named <= targets
