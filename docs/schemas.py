"""Writes a JSON Schema into docs/json/ for the output of each command that has --json, from the rows that it prints.

`make schemas` runs it; tests/test_json.py fails while a file is stale. What a key means stands below it in its class:
a docstring of one or two sentences, and `Unit: …` at the end if it is a quantity.
"""

import ast
import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from factory.cli.config import Guards
from factory.cli.doctor import Findings
from factory.cli.smoke import AgentCheck
from factory.ground.settings_file import KEYS, Value
from factory.store import found_rows, list_rows, rows, unit_rows
from factory.store.journal import Event
from factory.store.records import CardKind
from factory.store.states import UnitState
from factory.store.unit import EndReason

FOLDER = Path(__file__).with_name("json")
DRAFT = "https://json-schema.org/draft/2020-12/schema"
PRINTED: Mapping[str, type] = {  # file → what the command prints
    "status": rows.Status,
    "list": list_rows.Listing,
    "show-unit": unit_rows.Unit,
    "show-card": rows.ShownCard,
    "log": unit_rows.Entry,
    "config": found_rows.Config,
    "config-guards": Guards,
    "why": list_rows.Why,
    "doctor": Findings,
    "doctor-agent": AgentCheck,
}
Schema = dict[str, Any]

TIME: Schema = {"type": "string", "format": "date-time"}
SIMPLE: Mapping[object, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}
# Names in the rows' annotations that only the type checker imports.
NAMES = {
    "Any": Any,
    "Literal": Literal,
    "Mapping": Mapping,
    "Sequence": Sequence,
    "UnitState": UnitState,
    "Time": Annotated[str, "time"],
    "Kind": CardKind,
    "Reason": EndReason,
    "EventName": Event,
    "Entry": unit_rows.Entry,
}


def texts() -> dict[Path, str]:
    """Return what each file should hold."""
    return {FOLDER / f"{name}.schema.json": _text(name, row) for name, row in PRINTED.items()}


def _text(name: str, row: type) -> str:
    return json.dumps(document(name, row), indent=2, ensure_ascii=False) + "\n"


def document(name: str, row: type) -> Schema:
    """Return the schema of what a command prints."""
    below: dict[str, Schema] = {}
    top = _object(row, below)
    title = _sentence(inspect.getdoc(row))
    found = {"$schema": DRAFT, "$id": f"{name}.schema.json", "title": title, **top}
    del found["description"]
    if below:
        found["$defs"] = dict(sorted(below.items()))
    return found


def _object(row: type, below: dict[str, Schema]) -> Schema:
    """The schema of one class; those that it names are put `below`."""
    described = descriptions(row)
    hints = get_type_hints(row, localns=NAMES, include_extras=True)
    properties = {}
    required = []
    for name, hint in hints.items():
        properties[name] = _described(_value(row, name, hint, below), described[name])
        if not hasattr(row, name):
            required.append(name)
    return {
        "description": _sentence(inspect.getdoc(row)),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _value(row: type, name: str, hint: Any, below: dict[str, Schema]) -> Schema:
    if row is found_rows.Config and name == "settings":
        return _settings(below)
    return _schema(hint, below)


def _schema(hint: Any, below: dict[str, Schema]) -> Schema:
    """The schema of a value with that annotation."""
    origin = get_origin(hint)
    if hint in SIMPLE:
        return dict(SIMPLE[hint])
    if origin is Annotated:
        return dict(TIME)
    if origin is Literal:
        (choice, *others) = get_args(hint)
        return {"enum": [choice, *others]} if others else {"const": choice}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, below) for each in get_args(hint)]}
    if origin is Sequence:
        return {"type": "array", "items": _schema(get_args(hint)[0], below)}
    if origin is Mapping:
        return _mapping(*get_args(hint), below)
    if issubclass(hint, StrEnum):
        return {"enum": [str(each) for each in hint]}
    return _reference(hint, below)


def _mapping(key: Any, value: Any, below: dict[str, Schema]) -> Schema:
    """The schema of an object: with the words of an enum as its keys, or with any name."""
    if not issubclass(key, StrEnum):
        return {"type": "object", "additionalProperties": _schema(value, below)}
    described = descriptions(key)
    properties = {}
    for word in key:
        properties[str(word)] = _described(_schema(value, below), described[word.name])
    return _closed(properties)


def _settings(below: dict[str, Schema]) -> Schema:
    """The schema of all settings: each by its name, with what factory.toml's template says about it."""
    properties = {}
    for key, field in KEYS.items():
        properties[key] = {
            **_reference(found_rows.Setting, below),
            "description": field.description,
        }
        for value in field.metadata:
            if isinstance(value, Value):
                properties[key]["unit"] = value.unit
    return _closed(properties)


def _closed(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _reference(row: type, below: dict[str, Schema]) -> Schema:
    name = row.__name__
    if name not in below:
        below[name] = {}  # its place, for a class that names itself
        below[name] = _object(row, below)
    return {"$ref": f"#/$defs/{name}"}


def _described(schema: Schema, text: str) -> Schema:
    said, _, unit = text.partition(" Unit: ")
    found = {"description": said, **schema}
    if unit:
        found["unit"] = unit.removesuffix(".")
    return found


@cache
def descriptions(kind: type) -> Mapping[str, str]:
    """Return the docstring below each name in the class and in those that it extends."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("factory."):
            found.update(_docstrings(base))
    return found


def _docstrings(kind: type) -> Iterator[tuple[str, str]]:
    (node,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    for statement, after in zip(node.body, node.body[1:], strict=False):
        name = _assigned(statement)
        text = after.value if isinstance(after, ast.Expr) else None
        if name and isinstance(text, ast.Constant):
            yield name, _sentence(str(text.value))


def _assigned(statement: ast.stmt) -> str:
    targets: Sequence[ast.expr] = ()
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    return next((target.id for target in targets if isinstance(target, ast.Name)), "")


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
    print(f"{FOLDER} has {len(PRINTED)} schemas")
