"""How the tests here read the workflows of a small commit."""

from textwrap import dedent

from factory.inference.ci import github
from factory.inference.ci.steps import Job, Step
from factory.inference.files import Files

PYTHON = (3, 13)


def files_of(contents: dict[str, str]) -> Files:
    return Files([*contents], contents, "conventions", ())


def jobs_of(workflow: str, others: dict[str, str] | None = None, path: str = "ci.yml") -> list[Job]:
    contents = {f".github/workflows/{path}": dedent(workflow), **(others or {})}
    return github.jobs(files_of(contents), PYTHON)


def steps_of(workflow: str, others: dict[str, str] | None = None) -> list[Step]:
    return [step for job in jobs_of(workflow, others) for step in job.steps]


def steps_in(steps: str) -> list[Step]:
    """The steps of a workflow with one job; `steps` is indented as below `steps:`."""
    return steps_of(f"on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")


def codes(steps: list[Step]) -> list[str]:
    return [step.code for step in steps]
