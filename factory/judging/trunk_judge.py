"""Trunk's judge: decides whether trunk itself passes; if trunk is red, makes a card.

Invariant: a verdict about trunk is about the exact commit that trunk points to.
"""

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import anyio
from anyio.abc import TaskGroup

from factory.ground.daemon_state import DaemonState, now
from factory.judging.calibration import calibrate
from factory.judging.judge import Judge
from factory.judging.retries import BREAKS, KeptRetries, Retries, sentence_of, trace_of
from factory.judging.rewrites import check_form, told
from factory.judging.ruled import Ruled
from factory.judging.setups import Suspect
from factory.people import cards as words
from factory.people import line_cards, repairs
from factory.people.answers import Answers, answers
from factory.people.causes import TRUNK_RED, Ask, Unjudged, parse
from factory.people.escalations import Escalations
from factory.people.line_cards import RedTrunk
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Card, CardKind, Fact
from factory.store.unit import Unit

ENDED_IN_A_ROW = 2  # at most so many judgings in a row are ended because trunk has moved on


class Breaks:
    """Judgings of trunk that failed with an error.

    Such a judging is retried after longer and longer waits. After the third failure, a card asks a
    person.
    """

    def __init__(self, *, store: Store, escalations: Escalations, branch: str) -> None:
        self.retries = KeptRetries(store, "trunk_broken")  # failures by commit
        self.card: Ask | None = None  # the open card about the errors, if there is one
        self._store = store
        self._escalations = escalations
        self._branch = branch
        # the commit and the error that are not counted yet
        self._last: tuple[str, Exception] | None = None

    def note(self, tip: str, error: Exception) -> None:
        """Keep an error. The next call of `look` counts the error."""
        self._last = (tip, error)

    def may_judge(self, tip: str) -> bool:
        """Whether trunk may be judged now: all errors are counted, and the next try is due."""
        return self._last is None and self.retries.is_due(tip)

    def count(self, tip: str) -> None:
        """Count the last error if it is about `tip`; after the third in a row, make a card."""
        last = self._last
        self._last = None
        self.retries.keep((tip,))
        if last and last[0] == tip and self.retries.fail(tip) >= BREAKS:
            error = last[1]
            what = f"{self._branch} ({tip[:10]})"
            self.card = words.unjudged(what, sentence_of(error), evidence=trace_of(error))
            self._escalations.raise_card(self.card, now=now())
        is_answered = self.card and self._escalations.open_card(self.card.cause) is None
        if is_answered:  # a person answered "try again"
            self.card = None
            self.retries.forget(tip)

    def close(self, at: datetime) -> None:
        """Close all cards about errors, even an earlier daemon's, because trunk has a verdict."""
        self.card = None
        why = f"{self._branch} has a verdict"
        for card in self._store.open(Card):
            cause = parse(card.fingerprint)
            if isinstance(cause, Unjudged) and not card.unit:
                self._escalations.close(cause, now=at, why=why)


