"""What an attempt leaves in its workspace: its tree, which factoryd then keeps in a ref.

Invariant: before factoryd takes the tree, all processes of the attempt have ended, or factoryd will
not use that workspace again.
"""

from dataclasses import replace

from anyio import to_thread

from factory.attempt import homes
from factory.attempt.hook_records import HookRecords
from factory.attempt.run import Run
from factory.attempt.workplace import without_builds
from factory.child.process import Exit
from factory.child.users import users
from factory.ground import disk, faults
from factory.ground.daemon_state import now
from factory.ground.errors import NoRoom
from factory.repo.archive import ATTEMPTS
from factory.repo.message import RUN
from factory.repo.workspaces import Snapshot, Workspace, Workspaces
from factory.store.journal import Event
from factory.store.records import Attempt


class Remains:
    """Keeps the trees that attempts of one worker leave."""

    def __init__(self, records: HookRecords, workspaces: Workspaces) -> None:
        self._records = records
        self._workspaces = workspaces

    async def kept(
        self, attempt: Attempt, workspace: Workspace, title: str
    ) -> tuple[Attempt, Snapshot]:
        """Keep the tree of the attempt in a ref; return the attempt with the tree."""
        state = self._records.state
        run_dir = self._records.run_dir(attempt)
        home = homes.place(state.places.work, attempt.worker, attempt.agent)
        with faults.step("attempt.disarm"):
            await to_thread.run_sync(disk.disarm, workspace.place, run_dir, home)
        workspace = await without_builds(workspace)
        snapshot = await self._workspaces.snapshot(workspace, base=attempt.base, aside=run_dir)
        if snapshot.gone:
            before, known = await self.kept_before(attempt)  # kept by an earlier, interrupted run
            if known.changed:
                return before, known
        if snapshot.left_out and state.no_room():
            raise NoRoom(snapshot.left_out)
        commit = await self.keep(replace(attempt, tree=snapshot.tree), title)
        kept = _with_tree(attempt, snapshot, commit)
        return replace(kept, left_out=snapshot.lacking), snapshot

    async def keep(self, attempt: Attempt, title: str) -> str:
        """Point the attempt's ref at its tree; return the commit."""
        mark = f"\n{RUN}: {attempt.nonce}\n" if attempt.nonce else ""
        return await self._workspaces.keep(
            attempt.unit,
            attempt.number,
            tree=attempt.tree,
            base=attempt.base,
            message=f"{title}\n\nAttempt {attempt.number} of {attempt.unit}\n{mark}",
        )

    async def kept_before(self, attempt: Attempt) -> tuple[Attempt, Snapshot]:
        """Return the attempt with the tree that its ref already keeps.

        Needed if another attempt already works in the workspace.
        """
        base_tree = await self._workspaces.tree_of(attempt.base)
        commit = await self._workspaces.kept(attempt.unit, attempt.number, nonce=attempt.nonce)
        if not commit:
            return attempt, Snapshot(tree=base_tree, changed=False)
        tree = await self._workspaces.tree_of(commit)
        snapshot = Snapshot(tree=tree, changed=tree != base_tree)
        return _with_tree(attempt, snapshot, commit), snapshot

    async def quarantined(self, run: Run, ended: Exit) -> Run:
        """Put a workspace aside if processes of the attempt may still run there.

        If an earlier, interrupted run already put the workspace aside, the workspace stays there.
        """
        name = self._workspaces.where(run.hook.workspace, run.attempt.nonce)
        run = replace(run, workspace=self._workspaces.at(name, keeps=run.workspace.keeps))
        # If the shim died, a process may have left its group and removed its marker. factoryd then
        # still finds the process, because it uses the workspace.
        unseen = ended.cause == "lost" and await to_thread.run_sync(_is_used, run.workspace)
        if name != run.hook.workspace or not (ended.left or unseen):
            return run
        return self._put_aside(run)

    def spared(self, run: Run, snapshot: Snapshot) -> Run:
        """Put a workspace aside, unchanged, if its files are too large for a snapshot."""
        if snapshot.too_big is None or run.workspace.name != run.hook.workspace:
            return run
        return self._put_aside(run)

    def _put_aside(self, run: Run) -> Run:
        """Rename the workspace so that nothing uses it again; return the run with the new name."""
        aside = self._workspaces.abandon(run.workspace.name)
        self._records.store.write(
            Event.WORKSPACE_ABANDONED,
            now=now(),
            worker=self._records.worker,
            unit=run.unit.id,
            path=str(aside),
        )
        return replace(run, workspace=self._workspaces.at(aside.name, keeps=run.workspace.keeps))


def _with_tree(attempt: Attempt, snapshot: Snapshot, commit: str) -> Attempt:
    ref = f"{ATTEMPTS}{attempt.unit}/{attempt.number}"
    tree = snapshot.tree if snapshot.changed else ""
    return replace(attempt, ref=ref, commit=commit, tree=tree)


def _is_used(workspace: Workspace) -> bool:
    return bool(users(workspace.place))
