"""What is missing on this machine, wrong in this repository, or stray; and what mends it.

Invariant: without an option it looks only; what it does with one, it does in the daemon's place, under its lock.
"""

import os
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import anyio

from factory.assembly import assemble, the_names, the_repository, the_sandbox
from factory.attempt.prompts import check_prompt, left_out
from factory.child import proc
from factory.cli import place, say
from factory.cli.smoke import BAD, NOTE, OK, STYLES, Grade, check_agent
from factory.daemon import furnish
from factory.dispatch.agents import find_agents
from factory.ground import conventions, settings
from factory.ground.daemon_state import DaemonState, now
from factory.ground.errors import (
    ConfigError,
    DamagedStore,
    FactoryError,
    RefusedByState,
    StoreError,
    UsageError,
)
from factory.ground.lock import locked
from factory.ground.places import check_writable, places
from factory.ground.settings import Settings
from factory.inference.infer import rules_of
from factory.repair.rebuild import Rebuild
from factory.repair.strays import Finding, Strays
from factory.repo.access import first_unusable, me, owner
from factory.repo.examine import examine, layout
from factory.repo.trunk import make
from factory.store.high_water import HighWater
from factory.store.sqlite import SqliteStore, making_anew


def doctor(args: Namespace) -> int:
    """Looks for what is missing, wrong or stray, and names what mends it. Exit code 1: something has to be mended."""
    if sum(map(bool, (args.fix, args.rebuild, args.agent))) > 1:
        raise UsageError("--fix, --rebuild and --agent exclude each other")
    if args.agent:
        return check_agent(args)
    if args.json:
        raise UsageError("--json goes with --agent")
    top = Path(place.repository())
    return anyio.run(_rebuild, top) if args.rebuild else anyio.run(_doctor, top, args.fix)


async def _doctor(top: Path, fix: bool) -> int:
    told = [_tell(grade, what) for grade, what in _plain(top)]
    try:
        told += [_tell(BAD, sentence) for sentence in _unusable(top)]
        async for each in _look(top, fix=fix):
            hint = (
                " To mend it, while the daemon is stopped: factory doctor --fix"
                if each.mend
                else ""
            )
            told.append(_tell(BAD if each.matters else NOTE, each.said + hint))
    except RefusedByState:
        raise
    except FactoryError as error:
        told.append(_tell(BAD, str(error)))
    return int(BAD in told)


def _tell(grade: Grade, what: str) -> Grade:
    print(say.paint(f"{grade:<5}", STYLES[grade]), say.clean(what))
    return grade


def _tell_all(grade: Grade, sentences: Sequence[str]) -> None:
    for what in sentences:
        _tell(grade, what)


def _plain(top: Path) -> Iterator[tuple[Grade, str]]:
    """What can be told without the factory's own records."""
    agent, fallback = "", tuple[str, ...]()
    try:
        chosen = settings.load(top / "factory.toml", os.environ)
        agent, fallback = chosen.agent, chosen.fallback
    except FactoryError as error:
        yield BAD, str(error)
    own, folder = conventions.read_own(top)
    shipped = conventions.read_shipped()
    ruling = conventions.overlay(own, shipped, folder)
    path = os.environ.get("PATH", "")
    agents = find_agents(ruling, configured=agent, path=path, root=top, fallback=fallback)
    wrong = {
        name
        for name, file in ruling.runtimes.items()
        if agents.missing.get(name, "").startswith(file.where)
    }
    yield from ((OK, f"agent {name} is installed") for name in agents.installed)
    yield from (
        (BAD if name in {agent, *fallback, *wrong} else NOTE, why)
        for name, why in agents.missing.items()
    )
    if not agents.installed:
        yield NOTE, "no agent is installed: only units with `run:` can be done"
    checks: list[Callable[[], object]] = [
        partial(check_prompt, name, ruling.prompts) for name in ruling.prompts
    ]
    checks.append(partial(rules_of, [*own], own, folder))
    refused = set[str]()
    for check in checks:
        try:
            check()
        except FactoryError as error:
            refused.add(str(error))
            yield BAD, str(error)
    yield from ((NOTE, said) for said in left_out(ruling.prompts, shipped) if said not in refused)
    unread = [note.name for note in ruling.knowledge if note.text.startswith("---")]
    yield from (
        (BAD, f"{folder}/knowledge/{name}.md: its front matter is not YAML") for name in unread
    )
    try:
        state = place.daemon(str(top)).state
        stopped = (NOTE, "the daemon is stopped; start it: factoryd start")
        yield stopped if state == "stopped" else (OK, f"daemon {state}")
    except StoreError as error:
        yield BAD, str(error)


