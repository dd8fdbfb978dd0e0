"""An agent whose model is its task: it runs the first Python block of its prompt, as a real one would follow the words.

Its session is the block itself, kept in its HOME: a prompt that continues a session need not repeat the task.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

OUTBOX = Path(os.environ["FACTORY_OUTBOX"])
PATIENCE_S = 30


def write(path: str, text: str) -> None:
    """Write a file of the working tree."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def leave(name: str, text: str) -> None:
    """Leave a message in the outbox."""
    (OUTBOX / name).write_text(text)


def git(*args: str) -> None:
    """What no agent is asked to do."""
    subprocess.run(["git", *args], check=True)


def hold(path: str) -> None:
    """Work on, in silence, until the test lets go."""
    until = time.monotonic() + PATIENCE_S
    while not Path(path).exists():
        if time.monotonic() > until:
            sys.exit(f"nobody wrote {path}")
        time.sleep(0.01)


def main() -> None:
    """Read the prompt, tell the session where one is asked for, and do what the block says."""
    prompt_file, *rest = sys.argv[1:]
    prompt = Path(prompt_file).read_text()
    session = rest[1] if rest else f"s-{os.environ['FACTORY_UNIT']}-{os.environ['FACTORY_ATTEMPT']}"
    memory = Path(os.environ["HOME"]) / ".scripted" / session
    block = re.search(r"^```python\n(.*?)^```", prompt, re.MULTILINE | re.DOTALL)
    code = block[1] if block else memory.read_text()
    if os.environ.get("SCRIPTED_JSONL"):
        memory.parent.mkdir(exist_ok=True)
        memory.write_text(code)
        print(json.dumps({"type": "begin", "session": session}), flush=True)
    attempt = int(os.environ["FACTORY_ATTEMPT"])
    told = prompt.replace(block[0], "") if block else prompt
    known = {
        "told": told,
        "write": write,
        "leave": leave,
        "git": git,
        "hold": hold,
        "resumed": bool(rest),
    }
    exec(
        code,
        {
            **known,
            "prompt": prompt,
            "attempt": attempt,
            "Path": Path,
            "os": os,
            "sys": sys,
            "time": time,
        },
    )
    if os.environ.get("SCRIPTED_JSONL"):
        print(json.dumps({"type": "end"}), flush=True)


main()
