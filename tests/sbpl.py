"""A small judge of Seatbelt's profiles, for what ours say: it reads the rules, and the last one that fits decides."""

import re
from collections.abc import Callable
from typing import Any

Form = list[Any]


class Regex(str):
    """A pattern."""


def parse(profile: str) -> list[Form]:
    """Every rule of a profile; raises ValueError where it is none."""
    tokens = re.findall(r'\s+|[()]|#"[^"]*"|"(?:\\.|[^"\\])*"|[^\s()"]+', profile)
    if "".join(tokens) != profile:
        raise ValueError("it cannot be read")
    stack: list[Form] = [[]]
    for token in filter(str.strip, tokens):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        elif token[:2] == '#"':
            stack[-1].append(Regex(token[2:-1]))
        elif token[:1] == '"':
            stack[-1].append(re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL))
        else:
            stack[-1].append(token)
    (rules,) = stack
    if rules[:2] != [["version", "1"], ["deny", "default"]]:
        raise ValueError("it does not deny what it does not name")
    return [rule[2] if rule[0] == "if" and rule[1][0] == "defined?" else rule for rule in rules[2:]]


def allows(profile: str, operation: str, what: str = "") -> bool:
    """Whether an operation on it (a path, a name, `same-sandbox`, `ip`, `unix-socket:PATH`) is allowed."""
    allowed = False
    for verb, *words in parse(profile):
        assert verb in ("allow", "deny")
        named = [word for word in words if isinstance(word, str)]
        filters = [word for word in words if not isinstance(word, str)]
        if any(_names(name, operation) for name in named) and (
            not filters or any(_fits(each, what) for each in filters)
        ):
            allowed = verb == "allow"
    return allowed


def filters(profile: str, verb: str, operation: str, kind: str) -> list[str]:
    """The paths of one kind of filter in the rules of one verb that name the operation, in order."""
    return [
        str(word[1])
        for said, *words in parse(profile)
        if said == verb and any(_names(name, operation) for name in words if isinstance(name, str))
        for word in words
        if isinstance(word, list) and word[0] == kind
    ]


def _names(name: str, operation: str) -> bool:
    return operation == name or (name.endswith("*") and operation.startswith(name[:-1]))


def _fits(form: Form, what: str) -> bool:
    kind, *rest = form
    if kind in ("remote", "local"):
        family, within = rest
        path = what.removeprefix("unix-socket:")
        return (
            what == "ip"
            if (family, within) == ("ip", "*:*")
            else what != path and _fits(within, path)
        )
    return _KINDS[kind](what, *rest)


_KINDS: dict[str, Callable[..., bool]] = {
    "subpath": lambda what, path: what == path or what.startswith(f"{path}/"),
    "literal": lambda what, path: what == path,
    "path-literal": lambda what, path: what == path,
    "global-name": lambda what, name: what == name,
    "sysctl-name-prefix": lambda what, prefix: what.startswith(prefix),
    "target": lambda what, whose: what == whose,
    "regex": lambda what, pattern: isinstance(pattern, Regex) and bool(re.search(pattern, what)),
    "extension": lambda what, name: False,  # nothing of ours hands one out
    "require-all": lambda what, *forms: all(_fits(form, what) for form in forms),
}
