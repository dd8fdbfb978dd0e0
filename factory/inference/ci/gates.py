"""Turns the jobs of CI into gates.

Invariant: a command that judges in CI judges here, in the same folder and with the same variables.
Each gate begins with the bare tree. So commands that need what an earlier command of their job
built are one gate with it.
"""

import re
import shlex
from collections.abc import Iterable, Sequence

from factory.inference.ci.shell import TEMPORARY, WORKSPACE, parts_of
from factory.inference.ci.starters import AS_MODULE, unwrapped
from factory.inference.ci.steps import Job, Step
from factory.inference.ci.tools import CHECKS as CHECK_KINDS
from factory.inference.ci.tools import JUDGING, Kind, kind_of, name_of
from factory.inference.rules import CHECKS, TESTS, Gate

# Programs of a package manager that only start another program. A setup has made the environment,
# so gates start the program itself.
# The environments of hatch belong to the environment of a place.
HATCH_HOME = 'HATCH_DATA_DIR="$VIRTUAL_ENV/hatch"'
_STARTERS = ("uv", "uvx", "poetry", "pipenv", "pipx")


def gates(jobs: Iterable[Job]) -> list[Gate]:
    """Return the gates of these jobs; each name and each code occurs once."""
    found: list[Gate] = []
    codes = set[str]()
    names = set[str]()
    for job in jobs:
        for steps in _grouped(job):
            code = _code(steps)
            if code in codes:
                continue
            codes.add(code)
            name = _free(_name(steps), names)
            names.add(name)
            found.append(_gate(name, steps, code))
    return sorted(found, key=lambda gate: gate.group)


def judges(step: Step) -> bool:
    """Whether a step judges the tree."""
    return step.kind in JUDGING


def _grouped(job: Job) -> list[list[Step]]:
    """Return the steps of each gate: checks alone, tests together, and from a build on all."""
    alone: list[list[Step]] = []
    together: list[Step] = []
    is_built = False
    for step in job.steps:
        if step.kind is Kind.BUILD:
            is_built = True
        elif step.kind not in JUDGING and step.kind is not Kind.PREPARE:
            continue
        if step.kind in CHECK_KINDS and not is_built:
            alone.append([step])
        else:
            together.append(step)
    while together and together[-1].kind is Kind.PREPARE:
        together.pop()
    if is_built or any(step.kind is Kind.PREPARE for step in together):
        return [*alone, together] if any(map(judges, together)) else alone
    folders: dict[str, list[Step]] = {}
    for step in together:
        folders.setdefault(step.folder, []).append(step)
    return [*alone, *folders.values()]


def builds(jobs: Iterable[Job]) -> list[Gate]:
    """Return gates that only build, for a project without tests: its documents, for example."""
    found: list[Gate] = []
    names = set[str]()
    for job in jobs:
        steps = [step for step in job.steps if step.kind in (Kind.BUILD, Kind.PREPARE)]
        last = [step for step in steps if step.kind is Kind.BUILD][-1:]
        if not last:
            continue
        name = _free(name_of(last[0].words or _first_words(last[0].code)), names)
        names.add(name)
        found.append(_gate(name, steps, _code(steps), group=TESTS))
    return found


def _gate(name: str, steps: Sequence[Step], code: str, group: int = 0) -> Gate:
    is_test = any(step.kind is Kind.TEST for step in steps)
    shell = "bash" if any(step.shell for step in steps) else "sh"
    argv: tuple[str, ...] = (shell, "-e", "-c", code)
    if len(steps) == 1 and not steps[0].folder and not steps[0].env and _is_plain(code):
        argv = tuple(shlex.split(code))
    return Gate(
        name=name,
        group=group or (TESTS if is_test else CHECKS),
        command=argv,
        reason=", ".join(dict.fromkeys(step.origin for step in steps if group or judges(step))),
        said=code.replace("\n", " && "),
    )


