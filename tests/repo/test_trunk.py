"""Trunk rehearsed onto, landed on, and brought back after every kind of interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.child import process
from factory.repo.checkout import Checkout, checkouts
from factory.repo.examine import examine
from factory.repo.git import Git, Person
from factory.repo.landing_plan import Blocked, Landed, LandingPlan, Moved, Outcome
from factory.repo.move import GIT_S, Move
from factory.repo.trunk import Conflict, Nothing, Rehearsed, Trunk, make
from tests.git_repo import commit, environment, git, make_repo, shows_arguments, write

AGENT = Person("claude", "claude@factoryd.invalid")
BEFORE = {
    "changed": "old\n" * 40,
    "gone": "bye\n",
    "deep/gone too": "bye\n",
    "kept": "kept\n",
    ".gitignore": "*.log\n",
}
AFTER = {"changed": "new text\n" * 60, "added": "hello\n" * 30, "deep é/er/added": "there\n" * 30}
TOUCHED = ("added", "changed", "deep/gone too", "deep é/er/added", "gone")


@dataclass(frozen=True)
class World:
    """A user's repository, the factory's, and trunk."""

    repo: Path
    own: Git
    trunk: Trunk

    async def candidate(
        self, files: dict[str, str] = AFTER, remove: tuple[str, ...] = ("gone", "deep/gone too")
    ) -> str:
        """A commit on trunk's tip that only the factory repository has."""
        clone = self.repo.parent / f"agent{time.monotonic_ns()}"
        git(self.repo.parent, "clone", "-q", str(self.own.git_dir), str(clone))
        git(clone, "checkout", "-q", "--detach", await self.own.commit(self.trunk.ref))
        for path in remove:
            git(clone, "rm", "-q", path)
        # A git of ours is known by its commit, so no two tests may have the same one.
        made = commit(clone, files, f"work\n\n{self.repo}")
        git(clone, "push", "-q", "origin", f"{made}:refs/factory/{made}")
        return made

    async def plan(self, to: str) -> LandingPlan:
        plan = await self.trunk.plan_landing(to, now=datetime.now(UTC))
        assert isinstance(plan, LandingPlan), plan
        return plan

    async def land(self, to: str) -> Outcome:
        plan = await self.trunk.plan_landing(to, now=datetime.now(UTC))
        return (
            await self.trunk.land(plan, lambda _: None) if isinstance(plan, LandingPlan) else plan
        )

    async def recover(self, plan: LandingPlan) -> Outcome:
        return await self.trunk.recover(plan, lambda _: None, now=datetime.now(UTC))

    def head(self, rev: str = "main") -> str:
        return git(self.repo, "rev-parse", rev)

    def status(self, where: Path | None = None) -> str:
        return git(where or self.repo, "status", "--porcelain", "-uall")


async def begin(repo: Path, branch: str = "main") -> World:
    env = {"PATH": os.environ["PATH"], "HOME": str(repo.parent / "home")}
    repository = await examine(repo, env, trunk=branch)
    own = await make(repository, repo.parent / "own.git", env)
    trunk = Trunk(repository=repository, own=own, environ=env)
    await trunk.refresh()
    return World(repo, own, trunk)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await begin(make_repo(tmp_path / "my repo é", BEFORE))


def kind(outcome: object) -> str:
    return outcome.kind if isinstance(outcome, Blocked) else type(outcome).__name__


async def test_a_large_file_lands_and_is_never_in_memory(world: World) -> None:
    clone = world.repo.parent / "agent"
    git(world.repo.parent, "clone", "-q", str(world.own.git_dir), str(clone))
    (clone / "large.bin").write_bytes(os.urandom(1 << 20) * 24)
    made = commit(clone, {}, "work")
    git(clone, "push", "-q", "origin", f"{made}:refs/factory/{made}")
    tracemalloc.start()

    outcome = await world.land(made)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (outcome, world.head(), world.status()) == (Landed(made), made, "")
    assert peak < 4 << 20
    assert list(world.own.git_dir.glob("tmp*")) == []


# ── the factory repository ──


async def test_the_factory_repository_has_trunk_and_tags_and_nothing_else(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", BEFORE)
    git(repo, "tag", "v1")
    git(repo, "branch", "side")

    world = await begin(repo)

    assert git(world.own.git_dir, "for-each-ref", "--format=%(refname)").splitlines() == [
        "refs/heads/main",
        "refs/tags/v1",
    ]
    assert git(repo, "for-each-ref", "--format=%(refname)").splitlines() == [
        "refs/heads/main",
        "refs/heads/side",
        "refs/tags/v1",
    ]


async def test_a_clone_that_was_killed_half_way_is_made_anew(tmp_path: Path) -> None:
    write(tmp_path, {"own.git.new/HEAD": "rubbish"})

    world = await begin(make_repo(tmp_path / "r", BEFORE))

    assert await world.own.commit("refs/heads/main") == world.head()


async def test_refresh_follows_trunk_and_its_new_tags(world: World) -> None:
    after = commit(world.repo, {"b": "1"})
    git(world.repo, "tag", "-a", "-m", "two", "v2")

    assert await world.trunk.refresh() == after
    assert await world.trunk.refresh() == after
    assert git(world.own.git_dir, "tag") == "v2"


async def test_a_rewritten_trunk_is_followed(world: World) -> None:
    git(world.repo, "commit", "-q", "--amend", "-m", "other")

    assert await world.trunk.refresh() == await world.own.commit("refs/heads/main") == world.head()


async def test_a_renamed_trunk_is_gone(world: World) -> None:
    git(world.repo, "branch", "-m", "main", "master")

    assert await world.trunk.refresh() == ""


@pytest.mark.parametrize("option", ["--object-format=sha256", "--ref-format=reftable", "-q"])
async def test_every_kind_of_repository_is_landed_on(tmp_path: Path, option: str) -> None:
    world = await begin(make_repo(tmp_path / "r", BEFORE, "main", option))
    to = await world.candidate()

    assert await world.land(to) == Landed(to)
    assert (world.head(), world.status(), await world.trunk.tip()) == (to, "", to)


async def test_packed_refs_are_read(world: World) -> None:
    to = await world.candidate()
    git(world.repo, "pack-refs", "--all")

    assert world.trunk.user.read_ref(world.trunk.ref) == await world.trunk.tip() == world.head()
    assert await world.land(to) == Landed(to)


async def test_a_shallow_clone_is_landed_on(tmp_path: Path) -> None:
    commit(make_repo(tmp_path / "far", {"a": ""}), BEFORE)
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tmp_path / 'far'}", "near")
    world = await begin(tmp_path / "near")
    to = await world.candidate()

    assert await world.land(to) == Landed(to)
    commit(world.repo, {"more": "1"})
    assert await world.trunk.refresh() == world.head()
    again = await world.candidate({"again": "1"}, ())
    assert await world.land(again) == Landed(again)


