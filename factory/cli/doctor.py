"""Finds what is missing on this machine, wrong in this repository, or left over, and its fix.

Invariant: without an option, the command changes nothing. With --fix or --rebuild, it acts instead
of the daemon, and holds the daemon's lock.
"""

import os
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import anyio

from factory.assembly import assemble, the_places, the_repository, the_sandbox
from factory.attempt.prompts import check_prompt, left_out
from factory.child import proc
from factory.child.sandbox import Sandbox
from factory.cli import place, say
from factory.cli.smoke import BAD, NOTE, OK, STYLES, Grade, check_agent
from factory.daemon import furnish
from factory.dispatch.agents import find_agents
from factory.ground import conventions, settings_file
from factory.ground.conventions import Conventions
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
from factory.ground.places import check_writable
from factory.ground.settings import Settings
from factory.inference.infer import rules_of
from factory.repair.rebuild import Rebuild
from factory.repair.strays import Finding, Strays
from factory.repo.access import first_unusable, me, owner
from factory.repo.examine import examine
from factory.repo.locate import locate
from factory.repo.trunk import make
from factory.store import rows
from factory.store.high_water import HighWater
from factory.store.sqlite import SqliteStore, making_anew

Told = tuple[Grade, str]
FIX = "factory doctor --fix"
TO_MEND = f" To fix it, while the daemon is stopped: {FIX}"


class Found(rows.Row):
    """One thing that doctor looked at."""

    grade: Grade
    """`bad`: it has to be repaired. `note`: it is worth knowing."""

    says: str
    """What was found."""

    fix: str
    """The command that repairs it while the daemon is stopped; empty if no command does."""


class Findings(rows.Row):
    """What `factory doctor --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    ok: bool
    """Whether nothing is bad."""

    found: Sequence[Found]
    """Everything that doctor looked at, in that order."""


class Report:
    """Prints each finding at once; as JSON, all of them at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._found: list[Found] = []
        self._ok = True

    def tell(self, grade: Grade, what: str, *, fix: str = "") -> None:
        """Add a finding."""
        self._ok = self._ok and grade != BAD
        self._found.append(Found(grade=grade, says=what, fix=fix))
        if not self._as_json:
            hint = TO_MEND if fix else ""
            print(say.paint(f"{grade:<5}", STYLES[grade]), say.clean(what + hint), flush=True)

    def end(self) -> int:
        """Return exit code 1 if a finding is bad."""
        if self._as_json:
            print(say.as_json(Findings(schema=rows.VERSION, ok=self._ok, found=self._found)))
        return int(not self._ok)


def doctor(args: Namespace) -> int:
    """Shows what is missing, wrong or left over, and how to repair it."""
    if sum(map(bool, (args.fix, args.rebuild, args.agent))) > 1:
        raise UsageError("--fix, --rebuild and --agent exclude each other")
    if args.agent:
        return check_agent(args)
    if args.json and args.rebuild:
        raise UsageError("--rebuild has no --json")
    top = Path(place.repository())
    if args.rebuild:
        return anyio.run(_rebuild, top)
    report = Report(as_json=args.json)
    anyio.run(_doctor, top, args.fix, report)
    return report.end()


async def _doctor(top: Path, fix: bool, report: Report) -> None:
    """Tell the report every finding."""
    chosen = Settings()
    try:
        chosen = settings_file.load(top / "factory.toml", os.environ)
    except ConfigError as error:
        report.tell(BAD, str(error))
    for grade, what in _plain(top, chosen):
        report.tell(grade, what)
    try:
        for sentence in _unusable(top):
            report.tell(BAD, sentence)
        async for finding in _look(top, chosen, report, fix=fix):
            grade = BAD if finding.matters else NOTE
            report.tell(grade, finding.said, fix=FIX if finding.mend else "")
    except RefusedByState:
        raise
    except FactoryError as error:
        report.tell(BAD, str(error))


def _plain(top: Path, chosen: Settings) -> Iterator[Told]:
    """Yield the findings that need no records of the factory."""
    own, folder = conventions.read_own(top)
    ruling = conventions.overlay(own, conventions.read_shipped(), folder)
    yield from _agents(top, ruling, chosen)
    yield from _prompts_and_gates(ruling, own, folder)
    for note in ruling.knowledge:
        if note.text.startswith("---"):
            yield BAD, f"{folder}/knowledge/{note.name}.md: its front matter is not YAML"
    yield _daemon(top)


def _agents(top: Path, ruling: Conventions, chosen: Settings) -> Iterator[Told]:
    """Yield a finding about each agent: whether it can be used.

    A missing agent is bad if settings name it, or if its file is wrong.
    """
    agents = find_agents(
        ruling,
        configured=chosen.agent,
        path=os.environ.get("PATH", ""),
        root=top,
        fallback=chosen.fallback,
    )
    for name in agents.installed:
        yield OK, f"agent {name} is installed"
    for name, why in agents.missing.items():
        is_named = name == chosen.agent or name in chosen.fallback
        file = ruling.runtimes.get(name)
        is_wrong = file is not None and why.startswith(file.where)
        yield (BAD if is_named or is_wrong else NOTE), why
    if not agents.installed:
        yield NOTE, "no agent is installed: only units with `run:` can be done"


