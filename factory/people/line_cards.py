"""The sentences of cards about the line itself: its trunk, agents, disk, money and configuration.

One function a cause, pure; the first choice is the recommended one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from factory.ground import bounded
from factory.ground.disk import complaint
from factory.ground.names import advice
from factory.ground.sentences import shown
from factory.people.actions import Approve, LeaveOut, Recheck, Repair, Restore, SpendOn, Wait
from factory.people.cards import CANCEL_ALL, RECHECK, one_line, with_remedy
from factory.people.causes import (
    BAD_CONFIG,
    DISK_FULL,
    NO_GATE,
    TRUNK_GONE,
    TRUNK_RED,
    TRUNK_UNREADABLE,
    UNCONFINED,
    Ask,
    Cause,
    Choice,
    agent_failing,
    agent_trouble,
    cause,
)
from factory.store.records import CardKind

LAND_ANYWAY: Choice = (
    "Land anyway",
    "units that wait and are red in just these gates land, and are shown so",
    Approve(),
)


def trunk_unreadable(branch: str, said: str, mend: str) -> Ask:
    """Git cannot read trunk, or cannot bring it into the factory repository."""
    why = one_line(said).rstrip(".")
    asks = f"git cannot read {branch}, so nothing is judged and nothing lands: {why}."
    mine = ("I mend it", "the factory tries again by itself, and the line goes on", Wait())
    return Ask(
        CardKind.CONFIG,
        TRUNK_UNREADABLE,
        asks,
        [mine],
        with_remedy(said, mend),
        "factory doctor",
    )


def day_spent(day: Cause, *, used: str, cap: str) -> Ask:
    """What is left of the day's money does not pay for another attempt."""
    asks = (
        f"{used} of today's {cap} are spent; the rest does not pay for another attempt, "
        "so none starts. What now?"
    )
    effect = (
        "the units go on by themselves after midnight (UTC), "
        "or as soon as factory.toml has a higher cap"
    )
    on = (
        "Go on today regardless",
        "today has no cap any more; tomorrow it holds again",
        SpendOn(),
    )
    return Ask(
        CardKind.BUDGET,
        day,
        asks,
        [("Wait", effect, Wait()), on, CANCEL_ALL],
        "",
        "factory status",
    )


def no_gate() -> Ask:
    """Nothing judges this repository."""
    asks = (
        "No gate was found: nothing in this repository says how a change is tested. "
        "How is work judged here?"
    )
    add = "commit e.g. conventions/gates/10-test.sh to trunk; the units go on by themselves"
    without = "the units that wait now land unjudged, and the journal says so"
    choices: list[Choice] = [
        ("I add a gate", add, Wait()),
        ("Land these without a gate", without, Approve()),
        CANCEL_ALL,
    ]
    told = (
        "Neither conventions/gates/*.sh or *.toml on trunk, nor pytest, unittest, a package.json "
        "script or a Makefile target `check` or `test` to infer one from."
    )
    return Ask(CardKind.NO_GATE, NO_GATE, asks, choices, told, "factory config")


def setup_failed(*, sentence: str, tail: str = "", log: str = "") -> Ask:
    """The environment for gates or agents could not be made."""
    again = ("Try again", "setup runs once more; mend it first (trunk, network, tools)", Recheck())
    what = f"{one_line(sentence)} {advice(tail)}".strip()
    asks = f"{what} No attempt was spent; what now?"
    return Ask(
        CardKind.SETUP,
        cause("setup", sentence[:200]),
        asks,
        [again, CANCEL_ALL],
        tail or sentence,
        log,
    )


def unconfined(said: str, log: str = "") -> Ask:
    """The sandbox starts no command; `said`: that it does not, and what it says itself."""
    why = one_line(said).rstrip(".")
    asks = f"Nothing can be judged or started: {why}. No attempt was spent; what now?"
    return Ask(
        CardKind.SETUP, UNCONFINED, asks, [RECHECK, CANCEL_ALL], said, log or "factory doctor"
    )