# ── rehearsing ──


async def rehearse(
    world: World, submission: str, base: str, submission_base: str
) -> Rehearsed | Conflict | Nothing:
    return await world.trunk.rehearse(
        base=base,
        submission=submission,
        submission_base=submission_base,
        text="Unit\n",
        author=AGENT,
    )


async def test_a_submission_is_merged_onto_a_newer_base_as_one_commit(world: World) -> None:
    old = world.head()
    submission = await world.candidate()
    base = commit(world.repo, {"kept": "newer\n"})
    await world.trunk.refresh()

    made = await rehearse(world, submission, base, old)

    assert isinstance(made, Rehearsed)
    assert git(world.own.git_dir, "log", "-1", "--format=%P %T %an %ae %cn %s", made.commit) == (
        f"{base} {made.tree} claude claude@factoryd.invalid Ada Tester Unit"
    )
    assert [change.path for change in await world.own.changed(base, made.commit)] == sorted(TOUCHED)


async def test_a_conflict_names_its_paths_and_an_empty_merge_is_nothing(world: World) -> None:
    old = world.head()
    submission = await world.candidate({"changed": "mine\n"}, ())
    other = commit(world.repo, {"changed": "theirs\n"})
    same = commit(world.repo, {"changed": "mine\n"})
    await world.trunk.refresh()

    assert await rehearse(world, submission, other, old) == Conflict(("changed",))
    assert await rehearse(world, submission, same, old) == Nothing()


async def test_merge_attributes_of_trunk_are_heeded(tmp_path: Path) -> None:
    world = await begin(
        make_repo(tmp_path / "r", BEFORE | {".gitattributes": "list merge=union\n", "list": "a\n"})
    )
    old = world.head()
    submission = await world.candidate({"list": "a\nmine\n"}, ())
    base = commit(world.repo, {"list": "a\ntheirs\n"})
    await world.trunk.refresh()

    made = await rehearse(world, submission, base, old)

    assert isinstance(made, Rehearsed)
    assert await world.own.show(made.commit, "list") == "a\ntheirs\nmine\n"


# ── landing ──


async def test_a_landing_moves_trunk_and_the_checkout_and_leaves_no_ref(world: World) -> None:
    to = await world.candidate()
    refs = git(world.repo, "for-each-ref", "--format=%(refname)")
    pids: list[int] = []
    plan = await world.plan(to)

    outcome = await world.trunk.land(plan, lambda begun: pids.append(begun.pid))

    assert outcome == Landed(to)
    assert (
        world.head(),
        world.status(),
        git(world.repo, "for-each-ref", "--format=%(refname)"),
    ) == (to, "", refs)
    assert plan.paths == tuple(sorted(TOUCHED))
    assert len(pids) == 1
    assert pids[0] > 0
    assert await world.land(to) == Landed(to)


async def test_a_trunk_that_is_not_checked_out_moves_alone(world: World) -> None:
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "-b", "side")

    assert await world.land(to) == Landed(to)
    assert (world.head(), world.head("HEAD") == to, world.status()) == (to, False, "")


async def test_trunk_in_a_linked_worktree_moves_there(world: World, tmp_path: Path) -> None:
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "--detach")
    git(world.repo, "worktree", "add", "-q", str(tmp_path / "linked tree"), "main")
    write(tmp_path / "linked tree", {"kept": "mine\n"})

    assert await world.land(to) == Landed(to)
    assert (world.head(), world.status(tmp_path / "linked tree"), world.status()) == (
        to,
        " M kept",
        "",
    )


async def test_a_linked_worktree_whose_folder_is_gone_does_not_count(
    world: World, tmp_path: Path
) -> None:
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "--detach")
    git(world.repo, "worktree", "add", "-q", str(tmp_path / "linked"), "main")
    (tmp_path / "linked").rename(tmp_path / "elsewhere")

    assert (await world.plan(to)).checkout == ""


