"""A store's identity, and the repository that it was last used in.

Invariant: if a store was copied with its repository, the copy gets a new identity before anything
acts on it, so two stores with the same identity never run. An attempt's nonce begins with the
identity of its store.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact

NAME = "identity"  # the name of the fact
UNKNOWN = "00000000"  # nonces begin with this text if the store has no identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A store's identity, and where the store was last used. The paths contain no links."""

    id: str
    root: str  # the checkout
    git_dir: str  # the common git dir
    device: int = 0  # the common git dir's device and inode
    inode: int = 0
    work: str = ""  # the work folder


class Found(StrEnum):
    """How a starting daemon finds a store."""

    NEW = "new"  # the store was never used
    SAME = "same"
    MOVED = "moved"  # the repository has another path now
    COPIED = "copied"  # another repository still uses the original


def new_id() -> str:
    """Return an identity that no other store has."""
    return secrets.token_hex(4)


def new_nonce(store: Store) -> str:
    """Return a nonce for one attempt: the store's identity and a unique part."""
    known = recorded(store)
    return f"{known.id if known else UNKNOWN}-{secrets.token_hex(4)}"


def is_nonce_of(identity: str, nonce: str) -> bool:
    """Return whether a store with this identity made the nonce."""
    return bool(identity) and nonce.partition("-")[0] == identity


def here(root: Path, git_dir: Path, work: Path, *, identity: str) -> Identity:
    """Return the identity of a store that is now used with these folders."""
    about = git_dir.stat()
    return Identity(
        id=identity,
        root=str(root.resolve()),
        git_dir=str(git_dir.resolve()),
        device=about.st_dev,
        inode=about.st_ino,
        work=str(work),
    )


def recorded(store: Store) -> Identity | None:
    """Return the identity in the store; None if the store was never used."""
    fact = store.get(Fact, NAME)
    return Identity(**json.loads(fact.value)) if fact else None


def record(store: Store, identity: Identity, *, now: datetime) -> None:
    """Write the identity into the store, unless the store has the same one already."""
    fact = Fact(name=NAME, value=json.dumps(asdict(identity)))
    if fact != store.get(Fact, NAME):
        store.write(Event.FACT_CHANGED, fact, now=now, identity=identity.id)


def is_same_place(known: Identity, now: Identity) -> bool:
    """Return whether the place is the same. Ignore the inode, which may differ after a restore."""
    return (known.root, known.git_dir) == (now.root, now.git_dir)


def compare(known: Identity, now: Identity, *, other: str | None) -> Found:
    """Return whether a store that was last used elsewhere was moved here or copied.

    `other`: the identity of the store at the place where this store was used before; "" if no store
    is there, None if that is unknown.
    """
    same_inode = known.inode and (known.device, known.inode) == (now.device, now.inode)
    if other == "" or (same_inode and known.git_dir != now.git_dir):
        return Found.MOVED
    # Stores of older releases have no identity, so a store at the old place may be the original.
    is_original = other in (None, known.id) or not known.id
    return Found.COPIED if is_original else Found.MOVED
