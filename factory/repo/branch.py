"""The branch that units land on, as the user's repository has it now and had it before.

Invariant: looking changes nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import replace

from factory.repo.examine import Repository
from factory.repo.git import Git
from factory.repo.message import Landing, read

FSYNC = ("core.fsync=all,-index",)  # an index can be made again
PUT_BACK = "factoryd: put back"  # in the reflog: a landing that was undone at once
AGENT_EMAIL = "agent@factoryd.invalid"
_LANDING_FORM = "%H%x00%ct%x00%B"
# All that the user's configuration could change about it is said. The author spares git the
# formatting of other commits.
_LOG = (
    "log",
    "-z",
    "--no-show-signature",
    "--no-mailmap",
    "--ignore-missing",
    "--fixed-strings",
    f"--author=<{AGENT_EMAIL}>",
    f"--format={_LANDING_FORM}",
)


class Branch:
    """The target branch, read. `own`: git in the factory repository; `user`: git in the user's."""

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
        settings = (*FSYNC, "core.logAllRefUpdates=true")
        self.user = replace(repository.git(environ), config=settings, commands=own.commands)

    async def tip(self) -> str:
        """The commit that trunk points to now, empty when the branch is gone.

        Where refs are files, it is read without git.
        """
        found = self.user.read_ref(self.ref) if self.in_files else ""
        return found or await self.user.commit(self.ref)

    async def holds(self, commit: str) -> bool:
        """Whether `commit` is in trunk, or was at some time (its reflog says so)."""
        if await self.tip() == commit or await self.user.contains(self.ref, commit):
            return True
        points = await self._points()
        if not points or not await self.user.commit(commit):
            return False
        # Nothing is left of it once all that the points reach is taken away. What git cannot walk
        # arrived only in part before we died, and never was on trunk.
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
        """The landings that trunk holds, newest first, by the trailers of commits; one process.

        With `history` also those that it held at some time. `since`: a commit; what it can reach is
        left out.
        """
        asked = [self.ref]
        if history:
            asked += await self._points()
        if since:
            asked += _less([since])
        printed = await self.user.run(*_LOG, "--stdin", stdin=_lines(*asked))
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
        """Whether `base` is below `to`; no git runs for commits that were made here."""
        at = to
        while at != base and at in self.own.known.bases:
            at = self.own.known.bases[at]
        return at == base or await self.own.contains(to, base)

    async def _points(self) -> list[str]:
        """Every commit that its reflog says trunk pointed to, less landings that were put back."""
        form = ("--no-show-signature", "--format=%H %gs")
        log = await self.user.run("reflog", "show", *form, self.ref, ok=(0, 128))
        points = []
        is_undone = False  # the newest entry stands first, so what undid a landing comes before it
        for line in os.fsdecode(log.out).splitlines():
            point, _, why = line.partition(" ")
            if not is_undone:
                points.append(point)
            is_undone = why.startswith(PUT_BACK)
        return points


def _less(commits: list[str]) -> list[str]:
    """Arguments of git that leave out what these commits reach."""
    return [f"^{commit}" for commit in commits]


def _lines(*words: str) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()