async def test_a_locked_worktree_that_is_away_and_a_second_checkout_block(
    world: World, tmp_path: Path
) -> None:
    to = await world.candidate()
    git(world.repo, "worktree", "add", "-q", "--force", str(tmp_path / "linked"), "main")

    assert kind(await world.land(to)) == "busy"
    git(world.repo, "checkout", "-q", "--detach")
    git(world.repo, "worktree", "lock", str(tmp_path / "linked"))
    (tmp_path / "linked").rename(tmp_path / "elsewhere")
    assert kind(await world.land(to)) == "busy"


async def test_uncommitted_work_beside_the_landing_stays_as_it_is(world: World) -> None:
    to = await world.candidate()
    write(
        world.repo,
        {
            "kept": "mine\n",
            ".gitignore": "*.log\n*.tmp\n",
            "notes": "mine\n",
            "deep/x.log": "mine\n",
        },
    )
    git(world.repo, "add", ".gitignore")

    assert await world.land(to) == Landed(to)
    assert world.status() == "M  .gitignore\n M kept\n?? notes"
    assert (world.repo / "deep/x.log").read_text() == "mine\n"


Mess = Callable[[Path], object]


def mess(files: dict[str, str], *then: str, ignored: str = "") -> Mess:
    """Write files, ignore a pattern, run a git command."""

    def make_it(repo: Path) -> None:
        write(repo, files)
        (repo / ".git/info/exclude").write_text(f"{ignored}\n")
        if then:
            git(repo, *then)

    return make_it


IN_THE_WAY: dict[str, tuple[Mess, str, tuple[str, ...]]] = {
    "edited": (mess({"changed": "mine\n"}), "dirty", ("changed",)),
    "staged": (mess({"changed": "mine\n"}, "add", "changed"), "dirty", ("changed",)),
    "deleted": (lambda repo: (repo / "changed").unlink(), "dirty", ("changed",)),
    "edited what is to go": (mess({"gone": "mine\n"}), "dirty", ("gone",)),
    "untracked": (mess({"added": "mine\n"}), "dirty", ("added",)),
    "same content": (mess({"added": AFTER["added"]}), "dirty", ("added",)),
    "ignored": (mess({"added": "mine\n"}, ignored="added"), "dirty", ("added",)),
    "dangling link": (lambda repo: (repo / "added").symlink_to("nowhere"), "dirty", ("added",)),
    "a file for a folder": (mess({"deep é": "mine\n"}), "untracked", ("deep é",)),
    "an ignored file for a folder": (
        mess({"deep é": "mine\n"}, ignored="deep*"),
        "untracked",
        ("deep é",),
    ),
}


def everything(root: Path) -> dict[str, str]:
    files = (file for file in root.rglob("*") if ".git" not in file.relative_to(root).parts)
    return {
        str(f.relative_to(root)): str(f.readlink()) if f.is_symlink() else f.read_text()
        for f in files
        if not f.is_dir()
    }


@pytest.mark.parametrize("case", IN_THE_WAY)
async def test_work_in_the_way_blocks_the_landing_and_nothing_moves(
    world: World, case: str
) -> None:
    spoil, why, paths = IN_THE_WAY[case]
    to, before = await world.candidate(), world.head()
    spoil(world.repo)
    files, status = everything(world.repo), world.status()

    outcome = await world.land(to)

    assert isinstance(outcome, Blocked)
    assert (outcome.kind, outcome.paths) == (why, paths)
    assert (world.head(), everything(world.repo), world.status()) == (before, files, status)


@pytest.mark.parametrize("case", IN_THE_WAY)
async def test_work_that_comes_in_the_way_after_the_look_blocks_too(
    world: World, case: str
) -> None:
    spoil, _, _ = IN_THE_WAY[case]
    to, before = await world.candidate(), world.head()
    plan = await world.plan(to)
    spoil(world.repo)
    files, status = everything(world.repo), world.status()

    outcome = await world.trunk.land(plan, lambda _: None)

    if case == "deleted":  # git sees no loss there
        assert outcome == Landed(to)
        return
    assert kind(outcome) in ("dirty", "untracked")
    assert (world.head(), everything(world.repo), world.status()) == (before, files, status)


async def test_an_ignored_file_in_a_folder_that_becomes_a_file_is_not_lost(world: World) -> None:
    to = await world.candidate({"deep": "a file now\n"}, ("deep/gone too",))
    write(world.repo, {"deep/mine.log": "mine\n"})

    assert kind(await world.land(to)) in ("dirty", "untracked")
    assert (world.repo / "deep/mine.log").read_text() == "mine\n"
    (world.repo / "deep/mine.log").unlink()
    assert await world.land(to) == Landed(to)


async def test_a_file_only_touched_is_no_work(world: World) -> None:
    to = await world.candidate()
    (world.repo / "changed").write_text(BEFORE["changed"])

    assert await world.land(to) == Landed(to)


BUSY: dict[str, Mess] = {
    "rebase": lambda r: git(
        r, "-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-q", "-i", "HEAD~"
    ),
    "rebase that takes trunk along": lambda r: (
        git(r, "checkout", "-q", "-b", "top"),
        commit(r, {"top": ""}),
        git(
            r,
            "-c",
            "sequence.editor=sed -i 1s/pick/edit/",
            "rebase",
            "-q",
            "-i",
            "--update-refs",
            "HEAD~2",
        ),
    ),
    "bisect": lambda r: (git(r, "bisect", "start"), git(r, "checkout", "-q", "--detach", "HEAD~")),
    "merge": lambda r: git(r, "merge", "-q", "--no-commit", "--no-ff", "side"),
}