def _code(steps: Sequence[Step]) -> str:
    """Return shell code that runs the steps in their order, each in its own folder."""
    shared = dict(steps[0].env)
    for step in steps:
        shared = {name: value for name, value in step.env if shared.get(name) == value}
    lines = []
    for step in steps:
        own = [(name, value) for name, value in dict(step.env).items() if name not in shared]
        line = _assigned(own, started_alone(step), in_front=bool(step.words))
        if step.folder:
            line = in_folder(step.folder, line)
        lines.append(line)
    # A single command shows its variables in front; several commands share an export.
    in_front = len(steps) == 1 and bool(steps[0].words) and not steps[0].folder
    return with_places(_assigned([*shared.items()], "\n".join(lines), in_front=in_front))


def in_folder(folder: str, code: str) -> str:
    """Return the code as it runs in a folder below the root, or in the temporary folder of CI."""
    if folder.startswith(TEMPORARY):
        return f'(mkdir -p "{folder}" && cd "{folder}" && {code})'
    return f"(cd {shlex.quote(folder)} && {code})"


def with_places(code: str) -> str:
    """Return the code with the variables set that name the folders of CI."""
    if WORKSPACE in code:
        code = f'GITHUB_WORKSPACE="$PWD"\n{code}'
    if TEMPORARY in code:
        code = f'RUNNER_TEMP="$TMPDIR"\n{code}'
    return code


def _assigned(pairs: Sequence[tuple[str, str]], code: str, *, in_front: bool) -> str:
    """Return the code with these variables set."""
    shown = " ".join(f"{name}={shlex.quote(value)}" for name, value in pairs)
    if not shown:
        return code
    return f"{shown} {code}" if in_front else f"export {shown}\n{code}"


def started_alone(step: Step) -> str:
    """Return the code of a step without the package manager that starts it, and without repairs."""
    words = step.words
    if not words or words[0] not in _STARTERS:
        return _without_fixes(step.code, words)
    inner = unwrapped(words)
    if not inner:
        return step.code
    first = len(words) - len(inner)
    if first > 1 and AS_MODULE.fullmatch(words[first - 1]):  # `uv run python -m pytest`
        first -= 2
    if "coverage" in words[:first]:  # `uv run coverage run -m pytest`
        first = words.index("coverage")
    inner = words[first:] if inner[0] == words[-len(inner)] else inner
    rest = re.sub(rf"^\s*(\S+\s+){{{first}}}", "", step.code)
    if shlex.split(rest, comments=True) != list(words[first:]):  # a word with a space in it
        rest = shlex.join(inner)
    elif inner[0] != words[first]:  # `uvx tox@4`
        rest = rest.replace(words[first], inner[0], 1)
    return _without_fixes(rest, inner)


def _without_fixes(code: str, words: Sequence[str]) -> str:
    """Return the code with `--no-fix` for ruff, whose configuration may say `fix = true`.

    The environments of pre-commit's hooks go into the gates' cache, because HOME is a scratch
    folder.
    """
    bare = unwrapped(words)
    if bare[:1] == ("pre-commit",):
        return f'PRE_COMMIT_HOME="$PIP_CACHE_DIR/pre-commit" {code}'
    if bare[:1] == ("hatch",):
        return f"{HATCH_HOME} {code}"
    if bare[:2] == ("ruff", "check") and "--no-fix" not in bare:
        return re.sub(r"\bruff check\b", "ruff check --no-fix", code, count=1)
    return code


def _is_plain(code: str) -> bool:
    """Whether the code is one command without anything that only a shell understands."""
    return not re.search(r"[\n|&;<>()$`*?\[\]{}~#\\!]", code)


def _name(steps: Sequence[Step]) -> str:
    """Return a short name: the tool, or the script, target or session that runs."""
    tests = [step for step in steps if step.kind is Kind.TEST]
    step = (tests or [each for each in steps if judges(each)])[0]
    name = name_of(step.words or _first_words(step.code))
    is_inside = step.folder and not step.folder.startswith(TEMPORARY)
    return f"{step.folder}/{name}" if is_inside else name


def _first_words(code: str) -> tuple[str, ...]:
    """Return the first command that judges, in code that only a shell understands."""
    last: tuple[str, ...] = ()
    for words in parts_of(code):
        if kind_of(words) in JUDGING:
            return words
        last = words
    return last


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free = f"{name}-{number}"
        number += 1
    return free
