"""Updates a store that is older than the world (a restored backup, or lost last writes).

Invariant: runs before any unit starts, so nothing is done twice; it only adds records.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from factory.ground import faults
from factory.ground.places import Places
from factory.ground.regular import is_real
from factory.ground.sentences import shown
from factory.inbox.dropped import OWN
from factory.queue.trunk_watch import TrunkWatch
from factory.repair.rebuild import Rebuild
from factory.repo.checkouts import inside
from factory.store import names
from factory.store.high_water import HighWater
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.unit import Unit

RESTORED = (
    "The store is older than what has happened here: a copy of it was put back, or its last writes"
    " were lost. What git and the unit folders tell was added."
)


class CatchUp:
    """Compares the store with trunk, the factory repository, unit folders and taken files."""

    def __init__(
        self,
        *,
        store: Store,
        where: Places,
        rebuild: Rebuild,
        watch: TrunkWatch,
    ) -> None:
        self._store = store
        self._where = where
        self._rebuild = rebuild
        self._watch = watch
        self._high_water = HighWater(where.high_water)

    async def run(self, at: datetime) -> list[str]:
        """Add the missing records; return sentences for a person about them."""
        lines = []
        if is_behind(self._store, self._where):
            found = await self._rebuild.complete(at)
            lines.append(f"{RESTORED}{_listed(' It concerned', found)}")
        for path in self._lost_acceptances():
            with faults.step("inbox.again"):
                path.rename(path.parents[1] / path.name)
        landed = await self._watch.recognize(at, at_start=True)
        if landed:
            what = "Trunk holds units that the store did not know as landed:"
            lines.append(f"{what}{_listed('', landed)}")
        self._high_water.note_seq(self._store.last_seq())
        return lines

    def _lost_acceptances(self) -> list[Path]:
        """Return taken task files without a unit on record, if no later file has the same name."""
        lost = []
        for path in _taken(self._where):
            known = self._store.select(Spec, source=path.name)
            if not known and not path.name.startswith(OWN) and not self._is_replaced(path):
                lost.append(path)
        return lost

    def _is_replaced(self, path: Path) -> bool:
        """Return whether the store has a file with the same name that was taken later."""
        name = path.name.partition("-")[2]
        for spec in self._store.select(Spec, name=name):
            later = _find(self._where, spec)
            if later is not None and later.lstat().st_ctime >= path.lstat().st_ctime:
                return True
        return False


def is_behind(store: Store, where: Places) -> bool:
    """Return whether something exists that was recorded only after the last write in this store."""
    mark = HighWater(where.high_water).read()
    return mark.seq > store.last_seq() or any(_strange_units(store, where))


def _strange_units(store: Store, where: Places) -> Iterator[str]:
    """Return the units that have a run dir and no record in the store."""
    for path in inside(where.home / "attempts"):
        is_known = store.get(Unit, path.name) or names.was_here(store, path.name)
        if is_real(path) and not is_known:
            yield path.name


def _taken(where: Places) -> list[Path]:
    folder = where.intake / "taken"
    return sorted(folder.glob("*.md")) if is_real(folder) else []


def _find(where: Places, spec: Spec) -> Path | None:
    """Return the file that the spec was read from, at its present path."""
    for folder in (where.intake / "taken", where.unit_dir(spec.unit)):
        if (folder / spec.source).is_file():
            return folder / spec.source
    return None


def _listed(before: str, found: list[str]) -> str:
    return f"{before} {shown(found)}." if found else ""
