"""Finds the gates of one commit, and how to make its environment.

Invariant: all functions are pure, so the same files give the same rules. `sources` has every file
that affects the rules, even if it does not exist yet (a new `pytest.ini` would override
pyproject.toml).
"""

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import filterfalse
from typing import TYPE_CHECKING

from factory.ground.names import CONVENTIONS
from factory.inference import (
    gate_files,
    make,
    node,
    others,
    python,
    python_setup,
    sessions,
    setup_script,
)
from factory.inference.files import (
    LOCKS,
    PYTHON_MANIFESTS,
    TESTS_READ,
    Files,
    bare,
    ci_files_in,
    gates_in,
    matching,
    setup_in,
    tests_in,
)
from factory.inference.gate_files import code_of
from factory.inference.rules import TESTS, Gate, Rules, Setup

if TYPE_CHECKING:
    from factory.inference.ci.project import Project

_RULED_BY: Mapping[str, tuple[str, ...]] = {
    **python.RULED_BY,
    **node.RULED_BY,
    **make.RULED_BY,
    **others.RULED_BY,
    **sessions.RULED_BY,
}
_TOOL = re.compile(rf"(?<![\w./=-])({'|'.join(_RULED_BY)})(?![\w.=-])")
_BETWEEN_WORDS = re.compile(r"[\s'\"`;&|()<>=]+")
_NAME_OF_TEST = re.compile(r"(^|/)test_|[._](test|spec)\.\w+$")


def wanted(listing: Sequence[str], folder: str = CONVENTIONS) -> list[str]:
    """Return the files of a commit whose content `rules_of` needs.

    `folder`: the name of the conventions folder.
    """
    ruling = set[str]().union(*_RULED_BY.values())
    globs = (
        f"{gates_in(folder)}*",
        setup_in(folder),
        *PYTHON_MANIFESTS,
        *LOCKS,
        python_setup.PRE_COMMIT,
        *others.READ,
        *ruling,
    )
    tests = tests_in(listing)[:TESTS_READ]
    return sorted({*matching(listing, *globs), *tests, *ci_files_in(listing)})


def rules_of(
    listing: Sequence[str],
    contents: Mapping[str, str],
    folder: str = CONVENTIONS,
    *,
    larger: Collection[str] = (),
    python: tuple[int, int] = sys.version_info[:2],
) -> Rules:
    """Return the gates and the setup of a commit; raise ConfigError for a wrong file.

    `folder`: the name of the conventions folder. `larger`: files that were too large to read.
    `python`: the version of Python that gates use.
    """
    files = Files(listing, contents, folder, larger)
    written = gate_files.gates(files)
    ci = None if written else _ci(files, python)
    gates = written or _found(ci, files)
    setup = _setup(files, gates, ci)
    texts = [*map(_text, gates), code_of(setup.script)]
    sources = _files_run(texts, files)
    for name in files.names:
        if name.startswith(files.gates):
            sources.append(name)
    for tool in _tools(gates):
        sources += _RULED_BY[tool]
    if setup.kind == "script":
        sources.append(files.setup)
    if ci:
        sources += ci.paths
    if setup.inferred:
        sources += files.matching(*setup.inputs)
    return Rules(
        gates=gates,
        setup=setup,
        sources=frozenset(sources),
        unread=frozenset(files.unread),
        skipped=ci.skipped if ci else (),
    )


def _ci(files: Files, python: tuple[int, int]) -> "Project | None":
    if not ci_files_in(files.names):
        return None
    # here, because it takes 1 MiB, and a project with gate files does not need it
    from factory.inference.ci.project import Project

    return Project(files, python)


def _text(gate: Gate) -> str:
    return code_of(gate.script) or " ".join(gate.command)


def _tools(gates: Iterable[Gate]) -> set[str]:
    return set(_TOOL.findall("\n".join(map(_text, gates))))


def _found(ci: "Project | None", files: Files) -> tuple[Gate, ...]:
    """Return the gates of a repository without gate files.

    The first source that has a test gives the tests. Checks come from CI if it has any.
    """
    if not ci:
        return _inferred(files)
    if ci.is_tested:
        return ci.gates
    inferred = _inferred(files)
    if ci.gates:
        inferred = (*ci.gates, *filter(_is_test, inferred))
    if any(map(_is_test, inferred)):
        return inferred
    return (*inferred, *ci.builds())


def _is_test(gate: Gate) -> bool:
    return gate.group >= TESTS


def _inferred(files: Files) -> tuple[Gate, ...]:
    """Return the gates that runners, configured tools and languages suggest."""
    by_runner = tuple(sessions.gates(files))
    if by_runner:
        return by_runner
    inferred = [*python.gates(files), *node.gates(files), *others.gates(files)]
    if any(map(_is_test, inferred)):
        return tuple(inferred)
    return (*inferred, *make.gates(files))


def _setup(files: Files, gates: Sequence[Gate], ci: "Project | None") -> Setup:
    if files.setup in files.names:
        return setup_script.setup(files)
    if not ci:
        return _inferred_setup(files, gates)
    of_ci = ci.setup()
    if ci.is_tested:
        return of_ci
    others = [gate for gate in gates if not ci.gives(gate)]
    if gates and not others:
        return of_ci
    return _inferred_setup(files, others).joined(of_ci)


def _inferred_setup(files: Files, gates: Sequence[Gate]) -> Setup:
    if gates and gates[0].reason in sessions.FILES:
        return sessions.setup(files, gates)
    return node.with_packages(files, python_setup.setup(files, _tools(gates)))


def _files_run(texts: Iterable[str], files: Files) -> list[str]:
    """Return the files that these commands name. A change of such a file changes the gate.

    Tests are left out, because factoryd judges changes of tests in another way.
    """
    words = _BETWEEN_WORDS.split("\n".join(texts))
    named = files.names.intersection(map(bare, words))
    return list(filterfalse(_NAME_OF_TEST.search, named))
