"""Converts a store to the next format, with SQL statements and Python functions.

Invariant: each step names the columns of its old and its new format, and never uses the record
classes, which change.
"""

import sqlite3
from collections.abc import Callable, Mapping

from factory.store.accepted import spec_again
from factory.store.opening import ATTEMPT_DAY
from factory.store.records import to_row
from factory.store.spec import Spec
from factory.store.unit import FINAL

Step = str | Callable[[sqlite3.Connection], None]

SPEC_NAME = 'CREATE INDEX "spec_name" ON "spec" ("name")'
SPEC_SOURCE = 'CREATE INDEX "spec_source" ON "spec" ("source")'
_SPEC_COLUMNS = (
    "unit",
    "name",
    "source",
    "title",
    "priority",
    "needs",
    "scope",
    "accept",
    "run",
    "agent",
    "model",
    "attempts",
    "minutes",
    "allow",
    "review",
    "ignored",
    "trouble",
)
_SPEC_TABLE = (
    'CREATE TABLE "spec" ("unit", "name", "source", "title", "priority" INTEGER, "needs", "scope", '
    '"accept", "run", "agent", "model", "attempts", "minutes", "allow", "review", "ignored", '
    '"trouble", PRIMARY KEY ("unit"))'
)
_TASKS = """
    SELECT t."unit", t."name", t."source", t."text", u."title", u."state"
    FROM "task" AS t LEFT JOIN "unit" AS u ON u."id" = t."unit"
"""


def _fill_specs(con: sqlite3.Connection) -> None:
    """Parse the tasks of open units; for other units, record only where the task came from."""
    names = ", ".join(f'"{name}"' for name in _SPEC_COLUMNS)
    marks = ", ".join("?" for _ in _SPEC_COLUMNS)
    insert = f'INSERT INTO "spec" ({names}) VALUES ({marks})'
    for unit, name, source, text, title, state in con.execute(_TASKS):
        if state in FINAL:
            spec = Spec(unit=unit, name=name, source=source, title=title)
        else:
            spec = spec_again(text, unit=unit, name=name, source=source)
        row = to_row(spec)
        con.execute(insert, [row[name] for name in _SPEC_COLUMNS])


# format → the steps that convert it to the next format
MIGRATIONS: Mapping[int, tuple[Step, ...]] = {
    1: (
        'ALTER TABLE "attempt" ADD COLUMN "estimated" DEFAULT 0',
        'ALTER TABLE "attempt" ADD COLUMN "reserved_usd" DEFAULT 0.0',
        'ALTER TABLE "attempt" ADD COLUMN "reserved_tokens" INTEGER DEFAULT 0',
        'ALTER TABLE "attempt" ADD COLUMN "day" DEFAULT \'\'',
        'UPDATE "attempt" SET "day" = substr("end", 1, 10) WHERE "end" IS NOT NULL',
        ATTEMPT_DAY,
    ),
    2: ('ALTER TABLE "attempt" ADD COLUMN "reserved_minutes" DEFAULT 0.0',),
    # `behind(TEXT, MARK)` (sqlite.py) returns the text from the last MARK on. The steps use it to
    # make paths relative.
    3: (
        'ALTER TABLE "attempt" ADD COLUMN "nonce" DEFAULT \'\'',
        'ALTER TABLE "attempt" ADD COLUMN "heard" INTEGER DEFAULT 0',
        'ALTER TABLE "attempt" ADD COLUMN "left_out" DEFAULT \'[]\'',
        'ALTER TABLE "verdict" ADD COLUMN "rewrote" DEFAULT \'[]\'',
        'UPDATE "attempt" SET "workspace" = substr(behind("workspace", \'/workspaces/\'), 2)',
        'ALTER TABLE "attempt" DROP COLUMN "run_dir"',
        'UPDATE "verdict" SET "log" = substr(behind("log", \'/.factory/judged/\'), 2) '
        "WHERE \"log\" LIKE '/%'",
        'UPDATE "card" SET "where" = substr(behind("where", \'/.factory/\'), 2) '
        "WHERE \"where\" LIKE '/%'",
        'ALTER TABLE "verdict" ADD COLUMN "evidence" DEFAULT \'\'',
        _SPEC_TABLE,
        _fill_specs,
        SPEC_SOURCE,
        'DROP INDEX IF EXISTS "task_source"',
        'ALTER TABLE "task" DROP COLUMN "name"',
        'ALTER TABLE "task" DROP COLUMN "source"',
    ),
    4: (
        'ALTER TABLE "unit" ADD COLUMN "conflicts" INTEGER DEFAULT 0',
        'ALTER TABLE "unit" ADD COLUMN "contested" DEFAULT \'[]\'',
        'ALTER TABLE "unit" ADD COLUMN "behind" DEFAULT \'[]\'',
    ),
    5: (
        'ALTER TABLE "attempt" ADD COLUMN "clashes" DEFAULT \'[]\'',
        SPEC_NAME,
    ),
}
