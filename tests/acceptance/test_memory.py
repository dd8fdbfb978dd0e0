"""What an idle daemon takes of the machine."""

from pathlib import Path

from factory.store.journal import Event
from tests.acceptance.line import Line

# MiB. Measured: PSS 26 after the start, 27 after work with `run`, 30 after work by an agent. RSS, which counts shared
# libraries whole and so depends on the build of Python, is 12 more.
MOST_PSS = 34.0
MOST_RSS = 48.0
# Only the child that reads factory.toml, and the commands, load these; a daemon would keep them for weeks.
NOT_THE_DAEMONS = ("pydantic_core",)


def memory(pid: int) -> tuple[float, float]:
    """The PSS and the RSS of a process, in MiB."""
    told = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        told[name] = int(size) / 1024
    return told["Pss:"], told["Rss:"]


def test_an_idle_daemon_stays_small_before_and_after_its_first_work(line: Line) -> None:
    assert line.daemon is not None
    line.event(Event.TRUNK_JUDGED)
    first = memory(line.daemon.pid)

    line.drop("works", "write('works.txt', 'fine')", title="Works")
    line.unit("works")
    line.until("it is idle", lambda: line.status()["workers"][0]["unit"] is None)

    then = memory(line.daemon.pid)
    assert max(first[0], then[0]) < MOST_PSS, (first, then)
    assert max(first[1], then[1]) < MOST_RSS, (first, then)
    maps = Path(f"/proc/{line.daemon.pid}/maps").read_text()
    assert [name for name in NOT_THE_DAEMONS if name in maps] == []
