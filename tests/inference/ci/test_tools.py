"""What commands do."""

import shlex

import pytest

from factory.inference.ci.starters import unwrapped
from factory.inference.ci.tools import kind_of, name_of


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("uv run --locked --group dev -- pytest -q", "pytest -q"),
        ("python3.12 -W error -m pytest", "pytest"),
        ("python -m pip install a", "pip install a"),
        ("python -Im pip install a", "pip install a"),
        ("python3 -bb -mpytest -q", "pytest -q"),
        ("pip3 install a", "pip install a"),
        ("uv pip install a", "uv-pip install a"),
        ("uvx --with b tox@4.1 -e py", "tox -e py"),
        ("pipx run nox -s a", "nox -s a"),
        ("npx --yes @scope/eslint@8 .", "@scope/eslint ."),
        ("poetry run coverage run -m pytest", "pytest"),
        ("timeout 10m xvfb-run -a env A=1 npm test", "npm test"),
        ("pnpm exec tsc", "tsc"),
        ("pipx install tox", "pipx install tox"),
        ("uv run", ""),
    ],
)
def test_starters_are_taken_off(command: str, expected: str) -> None:
    assert unwrapped(command.split()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("test", "pytest -q|tox|tox -e py312|nox -s tests-3.12|python -m unittest|go test ./..."),
        ("test", "npm test|npm run test:unit|yarn test|pnpm -r run test|bun test|npm run ci"),
        ("test", "make check|make -C sub tests|just ci|./run_tests.sh|python tests/runtests.py"),
        ("test", "python manage.py test|python setup.py test|cargo test|ctest|scripts/test"),
        ("test", "coverage run -m pytest|hatch run test:cov|./gradlew build|mvn verify"),
        ("lint", "ruff check .|pre-commit run -a|npm run lint|tox -e lint|golangci-lint run"),
        ("lint", "go vet ./...|cargo clippy|make lint|yarn eslint"),
        ("format", "black --check .|ruff format --check .|prettier -c .|cargo fmt --check"),
        ("types", "mypy src|npx tsc --noEmit|npm run typecheck|tox -e typing|pyright"),
        ("build", "cargo build|npm run build|make|cmake -B b|./configure"),
        ("install", "pip install -e .|uv sync|npm ci|yarn|yarn install|poetry install|make deps"),
        ("install", "bundle install|go mod download|pnpm i|hatch env create"),
        ("system", "sudo apt-get install x|brew install y"),
        ("other", "ruff check --fix .|black .|prettier --write .|ruff format .|npm run lint:fix"),
        ("other", "npm run build:watch|twine upload dist/*|codecov|npm run docs|tox -e docs"),
        ("other", "coverage xml|npm publish|docker build .|python -m build|npm run e2e"),
    ],
)
def test_commands_are_known_by_their_words(kind: str, commands: str) -> None:
    found = {command: str(kind_of(shlex.split(command))) for command in commands.split("|")}

    assert found == dict.fromkeys(found, kind)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("uv run pytest -q", "pytest"),
        ("tox run -e py3.13", "tox-py3.13"),
        ("npm run test:unit", "test-unit"),
        ("go test ./...", "go-test"),
        ("python tests/run.py", "run.py"),
        ("./scripts/check.sh", "check.sh"),
        ("make", "make"),
        ("", "check"),
    ],
)
def test_a_gate_is_named_after_what_runs(command: str, name: str) -> None:
    assert name_of(command.split()) == name
