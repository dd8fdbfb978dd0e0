"""The user's own git: whatever they configured, and whatever they do in their repository, units land and theirs stays.

What else is tried: commits, rebases, switches, locks and kills in test_trunk.py, what is refused in test_git.py.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from factory.repo.landing_plan import Landed, Moved, Outcome
from factory.repo.move import Move
from tests.git_repo import commit, git, make_repo, write
from tests.repo.test_trunk import AFTER, BEFORE, World, begin, kind

TRAP = "#!/bin/sh\ntouch '{trap}'\nexit 1\n"
HOOKS = (
    *(
        "post-merge",
        "post-checkout",
        "pre-merge-commit",
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
    ),
    *(
        "reference-transaction",
        "post-index-change",
        "post-commit",
        "pre-auto-gc",
        "update",
        "pre-receive",
    ),
)
CONFIGURED: dict[str, dict[str, str]] = {
    "fsmonitor as a program": {"core.fsmonitor": "{trap_program}"},
    "fsmonitor and untracked cache": {"core.fsmonitor": "true", "core.untrackedCache": "true"},
    "line ends": {"core.autocrlf": "true", "core.safecrlf": "true"},
    "signing": {
        **{
            "commit.gpgSign": "true",
            "tag.gpgSign": "true",
            "gpg.program": "{trap_program}",
            "user.signingKey": "AB",
        },
        **{"merge.verifySignatures": "true", "log.showSignature": "true", "gpg.format": "openpgp"},
    },
    "hooks": {"core.hooksPath": "{hooks}"},
    "split index": {
        "core.splitIndex": "true",
        "index.version": "4",
    },  # with manyFiles git loses it by itself
    "many files": {"feature.manyFiles": "true", "index.threads": "2"},
    "modes and cases": {
        "core.fileMode": "false",
        "core.ignoreCase": "true",
        "core.symlinks": "false",
    },
    "checks on transfer": {
        "transfer.fsckObjects": "true",
        "fetch.fsckObjects": "true",
        "receive.fsckObjects": "true",
    },
    "hidden refs": {"transfer.hideRefs": "refs/heads", "uploadpack.hideRefs": "refs/heads"},
    "closed protocols": {"protocol.allow": "never"},
    "pruning": {
        "fetch.prune": "true",
        "fetch.pruneTags": "true",
        "gc.pruneExpire": "now",
        "gc.auto": "1",
    },
    "merging": {
        "merge.ff": "false",
        "pull.rebase": "true",
        "merge.autoStash": "true",
        "rerere.enabled": "true",
    },
    "showing": {
        **{"color.ui": "always", "core.pager": "{trap_program}", "diff.external": "{trap_program}"},
        **{
            "diff.noprefix": "true",
            "diff.mnemonicPrefix": "true",
            "status.short": "true",
            "status.branch": "true",
        },
        **{
            "core.quotePath": "true",
            "diff.renames": "copies",
            "status.showUntrackedFiles": "all",
            "core.abbrev": "5",
        },
    },
    "asking": {
        "core.askPass": "{trap_program}",
        "credential.helper": "{trap_program}",
        "core.editor": "{trap_program}",
    },
    "refs not logged": {"core.logAllRefUpdates": "false"},
    "worktree configuration": {"extensions.worktreeConfig": "true"},
    "partial packs and graphs": {
        "core.commitGraph": "true",
        "gc.writeCommitGraph": "true",
        "pack.threads": "1",
    },
}
ATTRIBUTES = {
    "eol=crlf": "* text eol=crlf\n",
    "text=auto": "* text=auto\n",
    "ident": "*.c ident\n",
    "working-tree-encoding": "wide working-tree-encoding=UTF-16LE eol=lf text\n",
    "union": "kept merge=union\n",
    "export-ignore": "added export-ignore\n",
}


def configured(folder: Path, settings: Mapping[str, str]) -> Path:
    """A repository whose user configured that; `trap` appears should a program or a hook of theirs run."""
    repo = make_repo(folder / "r", BEFORE)
    for name in ("trap_program", *(f"hooks/{hook}" for hook in HOOKS)):
        write(folder, {name: TRAP.format(trap=folder / "trap")})
        (folder / name).chmod(0o755)
    places = {"trap_program": folder / "trap_program", "hooks": folder / "hooks"}
    for name, value in settings.items():
        git(repo, "config", name, value.format(**places))
    return repo


def plainly(repo: Path, *args: str) -> str:
    """Git without what the user configured to break it."""
    return git(
        repo,
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "color.ui=never",
        *args,
    )


@pytest.mark.parametrize("name", CONFIGURED)
async def test_whatever_they_configured_units_land_and_no_program_of_theirs_runs(
    tmp_path: Path, name: str
) -> None:
    world = await begin(configured(tmp_path, CONFIGURED[name]))
    before = (world.repo / ".git/config").read_bytes()
    to = await world.candidate()

    assert await world.land(to) == Landed(to)

    assert plainly(world.repo, "rev-parse", "HEAD", "main").split() == [to, to]
    assert plainly(world.repo, "status", "--porcelain", "--no-renames").strip() == ""
    assert not (tmp_path / "trap").exists()
    assert (world.repo / ".git/config").read_bytes() == before


EVERYWHERE: dict[str, dict[str, str]] = {
    "no protocol for files": {"protocol.file.allow": "never"},
    "no protocol at all": {"protocol.allow": "never"},
    "other addresses": {
        "url.https://mirror.invalid/.insteadOf": "{repo}",
        "url.git@host.invalid:.pushInsteadOf": "/",
        "url.https://other.invalid/.insteadOf": "/",
    },
    "checks on transfer": {"transfer.fsckObjects": "true", "fetch.fsck.badTimezone": "error"},
    "another name for the remote": {"clone.defaultRemoteName": "upstream"},
}


@pytest.mark.parametrize("name", EVERYWHERE)
async def test_whatever_they_configured_for_all_repositories_the_factory_clones_fetches_and_lands(
    tmp_path: Path, name: str
) -> None:
    repo = make_repo(tmp_path / "r", BEFORE)
    for key, value in EVERYWHERE[name].items():
        file = str(tmp_path / "home" / ".gitconfig")
        (tmp_path / "home").mkdir(exist_ok=True)
        git(repo, "config", "--file", file, key, value.format(repo=repo))

    world = await begin(repo)
    theirs = commit(repo, {"theirs": "new\n"})

    assert await world.trunk.refresh() == theirs
    to = await world.candidate()
    assert await world.land(to) == Landed(to)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
async def test_a_repository_of_somebody_else_that_they_trust_is_cloned_and_fetched(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", BEFORE)
    file = tmp_path / "home" / ".gitconfig"
    file.parent.mkdir()
    git(repo, "config", "--file", str(file), "safe.directory", str(repo))
    theirs = commit(repo, {"theirs": "new\n"})
    subprocess.run(["chown", "-R", "1234", repo], check=True)

    world = await begin(repo)

    assert await world.trunk.refresh() == theirs


@pytest.mark.parametrize("name", ATTRIBUTES)
async def test_whatever_attributes_say_a_landing_leaves_a_clean_checkout(
    tmp_path: Path, name: str
) -> None:
    repo = make_repo(tmp_path / "r", BEFORE | {".gitattributes": ATTRIBUTES[name]})
    world = await begin(repo)
    to = await world.candidate(AFTER | {"a.c": "/* $Id$ */\n", "wide": "w\0i\0d\0e\0\n\0"})

    assert await world.land(to) == Landed(to)

    assert world.status() == ""
    assert git(repo, "diff", "--stat", "HEAD") == ""
    assert ("\r\n" in (repo / "added").read_bytes().decode()) == (name == "eol=crlf")


# ── what they do meanwhile ──


async def test_what_they_prune_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    to, before = await world.candidate(), world.head()
    forward = Move._fast_forward

    async def pruned_before(move: Move, begun: Callable[[int], None]) -> Outcome:
        git(world.repo, "gc", "-q", "--prune=now")
        return await forward(move, begun)

    monkeypatch.setattr(Move, "_fast_forward", pruned_before)
    outcome = await world.land(to)
    assert (kind(outcome), world.head(), world.status()) == ("failed", before, "")
    monkeypatch.undo()

    assert await world.land(to) == Landed(to)


async def test_what_was_pruned_of_a_rewritten_trunk_is_in_the_factory_repository_still(
    world: World,
) -> None:
    landed = await world.candidate()
    assert await world.land(landed) == Landed(landed)
    git(world.repo, "reset", "-q", "--hard", "HEAD^")
    git(world.repo, "reflog", "expire", "--expire=now", "--all")
    git(world.repo, "gc", "-q", "--prune=now")

    assert await world.trunk.refresh() == world.head()

    assert git(world.repo, "cat-file", "-t", landed, ok=False) == ""
    assert await world.own.commit(landed) == landed
    again = await world.candidate({"other": "1\n"}, remove=())
    assert await world.land(again) == Landed(again)


async def test_a_trunk_that_they_delete_is_gone_and_nothing_brings_it_back(world: World) -> None:
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "--detach")
    git(world.repo, "pack-refs", "--all")
    was = world.head()
    git(world.repo, "branch", "-D", "main")

    assert await world.trunk.refresh() == ""
    assert kind(await world.land(to)) == "Moved"
    assert git(world.repo, "for-each-ref") == ""
    git(world.repo, "branch", "main", was)

    assert await world.land(to) == Landed(to)


async def test_other_branches_tags_stashes_and_notes_stay_as_they_are(world: World) -> None:
    write(world.repo, {"kept": "stashed\n"})
    git(world.repo, "stash")
    git(world.repo, "branch", "side")
    git(world.repo, "tag", "v1")
    git(world.repo, "notes", "add", "-m", "noted")
    refs = git(world.repo, "for-each-ref", "--exclude=refs/heads/main")
    to = await world.candidate()

    assert await world.land(to) == Landed(to)

    assert git(world.repo, "for-each-ref", "--exclude=refs/heads/main") == refs
    git(world.repo, "stash", "pop")
    assert world.status() == " M kept"


@pytest.mark.parametrize("moved", ["amended", "reset"])
async def test_a_trunk_that_they_force_moved_is_never_overwritten(world: World, moved: str) -> None:
    commit(world.repo, {"b": "1\n"})
    await world.trunk.refresh()
    to = await world.candidate()
    plan = await world.plan(to)
    how = {
        "amended": ("commit", "-q", "--amend", "-m", "x"),
        "reset": ("reset", "-q", "--hard", "HEAD^"),
    }
    git(world.repo, *how[moved])
    theirs = world.head()

    outcomes = [
        await world.trunk.land(plan, lambda _: None),
        await world.recover(replace(plan, pid=0)),
    ]

    assert [type(each) for each in outcomes] == [Moved, Moved]
    assert (world.head(), world.status()) == (theirs, "")


async def test_an_unborn_lock_file_of_packed_refs_is_no_reason_to_wait(world: World) -> None:
    (world.repo / ".git/packed-refs.lock").touch()
    to = await world.candidate()

    assert await world.land(to) == Landed(to)


async def test_a_repository_that_is_moved_away_is_an_error_and_no_new_one_is_made(
    world: World,
) -> None:
    to = await world.candidate()
    plan = await world.plan(to)
    shutil.move(world.repo, world.repo.with_name("away"))

    with pytest.raises(Exception, match=r".") as error:
        await world.trunk.land(plan, lambda _: None)

    assert not isinstance(error.value, AssertionError)
    assert not world.repo.exists()


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await begin(make_repo(tmp_path / "my repo é", BEFORE))
