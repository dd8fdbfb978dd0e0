"""A daemon that writes down which queries scan a table of the store's history: `python plans.py ROOT FILE`."""

import re
import sys
from pathlib import Path
from typing import Any

from factory import daemon
from factory.store.sqlite import SqliteStore

# Tables that have a row for each worker, each fact or each element of a list.
SMALL = ("hook", "fact", "json_each", "sqlite_schema")
_SCAN = re.compile(r"^SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")


class Plans:
    """Looks at the plan of each query when it is run for the first time."""

    def __init__(self, file: Path) -> None:
        self._out = file.open("a", buffering=1)
        self._seen = set[str]()

    def watched(self, execute: Any) -> Any:
        """The store's way to run a statement, watched."""

        def run(store: SqliteStore, query: str, args: Any = ()) -> Any:
            if query.startswith("SELECT") and query not in self._seen:
                self._seen.add(query)
                for row in store._con.execute(f"EXPLAIN QUERY PLAN {query}", args):
                    if scans_history(row[3]):
                        self._out.write(f"{row[3]}: {query}\n")
            return execute(store, query, args)

        return run


def scans_history(step: str) -> bool:
    """Whether a step of a plan reads every row of a table that grows; open records are few."""
    found = _SCAN.match(step)
    if found is None:
        return False
    table, index = found.groups()
    return table not in SMALL and index != f"{table}_open"


if __name__ == "__main__":
    root, file = sys.argv[1:3]
    store: Any = SqliteStore
    store._execute = Plans(Path(file)).watched(store._execute)
    sys.exit(daemon.main([root]))
