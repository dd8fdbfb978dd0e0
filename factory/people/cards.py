"""The sentences of cards about one unit: one function a cause, pure.

A choice is (label, effect, action); the first is the recommended one. What an action does to the
unit is in effects.py; cards about the line are in line_cards.py.
"""

from collections.abc import Sequence

from factory.ground.reserved import NO_AGENT
from factory.ground.sentences import shown
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
from factory.people.causes import Ask, Choice, cause
from factory.people.causes import landing_unknown as unknown_landing
from factory.store.records import CardKind
from factory.store.unit import Unit

CANCEL: Choice = ("Cancel it", "the unit ends; what its attempts made is kept", Cancel())
CANCEL_ALL: Choice = (
    "Cancel the units that wait",
    "they end; what their attempts made is kept",
    Cancel(),
)
AGAIN: Choice = ("Try again", "one more round of attempts", Retry())
SEND_BACK: Choice = (
    "Send it back",
    "a new attempt; write a comment instead of a number and it is told",
    Retry(),
)
SMALLER: Choice = (
    "Have it made smaller",
    "a new attempt that only takes away; it comes back to you",
    Simplify(),
)
SPLIT: Choice = (
    "Have it split",
    "a new attempt writes smaller tasks, which take its place",
    Split(),
)
# For a command, which cannot be told anything.
RERUN: Choice = ("Run it again", "the same command once more, on newest trunk", Rerun())
RECHECK: Choice = ("Try again", "mend it first; the units that wait go on", Recheck())
AFRESH: Choice = (
    "Start again from trunk",
    "a new attempt; what was made before is kept, but not used",
    Afresh(),
)


