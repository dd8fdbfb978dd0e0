"""The records of one worker: its hook, and the attempt on it.

Invariant: a write about an attempt is refused if a newer attempt holds the unit, or if a newer
daemon owns the store.
"""

from pathlib import Path

from factory.attempt.run import Run
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.errors import FactoryError
from factory.store.accepted import spec_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Hook
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit, UnitState


class HookRecords:
    """The records of the worker with this name."""

    def __init__(
        self,
        worker: str,
        *,
        store: Store,
        state: DaemonState,
    ) -> None:
        self.worker = worker
        self.store = store
        self.state = state

    def hook(self) -> Hook:
        """Return the present hook; if the worker has no hook any more, one with state `gone`."""
        hook = self.store.get(Hook, self.worker)
        return hook or Hook(worker=self.worker, index=0, state="gone")

    def facts(self, hook: Hook) -> tuple[Unit, Attempt, Spec]:
        """Return unit, attempt and spec on the hook; raise FactoryError if a record is missing."""
        unit = self.store.get(Unit, hook.unit)
        attempt = self.store.get(Attempt, hook.unit, hook.attempt)
        if unit is None or attempt is None:
            raise FactoryError(f"hook {self.worker} holds {hook.unit}, of which there is no record")
        return unit, attempt, spec_of(self.store, unit.id)

    def run_dir(self, attempt: Attempt) -> Path:
        """Return the run dir of the attempt."""
        return self.state.places.run_dir(attempt.unit, attempt.number)

    def earlier(self, attempt: Attempt) -> Attempt | None:
        """Return the newest earlier attempt with a commit, else the newest whose agent ran."""
        newest = None
        for each in reversed(self.store.select(Attempt, unit=attempt.unit)):
            if each.number >= attempt.number or not (each.pid or each.tree):
                continue
            if each.commit:
                return each
            newest = newest or each
        return newest

    def note(self, attempt: Attempt, event: Event, *hook: Hook) -> None:
        """Record the attempt and its hook; raise Fenced if a newer attempt holds the unit."""
        self.store.write(
            event,
            attempt,
            *hook,
            now=now(),
            unit=attempt.unit,
            attempt=attempt.number,
            worker=self.worker,
            fence=True,
        )

    def still_ours(self) -> None:
        """Raise Deposed if a newer daemon has taken over, because it handles the attempt now."""
        with self.store.transaction():
            pass

    def ends(self, run: Run) -> EndReason | None:
        """Return why a person wants the attempt to end; None if it may continue."""
        unit = self.store.get(Unit, run.unit.id)
        if unit is None or unit.state is not UnitState.RUNNING:
            return EndReason.CANCELLED
        if unit.attempt != run.attempt.number:
            return EndReason.CANCELLED
        if self.state.stopping is Stopping.HAND_BACK:
            return EndReason.HANDED_BACK
        return None
