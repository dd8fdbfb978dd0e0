"""The journal's events. The journal has one row per event, with the records that it changed.

Invariant: applying all journal entries to an empty store gives the present state; tests/journal.py
checks this. It also holds after old entries were compacted (compaction.py).
"""

from enum import StrEnum


class Event(StrEnum):
    """Every kind of event that the journal can contain."""

    DAEMON_STARTED = "daemon.started"
    DAEMON_STOPPED = "daemon.stopped"
    CONFIG_CHANGED = "config.changed"
    CONFIG_REFUSED = "config.refused"
    LINE_PAUSED = "line.paused"
    LINE_RESUMED = "line.resumed"
    WORKER_JOINED = "worker.joined"
    WORKER_LEFT = "worker.left"
    TASK_ACCEPTED = "task.accepted"
    TASK_REPLACED = "task.replaced"
    TASK_REJECTED = "task.rejected"
    UNIT_READY = "unit.ready"
    UNIT_WAITING = "unit.waiting"
    UNIT_HELD = "unit.held"
    UNIT_QUEUED = "unit.queued"
    UNIT_CANCELLED = "unit.cancelled"
    UNIT_RETRIED = "unit.retried"
    UNIT_PRIORITIZED = "unit.prioritized"
    UNIT_SUBMITTED = "unit.submitted"
    UNIT_TOLD = "unit.told"
    HOOK_FILLED = "hook.filled"
    ATTEMPT_STARTED = "attempt.started"
    ATTEMPT_ADOPTED = "attempt.adopted"
    ATTEMPT_NOTED = "attempt.noted"
    ATTEMPT_ENDED = "attempt.ended"
    ATTEMPT_EXPLAINED = "attempt.explained"
    ATTEMPTS_ARCHIVED = "attempts.archived"
    WORKSPACE_ABANDONED = "workspace.abandoned"
    KEPT_PRUNED = "kept.pruned"
    KEPT_COMPACTED = "kept.compacted"
    VERDICT_GIVEN = "verdict.given"
    LANDING_OPENED = "landing.opened"
    LANDING_CLOSED = "landing.closed"
    UNIT_LANDED = "unit.landed"
    # somebody rewrote trunk, so the unit has another commit on it now
    UNIT_FOLLOWED = "unit.followed"
    TRUNK_MOVED = "trunk.moved"
    TRUNK_JUDGED = "trunk.judged"
    CARD_RAISED = "card.raised"
    CARD_FOLDED = "card.folded"
    CARD_ANSWERED = "card.answered"
    CARD_CLOSED = "card.closed"
    REQUEST_MADE = "request.made"
    REQUEST_DONE = "request.done"
    FACT_CHANGED = "fact.changed"
    STORE_COPIED = (
        "store.copied"  # this repository is a copy, so its open units belong to the original
    )
    STORE_MIGRATED = "store.migrated"  # all records, journaled after a change of the store's format
