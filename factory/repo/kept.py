"""What the ref of an attempt keeps, and how it is moved.

Invariant: a commit that such a ref held stays reachable: by that ref, or by a second one that is
named after it.
"""

from typing import NamedTuple

from factory.ground.errors import GitError
from factory.repo.git import Git
from factory.repo.message import RUN


class Work(NamedTuple):
    """A tree that an attempt left, as a commit on its base."""

    commit: str
    tree: str
    base: str
    run: str  # the nonce of the attempt


async def read(own: Git, ref: str) -> Work | None:
    """What a ref keeps, if there is one."""
    if not own.read_ref(ref):  # without a process: most have none yet
        return None
    told = await own.text("log", "-1", "--no-show-signature", "--format=%H %T %P%n%B", ref, "--")
    head, _, said = told.partition("\n")
    commit, tree, base = head.split()
    return Work(commit, tree, base, run_in(said))


def run_in(message: str) -> str:
    """The nonce that the message of such a commit names."""
    for line in reversed(message.splitlines()):
        if line.startswith(f"{RUN}: "):
            return line.removeprefix(f"{RUN}: ").strip()
    return ""


async def put(
    own: Git,
    ref: str,
    commit: str,
    before: Work | None,
) -> None:
    """Let a ref keep a commit; what it kept `before` is kept under `REF-COMMIT`.

    Raises GitError where it keeps something else by now.
    """
    try:
        if before is None:
            await own.run("update-ref", ref, commit, "0" * len(commit))  # only where there is none
        else:
            second = f"{ref}-{before.commit[:12]}"
            moves = f"update {second} {before.commit}\nupdate {ref} {commit} {before.commit}\n"
            await own.run("update-ref", "--stdin", stdin=moves.encode())
    except GitError:
        # A git that was killed after it had moved the ref is run again, and refuses.
        if own.read_ref(ref) != commit:
            raise
