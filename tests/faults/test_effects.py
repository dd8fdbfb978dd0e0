"""Every mutating call of a daemon at work is inside a bracket that the table of effects names."""

import json
from pathlib import Path

import pytest

from tests.faults.day import Day
from tests.faults.scenes import Scene, disturbed, elsewhere, some_landed, switched, torn

# What is no effect of the line, and why.
ALLOWED = {
    "/.factory/daemon.log": "the daemon's own log, which nothing depends on",
    "/.git/factoryd-lock": "the lock: it holds where the factory is, for whoever is refused",
    "/dev/null": "no file",
    "/__pycache__/": "bytecode that Python keeps of a module that is imported late",
    "/layer-": "the sandbox's trial of layers at start: nothing looks for that folder",
    " -m factory.reader ": "a child that reads the settings or examines the repository, and writes nothing",
    "/bwrap --json-status-fd 1 ": "the sandbox's trial at start: `true`, which sees all and may change nothing",
}
KINDS = {"open", "os.rename", "os.remove", "os.mkdir", "subprocess.Popen", "sqlite"}


@pytest.mark.parametrize("scene", [None, elsewhere, torn, switched, disturbed, some_landed])
def test_whatever_a_daemon_changes_it_changes_inside_a_bracket(
    tmp_path: Path, scene: Scene | None
) -> None:
    day, told = Day(tmp_path), tmp_path / "told"
    try:
        if scene:
            scene(day)
        day.line.program = ("-m", "tests.faults.recorder", str(day.line.root), str(told))
        day.ends(FACTORY_FAULT="record")
        day.check()
    finally:
        day.close()

    calls = [json.loads(line) for line in told.read_text().splitlines()]
    loose = [
        (event, what) for event, what, brackets in calls if not brackets and not _allowed(what)
    ]
    assert loose == [], "\n".join(f"{event} {what}" for event, what in loose)
    assert {event for event, _, _ in calls} >= KINDS
    assert len(calls) > 300


def _allowed(what: str) -> bool:
    return any(part in what for part in ALLOWED)
