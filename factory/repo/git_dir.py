"""One git dir, and the only way to run git on it.

Invariant: git uses a git dir of the factory only with the factory's own configuration, so it runs
nothing that an agent or the user planted there. git uses a user's repository with the user's
configuration, but without hooks, gc, signing and prompts.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from factory.child import process
from factory.child.proc import MARKER
from factory.ground import bounded, faults, plumbing
from factory.ground.aside import aside
from factory.ground.commands import Commands, Running
from factory.ground.errors import GitError, TooLong, TooMuch
from factory.ground.pipes import Into

SHOWN_BYTES = 64 << 10  # bytes kept of the output of a command that printed too much
_TRIES = 3  # retries of a factory command that a signal ended
_QUIET = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "advice.detachedHead=false",
    "submodule.recurse=false",
    "protocol.ext.allow=never",
    "i18n.logOutputEncoding=UTF-8",
    "i18n.commitEncoding=UTF-8",
)
# variables with which git reads neither the system's nor the user's configuration
UNCONFIGURED: Mapping[str, str] = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
# the shell waits for a line on its stdin before it becomes git
_WHEN_TOLD = ("/bin/sh", "-c", 'read -r go && exec "$@"', "sh")


def clean_environment(source: Mapping[str, str]) -> dict[str, str]:
    """Return `source` without GIT_ variables; git then prints in English and never prompts."""
    kept = {name: value for name, value in source.items() if not name.startswith("GIT_")}
    return kept | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GitDir:
    """One git dir, used through plumbing commands.

    `own`: the factory's git dir (git reads neither the system's nor the user's configuration);
    otherwise the user's git dir with the user's configuration. If a signal ended a command on the
    factory's git dir, the command is run again, because all such commands can be repeated. With
    `work_tree`, `index` is required too: the daemon never uses an index that an agent can write.
    """

    git_dir: Path
    own: bool
    environ: Mapping[str, str]
    work_tree: Path | None = None
    index: Path | None = None
    config: tuple[str, ...] = ()  # more `name=value` settings for each command
    # pids of the git commands that run now
    commands: Commands = field(default_factory=Commands, repr=False, compare=False)

    async def run(
        self,
        *argv: str,
        stdin: bytes | IO[bytes] = b"",
        ok: tuple[int, ...] = (0,),
        env: Mapping[str, str] | None = None,
        started: Callable[[int], None] | None = None,
        seconds: float = 0,
        into: Into = process.INTO,
    ) -> process.Output:
        """Run one git command; raise GitError unless its exit code is in `ok`.

        `started` gets the pid before git does anything: if the daemon dies in `started`, git never
        runs. `seconds` is the time limit; 0 means the default of this kind of command. If a signal
        ended the command, the exit code is negative. Raises TooLong if the command reached its
        limit, and TooMuch if it prints more than `into` accepts.
        """
        command = ["git", *_options(_QUIET), *_options(self.config), *argv]
        said = stdin if isinstance(stdin, bytes) else b""
        if started:
            command = [*_WHEN_TOLD, *command]
            stdin = b"go\n" + said
        for _ in range(_TRIES if self.own else 1):
            with self.commands.running(argv, seconds) as one:
                done = await process.run(
                    command,
                    cwd=self.work_tree,
                    env=self._env() | dict(env or {}),
                    stdin=stdin,
                    seconds=process.Watch(
                        started=one.started(started), left=partial(self.commands.left, one)
                    ),
                    into=into,
                )
            if not self.own or done.code >= 0 or done.left:
                break
            # The command was killed, and nothing else writes the same files: its locks can go.
            self._unlock(argv, said)
            if done.over or done.much:
                break
        if done.much:
            raise TooMuch(argv, done.code, done.out[:SHOWN_BYTES], into.most)
        return _checked(argv, done, one, ok)

    async def text(
        self, *argv: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> str:
        """Return the output of one git command without the last newline.

        Raises GitError unless git exits 0.
        """
        done = await self.run(*argv, stdin=stdin, env=env)
        return os.fsdecode(done.out).rstrip("\n")

    async def names(self, *argv: str) -> list[str]:
        """Return the NUL-separated names that one git command prints (pass its -z)."""
        done = await self.run(*argv)
        return await aside(many(done.out), partial(plumbing.names, done.out))

    async def commit(self, rev: str) -> str:
        """Return the id of the commit that `rev` names; empty if there is no such commit."""
        how = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        done = await self.run(*how, f"{rev}^{{commit}}", ok=(0, 1, 128))
        return os.fsdecode(done.out).strip()

    async def contains(self, rev: str, commit: str) -> bool:
        """Whether `commit` is `rev` or an ancestor of `rev`.

        False if the commit does not exist in this git dir.
        """
        done = await self.run("merge-base", "--is-ancestor", commit, rev, ok=(0, 1, 128))
        return done.code == 0

    async def missing(self, objects: Iterable[str]) -> set[str]:
        """Return those of the objects that do not exist in this git dir."""
        asked = "".join(f"{each}\n" for each in objects)
        if not asked:
            return set()
        told = await self.text("cat-file", "--batch-check", "--buffer", stdin=asked.encode())
        return {line.split()[0] for line in told.splitlines() if line.endswith(" missing")}

    async def damage(self, seconds: float) -> str:
        """Return what is wrong with the links between objects.

        The result is empty if nothing is wrong, or if the check takes longer than `seconds`.
        """
        command = ["git", "fsck", "--connectivity-only", "--no-dangling", "--no-progress"]
        done = await process.run(command, env=self._env(), seconds=seconds)
        if done.code <= 0:
            return ""
        said = (done.err + done.out).decode(errors="replace").splitlines()
        return "; ".join(said[:3]) or "git fsck printed nothing"

    @faults.during("clone.seize")
    async def seize(self) -> None:
        """End every git that a dead daemon left in the factory's git dir; remove its locks."""
        await process.end(self.git_dir)
        for lock in self.git_dir.rglob("*.lock"):
            lock.unlink(missing_ok=True)

    def read_ref(self, ref: str) -> str:
        """Return the object that a full ref points to, from its file or from packed-refs.

        The result is empty if only git can tell. Works only for a git dir that keeps its refs in
        files.
        """
        with suppress(OSError):
            loose = bounded.head(self.git_dir / ref, bounded.PARSED).decode().strip()
            return "" if loose.startswith("ref:") else loose
        with suppress(OSError):
            line = rb"^([0-9a-f]+) %s$" % re.escape(os.fsencode(ref))
            found = re.search(line, (self.git_dir / "packed-refs").read_bytes(), re.MULTILINE)
            return found[1].decode() if found else ""
        return ""

    def tag_marks(self) -> tuple[tuple[str, int, int], ...]:
        """Return a value that changes whenever a tag is created, moved or deleted.

        Works only for a git dir that keeps its refs in files.
        """
        paths = [str(self.git_dir / "packed-refs")]
        for folder, _, files in os.walk(self.git_dir / "refs/tags"):
            paths.append(folder)
            paths += [f"{folder}/{name}" for name in files]
        marks = []
        for path in sorted(paths):
            if os.path.lexists(path):
                about = os.lstat(path)
                marks.append((path, about.st_mtime_ns, about.st_ino))
        return tuple(marks)

    def _unlock(self, argv: Sequence[str], said: bytes) -> None:
        """Remove the locks that a dead factory command left: of its index and of its refs.

        `said` is the command's standard input, which names the refs for `update-ref`.
        """
        words = list(argv)
        if argv[0] == "update-ref":
            words += os.fsdecode(said).split()
        locks = [self.git_dir / "shallow.lock", self.git_dir / "packed-refs.lock"]
        if self.index:
            locks.append(Path(f"{self.index}.lock"))
        for ref in _refs(words):
            locks.append(self.git_dir / f"{ref}.lock")
            if ref.endswith("/*"):
                locks += (self.git_dir / ref).parent.rglob("*.lock")
        for lock in locks:
            lock.unlink(missing_ok=True)

    def _env(self) -> dict[str, str]:
        env = clean_environment(self.environ) | {"GIT_DIR": str(self.git_dir)}
        if self.own:
            env[MARKER] = str(self.git_dir)  # `seize` recognizes the command by this variable
            env |= UNCONFIGURED
        if self.work_tree:
            env["GIT_WORK_TREE"] = str(self.work_tree)
        if self.index:
            env["GIT_INDEX_FILE"] = str(self.index)
        return env