def runtime_trouble(agent: str, sentence: str, *, evidence: str = "") -> Ask:
    """An agent program is missing, not logged in, or its file is wrong."""
    return Ask(
        CardKind.RUNTIME,
        agent_trouble(agent),
        sentence,
        [RECHECK, CANCEL_ALL],
        evidence,
        "factory doctor",
    )


def not_logged_in(agent: str, login: str, *, evidence: str) -> Ask:
    """Its program wants a login; `login`: how one logs in, where its runtime file says so."""
    how = f" ({login})" if login else ""
    asks = (
        f"{agent} is not logged in: log it in{how}, then try again. "
        "A variable that was set since is seen after factoryd restart."
    )
    trouble = runtime_trouble(agent, asks, evidence=evidence)
    return replace(trouble, where=f"factory doctor --agent {agent}")


def runtime_failing(agent: str, detail: str, *, evidence: str) -> Ask:
    """Unit after unit ends at once and did nothing."""
    why = one_line(detail)
    asks = (
        f"{agent} ends at once and does nothing, unit after unit ({why}): "
        "it rests longer and longer."
    )
    return _resting(agent, asks, evidence or detail)


def runtime_limited(agent: str, detail: str, *, evidence: str) -> Ask:
    """It is at a limit, or its provider in trouble, for long already."""
    why = one_line(detail)
    asks = (
        f"{agent} cannot go on and does not say for how long ({why}): it is tried every 15 minutes."
    )
    return _resting(agent, asks, evidence or detail)


