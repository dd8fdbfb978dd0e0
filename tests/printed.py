"""The schemas in docs/json/, and whether what a command printed is as they say."""

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker

FOLDER = Path(__file__).parents[1] / "docs" / "json"


@cache
def validator(name: str) -> Draft202012Validator:
    """The schema of that name, ready to check values."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def check(name: str, value: object) -> None:
    """Raise AssertionError with every place where the value is not as the schema says."""
    wrong = [
        f"{error.json_path}: {error.message[:300]}" for error in validator(name).iter_errors(value)
    ]
    assert not wrong, "\n".join(wrong)
