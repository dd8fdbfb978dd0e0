"""The work that a chaos run drops into the inbox: units of every temper, drawn from a seed.

Each leaves `units/NAME.txt` with its own name in it, so that git alone can tell whether its work is on trunk.
"""

import json
import random
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

GATE = """\
#!/bin/sh
# Red for a broken text, and for two units that claim the same thing: each of them alone is green.
sleep "${CHAOS_GATE_S:-0.08}"
! grep -rn BROKEN --include=*.txt . || exit 1
twice=$(cat claims/*.txt 2> /dev/null | sort | uniq -d)
[ -z "$twice" ] || { echo "claimed twice: $twice"; exit 1; }
"""
DONE = 'write("units/{name}.txt", "{name}\\n")'
# What an agent of each temper does; an attempt that was killed is followed by the next number.
TEMPERS = {
    "honest": "time.sleep({s}); {done}",
    "red": 'time.sleep({s}); {done}\nwrite("texts/{name}.txt", "BROKEN" if attempt == 1 else "fine")',
    "crashing": '{done}\nif attempt == 1: os.kill(os.getpid(), 9)\nwrite("texts/{name}.txt", "whole")',
    "chatty": "for _ in range(300): print('word ' * 1500)\n{done}",
    "empty": "if attempt > 1: {done}",
    "asking": "if attempt == 1: leave('question.md', '---\\noptions: [yes, no]\\n---\\nMay I?')\nelse: {done}",
    "conflicting": 'text = Path("story.txt").read_text().splitlines()\ntext[{line}] += " {name}"\n'
    'time.sleep({s}); write("story.txt", "\\n".join(text) + "\\n"); {done}',
    "claiming": 'write("claims/{name}.txt", "{claim}\\n" if attempt == 1 else "{name}\\n"); {done}',
    "splitting": """
os.mkdir(os.environ["FACTORY_OUTBOX"] + "/split")
for part, needs in (("a", ""), ("b", "needs: a")):
    code = f"write('units/{name}-{{part}}.txt', 'fine')"
    leave(f"split/{{part}}.md", f"---\\n{{needs}}\\n---\\nDo it.\\n\\n{{'`' * 3}}python\\n{{code}}\\n{{'`' * 3}}\\n")
    time.sleep({s})
""",
    "leaving": 'os.system("setsid sleep 1000 > /dev/null 2>&1 &"); time.sleep({s}); {done}',
}


@dataclass(frozen=True, slots=True)
class Work:
    """One task file; `marks` is the path and content that its landing puts on trunk."""

    name: str
    text: str

    @property
    def marks(self) -> tuple[str, str]:
        """What git must show where it has landed."""
        return f"units/{self.name}.txt", f"{self.name}\n"


def works(rng: random.Random) -> Iterator[Work]:
    """Task files without end."""
    names: list[str] = []
    number = 0
    while True:
        number += 1
        temper = rng.choices(["run", *TEMPERS], [4, 5, 2, 1, 1, 1, 1, 3, 2, 2, 2])[0]
        name = f"u{number:03}-{temper}"
        front: dict[str, object] = {}
        if names and rng.random() < 0.12:
            front["needs"] = [rng.choice(names[-6:])]
        if rng.random() < 0.1:
            front["priority"] = rng.randrange(5)
        filled = {"name": name, "done": DONE.format(name=name), "s": round(rng.uniform(0, 1.5), 2)}
        filled |= {"line": rng.randrange(3), "claim": f"claim {rng.randrange(4)} of {number // 20}"}
        body = "Do this."
        if temper == "run":
            front["run"] = f"sleep {filled['s']}; mkdir -p units && echo {name} > units/{name}.txt"
        else:
            code = TEMPERS[temper].format(**filled)
            body += f"\n\n```python\n{textwrap.dedent(code).strip()}\n```"
        head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
        names.append(name)
        yield Work(name, f"---\n{head}---\n{body}\n")
