"""One worker: whatever hangs on its hook is prepared, run, watched, snapshotted and taken off.

Invariant: the hook is emptied in the transaction that records the attempt's end, after all that the attempt started has
ended and its tree is kept; a daemon that dies before finds the hook full and goes on from what lies in the run dir.
"""

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from factory.agents.output import OutputReader, Seen
from factory.agents.runtime import check_home
from factory.agents.usage import of_session
from factory.attempt import homes, remarks, too_big, triage
from factory.attempt.digest import digest
from factory.attempt.homes import owner
from factory.attempt.launch import Launch
from factory.attempt.outbox import Outbox, read_outbox
from factory.attempt.outcomes import Outcomes
from factory.attempt.parts import parts_of
from factory.attempt.run import (
    NotStarted,
    Patience,
    Run,
    ending,
    how_it_ended,
    last_words,
    odd_about,
)
from factory.attempt.workplace import Start, Workplace, hand_over, place_of, prepare, without_builds
from factory.child import process
from factory.child.process import Child, Exit
from factory.child.users import users
from factory.dispatch.agents import shell_runtime, the_runtime
from factory.dispatch.ledger import Ledger, Meter, metered
from factory.ground import disk, faults
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.errors import ConfigError, FactoryError, Fenced, NoRoom
from factory.ground.log import RUN_BROKE, bound, log
from factory.ground.signal import Signal
from factory.inbox.split import Part, told
from factory.judging.judge import Judge
from factory.judging.ruled import setup_card
from factory.judging.setups import SetupFailed
from factory.judging.standing import Ready
from factory.people import cards as words
from factory.people.cards import Ask
from factory.repo.archive import ATTEMPTS
from factory.repo.checkouts import is_real
from factory.repo.message import RUN
from factory.repo.workspaces import Conflict, Snapshot, Workspace, Workspaces
from factory.store.accepted import NoMarkdown, spec_of
from factory.store.journal import Event
from factory.store.names import is_taken
from factory.store.ports import Store
from factory.store.records import Attempt, Hook, Remark
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit, UnitState

ELSEWHERE = "another attempt has worked in its workspace since"
T = TypeVar("T")
LOOK_SECONDS = 1.0  # how often the output of a running agent is read


