"""Reads the workflows of GitHub Actions: what runs on Linux for a push or a pull request.

Source: the workflow syntax in GitHub's documentation.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from factory.ground.yaml_tree import Text, Tree, items, table, text, texts
from factory.inference.ci import actions, shell, tools
from factory.inference.ci import run as run_code
from factory.inference.ci.expressions import (
    BRANCHES,
    EVENTS,
    Unknown,
    filled,
    holds,
    known,
    value_of,
)
from factory.inference.ci.jobs import OTHER_TREE, SERVICES, settle
from factory.inference.ci.matrix import chosen, localized
from factory.inference.ci.steps import Job, Step
from factory.inference.files import Files, ci_files_in
from factory.inference.rules import Skipped

WORKFLOWS = ".github/workflows/"
MOST_WORKFLOWS = 50
_DEEPEST = 3  # of workflows and actions that use others
_EVENTS = (*EVENTS, "merge_group")
_NOT_HERE = re.compile(r"windows|macos|win-|osx", re.IGNORECASE)
_ELSEWHERE = {
    "services": SERVICES,
    "container": "it runs in an image of a container",
}
_EXPORTED = re.compile(
    r"""^\s*echo\s+["']?(\w+)=([^"'$`\n]*)["']?\s*>>\s*["']?\$\{?GITHUB_ENV\b""", re.MULTILINE
)
_COUNTED = re.compile(
    r"\s-(-max-workers|-maxWorkers|-jobs|-parallel|-threads|-workers|j|n)[= ]?"
    r"""["']?\$\{\{[^}]*\}\}["']?"""
)
_SECRET = re.compile(r"\$\{\{[^}]*\b(secrets\.|github\.token)")
# A workflow with such a name does other things than judging.
_OTHER_NAMES = re.compile(r"release|publish|deploy|docs?\b|wheels?|docker|pages|changelog|audit")
_JUDGES = re.compile(r"(?<![a-z])(build|tests?|ci|checks?|lint|unit)(?![a-z])")
_NEVER = re.compile(
    r"codeql|scorecard|stale|label|nightly|bench|fuzz|perf\b|copilot|downstream|zizmor|autofix"
)


