"""The text of cards about one unit: one pure function for each cause.

A choice is (label, effect, action); the first choice is the recommended one. effects.py defines
what an action does to the unit; line_cards.py has the cards about the line.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from factory.ground.reserved import NO_AGENT, PERSON, TAKEN
from factory.ground.sentences import shown
from factory.ground.times import clock
from factory.people.actions import (
    Afresh,
    Answer,
    Approve,
    Cancel,
    Judge,
    Recheck,
    Rerun,
    Retry,
    Simplify,
    Split,
    Unneed,
    Wait,
)
from factory.people.causes import Ask, Cause, Choice, cause
from factory.people.causes import landing_unknown as unknown_landing
from factory.store.records import CardKind
from factory.store.unit import Unit

CANCEL: Choice = ("Cancel it", "the unit ends; its work is kept", Cancel())
CANCEL_ALL: Choice = (
    "Cancel the waiting units",
    "they end; their work is kept",
    Cancel(),
)
AGAIN: Choice = ("Try again", "one more round of attempts", Retry())
SEND_BACK: Choice = (
    "Send it back",
    "a new attempt; it gets your comment if you answer with one",
    Retry(),
)
SMALLER: Choice = (
    "Make the change smaller",
    "a new attempt that only removes code; then you get a new card",
    Simplify(),
)
SPLIT: Choice = (
    "Split it into smaller tasks",
    "a new attempt writes smaller tasks, which replace this unit",
    Split(),
)
# This choice is for units with `run`, because there no agent reads an answer.
RERUN: Choice = ("Run it again", "the same command once more, on the newest trunk", Rerun())
# This choice is for work that a person submitted: no agent has worked on it.
RESUBMIT: Choice = (
    "I submit it again",
    "change the branch, then factory submit BRANCH; it replaces this work",
    Wait(),
)
RECHECK: Choice = ("Try again", "fix the cause first; waiting units continue", Recheck())
AFRESH: Choice = (
    "Start again from trunk",
    "a new attempt; the earlier work is kept but not used",
    Afresh(),
)


def question(
    unit: Unit, text: str, options: Sequence[str], *, default: str = "", deadline_s: float = 0
) -> Ask:
    """Return the card for a question of an agent; its options keep the labels of the agent."""
    own = [(label, "the next attempt gets this answer", Answer()) for label in options]
    free = (
        "Decide for yourself",
        "the next attempt decides and says why",
        Answer(),
    )
    return Ask(
        CardKind.QUESTION,
        cause("question", f"{unit.id}:{unit.attempt}"),
        f"{unit.id} asks: {one_line(text)}",
        own or [free],
        text,
        default=default,
        deadline_s=deadline_s,
    )


def no_model(unit: Unit, agent: str, model: str) -> Ask:
    """Return the card for a unit that names a model if its agent's command takes no model."""
    asks = (
        f"{unit.id} asks for the model {model}, but agent {agent} takes no model: "
        "its command has no {model}."
    )
    run = ("Run it anyway", "with the agent's default model", Approve())
    where = f"conventions/runtimes/{agent}.toml; factory show {unit.id}"
    return Ask(CardKind.RUNTIME, cause("model", unit.id), asks, [run, CANCEL], "", where)


def need_cancelled(unit: Unit, needs: Sequence[str]) -> Ask:
    """Return the card for a unit that needs a cancelled unit."""
    asks = f"{unit.id} needs {shown(needs)}, which was cancelled. Should it continue without it?"
    choices: list[Choice] = [
        ("Continue without it", "the unit no longer waits for the cancelled unit", Unneed()),
        CANCEL,
    ]
    return Ask(
        CardKind.QUESTION,
        cause("needs", unit.id),
        asks,
        choices,
        "\n".join(needs),
        f"factory show {needs[0]}",
    )


