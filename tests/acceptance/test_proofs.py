"""A proof that does not end: one bench, a real daemon, and a command that ignores SIGTERM."""

from pathlib import Path

from tests.acceptance.line import Line, files, line_in
from tests.acceptance.test_restart import alive

ONE_BENCH = 'agent = "scripted"\nworkers = 2\n[gates]\nbenches = 1\n'


def test_a_server_as_proof_keeps_no_bench_from_others_and_ends_with_its_unit(
    tmp_path: Path,
) -> None:
    with line_in(tmp_path, files() | {"factory.toml": ONE_BENCH}) as line:
        line.drop("first", "write('first.txt', 'x')")
        line.unit("first")
        pids = line.folder / "pids"
        serve = f"trap '' TERM; echo $$ >> {pids}; while :; do sleep 1; done"
        line.drop("serve", "write('serve.txt', 'x')", accept=serve, priority=1)
        begun(line, pids, 1)
        runs = line.until("accept is said to run", lambda: of_proof(line))

        line.kill()
        dead = line.factory("status")[1]
        line.start()
        line.drop("one", "write('one.txt', 'x')")
        line.unit("one")
        _, said = line.factory("why", "serve")
        pid = begun(line, pids, 2)
        line.kill()
        line.factory("cancel", "serve")
        line.start()
        line.drop("two", "write('two.txt', 'x')")
        line.unit("two")
        line.until("its process has ended", lambda: not alive(pid))

        assert "for at most 10 min" in runs
        assert ("accept runs" in dead, "waits for factoryd start" in dead) == (False, True)
        assert "serve is ready: accept runs on trunk since" in said
        assert line.attempts("serve") == []


def of_proof(line: Line) -> str:
    """What `factory why` says about commands that run; "" if they do not run."""
    said = line.factory("why", "serve")[1]
    return said if "accept runs on trunk since" in said else ""


def begun(line: Line, pids: Path, count: int) -> int:
    """Wait until the command has begun so often; the pid of the last one."""

    def look() -> list[str]:
        found = pids.read_text().split() if pids.exists() else []
        return found if len(found) >= count else []

    return int(line.until(f"{count} runs", look)[-1])
