"""What an attempt left after all its processes ended, and sentences about that."""

from dataclasses import dataclass, replace
from datetime import datetime

from factory.agents.output import Seen
from factory.attempt import triage
from factory.attempt.digest import digest
from factory.attempt.outbox import Outbox
from factory.attempt.run import Run
from factory.child.process import Exit
from factory.dispatch.ledger import metered
from factory.ground.sentences import shown
from factory.inbox.split import Part, told
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import Ask
from factory.repo.workspaces import Snapshot
from factory.store.records import Attempt
from factory.store.unit import EndReason

SAID_MOST = 4000  # characters kept of the agent's last words
_HOW: dict[EndReason, str] = {
    EndReason.SILENT: "it said nothing for too long and was stopped",
    EndReason.NO_PROGRESS: "it did the same again and again, and was stopped",
    EndReason.TIMED_OUT: "it ran out of time and was stopped",
    EndReason.OVER_BUDGET: (
        "it had used up what it may spend ([budget] in factory.toml) and was stopped"
    ),
    EndReason.ASKED: "it asked a question",
    EndReason.CANCELLED: "it was cancelled",
    EndReason.AUTH: "its agent is not logged in",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What an attempt left."""

    ended: Exit
    seen: Seen
    box: Outbox
    snapshot: Snapshot
    changed: bool  # whether the tree has changed since the start
    stopped: EndReason | None = None  # why the worker ended it
    parts: tuple[Part, ...] = ()  # the parts that replace the unit
    no_split: str = ""  # why the parts that it wrote were refused

    @property
    def last_words(self) -> str:
        """Return the agent's last message."""
        return self.seen.result or self.seen.tail or self.seen.error

    @property
    def never_ran(self) -> bool:
        """Return whether the agent could not be started."""
        return self.ended.cause in ("unstartable", "unconfined")


def ending(run: Run, left: Left) -> triage.Ending:
    """Return the facts that classify an end.

    If a split was refused, a changed tree counts only if the agent left done.md.
    """
    ended = left.ended
    seen = left.seen
    reported = bool(left.box.done.strip())
    is_split = bool(left.parts)
    return triage.Ending(
        stopped=left.stopped,
        lost=ended.cause == "lost",
        clean=ended.cause == "exited" and ended.code == 0 and seen.good,
        handed_back=ended.cause == "stopped",
        timed_out=ended.cause == "timeout",
        overran=ended.cause == "overran",
        command_missing=ended.cause == "unstartable",
        unconfined=ended.cause == "unconfined",
        limited=seen.limited,
        unauthorized=seen.unauthorized,
        overspent=0 < run.attempt.reserved_usd <= seen.usage.cost,
        looping=seen.looping,
        asked=left.box.question is not None,
        split=is_split,
        reported=reported,
        changed=left.changed and (reported or is_split or not left.box.split),
        proof=bool(run.spec.accept),
        scripted=bool(run.spec.run),
    )


def as_ended(
    kept: Attempt,
    left: Left,
    reason: EndReason,
    *,
    detail: str,
    at: datetime,
) -> Attempt:
    """Return `kept`, the attempt with its kept tree, with its end added."""
    seen = left.seen
    notes = odd_about(left, reason)
    text = "\n".join(notes)  # a submission needs no digest yet: the judge writes it
    if reason is not EndReason.SUBMITTED:
        text = digest(reason, detail=detail, said=left.last_words, notes=notes)
    ended = replace(
        metered(kept, seen.usage),
        end=at,
        reason=reason,
        detail=detail,
        digest=text,
        summary=left.box.done,
        said=left.last_words[-SAID_MOST:],
        handoff=left.box.handoff,
        session=seen.session or kept.session,
    )
    # If usage was not reported, the whole reservation is charged, because the real usage is
    # unknown.
    if seen.usage.priced or left.never_ran:
        ended = replace(ended, reserved_usd=0.0)
    if seen.tells_tokens or left.never_ran:
        ended = replace(ended, reserved_tokens=0)
    return ended


def odd_about(left: Left, reason: EndReason) -> list[str]:
    """Return sentences about what the attempt left that factoryd cannot use unchanged."""
    notes = []
    for path in left.snapshot.nested:
        notes.append(f"{path} was a separate git repository; its files were added as plain files")
    for name in left.box.not_yet:
        notes.append(f"{name}/ in the outbox: not available yet; factoryd ignored it")
    if left.no_split and reason is not EndReason.EMPTY:
        notes.append(f"It was not split. {left.no_split}")
    notes += _lacking(left.snapshot)
    unread = left.seen.unread
    if unread:
        sums = ", so its tokens and its cost are more than is shown" if left.seen.too_little else ""
        much = f"at least {unread / 1e6:.1f} MB of its output were not read"
        notes.append(f"It printed too much: {much}{sums}")
    return notes


def _lacking(snapshot: Snapshot) -> list[str]:
    """Return sentences about what a snapshot lacks."""
    notes = []
    if snapshot.missed:
        notes.append(f"Left out of what was submitted: {shown(snapshot.missed)}")
    if snapshot.too_big:
        notes.append(f"Not all of it could be kept: {snapshot.too_big.sentence}")
    if snapshot.left_out:
        notes.append(f"git could not take everything: {snapshot.left_out}")
    if snapshot.gone:
        notes.append("The workspace itself was gone at the end")
    return notes


def how_it_ended(reason: EndReason, left: Left) -> str:
    """Return one sentence for a person about how the attempt ended."""
    ended = left.ended
    if reason in _HOW:
        return _HOW[reason]
    if reason is EndReason.EMPTY:
        return _how_it_is_empty(left)
    if reason is EndReason.CRASHED:
        return _how_it_crashed(left)
    if reason is EndReason.LIMIT:
        why = "its usage limit is reached, or its provider is overloaded or out of reach"
        return f"{why}{_last_line(left)}"
    known = {
        EndReason.LOST: f"it was lost: {ended.detail}",
        EndReason.HANDED_BACK: ended.detail or "it was handed back when the daemon stopped",
        EndReason.SPLIT: f"it wrote smaller tasks in its place: {told(left.parts)}",
        EndReason.SETUP_FAILED: f"the sandbox did not start a command: {ended.detail}",
    }
    return known.get(reason, "")


def _how_it_is_empty(left: Left) -> str:
    if left.snapshot.gone:
        return "its workspace was gone at the end, and what it did with it"
    why = told(left.parts) or left.no_split
    return f"it was not split: {why}" if why else "it changed nothing"


def _how_it_crashed(left: Left) -> str:
    ended = left.ended
    if ended.cause == "overran":
        return f"it used too much and was ended ({ended.detail})"
    how = f"signal {ended.signal}" if ended.signal else f"exit {ended.code}"
    return f"it ended with {how}{_last_line(left)}"


def _last_line(left: Left) -> str:
    lines = (left.seen.error or left.last_words).strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""


def ask_about(run: Run, attempt: Attempt, left: Left) -> Ask | None:
    """Return the card about an end that needs a person."""
    asked = left.box.question
    if attempt.reason is EndReason.ASKED and asked:
        return words.question(
            run.unit,
            asked.text,
            asked.options,
            default=asked.default_key,
            deadline_s=asked.deadline_s,
        )
    if attempt.reason is EndReason.AUTH:
        login = run.runtime.doctor.login
        evidence = attempt.said or attempt.detail
        return line_cards.not_logged_in(attempt.agent, login, evidence=evidence)
    if attempt.reason is EndReason.SETUP_FAILED:
        return line_cards.unconfined(attempt.detail)
    if attempt.reason is EndReason.HANDED_BACK and left.never_ran:
        sentence = f"{attempt.agent} could not be started: {attempt.detail}"
        return line_cards.runtime_trouble(attempt.agent, sentence, evidence=attempt.detail)
    return None
