"""Every sentence in which the factory asks a person for a decision: one function a cause, pure.

A choice is (label, effect, action); the first is the recommended one. effects.py says what an action does to a unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from factory.ground import bounded
from factory.ground.disk import complaint
from factory.ground.names import advice
from factory.ground.reserved import NO_AGENT
from factory.ground.sentences import shown
from factory.people.actions import (
    Afresh,
    Answer,
    Approve,
    Cancel,
    Judge,
    LeaveOut,
    Recheck,
    Repair,
    Rerun,
    Restore,
    Retry,
    Simplify,
    SpendOn,
    Split,
    Unneed,
    Wait,
)
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
RERUN: Choice = (
    "Run it again",
    "the same command once more, on newest trunk",
    Rerun(),
)  # it cannot be told anything
RECHECK: Choice = ("Try again", "mend it first; the units that wait go on", Recheck())


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
        f"{unit.id} asks: {_one_line(text)}",
        own or [free],
        text,
        default=default,
        deadline_s=deadline_s,
    )


def no_model(unit: Unit, agent: str, model: str) -> Ask:
    """The unit names a model, and its agent's command has no place for one."""
    asks = f"{unit.id} asks for the model {model}, which agent {agent} cannot be told: its command has no {{model}}."
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
    """All attempts are used up; what `is_part` of a unit that was split is not split again."""
    asks = f"{unit.id} could not be done in {_attempts(unit)}; the last one: {_one_line(last)}. What now?"
    more = (
        f"Try {limit} more",
        "fresh attempts; write a hint instead of a number and they are told it",
        Retry(),
    )
    where = f"factory show {unit.id}; factory log {unit.id}"
    choices: list[Choice] = [
        _for(unit, more),
        *([] if unit.agent == NO_AGENT or is_part else [SPLIT]),
        CANCEL,
    ]
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
    asks = f"{unit.id} still {_one_line(detail)} after {_attempts(unit)}. What now?"
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
    asks = f"{unit.id} was lost three times in a row ({_one_line(detail)}). What now?"
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
    asks = f"{unit.id}: its proof `{_one_line(command)}` passes on trunk already. Is there anything to do?"
    told = f"`accept` must fail before and pass after the change. It passes on trunk without one:\n{command}"
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
    land = ("Let it land", lands, Approve())
    choices: list[Choice] = [
        *([SEND_BACK] if unit.agent != NO_AGENT else []),
        *([land] if liftable else []),
        CANCEL,
    ]
    asks = (
        f"{unit.id}: {sentence}. Should it land?"
        if liftable
        else f"{unit.id}: {sentence}. What now?"
    )
    return Ask(
        kind, cause(str(kind), unit.id), asks, choices, "\n".join(told), f"factory diff {unit.id}"
    )


def too_big(unit: Unit, sentence: str, told: Sequence[str], *, where: str, submitted: bool) -> Ask:
    """Not all that an attempt left could be kept; `where` it lies, `submitted`: the rest can be judged."""
    again = RERUN if unit.agent == NO_AGENT else SEND_BACK
    rest = (
        "Judge it without that",
        "what could be kept is judged, and lands if it is green",
        Judge(),
    )
    choices: list[Choice] = [again, *([rest] if submitted else []), CANCEL]
    asks = f"{unit.id}: {sentence}. What now?"
    kept = (
        f"Everything lies in {where} until you delete that folder: copy from there what you need."
    )
    evidence = "\n".join([kept, *told])
    return Ask(CardKind.GUARD, cause("too_big", unit.id), asks, choices, evidence, where)


def review(unit: Unit, *, said: str) -> Ask:
    """A green unit whose task asks for a reader."""
    asks = f"{unit.id} is green and waits for your review: {unit.title}"
    smaller = [] if unit.agent == NO_AGENT else [SMALLER]
    choices: list[Choice] = [
        ("Approve", "it lands", Approve()),
        _for(unit, SEND_BACK),
        *smaller,
        CANCEL,
    ]
    about = cause("review", f"{unit.id}:{unit.submission}")
    return Ask(CardKind.REVIEW, about, asks, choices, said.strip(), f"factory diff {unit.id}")


def landing_blocked(unit: Unit, reason: str, paths: Sequence[str]) -> Ask:
    """Landing would touch the user's own uncommitted work."""
    first = f": {min(paths)}" if paths else ""
    asks = f"{unit.id} is green but cannot land: {_one_line(reason).rstrip('.')}{first}. Nothing of yours was touched."
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
    """Git refused a landing, and nothing moved; `mend`: the command that helps, where it is known."""
    asks = f"{unit.id} is green, but git refused to land it: {_one_line(said).rstrip('.')}. Trunk has not moved."
    about = cause("landing_refused", mend or _one_line(said))
    mine = ("I mend it", "the factory tries again, and lands the unit by itself", Wait())
    told = _with_remedy(said, mend)
    return Ask(CardKind.LANDING_BLOCKED, about, asks, [mine, CANCEL_ALL], told, "factory doctor")


