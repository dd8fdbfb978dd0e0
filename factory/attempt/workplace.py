"""Where an attempt works: its workspace and environment, ready and without files of other units.

Invariant: files that a unit left stay for the next attempt of the same unit, never for another
unit.
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
    carried: str  # the tree of earlier work; "" if none
    resumed: bool
    setup: Setup


@dataclass(frozen=True, slots=True)
class Workplace:
    """A workspace and its place; `warm` means that the same unit used it last."""

    workspace: Workspace
    place: Place
    warm: bool


async def place_of(start: Start, workspaces: Workspaces) -> Place:
    """Return where the attempt will work; change nothing."""
    return Place(
        workspaces.place(start.workspace),
        start.index,
        keeps=start.setup.dependencies,
        unit=start.owner,
        candidate=start.owner if start.carried else "",
        shows=start.carried or await workspaces.tree_of(start.base),
        contents=partial(workspaces.contents, start.carried or start.base),
        ignored=partial(workspaces.ignored, start.workspace),
    )


async def prepare(start: Start, workspaces: Workspaces) -> Workplace:
    """Check out the starting tree and delete files of other units; raise FactoryError."""
    workspace = workspaces.at(start.workspace, keeps=start.setup.keeps)
    warm = homes.belongs_to(workspace.tree, start.owner)
    if not warm:
        # if a daemon dies before the place is clean, the next daemon finds no owner and cleans it
        homes.claim(workspace.tree, "")
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
    """Record that the unit's own code runs there from now on: the place fills no cache then."""
    homes.claim(workplace.workspace.tree, owner)
    workplace.place.candidate = owner


async def without_builds(workspace: Workspace) -> Workspace:
    """Return the workspace, changed so that files that setup built are never submitted."""
    stamp = await to_thread.run_sync(read_stamp, workspace.place / STAMP)
    return replace(workspace, keeps=(*workspace.keeps, *stamp.made)) if stamp else workspace