@pytest.mark.parametrize("case", BUSY)
async def test_a_trunk_in_the_middle_of_something_is_not_moved(tmp_path: Path, case: str) -> None:
    repo = make_repo(tmp_path / "r", BEFORE)
    git(repo, "branch", "side")
    commit(repo, {"two": ""}, "two")
    git(repo, "checkout", "-q", "side")
    commit(repo, {"on side": ""}, "side")
    git(repo, "checkout", "-q", "main")
    world = await begin(repo)
    to, before = await world.candidate(), world.head()
    BUSY[case](repo)

    assert kind(await world.land(to)) == "busy"
    assert world.head() == before


async def test_a_rebase_of_another_branch_does_not_matter(world: World) -> None:
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "-b", "other")
    commit(world.repo, {"o": ""})
    git(world.repo, "-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-q", "-i", "HEAD~")

    assert await world.land(to) == Landed(to)


async def test_a_cherry_pick_in_progress_blocks(world: World) -> None:
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "-b", "other")
    picked = commit(world.repo, {"kept": "theirs\n"})
    git(world.repo, "checkout", "-q", "main")
    write(world.repo, {"kept": "mine\n"})
    git(world.repo, "commit", "-q", "-am", "mine")
    await world.trunk.refresh()
    to = await world.candidate()
    git(world.repo, "cherry-pick", picked, ok=False)

    assert isinstance(await world.land(to), Blocked)
    assert "cherry-pick" in git(world.repo, "status")


async def test_a_moved_and_a_force_moved_trunk_ask_for_a_new_rehearsal(world: World) -> None:
    to = await world.candidate()
    plan = await world.plan(to)
    ahead = commit(world.repo, {"b": ""})

    assert await world.land(to) == Moved(ahead)
    assert await world.trunk.land(plan, lambda _: None) == Moved(ahead)
    git(world.repo, "commit", "-q", "--amend", "-m", "forced")
    assert await world.land(to) == Moved(world.head())
    git(world.repo, "checkout", "-q", "--detach")
    assert await world.trunk.land(replace(plan, checkout="", git_dir=""), lambda _: None) == Moved(
        world.head()
    )


@pytest.mark.parametrize("detached", [False, True])
async def test_a_branch_that_was_switched_to_meanwhile_is_put_back(
    world: World, monkeypatch: pytest.MonkeyPatch, detached: bool
) -> None:
    to, before = await world.candidate(), world.head()
    plan = await world.plan(to)
    git(world.repo, "branch", "side")
    write(world.repo, {"kept": "mine\n"})
    look = Checkout.head
    looks: list[str] = []

    async def switch_after_the_look(place) -> str:  # type: ignore[no-untyped-def]
        seen = await look(place)
        if not looks:
            git(world.repo, "checkout", "-q", *(["--detach"] if detached else []), "side")
        looks.append(seen)
        return seen

    monkeypatch.setattr(Checkout, "head", switch_after_the_look)
    outcome = await world.trunk.land(plan, lambda _: None)

    assert isinstance(outcome, Moved)
    assert "back at" in outcome.said
    assert (world.head(), world.head("side"), world.head("HEAD"), world.status()) == (
        before,
        before,
        before,
        " M kept",
    )
    assert not await world.trunk.holds(to)


async def test_a_trunk_that_was_checked_out_meanwhile_is_put_back_and_lands_there(
    world: World,
) -> None:
    git(world.repo, "checkout", "-q", "-b", "side")
    to, before = await world.candidate(), world.head()
    plan = await world.plan(to)
    git(world.repo, "checkout", "-q", "main")

    outcome = await world.trunk.land(plan, lambda _: None)

    assert isinstance(outcome, Moved)
    assert (world.head(), world.status()) == (before, "")
    assert not await world.trunk.holds(to)
    assert await world.land(to) == Landed(to)
    assert await world.trunk.holds(to)


@pytest.mark.parametrize("when", ["before the swap", "after the swap"])
async def test_a_switch_to_trunk_that_is_half_done_is_waited_for(world: World, when: str) -> None:
    git(world.repo, "checkout", "-q", "-b", "side")
    to, before = await world.candidate(), world.head()
    plan, switches, at_work = await world.plan(to), list[threading.Thread](), threading.Event()

    def switch() -> None:
        """What a git that switches does last, its files and index being those of the old trunk."""
        with subprocess.Popen(
            ["git", "0.3"], executable=shutil.which("sleep"), cwd=world.repo
        ) as git_like:
            shows_arguments(git_like)
            at_work.set()
            time.sleep(0.2)
            git(world.repo, "symbolic-ref", "HEAD", "refs/heads/main")

    def begun(_: LandingPlan) -> None:
        switches.append(threading.Thread(target=switch))
        switches[0].start()
        assert at_work.wait(10)

    if when == "before the swap":
        begun(plan)
    outcome = await world.trunk.land(plan, begun if not switches else lambda _: None)
    switches[0].join()

    assert isinstance(outcome, Moved)
    assert (world.head(), world.status()) == (before, "")
    assert await world.land(to) == Landed(to)


async def test_an_own_git_configuration_of_the_users_changes_nothing(world: World) -> None:
    to = await world.candidate()
    for name, value in {
        "branch.main.mergeOptions": "--no-ff --squash",
        "merge.ff": "false",
        "merge.autoStash": "true",
        "merge.verifySignatures": "true",
        "core.hooksPath": str(world.repo / "hooks"),
        "commit.gpgSign": "true",
        "core.logAllRefUpdates": "false",
        "log.showSignature": "true",
        "status.branch": "true",
    }.items():
        git(world.repo, "config", name, value)
    write(
        world.repo,
        {
            "hooks/post-merge": "#!/bin/sh\ntouch hooked\n",
            "hooks/reference-transaction": "#!/bin/sh\nexit 1\n",
        },
    )
    for hook in (world.repo / "hooks").iterdir():
        hook.chmod(0o755)

    assert await world.land(to) == Landed(to)
    assert not (world.repo / "hooked").exists()


