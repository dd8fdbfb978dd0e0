"""Examines the user's repository at each start.

Invariant: the examination changes only `.git/info/exclude`.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.child import process
from factory.ground import faults
from factory.ground.errors import NotYet, RepositoryError, did_you_mean
from factory.ground.plumbing import GITLINK
from factory.repo.git import FACTORY, Git, Person
from factory.repo.git_dir import clean_environment, ended_by_nul
from factory.repo.locate import Located, locate

OLDEST = (2, 41)  # because of --attr-source
_PARTIAL = r"extensions\.partialclone|remote\..*\.(promisor|partialclonefilter)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What the factory needs to know about the user's repository; `examine` returns it."""

    root: Path
    git_dir: Path  # the git dir of the checkout at `root`
    common_dir: Path  # the folder that contains refs and objects
    branch: str  # trunk
    ref_format: str  # either "files" or "reftable"
    identity: Person
    excludes: str  # the user's ignore files: the excludes file, then info/exclude

    def git(self, environ: Mapping[str, str]) -> Git:
        """The user's git dir, with the user's configuration."""
        return Git(git_dir=self.common_dir, own=False, environ=environ)


async def examine(
    root: Path,
    environ: Mapping[str, str],
    *,
    trunk: str = "",
    locating: Callable[[Path], Located] = locate,
) -> Repository:
    """Examine the repository around `root`.

    `trunk`: the configured branch; empty means the branch that is checked out. Raises
    RepositoryError or NotYet if the factory cannot work with the repository.
    """
    await _check_version(environ)
    located = locating(root)
    top, common = located.top, located.common_dir
    await _check_trust(top, environ)
    git = Git(
        git_dir=located.git_dir,
        own=False,
        work_tree=top,
        environ=environ,
    )
    settings = await _settings(git)
    branch = trunk or await _checked_out(git)
    await _check_branch(git, branch)
    for folder in (top, common, common / "objects"):
        if not os.access(folder, os.W_OK):
            raise RepositoryError(
                f"{folder} cannot be written. Give yourself write permission, then start again."
            )
    await _check_supported(git, top, settings)
    return Repository(
        root=top,
        git_dir=located.git_dir,
        common_dir=common,
        branch=branch,
        ref_format=settings.get("extensions.refstorage", "files"),
        identity=Person(
            settings.get("user.name") or FACTORY.name, settings.get("user.email") or FACTORY.email
        ),
        excludes=await _excludes(git, common),
    )


def exclude(
    common_dir: Path,
    lines: Sequence[str],
    *,
    never: Collection[str] = (),
) -> None:
    """Append the missing `lines` to info/exclude, and remove the lines in `never`.

    An earlier start may have written the lines in `never`.
    """
    file = common_dir / "info" / "exclude"
    text = file.read_bytes().decode(errors="surrogateescape") if file.exists() else ""
    if not set(never).isdisjoint(text.splitlines()):
        kept = text.splitlines(keepends=True)
        text = "".join(line for line in kept if line.rstrip("\r\n") not in never)
        # the new file is moved into place, so the user's file is never half written
        fresh = file.with_name("exclude.factoryd")
        with faults.step("exclude.write"):
            fresh.write_bytes(text.encode(errors="surrogateescape"))
            fresh.replace(file)
    missing = [line for line in lines if line not in text.splitlines()]
    if missing:
        with faults.step("exclude.write"):
            file.parent.mkdir(exist_ok=True)
            with file.open("a", errors="surrogateescape") as end:
                if text and not text.endswith("\n"):
                    end.write("\n")
                for line in missing:
                    end.write(f"{line}\n")