# What the commit says about the run that would judge it.
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "github": {
        "event_name": EVENTS,
        "event": {},
        "ref": tuple(f"refs/heads/{branch}" for branch in BRANCHES),
        "ref_name": BRANCHES,
        "ref_type": "branch",
        "workspace": shell.WORKSPACE,
    },
    "runner": {
        "os": "Linux",
        "arch": "X64",
        "temp": shell.TEMPORARY,
        "workspace": shell.TEMPORARY,
    },
}


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a step inherits."""

    path: str  # of the workflow or action
    contexts: Mapping[str, Any]
    env: Mapping[str, str]
    folder: str = ""
    shell: str = ""
    depth: int = 0
    # What steps read in an `if`: the matrix as CI has it. Elsewhere it names this machine's Python.
    asked: Mapping[str, Any] = field(default_factory=dict)
    exported: dict[str, str] = field(default_factory=dict)  # what steps write to $GITHUB_ENV
    unknown: frozenset[str] = frozenset()  # variables with a secret, or a value only GitHub knows


def jobs(files: Files, python: tuple[int, int]) -> list[Job]:
    """Return the jobs that judge on Linux, in the order of their files."""
    found: list[Job] = []
    workflows = [name for name in ci_files_in(files.names) if name.startswith(WORKFLOWS)]
    for path in workflows[:MOST_WORKFLOWS]:
        tree = files.yaml(path)
        if _is_for_changes(tree.get("on")) and not _is_other(_name_of(path)):
            found += _Workflow(files, python).jobs(path, tree, {}, 0)
    return found


def _is_other(name: str) -> bool:
    """Whether a workflow or job with this name does other things than judging."""
    if _NEVER.search(name):
        return True
    return bool(_OTHER_NAMES.search(name)) and not _JUDGES.search(name)


def _name_of(path: str) -> str:
    return path.rpartition("/")[2].lower()


def _is_for_changes(on: Tree | None) -> bool:
    """Whether a workflow runs for pushed commits; a push of tags alone is a release."""
    if isinstance(on, dict):
        push = on.get("push")
        if "pull_request" in on or "merge_group" in on:
            return True
        if "push" not in on:
            return False
        return not isinstance(push, dict) or "tags" not in push or "branches" in push
    return any(event in _EVENTS for event in texts(on))


class _Workflow:
    """Reads the jobs of one workflow file and of the files that it uses."""

    def __init__(self, files: Files, python: tuple[int, int]) -> None:
        self._files = files
        self._python = python

    def jobs(
        self, path: str, tree: Mapping[str, Tree], inputs: Mapping[str, Any], depth: int
    ) -> Iterator[Job]:
        env = _plain(tree.get("env"), {"inputs": inputs})
        defaults = table(table(tree.get("defaults")).get("run"))
        for name, value in table(tree.get("jobs")).items():
            job = table(value)
            if _is_other(name.lower()):
                continue
            for entry in chosen(job.get("strategy"), self._python):
                asked = {**_KNOWN, "inputs": inputs, "matrix": dict(entry)}
                contexts = {**asked, "matrix": dict(localized(entry, self._python))}
                if not holds(text(job.get("if")), asked) or _may_fail(job, asked):
                    continue
                if "uses" in job:
                    yield from self._used(job, contexts, depth)
                elif _is_linux(job.get("runs-on"), contexts):
                    own_env = _plain(job.get("env"), contexts)
                    whole = {**env, **own_env}
                    named = {*table(tree.get("env")), *table(job.get("env"))}
                    unknown = frozenset(named.difference(whole))
                    scope = _Scope(path, contexts, whole, asked=asked, unknown=unknown)
                    scope = _with_defaults(scope, defaults)
                    own = table(table(job.get("defaults")).get("run"))
                    yield self._job(name, job, _with_defaults(scope, own))

    def _used(
        self, job: Mapping[str, Tree], contexts: Mapping[str, Any], depth: int
    ) -> Iterator[Job]:
        """Yield the jobs of a reusable workflow of this repository."""
        path = shell.joined("", text(job.get("uses")))
        tree = self._files.yaml(path)
        if depth >= _DEEPEST or not tree:
            return
        call = table(table(tree.get("on")).get("workflow_call"))
        inputs = _inputs(call.get("inputs"), job.get("with"), contexts)
        yield from self.jobs(path, tree, inputs, depth + 1)

    def _job(self, name: str, job: Mapping[str, Tree], scope: _Scope) -> Job:
        found = Job(name, scope.path)
        for key, why in _ELSEWHERE.items():
            if _is_given(job.get(key), scope.contexts):
                found.skipped.append(Skipped(name, _name_of(scope.path), why))
                return found
        for step in items(job.get("steps")):
            self._step(table(step), scope, found)
        settle(found, self._files)
        return found

    def _step(self, step: Mapping[str, Tree], scope: _Scope, job: Job) -> None:
        env = {**scope.env, **scope.exported}
        contexts = {**scope.contexts, "env": env}
        asked = {**scope.asked, "env": env}
        if not holds(text(step.get("if")), asked) or _may_fail(step, asked):
            return
        own = _plain(step.get("env"), contexts)
        unknown = scope.unknown.union(table(step.get("env"))).difference(own)
        env = {**env, **own}
        contexts["env"] = env
        scope = replace(scope, contexts=contexts, env=env, unknown=unknown)
        for each in items(step.get("parallel")):
            self._step(table(each), scope, job)
        if "run" in step:
            self._run(step, scope, job)
        elif "uses" in step:
            self._uses(step, scope, job)

    def _run(self, step: Mapping[str, Tree], scope: _Scope, job: Job) -> None:
        run = step["run"]
        if not isinstance(run, Text):
            return
        name = _name_of(scope.path)
        origin = f"{name}:{run.first}"
        if _SECRET.search(run) or _names(run, scope.unknown):
            why = "it uses a secret, or a value that only GitHub knows"
            job.skipped.append(Skipped(run.strip(), origin, why))
            return
        try:
            code = filled(_without_counts(run, scope.contexts), scope.contexts)
            folder = filled(text(step.get("working-directory")) or scope.folder, scope.contexts)
        except Unknown:
            job.skipped.append(Skipped(run.strip(), origin, "only GitHub knows a value in it"))
            return
        for variable, value in _EXPORTED.findall(shell.evaluated(code)):
            scope.exported[variable] = value.strip()
        used_shell = text(step.get("shell")) or scope.shell
        if used_shell and used_shell.split()[0] not in ("bash", "sh"):
            job.skipped.append(Skipped(run.strip(), origin, f"its shell is {used_shell}"))
            return
        place = run_code.Place(
            file=name, line=run.first, folder=folder, env=scope.env, shell=used_shell
        )
        job.steps += run_code.steps(code, place, self._files)

    def _uses(self, step: Mapping[str, Tree], scope: _Scope, job: Job) -> None:
        used = text(step.get("uses"))
        line = used.line if isinstance(used, Text) else 0
        origin = f"{_name_of(scope.path)}:{line}"
        if used.startswith("./"):
            self._composite(step, shell.joined("", used), scope, job)
            return
        if used.startswith("actions/checkout@"):
            self._checkout(table(step.get("with")), origin, job)
        if used.partition("@")[0] == "actions/download-artifact":
            job.takes_builds = True
        if used.endswith("rust-toolchain@nightly"):
            scope.exported["RUSTUP_TOOLCHAIN"] = "nightly"
        given = {}
        for key, value in table(step.get("with")).items():
            shown = known(_without_counts(text(value), scope.contexts), scope.contexts)
            if shown is not None:
                given[key] = shown
        for code in actions.commands(used, given):
            words = shell.words_of(code)
            folder = shell.joined(scope.folder, given.get("working-directory", ""))
            kind = tools.kind_of(words)
            job.steps.append(Step(kind=kind, code=code, words=words, folder=folder, origin=origin))

    def _checkout(self, given: Mapping[str, Tree], origin: str, job: Job) -> None:
        """Note that a job works on the tree of another repository."""
        other = text(given.get("repository"))
        if other and "github." not in other and not given.get("path"):
            job.skipped.append(Skipped(other, origin, OTHER_TREE))

    def _composite(self, step: Mapping[str, Tree], folder: str, scope: _Scope, job: Job) -> None:
        """Read the steps of an action of this repository."""
        path = self._files.first((f"{folder}/action.yml", f"{folder}/action.yaml"))
        tree = self._files.yaml(path)
        if scope.depth >= _DEEPEST or not tree:
            return
        inputs = _inputs(tree.get("inputs"), step.get("with"), scope.contexts)
        inner = replace(
            scope,
            path=path,
            contexts={**scope.contexts, "inputs": inputs},
            asked={**scope.asked, "inputs": inputs},
            depth=scope.depth + 1,
        )
        for each in items(table(tree.get("runs")).get("steps")):
            self._step(table(each), inner, job)


def _without_counts(code: str, contexts: Mapping[str, Any]) -> str:
    """Return the code without options such as `-j` whose number only GitHub knows."""
    return _COUNTED.sub(lambda found: known(found[0], contexts) or "", code)


def _names(code: str, variables: Iterable[str]) -> bool:
    """Whether shell code uses one of these variables without setting it."""
    for name in variables:
        if re.search(rf"\$\{{?{re.escape(name)}\b", code):
            return not re.search(rf"^\s*(export\s+)?{re.escape(name)}=", code, re.MULTILINE)
    return False


def _plain(env: Tree | None, contexts: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables whose values the commit says; secrets and the like are left out."""
    found = {}
    if isinstance(env, str):  # an expression, such as `${{ matrix.env }}`
        try:
            env = value_of(env, contexts)
        except Unknown:
            env = None
    for name, value in table(env).items():
        if not isinstance(value, str) or _SECRET.search(value):
            continue
        shown = known(value, contexts)
        if shown is not None:
            found[name] = shown
    return found


