"""Reads a single fact of a store by the path of its checkout.

Invariant: nothing is written. It imports little, because the daemon keeps what it imports.
"""
# ruff: noqa: PTH116 - pathlib costs more than a query

import json
import os
import sqlite3
from contextlib import closing

from factory.ground.errors import StoreError
from factory.store.opening import connect

TYPE_CHECKING = False  # importing typing would cost more time than the query
if TYPE_CHECKING:
    from typing import Any

    Fact = dict[str, Any]
else:
    Fact = dict


def identity_at(root: str) -> "str | None":
    """Return the identity of the store at `root`; "" without a store, None if unknown."""
    try:
        os.stat(_path(root))  # this distinguishes a missing file from a denied access
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        return None
    try:
        return _fact(root, "identity").get("id") or None
    except (StoreError, sqlite3.Error):
        return None


def remembered_trunk(root: str) -> str:
    """Return the branch that units landed on before; "" before the first start."""
    try:
        return _fact(root, "trunk").get("branch") or ""
    except (StoreError, sqlite3.Error):
        return ""  # the store does not exist, or the daemon's start has a better message


def _fact(root: str, name: str) -> Fact:
    with closing(connect(_path(root), "ro")) as con:
        found = con.execute('SELECT "value" FROM "fact" WHERE "name" = ?', (name,)).fetchone()
    told: Fact = json.loads(found[0]) if found else {}
    return told


def _path(root: str) -> str:
    return f"{root}/.factory/store.sqlite"