def ended_by_nul(names: Iterable[str]) -> bytes:
    """Return the names, each with a NUL at its end, as git reads them from its stdin with -z."""
    return os.fsencode("".join(f"{name}\0" for name in names))


def many(out: bytes) -> int:
    """Return a rough count of the things that a command printed."""
    return len(out) // 64


def _options(settings: Iterable[str]) -> list[str]:
    options = []
    for setting in settings:
        options += ["-c", setting]
    return options


def _checked(
    argv: tuple[str, ...],
    done: process.Output,
    one: Running,
    ok: Sequence[int],
) -> process.Output:
    """Return the output of a command if its exit code is allowed.

    Otherwise raise TooLong or GitError.
    """
    if not done.over:
        if done.code in ok:
            return done
        raise GitError(argv, done.code, done.err.decode(errors="replace"))
    done = replace(done, err=one.ended.encode() + done.err)
    # After a signal to end, git may exit with a code that normally means something else.
    if done.code in ok and done.code <= 0:
        return done
    raise TooLong(argv, done.code, done.err.decode(errors="replace"), left=done.left)


def _refs(words: Iterable[str]) -> set[str]:
    """Return the refs in a command's words, also those inside refspecs."""
    refs = set()
    for word in words:
        for ref in word.lstrip("+").split(":"):
            if ref.startswith("refs/"):
                refs.add(ref)
    return refs
