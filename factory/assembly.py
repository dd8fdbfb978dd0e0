"""Assembly: builds every object of one factory once, and connects them.

Invariant: building the objects starts nothing and writes nothing, so a command may build them while
a daemon runs.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from factory.attempt.hook_records import HookRecords
from factory.attempt.launch import Launch
from factory.attempt.outcomes import Outcomes
from factory.attempt.worker import Worker
from factory.child.process import Limits
from factory.child.sandbox import Sandbox
from factory.dispatch.agents import Agents, find_agents
from factory.dispatch.pool import Pool
from factory.dispatch.standstill import Standstill
from factory.ground import packaging
from factory.ground.conventions import read_shipped
from factory.ground.daemon_state import DaemonState, Stopping
from factory.ground.errors import Deposed, StoreError
from factory.ground.log import Log
from factory.ground.names import ALL, HIDDEN, INBOX, Layout, Names, choose, layout, packaged
from factory.ground.places import Places, holding, places, there
from factory.ground.settings import Settings
from factory.inbox.acceptance import Acceptance
from factory.inbox.intake import Intake
from factory.judging.commands import Commands
from factory.judging.environments import Environments
from factory.judging.gates import Gates
from factory.judging.judge import Judge
from factory.judging.machine import Machine
from factory.judging.rulings import Rulings
from factory.judging.trunk_judge import TrunkJudge
from factory.people import repairs
from factory.people.escalations import Escalations
from factory.queue.landings import Landings
from factory.queue.merge_queue import MergeQueue
from factory.queue.submissions import Submissions
from factory.repair.keeper import Keeper
from factory.repo.benches import Benches
from factory.repo.examine import Repository
from factory.repo.git import Git
from factory.repo.locate import Located, locate
from factory.repo.opened import opened
from factory.repo.trunk import Trunk
from factory.repo.underway import Underway
from factory.repo.workspaces import Workspaces
from factory.requests import Requests
from factory.store.facts_at import remembered_trunk
from factory.store.high_water import HighWater
from factory.store.names import is_taken
from factory.store.ports import Store
from factory.store.sqlite import SqliteStore

HOME = "/.factory/"
# The lines that a start may write into info/exclude.
EXCLUDED = (HOME, f"/{INBOX}/", f"/{HIDDEN[INBOX]}/")


@dataclass(slots=True)
class Floor:
    """All objects of one daemon."""

    store: SqliteStore
    state: DaemonState
    repository: Repository
    trunk: Trunk
    judge: Judge
    trunk_judge: TrunkJudge
    benches: Benches
    gates: Gates
    queue: MergeQueue
    outcomes: Outcomes
    pool: Pool
    intake: Intake
    requests: Requests
    escalations: Escalations
    workspaces: Workspaces
    keeper: Keeper
    standstill: Standstill
    sandbox: Sandbox
    underway: Underway
    log: Log | None = None


async def the_repository(
    root: Path,
    environ: Mapping[str, str],
    chosen: Settings,
    *,
    locating: Callable[[Path], Located] = locate,
) -> Repository:
    """Return the user's repository; trunk is the configured branch, else the earlier one."""
    trunk = chosen.trunk or remembered_trunk(str(root))
    return await opened(root, environ, trunk=trunk, locating=locating)


def their_excludes(repository: Repository) -> list[str]:
    """Return the user's own ignore rules, without the lines that a start wrote."""
    return [line for line in repository.excludes.splitlines() if line not in EXCLUDED]


async def the_names(repository: Repository, environ: Mapping[str, str]) -> Names:
    """Return the names of factoryd's folders; raise RepositoryError if a pair is in use."""
    git = repository.git(environ)
    commit = await git.commit(f"refs/heads/{repository.branch}")
    found = Layout()
    if commit:
        top = await git.names("ls-tree", "-z", "--name-only", commit)
        inside = await git.names("ls-tree", "-r", "-z", "--name-only", commit, "--", *ALL)
        texts = (
            await git.read_many(commit, [name for name in packaging.FILES if name in top])
        ).found
        found = packaged(layout([*top, *inside]), texts)
    return choose(found, there=there(repository.root), holding=holding(repository.root))


