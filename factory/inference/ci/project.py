"""What a project's own CI says: how to judge the project, and how to set it up."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from factory.inference.ci import circleci, gates, github, gitlab, jobs, setup
from factory.inference.ci.shell import parts_of
from factory.inference.ci.steps import Job
from factory.inference.ci.tools import CHECKS, JUDGING, Kind, kind_of
from factory.inference.files import Files
from factory.inference.rules import Gate, Setup, Skipped


class Project:
    """The jobs of the CI of one commit, as gates and a setup."""

    def __init__(self, files: Files, python: tuple[int, int]) -> None:
        self._files = files
        self._jobs = _jobs(files, python)
        self.paths = [job.path for job in self._jobs]
        self.gates = tuple(gates.gates(self._jobs))
        self._origins = set[str]()
        for job in self._jobs:
            self._origins.update(step.origin for step in job.steps)
        self.is_tested = any(map(jobs.tests, self._jobs))
        self.skipped = tuple(_judging(self._jobs))

    def builds(self) -> list[Gate]:
        """Return gates that only build, for a project without tests."""
        return gates.builds(self._jobs)

    def setup(self) -> Setup:
        """Return the setup that makes what the gates need."""
        return setup.setup(self._jobs, self._files)

    def gives(self, gate: Gate) -> bool:
        """Whether a gate runs steps of CI."""
        return not self._origins.isdisjoint(gate.reason.split(", "))


def _jobs(files: Files, python: tuple[int, int]) -> list[Job]:
    """Return the jobs of CI: the tests of the first CI that has any, and likewise the checks."""
    found: list[Job] = []
    is_tested = is_checked = False
    for each in (github.jobs(files, python), gitlab.jobs(files), circleci.jobs(files)):
        if is_tested and is_checked:
            break
        jobs.leave_out_variants(each)
        judging = each
        if is_tested:
            judging = jobs.without((Kind.TEST, Kind.BUILD), each)
        elif is_checked:
            judging = jobs.without(CHECKS, each)
        found += judging
        is_tested = is_tested or any(map(jobs.tests, judging))
        is_checked = is_checked or any(map(jobs.checks, judging))
    return found


def _judging(found: Iterable[Job]) -> Iterator[Skipped]:
    """Yield the skipped jobs, and those skipped steps that judge, each with its judging command."""
    for job in found:
        for each in job.skipped:
            if each.why in jobs.VARIANTS:
                continue
            if each.code == job.name:
                yield each
                continue
            for words in parts_of(each.code):
                if kind_of(words) in JUDGING:
                    yield replace(each, code=" ".join(words))
                    break
