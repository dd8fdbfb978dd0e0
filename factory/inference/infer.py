"""Finds the gates of one commit, and how to make its environment.

Invariant: all functions are pure, so the same files give the same rules. `sources` has every file
that affects the rules, even if it does not exist yet (a new `pytest.ini` would override
pyproject.toml).
"""

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import filterfalse

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
from factory.inference.ci import circleci, github, gitlab
from factory.inference.ci import gates as ci_gates
from factory.inference.ci import jobs as ci_jobs
from factory.inference.ci import setup as ci_setup
from factory.inference.ci.steps import Job
from factory.inference.files import (
    LOCKS,
    PYTHON_MANIFESTS,
    TESTS_READ,
    Files,
    bare,
    gates_in,
    matching,
    setup_in,
    tests_in,
)
from factory.inference.gate_files import code_of
from factory.inference.rules import TESTS, Gate, Rules, Setup

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
    of_ci = {*github.wanted(listing), *gitlab.wanted(listing), *circleci.wanted(listing)}
    return sorted({*matching(listing, *globs), *tests, *of_ci})


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
    jobs = [] if written else _jobs(files, python)
    gates = written or _found(jobs, files)
    setup = _setup(files, gates, jobs)
    texts = [*map(_text, gates), code_of(setup.script)]
    sources = _files_run(texts, files)
    for name in files.names:
        if name.startswith(files.gates):
            sources.append(name)
    for tool in _tools(gates):
        sources += _RULED_BY[tool]
    if setup.kind == "script":
        sources.append(files.setup)
    for job in jobs:
        sources.append(job.path)
    if setup.inferred:
        sources += files.matching(*setup.inputs)
    return Rules(
        gates=gates, setup=setup, sources=frozenset(sources), unread=frozenset(files.unread)
    )


def _jobs(files: Files, python: tuple[int, int]) -> list[Job]:
    """Return the jobs of CI: the tests of the first CI that has any, and likewise the checks."""
    found: list[Job] = []
    is_tested = is_checked = False
    for jobs in (github.jobs(files, python), gitlab.jobs(files), circleci.jobs(files)):
        judging = ci_jobs.judging(jobs)
        if is_tested and is_checked:
            break
        if is_tested:
            judging = ci_jobs.checks_of(judging)
        elif is_checked:
            judging = ci_jobs.tests_of(judging)
        found += judging
        is_tested = is_tested or any(map(ci_jobs.tests, judging))
        is_checked = is_checked or any(map(ci_jobs.checks, judging))
    return found


def _text(gate: Gate) -> str:
    return code_of(gate.script) or " ".join(gate.command)


def _tools(gates: Iterable[Gate]) -> set[str]:
    return set(_TOOL.findall("\n".join(map(_text, gates))))


def _found(jobs: Sequence[Job], files: Files) -> tuple[Gate, ...]:
    """Return the gates of a repository without gate files.

    The first source that has a test gives the tests. Checks come from CI if it has any.
    """
    of_ci = tuple(ci_gates.gates(jobs))
    if any(map(ci_jobs.tests, jobs)):
        return of_ci
    inferred = _inferred(files)
    if of_ci:
        inferred = (*of_ci, *filter(_is_test, inferred))
    if any(map(_is_test, inferred)):
        return inferred
    return (*inferred, *ci_gates.builds(jobs))


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


def _setup(files: Files, gates: Sequence[Gate], jobs: Sequence[Job]) -> Setup:
    if files.setup in files.names:
        return setup_script.setup(files)
    of_ci = ci_setup.setup(jobs, files)
    if any(map(ci_jobs.tests, jobs)):
        return of_ci
    origins = set[str]()
    for job in jobs:
        origins.update(step.origin for step in job.steps)
    others = [gate for gate in gates if origins.isdisjoint(gate.reason.split(", "))]
    if gates and not others:
        return of_ci
    if others and others[0].reason in sessions.FILES:
        own = sessions.setup(files, others)
    else:
        own = node.with_packages(files, python_setup.setup(files, _tools(others)))
    return own.joined(of_ci)


def _files_run(texts: Iterable[str], files: Files) -> list[str]:
    """Return the files that these commands name. A change of such a file changes the gate.

    Tests are left out, because factoryd judges changes of tests in another way.
    """
    words = _BETWEEN_WORDS.split("\n".join(texts))
    named = files.names.intersection(map(bare, words))
    return list(filterfalse(_NAME_OF_TEST.search, named))