def attempts_exhausted(
    unit: Unit,
    *,
    last: str,
    evidence: str,
    limit: int,
    is_part: bool = False,
    clash: tuple[int, str] | None = None,
) -> Ask:
    """Return the card for a unit without attempts left; a part (`is_part`) cannot be split.

    `clash`: the attempt that names a landed unit that it does not fit, and what it says.
    """
    failed = f"failed after {_attempts(unit)}"
    asks = f"{unit.id} {failed}; the last one: {one_line(last)}. What now?"
    if clash:
        number, said = clash
        if said == last:
            asks = f"{unit.id} is {one_line(said)}. It {failed}. What now?"
        else:
            asks = (
                f"{unit.id} was {one_line(said)} (attempt {number}). "
                f"It {failed}; the last one: {one_line(last)}. What now?"
            )
    more = (
        f"Try {limit} more",
        "new attempts; they get a hint if you answer with one",
        Retry(),
    )
    where = f"factory show {unit.id}; factory log {unit.id}"
    choices = [_for(unit, more)]
    if unit.agent != NO_AGENT and not is_part:
        choices.append(SPLIT)
    choices.append(CANCEL)
    return Ask(
        CardKind.ATTEMPTS_EXHAUSTED,
        cause("attempts_exhausted", unit.id),
        asks,
        choices,
        evidence,
        where,
    )


def not_landed(unit: Unit, detail: str, evidence: str) -> Ask:
    """Return the card for submitted work that does not land."""
    asks = f"{unit.id}, which was submitted, does not land: {one_line(detail)}. What now?"
    agent = (
        "Let an agent continue",
        "new attempts start from this work; they get a hint if you answer with one",
        Retry(),
    )
    return Ask(
        CardKind.ATTEMPTS_EXHAUSTED,
        cause("attempts_exhausted", unit.id),
        asks,
        [RESUBMIT, agent, CANCEL],
        evidence,
        f"factory diff {unit.id}; factory log {unit.id}",
    )


def conflict(unit: Unit, detail: str) -> Ask:
    """Return the card for a unit without attempts left that still conflicts with trunk."""
    asks = f"{unit.id} still {one_line(detail)} after {_attempts(unit)}. What now?"
    again = (
        "Try again on the newest trunk",
        "one more round of attempts, which see both changes",
        Retry(),
    )
    choices: list[Choice] = [_for(unit, again), CANCEL]
    return Ask(
        CardKind.CONFLICT,
        cause("conflict", unit.id),
        asks,
        choices,
        detail,
        f"factory diff {unit.id}",
    )


def crash_loop(unit: Unit, detail: str) -> Ask:
    """Return the card for a unit whose attempts ended unexpectedly three times in a row."""
    asks = f"{unit.id}: three attempts in a row ended unexpectedly ({one_line(detail)}). What now?"
    where = f"factory log {unit.id}; .factory/daemon.log"
    return Ask(
        CardKind.CRASH_LOOP,
        cause("crash_loop", unit.id),
        asks,
        [_for(unit, AGAIN), CANCEL],
        detail,
        where,
    )


def already_accepted(unit: Unit, command: str) -> Ask:
    """Return the card for a unit whose `accept` command already passes on trunk."""
    proof = one_line(command)
    asks = (
        f"{unit.id}: its accept command `{proof}` already passes on trunk. Is anything left to do?"
    )
    told = (
        "`accept` must fail before the change and pass after it. "
        f"It passes on trunk without a change:\n{command}"
    )
    return _accept(unit, asks, "the unit runs, although accept already passes", told)


def endless_proof(unit: Unit, command: str) -> Ask:
    """Return the card for a unit whose `accept` command did not end on trunk in time."""
    proof = one_line(command)
    asks = f"{unit.id}: its accept command `{proof}` did not end on trunk. Does it ever end?"
    told = (
        "`accept` must end: it fails before the change and passes after it. A command that starts "
        "a server never ends. factoryd ended this one when its time was over:\n"
        f"{command}\n"
        "To correct it, save the task file again."
    )
    return _accept(unit, asks, "the unit runs; after its change, the command must end", told)


def _accept(unit: Unit, asks: str, runs: str, told: str) -> Ask:
    run = ("Run it anyway", runs, Approve())
    return Ask(
        CardKind.ACCEPT,
        cause("accept", unit.id),
        asks,
        [CANCEL, run],
        told,
        f"factory show {unit.id}",
    )


