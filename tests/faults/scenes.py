"""What has to happen on a day besides, so that a certain fault point is passed: one function for each kind of trouble.

A person's turn is a function that is called again and again, with daemons dying in between; it acts once it is due.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.acceptance.line import task
from tests.faults.day import CONFIG, Day
from tests.git_repo import commit, git, write

Scene = Callable[[Day], None]
MANY = 1500


# ── where trunk is, and what git is doing there ──


def elsewhere(day: Day) -> None:
    """They work on another branch: trunk is checked out nowhere."""
    git(day.line.root, "checkout", "-q", "-b", "theirs")
    day.stays_on("theirs")


def torn(day: Day) -> None:
    """Our git and the daemon are killed together while files of the checkout are being written."""
    day.put(
        "many.md",
        task(f"for n in range({MANY}): write(f'many/{{n:04}}.txt', 'fine' * 99)"),
        alone=True,
    )
    half = f"many/{MANY // 2:04}.txt"
    strike = f'$git "$@" & p=$!; until [ -e {half} ]; do kill -0 $p || exit 1; done; kill -9 $p $PPID; wait; exit 1'
    day.line.wrap_git(on=" --ff-only ", before=strike)
    day.dies()
    written = list((day.line.root / "many").iterdir())
    assert len(written) < MANY, "git was not caught half-way"
    assert (day.line.root / ".git/index.lock").exists()
    assert git(day.line.root, "rev-parse", "main") == day.begin
    day.drop()


def switched(day: Day) -> None:
    """They switch to a new branch between the daemon's look and its git's, and the daemon dies with it."""
    day.line.wrap_git(on=" --ff-only ", before="$git checkout -q -b theirs", after="kill -9 $PPID")
    day.stays_on("theirs")
    day.dies()
    assert git(day.line.root, "rev-parse", "theirs") != day.begin


# ── what runs when the daemon dies, or is ended by it ──


def outlived(day: Day) -> None:
    """An agent is at work when the daemon is killed."""
    more, go = day.line.folder / "begun-too", day.line.folder / "go"
    if day.twice:
        day.put(
            "outlives.md",
            task(f"Path({str(more)!r}).touch(); hold({str(go)!r}); write('outlives.txt', 'fine')"),
        )
    day.hurry = lambda: day.told("attempt.adopted", 1 + day.twice)

    def kill() -> None:
        if day.line.daemon and day.begun and more.exists() is day.twice:
            day.line.daemon.kill()

    day.turns.append(kill)
    day.dies()
    day.turns.remove(kill)


def some_landed(day: Day) -> None:
    """The daemon dies when a unit has just landed: what it left is put away at the next start."""
    day.dies("store.unit.landed:after")


def half_started(day: Day) -> None:
    """The daemon dies when all is ready for an agent and none runs."""
    day.dies("agent.start:before")


def handed_back(day: Day) -> None:
    """Each daemon but the last is stopped while an agent is at work."""
    day.hurry = lambda: not day.armed
    day.turns.append(lambda: day.stops() if day.armed and day.begun and day.up else None)


def judged(day: Day) -> None:
    """Each daemon but the last is stopped while a gate runs."""
    begun, slow = day.line.folder / "judging", day.line.folder / "slow"
    day.gate(f"touch {begun}; while [ -e {slow} ]; do sleep 0.01; done")
    slow.touch()
    day.turns.append(lambda: _stop_once(day, begun) if day.armed else slow.unlink(missing_ok=True))


def _stop_once(day: Day, begun: Path) -> None:
    if begun.exists() and day.up:
        begun.unlink()
        day.stops()


def disturbed(day: Day) -> None:
    """A gate writes into the environment that it runs in, once for each daemon."""
    done = day.line.folder / "disturbed"
    day.gate(f"[ -e {done} ] || {{ touch {done}; mkdir -p ../venv; touch ../venv/$$; }}")
    day.launches.append(lambda: done.unlink(missing_ok=True))


def touching(day: Day) -> None:
    """A gate touches a tracked file, and changes nothing in it."""
    day.gate("git ls-files | xargs touch")


def broken(day: Day) -> None:
    """The folder of an attempt cannot be made: its worker gives it up, until the cause is gone."""
    day.dies("store.hook.filled:after")  # the unit that was dropped first has its id by then
    way = day.line.places.home / "attempts" / "again"
    way.touch()
    day.launches.append(lambda: None if day.armed else way.unlink(missing_ok=True))


# ── what a person asks for ──


def paused(day: Day) -> None:
    """The line is paused, and resumed."""
    for times, _ in enumerate(day.names(""), 1):
        _paused(day, times)


def _paused(day: Day, times: int) -> None:
    def over() -> object:  # perhaps by a request that an earlier daemon had left
        return day.told("line.resumed", times)

    def settled() -> bool:  # what an earlier daemon had left is done: nothing changes by itself
        return day.up and not day.rows("request", "state = 'pending'")

    due = partial(day.told, "line.resumed", times - 1)
    day.then(
        lambda: settled() and due(), lambda: over() or day.paused() or day.line.factory("pause")
    )
    day.then(
        lambda: settled() and (over() or day.paused()),
        lambda: day.paused() and day.line.factory("resume"),
    )


def misconfigured(day: Day) -> None:
    """factory.toml is saved with a mistake, and saved again without."""
    day.launches.append(lambda: (day.line.root / "factory.toml").write_text(CONFIG))
    for _ in day.names(""):
        day.then(
            lambda: day.up and not day.card("config") and _second_worker(day),
            lambda: day.line.configure("workers = 'many'\n"),
        )
        day.then(lambda: day.card("config"), lambda: day.line.configure(CONFIG.replace("2", "1")))
        day.then(lambda: not _second_worker(day), lambda: day.line.configure(CONFIG))
    day.then(partial(_second_worker, day), lambda: None)


def _second_worker(day: Day) -> bool:
    """Whether the second worker takes work: it is neither told to end nor gone."""
    return bool(day.rows("hook", "worker = 'w2' AND state NOT IN ('draining', 'gone')"))


def needing(day: Day) -> None:
    """A unit waits for another, is saved again, and one like it is made urgent and cancelled."""
    needs = "needs: [clash]\n"
    count = len(day.names(""))
    day.hurry = lambda: day.told("task.replaced", count) and day.told("unit.cancelled", count)
    for later, never in zip(day.names("later"), day.names("never"), strict=True):
        again = f"---\nrun: echo made > {later}.txt\n{needs}---\nLater.\n"
        day.put(f"{later}.md", again.replace("made", "old"))
        day.put(
            f"{never}.md", f"---\nrun: echo never > {never}.txt\n{needs}---\nNever.\n", lands=False
        )
        day.once(partial(day.unit, later), partial(day.put, f"{later}.md", again))
        day.then(partial(day.unit, never), partial(day.line.factory, "priority", never, "1"))
        day.then(partial(day.unit, never), partial(day.line.factory, "cancel", never))


def submitted(day: Day) -> None:
    """A person submits commits that they made in a working tree of their own."""
    for name in day.names("mine"):
        there = day.line.folder / f"tree-{name}"
        git(day.line.root, "worktree", "add", "-q", "--detach", str(there), "main")
        made = commit(there, {f"{name}.txt": "fine"}, name)
        git(day.line.root, "worktree", "remove", str(there))
        day.awaits(name)
        day.then(partial(_is_due, day), partial(_submit, day, name, made))


def _is_due(day: Day) -> bool:
    return day.up


def _submit(day: Day, name: str, made: str) -> None:
    if not day.rows("request", f"kind = 'submit' AND args LIKE '%{made}%'"):
        code, said = day.line.factory("submit", made)
        assert code == 0, said


def reviewed(day: Day) -> None:
    """A green unit waits for its reader."""
    for name in day.names("reviewed"):
        day.put(f"{name}.md", task(f"write('{name}.txt', 'fine')", review="required"))
    day.turns.append(lambda: (card := day.card("review")) and day.line.factory("answer", card, "1"))


def split(day: Day) -> None:
    """A unit is too big for its agent, and another one needs it."""
    day.splits("big", "a", "b", "c")
    day.put(
        "after-big.md",
        "---\nneeds: big\nrun: test -e big-c.txt && echo made > after-big.txt\n---\nThen.\n",
    )


def absent(day: Day) -> None:
    """Two units name an agent that is not installed yet: one card, which the second one joins."""
    day.put("absent-a.md", task("", agent="absent"))
    day.once(
        lambda: day.rows("card", "kind = 'runtime' AND count = 1"),
        lambda: day.put("absent-b.md", task("", agent="absent")),
    )
    program = day.line.bin / "absent"

    def install() -> None:
        program.with_suffix(".new").write_text('#!/bin/sh\necho fine > "$FACTORY_UNIT.txt"\n')
        program.with_suffix(".new").chmod(0o755)
        program.with_suffix(".new").rename(program)
        os.utime(day.line.root / "inbox")

    if day.twice:
        day.once(
            lambda: day.rows("card", "count = 2"),
            lambda: day.put("absent-c.md", task("", agent="absent")),
        )
    day.then(lambda: day.rows("card", f"kind = 'runtime' AND count = {2 + day.twice}"), install)


def hopeless(day: Day) -> None:
    """A unit fails until a person has mended something and asks for it again."""
    for name in day.names("hopeless"):
        mended = day.line.folder / f"mended-{name}"
        day.put(f"{name}.md", f"---\nrun: test -e {mended} && echo fine > {name}.txt\n---\nTry.\n")
        day.then(partial(_exhausted, day, name, mended), mended.touch)
        day.then(mended.exists, partial(day.line.factory, "retry", name))


def red(day: Day) -> None:
    """Trunk is red: a person has a unit hung to repair it, and then mends it all the same."""
    day.begin = day.line.commit({"bad.txt": "BROKEN\n"})
    day.then(lambda: day.card("trunk_red") or day.unit("repair-trunk"), partial(_repair, day))
    day.then(partial(day.unit, "repair-trunk"), lambda: day.line.factory("cancel", "repair-trunk"))
    day.once(lambda: day.told("unit.cancelled"), day.mends)


def _repair(day: Day) -> None:
    if card := day.card("trunk_red"):
        day.line.factory("answer", card, "1")


def blocked(day: Day) -> None:
    """A file of theirs that no commit holds is in the way of a landing, until they move it."""
    for times, name in enumerate(day.names("way"), 1):
        way = day.line.root / f"{name}.txt"
        write(day.line.root, {way.name: "mine\n"})
        day.put(f"{name}.md", task(f"write('{name}.txt', 'fine')"))
        day.once(
            partial(day.told, "unit.queued", times), partial(way.rename, day.line.folder / name)
        )


def _exhausted(day: Day, name: str, mended: Path) -> object:
    return mended.exists() or day.rows(
        "card", f"kind = 'attempts_exhausted' AND unit = '{name}' AND state = 'open'"
    )


SCENES: dict[str, Scene] = {
    "landing.move": elsewhere,
    "landing.mend": torn,
    "landing.unlock": torn,
    "landing.put_back": switched,
    "agent.end": half_started,
    "agent.stop": handed_back,
    "command.stop": judged,
    "environment.distrust": disturbed,
    "tree.compare": touching,
    "tree.abandon": broken,
    "inbox.hang": red,
    "archive.put": some_landed,
    "archive.task": some_landed,
    "store.attempts.archived": some_landed,
    "store.attempt.adopted": outlived,
    "store.line.paused": paused,
    "store.line.resumed": paused,
    "store.config.refused": misconfigured,
    "store.config.changed": misconfigured,
    "store.worker.left": misconfigured,
    "store.card.closed": misconfigured,
    "store.task.replaced": needing,
    "store.unit.cancelled": needing,
    "store.unit.prioritized": needing,
    "submission.fetch": submitted,
    "store.unit.submitted": submitted,
    "store.unit.waiting": absent,
    "store.card.folded": absent,
    "store.unit.held": reviewed,
    "store.unit.queued": blocked,
    "store.unit.retried": hopeless,
}