async def test_a_lock_that_goes_away_is_waited_for_and_one_that_stays_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.4)
    to = await world.candidate()
    lock = world.repo / ".git/index.lock"
    lock.touch()

    outcome = await world.land(to)
    assert kind(outcome) == "locked"
    assert lock.exists()
    soon = f"import os,time;time.sleep(.1);os.unlink({str(lock)!r})"
    remover = subprocess.Popen([sys.executable, "-c", soon])  # noqa: ASYNC220
    assert await world.land(to) == Landed(to)
    remover.wait()


async def test_a_locked_ref_that_is_not_checked_out_blocks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.1)
    to = await world.candidate()
    git(world.repo, "checkout", "-q", "--detach")
    (world.repo / ".git/refs/heads/main.lock").touch()

    assert kind(await world.land(to)) == "locked"


@pytest.mark.parametrize("lock", ["refs/heads/main.lock", "HEAD.lock"])
async def test_a_ref_locked_after_the_look_leaves_no_trace(
    world: World, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    to, before = await world.candidate(), world.head()
    write(world.repo, {"kept": "mine\n"})
    (world.repo / ".git" / lock).touch()

    async def none(_: object) -> None:
        return None

    monkeypatch.setattr("factory.repo.move._stays", none)
    outcome = await world.land(to)

    assert (kind(outcome), world.head(), world.status()) == ("failed", before, " M kept")
    assert (world.repo / ".git" / lock).exists()


async def test_a_landing_of_many_files_arrives_as_a_pack(world: World) -> None:
    to = await world.candidate({f"d{n % 7}/f{n}": f"{n}\n" for n in range(150)}, ())

    assert await world.land(to) == Landed(to)
    assert git(world.repo, "fsck", "--strict") == ""


async def test_what_once_was_on_trunk_is_held_after_a_rewrite(world: World) -> None:
    first = await world.candidate()
    await world.land(first)
    await world.trunk.refresh()
    git(world.repo, "reset", "-q", "--hard", "HEAD~")

    assert await world.trunk.holds(first)
    assert not await world.trunk.holds(await world.candidate({"x": ""}, ()))
    assert not await world.trunk.holds("1" * 40)


# ── interrupted ──


def test_a_plan_survives_its_journey_through_the_journal() -> None:
    plan = LandingPlan(
        base="a", to="b", paths=("x", "\udcff"), at=1.5, checkout="/r", git_dir="/r/.git", pid=7
    )

    assert LandingPlan.of(plan.data()) == plan
    assert json.loads(plan.data())["to"] == "b"


async def sent(world: World, to: str) -> LandingPlan:
    """A journaled plan whose objects are in the user's repository, its git started and dead."""
    plan = await world.plan(to)
    await world.trunk._send(plan.to, plan.base)
    return replace(plan, pid=999_999_999)


async def test_a_landing_that_never_began_is_done(world: World) -> None:
    to = await world.candidate()
    plan = await world.plan(to)
    begun: list[LandingPlan] = []

    assert await world.trunk.recover(plan, begun.append, now=datetime.now(UTC)) == Landed(to)
    assert (world.head(), world.status()) == (to, "")
    assert [step.pid > 0 for step in begun] == [False, True]


async def test_a_landing_whose_objects_arrived_only_in_part_is_done(world: World) -> None:
    below = await world.candidate()
    tree = git(world.own.git_dir, "rev-parse", f"{below}^{{tree}}")
    to = git(world.own.git_dir, "commit-tree", tree, "-p", below, "-m", "the next one")
    plan = await world.plan(to)
    told = subprocess.run(
        ["git", "cat-file", "commit", to], cwd=world.own.git_dir, capture_output=True
    ).stdout
    write = ["git", "hash-object", "-t", "commit", "-w", "--stdin"]
    subprocess.run(write, cwd=world.repo, input=told, check=True, capture_output=True)

    assert git(world.repo, "cat-file", "-t", to) == "commit"
    assert await world.recover(plan) == Landed(to)
    assert (world.head(), world.status()) == (to, "")


async def test_a_landing_that_was_over_is_only_told(world: World) -> None:
    to = await world.candidate()
    plan = await sent(world, to)
    await world.land(to)
    (world.repo / ".git/HEAD.lock").touch()

    assert await world.recover(plan) == Landed(to)
    assert not (world.repo / ".git/HEAD.lock").exists()
    assert (world.head(), world.status()) == (to, "")


async def test_a_git_of_ours_that_outlived_its_daemon_and_hangs_is_ended_after_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.1)
    to = await world.candidate(
        {"added": str(world.repo)}
    )  # no other test's commit: its git is known by it
    plan = await sent(world, to)
    hung = subprocess.Popen(  # noqa: ASYNC220
        ["git", "hash-object", "--stdin", plan.to],
        stdin=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    shows_arguments(hung)
    plan = replace(plan, pid=hung.pid, at=plan.at - GIT_S)

    assert (
        kind(
            await world.trunk.recover(
                plan, lambda _: None, now=datetime.fromtimestamp(plan.at, UTC)
            )
        )
        == "running"
    )
    assert hung.poll() is None
    assert kind(await world.recover(plan)) == "running"
    hung.communicate()
    assert hung.returncode == -signal.SIGKILL

    assert await world.recover(plan) == Landed(to)


async def test_somebody_elses_process_under_its_pid_is_left_alone(world: World) -> None:
    to = await world.candidate()
    plan = await sent(world, to)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as theirs:  # noqa: ASYNC220
        assert not process.end_left_behind(theirs.pid, plan.to)
        assert theirs.poll() is None
        theirs.kill()


async def test_with_everything_but_the_ref_written_the_ref_follows(world: World) -> None:
    to = await world.candidate()
    plan = await sent(world, to)
    git(world.repo, "read-tree", "-m", "-u", plan.base, to)
    write(world.repo, {"added": "edited since\n"})
    (world.repo / ".git/refs/heads/main.lock").touch()

    assert await world.recover(plan) == Landed(to)
    assert (world.head(), world.status()) == (to, " M added")


async def test_a_branch_to_which_the_user_switches_while_the_ref_follows_keeps_its_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = await world.candidate()
    plan = await sent(world, to)
    git(world.repo, "read-tree", "-m", "-u", plan.base, to)
    (world.repo / ".git/refs/heads/main.lock").touch()
    set_ref = Move._set_ref

    async def switched(self: Move, *args: Any) -> None:
        git(world.repo, "switch", "-q", "-c", "idea")
        await set_ref(self, *args)

    monkeypatch.setattr(Move, "_set_ref", switched)

    assert await world.recover(plan) == Landed(to)
    assert git(world.repo, "rev-parse", "main") == to
    assert (git(world.repo, "rev-parse", "HEAD"), world.status()) == (plan.base, "")


async def test_a_swap_whose_lock_stayed_is_done_again(world: World) -> None:
    git(world.repo, "checkout", "-q", "--detach")
    to = await world.candidate()
    plan = await sent(world, to)
    (world.repo / ".git/refs/heads/main.lock").write_text(f"{to}\n")

    assert await world.recover(plan) == Landed(to)
    assert world.head() == to


@pytest.fixture
async def begun(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[World, LandingPlan]:
    """A world with an open step."""
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.1)
    return world, await sent(world, await world.candidate())


STATES = ("before", "after", "half", "empty", "absent", "theirs")


def put(world: World, path: str, state: str) -> None:
    """Leave `path` as a git killed while it wrote it would, or as a person did since."""
    file = world.repo / path
    if state == "before":
        return
    file.unlink(missing_ok=True)
    text = {
        "after": AFTER.get(path),
        "half": AFTER.get(path, "")[:7],
        "empty": "",
        "theirs": "mine!\n",
    }.get(state)
    if text is not None and (path in AFTER or state == "theirs"):
        write(world.repo, {path: text})


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(states=st.lists(st.sampled_from(STATES[:-1]), min_size=5, max_size=5))
async def test_whatever_our_dead_git_left_is_completed(
    begun: tuple[World, LandingPlan], states: list[str]
) -> None:
    world, plan = begun
    git(world.repo, "reset", "-q", "--hard", plan.base)
    git(world.repo, "reflog", "expire", "--expire=all", "--all")
    write(world.repo, {"kept": "mine\n", "x.log": "mine\n"})
    for path, state in zip(TOUCHED, states, strict=True):
        put(world, path, state)
    (world.repo / ".git/index.lock").touch()

    assert await world.recover(plan) == Landed(plan.to)
    assert (world.head(), world.status()) == (plan.to, " M kept")


@pytest.mark.parametrize("path", TOUCHED)
async def test_what_a_person_wrote_since_stays_and_the_rest_is_taken_back(
    world: World, path: str
) -> None:
    to, before = await world.candidate(), world.head()
    plan = await sent(world, to)
    for touched in TOUCHED:
        put(world, touched, "theirs" if touched == path else "after")
    (world.repo / ".git/index.lock").touch()

    outcome = await world.recover(plan)

    mark = "??" if path in ("added", "deep é/er/added") else " M"
    name = f'"{path}"' if " " in path else path
    assert (kind(outcome), world.head()) == ("dirty", before)
    assert (
        git(world.repo, "-c", "core.quotePath=false", "status", "--porcelain", "-uall")
        == f"{mark} {name}"
    )
    assert (world.repo / path).read_text() == "mine!\n"


async def test_a_wrong_branch_moved_just_before_we_died_is_put_back(
    begun: tuple[World, LandingPlan],
) -> None:
    world, plan = begun
    git(world.repo, "checkout", "-q", "-b", "side")
    git(world.repo, "merge", "-q", "--ff-only", plan.to)
    write(world.repo, {"kept": "mine\n"})

    assert await world.recover(plan) == Landed(plan.to)
    assert (world.head(), world.head("side"), world.status()) == (plan.to, plan.base, " M kept")


async def test_without_a_lock_a_persons_deletion_is_theirs(world: World) -> None:
    to, before = await world.candidate(), world.head()
    plan = await sent(world, to)
    (world.repo / "changed").unlink()

    assert kind(await world.recover(plan)) == "dirty"
    assert (world.head(), world.status()) == (before, " D changed")


async def test_where_no_git_of_ours_ever_ran_nothing_is_ours(
    begun: tuple[World, LandingPlan],
) -> None:
    world, plan = begun
    write(world.repo, {"added": AFTER["added"]})
    (world.repo / ".git/index.lock").touch()

    assert kind(await world.recover(replace(plan, pid=0))) == "dirty"
    (world.repo / "added").unlink()
    assert kind(await world.recover(replace(plan, pid=0))) == "locked"
    assert (world.repo / ".git/index.lock").exists()


async def test_an_older_lock_is_not_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.1)
    to = await world.candidate()
    lock = world.repo / ".git/index.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    plan = await sent(world, to)

    assert kind(await world.recover(plan)) == "locked"
    assert lock.exists()