def _is_given(value: Tree | None, contexts: Mapping[str, Any]) -> bool:
    """Whether a job has services or a container; an expression may leave them out."""
    image = text(table(value).get("image")) if isinstance(value, dict) else text(value)
    return bool(value) and not (image and known(image, contexts) == "")


def _inputs(
    declared: Tree | None, given: Tree | None, contexts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the inputs of a reusable workflow or action: what the caller gives, and defaults."""
    found: dict[str, Any] = {}
    for name, about in table(declared).items():
        default = text(table(about).get("default"))
        found[name] = {"true": True, "false": False}.get(default, default)
    for name, value in table(given).items():
        shown = known(text(value), contexts)
        if shown is None:
            found.pop(name, None)
        else:
            found[name] = shown
    return found


def _may_fail(value: Mapping[str, Tree], contexts: Mapping[str, Any]) -> bool:
    """Whether CI stays green if this job or step fails."""
    return known(text(value.get("continue-on-error")), contexts) == "true"


def _is_linux(runs_on: Tree | None, contexts: Mapping[str, Any]) -> bool:
    if isinstance(runs_on, dict):  # a group of runners
        runs_on = runs_on.get("labels")
    for label in texts(runs_on):
        if _NOT_HERE.search(known(label, contexts) or ""):
            return False
    return True


def _with_defaults(scope: _Scope, run: Mapping[str, Tree]) -> _Scope:
    folder = text(run.get("working-directory")) or scope.folder
    return replace(scope, folder=folder, shell=text(run.get("shell")) or scope.shell)
