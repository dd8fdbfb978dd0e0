"""The text of cards about the line: its trunk, agents, disk, money and configuration.

One pure function for each cause; the first choice is the recommended one.
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

SETUP_ASKS = " This did not count as an attempt. What now?"
LAND_ANYWAY: Choice = (
    "Land anyway",
    "waiting units that fail exactly these gates land; status marks them",
    Approve(),
)


def trunk_unreadable(branch: str, said: str, mend: str) -> Ask:
    """Return the card for a trunk that git cannot read or fetch."""
    why = one_line(said).rstrip(".")
    asks = f"git cannot read {branch}, so nothing is judged and nothing lands: {why}."
    mine = ("I fix it", "factoryd tries again, and work continues", Wait())
    return Ask(
        CardKind.CONFIG,
        TRUNK_UNREADABLE,
        asks,
        [mine],
        with_remedy(said, mend),
        "factory doctor",
    )


def day_spent(day: Cause, *, used: str, cap: str) -> Ask:
    """Return the card for a day whose limit does not pay for another attempt."""
    asks = (
        f"{used} of today's {cap} are spent. The rest does not pay for another attempt, "
        "so no attempt starts. What now?"
    )
    effect = "the units continue after midnight (UTC), or when factory.toml has a higher limit"
    on = (
        "Remove the limit for today",
        "today has no spending limit; from tomorrow the limit applies again",
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
    """Return the card for a repository without gates."""
    asks = (
        "factoryd found no gate: nothing in this repository says how to test a change. "
        "How should factoryd judge work here?"
    )
    add = "commit e.g. conventions/gates/10-test.sh to trunk; the units then continue"
    without = "the waiting units land unjudged, and the journal says so"
    choices: list[Choice] = [
        ("I add a gate", add, Wait()),
        ("Land these without a gate", without, Approve()),
        CANCEL_ALL,
    ]
    told = (
        "Trunk has no conventions/gates/*.sh or *.toml. factoryd also found no pytest, unittest, "
        "package.json script or Makefile target `check` or `test`."
    )
    return Ask(CardKind.NO_GATE, NO_GATE, asks, choices, told, "factory config")


def setup_failed(*, sentence: str, tail: str = "", log: str = "") -> Ask:
    """Return the card for an environment that factoryd could not make."""
    again = (
        "Try again",
        "the failed step runs again; fix the problem first (trunk, network, tools)",
        Recheck(),
    )
    what = f"{one_line(sentence)} {advice(tail)}".strip()
    return Ask(
        CardKind.SETUP,
        cause("setup", sentence[:200]),
        f"{what}{SETUP_ASKS}",
        [again, CANCEL_ALL],
        tail or sentence,
        log,
    )


def unconfined(said: str, log: str = "") -> Ask:
    """Return the card for a sandbox that starts no command; `said`: a sentence with its error."""
    why = one_line(said).rstrip(".")
    asks = f"Nothing can be judged or started: {why}. This did not count as an attempt. What now?"
    return Ask(
        CardKind.SETUP, UNCONFINED, asks, [RECHECK, CANCEL_ALL], said, log or "factory doctor"
    )


def runtime_trouble(agent: str, sentence: str, *, evidence: str = "") -> Ask:
    """Return the card for an agent that is missing, is not logged in, or has a wrong file."""
    return Ask(
        CardKind.RUNTIME,
        agent_trouble(agent),
        sentence,
        [RECHECK, CANCEL_ALL],
        evidence,
        "factory doctor",
    )


def not_logged_in(agent: str, login: str, *, evidence: str) -> Ask:
    """Return the card for an agent without a login; `login`: how to log in, or ""."""
    how = f" ({login})" if login else ""
    asks = (
        f"{agent} is not logged in: log it in{how}, then try again. "
        "If you set a variable for the login, run factoryd restart."
    )
    trouble = runtime_trouble(agent, asks, evidence=evidence)
    return replace(trouble, where=f"factory doctor --agent {agent}")


def runtime_failing(agent: str, detail: str, *, evidence: str) -> Ask:
    """Return the card for an agent whose attempts end at once and do nothing."""
    why = one_line(detail)
    asks = (
        f"{agent} ends at once and does nothing, unit after unit ({why}): "
        "factoryd waits longer after each failure."
    )
    return _paused(agent, asks, evidence or detail)


def runtime_limited(agent: str, detail: str, *, evidence: str) -> Ask:
    """Return the card for an agent that has been at a limit for long, without a known end."""
    why = one_line(detail)
    asks = (
        f"{agent} cannot continue and does not say for how long ({why}): "
        "factoryd tries it every 15 minutes."
    )
    return _paused(agent, asks, evidence or detail)


def _paused(agent: str, asks: str, evidence: str) -> Ask:
    mine = (
        "I look into it",
        "factoryd keeps trying; this card closes when an attempt works",
        Wait(),
    )
    dismiss = ("Dismiss", "if the problem continues, you get a new card", Recheck())
    return Ask(
        CardKind.RUNTIME, agent_failing(agent), asks, [mine, dismiss], evidence, "factory doctor"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedTrunk:
    """A trunk that fails its gates; if the gates are `inferred`, a person may leave them out."""

    branch: str
    commit: str
    tail: str  # the end of the first gate's output
    log: str
    inferred: bool = False


def trunk_red(trunk: RedTrunk, gates: Sequence[str]) -> Ask:
    """Return the card for a trunk that fails gates without any pending change."""
    branch = trunk.branch
    names = shown(gates)
    asks = f"{branch} ({trunk.commit[:10]}) fails {names} without any pending change. What now?"
    title = f"Make {names} green on {branch} again"
    choices: list[Choice] = [
        (
            "Create a repair unit",
            "priority 0, with this output as its task",
            Repair(title),
        ),
        (
            "Wait",
            f"you fix {branch}; until then only priority 0 starts, and green work still lands",
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
    """Return the card for gates of trunk that change the files that they judge.

    `rewrote`: the files of each gate; `read_from`: where factoryd found the gates; `form`: the
    option that makes the tool only check.
    """
    branch = trunk.branch
    gates = shown([*rewrote])
    where = shown(read_from)
    every = sorted(set().union(*rewrote.values()))
    asks = (
        f"On {branch} ({trunk.commit[:10]}) {gates} changes files that it judges: {shown(every)}. "
        "The gate fails on the files that land, so trunk is red. What now?"
    )
    only_checks = form or "e.g. --check or --no-fix"
    check = (
        "Use a form that only checks",
        f"you change it ({where}) to {only_checks}; the units then continue",
        Wait(),
    )
    repair = (
        "Create a repair unit",
        "priority 0; it commits the changes that the gate makes",
        Repair(f"Commit the changes that {gates} makes to {branch}"),
    )
    more = _by_answer(rewrote) if trunk.inferred else _by_hand(where, every, branch)
    choices: list[Choice] = [check, repair, *more, LAND_ANYWAY]
    return Ask(CardKind.TRUNK_RED, TRUNK_RED, asks, choices, trunk.tail, trunk.log)


def _by_hand(own: str, paths: Sequence[str], branch: str) -> list[Choice]:
    """Return the choices about gates that have their own files."""
    header = f"# rewrites: {' '.join(paths[:3])}"
    back = f"you write `{header}` into {own}; the gate's changes to these files do not land"
    return [
        ("Restore the files after it", back, Wait()),
        ("Leave it out", f"you remove {own} from {branch}; the units then continue", Wait()),
    ]


def _by_answer(rewrote: Mapping[str, Sequence[str]]) -> list[Choice]:
    """Return the choices about inferred gates."""
    files = tuple((gate, tuple(paths)) for gate, paths in rewrote.items())
    back = "it may change only these files; its changes to them do not land"
    return [("Restore the files after it", back, Restore(files)), _without([*rewrote])]


def _without(gates: Sequence[str]) -> Choice:
    effect = "the gate was inferred: no gate file asks for it"
    return (f"Judge without {shown(gates)}", effect, LeaveOut(tuple(gates)))


def trunk_gone(branch: str) -> Ask:
    """Return the card for a trunk branch that was deleted or renamed."""
    asks = (
        f"The branch {branch} is gone (deleted or renamed): nothing can land. "
        "Where should units land?"
    )
    mine = (
        "I restore it, or set another in factory.toml and restart",
        "work then continues",
        Wait(),
    )
    return Ask(
        CardKind.CONFIG, TRUNK_GONE, asks, [mine], "", "git branch; factory.toml (trunk = …)"
    )


def disk_full(where: str) -> Ask:
    """Return the card for a full disk."""
    asks = (
        complaint(where)
        or f"A write to {where} failed: no room (a quota?). factoryd starts nothing new."
    )
    mine = ("I make room", "work continues as soon as the disk has room", Wait())
    return Ask(CardKind.DISK, DISK_FULL, asks, [mine], "", f"df -h {where}")


def wrong_rules(sentence: str) -> Ask:
    """Return the card for a gate file on trunk that cannot be used."""
    what = one_line(sentence)
    asks = f"A file under conventions/ on trunk cannot be used, so nothing is judged: {what}"
    mine = ("I fix it on trunk", "the waiting units then continue", Wait())
    return Ask(
        CardKind.CONFIG,
        cause("rules"),
        asks,
        [mine, CANCEL_ALL],
        sentence,
        "conventions/gates/; factory config",
    )


def rules_too_large(files: Sequence[tuple[str, int]]) -> Ask:
    """Return the card for gate or settings files on trunk that are too large to read."""
    most = bounded.shown(bounded.PARSED)
    of_locks = bounded.shown(bounded.LOCK_FILE)
    named = bounded.listed(files, 5)
    asks = (
        f"Nothing is judged: factoryd reads at most {most} of a gate or settings file "
        f"({of_locks} of a lock file), but trunk has {named}. This did not count as an attempt."
    )
    mine = ("I make it smaller on trunk", "the waiting units then continue", Wait())
    told = "\n".join(f"{path}: {bounded.shown(size)}" for path, size in files)
    return Ask(
        CardKind.SETUP, cause("rules_too_large"), asks, [mine, CANCEL_ALL], told, "factory config"
    )


def wrong_prompt(sentence: str, key: str) -> Ask:
    """Return the card for a prompt file on trunk that cannot be used; `key`: see causes.py."""
    asks = f"A prompt on trunk cannot be used, so no agent starts: {one_line(sentence)}"
    mine = ("I fix it on trunk", "the waiting units then continue", Wait())
    return Ask(
        CardKind.CONFIG,
        cause("prompts", key),
        asks,
        [mine, CANCEL_ALL],
        sentence,
        "conventions/prompts/",
    )


def bad_config(sentence: str) -> Ask:
    """Return the card for a factory.toml that cannot be used."""
    asks = (
        f"factory.toml cannot be used; the last good version stays in force: {one_line(sentence)}"
    )
    mine = ("I fix it", "an edit applies within a second and closes this card", Wait())
    return Ask(CardKind.CONFIG, BAD_CONFIG, asks, [mine], sentence, "factory.toml; factory config")