def guard(
    unit: Unit,
    kind: CardKind,
    sentence: str,
    told: Sequence[str],
    *,
    liftable: bool = True,
    stops: bool = False,
) -> Ask:
    """Return the card for a change that touches guarded files.

    `told`: a line about each path; `stops`: if the change lands, nothing can be judged any more.
    """
    lands = "factoryd judges this change and lands it if it is green"
    if stops:
        lands += "; then nothing is judged until that file is smaller on trunk"
    choices: list[Choice] = []
    asks = "What now?"
    if unit.agent != NO_AGENT:
        choices.append(_for(unit, SEND_BACK))
    if liftable:
        choices.append(("Let it land", lands, Approve()))
        asks = "Should it land?"
    choices.append(CANCEL)
    return Ask(
        kind,
        cause(str(kind), unit.id),
        f"{unit.id}: {sentence}. {asks}",
        choices,
        "\n".join(told),
        f"factory diff {unit.id}",
    )


def too_big(unit: Unit, sentence: str, told: Sequence[str], *, where: str, submitted: bool) -> Ask:
    """Return the card for an attempt that left more than factoryd keeps.

    `where`: the folder with all files of the attempt. `submitted`: factoryd can judge the files
    that it kept.
    """
    choices = [_for(unit, SEND_BACK)]
    if submitted:
        effect = "factoryd judges the part that it kept, and lands it if it is green"
        choices.append(("Judge it without them", effect, Judge()))
    choices.append(CANCEL)
    asks = f"{unit.id}: {sentence}. What now?"
    kept = f"All files are in {where} until you delete that folder. Copy what you need."
    evidence = "\n".join([kept, *told])
    return Ask(CardKind.GUARD, cause("too_big", unit.id), asks, choices, evidence, where)


def review(unit: Unit, *, said: str) -> Ask:
    """Return the card for a green unit whose task says `review: required`."""
    asks = f"{unit.id} is green and waits for your review: {unit.title}"
    choices: list[Choice] = [("Approve", "it lands", Approve()), _for(unit, SEND_BACK)]
    if unit.agent not in TAKEN:
        choices.append(SMALLER)
    choices.append(CANCEL)
    about = cause("review", f"{unit.id}:{unit.submission}")
    return Ask(CardKind.REVIEW, about, asks, choices, said.strip(), f"factory diff {unit.id}")


def landing_blocked(unit: Unit, reason: str, paths: Sequence[str]) -> Ask:
    """Return the card for a landing that would touch the user's uncommitted work."""
    first = f": {min(paths)}" if paths else ""
    why = f"{one_line(reason).rstrip('.')}{first}"
    asks = f"{unit.id} is green but cannot land: {why}. factoryd did not touch your files."
    mine = (
        "I commit, stash or move it",
        "the unit then lands automatically",
        Wait(),
    )
    # Units with the same first file share a card, even if different other files block them too.
    about = cause("landing_blocked", min(paths, default=reason))
    where = f"git status; factory diff {unit.id}"
    return Ask(
        CardKind.LANDING_BLOCKED, about, asks, [mine, CANCEL_ALL], "\n".join(paths) or reason, where
    )


def landing_refused(unit: Unit, said: str, mend: str) -> Ask:
    """Return the card for a landing that git refused; `mend`: a command that helps, or ""."""
    why = one_line(said).rstrip(".")
    asks = f"{unit.id} is green, but git refused to land it: {why}. Trunk has not moved."
    about = cause("landing_refused", mend or one_line(said))
    mine = ("I fix it", "factoryd tries again and then lands the unit", Wait())
    told = with_remedy(said, mend)
    return Ask(CardKind.LANDING_BLOCKED, about, asks, [mine, CANCEL_ALL], told, "factory doctor")


def landing_unknown(unit: str, step: str, said: str, mend: str) -> Ask:
    """Return the card for an interrupted landing that may or may not have moved trunk."""
    asks = f"factoryd cannot find out whether {unit} landed: {one_line(said).rstrip('.')}."
    effect = "factoryd checks again; until then no other unit lands, but other work continues"
    told = with_remedy(said, mend)
    return Ask(
        CardKind.LANDING_BLOCKED,
        unknown_landing(step),
        asks,
        [("I fix it", effect, Wait())],
        told,
        "factory doctor",
    )


def with_remedy(said: str, mend: str) -> str:
    """Return what is wrong, with a command that fixes it if factoryd knows one."""
    return f"{said}\n\nTo fix it: {mend}" if mend else said


def unreadable(unit: Unit, sentence: str) -> Ask:
    """Return the card for a unit whose task or work cannot be read."""
    asks = f"{unit.id} is stopped; its work is kept: {one_line(sentence)} What now?"
    about = cause("unreadable", unit.id)
    return Ask(
        CardKind.CRASH_LOOP, about, asks, [RECHECK, AFRESH, CANCEL], sentence, ".factory/daemon.log"
    )


