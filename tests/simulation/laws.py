"""What must hold after every single step of every history, and what at its end."""

import json
from collections import Counter

from factory.ground.settings import Settings
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Hook, Step
from factory.store.unit import FINAL, SPENDS, Unit, UnitState
from tests.journal import Entry, entries_of, fold
from tests.memory_store import MemoryStore
from tests.simulation.world import Violated, World
from tests.store_contract import tables

MOST_WRITES = 400  # in one virtual second: more is a loop that spins


class Laws:
    """Looks at store and world after each write; what it has seen of the journal it does not read again."""

    def __init__(self, store: MemoryStore, world: World) -> None:
        self._store, self._world = store, world
        self._seen = 0
        self._writes: Counter[int] = Counter()
        self._final: dict[str, UnitState] = {}
        self._catching_up = False  # writes were lost, and the next start has not made that good yet
        self._states: dict[str, str] = {}  # as the journal told last
        self._told: dict[
            str, int
        ] = {}  # unit → the newest remark that its work must have heard before it lands
        self.steps = 0

    def look(self) -> None:
        """Raise Violated for the first law that does not hold now."""
        self.steps += 1
        changed = self._read_on()
        units = {unit.id: unit for unit in self._store.select(Unit)}
        self._hooks(units)
        self._landings(units)
        self._cards(units)
        self._parts(units)
        for name in changed:
            self._count(units[name])
            was = self._final.get(name, units[name].state)
            _hold(self._catching_up or was is units[name].state, f"{name} was final, and moved on")
            if units[name].state in FINAL:
                self._final[name] = units[name].state

    def lost_writes(self) -> None:
        """The store is older than what has happened."""
        self._seen = self._store.last_seq()
        for known in (self._final, self._states, self._told):
            known.clear()
        self._catching_up = True

    def caught_up(self) -> None:
        """A start has made that good."""
        self._catching_up = False

    def at_the_end(self) -> None:
        """The whole journal gives the whole store."""
        _hold(
            fold(entries_of(self._store)) == tables(self._store),
            "the journal folded from empty is not the store",
        )
        for card in self._store.select(Card):
            if card.kind is CardKind.STUCK:
                _hold("which does not exist yet" in card.question, f"a false card: {card.question}")

    def stuck(self) -> str:
        """The units that are not final, and why; empty where all are."""
        return "; ".join(
            f"{unit.id} is {unit.state} ({unit.why})" for unit in self._store.open(Unit)
        )

    def _read_on(self) -> set[str]:
        """The units that the new entries of the journal are about."""
        changed = set[str]()
        for entry in entries_of(self._store, after=self._seen):
            self._seen = entry.seq
            second = int(self._world.clock.elapsed)
            self._writes[second] += 1
            _hold(
                self._writes[second] < MOST_WRITES,
                f"{MOST_WRITES} writes in one second: {entry.event}",
            )
            self._hear(entry)
            changed |= {str(row["id"]) for table, row in entry.changes if table == "unit"}
        return changed

    def _hear(self, entry: Entry) -> None:
        """Whoever tells a unit that is held can let it land unheard, by the answer to its card."""
        if (
            entry.event is Event.UNIT_TOLD
            and entry.detail["kind"] == "tell"
            and entry.unit in self._states
        ):
            said = max(int(str(row["seq"])) for table, row in entry.changes if table == "remark")
            if self._states[entry.unit] != UnitState.HELD:
                self._told[entry.unit] = said
        self._states |= {
            str(row["id"]): str(row["state"]) for table, row in entry.changes if table == "unit"
        }

    def _count(self, unit: Unit) -> None:
        """Attempts are spent as they ended, and not more than are allowed."""
        attempts = self._store.select(Attempt, unit=unit.id)
        _hold(
            unit.attempt == max((each.number for each in attempts), default=0),
            f"{unit.id} has another epoch",
        )
        limit = Settings().limits.attempts
        _hold(
            unit.spent <= limit + unit.bonus,
            f"{unit.id} spent {unit.spent} of {limit} + {unit.bonus}",
        )
        if unit.state is UnitState.LANDED:
            heard = max((each.heard for each in attempts if each.number == unit.attempt), default=0)
            _hold(
                heard >= self._told.get(unit.id, 0),
                f"{unit.id} landed and had not read all that was said",
            )
        if unit.state not in FINAL:
            truly = sum(each.reason is not None and SPENDS[each.reason] for each in attempts)
            _hold(truly == unit.spent, f"{unit.id}: {unit.spent} spent on record, {truly} in truth")

    def _hooks(self, units: dict[str, Unit]) -> None:
        held = Counter[str]()
        for hook in self._store.select(Hook):
            if not hook.unit:
                continue
            unit, attempt = units[hook.unit], self._store.get(Attempt, hook.unit, hook.attempt)
            held[hook.unit] += 1
            _hold(
                attempt is not None and attempt.worker == hook.worker,
                f"{hook.worker} holds no attempt of its own",
            )
            if unit.state in (UnitState.CANCELLED, UnitState.LANDED):
                continue  # its worker is ending the agent: cancelled, or seen to have landed after writes were lost
            _hold(
                unit.state is UnitState.RUNNING,
                f"{hook.worker} holds {unit.id}, which is {unit.state}",
            )
            _hold(unit.attempt == hook.attempt, f"{hook.worker} holds an old epoch of {unit.id}")
            _hold(
                attempt is not None and attempt.end is None,
                f"{hook.worker} holds an attempt that ended",
            )
        for unit in units.values():
            if unit.state is UnitState.RUNNING:
                _hold(held[unit.id] == 1, f"{unit.id} runs on {held[unit.id]} hooks")

    def _landings(self, units: dict[str, Unit]) -> None:
        _hold(not self._world.noted, "; ".join(self._world.noted))
        times = Counter(self._world.landed)
        open_ones = {
            name for step in self._store.open(Step) for name, _ in json.loads(step.data)["units"]
        }
        for unit in units.values():
            _hold(times[unit.id] <= 1, f"{unit.id} landed {times[unit.id]} times")
            if unit.state is UnitState.LANDED:
                _hold(
                    times[unit.id] == 1 or unit.id in open_ones,
                    f"{unit.id} is said to have landed, and has not",
                )
                _hold(self._world.holds(unit.commit), f"{unit.id}: trunk never held its commit")
            elif times[unit.id] and not self._catching_up:
                _hold(unit.id in open_ones, f"{unit.id} is on trunk, and no open step says so")

    def _parts(self, units: dict[str, Unit]) -> None:
        """What stands for a unit that was split is there, and nobody waits for the unit itself."""
        wholes = {unit.id: unit for unit in units.values() if unit.state is UnitState.SPLIT}
        for whole in wholes.values():
            lost = [part for part in whole.needs if part not in units]
            _hold(
                len(whole.needs) > 1 and not lost,
                f"{whole.id} was split into {whole.needs}; not there: {lost}",
            )
            _hold(not wholes.keys() & set(whole.needs), f"a part of {whole.id} was split again")
        for unit in self._store.open(Unit):
            _hold(
                not wholes.keys() & set(unit.needs),
                f"{unit.id} needs {unit.needs}, of which one was split",
            )

    def _cards(self, units: dict[str, Unit]) -> None:
        cards = self._store.open(Card)
        causes = Counter(card.fingerprint for card in cards)
        _hold(
            all(count == 1 for count in causes.values()),
            f"two open cards of one cause: {causes.most_common(1)}",
        )
        for card in cards:
            idle = [name for name in card.units if not _waits_for(card, units[name])]
            _hold(
                not idle,
                f"{card.id} ({card.kind}) asks about {idle}, which is {units[idle[0]].state if idle else ''}",
            )
        asked = {name for card in cards for name in card.units}
        for unit in units.values():
            if unit.state is UnitState.HELD:
                _hold(unit.id in asked, f"{unit.id} is held, and no card asks")


def _waits_for(card: Card, unit: Unit) -> bool:
    if card.kind is CardKind.STUCK:
        return True  # the next look of the standstill takes the unit off
    if unit.state is UnitState.WAITING:
        return unit.cause == card.fingerprint
    is_tried_meanwhile = card.kind in (CardKind.LANDING_BLOCKED, CardKind.SETUP)
    return unit.state is (UnitState.QUEUED if is_tried_meanwhile else UnitState.HELD)


def _hold(law: bool, otherwise: str) -> None:
    if not law:
        raise Violated(otherwise)