@dataclass(eq=False, slots=True)
class _Run:
    """A judging of trunk that is under way."""

    tip: str
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class TrunkJudge:
    """Judges trunk in the background, and records its state."""

    def __init__(
        self, *, store: Store, state: DaemonState, escalations: Escalations, judge: Judge
    ) -> None:
        self.judge = judge
        self._rulings = judge.rulings
        self.setups = Retries()  # setups that failed because of the network, by commit
        self.breaks = Breaks(store=store, escalations=escalations, branch=judge.branch)
        # Landed units that a rewritten trunk no longer contains; None: keep the recorded ones.
        self.missing: list[str] | None = None
        self._store = store
        self._state = state
        self._escalations = escalations
        self._ruled: Ruled | None = None  # the result for the last known commit of trunk
        self._run: _Run | None = None  # at most one judging of trunk at a time
        self._ended = 0  # judgings in a row that were ended because trunk had moved on
        # the commit and the answers at the last call of `look`
        self._looked: tuple[str, Answers | None] = ("", None)
        # None: the state is written. Otherwise: whether the state comes from a new judging.
        self._unsettled: bool | None = None

    # ── its state ──

    @property
    def is_red(self) -> bool:
        """Whether trunk has a red verdict."""
        return self._ruled is not None and bool(self._ruled.red)

    def ruled(self, tip: str) -> Ruled | None:
        """Return the result for trunk if `tip` is trunk's last known commit."""
        return self._ruled if tip == self._rulings.tip else None

    def excused(self, ruled: Ruled, unit: Unit) -> bool:
        """Whether a person let the unit land on a red trunk, and the unit adds no red gate."""
        trunk = self._ruled
        if CardKind.TRUNK_RED not in unit.approved or trunk is None:
            return False
        if ruled.setup or ruled.passed_before:
            return False
        return bool(ruled.red) and set(ruled.gates_red) <= set(trunk.gates_red)

    def card(self, trunk: Ruled) -> Ask:
        """Return the card that says that trunk alone is red, without any pending change."""
        first = trunk.red[0]
        names = trunk.gates_red
        ruling = self._rulings.current
        gates = ruling.rules.gates if ruling else ()
        inferred = {gate.name for gate in gates if gate.inferred}
        red = RedTrunk(
            branch=self.judge.branch,
            commit=self._rulings.tip,
            tail=first.tail,
            log=first.log,
            inferred=inferred.issuperset(names),
        )
        if not all(verdict.rewrote for verdict in trunk.red):
            return line_cards.trunk_red(red, names)
        return line_cards.trunk_rewritten(
            red,
            {verdict.gate: verdict.rewrote for verdict in trunk.red},
            read_from=[gate.reason for gate in gates if gate.name in names],
            form=check_form(told(first.command, first.tail)),
        )

    def ask(self, at: datetime) -> None:
        """Raise the card of a red trunk again if a person closed it to let units land."""
        if self._ruled is not None and self._ruled.red:
            if self._escalations.open_card(TRUNK_RED) is None:
                self._escalations.raise_card(self.card(self._ruled), now=at)

    @property
    def is_judging(self) -> bool:
        """Whether trunk is being judged now."""
        return self._run is not None

    # ── judging it ──

    async def look(self, tip: str, group: TaskGroup) -> None:
        """Take `tip` as trunk's commit. If the commit or an answer is new, judge the commit."""
        answered = answers(self._store)
        failed = self._ruled.setup if self._ruled else None
        ruled = self.ruled(tip)
        if self._unsettled is not None and ruled is not None:
            self._settle(ruled, anew=self._unsettled)
        if self._ended < ENDED_IN_A_ROW:
            self._end_outdated(tip)
        self.breaks.count(tip)
        if not self.breaks.retries.is_due(tip):
            return
        again = failed is not None and self._may_retry(failed, tip)
        if (tip, answered) == self._looked and not again:
            return
        self._looked = (tip, answered)
        self._ruled = None
        ruling = await self._rulings.of_trunk(tip)
        self._tell("judging" if ruling.rules.gates else "unknown")
        if ruling.obstacle:  # make the card at once, even if no unit waits
            self._escalations.raise_card(ruling.obstacle, now=now())
        if ruling.rules.gates:
            self.start(group)
        self._state.pool.send()  # units may have waited until an obstacle ended

    def _may_retry(self, failed: Ask, tip: str) -> bool:
        """Whether a setup that failed may run again now."""
        if self._escalations.open_card(failed.cause) is None:  # a person answered "try again"
            return True
        return self.setups.failures(tip) > 0 and self.setups.is_due(tip)

    def start(self, group: TaskGroup) -> None:
        """Judge trunk in the background, unless a judging runs or trunk already has a verdict."""
        tip = self._rulings.tip
        if self._ruled is None:
            self._begin(partial(_calibrated, self.judge, self._store, tip), group)

    def start_further(self, gates: Collection[str], group: TaskGroup) -> None:
        """Run these gates on trunk too: the judging of a red trunk stopped before them."""
        if self._ruled is not None:
            self._begin(partial(self._judge_further, self._ruled, gates), group)

    def _begin(self, judge: Callable[[], Awaitable[Ruled | None]], group: TaskGroup) -> None:
        tip = self._rulings.tip
        if self._run is not None or not self.breaks.may_judge(tip):
            return
        self._run = _Run(tip)
        judging = partial(self._state.guarded, "judge trunk", self._judge_trunk, self._run, judge)
        group.start_soon(partial(judging, broke=partial(self._note_break, tip)))

    def _end_outdated(self, tip: str) -> None:
        """End the judging of an earlier commit, because it keeps a bench for nothing."""
        run = self._run
        if run is None or run.tip == tip:
            return
        self._run = None
        self._ended += 1
        run.scope.cancel()

    def _note_break(self, tip: str, error: Exception) -> None:
        self.breaks.note(tip, error)
        self._state.queue.send()

    async def _judge_trunk(self, run: _Run, judge: Callable[[], Awaitable[Ruled | None]]) -> None:
        ruled: Ruled | None = None
        try:
            with run.scope:
                ruled = await judge()
                self._ended = 0
        finally:
            if self._run is run:
                self._run = None
                is_missing = ruled is None or run.tip != self._rulings.tip
                if is_missing and self._ruled is None:  # so the next call of `look` starts again
                    self._looked = ("", None)
        if ruled is not None and run.tip == self._rulings.tip:
            self._ruled = ruled
            self._settle(ruled, anew=True)
        self._state.wake_all()

    async def _judge_further(self, known: Ruled, gates: Collection[str]) -> Ruled | None:
        """Return what is known about trunk with the verdicts of these gates.

        Return None if it became invalid meanwhile: these gates alone do not make trunk green.
        """
        more = await self.judge.judge_in(gates)
        if self._ruled is not known:
            return None
        if more.setup is not None:
            return more
        seen = known.seen.union(gates)
        return replace(known, red=(*known.red, *more.red), seen=seen)

    async def landed(self, commit: str, ruled: Ruled | None, *, parent: str) -> None:
        """Note that trunk moved to a commit that was judged by the rules of `parent`.

        If the commit has different rules, the next call of `look` judges the commit by its own
        rules.
        """
        # First, so that no attempt starts from the earlier commit while the rules are read.
        self._rulings.tip = commit
        self._ruled = None
        before = await self._rulings.of(parent)
        ruling = await self._rulings.of(commit)
        if ruled is not None and ruling.rules.gates and ruling.judges_like(before):
            self._looked = (commit, answers(self._store))
            self._ruled = ruled
            self._end_outdated(commit)
            self._ended = 0
            self._settle(ruled, anew=False)

    # ── recording it ──

    def _settle(self, ruled: Ruled, *, anew: bool) -> None:
        """Write trunk's state; `anew`: it comes from a new judging, so green closes setup cards."""
        at = now()
        self._unsettled = anew
        self.breaks.close(at)
        self._note_network(ruled)
        if ruled.setup is not None:
            self._escalations.raise_card(ruled.setup, now=at)
            self._tell("unknown")
        elif ruled.red:
            self._escalations.raise_card(self.card(ruled), now=at)
            self._tell("red")
        else:
            why = f"{self.judge.branch} is green again, so no repair is needed"
            self._escalations.close(TRUNK_RED, now=at, why=f"{self.judge.branch} is green")
            repairs.end(self._store, self._escalations, now=at, why=why)
            # Do not do this after each landing, because a workspace's setup may still fail and
            # needs its card.
            if anew:
                self._escalations.close_kind(CardKind.SETUP, now=at, why="setup works again")
            self._tell("green")
        self._unsettled = None

    def _note_network(self, ruled: Ruled) -> None:
        """Let the setup run again later if the network made it fail."""
        tip = self._rulings.tip
        if ruled.suspect is Suspect.NETWORK:
            self.setups.keep((tip,))
            self.setups.fail(tip)
        else:
            self.setups.keep(())

    def _tell(self, state: str) -> None:
        """Write the fact about trunk if its value has changed."""
        tip = self._rulings.tip
        known = self._store.get(Fact, "trunk")
        told = {
            "branch": self.judge.branch,
            "commit": tip,
            "state": state,
            "gates_red": self._ruled.gates_red if self._ruled else [],
            "missing": _recorded_missing(known) if self.missing is None else self.missing,
        }
        fact = Fact(name="trunk", value=json.dumps(told))
        if fact != known:
            self._store.write(Event.TRUNK_JUDGED, fact, now=now(), state=state, commit=tip)


def _recorded_missing(known: Fact | None) -> list[str]:
    """Return the landed units that trunk does not contain, as the fact about trunk says."""
    recorded: list[str] = json.loads(known.value).get("missing", []) if known else []
    return recorded


async def _calibrated(judge: Judge, store: Store, tip: str) -> Ruled:
    """Judge trunk by all its gates, and then without the checks that are red and advisory."""
    ruled = await judge.judge_trunk(tip)
    if ruled.setup is not None:
        return ruled
    gates = (await judge.rulings.of(tip, advisory=True)).rules.gates
    if calibrate(store, gates, seen=ruled.seen, red=ruled.gates_red, now=now()):
        return await judge.judge(tip, parent=tip)
    return ruled