def _resting(agent: str, asks: str, evidence: str) -> Ask:
    mine = (
        "I look into it",
        "it is tried again by itself; this card closes when an attempt works",
        Wait(),
    )
    dismiss = ("Dismiss", "it is said again should it go on", Recheck())
    return Ask(
        CardKind.RUNTIME, agent_failing(agent), asks, [mine, dismiss], evidence, "factory doctor"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedTrunk:
    """Trunk that does not pass; gates that were only `inferred` may be left out."""

    branch: str
    commit: str
    tail: str  # the end of the first gate's output
    log: str
    inferred: bool = False


def trunk_red(trunk: RedTrunk, gates: Sequence[str]) -> Ask:
    """Trunk itself does not pass."""
    branch = trunk.branch
    names = shown(gates)
    asks = (
        f"{branch} is red by itself at {trunk.commit[:10]} in {names}: nobody's unit did it. "
        "What now?"
    )
    title = f"Make {names} green on {branch} again"
    choices: list[Choice] = [
        (
            "Hang a repair unit",
            "a unit with priority 0 gets this evidence as its task",
            Repair(title),
        ),
        (
            "Wait",
            f"you mend {branch}; only priority 0 starts until then, green work still lands",
            Wait(),
        ),
        LAND_ANYWAY,
    ]
    if trunk.inferred:
        choices.append(_without(gates))
    return Ask(CardKind.TRUNK_RED, TRUNK_RED, asks, choices, trunk.tail, trunk.log)


def trunk_rewritten(
    trunk: RedTrunk,
    rewrote: Mapping[str, Sequence[str]],
    *,
    read_from: Sequence[str],
    form: str,
) -> Ask:
    """Trunk's own gates change what they judge.

    `rewrote`: which files, by gate; `read_from`: where the gates were found; `form`: how the tool
    only checks.
    """
    branch = trunk.branch
    gates = shown([*rewrote])
    where = shown(read_from)
    every = sorted(set().union(*rewrote.values()))
    asks = (
        f"On {branch} ({trunk.commit[:10]}) {gates} changes files that it judges: {shown(every)}. "
        "What it passes is not what lands, so it is red. What now?"
    )
    only_checks = form or "e.g. --check or --no-fix"
    check = (
        "Use a form that only checks",
        f"you change it ({where}) to {only_checks}; the units go on by themselves",
        Wait(),
    )
    repair = (
        "Hang a repair unit",
        "a unit with priority 0 commits what the gate changes",
        Repair(f"Commit to {branch} what {gates} changes there"),
    )
    more = _by_answer(rewrote) if trunk.inferred else _by_hand(where, every, branch)
    choices: list[Choice] = [check, repair, *more, LAND_ANYWAY]
    return Ask(CardKind.TRUNK_RED, TRUNK_RED, asks, choices, trunk.tail, trunk.log)


def _by_hand(own: str, paths: Sequence[str], branch: str) -> list[Choice]:
    """What can be done about gates that have files of their own."""
    header = f"# rewrites: {' '.join(paths[:3])}"
    back = f"you write `{header}` into {own}; what it repairs in these files lands unrepaired"
    return [
        ("Put these files back after it", back, Wait()),
        ("Leave it out", f"you remove {own} from {branch}; the units go on by themselves", Wait()),
    ]


def _by_answer(rewrote: Mapping[str, Sequence[str]]) -> list[Choice]:
    """What can be done about gates that were inferred."""
    files = tuple((gate, tuple(paths)) for gate, paths in rewrote.items())
    back = "it may change these and no others; what it repairs in them lands unrepaired"
    return [("Put these files back after it", back, Restore(files)), _without([*rewrote])]


def _without(gates: Sequence[str]) -> Choice:
    effect = "it was inferred: no file asks for it"
    return (f"Judge without {shown(gates)}", effect, LeaveOut(tuple(gates)))


def trunk_gone(branch: str) -> Ask:
    """The branch that units land on was deleted or renamed."""
    asks = (
        f"The branch {branch} is gone (deleted or renamed): nothing can land. "
        "Where should units land?"
    )
    mine = (
        "I bring it back, or name another in factory.toml and restart",
        "the line goes on by itself",
        Wait(),
    )
    return Ask(
        CardKind.CONFIG, TRUNK_GONE, asks, [mine], "", "git branch; factory.toml (trunk = …)"
    )


def disk_full(where: str) -> Ask:
    """There is too little room to go on."""
    asks = (
        complaint(where)
        or f"Writing to {where} failed for want of room (a quota?): the line starts nothing new."
    )
    mine = ("I make room", "the line goes on by itself as soon as there is", Wait())
    return Ask(CardKind.DISK, DISK_FULL, asks, [mine], "", f"df -h {where}")


def wrong_rules(sentence: str) -> Ask:
    """A gate file on trunk cannot be used."""
    what = one_line(sentence)
    asks = f"A file under conventions/ on trunk cannot be used, so nothing is judged: {what}"
    mine = ("I mend it on trunk", "the units that wait go on by themselves", Wait())
    return Ask(
        CardKind.CONFIG,
        cause("rules"),
        asks,
        [mine, CANCEL_ALL],
        sentence,
        "conventions/gates/; factory config",
    )


def rules_too_large(files: Sequence[tuple[str, int]]) -> Ask:
    """Files on trunk that decide how work is judged are larger than what is read of them."""
    most = bounded.shown(bounded.PARSED)
    of_locks = bounded.shown(bounded.LOCK_FILE)
    named = bounded.listed(files, 5)
    asks = (
        f"Nothing is judged: the factory reads at most {most} of such a file "
        f"(of a lock file {of_locks}), and trunk has {named}. No attempt was spent."
    )
    mine = ("I make it smaller on trunk", "the units that wait go on by themselves", Wait())
    told = "\n".join(f"{path}: {bounded.shown(size)}" for path, size in files)
    return Ask(
        CardKind.SETUP, cause("rules_too_large"), asks, [mine, CANCEL_ALL], told, "factory config"
    )


def wrong_prompt(sentence: str, key: str) -> Ask:
    """A prompt file on trunk cannot be used; `key` says which prompts these were."""
    asks = f"A prompt on trunk cannot be used, so no agent starts: {one_line(sentence)}"
    mine = ("I mend it on trunk", "the units that wait go on by themselves", Wait())
    return Ask(
        CardKind.CONFIG,
        cause("prompts", key),
        asks,
        [mine, CANCEL_ALL],
        sentence,
        "conventions/prompts/",
    )


def bad_config(sentence: str) -> Ask:
    """factory.toml cannot be used."""
    asks = f"factory.toml cannot be used; the last good one is in force: {one_line(sentence)}"
    mine = ("I mend it", "an edit applies within a second, and this card closes by itself", Wait())
    return Ask(CardKind.CONFIG, BAD_CONFIG, asks, [mine], sentence, "factory.toml; factory config")
