"""The judge: what rules at a commit, whether a candidate's tree passes, whether trunk itself does.

Invariant: the gates that judge a candidate are those of the commit below it, never its own; a verdict about trunk is
about the exact commit that trunk points to.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from anyio.abc import TaskGroup

from factory.ground import packaging
from factory.ground.aside import aside
from factory.ground.bounded import LINK
from factory.ground.conventions import Conventions, overlay
from factory.ground.daemon_state import DaemonState, now
from factory.ground.errors import ConfigError
from factory.ground.names import CONVENTIONS, Layout, folder_of, layout, packaged
from factory.ground.plumbing import Texts
from factory.ground.sentences import shown
from factory.inference.infer import rules_of
from factory.inference.rules import Rules
from factory.judging.case import Case
from factory.judging.gates import Answer, Gates, Judgement
from factory.judging.guards import Guards, in_the_way, led_to
from factory.judging.retries import BREAKS, KeptRetries, sentence_of, trace_of
from factory.judging.rewrites import check_form, told
from factory.judging.rule_files import RuleFiles, conventions_in, ruling_in
from factory.judging.setups import SetupFailed
from factory.people import cards as words
from factory.people.answers import Answers, answers, as_answered
from factory.people.cards import Ask
from factory.people.escalations import Escalations
from factory.repo.benches import Bench, Benches
from factory.repo.trunk import Trunk
from factory.repo.underway import Fit
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Card, CardKind, Fact, Verdict
from factory.store.unit import Unit

OnBench = Callable[..., Case]  # a case, but for its bench
RULINGS_KEPT = 64
TRIES = 3  # for gates that are broken off: by then it is what is judged that ends them


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one commit says about how work is judged, prepared and prompted."""

    rules: Rules
    conventions: Conventions
    wrong: str = ""  # why its gate files cannot be used
    unread: tuple[
        tuple[str, int], ...
    ] = ()  # files that rule and are too large to be read, and their bytes
    layout: Layout = field(default_factory=Layout)  # what its folders are called
    reached: Mapping[str, str] = field(
        default_factory=dict
    )  # where its guarded symlinks lead (guards.led_to)

    @property
    def obstacle(self) -> Ask | None:
        """Why nothing can be judged by it."""
        if self.unread:
            return words.rules_too_large(self.unread)
        return words.wrong_rules(self.wrong) if self.wrong else None

    def judges_like(self, other: "Ruling") -> bool:
        """Whether both judge alike."""
        ours = self.rules, self.wrong, self.unread
        return ours == (other.rules, other.wrong, other.unread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """What the judge says of one commit."""

    ok: bool
    red: tuple[Verdict, ...] = ()
    setup: Ask | None = None  # no environment, or rules that are wrong: nobody's fault
    passed_before: str = ""  # an accept command that passes on the commit below
    not_proven: bool = False  # red in an accept command

    @property
    def sentence(self) -> str:
        """One sentence for a person."""
        first = self.red[0] if self.red else None
        if first is None:
            return "green" if self.ok else "not judged"
        if first.rewrote:
            what = f"`{first.command}`" if self.not_proven else f"gate {first.gate}"
            return f"{what} changes what it judges: {shown(sorted(first.rewrote))}"
        return (
            f"gate {first.gate} is red"
            if not self.not_proven
            else f"`{first.command}` does not pass"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether accept commands fail where nothing was done yet, as they must."""

    commit: str
    passing: str = ""
    setup: Ask | None = None


class Judge:
    """Judges commits of the factory repository on benches."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        trunk: Trunk,
        benches: Benches,
        gates: Gates,
        escalations: Escalations,
        shipped: dict[str, str],
    ) -> None:
        self._store, self._state, self._trunk, self._benches = store, state, trunk, benches
        self._gates, self._escalations, self._shipped = gates, escalations, shipped
        self._rulings: dict[str, Ruling] = {}
        self._files = RuleFiles(trunk.own)
        self._tip = ""
        self._folder = CONVENTIONS  # what trunk calls it, where it has one
        self._trunk_ruled: Ruled | None = None
        self._looking = ""  # the commit that is being judged as trunk
        self._unsettled: bool | None = (
            None  # what was judged of it, and is not written down yet, was judged anew
        )
        self._looked: tuple[str, Answers | None] = ("", None)
        self.broken = KeptRetries(store, "trunk_broken")  # by commit: judgings of trunk that broke
        self._broke: tuple[str, Exception] | None = None  # the last one, if it is not counted yet
        self._unjudged: Ask | None = None
        self.missing: list[str] | None = (
            None  # landed units that a rewritten trunk lacks; None = as recorded
        )

    # ── what rules ──

    async def ruling(self, commit: str) -> Ruling:
        """The rules and conventions of a commit; wrong gate files are a ruling too, one under which nothing passes."""
        if commit not in self._rulings:
            entries = await self._trunk.own.listing(commit)
            listing = list(entries)
            found = await aside(len(listing), partial(layout, listing))
            folder = folder_of(found, known=self._folder)
            names = await aside(len(listing), partial(ruling_in, listing, folder))
            read = await self._files.read(commit, {name: entries[name] for name in names})
            contents, larger = read
            conventions = overlay(contents, self._shipped, folder)
            try:
                ruling = Ruling(await _rules(listing, read, folder), conventions)
            except ConfigError as error:
                ruling = Ruling(Rules(), conventions, wrong=str(error))
            missed = ruling.rules.unread.union(packaging.FILES, conventions_in(larger, folder))
            ruling = replace(
                ruling,
                unread=tuple(sorted((name, larger[name]) for name in missed & larger.keys())),
            )
            reached = await self._reached(commit, ruling.rules)
            ruling = replace(ruling, reached=reached, layout=packaged(found, contents))
            if (
                len(self._rulings) >= RULINGS_KEPT
            ):  # trunk's own stays: the pool asks for it whatever else was judged
                self._rulings.pop(next(each for each in self._rulings if each != self._tip))
            self._rulings[commit] = ruling
        return self._as_answered(self._rulings[commit])

    async def _reached(self, commit: str, rules: Rules) -> Mapping[str, str]:
        """Where the guarded symlinks of a commit lead, and the links in whose way that lies."""
        links = await self._trunk.own.links(commit)
        entries = await self._trunk.own.listing(commit)
        found = dict[str, str]()
        following = await aside(len(links), partial(_guarded, Guards(rules.sources), links))
        while following:
            links = links.difference(following)
            read = await self._trunk.own.read(
                {link: entries[link] for link in following}, most=LINK
            )
            fresh = led_to(read.found, following)
            following = await aside(len(links), partial(in_the_way, links, fresh))
            found = fresh | found
        return found

    @property
    def current(self) -> Ruling | None:
        """The ruling of trunk as last looked at."""
        known = self._rulings.get(self._tip)
        return self._as_answered(known) if known else None

    def _as_answered(self, ruling: Ruling) -> Ruling:
        if not any(gate.inferred for gate in ruling.rules.gates):
            return ruling
        gates = as_answered(ruling.rules.gates, answers(self._store))
        return replace(ruling, rules=replace(ruling.rules, gates=gates))

    @property
    def obstacle(self) -> Ask | None:
        """Why nothing can be judged here at present: no gate, or gate files that are wrong."""
        ruling = self.current
        if ruling is None:
            return None
        if ruling.obstacle or ruling.rules.gates:
            return ruling.obstacle
        return words.no_gate()

    # ── trunk ──

    @property
    def tip(self) -> str:
        """Trunk as last looked at."""
        return self._tip

    @property
    def branch(self) -> str:
        """Trunk's name."""
        return self._trunk.branch

    @property
    def trunk_red(self) -> bool:
        """Whether trunk is known not to pass."""
        return self._trunk_ruled is not None and bool(self._trunk_ruled.red)

    def trunk_ruled(self, tip: str) -> Ruled | None:
        """What is known about trunk at `tip`."""
        return self._trunk_ruled if tip == self._tip else None

    async def look(self, tip: str, group: TaskGroup) -> None:
        """Take `tip` for trunk, and judge it in the background when it or what rules there is new."""
        answered, failed = (
            answers(self._store),
            self._trunk_ruled.setup if self._trunk_ruled else None,
        )
        if self._unsettled is not None and tip == self._tip:  # the store failed then
            self._settle_trunk(anew=self._unsettled)
        self._count_broken(tip)
        if not self.broken.is_due(tip):
            return
        again = (
            failed is not None and self._escalations.open_card(failed.cause) is None
        )  # "try again" was answered
        if (tip, answered) != self._looked or again:
            self._looked, self._tip, self._trunk_ruled = (tip, answered), tip, None
            ruling = await self.ruling(tip)
            self._folder = folder_of(ruling.layout, known=self._folder)
            self._tell("judging" if ruling.rules.gates else "unknown")
            if ruling.obstacle:  # at once, and in its present words, whether or not a unit waits
                self._escalations.raise_card(ruling.obstacle, now=now())
            if ruling.rules.gates:
                self.judge_trunk(group)
            self._state.pool.send()  # which lets go what waited for an obstacle that is gone, or is another now

    def judge_trunk(self, group: TaskGroup) -> None:
        """Judge trunk in the background, unless that is under way or done."""
        under_way = self._trunk_ruled is not None or self._looking == self._tip
        if not under_way and self._broke is None and self.broken.is_due(self._tip):
            self._looking = self._tip
            judging = partial(self._state.guarded, "judge trunk", self._judge_trunk, self._tip)
            group.start_soon(partial(judging, broke=partial(self._trunk_broke, self._tip)))

    def _trunk_broke(self, tip: str, error: Exception) -> None:
        self._broke = tip, error
        self._state.queue.send()

    def _count_broken(self, tip: str) -> None:
        """Count a judging of trunk that broke, and ask about it in the end."""
        told, self._broke = self._broke, None
        self.broken.keep((tip,))
        if told and told[0] == tip and self.broken.fail(tip) >= BREAKS:
            self._unjudged = self._unjudged_by(told[1])
            self._escalations.raise_card(self._unjudged, now=now())
        if (
            self._unjudged and self._escalations.open_card(self._unjudged.cause) is None
        ):  # "try again" was answered
            self._unjudged = None
            self.broken.forget(tip)

    def _unjudged_by(self, error: Exception) -> Ask:
        what = f"{self._trunk.branch} ({self._tip[:10]})"
        return words.unjudged(what, sentence_of(error), evidence=trace_of(error))

    @property
    def unjudged(self) -> Ask | None:
        """The card about trunk whose judging breaks time after time, while it is open."""
        return self._unjudged

    async def landed(self, commit: str, ruled: Ruled | None, *, parent: str) -> None:
        """Trunk moved to a commit that was judged by the rules of `parent`; where its own are others, they judge it."""
        before, rules = await self.ruling(parent), await self.ruling(commit)
        self._tip, self._trunk_ruled = commit, None
        if rules.rules.gates and rules.judges_like(before):
            self._looked, self._trunk_ruled = (commit, answers(self._store)), ruled
            self._settle_trunk(anew=False)

    def excused(self, ruled: Ruled, unit: Unit) -> bool:
        """Whether a person let the unit land although trunk is red, and it is red in nothing else."""
        trunk = self._trunk_ruled
        if (
            CardKind.TRUNK_RED not in unit.approved
            or trunk is None
            or ruled.setup
            or ruled.passed_before
        ):
            return False
        return bool(ruled.red) and _gates(ruled) <= _gates(trunk)

    def trunk_card(self, trunk: Ruled) -> Ask:
        """The card that says that trunk is red by itself."""
        first = trunk.red[0]
        names = [verdict.gate for verdict in trunk.red]
        gates = self.current.rules.gates if self.current else ()
        inferred = {gate.name for gate in gates if gate.inferred}
        if all(verdict.rewrote for verdict in trunk.red):
            return words.trunk_rewritten(
                branch=self._trunk.branch,
                commit=self._tip,
                rewrote={verdict.gate: verdict.rewrote for verdict in trunk.red},
                read_from=[gate.reason for gate in gates if gate.name in names],
                form=check_form(told(first.command, first.tail)),
                tail=first.tail,
                log=first.log,
                inferred=inferred.issuperset(names),
            )
        return words.trunk_red(
            branch=self._trunk.branch,
            commit=self._tip,
            gates=names,
            tail=first.tail,
            log=first.log,
            inferred=inferred.issuperset(names),
        )

    async def _judge_trunk(self, tip: str) -> None:
        ruled: Ruled | None = None
        try:
            ruled = await self.judge(tip, parent=tip)
        finally:
            self._looking = "" if self._looking == tip else self._looking
            if ruled is None:  # it broke: the next look has it judged again
                self._looked = ("", None)
        if tip == self._tip:
            self._trunk_ruled = ruled
            self._settle_trunk(anew=True)
        self._state.ring_all()

    def _settle_trunk(self, *, anew: bool) -> None:
        """Tell how trunk stands; judged `anew`, what its environment was asked about is settled as well."""
        ruled, at = self._trunk_ruled, now()
        self._unsettled = anew
        if ruled is not None:
            self._close_unjudged(at)
        if ruled is None:
            self._tell("unknown")
        elif ruled.setup is not None:
            self._escalations.raise_card(ruled.setup, now=at)
            self._tell("unknown")
        elif ruled.red:
            self._escalations.raise_card(self.trunk_card(ruled), now=at)
            self._tell("red")
        else:
            self._escalations.close("trunk_red", now=at, why=f"{self._trunk.branch} is green")
            if anew:  # not after each landing: a workspace's setup that fails all the while is asked about once
                self._escalations.close_kind(CardKind.SETUP, now=at, why="setup works again")
            self._tell("green")
        self._unsettled = None

    def _close_unjudged(self, at: datetime) -> None:
        """Close what was asked about trunk when it could not be judged, also before a restart."""
        self._unjudged = None
        for card in self._store.open(Card):
            if card.fingerprint.startswith(words.UNJUDGED) and not card.unit:
                self._escalations.close(
                    card.fingerprint, now=at, why=f"{self._trunk.branch} has a verdict"
                )

    def _tell(self, state: str) -> None:
        red = [verdict.gate for verdict in self._trunk_ruled.red] if self._trunk_ruled else []
        known = self._store.get(Fact, "trunk")
        missing = (
            self.missing
            if self.missing is not None
            else json.loads(known.value).get("missing", [])
            if known
            else []
        )
        told = {
            "branch": self._trunk.branch,
            "commit": self._tip,
            "state": state,
            "gates_red": red,
            "missing": missing,
        }
        fact = Fact(name="trunk", value=json.dumps(told))
        if fact != known:
            self._store.write(Event.TRUNK_JUDGED, fact, now=now(), state=state, commit=self._tip)

    # ── candidates ──

    async def judge(
        self, commit: str, *, parent: str, unit: Unit | None = None, accept: Sequence[str] = ()
    ) -> Ruled:
        """Judge a commit by the rules of `parent`; `accept` must fail on `parent` and pass on `commit`."""
        ruling = await self.ruling(parent)
        if ruling.obstacle:
            return Ruled(ok=False, setup=ruling.obstacle)
        on, below = await self._cases(commit, parent, ruling.rules, unit, accept)
        async with self._benches.take(partial(self._fit, on, below, accept)) as bench:
            case = on(bench=bench)
            if below and not self._gates.is_judging(case, accept):
                before = await _asked(partial(self._gates.prove, below(bench=bench), accept))
                if before.answer is not Answer.RED:
                    return _ruled(before, accepting=True)
            judgement = await _asked(partial(self._gates.judge, case, accept=accept))
            if judgement.answer is Answer.NO_GATE:
                return await self._ungated(case, accept, unit)
            return _ruled(judgement)

    async def _cases(
        self, commit: str, parent: str, rules: Rules, unit: Unit | None, accept: Sequence[str]
    ) -> tuple[OnBench, OnBench | None]:
        """The case on any bench, and the one below it, where accept commands have to fail."""
        own, trunk = self._trunk.own, parent if unit is None and commit == parent else self._tip
        on = partial(Case, commit=commit, tree=await own.tree(commit), rules=rules, trunk=trunk)
        on = partial(on, trunk_tree=await own.tree(trunk) if trunk else "")
        if unit is None:
            return on, None
        on = partial(on, unit=unit.id, stacked=parent != self._tip)
        if not accept or CardKind.ACCEPT in unit.approved:
            return on, None
        tree = await own.tree(parent)
        return partial(on, proof=(tree, *accept)), partial(on, commit=parent, tree=tree)

    def _fit(self, on: OnBench, below: OnBench | None, accept: Sequence[str], bench: Bench) -> Fit:
        """How what an earlier daemon began on that bench fits what is asked now."""
        fit = self._gates.fit(on(bench=bench), accept)
        return max(fit, self._gates.fit(below(bench=bench), accept, proving=True)) if below else fit

    async def end_unwanted(self, trees: Collection[str]) -> None:
        """End what an earlier daemon began, where it is neither about trunk nor about one of these trees."""
        for bench in self._benches.begun():
            wanted = {*trees, await self._trunk.own.tree(self._tip)}
            if bench in self._benches.begun():  # still
                await self._gates.end_unwanted(bench, wanted)
                self._benches.look_again()

    async def prove(self, accept: Sequence[str]) -> Proof:
        """Run accept commands on trunk, where each of them has to fail."""
        tip = self._tip
        ruling = await self.ruling(tip)
        on, _ = await self._cases(tip, tip, ruling.rules, None, ())
        async with self._benches.take(
            lambda bench: self._gates.fit(on(bench=bench), accept, proving=True)
        ) as bench:
            judgement = await _asked(partial(self._gates.prove, on(bench=bench), accept))
        if judgement.failed is not None:
            return Proof(commit=tip, setup=setup_card(judgement.failed))
        passing = [verdict.command for verdict in judgement.verdicts if verdict.succeeded]
        return Proof(commit=tip, passing=passing[0] if passing else "")

    async def _ungated(self, case: Case, accept: Sequence[str], unit: Unit | None) -> Ruled:
        """No gate rules: green only where a person said that this unit may land so, and its proof holds."""
        if unit is None or CardKind.NO_GATE not in unit.approved:
            return Ruled(ok=False, setup=words.no_gate())
        if not accept:
            return Ruled(ok=True)
        proof = await _asked(partial(self._gates.prove, case, accept))
        red = tuple(verdict for verdict in proof.verdicts if not verdict.ok)
        setup = setup_card(proof.failed) if proof.failed else None
        return Ruled(ok=not red and setup is None, red=red, setup=setup, not_proven=bool(red))


async def _rules(listing: Sequence[str], read: Texts, folder: str) -> Rules:
    """What the files say; long ones are taken apart in a thread, since the event loop must not wait."""
    ask = partial(rules_of, listing, read.found, folder, larger=read.larger)
    lines = sum(map(len, read.found.values())) // 64
    return await aside(len(listing) + lines, ask)


def _guarded(guards: Guards, links: Collection[str]) -> dict[str, str]:
    """The guarded ones of these symbolic links, each for itself."""
    return {link: link for link in links if guards.of_link(link)}


async def _asked(ask: Callable[[], Awaitable[Judgement]]) -> Judgement:
    """The judgement, asked for again where its gates were broken off; but not for ever."""
    for _ in range(TRIES):
        judgement = await ask()
        if judgement.answer is not Answer.UNSETTLED:
            return judgement
    if judgement.failed:
        return replace(judgement, answer=Answer.SETUP)
    sentence = f"Gates were broken off {TRIES} times in a row, by what they ran or from outside: there is no verdict."
    return Judgement(answer=Answer.SETUP, failed=SetupFailed(sentence=sentence))


def _ruled(judgement: Judgement, *, accepting: bool = False) -> Ruled:
    if judgement.failed is not None:
        return Ruled(ok=False, setup=setup_card(judgement.failed))
    if accepting:
        passing = [verdict.command for verdict in judgement.verdicts if verdict.succeeded]
        return Ruled(ok=False, passed_before=passing[0] if passing else "")
    red = judgement.red
    return Ruled(
        ok=not red, red=red, not_proven=any(verdict.gate.startswith("accept: ") for verdict in red)
    )


def setup_card(failed: SetupFailed) -> Ask:
    """What is asked where there is no environment."""
    if failed.unconfined:
        return words.unconfined(failed.sentence, failed.log)
    return words.setup_failed(sentence=failed.sentence, tail=failed.tail, log=failed.log)


def _gates(ruled: Ruled) -> set[str]:
    return {verdict.gate for verdict in ruled.red}
