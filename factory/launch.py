"""What an attempt is started with: its prompt, its command line and its environment.

Invariant: nothing of a task's text becomes part of a command line but the prompt, as one argument or on stdin.
"""

from collections.abc import Mapping
from pathlib import Path

from factory import faults
from factory.endings import Endings
from factory.environments import Environments, Place, ports
from factory.judge import Judge
from factory.live import Live
from factory.ports import Store
from factory.process import Command
from factory.prompts import Brief, prompt
from factory.records import Attempt, Remark
from factory.runtime import environment, find, invocation
from factory.trip import Trip, prompt_name
from factory.workspaces import Conflict


class Launch:
    """Puts together what the shim of an attempt is told."""

    def __init__(self, *, store: Store, live: Live, judge: Judge, environments: Environments, endings: Endings) -> None:
        self.environments = environments
        self._store, self._live, self._judge, self._endings = store, live, judge, endings

    def command(
        self, trip: Trip, earlier: Attempt | None, *, carried: bool, conflict: Conflict | None, place: Place
    ) -> Command:
        """The command of an attempt in its prepared workspace; its prompt is written. Raises ConfigError."""
        text = "" if trip.task.run else self._prompt(trip, earlier, carried=carried, conflict=conflict)
        with faults.step("attempt.files"):
            (trip.run_dir / "prompt.md").write_text(text, encoding="utf-8")
        argv, stdin = self._invocation(trip)
        return Command(
            argv=argv,
            cwd=trip.workspace.tree,
            env=self._variables(trip, place),
            run_dir=trip.run_dir,
            stdin=stdin,
            seconds=60 * self._minutes(trip),
            stop_signal=trip.runtime.stop.signal,
            grace_s=trip.runtime.stop.grace_s,
        )

    def _minutes(self, trip: Trip) -> float:
        """What it may take: what was held back for it, where minutes have a cap."""
        return trip.attempt.reserved_minutes or trip.task.minutes or self._live.settings.limits.minutes

    def _invocation(self, trip: Trip) -> tuple[tuple[str, ...], Path | None]:
        if trip.task.run:  # a task's own command is no template
            return ("sh", "-c", trip.task.run), None
        argv, stdin = invocation(
            trip.runtime,
            run_dir=trip.run_dir,
            workspace=trip.workspace.tree,
            model=trip.task.model,
            session=trip.attempt.session if trip.attempt.resumed else "",
            budget=f"{trip.attempt.reserved_usd:.4f}" if trip.attempt.reserved_usd else "",
        )
        program = find(argv[0], path=self._live.environ.get("PATH", ""), root=self._live.places.root)
        return (str(program or argv[0]), *argv[1:]), stdin

    def _variables(self, trip: Trip, place: Place) -> Mapping[str, str]:
        own = {
            "TMPDIR": str(trip.run_dir / "tmp"),
            "FACTORY_OUTBOX": str(trip.outbox),
            "FACTORY_UNIT": trip.unit.id,
            "FACTORY_ATTEMPT": str(trip.attempt.number),
        }
        around = self.environments.variables(place)
        if trip.task.run:
            return around | own
        # Unsandboxed, an agent's login lies in its user's HOME; the workspace's own tools come first all the same.
        tools = {name: around[name] for name in ("PATH", "VIRTUAL_ENV") if name in around}
        return environment(trip.runtime, self._live.environ, tools | ports(trip.hook.index) | own)

    def _prompt(self, trip: Trip, earlier: Attempt | None, *, carried: bool, conflict: Conflict | None) -> str:
        brief = Brief(
            unit=trip.unit.id,
            title=trip.unit.title,
            body=trip.task.body,
            outbox=str(trip.outbox),
            trunk=self._judge.branch,
            attempt=trip.attempt.number,
            attempts=self._endings.limit(trip.unit),
            minutes=self._minutes(trip),
            scope=trip.task.scope,
            accept=trip.task.accept,
            gates=tuple((gate.name, gate.shown) for gate in trip.ruling.rules.gates),
            knowledge=tuple(note for note in trip.ruling.conventions.knowledge if note.concerns(trip.task.scope)),
            remarks=tuple(self._store.select(Remark, unit=trip.unit.id)),
            digest=earlier.digest if earlier else "",
            handoff=earlier.handoff if earlier else "",
            carried=carried and bool(earlier and earlier.tree),
            conflicts=conflict.paths if conflict else (),
            old_diff=str(conflict.diff) if conflict else "",
            intent=conflict.intent if conflict else "",
            resumed=trip.attempt.resumed,
        )
        return prompt(prompt_name(trip, earlier, conflict), brief, trip.ruling.conventions.prompts)
