"""Rulings: the files of a commit say how work is judged, prepared and prompted.

Invariant: the ruling of a commit depends only on its files, with two exceptions: a person's answer
may remove an inferred gate or permit it to rewrite files, and an inferred check that fails on trunk
does not judge.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from factory.ground import packaging
from factory.ground.aside import aside
from factory.ground.bounded import LINK
from factory.ground.conventions import Conventions, overlay
from factory.ground.errors import ConfigError
from factory.ground.names import CONVENTIONS, Layout, folder_of, layout, packaged
from factory.ground.plumbing import Texts
from factory.inference.infer import rules_of
from factory.inference.rules import Rules
from factory.judging.calibration import Checks, checks
from factory.judging.guards import Guards, in_the_way, led_to
from factory.judging.rule_files import RuleFiles, conventions_in, ruling_in
from factory.people import line_cards
from factory.people.answers import Answers, answers, as_answered
from factory.people.causes import Ask
from factory.repo.git import Git
from factory.store.ports import Store

RULINGS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Ruling:
    """How work is judged, prepared and prompted, according to one commit's files."""

    rules: Rules
    conventions: Conventions
    wrong: str = ""  # the reason if its gate files cannot be used
    # Rule files that are too large to be read → their sizes in bytes.
    unread: tuple[tuple[str, int], ...] = ()
    layout: Layout = field(default_factory=Layout)  # the names of factoryd's folders in this commit
    # The targets of the commit's guarded symlinks (see guards.led_to).
    reached: Mapping[str, str] = field(default_factory=dict)

    @property
    def obstacle(self) -> Ask | None:
        """The reason why nothing can be judged by this ruling, if there is one."""
        if self.unread:
            return line_cards.rules_too_large(self.unread)
        return line_cards.wrong_rules(self.wrong) if self.wrong else None

    def judges_like(self, other: "Ruling") -> bool:
        """Whether both rulings lead to the same verdicts."""
        ours = (self.rules, self.wrong, self.unread)
        return ours == (other.rules, other.wrong, other.unread)


class Rulings:
    """Reads rulings from the factory repository, and keeps the newest rulings."""

    def __init__(self, *, store: Store, own: Git, shipped: dict[str, str]) -> None:
        self.tip = ""  # the last known commit of trunk
        self._store = store
        self._own = own
        self._shipped = shipped
        self._files = RuleFiles(own)
        self._known: dict[str, Ruling] = {}
        self._of_trunk: Ruling | None = None
        self._folder = CONVENTIONS  # the name of the conventions folder in trunk

    async def of(self, commit: str, *, advisory: bool = False) -> Ruling:
        """Return the ruling of a commit. If its gate files are wrong, nothing passes.

        `advisory`: with the inferred checks that do not judge.
        """
        if commit not in self._known:
            ruling = await self._read(commit)
            if len(self._known) >= RULINGS_KEPT:
                # Keep trunk's ruling in memory, because the pool may need it at any time.
                oldest = next(each for each in self._known if each != self.tip)
                self._known.pop(oldest)
            self._known[commit] = ruling
        return self._as_answered(self._known[commit], advisory=advisory)

    @property
    def beside(self) -> tuple[Answers, Checks]:
        """What rulings depend on beside files: a person's answers, and how trunk's checks did."""
        return answers(self._store), checks(self._store)

    async def of_trunk(self, tip: str) -> Ruling:
        """Take `tip` as trunk's commit, and return its ruling."""
        self.tip = tip
        ruling = await self.of(tip)
        self._of_trunk = self._known.get(tip, self._of_trunk)
        self._folder = folder_of(ruling.layout, known=self._folder)
        return ruling

    @property
    def current(self) -> Ruling | None:
        """The ruling of trunk's last known commit."""
        known = self._known.get(self.tip)
        return self._as_answered(known) if known else None

    @property
    def latest(self) -> Ruling | None:
        """The current ruling, or the one before while that of a new commit is read."""
        known = self._known.get(self.tip) or self._of_trunk
        return self._as_answered(known) if known else None

    @property
    def obstacle(self) -> Ask | None:
        """The reason why nothing can be judged now: there is no gate, or gate files are wrong."""
        ruling = self.current
        if ruling is None:
            return None
        if ruling.obstacle or ruling.rules.gates:
            return ruling.obstacle
        return line_cards.no_gate()

    def _as_answered(self, ruling: Ruling, *, advisory: bool = False) -> Ruling:
        if not any(gate.inferred for gate in ruling.rules.gates):
            return ruling
        gates = as_answered(ruling.rules.gates, answers(self._store))
        if not advisory:
            gates = checks(self._store).judging(gates)
        return replace(ruling, rules=replace(ruling.rules, gates=gates))

    async def _read(self, commit: str) -> Ruling:
        entries = await self._own.listing(commit)
        listing = list(entries)
        found = await aside(len(listing), partial(layout, listing))
        folder = folder_of(found, known=self._folder)
        names = await aside(len(listing), partial(ruling_in, listing, folder))
        texts = await self._files.read(commit, _picked(entries, names))
        rules, wrong = Rules(), ""
        try:
            rules = await _rules(listing, texts, folder)
        except ConfigError as error:
            wrong = str(error)
        count = rules.unread.union(packaging.FILES, conventions_in(texts.larger, folder))
        unread = [(name, texts.larger[name]) for name in sorted(texts.larger) if name in count]
        return Ruling(
            rules,
            overlay(texts.found, self._shipped, folder),
            wrong=wrong,
            unread=tuple(unread),
            layout=packaged(found, texts.found),
            reached=await self._reached(commit, rules),
        )

    async def _reached(self, commit: str, rules: Rules) -> Mapping[str, str]:
        """Return the targets of a commit's guarded symlinks; follow links on the way."""
        links = await self._own.links(commit)
        entries = await self._own.listing(commit)
        found = dict[str, str]()
        following = await aside(len(links), partial(_guarded, Guards(rules.sources), links))
        while following:
            links = links.difference(following)
            read = await self._own.read(_picked(entries, following), most=LINK)
            fresh = led_to(read.found, following)
            following = await aside(len(links), partial(in_the_way, links, fresh))
            found = fresh | found
        return found


async def _rules(listing: list[str], texts: Texts, folder: str) -> Rules:
    """Return the rules in the files; raise ConfigError. A thread parses long files."""
    ask = partial(rules_of, listing, texts.found, folder, larger=texts.larger)
    lines = sum(map(len, texts.found.values())) // 64
    return await aside(len(listing) + lines, ask)


def _picked(entries: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: entries[name] for name in names}


def _guarded(guards: Guards, links: Collection[str]) -> dict[str, str]:
    """Return those of these symlinks that are guarded; each is its own origin."""
    return {link: link for link in links if guards.of_link(link)}
