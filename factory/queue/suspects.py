"""Which landed commit makes a unit red: pure arithmetic on what judging has shown.

Invariant: the change is red on top of the last suspect, and green below the first suspect as soon
as `alone` is known. So one of the suspects makes it red.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from factory.repo.meanwhile import OnTrunk

EXTRA_RUNS = 2  # most judgings after the first one, which is about the unit alone


@dataclass(slots=True, kw_only=True)
class Suspects:
    """The commits that landed after a unit's base, oldest first, and how likely each one is."""

    base: str
    left: Sequence[OnTrunk]
    weights: dict[str, int] = field(default_factory=dict)  # commit → how likely; unknown: 1
    alone: bool | None = None  # whether the unit is green without them; None: not judged
    runs: int = 0  # judgings after the first one
    is_over: bool = False  # a judging gave no verdict, so there is no more to learn

    def next_commit(self) -> str:
        """Return the commit of trunk on which the unit is judged next; "" if there is none."""
        if self.is_over or not self.left or self.alone is False:
            return ""
        if self.alone is None:
            return self.base
        if len(self.left) == 1 or self.runs == EXTRA_RUNS:
            return ""
        return self.left[self._half() - 1].commit

    def learn(self, *, green: bool | None) -> None:
        """Note what the judging on `next_commit` showed; None: nothing."""
        if green is None:
            self.is_over = True
        elif self.alone is None:
            self.alone = green
        else:
            self.runs += 1
            half = self._half()
            self.left = self.left[half:] if green else self.left[:half]

    def likeliest(self) -> list[OnTrunk]:
        """Return the suspects that are left, the likeliest first; empty if it is red alone."""
        if not self.alone:
            return []
        return sorted(self.left, key=lambda each: -self._weight(each))

    def _half(self) -> int:
        """Return how many suspects lie below the next judging.

        With at most four suspects, halves are sure to find the one. With more, each half is equally
        likely, so that a likely suspect is found soon.
        """
        if len(self.left) <= 2 ** (EXTRA_RUNS - self.runs):
            return len(self.left) // 2
        whole = sum(map(self._weight, self.left))
        below = 0
        best, smallest = 1, whole
        for count, suspect in enumerate(self.left[:-1], 1):
            below += self._weight(suspect)
            difference = abs(whole - 2 * below)
            if difference < smallest:
                best, smallest = count, difference
        return best

    def _weight(self, suspect: OnTrunk) -> int:
        return self.weights.get(suspect.commit, 1)