def _prompts_and_gates(ruling: Conventions, own: Mapping[str, str], folder: str) -> Iterator[Told]:
    """Yield what is wrong in the repository's prompts, gate files and setup."""
    checks: list[Callable[[], object]] = []
    for name in ruling.prompts:
        checks.append(partial(check_prompt, name, ruling.prompts))
    checks.append(partial(rules_of, [*own], own, folder))
    refused = set[str]()
    for check in checks:
        try:
            check()
        except FactoryError as error:
            refused.add(str(error))
            yield BAD, str(error)
    for said in left_out(ruling.prompts, conventions.read_shipped()):
        if said not in refused:
            yield NOTE, said


def _daemon(top: Path) -> Told:
    try:
        state = place.daemon(str(top)).state
    except StoreError as error:
        return BAD, str(error)
    if state == "stopped":
        return NOTE, "the daemon is stopped; start it: factoryd start"
    return OK, f"daemon {state}"


async def _look(
    top: Path, chosen: Settings, report: Report, *, fix: bool
) -> AsyncIterator[Finding]:
    """Yield the findings in the factory's records and folders, after `fix`; raise FactoryError."""
    environ = dict(os.environ)
    repository = await the_repository(top, environ, chosen)
    report.tell(OK, f"git repository, trunk is {repository.branch}")
    where = await the_places(repository, environ)
    for warning in where.names.warnings:
        report.tell(NOTE, warning)
    check_writable(where)
    sandbox = the_sandbox(where, repository, environ, lambda: chosen.sandbox.mode)
    await sandbox.look()
    _tell_protections(sandbox, report)
    try:
        sandbox.check(chosen.sandbox.mode)
    except ConfigError as error:  # a start would fail for this reason
        yield Finding(str(error))
    if not (where.store.exists() or where.worked):
        return  # the factory was never started
    try:
        runs = place.daemon(str(top)).state != "stopped"
    except StoreError:
        return  # reported already
    with locked(where.lock, where.root) if fix else nullcontext():
        if not where.git.exists() and not fix:
            yield Finding(
                f"The factory repository {where.git} is missing, and with it the work of attempts.",
                _later,
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
                await _mend([each async for each in strays.find(daemon=False)], report)
            async for each in strays.find(daemon=runs):
                yield each


def _tell_protections(sandbox: Sandbox, report: Report) -> None:
    report.tell(NOTE if sandbox.says else OK, sandbox.protections)
    if not proc.PROC:
        report.tell(
            NOTE,
            "no /proc: a process that leaves its process group "
            "and clears the marker in its environment "
            "is not ended",
        )


def _unusable(top: Path) -> Iterator[str]:
    """Yield paths that git needs and the daemon's user cannot use; start no git."""
    home = Path(place.within(str(top)))
    user = owner(home) if home.is_dir() else me()
    for git_dir in (locate(top).common_dir, home / "git"):
        found = first_unusable(git_dir, user) if git_dir.is_dir() else None
        if found is not None:
            yield found.said


async def _mend(found: Sequence[Finding], report: Report) -> None:
    for each in found:
        if each.mend is not None and await each.mend() is not False:
            report.tell(OK, f"mended: {each.said}")


async def _later() -> None:
    """Do nothing: with --fix, the command has made a new factory repository before this."""


async def _rebuild(top: Path) -> int:
    environ = dict(os.environ)
    chosen = settings_file.load(top / "factory.toml", environ)
    trunk = chosen.trunk or _branch_of(top / ".factory/git/HEAD")
    repository = await examine(top, environ, trunk=trunk)
    where = await the_places(repository, environ)
    with locked(where.lock, where.root):
        if where.store.exists() and _is_whole(where.store):
            raise RefusedByState(
                f"The store {where.store} is not damaged: there is nothing to rebuild. "
                "Nothing was changed."
            )
        furnish(where)
        own = await make(repository, where.git, environ)
        await own.seize()
        with making_anew(where.store, now()) as (new, aside):
            state = DaemonState(settings=chosen, places=where, environ=environ)
            floor = assemble(new, state, repository, own)
            await floor.trunk.refresh()
            rebuild = Rebuild(
                store=new, where=where, trunk=floor.trunk, workspaces=floor.workspaces
            )
            counts = await rebuild.run(now())
    HighWater(where.high_water).note_seq(0)  # the new store counts from one again
    told = ", ".join([f"{count} {state}" for state, count in counts.items()]) or "no units"
    kept = f"; the old one is {aside.name} now" if aside.exists() else ""
    print(f"a new store: {told}{kept}\n  go on: factoryd start")
    return 0


def _branch_of(head: Path) -> str:
    """Return the branch in the factory repository's HEAD, which a damaged store had recorded."""
    if not head.exists():
        return ""
    return head.read_text().strip().removeprefix("ref: refs/heads/")


def _is_whole(path: Path) -> bool:
    try:
        SqliteStore(path).close()
    except DamagedStore:
        return False
    return True