async def _check_version(environ: Mapping[str, str]) -> None:
    wanted = ".".join(map(str, OLDEST))
    try:
        done = await process.run(["git", "version"], env=clean_environment(environ))
    except FileNotFoundError:
        raise RepositoryError(
            f"git is not on PATH. Install git {wanted} or newer, then start again."
        ) from None
    except OSError as error:
        raise RepositoryError(
            f"git could not be run: {error}. Repair or install it, then start again."
        ) from error
    said = (done.out + done.err).decode(errors="replace").strip()
    found = re.search(rb"(\d+)\.(\d+)", done.out)
    if done.code or not found:
        how = f"`git version` ended with {done.code}"
        raise RepositoryError(
            f"git could not be run ({how}): {said or 'no error output'}\n"
            "Repair or install it, then start again."
        )
    if (int(found[1]), int(found[2])) < OLDEST:
        raise RepositoryError(
            f"{said} is too old. Install git {wanted} or newer, then start again."
        )


async def _settings(git: Git) -> dict[str, str]:
    """Return the user's configuration in force, with names in lower case."""
    found = {}
    for entry in await git.names("config", "--list", "-z", "--includes"):
        name, sign, value = entry.partition("\n")
        found[name.lower()] = value if sign else "true"
    return found


async def _check_trust(top: Path, environ: Mapping[str, str]) -> None:
    # git trusts a git dir that the command line names. It checks the owner only if it finds the git
    # dir by itself, for example when it fetches.
    command = ["git", "rev-parse", "--git-dir"]
    done = await process.run(command, cwd=top, env=clean_environment(environ))
    if b"dubious ownership" in done.err:
        trust = f"git config --global --add safe.directory '{top}'"
        raise RepositoryError(
            f"git does not trust {top}, which belongs to someone else. If you do: {trust}"
        )


async def _checked_out(git: Git) -> str:
    done = await git.run("symbolic-ref", "--short", "-q", "HEAD", ok=(0, 1))
    if done.code:
        raise RepositoryError(
            "No branch is checked out (detached HEAD)."
            ' Check one out, or name trunk in factory.toml: trunk = "main".'
        )
    return os.fsdecode(done.out).rstrip("\n")


async def _check_branch(git: Git, branch: str) -> None:
    if await git.commit(f"refs/heads/{branch}"):
        return
    heads = (await git.text("for-each-ref", "--format=%(refname:short)", "refs/heads")).splitlines()
    if not heads:
        raise RepositoryError(
            "The repository has no commit yet. Commit something, then start again."
        )
    hint = did_you_mean(branch, heads) or f"; there is {heads[0]}."
    raise RepositoryError(f"There is no branch {branch!r}{hint} Set `trunk` in factory.toml.")


async def _check_supported(git: Git, top: Path, settings: Iterable[str]) -> None:
    for name in settings:
        if re.fullmatch(_PARTIAL, name):
            fetch = "Fetch everything (`git fetch --refetch --no-filter`) into a full clone"
            raise NotYet(f"partial clones. {fetch}, and start there.")
    tracked = []
    for entry in await git.names("ls-files", "-s", "-z", "--full-name"):
        facts, _, path = entry.partition("\t")
        if facts.startswith(GITLINK) and (top / path / ".git").exists():
            remedy = f"`git submodule deinit {path}` makes the factory work without it."
            raise NotYet(f"populated submodules ({path}). {remedy}")
        tracked.append(path)
    how = ("check-attr", "-z", "--stdin", "filter")
    printed = await git.text(*how, stdin=ended_by_nul(tracked))
    parts = printed.split("\0")  # path, attribute and value, repeated for each path
    for path, value in zip(parts[0::3], parts[2::3], strict=False):
        if value not in ("unspecified", "unset"):
            raise NotYet(f"`filter={value}` attributes, Git LFS among them ({path} has one).")


async def _excludes(git: Git, common: Path) -> str:
    named = await git.run("config", "--type=path", "--get", "core.excludesFile", ok=(0, 1))
    home = git.environ.get("XDG_CONFIG_HOME") or f"{git.environ.get('HOME', '')}/.config"
    chosen = Path(os.fsdecode(named.out.rstrip(b"\n")) or f"{home}/git/ignore")
    text = ""
    for file in (chosen, common / "info" / "exclude"):
        if file.is_file():
            text += file.read_text(errors="surrogateescape").rstrip("\n") + "\n"
    return text