async def _look(top: Path, *, fix: bool) -> AsyncIterator[Finding]:
    """What the factory's own records and folders tell, after what is safe was mended; raise FactoryError."""
    environ = dict(os.environ)
    chosen = _settings(top)
    repository = await the_repository(top, environ, chosen)
    _tell(OK, f"git repository, trunk is {repository.branch}")
    names = await the_names(repository, environ)
    _tell_all(NOTE, names.warnings)
    where = places(repository.root, repository.common_dir, environ, names)
    check_writable(where)
    sandbox = the_sandbox(where, repository, environ, lambda: chosen.sandbox.mode)
    await sandbox.look()
    _tell(NOTE if sandbox.says else OK, sandbox.protections)
    if not proc.PROC:
        _tell(
            NOTE,
            "no /proc: what leaves its process group and sheds the marker in its environment is not ended",
        )
    try:
        sandbox.check(chosen.sandbox.mode)
    except ConfigError as error:  # a start would be refused
        yield Finding(str(error))
    if not (where.store.exists() or where.worked):
        return  # never started
    try:
        runs = place.daemon(str(top)).state != "stopped"
    except StoreError:
        return  # said already
    with locked(where.lock, where.root) if fix else nullcontext():
        if not where.git.exists() and not fix:
            yield Finding(
                f"The factory repository {where.git} is missing, with what attempts made.", _later
            )
            return
        with closing(SqliteStore(where.store, new=False)) as store:
            state = DaemonState(settings=chosen, places=where, environ=environ)
            floor = assemble(store, state, repository, await make(repository, where.git, environ))
            strays = Strays(
                keeper=floor.keeper,
                trunk=floor.trunk,
                benches=floor.benches,
                underway=floor.underway,
            )
            if fix:
                await floor.trunk.refresh()
                await _mend([each async for each in strays.find(daemon=False)])
            async for each in strays.find(daemon=runs):
                yield each


def _unusable(top: Path) -> Iterator[str]:
    """What git needs and the daemon's user cannot use; without git, which might say less."""
    home = Path(place.within(str(top)))
    user = owner(home) if home.is_dir() else me()
    _, _, common_dir = layout(top)
    for git_dir in (common_dir, home / "git"):
        found = first_unusable(git_dir, user) if git_dir.is_dir() else None
        if found is not None:
            yield found.said


async def _mend(found: Sequence[Finding]) -> None:
    for each in found:
        if each.mend is not None and await each.mend() is not False:
            _tell(OK, f"mended: {each.said}")


async def _later() -> None:
    """With --fix the factory repository is made anew before anything else."""


async def _rebuild(top: Path) -> int:
    environ, chosen = dict(os.environ), settings.load(top / "factory.toml", os.environ)
    repository = await examine(
        top, environ, trunk=chosen.trunk or _branch_of(top / ".factory/git/HEAD")
    )
    where = places(
        repository.root, repository.common_dir, environ, await the_names(repository, environ)
    )
    with locked(where.lock, where.root):
        if where.store.exists() and _is_whole(where.store):
            raise RefusedByState(
                f"The store {where.store} is whole: there is nothing to rebuild. Nothing was changed."
            )
        furnish(where)
        own = await make(repository, where.git, environ)
        await own.seize()
        with making_anew(where.store, now()) as (new, aside):
            state = DaemonState(settings=chosen, places=where, environ=environ)
            floor = assemble(new, state, repository, own)
            await floor.trunk.refresh()
            counts = await Rebuild(
                store=new, where=where, trunk=floor.trunk, workspaces=floor.workspaces
            ).run(now())
    HighWater(where.high_water).note_seq(0)  # the new store counts anew
    told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no units"
    kept = f"; the old one is {aside.name} now" if aside.exists() else ""
    print(f"a new store: {told}{kept}\n  go on: factoryd start")
    return 0


def _settings(top: Path) -> Settings:
    try:
        return settings.load(top / "factory.toml", os.environ)
    except ConfigError:
        return Settings()  # said already


def _branch_of(head: Path) -> str:
    """The branch that the factory repository was made for: what the damaged store remembered."""
    return head.read_text().strip().removeprefix("ref: refs/heads/") if head.exists() else ""


def _is_whole(path: Path) -> bool:
    try:
        SqliteStore(path).close()
    except DamagedStore:
        return False
    return True
