"""Work made elsewhere: what somebody committed in the user's repository, as one change to trunk.

Invariant: the user's repository is only read, and no ref there changes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from factory.ground import faults
from factory.ground.errors import RefusedByState
from factory.repo import kept
from factory.repo.archive import ATTEMPTS
from factory.repo.git import FACTORY, Git, Person
from factory.repo.message import RUN
from factory.repo.trunk import Trunk

MOST_COMMITS = 200  # commits whose messages are read, the newest ones
MESSAGE_MOST = 65536  # characters of the message of all commits together
_LOG = ("log", "-z", "--no-show-signature", "--no-mailmap", "--format=%an%x00%ae%x00%B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The change of one or more commits, from the commit of trunk that they are based on."""

    base: str
    tree: str
    author: Person  # the author of the first commit
    commits: int
    message: str  # the messages of all commits; its first line says what the work does

    @property
    def subject(self) -> str:
        """Return the first line of the message."""
        return self.message.partition("\n")[0].strip()


async def work_in(trunk: Trunk, commit: str, *, title: str) -> Work:
    """Fetch a commit, and return its change to trunk; `title`: the subject, if it is not "".

    Raises RefusedByState if trunk has the change already, or if both have no common commit.
    """
    tip = await trunk.tip()
    if not tip:
        raise RefusedByState(f"The branch {trunk.branch} does not exist. Nothing was submitted.")
    await trunk.take(tip, commit)
    own = trunk.own
    found = await own.run("merge-base", tip, commit, ok=(0, 1))
    base = os.fsdecode(found.out).strip()
    short = commit[:10]
    if not base:
        raise RefusedByState(
            f"{short} and {trunk.branch} have no commit in common: rebase it onto {trunk.branch}."
        )
    tree = await own.tree(commit)
    merged, _ = await own.merge(tip, commit, since=base)
    if await own.tree(tip) == merged:
        raise RefusedByState(f"{short} has no change that {trunk.branch} does not have.")
    said = await _commits(own, base, commit)
    count = await own.text("rev-list", "--count", f"{base}..{commit}")
    return Work(
        base=base,
        tree=tree,
        author=said[0][0],
        commits=int(count),
        message=_message([message for _, message in said], title or "")[:MESSAGE_MOST],
    )


@faults.during("attempt.keep")
async def keep(own: Git, work: Work, *, unit: str, number: int, nonce: str) -> str:
    """Keep the work in the ref of an attempt, as one commit of its author; return the commit."""
    ref = ref_of(unit, number)
    before = await kept.read(own, ref)
    if before and (before.tree, before.base, before.run) == (work.tree, work.base, nonce):
        return before.commit
    said = f"{work.subject}\n\nAttempt {number} of {unit}\n\n{RUN}: {nonce}\n"
    commit = await own.commit_tree(
        work.tree, [work.base], said, author=work.author, committer=FACTORY
    )
    await kept.put(own, ref, commit, before)
    return commit


def ref_of(unit: str, number: int) -> str:
    """Return the ref in the factory repository that keeps the work of an attempt."""
    return f"{ATTEMPTS}{unit}/{number}"


async def _commits(own: Git, base: str, commit: str) -> list[tuple[Person, str]]:
    """Return author and message of each commit that is no merge, oldest first; at least one."""
    which = ("--no-merges", f"--max-count={MOST_COMMITS}", f"{base}..{commit}")
    done = await own.run(*_LOG, "--reverse", *which, "--")
    if not done.out:
        done = await own.run(*_LOG, "-1", commit, "--")
    fields = iter(done.out.decode(errors="replace").split("\0"))
    found = []
    for name, email, message in zip(fields, fields, fields, strict=False):
        found.append((Person(name, email), message.strip()))
    return found


def _message(messages: Sequence[str], title: str) -> str:
    """Return one message for all commits: without a title, the oldest subject is its first line."""
    if len(messages) == 1 and not title:
        return messages[0]
    subject = title or messages[0].partition("\n")[0]
    parts = [subject, *(f"* {message}" for message in messages)]
    return "\n\n".join(parts)
