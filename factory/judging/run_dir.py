"""The run dir of a gate or setup: it holds the script and the output.

Invariant: the script of a gate lies outside the tree that the gate judges.
"""

from contextlib import suppress
from pathlib import Path

from factory.ground import bounded

TAIL_BYTES = 16 << 10


def script_in(run_dir: Path, text: str) -> tuple[str, ...]:
    """Write a script into the run dir, and return the command that runs the script."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "script"
    path.write_text(text)
    path.chmod(0o500)
    return (str(path),) if text.startswith("#!") else ("sh", str(path))


def tail_of(run_dir: Path) -> str:
    """Return the end of the run's output."""
    said = b""
    for name in ("output.log", "output.1.log"):  # the file with the newest output comes first
        with suppress(OSError):
            said = bounded.tail(run_dir / name, TAIL_BYTES - len(said)) + said
    return said.decode(errors="replace")
