"""Actions: what factoryd does if a person chooses an option of a card; a closed set of values.

Invariant: `parse(written(action)) == action`; only `parse` reads the text that a card stores.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the card open; its cause ends by itself, or the person removes the cause."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """Close the card; units that waited because of it try again."""


@dataclass(frozen=True, slots=True)
class SpendOn:
    """Lift the spending limit for this day."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Create a repair unit with this title; the card stays open."""

    title: str


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Judge without these inferred gates."""

    gates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restore:
    """Restore these files after each inferred gate has run."""

    files: tuple[tuple[str, tuple[str, ...]], ...]  # each gate with its files


@dataclass(frozen=True, slots=True)
class Retry:
    """Start a new attempt."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """Run the unit's command again."""


@dataclass(frozen=True, slots=True)
class Split:
    """Start a new attempt that writes smaller tasks."""


@dataclass(frozen=True, slots=True)
class Simplify:
    """Start a new attempt that makes the change smaller."""


@dataclass(frozen=True, slots=True)
class Afresh:
    """Start a new attempt from trunk, without the earlier tree."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Continue the session with the answer."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Let the unit pass this kind of card."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge the files of the last attempt that could be kept."""


@dataclass(frozen=True, slots=True)
class Unneed:
    """Remove from the unit the needs that the card names."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the unit."""


UnitAction = Retry | Rerun | Split | Simplify | Afresh | Answer | Approve | Judge | Unneed | Cancel
Action = Wait | Recheck | SpendOn | Repair | LeaveOut | Restore | UnitAction

_PLAIN: Mapping[str, Action] = {
    "wait": Wait(),
    "recheck": Recheck(),
    "spend_on": SpendOn(),
    "retry": Retry(),
    "rerun": Rerun(),
    "split": Split(),
    "simplify": Simplify(),
    "afresh": Afresh(),
    "answer": Answer(),
    "approve": Approve(),
    "judge": Judge(),
    "unneed": Unneed(),
    "cancel": Cancel(),
}
_NAMES = {action: name for name, action in _PLAIN.items()}


def written(action: Action) -> str:
    """Return the action in the form that a card stores."""
    match action:
        case Repair(title):
            return f"repair {title}"
        case LeaveOut(gates):
            return f"leave_out {json.dumps(gates)}"
        case Restore(files):
            return f"restore {json.dumps(dict(files))}"
        case _:
            return _NAMES[action]


def parse(text: str) -> Action:
    """Return the action that the text stands for; raise ValueError if the text is unknown."""
    name, _, rest = text.partition(" ")
    match name:
        case "repair":
            return Repair(rest.strip() or "Make trunk green again")
        case "leave_out":
            return LeaveOut(tuple(json.loads(rest)))
        case "restore":
            files: dict[str, list[str]] = json.loads(rest)
            return Restore(tuple((gate, tuple(paths)) for gate, paths in files.items()))
        case _ if text in _PLAIN:
            return _PLAIN[text]
        case _:
            raise ValueError(f"no action is called {text!r}")
