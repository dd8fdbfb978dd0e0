"""A whole factory without its loops: real git, store, benches and processes; the test ticks what it is about."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from factory.assembly import Floor, assemble
from factory.child.sandbox import Sandbox
from factory.ground.daemon_state import DaemonState
from factory.ground.places import places
from factory.ground.settings import Settings
from factory.repo.examine import examine
from factory.repo.trunk import make
from factory.repo.underway import Underway
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Card, CardKind, Hook
from factory.store.sqlite import SqliteStore
from factory.store.unit import EndReason, Unit, UnitState
from tests.accepted import accepted
from tests.git_repo import commit, git, make_repo
from tests.journal import entries_of
from tests.memory_store import MemoryStore

GATE = "! grep -rn BROKEN --include=*.txt .\n"
FILES = {"conventions/gates/10-whole.sh": GATE, "story.txt": "once upon a time\n"}


def unconfined() -> Sandbox:
    """No sandbox."""
    return Sandbox(
        environ={},
        hidden=(),
        work=Path("/nonexistent"),
        objects=Path("/nonexistent"),
        mode=lambda: "off",
    )


async def untracked() -> dict[str, str]:
    """The listing of a tree in which git tracks nothing."""
    return {}


def underway(
    folder: Path, store: Store | None = None, *, leaves: Callable[[], bool] = lambda: False
) -> Underway:
    """What is under way at the places in that folder's `work`."""
    return Underway(
        store=store or MemoryStore(), logs=folder / "judged", work=folder / "work", leaves=leaves
    )


async def tried(environ: Mapping[str, str], work: Path, mode: str = "auto") -> Sandbox:
    """The sandbox that works for such a user, as a trial shows."""
    sandbox = Sandbox(
        environ=environ, hidden=(), work=work, objects=Path("/nonexistent"), mode=lambda: mode
    )
    await sandbox.look()
    return sandbox


def at() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def time_passes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So many seconds pass, for the loop's clock."""
    present = anyio.current_time()
    monkeypatch.setattr(anyio, "current_time", lambda: present + seconds)