async def the_places(repository: Repository, environ: Mapping[str, str]) -> Places:
    """Return the places of this factory; raise RepositoryError if a pair of names is in use."""
    names = await the_names(repository, environ)
    return places(repository.root, repository.common_dir, environ, names)


def the_sandbox(
    where: Places, repository: Repository, environ: Mapping[str, str], mode: Callable[[], str]
) -> Sandbox:
    """Return the sandbox of this factory; its folders need not exist yet."""
    factories = where.work.parent  # the work folders of all factories of this user
    return Sandbox(
        environ=environ,
        hidden=(where.root, where.home, repository.root, where.common_dir, factories),
        work=where.work,
        objects=where.git / "objects",
        mode=mode,
    )


def assemble(store: SqliteStore, state: DaemonState, repository: Repository, own: Git) -> Floor:
    """Build all objects of one factory."""
    where = state.places
    environ = state.environ
    trunk = Trunk(repository=repository, own=own, environ=environ)
    sandbox = the_sandbox(where, repository, environ, lambda: state.settings.sandbox.mode)
    underway = Underway(
        store=store, logs=where.judged, work=where.work, leaves=partial(_leaves, store, state)
    )
    environments = _environments(state, underway, sandbox)
    gates = Gates(store=store, environments=environments, limits=lambda: state.settings.gates)
    benches = _benches(state, own, trunk)
    workspaces = _workspaces(state, own, trunk, repository)
    escalations = Escalations(
        store=store,
        repair=lambda title, body, at: hang_repair(intake, store, title, body, at),
        next_card=HighWater(where.high_water).next_card,
    )
    rulings = Rulings(store=store, own=own, shipped=read_shipped())
    judge = Judge(trunk=trunk, benches=benches, gates=gates, rulings=rulings)
    trunk_judge = TrunkJudge(store=store, state=state, escalations=escalations, judge=judge)
    users_git = replace(repository.git(environ), commands=own.commands)
    intake = _intake(store, where, escalations, users_git)
    outcomes = Outcomes(store=store, state=state, escalations=escalations, hang=intake.hang)
    launch = Launch(
        store=store, state=state, judge=judge, environments=environments, outcomes=outcomes
    )
    landings = Landings(store=store, trunk=trunk, escalations=escalations)
    queue = MergeQueue(
        store=store,
        state=state,
        landings=landings,
        trunk_judge=trunk_judge,
        escalations=escalations,
        outcomes=outcomes,
    )

    def make_worker(name: str) -> Worker:
        return Worker(
            HookRecords(name, store=store, state=state),
            rulings=judge.rulings,
            workspaces=workspaces,
            launch=launch,
            outcomes=outcomes,
        )

    pool = Pool(
        store=store,
        state=state,
        escalations=escalations,
        trunk_judge=trunk_judge,
        make_worker=make_worker,
        find_agents=lambda: agents_now(judge, state),
    )
    submissions = Submissions(
        store=store,
        trunk=trunk,
        outcomes=outcomes,
        escalations=escalations,
        hang=intake.hang,
        is_taken=partial(is_taken, store, where),
    )
    requests = Requests(
        store=store,
        state=state,
        escalations=escalations,
        outcomes=outcomes,
        submissions=submissions,
        hang=intake.hang,
    )
    standstill = Standstill(store=store, state=state, escalations=escalations, judge=judge)
    keeper = Keeper(store=store, state=state, own=own, trunk_ref=trunk.ref, workspaces=workspaces)
    return Floor(
        store=store,
        state=state,
        repository=repository,
        trunk=trunk,
        judge=judge,
        trunk_judge=trunk_judge,
        benches=benches,
        gates=gates,
        queue=queue,
        outcomes=outcomes,
        pool=pool,
        intake=intake,
        requests=requests,
        escalations=escalations,
        workspaces=workspaces,
        sandbox=sandbox,
        underway=underway,
        keeper=keeper,
        standstill=standstill,
    )


