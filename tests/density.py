"""How densely the product is written, and how large its parts are: `python -m tests.density factory`.

A page that says too much in each line is as hard to read as a long one. The figures that the aims come from are those
of well-read projects (pre-commit, httpx, anyio, kopf, huey), measured in the same way: names, operators, numbers and
strings in each line that has one; comprehensions, generator expressions among them, in each 1,000 lines of file.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOKENS_A_LINE = 8.0
COMPREHENSIONS = 15.0  # in 1,000 lines
MODULE_LINES = 500
FUNCTION_LINES = 50
METHODS = 20

COUNTED = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(slots=True)
class Density:
    """The figures of one folder, and each place that is too large or nested."""

    tokens: int = 0
    code_lines: int = 0
    lines: int = 0
    comprehensions: int = 0
    too_much: list[str] = field(default_factory=list)

    @property
    def tokens_a_line(self) -> float:
        """Tokens for each line that has one."""
        return self.tokens / max(1, self.code_lines)

    @property
    def comprehensions_a_thousand(self) -> float:
        """Comprehensions for each 1,000 lines of file."""
        return 1000 * self.comprehensions / max(1, self.lines)

    def objections(self) -> list[str]:
        """What misses an aim, a sentence each."""
        found = list(self.too_much)
        if self.tokens_a_line > TOKENS_A_LINE:
            found.append(f"{self.tokens_a_line:.2f} tokens a code line, {TOKENS_A_LINE:g} at most")
        if self.comprehensions_a_thousand > COMPREHENSIONS:
            share = f"{self.comprehensions_a_thousand:.1f} comprehensions in 1,000 lines"
            found.append(f"{share}, {COMPREHENSIONS:g} at most")
        return found


def density(folder: Path, large: frozenset[str] = frozenset()) -> Density:
    """Measure every module below the folder; the functions and classes in `large` may be larger."""
    found = Density()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        _count_tokens(found, text)
        lines = text.count("\n") + 1
        found.lines += lines
        where = str(path.relative_to(folder))
        if lines > MODULE_LINES + 1:
            found.too_much.append(f"{where} has {lines} lines, {MODULE_LINES} at most")
        tree = ast.parse(text)
        found.comprehensions += sum(isinstance(node, COMPREHENSION) for node in ast.walk(tree))
        for name, objection in _too_much(tree):
            if f"{where}:{name}" not in large:
                found.too_much.append(f"{where}: {objection}")
    return found


def _count_tokens(found: Density, text: str) -> None:
    rows = set()
    depth = 0  # of f-strings: each counts as one string, as before Python 3.12
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        begins = tokenize.tok_name[token.type] == "FSTRING_START"
        if depth == 0 and (begins or token.type in COUNTED):
            found.tokens += 1
            rows.add(token.start[0])
        depth += begins
        depth -= tokenize.tok_name[token.type] == "FSTRING_END"
    found.code_lines += len(rows)


def _too_much(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSION) and _is_nested(node):
            yield "", f"line {node.lineno}: a comprehension inside another one, or with two loops"
        elif isinstance(node, FUNCTION):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield node.name, f"{node.name} has {lines} lines, {FUNCTION_LINES} at most"
        elif isinstance(node, ast.ClassDef):
            methods = sum(isinstance(item, FUNCTION) for item in node.body)
            if methods > METHODS:
                yield node.name, f"{node.name} has {methods} methods, {METHODS} at most"


def _is_nested(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> bool:
    inner = [other for other in ast.walk(node) if other is not node]
    return len(node.generators) > 1 or any(isinstance(other, COMPREHENSION) for other in inner)


# One list of all objects, built in the order in which they need each other: two halves would say less.
LARGE = frozenset({"assembly.py:assemble"})


def main() -> int:
    """Print the figures of the folder and what misses an aim; 1 if something does."""
    found = density(Path(sys.argv[1]), LARGE)
    print(
        f"{found.tokens} tokens, {found.tokens_a_line:.2f} a code line; "
        f"{found.comprehensions_a_thousand:.1f} comprehensions in 1,000 lines"
    )
    for objection in found.objections():
        print(objection)
    return bool(found.objections())


if __name__ == "__main__":
    sys.exit(main())
