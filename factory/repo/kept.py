"""The ref of an attempt: what it keeps, and how it is moved.

Invariant: every commit that such a ref ever named stays reachable, from the ref itself or from a
second ref with a derived name.
"""

from typing import NamedTuple

from factory.ground.errors import GitError
from factory.repo.git import Git
from factory.repo.message import RUN


class Work(NamedTuple):
    """The tree that an attempt left, as a commit on the attempt's base."""

    commit: str
    tree: str
    base: str
    run: str  # the nonce of the attempt


async def read(own: Git, ref: str) -> Work | None:
    """Return what a ref keeps; None if the ref does not exist."""
    # most attempts have no such ref yet, and this check starts no process
    if not own.read_ref(ref):
        return None
    told = await own.text("log", "-1", "--no-show-signature", "--format=%H %T %P%n%B", ref, "--")
    head, _, said = told.partition("\n")
    commit, tree, base = head.split()
    return Work(commit, tree, base, run_in(said))


def run_in(message: str) -> str:
    """Return the nonce in the message of such a commit."""
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
    """Point a ref at a commit, and keep the commit that it held `before` under `REF-COMMIT`.

    Raises GitError if the ref no longer holds `before`.
    """
    try:
        if before is None:
            # succeeds only if the ref does not exist
            await own.run("update-ref", ref, commit, "0" * len(commit))
        else:
            second = f"{ref}-{before.commit[:12]}"
            moves = f"update {second} {before.commit}\nupdate {ref} {commit} {before.commit}\n"
            await own.run("update-ref", "--stdin", stdin=moves.encode())
    except GitError:
        # If git is killed after it moved the ref, the command runs again, and then git refuses.
        if own.read_ref(ref) != commit:
            raise
