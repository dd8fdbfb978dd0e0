"""Where an attempt works: its workspace with the environment, ready for it and free of other units.

Invariant: what a unit left stays for its own next attempt, and for no other unit.
"""

from dataclasses import dataclass, replace
from functools import partial

from anyio import to_thread

from factory.attempt import homes
from factory.inference.rules import Setup
from factory.judging import scratch
from factory.judging.place import STAMP, Place, read_stamp
from factory.judging.standing import tidy
from factory.repo.workspaces import Workspace, Workspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What an attempt starts from."""

    workspace: str
    index: int
    owner: str  # the unit
    base: str
    nonce: str
    carried: str  # the tree of earlier work; "" for none
    resumed: bool
    setup: Setup


@dataclass(frozen=True, slots=True)
class Workplace:
    """A workspace and its place; `warm`: the same unit was there last."""

    workspace: Workspace
    place: Place
    warm: bool


async def place_of(start: Start, workspaces: Workspaces) -> Place:
    """Where the attempt works, as it will be; nothing is touched."""
    return Place(
        workspaces.place(start.workspace),
        start.index,
        keeps=start.setup.dependencies,
        candidate=start.owner if start.carried else "",
        shows=start.carried or await workspaces.tree_of(start.base),
        contents=partial(workspaces.contents, start.carried or start.base),
        ignored=partial(workspaces.ignored, start.workspace),
    )


async def prepare(start: Start, workspaces: Workspaces) -> Workplace:
    """Show what the attempt starts from, and delete what another unit left; raises FactoryError."""
    workspace = workspaces.at(start.workspace, keeps=start.setup.keeps)
    warm = homes.belongs_to(workspace.tree, start.owner)
    if not warm:
        homes.claim(workspace.tree, "")  # a daemon that dies before it is clean finds it nobody's
    await workspaces.prepare(
        workspace,
        base=start.base,
        nonce=start.nonce,
        tree=start.carried,
        renew_git=not (start.resumed and warm),
        spares=None if warm else start.setup.dependencies,
    )
    place = await place_of(start, workspaces)
    await to_thread.run_sync(scratch.empty, place)
    if not warm:
        await to_thread.run_sync(tidy, place)
    return Workplace(workspace, place, warm)


def hand_over(workplace: Workplace, owner: str) -> None:
    """From now on the unit's own code runs there: it adds to no cache."""
    homes.claim(workplace.workspace.tree, owner)
    workplace.place.candidate = owner


async def without_builds(workspace: Workspace) -> Workspace:
    """The workspace, of which nothing that setup built is submitted, ignored now or not."""
    stamp = await to_thread.run_sync(read_stamp, workspace.place / STAMP)
    return replace(workspace, keeps=(*workspace.keeps, *stamp.made)) if stamp else workspace
