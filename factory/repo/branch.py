"""The branch that units land on: its present and earlier states in the user's repository.

Invariant: reading changes nothing.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from factory.repo import meanwhile
from factory.repo.examine import Repository
from factory.repo.git import Git
from factory.repo.meanwhile import OnTrunk
from factory.repo.message import Landing, read

FSYNC = ("core.fsync=all,-index",)  # the index is not synced, because git can rebuild it
PUT_BACK = "factoryd: put back"  # reflog message for a landing that was undone at once
AGENT_EMAIL = "agent@factoryd.invalid"
_LANDING_FORM = "%H%x00%ct%x00%B"
# These options override everything in the user's configuration that could change the output. With
# the author filter, git does not format the commits of other authors.
_LOG = (
    "log",
    "-z",
    "--no-show-signature",
    "--no-mailmap",
    "--ignore-missing",
    "--fixed-strings",
    f"--format={_LANDING_FORM}",
)


class Branch:
    """The target branch, only for reading. `own`: the factory repository; `user`: the user's."""

    def __init__(
        self,
        *,
        repository: Repository,
        own: Git,
        environ: Mapping[str, str],
    ) -> None:
        self.branch = repository.branch
        self.ref = f"refs/heads/{repository.branch}"
        self.own = own
        self.repository = repository
        self.common_dir = repository.common_dir
        self.in_files = repository.ref_format == "files"
        # mail addresses of the people whose submitted work landed, beside that of the agents
        self.people = set[str]()
        settings = (*FSYNC, "core.logAllRefUpdates=true")
        self.user = replace(repository.git(environ), config=settings, commands=own.commands)

    async def tip(self) -> str:
        """Return the commit that trunk points to now; empty if the branch does not exist.

        This starts no git if the repository keeps refs as files.
        """
        found = self.user.read_ref(self.ref) if self.in_files else ""
        return found or await self.user.commit(self.ref)

    async def holds(self, commit: str) -> bool:
        """Whether trunk contains `commit`, or contained it earlier according to its reflog."""
        if await self.tip() == commit or await self.user.contains(self.ref, commit):
            return True
        points = await self._points()
        if not points or not await self.user.commit(commit):
            return False
        # The commit is in trunk if no commit remains after git excludes everything reachable from
        # the points. If git cannot walk a commit, only a part of it arrived before the daemon died,
        # so it was never on trunk.
        left = await self.user.run(
            "rev-list",
            "-1",
            "--ignore-missing",
            "--stdin",
            stdin=_lines(commit, *_less(points)),
            ok=(0, 128),
        )
        return not (left.code or left.out)

    async def landings(self, *, since: str = "", history: bool = True) -> list[Landing]:
        """Return the landings in trunk, newest first, read from commit trailers by one process.

        With `history`, also return the landings that trunk contained earlier. With `since`, leave
        out everything reachable from that commit.
        """
        asked = [self.ref]
        if history:
            asked += await self._points()
        if since:
            asked += _less([since])
        authors = [f"--author=<{email}>" for email in (AGENT_EMAIL, *sorted(self.people))]
        printed = await self.user.run(*_LOG, *authors, "--stdin", stdin=_lines(*asked))
        fields = iter(printed.out.decode(errors="replace").split("\0"))
        landings = []
        for commit, at, body in zip(fields, fields, fields, strict=False):
            found = read(body)
            if found:
                subject = body.partition("\n")[0]
                landing = Landing(commit=commit, at=float(at), subject=subject, **found._asdict())
                landings.append(landing)
        return landings

    async def builds_on(self, to: str, base: str) -> bool:
        """Whether `to` contains `base`. If this process made the commits, no git starts."""
        at = to
        while at != base and at in self.own.known.bases:
            at = self.own.known.bases[at]
        return at == base or await self.own.contains(to, base)

    async def between(self, base: str, tip: str) -> list[OnTrunk]:
        """Return the commits of trunk after `base` up to `tip`, oldest first (see meanwhile.py)."""
        return await meanwhile.between(self.own, base, tip)

    async def changers(
        self, base: str, tip: str, submission: str, paths: Sequence[str]
    ) -> list[OnTrunk]:
        """Return the commits after `base` that changed the same lines (see meanwhile.py)."""
        return await meanwhile.changers(self.own, base, tip, submission, paths)

    async def _points(self) -> list[str]:
        """Return every commit in trunk's reflog that trunk pointed to, without undone landings."""
        form = ("--no-show-signature", "--format=%H %gs")
        log = await self.user.run("reflog", "show", *form, self.ref, ok=(0, 128))
        points = []
        # the newest entry comes first, so the entry that undid a landing precedes the landing
        is_undone = False
        for line in os.fsdecode(log.out).splitlines():
            point, _, why = line.partition(" ")
            if not is_undone:
                points.append(point)
            is_undone = why.startswith(PUT_BACK)
        return points


def _less(commits: list[str]) -> list[str]:
    """Return arguments with which git excludes everything reachable from these commits."""
    return [f"^{commit}" for commit in commits]


def _lines(*words: str) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()
