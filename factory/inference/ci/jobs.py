"""Which jobs of CI judge the tree as it is.

Each job of CI has a machine of its own, but all gates share one environment. So a job that changes
versions of packages, or that tests what another job built, is left out if another job tests.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from factory.inference.ci import environments
from factory.inference.ci.shell import TEMPORARY, WORKSPACE, parts_of
from factory.inference.ci.starters import unwrapped
from factory.inference.ci.steps import Job, Step
from factory.inference.ci.tools import CHECKS, JUDGING, Kind
from factory.inference.files import LOCK_OF, Files
from factory.inference.python_setup import TOOLS
from factory.inference.rules import Skipped

SERVICES = "it needs services, such as a database"
OTHER_TREE = "the job tests this repository"
_OTHER_VERSIONS = "it tests with other versions of packages, or a changed tree"
_OTHER_BUILD = "it tests what another job built"
VARIANTS = (_OTHER_VERSIONS, _OTHER_BUILD)
_PINNED = re.compile(
    r"(?P<name>[A-Za-z][\w.-]*)(\[[\w,]*\])?\s*(>=?\s*[\w.]+\s*,\s*)?(<|<=|==|~=|@)\s*[\w.*]+.*"
    r"|(git\+|https?://).*"
)
_FOREIGN = frozenset("--find-links --no-index --force-reinstall".split())
# Jobs that run the tests in a special build.
_SPECIAL = re.compile(
    r"(?<![a-z])(loom|miri|[amt]san|ubsan|sanitizers?|valgrind|qemu|cross|msrv|minimal|semver|android"
    r"|wasm|wasi|(py)?emscripten|pyodide|pgo|memray|debug|min[-_]?versions?|oldest|lowest|kernel|ecosystem)(?![a-z])"
)
_FREE = re.compile(
    r"pip|setuptools|wheel|build|twine|coveralls|codecov|(pytest|tox|nox|hatch)[\w-]*"
)
_SERVICE = re.compile(
    r"\b(systemctl|service)\s+(start|\w+ start)|\bdocker(-|\s+)(compose|run)\b|\bdocker-compose\b"
)
_LOCAL = re.compile(r"-r|--requirement|-e|\.{1,2}(/.*|\[.*)?")
_CHANGING = {
    ("cargo", "update"),
    ("cargo", "generate-lockfile"),
    ("bundle", "update"),
    ("go", "get"),
    ("pip", "uninstall"),
    ("uv-pip", "uninstall"),
}


def leave_out_variants(jobs: Iterable[Job]) -> None:
    """Leave only steps that judge the tree as it is; note in the jobs why others do not."""
    usual: list[Job] = []
    variants: list[Job] = []
    for job in jobs:
        if job.takes_builds and not any(map(_builds_itself, job.steps)):
            _leave_out(job, _OTHER_BUILD)
        elif _SPECIAL.search(job.name.lower()) or _SPECIAL.search(_file(job)) or _is_variant(job):
            variants.append(job)
        else:
            usual.append(job)
    is_tested = any(map(tests, usual))
    for job in variants:
        if is_tested:
            _leave_out(job, _OTHER_VERSIONS)
        # Where each test job is a variant, the first one stands for all.
        is_tested = is_tested or tests(job)


def _file(job: Job) -> str:
    return job.path.rpartition("/")[2].lower()


def settle(job: Job, files: Files) -> None:
    """Leave out of a job what cannot run here, and say why."""
    if any(each.why == OTHER_TREE for each in job.skipped):
        job.steps.clear()
    starts_service = any(_SERVICE.search(step.code) for step in job.steps)
    kept: list[Step] = []
    for step in job.steps:
        why = ""
        if starts_service and (step.kind in JUDGING or _SERVICE.search(step.code)):
            why = SERVICES
        elif not _is_there(step.folder, files, kept):
            why = "its folder is not in the tree"
        if why:
            job.skipped.append(Skipped(step.code, step.origin, why))
        else:
            kept.append(step)
    job.steps[:] = environments.with_plugin(kept, files.text("tox.ini"))


def _is_there(folder: str, files: Files, before: Iterable[Step]) -> bool:
    """Whether a folder is in the tree, or an earlier step of the job names it."""
    if not folder or folder.startswith(TEMPORARY) or files.has_folder(folder):
        return True
    if "*" in folder or folder.startswith(".."):
        return False
    name = folder.rpartition("/")[2]
    return any(name in step.words or f"/{name}" in step.code for step in before)


def tests(job: Job) -> bool:
    """Whether a job runs tests."""
    return any(step.kind is Kind.TEST for step in job.steps)


def checks(job: Job) -> bool:
    """Whether a job lints, checks types or checks the format."""
    return any(step.kind in CHECKS for step in job.steps)


def without(kinds: Collection[Kind], jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs without their steps of these kinds."""
    found = []
    for job in jobs:
        kept = [step for step in job.steps if step.kind not in kinds]
        found.append(replace(job, steps=kept))
    return found


def _leave_out(job: Job, why: str) -> None:
    for step in job.steps:
        if step.kind in JUDGING:
            job.skipped.append(Skipped(step.code, step.origin, why))
    job.steps.clear()


def _builds_itself(step: Step) -> bool:
    """Whether a step makes a package from the tree instead of taking another job's package."""
    words = unwrapped(step.words)
    if _FOREIGN.intersection(words):
        return False
    return words[:1] in (("tox",), ("nox",)) or words[:2] in (
        ("pip", "install"),
        ("uv-pip", "install"),
    )


def _is_variant(job: Job) -> bool:
    """Whether the job judges after it changed versions of packages, or files of the tree."""
    is_installed = False
    is_changed = False
    for step in job.steps:
        if step.kind in JUDGING and is_changed:
            return True
        for words in _commands(step):
            is_changed = is_changed or _changes(unwrapped(words), is_installed)
        if step.kind in (Kind.INSTALL, Kind.BUILD):
            is_installed = True
    return False


def _commands(step: Step) -> Iterator[tuple[str, ...]]:
    if step.words:
        yield step.words
    else:
        yield from parts_of(step.code)


def _changes(words: Sequence[str], is_installed: bool) -> bool:
    if tuple(words[:2]) in _CHANGING:
        return True
    first = words[0] if words else ""
    rest = list(words[1:])
    if first in ("pip", "uv-pip") and rest[:1] == ["install"] and is_installed:
        if _FOREIGN.intersection(rest):
            return True
        return not any(map(_LOCAL.fullmatch, rest)) and any(map(_pins, rest))
    if first in LOCK_OF and is_installed:
        if rest[:1] == ["workspace"]:
            rest = rest[2:]
        packages = [word for word in rest[1:] if not word.startswith("-")]
        is_global = {"-g", "--global"}.intersection(rest)
        adds = ("add", "up", "install", "i", "upgrade")
        return rest[:1] != [] and rest[0] in adds and bool(packages) and not is_global
    if first == "mv" and any(word.startswith(WORKSPACE) for word in rest):
        return True
    if first == "sed" and any(word.startswith("-i") for word in rest):
        return not rest[-1].startswith(("/", "$", "~"))
    return False


def _pins(word: str) -> bool:
    found = _PINNED.fullmatch(word)
    if not found:
        return False
    name = found["name"] or ""
    return name not in TOOLS and not _FREE.fullmatch(name)
