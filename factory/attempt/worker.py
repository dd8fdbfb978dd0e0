"""One worker: prepares, runs, watches and snapshots the attempt on its hook, then empties the hook.

Invariant: the transaction that records the attempt's end also empties the hook, and it happens
after all processes of the attempt have ended and its tree is kept. If a daemon dies before that,
the next daemon finds the unit on the hook and continues from the run dir.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from factory.agents.output import OutputReader, Seen
from factory.agents.runtime import Runtime, check_home
from factory.agents.usage import of_session
from factory.attempt import remarks, too_big, triage
from factory.attempt.hook_records import HookRecords
from factory.attempt.launch import Launch
from factory.attempt.left import Left, as_ended, ask_about, ending, how_it_ended
from factory.attempt.outbox import read_outbox
from factory.attempt.outcomes import Outcomes
from factory.attempt.parts import parts_of
from factory.attempt.preparation import Preparation
from factory.attempt.remains import Remains
from factory.attempt.run import NotStarted, Patience, Run
from factory.child import process
from factory.child.process import Child, Exit
from factory.dispatch.agents import shell_runtime, the_runtime
from factory.dispatch.ledger import Ledger, Meter
from factory.ground import faults
from factory.ground.daemon_state import Stopping, now
from factory.ground.errors import ConfigError, Fenced
from factory.ground.log import RUN_BROKE, bound, log
from factory.ground.regular import is_real
from factory.ground.signal import Signal
from factory.judging.rulings import Ruling, Rulings
from factory.people import line_cards
from factory.people.causes import Ask
from factory.repo.workspaces import Snapshot, Workspace, Workspaces
from factory.store.journal import Event
from factory.store.names import is_taken
from factory.store.records import Attempt, Hook
from factory.store.spec import Spec
from factory.store.unit import EndReason

ELSEWHERE = "another attempt has used its workspace since"
LOOK_SECONDS = 1.0  # seconds between reads of a running agent's output


class Worker:
    """The loop of one hook."""

    def __init__(
        self,
        records: HookRecords,
        *,
        rulings: Rulings,
        workspaces: Workspaces,
        launch: Launch,
        outcomes: Outcomes,
    ) -> None:
        self.name = records.worker
        self._records = records
        self._state = records.state
        self._rulings = rulings
        self._workspaces = workspaces
        self._outcomes = outcomes
        self._preparation = Preparation(records, workspaces=workspaces, launch=launch)
        self._remains = Remains(records, workspaces)
        self._bell = Signal()
        self.busy = False

    def wake(self) -> None:
        """Make the worker check its hook again."""
        self._bell.send()

    async def run(self) -> None:
        """Work on each attempt that the pool puts on the hook, until the hook is gone."""
        name = f"worker {self.name}"
        while True:
            hook = self._records.hook()
            if hook.state == "gone":
                break
            if hook.unit and self._state.stopping is not Stopping.LEAVE:
                # Guarded, because even giving up may fail (disk full).
                await self._state.guarded(name, self._run, hook)
            else:
                self._state.mended(name)  # no failed run is waiting for another try
                await self._bell.wait()
        self._state.mended(name)

    async def _run(self, hook: Hook) -> None:
        self.busy = True
        try:
            with bound(worker=self.name, unit=hook.unit, attempt=hook.attempt):
                if not self._handed_back(hook):
                    await self._attempt(hook)
        except Exception as error:
            if self._state.is_passing(error):
                # Do not give the attempt up: when the cause is gone, the run continues from its run
                # dir.
                raise
            log.exception(RUN_BROKE)
            await self._give_up(hook)
        finally:
            self.busy = False

    def _handed_back(self, hook: Hook) -> bool:
        """Hand back an attempt that cannot begin because trunk was renamed while no daemon ran."""
        attempt = self._records.store.get(Attempt, hook.unit, hook.attempt)
        if attempt is None or attempt.end or attempt.base or self._rulings.tip:
            return False
        why = "there was no trunk to start from"
        ended = replace(attempt, end=now(), reason=EndReason.HANDED_BACK, detail=why)
        self._outcomes.finish(ended, hook=self._records.hook(), at=now())
        return True

    async def _attempt(self, hook: Hook) -> None:
        unit, attempt, spec = self._records.facts(hook)
        base = attempt.base or self._rulings.tip
        ruling = await self._rulings.of(base)
        runtime, trouble = self._runtime(attempt, spec, ruling)
        workspace = self._workspaces.at(hook.workspace, keeps=ruling.rules.setup.keeps)
        where = str(workspace.tree.relative_to(self._state.places.work))
        run = Run(
            hook=hook,
            unit=unit,
            attempt=replace(attempt, base=base, workspace=where),
            spec=spec,
            ruling=ruling,
            runtime=runtime,
            workspace=workspace,
            run_dir=self._records.run_dir(attempt),
        )
        if trouble:
            self._finish_early(run, trouble)
            return
        running = await self._underway(run)
        if running is None:
            begun = await self._preparation.begin(run)
            if isinstance(begun, NotStarted):
                self._finish_early(run, begun)
                return
            run, running = begun
        await self._see_through(run, running)

    def _runtime(
        self, attempt: Attempt, spec: Spec, ruling: Ruling
    ) -> tuple[Runtime, NotStarted | None]:
        """Return what runs the attempt, or why it cannot run."""
        try:
            if spec.run:
                runtime = shell_runtime(spec.run)
            else:
                runtime = the_runtime(attempt.agent, ruling.conventions)
            check_home(runtime, self._state.environ)
        except ConfigError as error:
            why = str(error)
            card = line_cards.runtime_trouble(attempt.agent, why, evidence=why)
            return shell_runtime("exit 1"), NotStarted(EndReason.HANDED_BACK, why, card)
        return runtime, None

    async def _underway(self, run: Run) -> Child | Exit | None:
        """Return what an earlier daemon started for exactly this attempt."""
        if not (run.run_dir / "start.json").exists():
            if run.run_dir.exists():
                # A daemon died here. It may have just started a process that has not written
                # start.json yet.
                await _end(run.run_dir)
            return None
        found = await process.adopt(run.run_dir, run.attempt.nonce)
        if isinstance(found, Child):
            self._records.store.write(
                Event.ATTEMPT_ADOPTED,
                now=now(),
                unit=run.unit.id,
                attempt=run.attempt.number,
                worker=self.name,
            )
        return found

    # ── while it runs ──

    async def _see_through(self, run: Run, running: Child | Exit) -> None:
        earlier = of_session(self._records.store, run.attempt)
        reader = OutputReader(run.runtime, run.run_dir, earlier=earlier, model=run.spec.model)
        stopped: EndReason | None = None
        ended: Exit | None
        if isinstance(running, Child):
            ended, stopped = await self._watch(run, running, reader)
        else:
            ended = running
        if ended is None:  # the agent keeps running, and the next daemon adopts it
            return
        if ended.cause == "exited" and ended.code and self._state.was_full(run.attempt.start):
            # The attempt did not cause this error.
            ended = replace(ended, cause="lost", detail="the disk was full while it ran")
        seen = await reader.finish(now)
        self._records.still_ours()
        run = await self._remains.quarantined(run, ended)
        if self._workspaces.claimed_by(run.workspace.name) == run.attempt.nonce:
            kept, snapshot = await self._remains.kept(run.attempt, run.workspace, run.unit.title)
        else:
            kept, snapshot = await self._remains.kept_before(run.attempt)
            if not kept.ref:
                ended = replace(ended, cause="lost", detail=ELSEWHERE)
        run = self._remains.spared(run, snapshot)
        left = await self._left(run, ended, seen, snapshot, stopped)
        await self._conclude(run, kept, left)

    async def _watch(
        self, run: Run, child: Child, reader: OutputReader
    ) -> tuple[Exit | None, EndReason | None]:
        """Read the output and enforce the deadlines until the attempt has ended.

        Returns no exit if the attempt keeps running for the next daemon.
        """
        patience = Patience(child, idle_cpu=run.runtime.output.idle_cpu)
        meter = Meter()
        while True:
            with anyio.move_on_after(LOOK_SECONDS):
                return await child.wait(), None
            if self._state.stopping is Stopping.LEAVE:
                return None, None
            seen = await reader.catch_up(now)
            known = replace(run.attempt, session=seen.session or run.attempt.session)
            ledger = Ledger(self._records.store, self._state.settings.budget, now())
            known, is_over = meter.read(ledger, known, seen.usage)
            if known != run.attempt:
                run = replace(run, attempt=known)
                self._records.note(run.attempt, Event.ATTEMPT_NOTED)
            reason = self._stop_reason(run, seen, patience)
            is_done = bool(run.runtime.output.done_if) and seen.done  # then it uses no more tokens
            if reason is None and is_over and not is_done:
                reason = EndReason.OVER_BUDGET
            if reason:
                self._records.still_ours()
                with faults.step("agent.stop"):
                    return await child.stop(), reason

    def _stop_reason(self, run: Run, seen: Seen, patience: Patience) -> EndReason | None:
        limits = self._state.settings.limits
        reason = self._records.ends(run)
        if reason:
            return reason
        if seen.limited:
            return EndReason.LIMIT
        if run.spec.run:
            return None
        if seen.looping:
            return EndReason.NO_PROGRESS
        if patience.worn_out(seen, first_event_s=limits.first_event_s, silence_s=limits.silence_s):
            return EndReason.SILENT
        return None

    # ── when it has ended ──

    async def _left(
        self,
        run: Run,
        ended: Exit,
        seen: Seen,
        snapshot: Snapshot,
        stopped: EndReason | None,
    ) -> Left:
        store = self._records.store
        box = await anyio.to_thread.run_sync(read_outbox, run.outbox)
        taken = partial(is_taken, store, self._state.places)
        parts, no_split = parts_of(run.unit, run.spec, box.split, store=store, taken=taken)
        return Left(
            ended=ended,
            seen=seen,
            box=box,
            snapshot=snapshot,
            changed=snapshot.changed,
            stopped=stopped,
            parts=parts,
            no_split=no_split,
        )

    async def _conclude(self, run: Run, kept: Attempt, left: Left) -> None:
        """Decide why the attempt ended, and record it."""
        snapshot = left.snapshot
        put_off = await self._put_off(run, kept, snapshot)
        if put_off and put_off.idle:
            left = replace(left, changed=False)
        reason = triage.classify(ending(run, left))
        reason, ask = too_big.ruled(reason, snapshot, run.unit, run.workspace)
        detail = how_it_ended(reason, left)
        if ask and snapshot.too_big:
            detail = snapshot.too_big.sentence
        attempt = as_ended(kept, left, reason, detail=detail, at=now())
        if put_off:
            attempt = put_off.end(attempt)
            if put_off.idle and attempt.reason is EndReason.SUBMITTED:
                commit = await self._remains.keep(attempt, run.unit.title)
                attempt = replace(attempt, commit=commit)
        self._settle(run, attempt, left, ask)

    async def _put_off(
        self, run: Run, attempt: Attempt, snapshot: Snapshot
    ) -> remarks.PutOff | None:
        if snapshot.too_big or run.unit.fresh:
            return None
        return await remarks.work_put_off(
            self._records.store.select(Attempt, unit=run.unit.id),
            attempt,
            snapshot,
            workspaces=self._workspaces,
            diff=run.run_dir / "before.diff",
        )

    def _settle(
        self,
        run: Run,
        attempt: Attempt,
        left: Left,
        ask: Ask | None = None,
    ) -> None:
        """Record the end of the attempt in one transaction, with a card if it needs a person."""
        at = now()
        asked = left.box.question
        with self._records.store.transaction():
            if attempt.reason is EndReason.ASKED and asked:
                self._outcomes.remark(run.unit.id, "question", asked.text, at=at)
            self._outcomes.finish(
                attempt,
                hook=self._records.hook(),
                at=at,
                ask=ask_about(run, attempt, left) or ask,
                reset=left.seen.reset,
                parts=left.parts,
            )

    # ── odd ends ──

    def _finish_early(self, run: Run, why: NotStarted) -> None:
        ended = replace(
            run.attempt,
            end=now(),
            reason=why.reason,
            detail=why.detail,
            reserved_usd=0.0,
            reserved_tokens=0,
            reserved_minutes=0.0,
        )
        self._outcomes.finish(ended, hook=self._records.hook(), at=now(), ask=why.ask)

    async def _give_up(self, hook: Hook) -> None:
        """Handle an error of the run itself: end its processes, keep its tree, release the unit."""
        attempt = self._records.store.get(Attempt, hook.unit, hook.attempt)
        if attempt is None or attempt.end is not None:
            self._outcomes.let_go(self._records.hook(), at=now())
            return
        run_dir = self._records.run_dir(attempt)
        await _end(run_dir)
        has_run = attempt.pid or (run_dir / "start.json").exists()
        # If the daemon dies from here on, the next run finds the workspace by its claim.
        name = self._workspaces.where(hook.workspace, attempt.nonce)
        if name == hook.workspace:
            name = self._workspaces.abandon(name).name
        aside = self._workspaces.at(name)
        detail = "factoryd itself failed on it; the traceback is in .factory/daemon.log"
        lost = replace(attempt, end=now(), reason=EndReason.LOST, detail=detail)
        # If this fails too, the tree stays in the workspace. The keeper later keeps the tree before
        # it deletes the workspace.
        if has_run and is_real(aside.tree):  # if not, the tree belongs to another attempt
            lost = await self._rescued(lost, aside)
        try:
            self._outcomes.finish(lost, hook=self._records.hook(), at=now())
        except Fenced:  # the unit continued with a newer attempt
            self._outcomes.let_go(self._records.hook(), lost, at=now())

    async def _rescued(self, lost: Attempt, aside: Workspace) -> Attempt:
        """Return the attempt with the tree in its workspace, if that can be kept."""
        try:
            kept, _ = await self._remains.kept(lost, aside, "Rescued")
        except Exception as error:
            if self._state.is_passing(error):
                raise
            log.exception(RUN_BROKE)
            return lost
        return kept


@faults.during("agent.end")
async def _end(run_dir: Path) -> None:
    await process.end(run_dir)
