"""The values in force with their sources, and what factoryd inferred for missing values."""

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Literal

from factory.cli import place, say
from factory.cli.found import found_lines
from factory.ground import conventions, settings, settings_file
from factory.ground.errors import ConfigError, RefusedByState, UsageError, did_you_mean
from factory.judging import guards
from factory.store import found_rows, rows, views

Values = Mapping[str, found_rows.Setting]
_UNSEEN = "the first start looks for gates, setup and agents: factoryd start"


class Guard(rows.Row):
    """A path whose change waits for a person."""

    path: str
    """A file, or a folder with everything below it; `*` matches a part of a name."""

    runs: str
    """What the file runs or decides."""

    where: str
    """Where the file takes effect."""

    allow: str
    """The word in `allow:` of a task that lifts the guard."""


class Guards(rows.Row):
    """What `factory config --guards --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    never: Sequence[str]
    """factoryd's own files and folders; their guard cannot be lifted."""

    guards: Sequence[Guard]
    """The guarded paths."""


def config(args: Namespace) -> int:
    """Shows the settings in force, and the gates, setup and agents that were found."""
    _check_alone(args)
    if args.prompt:
        return _write_prompt(args.prompt)
    if args.guards:
        return _show_guards(as_json=args.json)
    top = Path(place.repository())
    kept, found = _kept(str(top))
    values, wrong = _in_force(top, kept)
    if args.explain:
        _explain(args.explain, values)
    elif args.json:
        print(say.as_json(_as_row(values, found, wrong)))
    else:
        print("\n".join(say.table(_cells(values))))
        print("\n".join(found_lines(found)) if found else _UNSEEN)
    if wrong and not args.json:
        print(f"! factory.toml is wrong, the last good one is in force:\n  {say.clean(wrong)}")
    return 1 if wrong else 0


def _cells(values: Values) -> list[tuple[str, str, str]]:
    return [(key, _toml(each.value), each.source) for key, each in values.items()]


def init(_: Namespace) -> int:
    """Writes a factory.toml in which every key is explained and commented out."""
    path = Path(place.repository()) / "factory.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(settings_file.template())
    except FileExistsError:
        raise RefusedByState(f"{path} exists already; it was not changed.") from None
    print(f"wrote {path}: everything in it is commented out; these are the values in force")
    return 0


def _kept(top: str) -> tuple[Values | None, found_rows.Inferred | None]:
    """Return the running daemon's settings (None: no daemon runs) and the last inferred facts."""
    if not Path(place.within(top, "store.sqlite")).exists():
        return None, None
    with place.store(top) as con:
        is_up = views.daemon(con).state != "stopped"
        return views.settings(con) if is_up else None, views.inferred(con)


def _in_force(top: Path, kept: Values | None) -> tuple[Values, str]:
    """Return the values in force, and the error in factory.toml if it is not in force."""
    try:
        loaded = settings.explain(settings_file.load(top / "factory.toml", os.environ))
    except ConfigError as error:
        if kept is None:
            raise
        return kept, str(error)
    if kept is not None:
        return kept, ""
    values = {}
    for key, (value, source) in loaded.items():
        values[key] = found_rows.Setting(value=value, source=source)
    return values, ""


def _as_row(values: Values, found: found_rows.Inferred | None, wrong: str) -> found_rows.Config:
    return found_rows.Config(
        schema=rows.VERSION,
        settings=values,
        inferred=found or found_rows.Inferred(),
        error=wrong,
    )


def _explain(key: str, values: Values) -> None:
    if key not in settings_file.KEYS:
        meant = did_you_mean(key, settings_file.KEYS)
        raise UsageError(f"there is no key {key!r}{meant}\n  all of them: factory config")
    field = settings_file.KEYS[key]
    print(f"{key} = {_toml(values[key].value)}")
    print(f"  from     {say.line(values[key].source)}")
    print(f"  default  {_toml(field.default)}")
    print(f"  meaning  {field.description}")
    print(f"  change   factory.toml, or the variable {settings_file.variable(key)}")


def _check_alone(args: Namespace) -> None:
    """Raise UsageError if the options ask for more than one answer."""
    if sum(map(bool, (args.explain, args.prompt, args.guards))) > 1:
        raise UsageError("--explain, --prompt and --guards exclude each other")
    if args.json and (args.explain or args.prompt):
        raise UsageError("--json goes with --guards, or alone")


def _show_guards(*, as_json: bool) -> int:
    """Print the table of guards, grouped by what lifts each guard."""
    if as_json:
        every = [Guard(**asdict(rule)) for rule in guards.RULES]
        print(say.as_json(Guards(schema=rows.VERSION, never=sorted(guards.OURS), guards=every)))
        return 0
    print(
        "A change to these paths waits for a person, unless the task allows it with the line below."
    )
    print(
        "A path that begins with / is at the root; any other is at any depth. Case does not matter."
    )
    groups = groupby(guards.RULES, key=lambda rule: (rule.allow, rule.where))
    for (allow, where), rules in groups:
        _heading(f"{where}: allow: [{allow}]")
        for runs, same in groupby(rules, key=lambda rule: rule.runs):
            print(f"  {runs}")
            paths = " ".join([rule.path for rule in same])
            print("\n".join(say.wrap(paths, indent="    ")))
    _heading(f"files that gates and setup are read from: allow: [{guards.GATES}]")
    _heading("the factory's own files; their guard cannot be lifted")
    print(f"    /{' /'.join(sorted(guards.OURS))}")
    return 0


def _heading(text: str) -> None:
    print(f"\n{say.paint(text, 'bold')}")


def _write_prompt(name: str) -> int:
    """Write the shipped text unchanged, so that a person can redirect it to a file."""
    shipped = {}
    for path, text in conventions.read_shipped().items():
        folder, _, file = path.partition("/")
        if folder == "prompts":
            shipped[file.removesuffix(".md")] = text
    asked = name.removesuffix(".md")
    if asked not in shipped:
        names = sorted(shipped)
        there = ", ".join(names)
        raise UsageError(
            f"there is no shipped prompt {name!r}{did_you_mean(asked, names)}\n  there are: {there}"
        )
    print(shipped[asked], end="")
    return 0


def _toml(value: object) -> str:
    return "" if value is None else say.as_json(value)