class Worker:
    """The loop of one hook."""

    def __init__(
        self,
        name: str,
        *,
        store: Store,
        state: DaemonState,
        judge: Judge,
        workspaces: Workspaces,
        launch: Launch,
        outcomes: Outcomes,
    ) -> None:
        self.name = name
        self._store, self._state, self._judge = store, state, judge
        self._workspaces, self._launch, self._outcomes = workspaces, launch, outcomes
        self._bell = Signal()
        self.busy = False

    def wake(self) -> None:
        """Look at the hook again."""
        self._bell.send()

    async def run(self) -> None:
        """Work off whatever hangs on the hook, until the hook is gone."""
        while (hook := self._hook()).state != "gone":
            if hook.unit and self._state.stopping is not Stopping.LEAVE:
                await self._state.guarded(
                    f"worker {self.name}", self._run, hook
                )  # even giving up may fail (disk full)
            else:
                await self._bell.wait()

    async def _run(self, hook: Hook) -> None:
        self.busy = True
        try:
            with bound(worker=self.name, unit=hook.unit, attempt=hook.attempt):
                if not self._handed_back(hook):
                    await self._attempt(hook)
        except Exception as error:
            if self._state.is_passing(error):
                raise  # nothing is given up: once that has passed, the run goes on from what lies in the run dir
            log.exception(RUN_BROKE)
            await self._give_up(hook)
        finally:
            self.busy = False

    def _handed_back(self, hook: Hook) -> bool:
        """End an attempt that cannot begin, since trunk was renamed away while no daemon ran."""
        attempt = self._store.get(Attempt, hook.unit, hook.attempt)
        if attempt is None or attempt.end or attempt.base or self._judge.rulings.tip:
            return False
        why = "there was no trunk to start from"
        ended = replace(attempt, end=now(), reason=EndReason.HANDED_BACK, detail=why)
        self._outcomes.finish(ended, hook=self._hook(), at=now())
        return True

    async def _attempt(self, hook: Hook) -> None:
        unit, attempt, spec = self._facts(hook)
        base = attempt.base or self._judge.rulings.tip
        ruling = await self._judge.rulings.of(base)
        try:
            runtime = (
                shell_runtime(spec.run)
                if spec.run
                else the_runtime(attempt.agent, ruling.conventions)
            )
            check_home(runtime, self._state.environ)
        except ConfigError as error:
            runtime = shell_runtime("exit 1")
            trouble: NotStarted | None = NotStarted(
                EndReason.HANDED_BACK,
                str(error),
                words.runtime_trouble(attempt.agent, str(error), evidence=str(error)),
            )
        else:
            trouble = None
        workspace = self._workspaces.at(hook.workspace, keeps=ruling.rules.setup.keeps)
        run = Run(
            hook=hook,
            unit=unit,
            attempt=replace(attempt, base=base, workspace=self._named(workspace)),
            spec=spec,
            ruling=ruling,
            runtime=runtime,
            workspace=workspace,
            run_dir=self._run_dir(attempt),
        )
        if trouble:
            self._finish_early(run, trouble)
            return
        running = await self._underway(run)
        if running is None:
            begun = await self._begin(run)
            if isinstance(begun, NotStarted):
                self._finish_early(run, begun)
                return
            run, running = begun
        await self._see_through(run, running)

    # ── before the agent runs ──

    async def _underway(self, run: Run) -> Child | Exit | None:
        """What an earlier daemon started for this very attempt."""
        if not (run.run_dir / "start.json").exists():
            if (
                run.run_dir.exists()
            ):  # a daemon died here: what it was just starting has not told of itself yet
                await _end(run.run_dir)
            return None
        found = await process.adopt(run.run_dir, run.attempt.nonce)
        if isinstance(found, Child):
            self._store.write(
                Event.ATTEMPT_ADOPTED,
                now=now(),
                unit=run.unit.id,
                attempt=run.attempt.number,
                worker=self.name,
            )
        return found

    async def _begin(self, run: Run) -> tuple[Run, Child] | NotStarted:
        """Prepare the workspace and start the agent."""
        earlier = self._earlier(run.attempt)
        resumed = earlier if earlier and run.unit.resume and self._resumable(run, earlier) else None
        if resumed:
            run = replace(
                run,
                attempt=replace(
                    run.attempt, base=resumed.base, session=resumed.session, resumed=True
                ),
            )
        # The base first: whatever happens from here on, the tree in this workspace is a change of that commit.
        self._note(run.attempt, Event.ATTEMPT_NOTED)
        with faults.step("attempt.files"):
            run.outbox.mkdir(parents=True, exist_ok=True)
            (run.run_dir / "tmp").mkdir(exist_ok=True)
            run.own.mkdir(exist_ok=True)
            self._copy_task(run.unit.id)
        carried, conflict = (resumed.tree, None) if resumed else await self._carry(run, earlier)
        workplace, ready = await self._prepared(run, carried)
        if isinstance(ready, EndReason):
            return NotStarted(ready, "it was ended while its workspace was being prepared")
        if isinstance(ready, SetupFailed) and self._state.no_room():
            raise NoRoom(ready.sentence)
        if isinstance(ready, SetupFailed):
            return NotStarted(EndReason.SETUP_FAILED, ready.sentence, setup_card(ready))
        await self._launch.ready_home(run, owner(run.unit))
        hand_over(workplace, owner(run.unit))
        # What is said from here on is not in the prompt. Noted first: a daemon that dies after the start adopts it so.
        heard = remarks.newest(self._store.select(Remark, unit=run.unit.id))
        run = replace(run, workspace=workplace.workspace, attempt=replace(run.attempt, heard=heard))
        if heard:
            self._note(run.attempt, Event.ATTEMPT_NOTED)
        try:
            command = self._launch.command(
                run, earlier, carried=bool(carried), conflict=conflict, place=workplace.place
            )
        except ConfigError as error:
            card = words.wrong_prompt(str(error), run.ruling.conventions.prompts_key)
            return NotStarted(EndReason.HANDED_BACK, str(error), card)
        except NoMarkdown as error:
            return NotStarted(
                EndReason.HANDED_BACK, str(error), words.no_markdown(run.unit, run.spec.name)
            )
        # World first: a daemon that dies between the two finds start.json in the run dir and adopts.
        self._still_ours()
        with faults.step("agent.start"):
            child = await process.start(command)
        run = replace(run, attempt=replace(run.attempt, pid=child.identity.pid))
        working = replace(self._hook(), phase="working", since=now())
        self._note(run.attempt, Event.ATTEMPT_STARTED, working)
        return run, child

    async def _prepared(
        self, run: Run, carried: str
    ) -> tuple[Workplace, Ready | SetupFailed | EndReason]:
        """Its workspace, which shows what it starts from and nothing that another unit left, and its environment."""
        environments, setup = self._launch.environments, run.ruling.rules.setup
        start = Start(
            workspace=run.hook.workspace,
            index=run.hook.index,
            owner=owner(run.unit),
            base=run.attempt.base,
            nonce=run.attempt.nonce,
            carried=carried,
            resumed=run.attempt.resumed,
            setup=setup,
        )
        # Before anything there is touched: the setup of an earlier daemon may be under way.
        place = await place_of(start, self._workspaces)
        failed = await self._unless_told(run, partial(environments.setups.go_on, place, setup))
        if failed is not None:
            return Workplace(run.workspace, place, warm=False), failed
        workplace = await prepare(start, self._workspaces)
        make = partial(environments.ready, workplace.place, setup, verify=not workplace.warm)
        return workplace, await self._unless_told(run, make)

    async def _unless_told(self, run: Run, call: Callable[[], Awaitable[T]]) -> T | EndReason:
        """Do what can take very long, unless the unit is cancelled or handed back meanwhile."""
        done: list[T | EndReason] = []

        async def watch() -> None:
            while not (told := self._told(run)):  # noqa: ASYNC110 - no signal is sent for one unit
                await anyio.sleep(LOOK_SECONDS)
            done.append(told)
            both.cancel_scope.cancel()

        async with anyio.create_task_group() as both:
            both.start_soon(watch)
            done.append(await call())
            both.cancel_scope.cancel()
        return done[-1]

    async def _carry(self, run: Run, earlier: Attempt | None) -> tuple[str, Conflict | None]:
        """The tree of the earlier attempt on the newest trunk, where this one goes on from it."""
        if earlier is None or run.unit.fresh or not earlier.tree or run.spec.run:
            return "", None
        carried = await self._workspaces.carry(
            earlier.commit, onto=run.attempt.base, diff=run.run_dir / "before.diff"
        )
        return ("", carried) if isinstance(carried, Conflict) else (carried, None)

    def _resumable(self, run: Run, earlier: Attempt) -> bool:
        """Sessions live where they were born: in the same workspace, with a runtime that can."""
        same = earlier.workspace == run.attempt.workspace and earlier.agent == run.attempt.agent
        return bool(same and earlier.session and run.runtime.resume)

    # ── while it runs, and after ──

    async def _see_through(self, run: Run, running: Child | Exit) -> None:
        earlier = of_session(self._store, run.attempt)
        reader = OutputReader(run.runtime, run.run_dir, earlier=earlier, model=run.spec.model)
        stopped: EndReason | None = None
        if isinstance(running, Child):
            ended, stopped = await self._watch(run, running, reader)
        else:
            ended = running
        if self._state.stopping is Stopping.LEAVE and stopped is None and ended is None:
            return
        assert ended is not None
        if ended.cause == "exited" and ended.code and self._state.was_full(run.attempt.start):
            ended = replace(
                ended, cause="lost", detail="the disk was full while it ran"
            )  # which is not its fault
        seen = await reader.finish(now)
        self._still_ours()
        run = await self._quarantine(run, ended)
        if self._workspaces.claimed_by(run.workspace.name) != run.attempt.nonce:
            kept, snapshot = await self._kept_before(run.attempt)
            ended = ended if kept.ref else replace(ended, cause="lost", detail=ELSEWHERE)
        else:
            kept, snapshot = await self._kept(run.attempt, run.workspace, run.unit.title)
        run = self._kept_whole(run, snapshot)
        box = await anyio.to_thread.run_sync(read_outbox, run.outbox)
        taken = partial(is_taken, self._store, self._state.places)
        parts, no_split = parts_of(run.unit, run.spec, box.split, store=self._store, taken=taken)
        whole = snapshot.too_big is None
        put_off = await self._put_off(run, kept, snapshot) if whole and not run.unit.fresh else None
        changed = snapshot.changed and not (put_off and put_off.idle)
        end = ending(run, ended, seen, box, stopped, changed=changed, split=bool(parts))
        reason, ask = too_big.ruled(triage.classify(end), snapshot, run.unit, run.workspace)
        missing = ended.cause in ("unstartable", "unconfined")
        notes = odd_about(
            snapshot, box, seen, no_split="" if reason is EndReason.EMPTY else no_split
        )
        detail = how_it_ended(
            reason, ended, seen, gone=snapshot.gone, parts=told(parts) or no_split
        )
        detail = snapshot.too_big.sentence if ask and snapshot.too_big else detail
        attempt = replace(
            metered(kept, seen.usage),
            end=now(),
            reason=reason,
            detail=detail,
            # Of a submission the judge says what went wrong; what was odd about it is told beside that.
            digest="\n".join(notes)
            if reason is EndReason.SUBMITTED
            else digest(reason, detail=detail, said=last_words(seen), notes=notes),
            summary=box.done,
            said=last_words(seen)[-4000:],
            handoff=box.handoff,
            session=seen.session or run.attempt.session,
            # What it has not told is charged as it was held back: nobody knows that it was less.
            reserved_usd=0.0 if seen.usage.priced or missing else kept.reserved_usd,
            reserved_tokens=0 if seen.tells_tokens or missing else kept.reserved_tokens,
        )
        if put_off:
            attempt = put_off.end(attempt)
            if put_off.idle and attempt.reason is EndReason.SUBMITTED:
                attempt = replace(attempt, commit=await self._keep(attempt, run.unit.title))
        self._settle(run, attempt, box, seen, missing=missing, parts=parts, ask=ask)

    def _kept_whole(self, run: Run, snapshot: Snapshot) -> Run:
        """Put a workspace aside of which the snapshot lacks something for its size: it stays as it is."""
        if snapshot.too_big is None or run.workspace.name != run.hook.workspace:
            return run
        return self._put_aside(run)

    async def _put_off(
        self, run: Run, attempt: Attempt, snapshot: Snapshot
    ) -> remarks.PutOff | None:
        before, diff = self._store.select(Attempt, unit=run.unit.id), run.run_dir / "before.diff"
        return await remarks.work_put_off(
            before, attempt, snapshot, workspaces=self._workspaces, diff=diff
        )

    async def _watch(
        self, run: Run, child: Child, reader: OutputReader
    ) -> tuple[Exit | None, EndReason | None]:
        """Read the output and hold the deadlines until the attempt has ended, by itself or by us."""
        patience, meter = Patience(child, idle_cpu=run.runtime.output.idle_cpu), Meter()
        while True:
            with anyio.move_on_after(LOOK_SECONDS):
                return await child.wait(), None
            if self._state.stopping is Stopping.LEAVE:
                return None, None
            seen = await reader.catch_up(now)
            known = replace(run.attempt, session=seen.session or run.attempt.session)
            known, over = meter.read(
                Ledger(self._store, self._state.settings.budget, now()), known, seen.usage
            )
            if known != run.attempt:
                run = replace(run, attempt=known)
                self._note(run.attempt, Event.ATTEMPT_NOTED)
            finished = bool(run.runtime.output.done_if) and seen.done  # then it uses nothing more
            reason = self._stop_reason(run, seen, patience) or (
                EndReason.OVER_BUDGET if over and not finished else None
            )
            if reason:
                self._still_ours()
                with faults.step("agent.stop"):
                    return await child.stop(), reason

    def _told(self, run: Run) -> EndReason | None:
        """Why a person wants it to end, if one does."""
        unit = self._store.get(Unit, run.unit.id)
        if (
            unit is None
            or unit.state is not UnitState.RUNNING
            or unit.attempt != run.attempt.number
        ):
            return EndReason.CANCELLED
        return EndReason.HANDED_BACK if self._state.stopping is Stopping.HAND_BACK else None

    def _stop_reason(self, run: Run, seen: Seen, patience: "Patience") -> EndReason | None:
        limits = self._state.settings.limits
        if told := self._told(run):
            return told
        if seen.limited:
            return EndReason.LIMIT
        if run.spec.run:
            return None
        if seen.looping:
            return EndReason.NO_PROGRESS
        if patience.worn_out(seen, first_event_s=limits.first_event_s, silence_s=limits.silence_s):
            return EndReason.SILENT
        return None

    def _settle(
        self,
        run: Run,
        attempt: Attempt,
        box: Outbox,
        seen: Seen,
        *,
        missing: bool,
        parts: Sequence[Part],
        ask: Ask | None = None,
    ) -> None:
        """The one transaction that ends the attempt, with the card where a person is needed."""
        at = now()
        with self._store.transaction():
            if attempt.reason is EndReason.ASKED and box.question:
                asked = box.question
                ask = words.question(
                    run.unit,
                    asked.text,
                    asked.options,
                    default=asked.default_key,
                    deadline_s=asked.deadline_s,
                )
                self._outcomes.remark(run.unit.id, "question", asked.text, at=at)
            elif attempt.reason is EndReason.AUTH:
                login = run.runtime.doctor.login
                ask = words.not_logged_in(
                    attempt.agent, login, evidence=attempt.said or attempt.detail
                )
            elif attempt.reason is EndReason.SETUP_FAILED:
                ask = words.unconfined(attempt.detail)
            elif attempt.reason is EndReason.HANDED_BACK and missing:
                sentence = f"{attempt.agent} could not be started: {attempt.detail}"
                ask = words.runtime_trouble(attempt.agent, sentence, evidence=attempt.detail)
            self._outcomes.finish(
                attempt, hook=self._hook(), at=at, ask=ask, reset=seen.reset, parts=parts
            )

    # ── odd ends ──

    def _finish_early(self, run: Run, why: NotStarted) -> None:
        free = replace(run.attempt, reserved_usd=0.0, reserved_tokens=0, reserved_minutes=0.0)
        ended = replace(free, end=now(), reason=why.reason, detail=why.detail)
        self._outcomes.finish(ended, hook=self._hook(), at=now(), ask=why.ask)

    async def _quarantine(self, run: Run, ended: Exit) -> Run:
        """Where something of the attempt may still run, its workspace is snapshotted and never used again.

        One that was put aside already, by a run that was broken off then, is snapshotted where it lies.
        """
        name = self._workspaces.where(run.hook.workspace, run.attempt.nonce)
        run = replace(run, workspace=self._workspaces.at(name, keeps=run.workspace.keeps))
        # Who watched it is dead: what left its group and shed its marker can still be seen at work.
        unseen = ended.cause == "lost" and await anyio.to_thread.run_sync(_is_used, run.workspace)
        if not (ended.left or unseen) or name != run.hook.workspace:
            return run
        return self._put_aside(run)

    def _put_aside(self, run: Run) -> Run:
        """The run with its workspace under another name, where nobody will work again."""
        aside = self._workspaces.abandon(run.workspace.name)
        event, unit = Event.WORKSPACE_ABANDONED, run.unit.id
        self._store.write(event, now=now(), worker=self.name, unit=unit, path=str(aside))
        return replace(run, workspace=self._workspaces.at(aside.name, keeps=run.workspace.keeps))

    async def _give_up(self, hook: Hook) -> None:
        """The run itself broke: end what it started, keep what there is, and let the unit go on elsewhere."""
        attempt = self._store.get(Attempt, hook.unit, hook.attempt)
        if attempt is None or attempt.end is not None:
            self._outcomes.let_go(self._hook(), at=now())
            return
        run_dir = self._run_dir(attempt)
        await _end(run_dir)
        ran = attempt.pid or (run_dir / "start.json").exists()
        # Broken off from here on, the next run finds it by the claim in it.
        name = self._workspaces.where(hook.workspace, attempt.nonce)
        name = self._workspaces.abandon(name).name if name == hook.workspace else name
        aside = self._workspaces.at(name)
        detail = "the factory itself broke on it; the traceback is in .factory/daemon.log"
        lost = replace(attempt, end=now(), reason=EndReason.LOST, detail=detail)
        # Where this breaks too, the tree lies there as it is, and the keeper takes it before it deletes anything.
        if ran and is_real(aside.tree):  # else the tree is another attempt's
            lost = await self._rescued(lost, aside)
        try:
            self._outcomes.finish(lost, hook=self._hook(), at=now())
        except Fenced:  # the unit went on without it
            self._outcomes.let_go(self._hook(), lost, at=now())

    async def _rescued(self, lost: Attempt, aside: Workspace) -> Attempt:
        """The attempt with what lies in its workspace, where that can be taken."""
        try:
            return (await self._kept(lost, aside, "Rescued"))[0]
        except Exception as error:
            if self._state.is_passing(error):
                raise
            log.exception(RUN_BROKE)
            return lost

    async def _kept(
        self, attempt: Attempt, workspace: Workspace, title: str
    ) -> tuple[Attempt, Snapshot]:
        """The attempt with its tree, which a ref keeps from now on."""
        run_dir, home = (
            self._run_dir(attempt),
            homes.place(self._state.places.work, attempt.worker, attempt.agent),
        )
        with faults.step("attempt.disarm"):
            await anyio.to_thread.run_sync(disk.disarm, workspace.place, run_dir, home)
        workspace = await without_builds(workspace)
        snapshot = await self._workspaces.snapshot(workspace, base=attempt.base, aside=run_dir)
        if snapshot.gone:
            before = await self._kept_before(attempt)  # by a run that was broken off then
            if before[1].changed:
                return before
        if snapshot.left_out and self._state.no_room():
            raise NoRoom(snapshot.left_out)
        commit = await self._keep(replace(attempt, tree=snapshot.tree), title)
        ref, tree = (
            f"{ATTEMPTS}{attempt.unit}/{attempt.number}",
            snapshot.tree if snapshot.changed else "",
        )
        return replace(
            attempt, ref=ref, commit=commit, tree=tree, left_out=snapshot.lacking
        ), snapshot

    async def _keep(self, attempt: Attempt, title: str) -> str:
        """Let the attempt's ref hold its tree; the commit."""
        mark = f"\n{RUN}: {attempt.nonce}\n" if attempt.nonce else ""
        message = f"{title}\n\nAttempt {attempt.number} of {attempt.unit}\n{mark}"
        return await self._workspaces.keep(
            attempt.unit, attempt.number, tree=attempt.tree, base=attempt.base, message=message
        )

    async def _kept_before(self, attempt: Attempt) -> tuple[Attempt, Snapshot]:
        """The attempt with the tree that a ref keeps of it: another attempt works in its workspace by now."""
        base_tree = await self._workspaces.tree_of(attempt.base)
        commit = await self._workspaces.kept(attempt.unit, attempt.number, nonce=attempt.nonce)
        if not commit:
            return attempt, Snapshot(tree=base_tree, changed=False)
        tree = await self._workspaces.tree_of(commit)
        ref = f"{ATTEMPTS}{attempt.unit}/{attempt.number}"
        changed = tree != base_tree
        known = replace(attempt, ref=ref, commit=commit, tree=tree if changed else "")
        return known, Snapshot(tree=tree, changed=changed)

    def _copy_task(self, unit: str) -> None:
        """Lay the task file beside the run dir, so that whose attempt it is can be told without the store."""
        where, spec = self._state.places, self._store.get(Spec, unit)
        taken = where.intake / "taken" / (spec.source if spec else "")
        copy = where.unit_dir(unit) / taken.name
        if taken.is_file() and not copy.exists():
            part = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(taken, part)
            part.replace(copy)

    # ── records ──

    def _run_dir(self, attempt: Attempt) -> Path:
        return self._state.places.run_dir(attempt.unit, attempt.number)

    def _named(self, workspace: Workspace) -> str:
        return str(workspace.tree.relative_to(self._state.places.work))

    def _still_ours(self) -> None:
        """Raise Deposed where a newer daemon has taken over: it looks after the attempt now."""
        with self._store.transaction():
            pass

    def _hook(self) -> Hook:
        hook = self._store.get(Hook, self.name)
        return hook if hook is not None else Hook(worker=self.name, index=0, state="gone")

    def _facts(self, hook: Hook) -> tuple[Unit, Attempt, Spec]:
        unit, attempt = (
            self._store.get(Unit, hook.unit),
            self._store.get(Attempt, hook.unit, hook.attempt),
        )
        if unit is None or attempt is None:
            raise FactoryError(f"hook {self.name} holds {hook.unit}, of which there is no record")
        return unit, attempt, spec_of(self._store, unit.id)

    def _earlier(self, attempt: Attempt) -> Attempt | None:
        """The newest attempt before this one that left anything; one whose agent never ran is none."""
        every = self._store.select(Attempt, unit=attempt.unit)
        before = [
            each for each in every if each.number < attempt.number and (each.pid or each.tree)
        ]
        return next(
            (each for each in reversed(before) if each.commit), before[-1] if before else None
        )

    def _note(self, attempt: Attempt, event: Event, *hook: Hook) -> None:
        self._store.write(
            event,
            attempt,
            *hook,
            now=now(),
            unit=attempt.unit,
            attempt=attempt.number,
            worker=self.name,
            fence=True,
        )


def _is_used(workspace: Workspace) -> bool:
    return bool(users(workspace.place))


@faults.during("agent.end")
async def _end(run_dir: Path) -> None:
    await process.end(run_dir)