def question(
    unit: Unit, text: str, options: Sequence[str], *, default: str = "", deadline_s: float = 0
) -> Ask:
    """An agent asked something; its option labels are shown as it wrote them."""
    own = [(label, "the next attempt is told this answer", Answer()) for label in options]
    free = (
        "Decide for yourself",
        "the next attempt is told to use its own judgement and say why",
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
    """The unit names a model, and its agent's command has no place for one."""
    asks = (
        f"{unit.id} asks for the model {model}, which agent {agent} cannot be told: "
        "its command has no {model}."
    )
    run = ("Run it all the same", "with the model that the agent takes by itself", Approve())
    where = f"conventions/runtimes/{agent}.toml; factory show {unit.id}"
    return Ask(CardKind.RUNTIME, cause("model", unit.id), asks, [run, CANCEL], "", where)


def need_cancelled(unit: Unit, needs: Sequence[str]) -> Ask:
    """What the unit needs will never land."""
    asks = f"{unit.id} needs {shown(needs)}, which was cancelled. Should it go on without?"
    choices: list[Choice] = [
        ("Go on without", "it no longer waits for what was cancelled", Unneed()),
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
    unit: Unit, *, last: str, evidence: str, limit: int, is_part: bool = False
) -> Ask:
    """All attempts are used up. A unit that `is_part` of one that was split is not split again."""
    tried = _attempts(unit)
    asks = f"{unit.id} could not be done in {tried}; the last one: {one_line(last)}. What now?"
    more = (
        f"Try {limit} more",
        "fresh attempts; write a hint instead of a number and they are told it",
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


def conflict(unit: Unit, detail: str) -> Ask:
    """Attempts are used up, and the last one still conflicts with trunk."""
    asks = f"{unit.id} still {one_line(detail)} after {_attempts(unit)}. What now?"
    again = ("Try again on newest trunk", "one more round of attempts, with both intents", Retry())
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
    """The attempts of one unit are lost time after time."""
    asks = f"{unit.id} was lost three times in a row ({one_line(detail)}). What now?"
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
    """The proof passes before anything was done."""
    proof = one_line(command)
    asks = f"{unit.id}: its proof `{proof}` passes on trunk already. Is there anything to do?"
    told = (
        "`accept` must fail before and pass after the change. "
        f"It passes on trunk without one:\n{command}"
    )
    run = ("Run it all the same", "the unit runs, and accept need not fail before", Approve())
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
    """A diff touches what it should not; a run: unit would only do it again.

    `told`: a line about each path; `stops`: once it has landed, nothing can be judged.
    """
    lands = "this change is judged and lands as it is"
    if stops:
        lands += "; after it nothing is judged until that file is smaller on trunk"
    choices: list[Choice] = []
    asks = "What now?"
    if unit.agent != NO_AGENT:
        choices.append(SEND_BACK)
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
    """An attempt left more than can be kept.

    `where`: the folder that holds it. `submitted`: the rest can be judged.
    """
    choices = [_for(unit, SEND_BACK)]
    if submitted:
        effect = "what could be kept is judged, and lands if it is green"
        choices.append(("Judge it without that", effect, Judge()))
    choices.append(CANCEL)
    asks = f"{unit.id}: {sentence}. What now?"
    kept = (
        f"Everything lies in {where} until you delete that folder: copy from there what you need."
    )
    evidence = "\n".join([kept, *told])
    return Ask(CardKind.GUARD, cause("too_big", unit.id), asks, choices, evidence, where)


def review(unit: Unit, *, said: str) -> Ask:
    """A green unit whose task asks for a reader."""
    asks = f"{unit.id} is green and waits for your review: {unit.title}"
    choices: list[Choice] = [("Approve", "it lands", Approve()), _for(unit, SEND_BACK)]
    if unit.agent != NO_AGENT:
        choices.append(SMALLER)
    choices.append(CANCEL)
    about = cause("review", f"{unit.id}:{unit.submission}")
    return Ask(CardKind.REVIEW, about, asks, choices, said.strip(), f"factory diff {unit.id}")


def landing_blocked(unit: Unit, reason: str, paths: Sequence[str]) -> Ask:
    """Landing would touch the user's own uncommitted work."""
    first = f": {min(paths)}" if paths else ""
    why = f"{one_line(reason).rstrip('.')}{first}"
    asks = f"{unit.id} is green but cannot land: {why}. Nothing of yours was touched."
    mine = (
        "I commit, stash or move it",
        "the unit lands by itself as soon as your checkout allows",
        Wait(),
    )
    # One file, one card, whatever else is in the way of each.
    about = cause("landing_blocked", min(paths, default=reason))
    where = f"git status; factory diff {unit.id}"
    return Ask(
        CardKind.LANDING_BLOCKED, about, asks, [mine, CANCEL_ALL], "\n".join(paths) or reason, where
    )


def landing_refused(unit: Unit, said: str, mend: str) -> Ask:
    """Git refused a landing, and nothing moved; `mend`: the command that helps, or ""."""
    why = one_line(said).rstrip(".")
    asks = f"{unit.id} is green, but git refused to land it: {why}. Trunk has not moved."
    about = cause("landing_refused", mend or one_line(said))
    mine = ("I mend it", "the factory tries again, and lands the unit by itself", Wait())
    told = with_remedy(said, mend)
    return Ask(CardKind.LANDING_BLOCKED, about, asks, [mine, CANCEL_ALL], told, "factory doctor")


def landing_unknown(unit: str, step: str, said: str, mend: str) -> Ask:
    """A landing was broken off, and git does not say whether trunk moved."""
    asks = f"The factory cannot find out whether {unit} landed: {one_line(said).rstrip('.')}."
    effect = (
        "the factory looks again by itself; until then nothing else lands, and other work goes on"
    )
    told = with_remedy(said, mend)
    return Ask(
        CardKind.LANDING_BLOCKED,
        unknown_landing(step),
        asks,
        [("I mend it", effect, Wait())],
        told,
        "factory doctor",
    )


def with_remedy(said: str, mend: str) -> str:
    """What is wrong, and the command that mends it where one is known."""
    return f"{said}\n\nTo mend it: {mend}" if mend else said


def unreadable(unit: Unit, sentence: str) -> Ask:
    """Something about one unit cannot be read, so nothing can be done with it."""
    asks = f"{unit.id} stands still, its work is kept: {one_line(sentence)} What now?"
    about = cause("unreadable", unit.id)
    return Ask(
        CardKind.CRASH_LOOP, about, asks, [RECHECK, AFRESH, CANCEL], sentence, ".factory/daemon.log"
    )


def no_markdown(unit: Unit, name: str) -> Ask:
    """The text of its task is gone, so no agent can be told it."""
    asks = (
        f"{unit.id} cannot be told to an agent: the text of its task file ({name}) "
        "is not on record any more. Its work is kept, and other units go on. What now?"
    )
    advice = (
        f"Cancel it and drop {name} again. "
        "Or put back a copy of the store that holds the text, then try again."
    )
    about = cause("no_markdown", unit.id)
    where = f"factory show {unit.id}"
    return Ask(CardKind.CRASH_LOOP, about, asks, [CANCEL, RECHECK], advice, where)


def unjudged(what: str, said: str, *, unit: Unit | None = None, evidence: str = "") -> Ask:
    """Judging a unit, or trunk, fails each time by a fault of the factory or the machine."""
    asks = f"{what} has no verdict: judging it breaks each time ({one_line(said).rstrip('.')})."
    if unit:
        asks += " Its work is kept, and other units go on. What now?"
        choices = [RECHECK, AFRESH, CANCEL_ALL]
    else:
        asks += " Green units still land. What now?"
        choices = [RECHECK, CANCEL_ALL]
    about = cause("unjudged", said[:200])
    return Ask(CardKind.CRASH_LOOP, about, asks, choices, evidence or said, ".factory/daemon.log")


def unit_spent(unit: Unit, *, used: str, cap: str) -> Ask:
    """The unit has used up what it may spend, or nearly so."""
    asks = f"{unit.id} has used {used} of the {cap} that it may spend; its work is kept. What now?"
    more = (
        "Give it as much again",
        "its cap is raised by that, for this unit alone; it goes on from its work",
        Approve(),
    )
    told = "Every attempt of it: factory show. What all units may spend: factory.toml, [budget]."
    return Ask(
        CardKind.BUDGET,
        cause("budget", unit.id),
        asks,
        [more, CANCEL],
        told,
        f"factory show {unit.id}",
    )


def _for(unit: Unit, choice: Choice) -> Choice:
    return RERUN if unit.agent == NO_AGENT else choice


def _attempts(unit: Unit) -> str:
    return f"{unit.spent} attempt" + ("" if unit.spent == 1 else "s")


def one_line(text: str) -> str:
    """The first line that says something, at most 160 characters of it."""
    for line in text.splitlines():
        said = line.strip()
        if said:
            return said if len(said) <= 160 else said[:157] + "…"
    return ""
