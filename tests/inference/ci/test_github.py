"""What the workflows of GitHub say about judging."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.inference.ci import github
from tests.inference.ci.reading import PYTHON, codes, files_of, jobs_of, steps_in, steps_of


@pytest.mark.parametrize(
    ("on", "counts"),
    [
        ("push", True),
        ("[push, workflow_dispatch]", True),
        ("{pull_request: {branches: [main]}}", True),
        ("{push: {branches: [main], tags: ['v*']}}", True),
        ("{push: {tags: ['v*']}}", False),
        ("{schedule: [{cron: x}]}", False),
        ("release", False),
        ("{push: }", True),
    ],
)
def test_workflows_for_changes_count(on: str, counts: bool) -> None:
    found = jobs_of(f"on: {on}\njobs: {{a: {{runs-on: ubuntu-latest, steps: [{{run: pytest}}]}}}}")

    assert bool(found) is counts


@pytest.mark.parametrize(
    ("job", "counts"),
    [
        ("runs-on: ubuntu-22.04", True),
        ("runs-on: [self-hosted, linux]", True),
        ("runs-on: {group: big, labels: [linux]}", True),
        ("runs-on: windows-latest", False),
        ("runs-on: macos-14", False),
        (
            "runs-on: '${{ matrix.os }}'\n    strategy: {matrix: {os: [macos-14, ubuntu-latest]}}",
            True,
        ),
        ("runs-on: '${{ matrix.os }}'\n    strategy: {matrix: {os: [macos-14]}}", False),
        ("runs-on: ubuntu-latest\n    if: github.event_name == 'schedule'", False),
        ("runs-on: ubuntu-latest\n    services: {db: {image: postgres}}", False),
        ("runs-on: ubuntu-latest\n    container: alpine", False),
        ("runs-on: ubuntu-latest\n    continue-on-error: true", False),
    ],
)
def test_jobs_on_linux_count(job: str, counts: bool) -> None:
    workflow = f"on: push\njobs:\n  a:\n    {job}\n    steps:\n    - run: pytest"

    assert [step.code for step in steps_of(workflow)] == (["pytest"] if counts else [])


def test_a_job_that_needs_a_service_is_named() -> None:
    (job,) = jobs_of(
        "on: push\njobs: {db: {runs-on: ubuntu-latest, services: {a: {image: b}}, steps: [{run: pytest}]}}"
    )

    assert [(each.code, each.why) for each in job.skipped] == [
        ("db", "it needs services, such as a database")
    ]


def test_a_step_knows_its_line_its_folder_and_its_variables() -> None:
    (lint, test) = steps_of(
        """\
        on: push
        env: {A: '1', TOKEN: '${{ secrets.T }}', PATH: /x}
        defaults: {run: {working-directory: web}}
        jobs:
          a:
            runs-on: ubuntu-latest
            env: {B: '${{ matrix.b }}'}
            strategy: {matrix: {b: [two]}}
            steps:
            - uses: actions/checkout@v4
            - run: npm run lint
              env: {C: '3'}
            - working-directory: api
              run: |
                cd sub
                pytest -q
        """,
        {"web/package.json": "", "api/sub/test_a.py": ""},
    )

    assert (lint.origin, lint.folder, dict(lint.env)) == (
        "ci.yml:11",
        "web",
        {"A": "1", "B": "two", "C": "3"},
    )
    assert (test.origin, test.folder, dict(test.env)) == (
        "ci.yml:16",
        "api/sub",
        {"A": "1", "B": "two"},
    )


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("run: pytest ${{ matrix.x }}", "pytest"),
        ("{run: pytest, if: false}", ""),
        ("{run: pytest, if: \"runner.os == 'Linux'\"}", "pytest"),
        ("{run: pytest, continue-on-error: true}", ""),
        ("{run: pytest, shell: pwsh}", ""),
        ("{run: pytest, shell: 'bash -l {0}'}", "pytest"),
        ("run: pytest --token ${{ secrets.X }}", ""),
        ("run: pytest ${{ steps.a.outputs.b }}", ""),
        ("{uses: pre-commit/action@v3.0.1}", "pre-commit run --all-files"),
        (
            "{uses: psf/black@stable, with: {options: '--check -q', src: src}}",
            "black --check -q src",
        ),
        ("{uses: actions-rs/cargo@v1, with: {command: test}}", "cargo test"),
        ("{uses: actions/setup-python@v5}", ""),
        ("{run: [a]}", ""),
        ("text", ""),
    ],
)
def test_steps_become_commands(step: str, code: str) -> None:
    assert " ".join(codes(steps_in(f"    - {step}"))).strip() == code


def test_composite_actions_and_reusable_workflows_of_the_repository_are_read() -> None:
    action = """\
inputs: {how: {default: -q}, what: {}}
runs:
  using: composite
  steps:
  - run: pip install -e .
    shell: bash
  - run: pytest ${{ inputs.how }} ${{ inputs.what }}
    shell: bash
"""
    reusable = """\
on: {workflow_call: {inputs: {version: {type: string, default: '3.9'}}}}
jobs:
  b:
    runs-on: ubuntu-latest
    steps:
    - run: tox -e py${{ inputs.version }}
"""
    found = steps_of(
        """\
        on: pull_request
        jobs:
          a:
            runs-on: ubuntu-latest
            steps:
            - uses: ./.github/actions/check
              with: {what: tests}
          b:
            uses: ./.github/workflows/reusable.yml
            with: {version: '3.12'}
        """,
        {".github/actions/check/action.yml": action, ".github/workflows/reusable.yml": reusable},
    )

    assert [(step.code, step.origin) for step in found] == [
        ("pip install -e .", "action.yml:5"),
        ("pytest -q tests", "action.yml:7"),
        ("tox -e py3.12", "reusable.yml:6"),
    ]


def test_what_uses_itself_ends() -> None:
    action = "runs: {using: composite, steps: [{uses: ./.github/actions/a}, {run: pytest}]}"
    workflow = """\
        on: push
        jobs:
          a: {runs-on: ubuntu-latest, steps: [{uses: ./.github/actions/a}]}
          b: {uses: ./.github/workflows/ci.yml}
        """

    assert 0 < len(steps_of(workflow, {".github/actions/a/action.yml": action})) < 20


@pytest.mark.parametrize(
    "name", ["release.yml", "docs.yaml", "nightly.yml", "codeql.yml", "publish-to-x.yml"]
)
def test_workflows_of_another_purpose_do_not_judge(name: str) -> None:
    workflow = "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: pytest}]}}"

    assert jobs_of(workflow, path=name) == []


def test_aliases_cost_nothing_and_a_broken_file_says_nothing() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{at}: &{at} [*a, *a, *a]\n" for at in range(50))

    assert jobs_of(f"{bomb}on: push\njobs: [") == []
    assert jobs_of("on: push\njobs: &j {a: *j}") == []
    assert jobs_of("{") == []
    assert jobs_of("on: push\njobs: {a: 3, b: [], c: {steps: x, runs-on: ubuntu-latest}}") != []


_TREES = st.recursive(
    st.none() | st.text() | st.just("${{ a }}"),
    lambda some: (
        st.lists(some)
        | st.dictionaries(st.sampled_from(["run", "uses", "if", "env", "with"]), some)
    ),
    max_leaves=6,
)


@given(_TREES)
def test_odd_shapes_are_passed_over(value: object) -> None:
    import yaml

    text = yaml.safe_dump(
        {"on": "push", "jobs": {"a": {"steps": value, "strategy": value, "env": value}}}
    )

    github.jobs(files_of({".github/workflows/a.yml": text}), PYTHON)