def _environments(state: DaemonState, underway: Underway, sandbox: Sandbox) -> Environments:
    machine = Machine(
        environ=state.environ,
        root=state.places.root,
        caches=state.places.work / "caches",
        passed=lambda: state.settings.env.passed,
    )
    commands = Commands(
        machine=machine,
        underway=underway,
        sandbox=sandbox,
        limits=lambda: _limits(state.settings),
    )
    return Environments(commands)


def _benches(state: DaemonState, own: Git, trunk: Trunk) -> Benches:
    return Benches(
        own=own,
        folder=state.places.work / "benches",
        index_dir=state.places.index,
        trunk_branch=trunk.branch,
        size=state.settings.gates.benches,
    )


def _workspaces(state: DaemonState, own: Git, trunk: Trunk, repository: Repository) -> Workspaces:
    # The guard must see files that an agent adds to factoryd's folders, so git must not apply the
    # ignore rules of factoryd here.
    excludes = their_excludes(repository)
    return Workspaces(
        own=own,
        folder=state.places.work / "workspaces",
        index_dir=state.places.index,
        trunk_branch=trunk.branch,
        excludes="\n".join(excludes),
    )


def _intake(store: Store, where: Places, escalations: Escalations, users_git: Git) -> Intake:
    acceptance = Acceptance(
        store=store, escalations=escalations, is_taken=partial(is_taken, store, where)
    )
    return Intake(
        inbox=where.inbox,
        folder=where.intake,
        store=store,
        acceptance=acceptance,
        tracked=partial(_tracked, users_git, where.inbox.name),
    )


async def _tracked(users_git: Git, inbox: str) -> frozenset[str]:
    """Return the paths in the inbox that the user's git tracks."""
    found = await users_git.names("ls-files", "-z", "--", inbox)
    return frozenset(path.removeprefix(f"{inbox}/") for path in found)


def _leaves(store: Store, state: DaemonState) -> bool:
    """Return whether this daemon leaves running agents to the next one."""
    if state.stopping is Stopping.LEAVE:
        return True
    try:
        with store.transaction():
            return False
    except Deposed:
        return True
    except StoreError:  # it is unknown whether a newer daemon took over; an ended run starts again
        return False


def _limits(chosen: Settings) -> Limits:
    limits = chosen.limits
    gb = 10**9
    memory = int(limits.memory_gb * gb)
    if memory == 0:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = machine * 3 // 4
    return Limits(
        memory=memory,
        processes=limits.processes,
        cpu=limits.cpu_minutes * 60,
        disk=int(limits.disk_gb * gb),
    )


def agents_now(judge: Judge, state: DaemonState) -> Agents:
    """Return the agents that can work now."""
    ruling = judge.rulings.current
    if ruling is None:
        return Agents(default="", missing={})
    path = state.environ.get("PATH", os.defpath)
    chosen = state.settings
    return find_agents(
        ruling.conventions,
        configured=chosen.agent,
        path=path,
        root=state.places.root,
        fallback=chosen.fallback,
    )


def hang_repair(intake: Intake, store: Store, title: str, body: str, at: datetime) -> str:
    """Make a unit of priority 0 with the evidence as its task, until trunk is green again."""
    fence = "~" * 8
    named = json.dumps(title[:200], ensure_ascii=False)  # YAML has no surrogate pairs
    task = (
        f"---\ntitle: {named}\npriority: 0\n---\nMake it green again.\n\n{fence}\n{body}\n{fence}\n"
    )
    unit = intake.hang("repair-trunk.md", task, now=at)
    repairs.note(store, unit, now=at)
    return unit
