"""Verdicts: reads them from the store, and writes them when gates have run.

Invariant: a verdict is settled only if its gate passed, or failed twice within its time limit, in
an environment that no gate changed meanwhile. Only a settled verdict can replace a run.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import anyio

from factory.ground.errors import StoreError
from factory.ground.log import TICK_BROKE, log
from factory.ground.settings import GateLimits
from factory.inference.rules import Gate, digest
from factory.judging import rewrites
from factory.judging.case import Case
from factory.judging.measured import PROOF_SECONDS, Measured, time_limit
from factory.judging.standing import Ready
from factory.judging.trials import Trial, said_by
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Verdict

RECORD_SECONDS = 1.0  # seconds between two tries to write a verdict
_JUDGED = "unchanged"  # a part of each key; older releases did not check what a gate changes


def key_of(case: Case, gate: Gate, ready: Ready, sandbox: str) -> str:
    """Return the key of a verdict: a digest of everything that the verdict depends on."""
    return digest(_JUDGED, case.tree, gate.digest, ready.key, sandbox)


class Verdicts:
    """Reads and writes verdicts, and knows how long gates took; `limits` is from factory.toml."""

    def __init__(self, store: Store, limits: Callable[[], GateLimits]) -> None:
        self._store = store
        self._limits = limits
        self._measured = Measured(store)

    def limit(self, gate: Gate, runs: int = 0, *, proving: bool = False) -> float:
        """Return the seconds that a gate may take; `proving`: it must fail.

        The limit comes from the gate's file. If the file has none, it comes from the configuration.
        If this has none either, it is computed from earlier runs.
        """
        said = gate.timeout_s or self._limits().timeout_s
        if said:
            return said
        measured = self._measured.of(gate.name)
        if proving and not measured:
            return PROOF_SECONDS
        return time_limit(measured, runs=runs)

    def usual(self, gate: Gate) -> float | None:
        """Return the median of the seconds of the gate's green runs; None if there are none."""
        measured = sorted(self._measured.of(gate.name))
        return measured[len(measured) // 2] if measured else None

    def reruns(self, gate: Gate) -> int:
        """Return how often the gate runs again when it is red."""
        if gate.flaky_reruns is None:
            return self._limits().flaky_reruns
        return gate.flaky_reruns

    def settled(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """Return the settled verdicts of these keys."""
        found = dict[str, Verdict]()
        for key in keys:
            verdict = self._store.get(Verdict, key)
            if verdict and verdict.settled:
                found[key] = verdict
        return found

    async def record(self, case: Case, trial: Trial, *, disturbed: bool) -> Verdict:
        """Write the verdict of a trial; `disturbed`: a gate changed the environment.

        It tries until the store accepts the verdict. Otherwise a lock of the store could force a
        long gate to run again.
        """
        while True:
            try:
                return self._record(case, trial, disturbed=disturbed)
            except StoreError:
                log.exception(TICK_BROKE, loop="judge", unit=case.unit)
            await anyio.sleep(RECORD_SECONDS)

    def _record(self, case: Case, trial: Trial, *, disturbed: bool) -> Verdict:
        ran = trial.last
        is_repeated = len(trial.runs) > 1
        timed_out = any(run.exit.cause == "timeout" for run in trial.runs)
        is_sure = ran.ok or (is_repeated and not timed_out)
        verdict = Verdict(
            key=trial.key,
            gate=trial.gate.name,
            tree=case.tree,
            ok=ran.ok,
            settled=is_sure and not disturbed,
            at=ran.exit.at,
            flaky=ran.ok and is_repeated,
            seconds=ran.exit.seconds,
            command=trial.gate.shown,
            tail="" if ran.ok else said_by(ran, trial.gate.shown),
            log=ran.where,
            rewrote=ran.rewrote[: rewrites.MOST_KEPT],
        )
        # Read the store before it gets this verdict. Otherwise the verdict would count twice.
        measured = self._measured.of(verdict.gate)
        self._tell(case, verdict, verdict.at, cached=False)
        if verdict.ok:
            measured.append(verdict.seconds)
        return verdict

    def tell_again(self, case: Case, verdict: Verdict, at: datetime) -> None:
        """Journal that a settled verdict is used again for the unit. Without a unit, do nothing."""
        if case.unit:
            self._tell(case, verdict, at, cached=True)

    def _tell(self, case: Case, verdict: Verdict, at: datetime, *, cached: bool) -> None:
        detail: dict[str, Any] = {"gate": verdict.gate, "ok": verdict.ok, "cached": cached}
        if not case.reruns:
            detail["before"] = True  # the gate ran on a tree without the change, where it must fail
        if case.on:
            detail["on"] = case.on
        if case.stacked:
            detail["stacked"] = True
        self._store.write(Event.VERDICT_GIVEN, verdict, now=at, unit=case.unit, **detail)
