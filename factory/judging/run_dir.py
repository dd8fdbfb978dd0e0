"""What lies in the run dir of a gate or setup: the script that runs, and what it said.

Invariant: a script lies outside of the tree that it judges.
"""

from contextlib import suppress
from pathlib import Path

from factory.ground import bounded

TAIL_BYTES = 16 << 10


def script_in(run_dir: Path, text: str) -> tuple[str, ...]:
    """Write a script there; the command that runs it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "script"
    path.write_text(text)
    path.chmod(0o500)
    return (str(path),) if text.startswith("#!") else ("sh", str(path))


def tail_of(run_dir: Path) -> str:
    """The end of what was said there."""
    said = b""
    for name in ("output.log", "output.1.log"):  # the newest first
        with suppress(OSError):
            said = bounded.tail(run_dir / name, TAIL_BYTES - len(said)) + said
    return said.decode(errors="replace")
