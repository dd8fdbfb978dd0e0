"""A unit as it would land."""

from dataclasses import dataclass

from factory.queue.chain import Standing
from factory.store.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A unit rehearsed on a parent: the commit that would land, and the verdict on its tree."""

    unit: Unit
    parent: str
    commit: str
    tree: str
    standing: Standing = Standing.UNKNOWN