async def test_a_git_that_outlived_us_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.move.PATIENCE_S", 0.2)
    to = await world.candidate()
    plan = await sent(world, to)
    lock = world.repo / ".git/index.lock"
    lock.touch()
    idle = ["git", "hash-object", "--stdin"]
    other = subprocess.Popen(idle, cwd=world.repo, env=environment(), stdin=subprocess.PIPE)  # noqa: ASYNC220
    shows_arguments(other)

    assert kind(await world.recover(plan)) == "running"
    assert lock.exists()
    other.communicate(b"")
    assert await world.recover(plan) == Landed(to)


async def test_a_link_planted_on_the_way_leads_nothing_of_theirs_out(
    world: World, tmp_path: Path
) -> None:
    to = await world.candidate()
    plan = await sent(world, to)
    write(tmp_path, {"outside/er/added": AFTER["deep é/er/added"]})
    (world.repo / "deep é").symlink_to(tmp_path / "outside")
    (world.repo / ".git/index.lock").touch()

    await world.recover(plan)

    assert (tmp_path / "outside/er/added").read_text() == AFTER["deep é/er/added"]


async def test_files_and_folders_that_change_places_are_put_right(world: World) -> None:
    to = await world.candidate(
        {"gone/in": "now in a folder\n", "deep": "now a file\n"}, ("gone", "deep/gone too")
    )
    plan = await sent(world, to)
    (world.repo / "gone").unlink()
    (world.repo / "gone").mkdir()
    (world.repo / "deep/gone too").unlink()
    (world.repo / "deep").rmdir()
    write(world.repo, {"deep": "now a"})
    (world.repo / ".git/index.lock").touch()

    assert await world.recover(plan) == Landed(to)
    assert (world.head(), world.status()) == (to, "")