def landing_unknown(unit: str, step: str, said: str, mend: str) -> Ask:
    """A landing was broken off, and git does not say whether trunk moved."""
    asks = f"The factory cannot find out whether {unit} landed: {_one_line(said).rstrip('.')}."
    effect = (
        "the factory looks again by itself; until then nothing else lands, and other work goes on"
    )
    told = _with_remedy(said, mend)
    return Ask(
        CardKind.LANDING_BLOCKED,
        unknown_landing(step),
        asks,
        [("I mend it", effect, Wait())],
        told,
        "factory doctor",
    )


def trunk_unreadable(branch: str, said: str, mend: str) -> Ask:
    """Git cannot read trunk, or cannot bring it into the factory repository."""
    asks = f"git cannot read {branch}, so nothing is judged and nothing lands: {_one_line(said).rstrip('.')}."
    mine = ("I mend it", "the factory tries again by itself, and the line goes on", Wait())
    return Ask(
        CardKind.CONFIG,
        TRUNK_UNREADABLE,
        asks,
        [mine],
        _with_remedy(said, mend),
        "factory doctor",
    )


def _with_remedy(said: str, mend: str) -> str:
    return f"{said}\n\nTo mend it: {mend}" if mend else said


def unreadable(unit: Unit, sentence: str) -> Ask:
    """Something about one unit cannot be read, so nothing can be done with it."""
    asks = f"{unit.id} stands still, its work is kept: {_one_line(sentence)} What now?"
    afresh = (
        "Start again from trunk",
        "a new attempt; what was made before is kept, but not used",
        Afresh(),
    )
    about = cause("unreadable", unit.id)
    return Ask(
        CardKind.CRASH_LOOP, about, asks, [RECHECK, afresh, CANCEL], sentence, ".factory/daemon.log"
    )


def no_markdown(unit: Unit, name: str) -> Ask:
    """The text of its task is gone, so no agent can be told it."""
    asks = f"{unit.id} cannot be told to an agent: the text of its task file ({name}) is not on record any more."
    more = " Its work is kept, and other units go on. What now?"
    advice = f"Cancel it and drop {name} again. Or put back a copy of the store that holds the text, then try again."
    about = cause("no_markdown", unit.id)
    choices: list[Choice] = [CANCEL, RECHECK]
    return Ask(CardKind.CRASH_LOOP, about, asks + more, choices, advice, f"factory show {unit.id}")


def unjudged(what: str, said: str, *, unit: Unit | None = None, evidence: str = "") -> Ask:
    """Judging a unit, or trunk, breaks time after time: by no gate, but by a fault of the factory or the machine."""
    asks = f"{what} has no verdict: judging it breaks each time ({_one_line(said).rstrip('.')})."
    afresh = (
        "Start again from trunk",
        "a new attempt; what was made before is kept, but not used",
        Afresh(),
    )
    more = (
        " Its work is kept, and other units go on. What now?"
        if unit
        else " Green units still land. What now?"
    )
    choices: list[Choice] = [RECHECK, *([afresh] if unit else []), CANCEL_ALL]
    about = cause("unjudged", said[:200])
    return Ask(
        CardKind.CRASH_LOOP, about, asks + more, choices, evidence or said, ".factory/daemon.log"
    )


def unit_spent(unit: Unit, *, used: str, cap: str) -> Ask:
    """The unit has used up what it may spend, or so much of it that another attempt makes no sense."""
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


# ── causes that units share ──


def day_spent(day: Cause, *, used: str, cap: str) -> Ask:
    """What is left of the day's money does not pay for another attempt."""
    asks = f"{used} of today's {cap} are spent; the rest does not pay for another attempt, so none starts. What now?"
    effect = "the units go on by themselves after midnight (UTC), or as soon as factory.toml has a higher cap"
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
    asks = "No gate was found: nothing in this repository says how a change is tested. How is work judged here?"
    add = "commit e.g. conventions/gates/10-test.sh to trunk; the units go on by themselves"
    without = "the units that wait now land unjudged, and the journal says so"
    choices: list[Choice] = [
        ("I add a gate", add, Wait()),
        ("Land these without a gate", without, Approve()),
        CANCEL_ALL,
    ]
    told = "Neither conventions/gates/*.sh or *.toml on trunk, nor pytest, unittest, a package.json script or a "
    told += "Makefile target `check` or `test` to infer one from."
    return Ask(CardKind.NO_GATE, NO_GATE, asks, choices, told, "factory config")


