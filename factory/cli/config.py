"""The values in force and where each was written; and what was inferred where nothing was."""

import os
from argparse import Namespace
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from factory.cli import place, say
from factory.ground import conventions, settings
from factory.ground.errors import ConfigError, RefusedByState, UsageError, did_you_mean
from factory.judging import guards
from factory.store import views
from factory.store.views import Json

_UNSEEN = "gates, setup and agents are looked for at the first start: factoryd start"


def config(args: Namespace) -> int:
    """The values in force and where each was written; and what was inferred where nothing was.

    factory config
    factory config --explain limits.minutes
    factory config --guards              the paths that wait for a person, and which allow lifts that
    factory config --prompt footer       the shipped text of a prompt, to start an override from
    """
    _check_alone(args)
    if args.prompt:
        return _write_prompt(args.prompt)
    if args.guards:
        return _show_guards(as_json=args.json)
    top = Path(place.repository())
    kept, inferred = _kept(str(top))
    wrong = ""
    try:
        loaded = settings.explain(settings.load(top / "factory.toml", os.environ))
        values = kept or {
            key: {"value": value, "source": source} for key, (value, source) in loaded.items()
        }
    except ConfigError as error:
        if kept is None:
            raise
        values, wrong = kept, str(error)
    if args.explain:
        _explain(args.explain, values)
    elif args.json:
        print(say.as_json({"settings": values, "inferred": inferred, "error": wrong}))
    else:
        print(
            "\n".join(
                say.table(
                    [(key, _toml(each["value"]), each["source"]) for key, each in values.items()]
                )
            )
        )
        print("\n".join(inferred_lines(inferred)) if inferred else _UNSEEN)
    if wrong and not args.json:
        print(f"! factory.toml is wrong, the last good one is in force:\n  {say.clean(wrong)}")
    return 1 if wrong else 0


def init(_: Namespace) -> int:
    """Writes a factory.toml in which every key is explained and commented out. Never needed: defaults are in force.

    factoryd init
    """
    path = Path(place.repository()) / "factory.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(settings.template())
    except FileExistsError:
        raise RefusedByState(f"{path} is there already and was left as it is.") from None
    print(f"wrote {path}: everything in it is commented out and already in force")
    return 0


def inferred_lines(inferred: Json) -> list[str]:
    """What the factory found out by itself, each with the reason."""
    rows = [
        ("gate", gate["name"], gate["command"], gate["reason"])
        for gate in inferred.get("gates", [])
    ]
    rows = rows or [("gate", "none", "", "nothing lands before you say how work is judged")]
    setup = inferred.get("setup") or {"kind": "none", "reason": ""}
    rows.append(("setup", setup["kind"], "", setup["reason"]))
    for name in inferred.get("agents") or ["none"]:
        rows.append(("agent", name, "", "default" if name == inferred.get("agent") else ""))
    return say.table(rows, most=40)


def _kept(top: str) -> tuple[Json | None, Json]:
    """What the running daemon goes by (None: it does not run), and what it inferred last."""
    if not Path(place.within(top, "store.sqlite")).exists():
        return None, {}
    with place.store(top) as con:
        running = views.daemon(con)["state"] != "stopped"
        return views.fact(con, "config") if running else None, views.fact(con, "inferred") or {}


def _explain(key: str, values: Json) -> None:
    if key not in settings.KEYS:
        raise UsageError(
            f"there is no key {key!r}{did_you_mean(key, settings.KEYS)}\n  all of them: factory config"
        )
    field, each = settings.KEYS[key], values[key]
    print(f"{key} = {_toml(each['value'])}")
    print(f"  from     {say.line(each['source'])}")
    print(f"  default  {_toml(field.default)}")
    print(f"  meaning  {field.description}")
    print(
        f"  change   factory.toml, or the variable {settings.PREFIX}{key.upper().replace('.', '__')}"
    )


def _check_alone(args: Namespace) -> None:
    """Raise UsageError where more is asked for than one answer can hold."""
    if sum(map(bool, (args.explain, args.prompt, args.guards))) > 1:
        raise UsageError("--explain, --prompt and --guards exclude each other")
    if args.json and (args.explain or args.prompt):
        raise UsageError("--json goes with --guards, or alone")


def _show_guards(*, as_json: bool) -> int:
    """The table of guards, by what lifts each."""
    if as_json:
        rows = [asdict(rule) for rule in guards.RULES]
        print(say.as_json({"schema": 1, "never": sorted(guards.OURS), "guards": rows}))
        return 0
    print("A change of these paths waits for a person, unless the task allows it as it says here.")
    print("A path that begins with / is at the root, any other at any depth. Case does not count.")
    groups = groupby(guards.RULES, key=lambda rule: (rule.allow, rule.where))
    for (allow, where), rules in groups:
        print(f"\n{say.paint(f'{where}: allow: [{allow}]', 'bold')}")
        for runs, same in groupby(rules, key=lambda rule: rule.runs):
            print(f"  {runs}")
            print("\n".join(say.wrap(" ".join(rule.path for rule in same), indent="    ")))
    print(
        f"\n{say.paint(f'files that gates and setup are read from: allow: [{guards.GATES}]', 'bold')}"
    )
    print("\n" + say.paint("the factory's own, which nothing lifts", "bold"))
    print(f"    {' '.join(f'/{name}' for name in sorted(guards.OURS))}")
    return 0


def _write_prompt(name: str) -> int:
    """Write the shipped text, byte for byte: `>` makes a file of it."""
    folder = "prompts/"
    shipped = conventions.read_shipped()
    names = [
        path.removeprefix(folder).removesuffix(".md")
        for path in sorted(shipped)
        if path.startswith(folder)
    ]
    asked = name.removesuffix(".md")
    if asked not in names:
        there = ", ".join(names)
        raise UsageError(
            f"there is no shipped prompt {name!r}{did_you_mean(asked, names)}\n  there are: {there}"
        )
    print(shipped[f"{folder}{asked}.md"], end="")
    return 0


def _toml(value: Any) -> str:
    return "" if value is None else say.as_json(value)
