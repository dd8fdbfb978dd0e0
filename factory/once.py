"""Judges a tree once, without a daemon or beside one, for `factory gate`.

Invariant: the work happens in a scratch copy with its own store; factoryd deletes the copy
afterwards.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio

from factory.assembly import HOME, Floor, assemble, the_places, the_repository, their_excludes
from factory.ground import settings_file
from factory.ground.daemon_state import DaemonState
from factory.ground.errors import FactoryError, UsageError
from factory.ground.places import Places, check_writable
from factory.people.causes import Ask
from factory.people.line_cards import SETUP_ASKS
from factory.repo.examine import Repository
from factory.repo.git import FACTORY, Git, Known
from factory.repo.trunk import make
from factory.store.records import Verdict
from factory.store.sqlite import SqliteStore

LINES_SHOWN = 20  # of the output of a setup that failed


def judge_once(
    root: Path, *, rev: str | None, here: bool
) -> Iterator[tuple[str, bool, float, str]]:
    """Judge trunk, a revision or the checkout; yield (gate, green, seconds, end of output).

    Raises FactoryError if there is no gate or no repository. It does not disturb a running daemon.
    """
    yield from anyio.run(_judge_once, root, rev, here)


async def _judge_once(
    root: Path, rev: str | None, here: bool
) -> list[tuple[str, bool, float, str]]:
    environ = dict(os.environ)
    chosen = settings_file.load(root / "factory.toml", environ)
    repository = await the_repository(root, environ, chosen)
    known = await the_places(repository, environ)
    check_writable(known, known.work)
    known.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gate-", dir=known.work) as scratch:
        where = Places(
            root=Path(scratch), common_dir=known.common_dir, work=Path(scratch), names=known.names
        )
        where.judged.mkdir(parents=True)
        own = await make(repository, where.git, environ)
        with closing(SqliteStore(where.store)) as store:
            state = DaemonState(settings=chosen, places=where, environ=environ)
            floor = assemble(store, state, repository, own)
            await floor.sandbox.look()
            floor.sandbox.check(chosen.sandbox.mode)
            if rev is None:
                commit = await _trunk_or_checkout(floor, repository, here)
            else:
                commit = await _revision(rev, own, [repository.git(environ), _factory(known, own)])
            ruled = await floor.judge.judge(
                commit, parent=commit if here else await own.commit(floor.trunk.ref)
            )
            if ruled.setup is not None:
                raise FactoryError(_unjudged(ruled.setup))
            verdicts = sorted(store.select(Verdict), key=lambda verdict: verdict.at)
            return [
                (verdict.gate, verdict.ok, verdict.seconds, verdict.tail) for verdict in verdicts
            ]


def _unjudged(card: Ask) -> str:
    """Return why nothing was judged, with the end of what the setup printed."""
    lines = card.evidence.splitlines()[-LINES_SHOWN:]
    shown = "".join(f"\n  │ {line}" for line in lines)
    return f"{card.question.removesuffix(SETUP_ASKS)}{shown}"


async def _trunk_or_checkout(floor: Floor, repository: Repository, here: bool) -> str:
    own = floor.trunk.own
    where = floor.state.places
    tip = await own.commit(floor.trunk.ref)
    if not here:
        return tip
    ignored = [HOME, f"/{where.inbox.name}/", *their_excludes(repository)]
    git = replace(own, work_tree=repository.root, index=where.index / "here")
    return await _as_it_is(git, ignored, tip)


async def _revision(rev: str, own: Git, sources: Sequence[Git]) -> str:
    """Return the commit of a revision in the user's repository, or of an attempt."""
    for source in sources:
        if not source.git_dir.exists():
            continue
        commit = await source.commit(rev)
        if commit:
            # This copy is short-lived, so it may read those objects instead of fetching them.
            alternates = own.git_dir / "objects/info/alternates"
            alternates.write_text(f"{source.git_dir / 'objects'}\n")
            return commit
    raise UsageError(f"There is no revision {rev!r} here.")


def _factory(known: Places, own: Git) -> Git:
    """Return the factory repository of the daemon, which has the trees of all attempts."""
    return replace(own, git_dir=known.git, known=Known())


async def _as_it_is(git: Git, excludes: Sequence[str], tip: str) -> str:
    """Return the checkout, with uncommitted and untracked files, as a commit on trunk."""
    assert git.index is not None
    git.index.parent.mkdir(exist_ok=True)
    ignored = git.index.with_suffix(".exclude")
    ignored.write_text("\n".join([*excludes, ""]), errors="surrogateescape")
    git = replace(git, config=(*git.config, f"core.excludesFile={ignored}"))
    await git.run("read-tree", tip)
    await git.run("add", "-A")
    return await git.commit_tree(
        await git.text("write-tree"), [tip], "The checkout", author=FACTORY, committer=FACTORY
    )