def setup_failed(*, sentence: str, tail: str = "", log: str = "") -> Ask:
    """The environment for gates or agents could not be made."""
    again = ("Try again", "setup runs once more; mend it first (trunk, network, tools)", Recheck())
    what = " ".join(filter(None, [_one_line(sentence), advice(tail)]))
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
    asks = f"Nothing can be judged or started: {_one_line(said).rstrip('.')}. No attempt was spent; what now?"
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
    asks = f"{agent} is not logged in: log it in{login and f' ({login})'}, then try again."
    asks += " A variable that was set since is seen after factoryd restart."
    return replace(
        runtime_trouble(agent, asks, evidence=evidence), where=f"factory doctor --agent {agent}"
    )


def runtime_failing(agent: str, detail: str, *, evidence: str) -> Ask:
    """Unit after unit ends at once and did nothing."""
    asks = f"{agent} ends at once and does nothing, unit after unit ({_one_line(detail)}): it rests longer and longer."
    return _resting(agent, asks, evidence or detail)


def runtime_limited(agent: str, detail: str, *, evidence: str) -> Ask:
    """It is at a limit, or its provider in trouble, for long already."""
    asks = f"{agent} cannot go on and does not say for how long ({_one_line(detail)}): it is tried every 15 minutes."
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


def trunk_red(
    *, branch: str, commit: str, gates: Sequence[str], tail: str, log: str, inferred: bool = False
) -> Ask:
    """Trunk itself does not pass; gates that were only `inferred` may be left out."""
    asks = f"{branch} is red by itself at {commit[:10]} in {shown(gates)}: nobody's unit did it. What now?"
    title = f"Make {shown(gates)} green on {branch} again"
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
        (
            "Land anyway",
            "units that wait and are red in just these gates land, and are shown so",
            Approve(),
        ),
    ]
    if inferred:
        choices.append(_without(gates))
    return Ask(CardKind.TRUNK_RED, TRUNK_RED, asks, choices, tail, log)


def trunk_rewritten(
    *,
    branch: str,
    commit: str,
    rewrote: Mapping[str, Sequence[str]],
    read_from: Sequence[str],
    form: str,
    tail: str,
    log: str,
    inferred: bool = False,
) -> Ask:
    """Trunk's own gates change what they judge.

    `rewrote`: which files, by gate; `read_from`: where the gates were found; `form`: how the tool only checks.
    """
    gates, where = shown([*rewrote]), shown(read_from)
    every = sorted({path for paths in rewrote.values() for path in paths})
    asks = (
        f"On {branch} ({commit[:10]}) {gates} changes files that it judges: {shown(every)}. "
        "What it passes is not what lands, so it is red. What now?"
    )
    check = (
        "Use a form that only checks",
        f"you change it ({where}) to {form or 'e.g. --check or --no-fix'}; the units go on by themselves",
        Wait(),
    )
    repair = (
        "Hang a repair unit",
        "a unit with priority 0 commits what the gate changes",
        Repair(f"Commit to {branch} what {gates} changes there"),
    )
    land = (
        "Land anyway",
        "units that wait and are red in just these gates land, and are shown so",
        Approve(),
    )
    more = _by_answer(rewrote) if inferred else _by_hand(where, every, branch)
    return Ask(CardKind.TRUNK_RED, TRUNK_RED, asks, [check, repair, *more, land], tail, log)


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
    asks = f"The branch {branch} is gone (deleted or renamed): nothing can land. Where should units land?"
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
    asks = f"A file under conventions/ on trunk cannot be used, so nothing is judged: {_one_line(sentence)}"
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
    most = f"{bounded.shown(bounded.PARSED)} of such a file (of a lock file {bounded.shown(bounded.LOCK_FILE)})"
    named = bounded.listed(files, 5)
    asks = f"Nothing is judged: the factory reads at most {most}, and trunk has {named}. No attempt was spent."
    mine = ("I make it smaller on trunk", "the units that wait go on by themselves", Wait())
    told = "\n".join(f"{path}: {bounded.shown(size)}" for path, size in files)
    return Ask(
        CardKind.SETUP, cause("rules_too_large"), asks, [mine, CANCEL_ALL], told, "factory config"
    )


def wrong_prompt(sentence: str, key: str) -> Ask:
    """A prompt file on trunk cannot be used; `key` says which prompts these were."""
    asks = f"A prompt on trunk cannot be used, so no agent starts: {_one_line(sentence)}"
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
    asks = f"factory.toml cannot be used; the last good one is in force: {_one_line(sentence)}"
    mine = ("I mend it", "an edit applies within a second, and this card closes by itself", Wait())
    return Ask(CardKind.CONFIG, BAD_CONFIG, asks, [mine], sentence, "factory.toml; factory config")


def _for(unit: Unit, choice: Choice) -> Choice:
    return RERUN if unit.agent == NO_AGENT else choice


def _attempts(unit: Unit) -> str:
    return f"{unit.spent} attempt" + ("" if unit.spent == 1 else "s")


def _one_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= 160 else line[:157] + "…"
