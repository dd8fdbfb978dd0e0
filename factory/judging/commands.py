"""Runs the commands of gates and setups at a place, confined and under the shim.

Invariant: if the wait for a command is cancelled, the command is ended, unless the next daemon will
continue the command.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from anyio import to_thread

from factory.child import process
from factory.child.bubblewrap import make_layer, written
from factory.child.sandbox import Sandbox
from factory.ground import disk, faults
from factory.judging.machine import Machine
from factory.judging.place import Place
from factory.judging.run_dir import script_in, tail_of
from factory.judging.trials import Ran
from factory.repo.underway import Run, Underway, resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command to run at a place."""

    argv: tuple[str, ...]
    # if set, the run uses this file outside the tree instead of argv's first two words
    script: str = ""
    seconds: float
    judging: bool = False  # whether the command is a gate
    # other gates run at the same time; with layers, the command does not see their changes
    beside: bool = False


class Commands:
    """Runs commands. `sandbox` confines them, `limits` limits them, `underway` records them."""

    def __init__(
        self,
        *,
        machine: Machine,
        underway: Underway,
        sandbox: Sandbox,
        limits: Callable[[], process.Limits] = process.Limits,
    ) -> None:
        self.machine = machine
        self.underway = underway
        self.sandbox = sandbox
        self._limits = limits

    def limits(self, *folders: Path) -> process.Limits:
        """Return the limits of a command; the disk limit applies to these folders together."""
        return replace(self._limits(), folders=folders)

    async def run(self, order: Order, place: Place, run: Run) -> Ran:
        """Run a command and wait for its end.

        If the wait is cancelled, the command is ended, unless a record keeps the run for the next
        daemon.
        """
        env = self.machine.variables(place, judging=order.judging)
        with faults.step("command.start"):
            argv = order.argv
            reads = tuple[Path, ...]()
            if order.script:
                script = await to_thread.run_sync(script_in, run.folder, order.script)
                argv = (*script, *argv[2:])
                reads = (run.folder,)
            layer = None
            if order.beside and self.sandbox.layers:
                layer = make_layer(place.layers / run.folder.name)
            profile = self.machine.profile(place, judging=order.judging, layer=layer)
            command = process.Command(
                argv=argv,
                cwd=place.tree,
                env=env,
                run_dir=run.folder,
                seconds=order.seconds,
                within=self.sandbox.confined(argv, env, replace(profile, reads=reads)),
                limits=self.limits(place.folder),
                nonce=run.nonce,
            )
            child = await process.start(command)
        return await self._wait(child, place, run)

    async def resume(self, place: Place, run: Run) -> Ran | None:
        """Wait for a run of an earlier daemon; return None if the run never began.

        If the wait is cancelled, the command is ended as in `run`.
        """
        found = await resumed(run)
        if found is None:
            return None
        if isinstance(found, process.Child):
            return await self._wait(found, place, run)
        return await _ran(found, place, run, root=self.machine.root)

    async def _wait(self, child: process.Child, place: Place, run: Run) -> Ran:
        try:
            ended = await child.wait()
        except anyio.get_cancelled_exc_class():
            is_noted = bool(run.nonce)
            if not (is_noted and self.underway.leaves()):
                # The stop ladder alone limits the time.
                with anyio.CancelScope(shield=True), faults.step("command.stop"):
                    await child.stop(grace_s=0)
            raise
        return await _ran(ended, place, run, root=self.machine.root)


async def _ran(ended: process.Exit, place: Place, run: Run, *, root: Path) -> Ran:
    with suppress(OSError), faults.step("tree.enter"):
        disk.reopen(place.tree)
    log = run.folder / "output.log"
    where = log.relative_to(root) if log.is_relative_to(root) else log
    wrote = written(place.layers / run.folder.name)
    tail = await to_thread.run_sync(tail_of, run.folder)
    return Ran(
        exit=ended,
        tail=tail,
        log=log,
        where=str(where),
        wrote=wrote if wrote.is_dir() else None,
    )
