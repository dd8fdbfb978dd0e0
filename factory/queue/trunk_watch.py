"""What commits on trunk say about units: which of them have landed, and under which commit.

Invariant: a unit counts as landed only by a commit that this store's own attempt made: its nonce
says so. A commit of a colleague's factory, or of an earlier life of this one, only takes the unit's
name.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from factory.people.escalations import Escalations
from factory.repo.message import Landing
from factory.repo.trunk import Trunk
from factory.store import names
from factory.store.identity import is_nonce_of, recorded
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact
from factory.store.unit import Unit, UnitState

SLACK_S = 1.0  # commits have whole seconds
SEEN = "trailers_seen"  # the fact that says how far trunk was read


def made_by(store: Store, unit: Unit, landing: Landing) -> bool:
    """Whether an attempt of this very unit made the commit."""
    if unit.id != landing.unit:
        return False
    if not landing.run:
        return _is_of_older_release(store, unit, landing)
    attempts = store.select(Attempt, unit=unit.id)
    if any(attempt.nonce == landing.run for attempt in attempts):
        return True
    # The record of the attempt is lost, but no other store makes nonces like it.
    known = recorded(store)
    return known is not None and is_nonce_of(known.id, landing.run)


def by_unit(landings: Iterable[Landing]) -> dict[str, list[Landing]]:
    """The landings of each unit, in their order."""
    found: dict[str, list[Landing]] = {}
    for landing in landings:
        found.setdefault(landing.unit, []).append(landing)
    return found


def newest(store: Store, unit: Unit, landings: Iterable[Landing]) -> Landing | None:
    """The first of the landings that an attempt of this very unit made."""
    return next((each for each in landings if made_by(store, unit, each)), None)


def _is_of_older_release(store: Store, unit: Unit, landing: Landing) -> bool:
    """By number and time, where neither the commit nor the record has a nonce."""
    attempt = store.get(Attempt, unit.id, landing.attempt)
    without_nonce = attempt is not None and not attempt.nonce
    return without_nonce and landing.at >= unit.accepted.timestamp() - SLACK_S


def read_so_far(store: Store) -> str:
    """The commit up to which trunk's trailers were read; "" where they never were."""
    fact = store.get(Fact, SEEN)
    return str(json.loads(fact.value)) if fact else ""


class TrunkWatch:
    """Keeps the records of landed units in step with trunk."""

    def __init__(self, *, store: Store, trunk: Trunk, escalations: Escalations) -> None:
        self._store, self._trunk, self._escalations = store, trunk, escalations

    async def recognize(self, at: datetime, *, at_start: bool = False) -> list[str]:
        """Record as landed the units that trunk holds, or held, since it was last read; their ids.

        One process, however many units there are. `at_start`: also if trunk points to what was read
        last, since a restored store may know this tip, and not what trunk held before a person took
        it back.
        """
        tip = await self._trunk.tip()
        known = read_so_far(self._store)
        if not tip or (tip == known and not at_start):
            return []
        landings = await self._trunk.landings(since=known)
        found: list[str] = []
        with self._store.transaction():
            for landing in landings:
                if self._recognize_one(landing, at):
                    found.append(landing.unit)
            names.add(self._store, [landing.unit for landing in landings], now=at)
            seen = Fact(name=SEEN, value=json.dumps(tip))
            self._store.write(Event.FACT_CHANGED, seen, now=at, fact=SEEN)
        return found

    async def follow(self, at: datetime) -> list[str]:
        """After trunk was rewritten: give each landed unit the commit that has its trailers now.

        Returns the ids of those that trunk does not hold any more.
        """
        here = by_unit(await self._trunk.landings(history=False))
        missing = []
        for unit in self._store.select(Unit, state=UnitState.LANDED):
            candidates = here.get(unit.id, [])
            if any(unit.commit == each.commit for each in candidates):
                continue
            now_at = newest(self._store, unit, candidates)
            if now_at is None:
                missing.append(unit.id)
                continue
            moved = replace(unit, commit=now_at.commit)
            self._store.write(
                Event.UNIT_FOLLOWED,
                moved,
                now=at,
                unit=unit.id,
                was=unit.commit,
                commit=moved.commit,
            )
        return missing

    def _recognize_one(self, landing: Landing, at: datetime) -> bool:
        unit = self._store.get(Unit, landing.unit)
        if (
            unit is None
            or unit.state is UnitState.LANDED
            or not made_by(self._store, unit, landing)
        ):
            return False
        # Not through the table: trunk holds the commit, and no state of the record can undo that.
        landed = replace(
            unit,
            state=UnitState.LANDED,
            since=at,
            why="",
            commit=landing.commit,
            landed=datetime.fromtimestamp(landing.at, UTC),
            cause="",
        )
        self._store.write(
            Event.UNIT_LANDED,
            landed,
            now=at,
            unit=unit.id,
            attempt=landing.attempt,
            commit=landing.commit,
            recognized=True,
        )
        self._escalations.leave(
            unit.id, now=at, why=f"{self._trunk.branch} holds {unit.id} already"
        )
        return True
