"""How an attempt begins: its workspace, its starting tree, and the start of its agent.

Invariant: the base is recorded before anything in the workspace changes. The agent starts before
its start is recorded: a later daemon finds the agent by its run dir.
"""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import anyio

from factory.attempt import remarks
from factory.attempt.homes import owner
from factory.attempt.hook_records import HookRecords
from factory.attempt.launch import Launch
from factory.attempt.run import NotStarted, Run
from factory.attempt.workplace import Start, Workplace, hand_over, place_of, prepare
from factory.child import process
from factory.child.process import Child, Command
from factory.ground import faults
from factory.ground.daemon_state import now
from factory.ground.errors import ConfigError, NoRoom
from factory.judging.ruled import setup_card
from factory.judging.setups import SetupFailed
from factory.judging.standing import Ready
from factory.people import cards as words
from factory.people import line_cards
from factory.repo.workspaces import Conflict, Workspaces
from factory.store.accepted import NoMarkdown
from factory.store.journal import Event
from factory.store.records import Attempt, Remark
from factory.store.spec import Spec
from factory.store.unit import EndReason

T = TypeVar("T")
LOOK_SECONDS = 1.0  # seconds between checks whether a person wants the attempt to end


class Preparation:
    """Begins attempts of one worker."""

    def __init__(
        self,
        records: HookRecords,
        *,
        workspaces: Workspaces,
        launch: Launch,
    ) -> None:
        self._records = records
        self._workspaces = workspaces
        self._launch = launch

    async def begin(self, run: Run) -> tuple[Run, Child] | NotStarted:
        """Prepare the workspace and start the agent."""
        earlier = self._records.earlier(run.attempt)
        resumed = earlier if earlier and _is_resumable(run, earlier) else None
        if resumed:
            run = _resumed(run, resumed)
        # Record the base first: from here on, the tree in this workspace is a change to that
        # commit.
        self._records.note(run.attempt, Event.ATTEMPT_NOTED)
        with faults.step("attempt.files"):
            run.outbox.mkdir(parents=True, exist_ok=True)
            (run.run_dir / "tmp").mkdir(exist_ok=True)
            run.own.mkdir(exist_ok=True)
            self._copy_task(run.unit.id)
        conflict = None
        if resumed:
            carried = resumed.tree
        else:
            carried, conflict = await self._carry(run, earlier)
        workplace, ready = await self._prepared(run, carried)
        if isinstance(ready, EndReason):
            return NotStarted(ready, "it was ended while its workspace was being prepared")
        if isinstance(ready, SetupFailed):
            if self._records.state.no_room():
                raise NoRoom(ready.sentence)
            return NotStarted(EndReason.SETUP_FAILED, ready.sentence, setup_card(ready))
        await self._launch.ready_home(run, owner(run.unit))
        hand_over(workplace, owner(run.unit))
        run = self._with_heard(replace(run, workspace=workplace.workspace))
        try:
            command = self._launch.command(
                run,
                earlier,
                carried=bool(carried),
                conflict=conflict,
                place=workplace.place,
            )
        except (ConfigError, NoMarkdown) as error:
            return _not_told(run, error)
        return await self._start(run, command)

    async def _start(self, run: Run, command: Command) -> tuple[Run, Child]:
        # First start the agent, then record it: if a daemon dies in between, the next daemon finds
        # start.json in the run dir and adopts the agent.
        self._records.still_ours()
        with faults.step("agent.start"):
            child = await process.start(command)
        run = replace(run, attempt=replace(run.attempt, pid=child.identity.pid))
        working = replace(self._records.hook(), phase="working", since=now())
        self._records.note(run.attempt, Event.ATTEMPT_STARTED, working)
        return run, child

    def _with_heard(self, run: Run) -> Run:
        """Return the run with the newest remark that its prompt will contain.

        This is recorded before the agent starts, for a later daemon that adopts the attempt.
        """
        said = self._records.store.select(Remark, unit=run.unit.id)
        heard = remarks.newest(said)
        run = replace(run, attempt=replace(run.attempt, heard=heard))
        if heard:
            self._records.note(run.attempt, Event.ATTEMPT_NOTED)
        return run

    async def _prepared(
        self, run: Run, carried: str
    ) -> tuple[Workplace, Ready | SetupFailed | EndReason]:
        """Return the workspace without files of other units, and the environment of the attempt."""
        environments = self._launch.environments
        setup = run.ruling.rules.setup
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
        # Do this before anything in the workspace changes, because the setup that an earlier daemon
        # started may still run.
        place = await place_of(start, self._workspaces)
        failed = await self._unless_ended(run, environments.building(place, setup).go_on)
        if failed is not None:
            return Workplace(run.workspace, place, warm=False), failed
        workplace = await prepare(start, self._workspaces)
        make = partial(environments.ready, workplace.place, setup, verify=not workplace.warm)
        return workplace, await self._unless_ended(run, make)

    async def _unless_ended(self, run: Run, call: Callable[[], Awaitable[T]]) -> T | EndReason:
        """Do a call that may take very long; stop it if the unit is cancelled or handed back."""
        done: list[T | EndReason] = []

        async def watch() -> None:
            while True:
                reason = self._records.ends(run)
                if reason:
                    break
                await anyio.sleep(LOOK_SECONDS)
            done.append(reason)
            both.cancel_scope.cancel()

        async with anyio.create_task_group() as both:
            both.start_soon(watch)
            done.append(await call())
            both.cancel_scope.cancel()
        return done[-1]

    async def _carry(self, run: Run, earlier: Attempt | None) -> tuple[str, Conflict | None]:
        """Return the earlier attempt's tree, merged onto trunk, if this attempt uses it."""
        if earlier is None or run.unit.fresh or not earlier.tree or run.spec.run:
            return "", None
        diff = run.run_dir / "before.diff"
        carried = await self._workspaces.carry(earlier.commit, onto=run.attempt.base, diff=diff)
        if isinstance(carried, Conflict):
            return "", carried
        return carried, None

    def _copy_task(self, unit: str) -> None:
        """Copy the task file next to the run dir, to show which unit the attempt belongs to."""
        spec = self._records.store.get(Spec, unit)
        if spec is None:
            return
        where = self._records.state.places
        taken = where.intake / "taken" / spec.source
        copy = where.unit_dir(unit) / taken.name
        if taken.is_file() and not copy.exists():
            part = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(taken, part)
            part.replace(copy)


def _is_resumable(run: Run, earlier: Attempt) -> bool:
    """Return whether the workspace is the same and the runtime can resume sessions."""
    if not run.unit.resume or not earlier.session or not run.runtime.resume:
        return False
    return earlier.workspace == run.attempt.workspace and earlier.agent == run.attempt.agent


def _resumed(run: Run, earlier: Attempt) -> Run:
    """Return the run, changed so that it continues the session of an earlier attempt."""
    attempt = replace(run.attempt, base=earlier.base, session=earlier.session, resumed=True)
    return replace(run, attempt=attempt)


def _not_told(run: Run, error: ConfigError | NoMarkdown) -> NotStarted:
    """Return the end of an attempt whose prompt cannot be written."""
    if isinstance(error, NoMarkdown):
        card = words.no_markdown(run.unit, run.spec.name)
    else:
        card = line_cards.wrong_prompt(str(error), run.ruling.conventions.prompts_key)
    return NotStarted(EndReason.HANDED_BACK, str(error), card)