@pytest.mark.parametrize(
    "theirs",
    [
        {"gone/mine.log": "mine\n"},  # a folder where a file was
        {"deep": "mine\n"},  # a file where a folder was
    ],
)
async def test_nothing_of_theirs_is_cleared_out_of_the_way(
    world: World, theirs: dict[str, str]
) -> None:
    to, before = await world.candidate(), world.head()
    plan = await sent(world, to)
    (world.repo / "gone").unlink()
    (world.repo / "deep/gone too").unlink()
    (world.repo / "deep").rmdir()
    write(world.repo, theirs)
    (world.repo / ".git/index.lock").touch()

    await world.recover(plan)

    assert world.head() == before
    assert {path: (world.repo / path).read_text() for path in theirs} == theirs


@pytest.mark.parametrize("setting", [("core.autocrlf", "true"), ("core.sparseCheckout", "true")])
async def test_a_half_written_file_is_known_as_its_checkout_shows_it(
    world: World, setting: tuple[str, str]
) -> None:
    to = await world.candidate({"changed": "new\nlines\n" * 9}, ())
    git(world.repo, "config", *setting)
    if "sparse" in setting[0].casefold():
        git(world.repo, "sparse-checkout", "set", "--no-cone", "/*", "!/deep")
    plan = await sent(world, to)
    ending = "\r\n" if setting[0] == "core.autocrlf" else "\n"
    write(world.repo, {"changed": f"new{ending}lines{ending}new"})
    (world.repo / ".git/index.lock").touch()

    assert await world.recover(plan) == Landed(to)
    assert (world.head(), world.status(), (world.repo / "deep").exists()) == (
        to,
        "",
        ending == "\r\n",
    )


MANY = {f"d{n % 20}/file {n}": f"{n}\n" * 200 for n in range(600)}


def strike(world: World, after: int) -> Callable[[LandingPlan], None]:
    """Kill the landing's git with SIGKILL once it has written `after` files of MANY, or has ended."""
    mark = world.repo / sorted(MANY)[after - 1]  # git writes them in this order

    def kill(pid: int) -> None:
        while after and not mark.exists() and not ended(pid):
            pass
        os.kill(pid, signal.SIGKILL)

    def started(plan: LandingPlan) -> None:
        if plan.pid:
            threading.Thread(target=kill, args=(plan.pid,)).start()

    return started


def ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("after", [0, 100, 300])
async def test_a_landing_whose_git_is_killed_leaves_nothing_behind_and_lands_next_time(
    world: World, after: int
) -> None:
    to, before = await world.candidate(MANY, ("gone",)), world.head()
    write(world.repo, {"kept": "mine\n"})
    files = everything(world.repo)

    for _ in range(20):
        outcome = await world.trunk.land(await world.plan(to), strike(world, after))
        if world.head() == before:
            break
        git(
            world.repo, "reset", "-q", "--hard", before
        )  # it had ended before it could be killed: once more
        write(world.repo, {"kept": "mine\n"})

    assert (kind(outcome), world.head()) == ("failed", before)
    assert (everything(world.repo), world.status()) == (files, " M kept")
    assert await world.land(to) == Landed(to)
    assert (world.head(), world.status()) == (to, " M kept")


