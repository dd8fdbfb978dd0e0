"""Whose a store is: an identity of its own, and the repository that it was last used in.

Invariant: a store that was copied together with its repository gets a new identity before anything
acts on it, so two stores with one identity never run. An attempt's nonce begins with the identity
of the store that made it.
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

NAME = "identity"  # of the fact
UNKNOWN = "00000000"  # in nonces that a store without an identity makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A store's identity, and where it was last used; paths with links resolved."""

    id: str
    root: str  # the checkout
    git_dir: str  # the common git dir
    device: int = 0  # of that folder
    inode: int = 0
    work: str = ""  # the work folder


class Found(StrEnum):
    """What a start finds out about a store."""

    NEW = "new"  # never used
    SAME = "same"
    MOVED = "moved"  # the repository has another path now
    COPIED = "copied"  # another repository goes on with the original


def new_id() -> str:
    """An identity that no other store has."""
    return secrets.token_hex(4)


def new_nonce(store: Store) -> str:
    """A nonce for one attempt: the store's identity, and a part that no other attempt has."""
    known = recorded(store)
    return f"{known.id if known else UNKNOWN}-{secrets.token_hex(4)}"


def is_nonce_of(identity: str, nonce: str) -> bool:
    """Whether a store of that identity made the nonce."""
    return bool(identity) and nonce.partition("-")[0] == identity


def here(root: Path, git_dir: Path, work: Path, *, identity: str) -> Identity:
    """The identity of the store that is used with these folders now."""
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
    """What the store says about itself; None for one that was never used."""
    fact = store.get(Fact, NAME)
    return Identity(**json.loads(fact.value)) if fact else None


def record(store: Store, identity: Identity, *, now: datetime) -> None:
    """Write down whose the store is and where it is used; a record that is right already stays."""
    fact = Fact(name=NAME, value=json.dumps(asdict(identity)))
    if fact != store.get(Fact, NAME):
        store.write(Event.FACT_CHANGED, fact, now=now, identity=identity.id)


def is_same_place(known: Identity, now: Identity) -> bool:
    """Whether a store is used where it was before. A restored folder may have another inode."""
    return (known.root, known.git_dir) == (now.root, now.git_dir)


def compare(known: Identity, now: Identity, *, other: str | None) -> Found:
    """Whether a store that was last used elsewhere was moved here, or copied.

    `other`: the identity of the store that lies where this one was used before; "" if there is none
    any more, None if nobody can tell.
    """
    same_inode = known.inode and (known.device, known.inode) == (now.device, now.inode)
    if other == "" or (same_inode and known.git_dir != now.git_dir):
        return Found.MOVED
    # Stores of older releases have no identity: one that is there may be the original.
    is_original = other in (None, known.id) or not known.id
    return Found.COPIED if is_original else Found.MOVED