def no_markdown(unit: Unit, name: str) -> Ask:
    """Return the card for a unit whose task text is gone, so no agent can start."""
    asks = (
        f"{unit.id} cannot start an agent: the text of its task file ({name}) "
        "is not on record any more. Its work is kept, and other units continue. What now?"
    )
    advice = (
        f"Cancel it and drop {name} again. "
        "Or restore a copy of the store that has the text, then try again."
    )
    about = cause("no_markdown", unit.id)
    where = f"factory show {unit.id}"
    return Ask(CardKind.CRASH_LOOP, about, asks, [CANCEL, RECHECK], advice, where)


def unjudged(what: str, said: str, *, unit: Unit | None = None, evidence: str = "") -> Ask:
    """Return the card for a unit, or trunk, that factoryd cannot judge because of an error."""
    error = one_line(said).rstrip(".")
    asks = f"{what} has no verdict: judging it fails with an error each time ({error})."
    if unit:
        asks += " Its work is kept, and other units continue. What now?"
        choices = [RECHECK, AFRESH, CANCEL_ALL]
    else:
        asks += " Green units still land. What now?"
        choices = [RECHECK, CANCEL_ALL]
    about = cause("unjudged", said[:200])
    return Ask(CardKind.CRASH_LOOP, about, asks, choices, evidence or said, ".factory/daemon.log")


def stuck(
    unit: Unit, about: Cause, *, since: datetime, limits: Mapping[str, float], told: str
) -> Ask:
    """Return the card for a unit that factoryd itself should have moved within these limits."""
    minutes = round(sum(limits.values()) / 60)
    asks = (
        f"{unit.id} is {unit.state}, and nothing about it has moved since {clock(since)}. "
        f"Its limits allow {minutes} min. What now?"
    )
    parts = [f"{name}: {seconds / 60:.0f} min" for name, seconds in limits.items()]
    mine = (
        "I look into it",
        "e.g. factoryd restart, which keeps all work; the card closes when the unit moves",
        Wait(),
    )
    evidence = "\n".join(["The limits in force:", *parts, "", told])
    where = f"factory why {unit.id}; .factory/daemon.log"
    return Ask(CardKind.STUCK, about, asks, [mine, CANCEL_ALL], evidence.rstrip(), where)


def need_missing(unit: Unit, about: Cause, said: str, needs: Sequence[str]) -> Ask:
    """Return the card for a unit that needs units that do not exist; `said`: what it waits for."""
    end = "" if said.endswith("?") else "."
    asks = f"{unit.id} cannot start: it {said}{end} What now?"
    add = ("I add it", "the unit continues when the unit that it needs has landed", Wait())
    without = ("Continue without it", "the unit no longer waits for what does not exist", Unneed())
    where = f"factory why {unit.id}"
    return Ask(CardKind.STUCK, about, asks, [add, without, CANCEL], "\n".join(needs), where)


def unit_spent(unit: Unit, *, used: str, cap: str) -> Ask:
    """Return the card for a unit that has reached or almost reached its spending limit."""
    asks = f"{unit.id} has used {used} of its limit of {cap}; its work is kept. What now?"
    more = (
        "Give it as much again",
        "raises the limit of this unit only; the unit continues from its work",
        Approve(),
    )
    told = "factory show lists every attempt. factory.toml, [budget] has the limits for all units."
    return Ask(
        CardKind.BUDGET,
        cause("budget", unit.id),
        asks,
        [more, CANCEL],
        told,
        f"factory show {unit.id}",
    )


def _for(unit: Unit, choice: Choice) -> Choice:
    """Return the choice, or what takes its place for a unit without an agent."""
    if unit.agent == PERSON:
        return RESUBMIT
    return RERUN if unit.agent == NO_AGENT else choice


def _attempts(unit: Unit) -> str:
    return f"{unit.spent} attempt" + ("" if unit.spent == 1 else "s")


def one_line(text: str) -> str:
    """Return the first line that is not blank, cut to 160 characters."""
    for line in text.splitlines():
        said = line.strip()
        if said:
            return said if len(said) <= 160 else said[:157] + "…"
    return ""
