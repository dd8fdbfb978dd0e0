"""Evaluates `${{ … }}` of GitHub Actions, as far as the files of a commit give the values.

Invariant: a value that only GitHub knows is unknown, and so is everything that depends on it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from factory.ground.yaml_tree import Tree

Contexts = Mapping[str, Any]  # e.g. "matrix" → {"python": "3.12"}
_TOKEN = re.compile(
    r"\s*('(?:[^']|'')*'|-?\d+(?:\.\d+)?|&&|\|\||[=!<>]=|[!<>(),\[\]]|[A-Za-z_][\w-]*(?:\.[\w*-]+)*)"
)
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}
# The events that judge a change; a workflow may ask which of them it is.
EVENTS = ("push", "pull_request")
BRANCHES = ("main", "master")  # what a branch may be called that changes land on
_ALWAYS = {"success": True, "always": True, "failure": False, "cancelled": False}


class Unknown(Exception):
    """The value depends on something that the commit does not say."""


def filled(text: str, contexts: Contexts) -> str:
    """Return the text with the value of each expression; raise Unknown."""
    return _EXPRESSION.sub(lambda found: _shown(_value(found[1], contexts)), text)


def known(text: str, contexts: Contexts) -> str | None:
    """Return the text with the value of each expression; None if a value is unknown."""
    try:
        return filled(text, contexts)
    except Unknown:
        return None


def holds(condition: str, contexts: Contexts) -> bool:
    """Whether an `if` is true. Unknown counts as true, because most conditions ask who runs CI."""
    if not condition.strip():
        return True
    whole = _EXPRESSION.fullmatch(condition.strip())
    try:
        return bool(_value(whole[1] if whole else condition, contexts))
    except Unknown:
        return True


def value_of(text: str, contexts: Contexts) -> Any:
    """Return the value of a text that is one expression; raise Unknown."""
    whole = _EXPRESSION.fullmatch(text.strip())
    if not whole:
        raise Unknown
    return _value(whole[1], contexts)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise Unknown


def _value(code: str, contexts: Contexts) -> Any:
    return _Parser(code, contexts).whole()


def _tokens(code: str) -> Iterator[str]:
    at = 0
    code = code.rstrip()
    while at < len(code):
        found = _TOKEN.match(code, at)
        if not found:
            raise Unknown
        yield found[1]
        at = found.end()


class _Parser:
    """Evaluates while it parses: `or` above `and` above comparisons above `!`."""

    def __init__(self, code: str, contexts: Contexts) -> None:
        self._tokens = [*_tokens(code), ""]
        self._at = 0
        self._contexts = contexts

    def whole(self) -> Any:
        value = self._or()
        if self._next() or value is Unknown:
            raise Unknown
        return value

    def _peek(self) -> str:
        return self._tokens[self._at]

    def _next(self) -> str:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _or(self) -> Any:
        value = self._and()
        while self._peek() == "||":
            self._next()
            other = self._and()
            if value is Unknown:
                value = other if other is not Unknown and other else Unknown
            elif not value:
                value = other
        return value

    def _and(self) -> Any:
        value = self._comparison()
        while self._peek() == "&&":
            self._next()
            other = self._comparison()
            if value is Unknown:
                value = other if other is not Unknown and not other else Unknown
            elif value:
                value = other
        return value

    def _comparison(self) -> Any:
        left = self._not()
        sign = self._peek()
        if sign not in ("==", "!=", "<", ">", "<=", ">="):
            return left
        self._next()
        right = self._not()
        if left is Unknown or right is Unknown or sign not in ("==", "!="):
            return Unknown
        equal = set[bool]()
        for either in left if isinstance(left, tuple) else (left,):
            for other in right if isinstance(right, tuple) else (right,):
                equal.add(_folded(either) == _folded(other))
        if len(equal) > 1:  # true for one event, and false for another
            return Unknown
        return equal.pop() if sign == "==" else not equal.pop()

    def _not(self) -> Any:
        if self._peek() != "!":
            return self._single()
        self._next()
        value = self._not()
        return Unknown if value is Unknown else not value

    def _single(self) -> Any:
        token = self._next()
        if token == "(":
            value = self._or()
            self._expect(")")
        elif token.startswith("'"):
            value = token[1:-1].replace("''", "'")
        elif token.lower() in _WORDS:
            value = _WORDS[token.lower()]
        elif re.fullmatch(r"-?[\d.]+", token):
            value = token
        elif self._peek() == "(":
            self._next()
            value = self._called(token.lower(), self._arguments())
        else:
            value = self._looked_up(token)
        while self._peek() == "[":
            self._next()
            key = self._or()
            self._expect("]")
            value = value.get(key, "") if isinstance(value, dict) else Unknown
        return value

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise Unknown

    def _arguments(self) -> list[Any]:
        found: list[Any] = []
        while self._peek() not in (")", ""):
            found.append(self._or())
            if self._peek() == ",":
                self._next()
        self._expect(")")
        return found

    def _called(self, name: str, arguments: list[Any]) -> Any:
        if name in _ALWAYS:
            return _ALWAYS[name]
        if Unknown in arguments:
            return Unknown
        if name == "format" and arguments:
            return _formatted(arguments)
        return _compared(name, arguments) if len(arguments) == 2 else Unknown

    def _looked_up(self, path: str) -> Any:
        first, *rest = path.split(".")
        if first not in self._contexts:
            return Unknown
        value: Tree | Any = self._contexts[first]
        for key in rest:
            if not isinstance(value, dict):
                return Unknown
            if key not in value:
                # A matrix entry may lack a key, and then its value is empty.
                return "" if first in ("matrix", "inputs", "env") else Unknown
            value = value[key]
        return value


def _formatted(arguments: list[Any]) -> str:
    """Return what `format('py{0}', version)` returns."""
    first, *rest = map(_shown, arguments)
    for at, value in enumerate(rest):
        first = first.replace(f"{{{at}}}", value)
    return first


def _compared(name: str, arguments: list[Any]) -> Any:
    """Return what a function of a whole and a part returns."""
    whole, part = arguments
    if isinstance(whole, tuple):
        answers = {_compared(name, [each, part]) for each in whole}
        return answers.pop() if len(answers) == 1 else Unknown
    if isinstance(part, tuple):
        return Unknown
    if name == "contains" and isinstance(whole, list):
        return _folded(part) in map(_folded, whole)
    whole, part = _folded(whole), _folded(part)
    match name:
        case "contains":
            return part in whole
        case "startswith":
            return whole.startswith(part)
        case "endswith":
            return whole.endswith(part)
    return Unknown


def _folded(value: Any) -> str:
    """Return the value as GitHub compares it: without regard to upper and lower case."""
    if value is None or value is False:
        return ""
    return "true" if value is True else str(value).lower()
