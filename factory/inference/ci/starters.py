"""Programs that only start another program, such as `uv run`, `npx` and `python -m`.

A row of a table names the options whose value is the next word.
"""

import re
from collections.abc import Mapping, Sequence

_UV_RUN = (
    "--group --extra --with --python -p --package --only-group --no-group --directory --project"
    " --with-requirements --resolution --index --env-file --with-editable"
)
_ENVIRONMENT = "-n -e --name --environment"
# Two words that start a program → their options with a value.
_BY_TWO: Mapping[tuple[str, str], str] = {
    ("uv", "run"): _UV_RUN,
    ("poetry", "run"): "",
    ("pipenv", "run"): "",
    ("rye", "run"): "",
    ("pixi", "run"): _ENVIRONMENT,
    ("conda", "run"): _ENVIRONMENT,
    ("pnpm", "exec"): "",
    ("pnpm", "dlx"): "",
    ("yarn", "exec"): "",
    ("yarn", "dlx"): "",
    ("npm", "exec"): "",
    ("bundle", "exec"): "",
    ("bun", "x"): "",
}
# Programs that fetch a package, and start its program.
_FETCHERS: Mapping[str, str] = {
    "uvx": "--from --with --python -p",
    "npx": "-p --package",
    "bunx": "",
    "pipx": "--spec --python",
}
_PLAIN = frozenset("time xvfb-run nice timeout exec command env xargs retry".split())
_XARGS = "-n -P -I -L -d -s --max-args --max-procs --delimiter"
# The option of Python before a module, also with options without a value: `-Im`, `-mpytest`.
AS_MODULE = re.compile(r"-[bBdEiIOPqsSuvx]*m([\w.]*)")
_SECONDS = re.compile(r"[\d.]+[smh]?")


def unwrapped(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of the program that a command starts in the end.

    pip has many spellings: `pip`, `uv-pip` (of uv) and `uv-tool` stand for all of them.
    """
    rest = tuple(words)
    while rest:
        inner = _inner(rest)
        if inner == rest:
            break
        rest = inner
    if rest[:1] == ("uv",) and rest[1:2] in (("pip",), ("tool",)):
        return (f"uv-{rest[1]}", *rest[2:])
    if rest and re.fullmatch(r"pip[\d.]*", rest[0]):
        return ("pip", *rest[1:])
    return rest


def past_options(words: Sequence[str], with_value: str = "") -> tuple[str, ...]:
    """Return the words after the options in front; `with_value`: options that take a value."""
    valued = with_value.split()
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--":
            break
        if option in valued and rest:
            rest.pop(0)
    return tuple(rest)


def before_dashes(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words before `--`, which are the program's own."""
    return words[: words.index("--")] if "--" in words else words


def is_python(word: str) -> bool:
    """Whether the word is the name of a Python interpreter."""
    return bool(re.fullmatch(r"(.*/)?(python|pypy)[\d.]*", word))


def _inner(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command without its first starter; the same words if there is none."""
    first, *more = words
    for known in (_by_two, _by_fetcher, _by_module, _by_plain):
        found = known(first, tuple(more))
        if found is not None:
            return found
    return words


def _by_two(first: str, more: tuple[str, ...]) -> tuple[str, ...] | None:
    options = _BY_TWO.get((first, more[0])) if more else None
    return None if options is None else past_options(more[1:], options)


def _by_fetcher(first: str, more: tuple[str, ...]) -> tuple[str, ...] | None:
    if first not in _FETCHERS or more[:1] in (("install",), ("inject",)):
        return None
    if more[:1] == ("run",):
        more = more[1:]
    rest = past_options(more, _FETCHERS[first])
    if not rest:
        return ()
    name = re.split(r"(?<!^)[@=<>]", rest[0])[0]  # without its version: `tox@4`
    return (name, *rest[1:])


def _by_module(first: str, more: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the module that Python runs, or that `coverage run` runs."""
    if first == "coverage" and more[:1] == ("run",) and "-m" in more:
        return more[more.index("-m") + 1 :]
    if is_python(first):
        rest = list(more)
        while rest and rest[0].startswith("-") and rest[0] != "-c":
            option = rest.pop(0)
            module = AS_MODULE.fullmatch(option)
            if module:
                return (module[1], *rest) if module[1] else tuple(rest)
            if option in ("-W", "-X"):
                rest = rest[1:]
    return None


def _by_plain(first: str, more: tuple[str, ...]) -> tuple[str, ...] | None:
    if first not in _PLAIN:
        return None
    rest = past_options(more, _XARGS if first == "xargs" else "")
    while rest and (_SECONDS.fullmatch(rest[0]) or "=" in rest[0]):
        rest = rest[1:]
    return rest
