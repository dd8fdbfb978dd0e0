"""Reads .gitlab-ci.yml: what GitLab CI runs for a merge request or a push.

Source: the CI/CD YAML syntax reference of GitLab.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from factory.ground.yaml_tree import Text, Tree, items, table, text, texts
from factory.inference.ci import run
from factory.inference.ci.jobs import SERVICES, settle
from factory.inference.ci.steps import Job
from factory.inference.files import Files
from factory.inference.rules import Skipped

FILE = ".gitlab-ci.yml"
_DEEPEST = 5  # of jobs that extend others
_KEYWORDS = frozenset(
    "stages variables default include workflow image services cache pages".split()
)
_OTHER = re.compile(r"deploy|release|publish|pages|docker|review|upload|package|triage|dast|sast")
# Rules that let a job run only for a tag, a schedule or a person.
_ELSEWHEN = re.compile(r"\$CI_COMMIT_TAG\b(?!\s*==\s*null)|schedule|\bweb\b|trigger")
_SECRET = re.compile(r"\$\{?(CI_JOB_TOKEN|CI_REGISTRY\w*|\w*(PASSWORD|SECRET|TOKEN))\b")


def jobs(files: Files) -> list[Job]:
    """Return the jobs that judge a change, in the order of the file."""
    if FILE not in files.names:
        return []
    trees: dict[str, str] = {}  # the name of each job → the file that has it
    whole: dict[str, Tree] = {}
    for path in [*_included(files), FILE]:
        for name, value in files.yaml(path).items():
            trees[name] = path
            whole[name] = value
    found: list[Job] = []
    for name, value in whole.items():
        if name in _KEYWORDS or name.startswith(".") or not isinstance(value, dict):
            continue
        job = _whole_job(name, whole, 0)
        if "script" in job and _is_for_changes(name, job):
            found.append(_job(name, trees[name], job, whole, files))
    return found


def _included(files: Files) -> Iterator[str]:
    """Yield the files of this repository that the main file includes."""
    for each in items(files.yaml(FILE).get("include")):
        path = each if isinstance(each, str) else text(table(each).get("local"))
        path = path.removeprefix("/")
        if path in files.names:
            yield path


def _whole_job(name: str, whole: Mapping[str, Tree], depth: int) -> dict[str, Tree]:
    """Return a job with everything that it inherits by `extends` and `default`."""
    job = table(whole.get(name))
    found = dict(table(whole.get("default"))) if depth == 0 else {}
    for parent in texts(job.get("extends")):
        if depth < _DEEPEST:
            found |= _whole_job(parent, whole, depth + 1)
    variables = {**table(found.get("variables")), **table(job.get("variables"))}
    return {**found, **job, "variables": variables}


def _is_for_changes(name: str, job: Mapping[str, Tree]) -> bool:
    if _OTHER.search(name.lower()) or _OTHER.search(text(job.get("stage"))):
        return False
    if text(job.get("when")) == "manual" or text(job.get("allow_failure")) == "true":
        return False
    only = job.get("only")
    refs = list(texts(only.get("refs") if isinstance(only, dict) else only))
    if refs and all(ref in ("tags", "schedules", "web", "triggers") for ref in refs):
        return False
    conditions = [text(table(rule).get("if")) for rule in items(job.get("rules"))]
    return not conditions or not all(map(_ELSEWHEN.search, conditions))


def _job(
    name: str, path: str, job: Mapping[str, Tree], whole: Mapping[str, Tree], files: Files
) -> Job:
    found = Job(name, path)
    services = job.get("services", whole.get("services"))
    if services:
        found.skipped.append(Skipped(name, path, SERVICES))
        return found
    env = _variables(whole.get("variables")) | _variables(job.get("variables"))
    env |= _first_of_matrix(table(job.get("parallel")).get("matrix"))
    folder = ""
    file = path.rpartition("/")[2]
    before = job.get("before_script", whole.get("before_script"))
    for line in _lines([before, job.get("script")], whole):
        if _SECRET.search(line):
            found.skipped.append(Skipped(line, f"{file}:{line.line}", "it uses a secret"))
            continue
        place = run.Place(file=file, line=line.first, folder=folder, env=env)
        found.steps += run.steps(line, place, files)
        folder, env = run.after(line, folder, env)
    settle(found, files)
    return found


def _variables(value: Tree | None) -> dict[str, str]:
    found = {}
    for name, about in table(value).items():
        shown = text(table(about).get("value")) if isinstance(about, dict) else text(about)
        if "$" not in shown:  # values of GitLab's own variables are not known here
            found[name] = shown
    return found


def _first_of_matrix(matrix: Tree | None) -> dict[str, str]:
    """Return the variables of the first entry of a matrix."""
    found = {}
    for name, values in table(next(iter(items(matrix)), None)).items():
        found[name] = next(texts(values), "")
    return found


def _lines(scripts: Sequence[Tree | None], whole: Mapping[str, Tree]) -> Iterator[Text]:
    """Yield the commands of these scripts; `!reference` and anchors may nest lists."""
    for script in scripts:
        for item in items(script):
            if isinstance(item, list):
                yield from _lines(_referenced(item, whole), whole)
            elif isinstance(item, Text):
                yield item


def _referenced(item: list[Tree], whole: Mapping[str, Tree]) -> list[Tree]:
    """Return what `!reference [.job, script]` names; another list stands for itself."""
    if len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], str):
        named = table(whole.get(item[0])).get(item[1])
        if named is not None:
            return [named]
    return item
