"""Reads .circleci/config.yml: what CircleCI runs for each push.

Source: the configuration reference of CircleCI.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from factory.ground.yaml_tree import Text, Tree, items, table, text
from factory.inference.ci import run
from factory.inference.ci.jobs import SERVICES, settle
from factory.inference.ci.steps import Job
from factory.inference.files import Files
from factory.inference.rules import Skipped

FILE = ".circleci/config.yml"
_DEEPEST = 5  # of commands that use others
_OTHER = re.compile(r"deploy|release|publish|docker|upload|windows|macos|nightly")
_VALUE = re.compile(r"<<\s*(?:parameters|matrix)\.([\w-]+)\s*>>")
_SECRET = re.compile(r"\$\{?\w*(PASSWORD|SECRET|TOKEN)\b")
_NODE_ORB = "node/install-packages"


def jobs(files: Files) -> list[Job]:
    """Return the jobs that the workflows run for a branch, in the order of the file."""
    return list(_Config(files).jobs())


class _Config:
    """Reads one configuration."""

    def __init__(self, files: Files) -> None:
        tree = files.yaml(FILE)
        self._files = files
        self._jobs = table(tree.get("jobs"))
        self._commands = table(tree.get("commands"))
        self._workflows = table(tree.get("workflows"))

    def jobs(self) -> Iterator[Job]:
        for name, given in self._named():
            job = table(self._jobs.get(name))
            if _OTHER.search(name.lower()) or not job or not _is_linux(job):
                continue
            yield self._job(name, job, _parameters(job, given))

    def _named(self) -> Iterator[tuple[str, Mapping[str, Tree]]]:
        """Yield each job that a workflow runs for a push, with its parameters."""
        entries: list[Tree] = []
        every: list[Tree] = [Text(name, 0) for name in self._jobs]
        for workflow in map(table, self._workflows.values()):
            if not workflow.get("triggers"):  # a schedule
                entries += items(workflow.get("jobs"))
        for entry in entries if self._workflows else every:
            if isinstance(entry, str):
                yield entry, {}
            for name, about in table(entry).items():
                if _runs_for_branches(table(about)):
                    yield name, table(about)

    def _job(self, name: str, job: Mapping[str, Tree], known: Mapping[str, str]) -> Job:
        found = Job(name, FILE)
        images = items(job.get("docker"))
        if len(images) > 1:
            found.skipped.append(Skipped(name, FILE, SERVICES))
            return found
        env: dict[str, str] = {}
        for image in [table(each) for each in images]:
            env |= _environment(image.get("environment"))
        env |= _environment(job.get("environment"))
        folder = text(job.get("working_directory"))
        inside = "" if folder.startswith(("~", "/")) else folder
        for step in items(job.get("steps")):
            self._step(step, found, _Scope(known, env, inside), 0)
        settle(found, self._files)
        return found

    def _step(self, step: Tree, job: Job, scope: "_Scope", depth: int) -> None:
        if isinstance(step, str):
            self._use(step, {}, job, scope, depth)
            return
        for name, about in table(step).items():
            if name == "run":
                self._run(about, job, scope)
            elif name in ("when", "unless"):
                for each in items(table(about).get("steps")):
                    self._step(each, job, scope, depth)
            else:
                self._use(name, table(about), job, scope, depth)

    def _use(
        self, name: str, given: Mapping[str, Tree], job: Job, scope: "_Scope", depth: int
    ) -> None:
        """Read the steps of a command of the configuration, or of a known orb."""
        command = table(self._commands.get(name))
        if name == "attach_workspace":
            job.takes_builds = True
        elif name == _NODE_ORB:
            self._run(Text("npm ci", 0), job, scope)
        elif command and depth < _DEEPEST:
            inner = _Scope(_parameters(command, given), scope.env, scope.folder)
            for each in items(command.get("steps")):
                self._step(each, job, inner, depth + 1)

    def _run(self, about: Tree, job: Job, scope: "_Scope") -> None:
        code = about if isinstance(about, Text) else table(about).get("command")
        if not isinstance(code, Text):
            return
        env = scope.env | _environment(table(about).get("environment"))
        folder = text(table(about).get("working_directory")) or scope.folder
        filled = _VALUE.sub(lambda found: scope.known.get(found[1], found[0]), code)
        origin = f"config.yml:{code.first}"
        if _SECRET.search(filled) or "<<" in filled:
            job.skipped.append(Skipped(filled, origin, "only CircleCI knows a value in it"))
            return
        place = run.Place(
            file="config.yml", line=code.first, folder="" if folder[:1] in "~/" else folder, env=env
        )
        job.steps += run.steps(filled, place, self._files)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a step inherits. `known`: the values of parameters."""

    known: Mapping[str, str]
    env: dict[str, str]
    folder: str


def _is_linux(job: Mapping[str, Tree]) -> bool:
    if "macos" in job:
        return False
    return "windows" not in str(job.get("executor", "")) + str(job.get("machine", ""))


def _runs_for_branches(about: Mapping[str, Tree]) -> bool:
    """Whether a job runs for a branch; filters may leave only tags."""
    if text(about.get("type")) == "approval":
        return False
    branches = table(table(about.get("filters")).get("branches"))
    return text(branches.get("ignore")) not in ("/.*/", ".*")


def _parameters(about: Mapping[str, Tree], given: Mapping[str, Tree]) -> dict[str, str]:
    """Return the values of parameters: defaults, what is given, and a matrix's first values."""
    found: dict[str, str] = {}
    for name, declared in table(about.get("parameters")).items():
        found[name] = text(table(declared).get("default"))
    matrix: Any = table(given.get("matrix")).get("parameters")
    for name, values in table(matrix).items():
        found[name] = text(next(iter(items(values)), None))
    for name, value in given.items():
        if isinstance(value, str):
            found[name] = value
    return found


def _environment(value: Tree | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in items(value):
        for name, each in table(part).items():
            if isinstance(each, str) and "<<" not in each:
                found[name] = each
    return found
