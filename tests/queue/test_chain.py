"""The chain: what lands, what is blamed, what is set aside and what is judged."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.queue.chain import Link, Moves, Standing, plan

SIGNS = {"?": Standing.UNKNOWN, "~": Standing.JUDGING, "+": Standing.GREEN, "-": Standing.RED}


def chain(signs: str) -> list[Link]:
    """Units a, b, c … that stand as the signs say."""
    return [Link(chr(ord("a") + at), SIGNS[sign]) for at, sign in enumerate(signs)]


@pytest.mark.parametrize(
    ("signs", "moves"),
    [
        ("", Moves()),
        ("???", Moves(judge=("a", "b"))),
        ("~??", Moves(judge=("b", "c"))),
        ("~~?", Moves(judge=("c",))),
        ("+", Moves(land=("a",))),
        ("++~?", Moves(land=("a", "b"), judge=("d",))),
        ("~+?", Moves(judge=("c",))),  # the second is green, but not what is below it
        ("-??", Moves(blame="a")),
        ("--", Moves(blame="a")),
        ("~-?", Moves(aside=("b",))),
        ("?-?", Moves(aside=("b",), judge=("a",))),
        ("~?--", Moves(aside=("c",), judge=("b",))),
        ("+-?", Moves(land=("a",), aside=("b",))),
    ],
)
def test_each_chain_has_its_moves(signs: str, moves: Moves) -> None:
    assert plan(chain(signs), free=2, window=4) == moves


def test_no_more_is_judged_than_there_are_free_benches() -> None:
    assert plan(chain("?????"), free=3, window=9).judge == ("a", "b", "c")
    assert plan(chain("?????"), free=0, window=9).judge == ()


def test_benches_that_were_taken_away_while_in_use_start_nothing() -> None:
    assert plan(chain("~~~??"), free=-1, window=9).judge == ()


def test_nothing_beyond_the_window_is_judged_and_it_moves_with_what_lands() -> None:
    assert plan(chain("~????"), free=9, window=3).judge == ("b", "c")
    assert plan(chain("+~????"), free=9, window=3).judge == ("c", "d")


def test_nothing_above_a_red_one_is_judged_for_its_tree_will_not_be_that() -> None:
    moves = plan(chain("?~-??"), free=9, window=9)

    assert moves == Moves(aside=("c",), judge=("a",))


@dataclass
class Lane:
    """A line of units of which some are red by themselves, others only on top of certain ones."""

    queue: list[str]
    broken: frozenset[str]
    clashes: frozenset[tuple[str, str]]
    landed: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    judging: set[tuple[str, ...]] = field(default_factory=set)
    known: dict[tuple[str, ...], Standing] = field(default_factory=dict)

    def truth(self, prefix: tuple[str, ...]) -> Standing:
        """What a judge says of trunk with these on top."""
        tree = (*self.landed, *prefix)
        red = any(unit in self.broken for unit in tree) or any(
            a in tree and b in tree for a, b in self.clashes
        )
        return Standing.RED if red else Standing.GREEN

    def prefixes(self) -> list[tuple[str, ...]]:
        """The trees of the chain, from the bottom."""
        return [tuple(self.queue[: at + 1]) for at in range(len(self.queue))]

    def links(self) -> list[Link]:
        """The chain as the queue shows it to `plan`."""
        return [Link(prefix[-1], self._standing(prefix)) for prefix in self.prefixes()]

    def step(self, *, free: int, window: int) -> Moves:
        """Do what the plan says, as the merge queue does."""
        moves = plan(self.links(), free=free - len(self.judging), window=window)
        if moves.land:
            assert all(
                self.truth(prefix) is Standing.GREEN
                for prefix in self.prefixes()[: len(moves.land)]
            )
            assert list(moves.land) == self.queue[: len(moves.land)]
            self._land(len(moves.land))
        elif moves.blame:
            assert moves.blame == self.queue[0]
            assert self.truth((moves.blame,)) is Standing.RED
            self._forget(moves.blame, self.blamed)
        else:
            for unit in moves.aside:
                assert unit != self.queue[0]
                self._forget(unit, self.apart)
            self.judging |= {prefix for prefix in self.prefixes() if prefix[-1] in moves.judge}
        return moves

    def answer(self, which: int) -> None:
        """One of the judgements under way comes in."""
        if self.judging:
            prefix = sorted(self.judging)[which % len(self.judging)]
            self.judging.discard(prefix)
            self.known[prefix] = self.truth(prefix)

    def alone(self) -> None:
        """One that was set aside is judged on trunk alone."""
        unit = self.apart.pop(0)
        if self.truth((unit,)) is Standing.GREEN:
            self.landed.append(unit)
        else:
            self.blamed.append(unit)
        self.known.clear()
        self.judging.clear()

    def _standing(self, prefix: tuple[str, ...]) -> Standing:
        return (
            Standing.JUDGING if prefix in self.judging else self.known.get(prefix, Standing.UNKNOWN)
        )

    def _land(self, count: int) -> None:
        gone = tuple(self.queue[:count])
        self.landed += gone
        del self.queue[:count]
        # The commits above stay the same ones: they were rehearsed on what has landed now.
        self.known = {
            prefix[count:]: what for prefix, what in self.known.items() if prefix[:count] == gone
        }
        self.judging = {prefix[count:] for prefix in self.judging if prefix[:count] == gone} - {()}

    def _forget(self, unit: str, to: list[str]) -> None:
        self.queue.remove(unit)
        to.append(unit)
        self.known = {prefix: what for prefix, what in self.known.items() if unit not in prefix}
        self.judging = {prefix for prefix in self.judging if unit not in prefix}


@given(
    size=st.integers(1, 7),
    broken=st.sets(st.sampled_from("abcdefg")),
    clashes=st.sets(
        st.tuples(st.sampled_from("abcdefg"), st.sampled_from("abcdefg")).filter(
            lambda two: two[0] < two[1]
        )
    ),
    benches=st.integers(1, 4),
    order=st.lists(st.integers(0, 6), min_size=1, max_size=40),
)
def test_whatever_the_verdicts_nothing_lands_on_a_red_one_and_every_unit_gets_its_due(
    size: int, broken: set[str], clashes: set[tuple[str, str]], benches: int, order: list[int]
) -> None:
    lane = Lane(list("abcdefg"[:size]), frozenset(broken), frozenset(clashes))

    for turn in range(40 * size):
        moves = lane.step(free=benches, window=benches)
        assert len(lane.judging) <= benches
        if moves == Moves() and lane.apart and not lane.queue:
            lane.alone()
        lane.answer(order[turn % len(order)])
        assert lane.truth(()) is Standing.GREEN

    assert sorted(lane.landed + lane.blamed) == list("abcdefg"[:size])
    assert not set(lane.landed) & broken
