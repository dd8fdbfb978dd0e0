"""Turns the shell code of CI into steps, for every kind of CI."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from factory.inference import make
from factory.inference.ci import environments, scripts, shell, tools
from factory.inference.ci.starters import unwrapped
from factory.inference.ci.steps import Step
from factory.inference.ci.tools import Kind
from factory.inference.files import LOCK_OF, Files, at

# Variables that say where things lie on CI's machine. A place has its own.
_OURS = frozenset(
    "PATH HOME TMPDIR PIP_USER VIRTUAL_ENV GOBIN GOPATH GOCACHE GOMODCACHE GOPROXY CARGO_HOME"
    " CC CXX CPP AR"
    " UV_PYTHON UV_SYSTEM_PYTHON UV_PYTHON_PREFERENCE UV_PROJECT_ENVIRONMENT UV_CACHE_DIR"
    " UV_INDEX_URL PIP_INDEX_URL PIP_CACHE_DIR PRE_COMMIT_HOME XDG_CACHE_HOME POETRY_HOME"
    " POETRY_CACHE_DIR PIPENV_CACHE_DIR WORKON_HOME npm_config_cache NPM_CONFIG_CACHE"
    " YARN_CACHE_FOLDER PNPM_HOME CYPRESS_CACHE_FOLDER GIT_DEPTH GIT_STRATEGY".split()
)
_CHANGED_FOLDER = re.compile(r"(?:^|&&|;)\s*cd\s+([\w./-]+)", re.MULTILINE)
_EXPORTED = re.compile(r"(?:^|&&|;)\s*export\s+(\w+)=[\"']?([^\s\"'$`;&]*)", re.MULTILINE)
# Names that do not say whether a script tests, lints or only compares files.
_VAGUE = re.compile(r"(check|ci|verify|validate)\b")
# A repair before it is a check: CI is red if the repair changed a file.
_NO_CHANGE = re.compile(r"git diff\b.*--(exit-code|quiet)|git status --porcelain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where code of CI stands and runs. `line`: the line of its first line in the file."""

    file: str
    line: int
    folder: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""


def steps(code: str, place: Place, files: Files) -> Iterator[Step]:
    """Yield the commands of the code as steps."""
    env = dict(allowed(place.env.items()))
    for command in shell.commands(shell.expanded(code, env)):
        command = replace(command, env=(*env.items(), *command.env))
        command = environments.named(command)
        yield Step(
            kind=_kind(command, code, place, files),
            code=command.code,
            words=command.words,
            folder=shell.joined(shell.joined("", place.folder), command.folder),
            env=tuple(allowed(command.env)),
            origin=f"{place.file}:{place.line + command.line}",
            shell="bash" if place.shell.startswith("bash") else "",
        )


def after(code: str, folder: str, env: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the folder and the variables that the shell has after the code."""
    for target in _CHANGED_FOLDER.findall(code):
        folder = shell.joined(folder, target)
    return folder, {**env, **dict(_EXPORTED.findall(code))}


def allowed(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the variables that mean the same here as on CI's machine."""
    for name, value in pairs:
        # A shell cannot export a name with a hyphen.
        if name not in _OURS and name.isidentifier():
            yield (name, value)


def _kind(command: shell.Command, block: str, place: Place, files: Files) -> Kind:
    """Return what a command does. Code with several commands counts as the most that it does."""
    kinds = [_kind_of(words, block, place, files) for words in command.parts]
    kind = tools.strongest(kinds)
    is_plain = not re.search(r"\n|exit|\$HOME|~/|\s/", command.code)
    return kind if kind is not Kind.PREPARE or is_plain else Kind.OTHER


def _kind_of(words: tuple[str, ...], block: str, place: Place, files: Files) -> Kind:
    bare = unwrapped(words)
    known = tools.kind_of(words)
    generates = known is Kind.BUILD and tools.program_of(bare) in scripts.RUNNERS
    if bare and (generates or tools.repairs(bare)) and _must_change_nothing(block):
        return Kind.FORMAT
    if place.folder or not bare:
        return known
    program = bare[0]
    if program in ("make", "gmake") and known is Kind.BUILD:
        target = scripts.default_target(files.text(files.first(make.RULED_BY["make"])))
        return known if scripts.kind_by_name(target) != "install" else Kind.INSTALL
    if program in LOCK_OF:
        return _kind_of_script(program, bare, known, files)
    return known


def _must_change_nothing(block: str) -> bool:
    """Whether code that repairs or generates files fails if a file changed."""
    if not _NO_CHANGE.search(block):
        return False
    return not any(tools.kind_of(words) is Kind.TEST for words in shell.parts_of(block))


def _kind_of_script(program: str, words: tuple[str, ...], known: Kind, files: Files) -> Kind:
    """Return what a script of package.json does; its name alone said `known`."""
    name = next(iter(scripts.names_run(program, words) or ()), "")
    body = at(files.package, "scripts").get(name)
    if not isinstance(body, str):
        # Yarn, pnpm and Bun also start the programs of packages: `yarn c8 yarn test`.
        is_program = known is Kind.OTHER and name in words and program != "npm"
        return tools.kind_of(words[words.index(name) :]) if is_program else known
    if known not in tools.JUDGING:
        return known
    parts = list(shell.parts_of(body))
    if any(map(tools.repairs, filter(None, map(unwrapped, parts)))):
        return Kind.OTHER
    vague = _VAGUE.match(name)
    if not vague:
        return known
    kind = tools.strongest([tools.kind_of(part) for part in parts])
    if kind in tools.JUDGING:
        return kind
    if vague[1] == "check":
        return Kind.LINT
    return Kind.OTHER if name.startswith("ci:") else known