@pytest.mark.parametrize(
    ("checked_out", "call"), [(True, "--ff-only"), (False, "update-ref --create-reflog")]
)
async def test_a_git_that_is_killed_when_trunk_has_moved_has_landed_and_its_locks_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked_out: bool, call: str
) -> None:
    repo, real = make_repo(tmp_path / "r", BEFORE), shutil.which("git")
    lock = repo / ".git/HEAD.lock"
    (tmp_path / "bin").mkdir()
    dies = f'case " $* " in *" {call} "*) {real} "$@"; touch {lock}; kill -9 $$;; esac'
    (tmp_path / "bin/git").write_text(f'#!/bin/sh\n{dies}\nexec {real} "$@"\n')
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    world = await begin(repo)
    to = await world.candidate()
    if not checked_out:
        git(repo, "switch", "-q", "-c", "side")

    assert await world.land(to) == Landed(to)
    assert (world.head(), lock.exists(), world.status()) == (to, False, "")


async def test_a_swap_whose_git_is_killed_leaves_no_lock_and_lands_next_time(world: World) -> None:
    to, before = await world.candidate(), world.head()
    git(world.repo, "switch", "-q", "-c", "side")
    lock = world.repo / ".git/refs/heads/main.lock"

    def killed(plan: LandingPlan) -> None:
        os.kill(plan.pid, signal.SIGKILL)
        lock.write_text(f"{to}\n")

    outcome = await world.trunk.land(await world.plan(to), killed)

    assert (kind(outcome), world.head("main"), lock.exists()) == ("failed", before, False)
    assert await world.land(to) == Landed(to)
    assert world.head("main") == to


DAEMON = """
import os, signal, sys, threading
from pathlib import Path
from typing import Any
import anyio
from factory.repo.examine import examine
from factory.repo.git import Git
from factory.repo.trunk import Trunk, make

CPU = {min(os.sched_getaffinity(0))}

async def main(repo, to, steps, mark):
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    repository = await examine(Path(repo), env)
    trunk = Trunk(repository=repository, own=await make(repository, Path(repo).parent / "own.git", env), environ=env)
    from datetime import UTC, datetime
    plan = await trunk.plan_landing(to, now=datetime.now(UTC))
    Path(steps).write_text(plan.data())
    def started(plan):
        Path(steps).write_text(plan.data())
        if not mark: os.kill(os.getpid(), signal.SIGKILL)
        # Both on one processor, git with next to no share of it: it is seen half-way on any machine.
        os.sched_setaffinity(plan.pid, CPU)
        os.setpriority(os.PRIO_PROCESS, plan.pid, 19)
        threading.Thread(target=kill, args=(plan.pid,)).start()
    def kill(pid):
        os.sched_setaffinity(0, CPU)
        while not os.path.lexists(os.path.join(repo, mark)): pass
        os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    await trunk.land(plan, started)

anyio.run(main, *sys.argv[1:5])
"""


@pytest.mark.parametrize("after", [0, 100, 400])
async def test_daemon_and_git_killed_together_are_both_made_good_by_the_next_start(
    world: World, tmp_path: Path, after: int
) -> None:
    to = await world.candidate(MANY, ("gone",))
    write(world.repo, {"kept": "mine\n", "x.log": "mine\n"})
    mark = sorted(MANY)[after] if after else ""  # git writes them in this order
    arguments = [str(world.repo), to, str(tmp_path / "step"), mark]
    source = str(Path(__file__).parents[2])

    died = subprocess.run(
        [sys.executable, "-c", DAEMON, *arguments],
        cwd=tmp_path,
        check=False,
        env=environment() | {"PYTHONPATH": source},
        capture_output=True,
    )
    plan = LandingPlan.of((tmp_path / "step").read_text())
    assert (died.returncode, died.stderr, world.status() != " M kept") == (
        -signal.SIGKILL,
        b"",
        after > 0,
    )

    assert await world.recover(plan) == Landed(to)
    assert (world.head(), world.status()) == (to, " M kept")
    assert (world.repo / "x.log").read_text() == "mine\n"


# ── what need not be asked again ──


async def test_what_landed_from_here_is_in_the_factory_repository_without_a_fetch(
    world: World,
) -> None:
    made = await world.candidate()

    assert await world.land(made) == Landed(made)

    assert await world.own.commit(world.trunk.ref) == made
    before = sorted(path.name for path in world.own.git_dir.glob("objects/pack/*"))
    assert await world.trunk.refresh() == made
    assert sorted(path.name for path in world.own.git_dir.glob("objects/pack/*")) == before


async def test_a_tag_is_fetched_although_trunk_has_not_moved(world: World) -> None:
    git(world.repo, "tag", "-a", "v2", "-m", "two")

    await world.trunk.refresh()

    assert git(world.own.git_dir, "rev-parse", "v2^{commit}") == world.head()


@pytest.mark.parametrize("formed", ["ref: refs/heads/main\n", "detached", "alias", "linked"])
async def test_what_a_checkout_has_checked_out_is_known_without_git_or_by_it(
    world: World, formed: str
) -> None:
    head = world.repo / ".git/HEAD"
    if formed == "detached":
        git(world.repo, "checkout", "-q", "--detach")
    elif formed == "alias":
        git(world.repo, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
        git(world.repo, "symbolic-ref", "HEAD", "refs/heads/alias")
    elif formed == "linked":
        head.rename(world.repo / ".git/HEAD.real")
        head.symlink_to("refs/heads/main")
    repository = await examine(world.repo, {"PATH": os.environ["PATH"]}, trunk="main")

    (place,) = await checkouts(repository.git({"PATH": os.environ["PATH"]}), repository)

    assert (place.branch, await place.head()) == (
        ("",) * 2 if formed == "detached" else ("refs/heads/main",) * 2
    )
