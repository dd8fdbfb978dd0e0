"""Published GitHub Actions that judge, as the commands that they run."""

import re
from collections.abc import Iterator, Mapping

# The action without its version → its command, in which {name} stands for an input.
_COMMANDS = {
    "pre-commit/action": "pre-commit run {extra_args|--all-files}",
    "psf/black": "black {options|--check} {src|.}",
    "chartboost/ruff-action": "ruff {args|check} {src|.}",
    "astral-sh/ruff-action": "ruff {args|check} {src|.}",
    "isort/isort-action": "isort {configuration|--check-only --diff} .",
    "py-actions/flake8": "flake8 {path|.}",
    "tsuyoshicho/action-mypy": "mypy {target|.}",
    "jakebailey/pyright-action": "pyright",
    "golangci/golangci-lint-action": "golangci-lint run {args}",
    "codespell-project/actions-codespell": "codespell {path|.}",
    "crate-ci/typos": "typos {files}",
    "actions-rs/cargo": "cargo {command} {args}",
    "actions-rs/clippy-check": "cargo clippy {args}",
    "tox-dev/action-pre-commit-uv": "pre-commit run {extra_args|--all-files}",
    "j178/prek-action": "pre-commit run {extra-args|--all-files}",
    "biomejs/setup-biome": "",
    "nick-fields/retry": "{command}",
    "cypress-io/github-action": "",
    "bahmutov/npm-install": "npm ci",
    "ramsey/composer-install": "composer install",
}
_INPUT = re.compile(r"\{([\w-]+)(?:\|([^}]*))?\}")


def commands(used: str, given: Mapping[str, str]) -> Iterator[str]:
    """Yield the commands of an action with these inputs; none if the action does not judge."""
    name = used.partition("@")[0].lower()
    code = _COMMANDS.get(name, "")
    if code:
        filled = _INPUT.sub(lambda found: given.get(found[1]) or found[2] or "", code)
        yield " ".join(filled.split())
    if name == "pnpm/action-setup" and given.get("run_install") not in (None, "", "false", "null"):
        yield "pnpm install --frozen-lockfile"
    if name == "ruby/setup-ruby" and given.get("bundler-cache") == "true":
        yield "bundle install"