class Scene:
    """One factory, and what a test does to it."""

    def __init__(self, folder: Path, floor: Floor, group: TaskGroup) -> None:
        self.folder, self.floor, self.group = folder, floor, group
        self.root, self.store = floor.state.places.root, floor.store
        self.queue, self.state = floor.queue, floor.state
        self.judge, self.trunk_judge = floor.judge, floor.trunk_judge

    # ── what others do ──

    def commit(self, files: Mapping[str, str]) -> str:
        """A person commits on trunk."""
        return commit(self.root, files)

    def head(self) -> str:
        """Trunk."""
        return git(self.root, "rev-parse", "main")

    def log(self) -> list[str]:
        """The subjects on trunk, newest first."""
        return git(self.root, "log", "--format=%s", "main").splitlines()

    async def made(self, files: Mapping[str, str], *, base: str = "") -> str:
        """A commit that only the factory repository has."""
        await self.floor.trunk.refresh()
        own, clone = (
            self.state.places.git,
            self.folder / f"agent{len(list(self.folder.glob('agent*')))}",
        )
        git(self.folder, "clone", "-q", "--no-checkout", str(own), str(clone))
        git(clone, "checkout", "-q", "--detach", base or "origin/main")
        made = commit(clone, files, "work")
        git(clone, "push", "-q", "origin", f"{made}:refs/factory/made/{made}")
        return made

    async def submit(
        self, name: str, files: Mapping[str, str], *, head: str = "", base: str = "", **fields: Any
    ) -> Unit:
        """A unit whose first attempt was submitted; `head`: its front matter."""
        made = await self.made(files, base=base)
        below = git(self.state.places.git, "rev-parse", f"{made}^")
        unit = Unit(
            id=name,
            title=name,
            state=UnitState.QUEUED,
            since=at(),
            accepted=at(),
            attempt=1,
            submission=made,
            base=below,
            **fields,
        )
        attempt = Attempt(
            unit=name,
            number=1,
            worker="w1",
            agent="scripted",
            start=at(),
            end=at(),
            reason=EndReason.SUBMITTED,
            commit=made,
            base=below,
        )
        told = accepted(name, f"---\n{head}\n---\ndo it")
        self.store.write(Event.TASK_ACCEPTED, unit, attempt, *told, now=at(), unit=name)
        return unit

    def ready(self, name: str, **fields: Any) -> Unit:
        """A unit with a command that may start."""
        unit = Unit(
            id=name,
            title=name,
            state=UnitState.READY,
            since=at(),
            accepted=at(),
            agent="run",
            **fields,
        )
        told = accepted(name, "---\nrun: 'true'\n---\n")
        self.store.write(Event.TASK_ACCEPTED, unit, *told, now=at(), unit=name)
        return unit

    def hang(
        self, name: str, *, run: str = "", agent: str = "", number: int = 1, **fields: Any
    ) -> Hook:
        """A unit that was hung on w1's hook just now."""
        text = f"---\nrun: {run!r}\n---\n" if run else "do it"
        agent = "run" if run else agent
        unit = Unit(
            id=name,
            title=name,
            state=UnitState.RUNNING,
            since=at(),
            accepted=at(),
            attempt=number,
            agent=agent,
            **fields,
        )
        attempt = Attempt(unit=name, number=number, worker="w1", agent=agent, start=at())
        hook = Hook(
            worker="w1",
            index=1,
            unit=name,
            attempt=number,
            state="running",
            since=at(),
            workspace="w1",
        )
        self.store.write(
            Event.HOOK_FILLED,
            unit,
            attempt,
            *accepted(name, text),
            hook,
            now=at(),
            unit=name,
            attempt=number,
        )
        return hook

    # ── what the factory does ──

    async def settle(self) -> None:
        """Tick the queue until it has nothing to do, waiting for what it has judged meanwhile."""
        for _ in range(60):
            again = await self.queue.tick(self.group, at()) or await self.state.queue.wait(
                0.5 if self.busy else 0
            )
            if not again and not self.busy:
                return
        raise AssertionError(
            f"the queue never becomes quiet: {[entry.event for entry in entries_of(self.store)][-20:]}"
        )

    @property
    def busy(self) -> bool:
        """Whether something is being judged or landed."""
        judged = (
            self.floor.benches._users or self.queue.judgings.running or self.trunk_judge.is_judging
        )
        searched = self.queue.pairs.held or self.queue.pairs._running
        return bool(judged or searched or self.queue.lander.units)

    # ── what is seen ──

    def unit(self, name: str) -> Unit:
        """As stored."""
        found = self.store.get(Unit, name)
        assert found is not None
        return found

    def hook(self) -> Hook:
        """W1's."""
        found = self.store.get(Hook, "w1")
        assert found is not None
        return found

    def change(self, name: str, **fields: Any) -> None:
        """Another value of a unit's."""
        self.store.write(Event.UNIT_READY, replace(self.unit(name), **fields), now=at(), unit=name)

    def state_of(self, name: str) -> str:
        """The unit's state."""
        return str(self.unit(name).state)

    def reasons(self, name: str) -> list[str]:
        """The end reasons of its attempts."""
        return [str(attempt.reason) for attempt in self.store.select(Attempt, unit=name)]

    def cards(self) -> list[CardKind]:
        """The open ones."""
        return [card.kind for card in self.store.open(Card)]

    def count(self, name: str) -> int:
        """Lines in a file beside the repository, which gates write."""
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0


@asynccontextmanager
async def scene_in(
    folder: Path, files: Mapping[str, str] = FILES, **settings: Any
) -> AsyncIterator[Scene]:
    """A factory in `folder`; whatever it runs is ended with the block."""
    root = make_repo(folder / "repo", files)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    repository = await examine(root, environ)
    where = places(repository.root, repository.common_dir, environ)
    for each in (
        where.home,
        where.inbox,
        where.judged,
        where.index,
        where.home / "attempts",
        where.work,
    ):
        each.mkdir(parents=True, exist_ok=True)
    git(root, "config", "core.excludesFile", str(folder / "ignored"))
    (folder / "ignored").write_text("/.factory/\n/inbox/\n")
    own = await make(repository, where.git, environ)
    with closing(SqliteStore(where.store)) as store:
        floor = assemble(
            store,
            DaemonState(settings=Settings(**settings), places=where, environ=environ),
            repository,
            own,
        )
        async with anyio.create_task_group() as group:
            yield Scene(folder, floor, group)
            group.cancel_scope.cancel()
