"""The values in force and where each was written; and what was inferred where nothing was.

factory config
factory config --explain limits.minutes
"""

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory import settings
from factory.cli import place, say
from factory.cli.place import Seen
from factory.errors import ConfigError, UsageError
from factory.stores import views


def run(args: Namespace) -> int:
    """Print them; exit code 1 where factory.toml is wrong and the last good one is in force."""
    top = place.repository()
    kept, inferred = _kept(top)
    try:
        loaded = settings.explain(settings.load(Path(top) / "factory.toml", os.environ))
        values, wrong = kept or {key: {"value": value, "source": source} for key, (value, source) in loaded.items()}, ""
    except ConfigError as error:
        if kept is None:
            raise
        values, wrong = kept, str(error)
    if args.explain:
        print("\n".join(_explained(args.explain, values)))
    elif args.json:
        print(json.dumps({"settings": values, "inferred": inferred, "error": wrong}, ensure_ascii=False))
    else:
        print("\n".join(say.table([(key, _toml(each["value"]), each["source"]) for key, each in values.items()])))
        print("\n".join(inferred_lines(inferred)))
    if wrong and not args.json:
        print(f"! factory.toml is wrong, the last good one is in force:\n  {wrong}")
    return 1 if wrong else 0


def inferred_lines(inferred: Seen) -> list[str]:
    """What the factory found out by itself, each with the reason."""
    rows = [("gate", gate["name"], gate["command"], gate["reason"]) for gate in inferred.get("gates", [])]
    rows = rows or [("gate", "none", "", "nothing lands before you say how work is judged")]
    setup = inferred.get("setup") or {"kind": "none", "reason": ""}
    rows.append(("setup", setup["kind"], "", setup["reason"]))
    agents = inferred.get("agents") or ["none"]
    return say.table(
        rows + [("agent", name, "", "default" * (name == inferred.get("agent"))) for name in agents], most=40
    )


def _kept(top: str) -> tuple[Seen | None, Seen]:
    """What the running daemon goes by (None: it does not run), and what it inferred last."""
    if not os.path.exists(place.within(top, "store.sqlite")):  # noqa: PTH110 -- see place.py
        return None, {}
    with place.store(top) as con:
        running = views.daemon(con)["state"] != "stopped"
        return views.fact(con, "config") if running else None, views.fact(con, "inferred") or {}


def _explained(key: str, values: Seen) -> Iterator[str]:
    if key not in settings.KEYS:
        raise UsageError(f"there is no key {key!r}{say.meant(key, settings.KEYS)}\n  all of them: factory config")
    field, each = settings.KEYS[key], values[key]
    yield f"{key} = {_toml(each['value'])}"
    yield f"  from     {each['source']}"
    yield f"  default  {_toml(field.default)}"
    yield f"  meaning  {field.description}"
    yield f"  change   factory.toml, or the variable {settings.PREFIX}{key.upper().replace('.', '__')}"


def _toml(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
