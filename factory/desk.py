"""The desk: handles requests, task files and changes of factory.toml, and reports problems.

Invariant: a pass returns its warnings, and `status` shows those of the last pass; a warning ends
when its problem ends.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from factory.assembly import Floor, agents_now
from factory.attempt.prompts import left_out
from factory.dispatch.agents import Agents
from factory.ground import settings
from factory.ground.conventions import differing, read_shipped
from factory.ground.daemon_state import now
from factory.ground.errors import ConfigError, RepositoryError, StoreError
from factory.ground.names import choose
from factory.ground.places import holding, there
from factory.ground.sentences import shown
from factory.ground.settings import Settings
from factory.inbox.dropped import shown as shown_name
from factory.inbox.intake import Scan
from factory.inbox.rejections import reason, rejected
from factory.inference.rules import Gate
from factory.judging.calibration import checks
from factory.judging.rulings import Ruling
from factory.people import line_cards
from factory.people.answers import answers
from factory.people.causes import BAD_CONFIG
from factory.reading import Signature, read_settings, signature_of
from factory.store.journal import Event
from factory.store.records import Fact

SCAN_SECONDS = 30.0
REJECTED_SHOWN = 20
WARNED = 100  # files in the inbox that warnings name
STARTED_AT = 250  # accepted units after which the pool makes one more pass during a long intake

Read = Callable[[Path, Mapping[str, str]], Awaitable[Settings]]


class Desk:
    """Watches the places where a person acts: requests, the inbox, factory.toml."""

    def __init__(self, floor: Floor, *, start: Sequence[str] = (), seen: Signature = ()) -> None:
        """Take `start`, the sentences for a person about this daemon's start.

        `seen`: the signature of the factory.toml whose settings are in force.
        """
        self._floor = floor
        self._config = Config(floor, seen=seen)
        self.start = [*start]
        self.watch: Sequence[str] = ()  # folders whose changes are not reported
        self._rules: Sequence[str] = ()  # problems in trunk's conventions
        # the key of the prompts, and what these prompts leave out
        self._prompts: tuple[str, Sequence[str]] = ("", ())
        self._seen: Sequence[str] = ()  # the warnings of the last pass

    async def run(self) -> None:
        """Tick on each request, and at least every 30 seconds."""
        state = self._floor.state
        while True:
            again = await state.guarded("desk", self.tick)
            await state.requests.wait(again or 0)

    async def open(self) -> None:
        """Write the facts that are known before the first pass."""
        tell_config(self._floor)
        await self._look_at_rules()

    async def tick(self) -> float:
        """Do one pass; return the seconds until the next pass."""
        floor = self._floor
        config = await self._config.tick()
        await floor.requests.prepare()
        floor.requests.tick(now())
        scan = await floor.intake.tick(now(), self._between)
        if scan.accepted:
            floor.state.pool.send()
        self._tell_rejected()
        await self._look_at_rules()
        self._seen = [*config, *_first(scan.warnings), *_not_trunks(floor)]
        self.tell()
        return scan.again_s or SCAN_SECONDS

    def _between(self, scan: Scan) -> None:
        """Between two task files, carry out requests and start the first accepted units."""
        self._floor.requests.tick(now())
        if len(scan.accepted) % STARTED_AT == 1:
            self._floor.state.pool.send()

    def _tell_rejected(self) -> None:
        """Write which task files were not accepted, and why."""
        folder = self._floor.intake.rejected
        names = rejected(folder)
        files = []
        for name in names[:REJECTED_SHOWN]:
            files.append({"file": shown_name(name), "why": reason(folder, name)})
        put(self._floor, "rejected", {"files": files, "count": len(names)})

    def tell(self) -> None:
        """Write the warnings of the last passes, for `factory status`."""
        floor = self._floor
        warnings = [
            *self.start,
            *floor.trunk.own.commands.slow,
            *self._rules,
            *self.watch,
            *floor.pool.notices,
            *floor.state.broken.values(),
            *answers(floor.store).sentences,
            *checks(floor.store).sentences,
            *self._seen,
        ]
        put(floor, "warnings", warnings)

    def tell_commands(self) -> None:
        """Warn about slow git commands, even if other work hangs."""
        with suppress(StoreError):  # the next change of the list writes the warnings again
            put(self._floor, "slow", self._floor.trunk.own.commands.slow)
            self.tell()

    async def _look_at_rules(self) -> None:
        """Report problems in trunk's rules; keep the last report while factoryd reads the rules."""
        floor = self._floor
        ruling = floor.judge.rulings.current
        if ruling is None:
            put(floor, "names", _folders(floor))
            return
        agents = agents_now(floor.judge, floor.state)
        every = await floor.judge.rulings.of(floor.judge.rulings.tip, advisory=True)
        _tell_inferred(floor, ruling, agents, every.rules.gates)
        prompts = await self._left_out(ruling)
        put(floor, "names", _folders(floor))
        self._rules = [*_missing(floor, ruling, agents), *prompts, *_wrong_names(floor, ruling)]

    async def _left_out(self, ruling: Ruling) -> Sequence[str]:
        """Return what the repository's own prompts leave out; check each version only once."""
        key, said = self._prompts
        if ruling.conventions.prompts_key == key:
            return said
        prompts = ruling.conventions.prompts
        # In a thread, because many prompt files take longer than one turn of the loop may.
        said = await anyio.to_thread.run_sync(left_out, prompts, read_shipped())
        self._prompts = ruling.conventions.prompts_key, said
        return said


