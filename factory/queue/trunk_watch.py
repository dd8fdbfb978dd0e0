"""Finds out from commits on trunk which units have landed, and with which commit.

Invariant: a unit counts as landed only if the nonce in the commit belongs to an attempt of this
store. A commit of another factory, or of an earlier store, only reserves the name of the unit.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from factory.people.escalations import Escalations
from factory.repo.message import Landing
from factory.repo.trunk import Trunk
from factory.store import names
from factory.store.fact_values import value_of
from factory.store.identity import is_nonce_of, recorded
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact
from factory.store.unit import Unit, UnitState, as_landed

SLACK_S = 1.0  # commit times are whole seconds
SEEN = "trailers_seen"  # the fact that says up to which commit trunk was read


def made_by(store: Store, unit: Unit, landing: Landing) -> bool:
    """Return whether an attempt of exactly this unit made the commit."""
    if unit.id != landing.unit:
        return False
    if not landing.run:
        return _is_of_older_release(store, unit, landing)
    attempts = store.select(Attempt, unit=unit.id)
    if any(attempt.nonce == landing.run for attempt in attempts):
        return True
    # The record of the attempt is lost, but no other store makes such a nonce.
    known = recorded(store)
    return known is not None and is_nonce_of(known.id, landing.run)


def by_unit(landings: Iterable[Landing]) -> dict[str, list[Landing]]:
    """Return the landings by unit, in the same order."""
    found: dict[str, list[Landing]] = {}
    for landing in landings:
        found.setdefault(landing.unit, []).append(landing)
    return found


def newest(store: Store, unit: Unit, landings: Iterable[Landing]) -> Landing | None:
    """Return the first landing that an attempt of exactly this unit made; None if there is none."""
    return next((each for each in landings if made_by(store, unit, each)), None)


def _is_of_older_release(store: Store, unit: Unit, landing: Landing) -> bool:
    """Return whether number and time match, for a commit and a record without a nonce."""
    attempt = store.get(Attempt, unit.id, landing.attempt)
    without_nonce = attempt is not None and not attempt.nonce
    return without_nonce and landing.at >= unit.accepted.timestamp() - SLACK_S


def read_so_far(store: Store) -> str:
    """Return the commit up to which trunk's trailers were read; "" if they never were."""
    return str(value_of(store, SEEN, ""))


class TrunkWatch:
    """Keeps the records of landed units in step with trunk."""

    def __init__(self, *, store: Store, trunk: Trunk, escalations: Escalations) -> None:
        self._store, self._trunk, self._escalations = store, trunk, escalations

    async def recognize(self, at: datetime, *, at_start: bool = False) -> list[str]:
        """Record units as landed if trunk holds, or held, their commits; return their ids.

        Runs one git process for any number of units, and reads only the commits since the last
        call. `at_start`: reads even if trunk has not moved. A restored store may know this commit,
        but not the landings that a person removed from trunk.
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
        """After somebody rewrote trunk, record the new commit of each landed unit.

        Returns the ids of the units that trunk does not hold any more.
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
        moved_at = datetime.fromtimestamp(landing.at, UTC)
        landed = as_landed(unit, landing.commit, now=at, landed=moved_at)
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
            unit.id, now=at, why=f"{self._trunk.branch} already holds {unit.id}"
        )
        return True
