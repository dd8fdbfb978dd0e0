"""Writes the table of settings in docs/configuration.md, from factory/ground/settings_file.py.

`make settings` runs it; tests/test_docs.py fails while the page is stale. The text around the table is written by hand.
"""

import json
from pathlib import Path
from typing import get_args

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from factory.ground.settings_file import KEYS, NOT_YET, Value

PAGE = Path(__file__).with_name("configuration.md")
MARK = "<!-- settings: written by `make settings` -->"
HEAD = """\
| key | default | unit | allowed values | meaning |
|---|---|---|---|---|
"""


def table() -> str:
    """Return one row for each setting."""
    return HEAD + "".join(_row(key, field) for key, field in KEYS.items())


def page(text: str) -> str:
    """Return the page with a new table between its two marks."""
    before, _, after = text.split(MARK)
    return f"{before}{MARK}\n{table()}{MARK}{after}"


def _row(key: str, field: FieldInfo) -> str:
    default = f"`{json.dumps(field.default)}`"
    meaning = field.description
    allowed = _allowed(field)
    if key in NOT_YET:
        meaning = f"{meaning} Not available yet: factoryd refuses any other value than the default."
        allowed = "the default"
    return f"| `{key}` | {default} | {_value(field).unit} | {allowed} | {meaning} |\n"


def _value(field: FieldInfo) -> Value:
    values = [item for item in field.metadata if isinstance(item, Value)]
    return values[0] if values else Value("word")


def _allowed(field: FieldInfo) -> str:
    said = _value(field).allowed
    if said:
        return said
    if _value(field).unit == "word":
        return ", ".join(f"`{json.dumps(word)}`" for word in get_args(field.annotation))
    return _bounds(field)


def _bounds(field: FieldInfo) -> str:
    above = [item.gt for item in field.metadata if isinstance(item, Gt)]
    least = [item.ge for item in field.metadata if isinstance(item, Ge)]
    most = [item.le for item in field.metadata if isinstance(item, Le)]
    start = f"more than {above[0]}" if above else f"{least[0]} or more"
    if not most:
        return start
    if above:
        return f"{start}, at most {most[0]:,.0f}"
    return f"{least[0]} to {most[0]:,.0f}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} has {len(KEYS)} settings")