class Config:
    """Applies edits of factory.toml; after a bad edit the last good file stays in force."""

    def __init__(self, floor: Floor, *, read: Read = read_settings, seen: Signature = ()) -> None:
        self._floor = floor
        self._root = floor.state.places.root
        self._read = read
        self._seen = seen
        self._is_first = True
        self._warnings: Sequence[str] = ()

    async def tick(self) -> Sequence[str]:
        """Apply the file if it changed; return what is wrong with it."""
        signature = signature_of(self._root)
        if self._is_first or signature != self._seen:
            self._warnings = await self._take_up(is_read=signature == self._seen)
            self._is_first = False
            self._seen = signature  # set last, so that a failed write is repeated
        return self._warnings

    async def _take_up(self, *, is_read: bool) -> Sequence[str]:
        """Put the file's settings in force; `is_read`: the start has read this very file."""
        floor = self._floor
        at = now()
        try:
            fresh = floor.state.settings
            if not is_read:
                fresh = await self._read(self._root, floor.state.environ)
            floor.sandbox.check(fresh.sandbox.mode)
        except ConfigError as error:
            floor.store.write(Event.CONFIG_REFUSED, now=at, why=str(error))
            floor.escalations.raise_card(line_cards.bad_config(str(error)), now=at)
            return [f"{error} (the last good one is in force)"]
        floor.state.settings = fresh
        hide(floor)
        floor.benches.resize(fresh.gates.benches)
        floor.escalations.close(BAD_CONFIG, now=at, why="factory.toml is good again")
        tell_config(floor)
        floor.state.wake_all()
        if fresh.trunk and fresh.trunk != floor.trunk.branch:
            return ["trunk was changed in factory.toml: it is in force after `factoryd restart`"]
        return []


def put(floor: Floor, name: str, value: Any, event: Event = Event.FACT_CHANGED) -> None:
    """Write a fact for the commands if its value is new."""
    fact = Fact(name=name, value=json.dumps(value, ensure_ascii=False))
    if fact != floor.store.get(Fact, name):
        floor.store.write(event, fact, now=now())


def tell_config(floor: Floor) -> None:
    """Write which settings, and which sandbox, are in force."""
    explained = settings.explain(floor.state.settings)
    values = {key: {"value": value, "source": source} for key, (value, source) in explained.items()}
    put(floor, "config", values, Event.CONFIG_CHANGED)
    put(floor, "sandbox", {"mode": floor.sandbox.name, "says": floor.sandbox.says})


def hide(floor: Floor) -> None:
    """Hide the values of the variables of `[env] pass` in the log."""
    environ = floor.state.environ
    if floor.log:
        floor.log.hide(environ[name] for name in floor.state.settings.env.passed if name in environ)


def _tell_inferred(floor: Floor, ruling: Ruling, agents: Agents, every: Sequence[Gate]) -> None:
    """Write what judges here; `every`: the gates with those checks that do not judge."""
    runtimes = ruling.conventions.runtimes
    judging = ruling.rules.gates
    setup = ruling.rules.setup
    told = {
        "gates": list(map(_as_found, judging)),
        "advisory": [_as_found(gate) for gate in every if gate not in judging],
        "skipped": list(map(asdict, ruling.rules.skipped)),
        "setup": {"kind": setup.kind, "reason": setup.reason, "commands": setup.shown()},
        "agents": [name for name in runtimes if name not in agents.missing],
        "runtimes": sorted(runtimes),
        "agent": agents.default,
    }
    put(floor, "inferred", told)


def _as_found(gate: Gate) -> dict[str, str]:
    return {"name": gate.name, "command": gate.shown, "reason": gate.reason}


def _missing(floor: Floor, ruling: Ruling, agents: Agents) -> list[str]:
    """Return why agents from the repository's own files, or from factory.toml, cannot be used."""
    named = {floor.state.settings.agent, *agents.fallback}
    for name, file in ruling.conventions.runtimes.items():
        if not file.is_shipped:
            named.add(name)
    return [why for name, why in agents.missing.items() if name in named]


def _not_trunks(floor: Floor) -> list[str]:
    """Warn if the checkout's conventions differ from trunk's; start no git, to stay fast."""
    ruling = floor.judge.rulings.current
    paths = differing(floor.state.places.root, ruling.conventions) if ruling else []
    if not paths:
        return []
    branch = floor.trunk.branch
    why = f"different on {branch}, whose version is in force until you commit yours"
    return [f"{shown(paths, 3)} in your checkout: {why}"]


def _first(warnings: Sequence[str]) -> list[str]:
    """Return the first warnings about task files, and how many more there are."""
    shown_ = [*warnings[:WARNED]]
    if len(warnings) > WARNED:
        shown_.append(f"and {len(warnings) - WARNED} more files that factoryd does not take now")
    return shown_


def _folders(floor: Floor) -> dict[str, str]:
    """Return the names of factoryd's folders in use."""
    where = floor.state.places
    return {"inbox": where.inbox.name, "why": where.names.why}


def _wrong_names(floor: Floor, ruling: Ruling) -> list[str]:
    """Return what has become wrong with the names of the folders since the start."""
    where = floor.state.places
    inbox = where.inbox.name
    try:
        names = choose(ruling.layout, there=there(where.root), holding=holding(where.root))
    except RepositoryError as error:  # the folder was created after the start
        return [f"{error} Until then {inbox}/ and {ruling.conventions.folder}/ are in force."]
    if names.inbox == inbox:
        return [*names.warnings]
    other = (
        f"{names.inbox}/ is used after factoryd restart; until then task files go into {inbox}/."
    )
    return [*names.warnings, other]
