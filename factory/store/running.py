"""Which setups and gates run now, read from the records beside the trees and from the run dirs.

Invariant: reading is cheap if nothing runs, and each file is read up to a bound: a command may have
written anything into its output.
"""
# ruff: noqa: PTH110, PTH116, PTH118, PTH119, PTH123, PTH208 - pathlib costs more than a query

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from time import gmtime, strftime

from factory.store.alive import has_ended
from factory.store.rows import Command

TYPE_CHECKING = False  # importing typing would cost more time than the query
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict

RECORD = "underway.json"  # written by repo/underway.py
_KINDS = ("benches", "workspaces")
_RECORD_BYTES = 1 << 20
_OUTPUT_BYTES = 4096
_SAID = 200  # characters of the output that are shown


def running(work: str, judged: str) -> list[Command]:
    """Return the commands under way; `work`: the folder of all places; `judged`: of all runs."""
    found: list[Command] = []
    for kind in _KINDS:
        folder = os.path.join(work, kind)
        with suppress(OSError):
            for name in sorted(os.listdir(folder)):
                place = os.path.join(folder, name)
                with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                    found += _at(place, judged)
    return found


def _at(place: str, judged: str) -> Iterator[Command]:
    """Yield the commands under way at a place."""
    path = os.path.join(place, RECORD)
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        record: Json = json.loads(file.read(_RECORD_BYTES))
    shown = record["shown"]
    if record["what"] == "setup":
        yield from _setup(place, judged, record, shown, _modified(path))
        return
    for key, run in record["found"].get("running", {}).items():
        name, usual = shown["gates"][record["found"]["gates"][key]]
        folder = os.path.join(judged, os.path.basename(run))
        if _runs(folder):
            yield Command(
                place=os.path.basename(place),
                unit=shown["unit"],
                what="gate",
                name=name,
                step=None,
                steps=None,
                since=_modified(os.path.join(folder, "start.json")),
                usual_s=usual,
                said=_last_line(folder),
            )


def _setup(place: str, judged: str, record: Json, shown: Json, since: str) -> Iterator[Command]:
    """Yield the step of a setup that runs now; the time is that of the whole setup."""
    token = record["nonce"].rpartition("-")[2]
    name = os.path.basename(place)
    for number, command in enumerate(shown["steps"]):
        folder = os.path.join(judged, f"{name}-{token}-{number}-setup")
        if _runs(folder):
            yield Command(
                place=name,
                unit=shown["unit"],
                what="setup",
                name=command,
                step=number + 1,
                steps=len(shown["steps"]),
                since=since,
                usual_s=shown["usual"],
                said=_last_line(folder),
            )


def _runs(folder: str) -> bool:
    """Whether a run has begun and not ended."""
    return os.path.exists(os.path.join(folder, "start.json")) and not has_ended(folder)


def _modified(path: str) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(os.stat(path).st_mtime))


def _last_line(folder: str) -> str:
    """Return the last line that is not empty of a run's output."""
    with suppress(OSError), open(os.path.join(folder, "output.log"), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _OUTPUT_BYTES))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
        for line in reversed(lines):
            if line.strip():
                return line.strip()[:_SAID]
    return ""
