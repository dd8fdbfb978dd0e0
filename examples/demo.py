"""The line at work, in under a minute: no key, no network, no model.

Makes a small repository with bugs, starts a real factoryd in it, drops task files into its inbox and shows what
happens: what lands, what is tried again and why, what waits for a person. The folder is kept, to look around in.

make demo
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
AGENT = Path(__file__).parent / "agents" / "apprentice.py"
PATIENCE_S = 90.0

FILES = {
    "README.md": "# A shop\n\nIt sells tea.\n",
    "names.txt": "rooibos\nassam\nsencha\nassam\n",
    ".gitignore": "__pycache__/\n",
    "shop/__init__.py": "",
    "shop/cart.py": '''\
"""The cart: lines of (name, price, quantity)."""


def total(lines):
    """What it costs."""
    return sum(price for _, price, _ in lines)
''',
    "shop/text.py": '''\
"""Names for addresses."""


def slug(title):
    """The title as a part of an address."""
    return title.lower().replace(" ", "-")
''',
    "tests/__init__.py": "",
    "tests/test_shop.py": """\
import unittest

from shop.cart import total
from shop.text import slug


class Shop(unittest.TestCase):
    def test_an_empty_cart_costs_nothing(self):
        self.assertEqual(total([]), 0)

    def test_one_thing_costs_its_price(self):
        self.assertEqual(total([("tea", 300, 1)]), 300)

    def test_a_title_becomes_an_address(self):
        self.assertEqual(slug("Green Tea"), "green-tea")
""",
    "conventions/gates/10-tests.sh": "{python} -m unittest discover -q -s tests -t .\n",
    "conventions/runtimes/apprentice.toml": "command = {command}\n",
    "factory.toml": 'agent = "apprentice"\nworkers = 4\n\n[limits]\nattempts = 2\n',
}

TASKS = {
    "readme-tea.md": "---\npriority: 1\n---\n# Say in the README's headline that tea is fresh\n",
    "readme-hours.md": "---\npriority: 1\n---\n# Say in the README's headline that we are open all day\n",
    "fix-total.md": """\
---
accept: {python} -c "from shop.cart import total; assert total([('tea', 300, 2)]) == 600"
---
# Two teas cost as much as one

The cart forgets the quantity.
""",
    "fix-slug.md": """\
---
accept: {python} -c "from shop.text import slug; assert slug('Green  Tea') == 'green-tea'"
scope: [shop/text.py]
---
# Two spaces make two dashes in an address
""",
    "sort-names.md": "---\nrun: sort -u -o names.txt names.txt\n---\nEach name once, in order. No agent needed.\n",
    "receipt.md": """\
---
accept: {python} -c "from shop.receipt import receipt; assert receipt([('tea', 300, 2)]).startswith('2 x tea')"
---
# Print a receipt
""",
    "receipt-total.md": """\
---
needs: receipt
accept: {python} -c "from shop.receipt import receipt; assert 'total' in receipt([('tea', 300, 2)])"
---
# End the receipt with the total
""",
    "receipt-sample.md": """\
---
needs: [receipt-total, fix-total]
run: {python} -c "from shop.receipt import receipt; print(receipt([('tea', 300, 2)]))" > sample.txt
---
A sample, made when both have landed.
""",
    "rounding.md": """\
---
accept: {python} -c "from shop.money import rounded; assert str(rounded('1.234')) == '1.23'"
---
# Round to whole cents
""",
    "float-sum.md": """\
---
accept: {python} -c "assert 0.1 + 0.2 == 0.3"
priority: 3
---
# Make 0.1 + 0.2 equal to 0.3
""",
}
ASKS, NEVER = "rounding", "float-sum"
LANDS = sorted(name.removesuffix(".md") for name in TASKS if name != f"{NEVER}.md")

WORDS = {
    "submitted": "handed in; now it is judged",
    "gate_red": "a gate is red; whoever goes on is told why",
    "not_proven": "its accept command does not pass; whoever goes on is told",
    "conflict": "conflicts with what landed meanwhile; the next attempt starts from the newest trunk",
    "asked": "asked a question, and holds no worker while it waits",
}
COLOURS = {"landed": 32, "card": 33, "red": 31, "dim": 2, "bold": 1}


# ── the repository ──


def make_shop(folder: Path) -> Path:
    """A repository whose tests pass, and which is wrong all the same."""
    shop = folder / "shop"
    command = json.dumps([sys.executable, "-I", str(AGENT), "{prompt_file}"])
    for name, text in FILES.items():
        (shop / name).parent.mkdir(parents=True, exist_ok=True)
        (shop / name).write_text(text.replace("{python}", python()).replace("{command}", command))
    git(shop, "init", "-q", "--template=", "-b", "main")
    git(shop, "config", "user.name", "You")
    git(shop, "config", "user.email", "you@example.invalid")
    git(shop, "add", "-A")
    git(shop, "commit", "-q", "-m", "A shop")
    return shop


def python() -> str:
    """A Python for the shop's own tests: not that of factoryd's environment, which no gate may see."""
    own = str(BIN)
    path = os.pathsep.join(part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part != own)
    found = next((name for name in ("python3", "python") if shutil.which(name, path=path)), "")
    return found or str(Path(sys.base_prefix) / "bin/python3")


def git(shop: Path, *argv: str) -> str:
    """Git without this machine's configuration."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *argv], cwd=shop, env=env, check=True, capture_output=True, text=True).stdout


# ── the line ──


class Line:
    """What the demo does by hand: commands and files, nothing else."""

    def __init__(self, shop: Path) -> None:
        self.shop = shop
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "FACTORY_"))}
        self.env["XDG_STATE_HOME"] = str(shop.parent / "state")  # workspaces and benches stay in the demo's folder
        self.began = time.monotonic()

    def type(self, *argv: str) -> None:
        """Run one of our commands as you would, and let its output be seen."""
        say(paint("bold", f"$ {' '.join(argv)}"))
        subprocess.run([BIN / argv[0], *argv[1:]], cwd=self.shop, env=self.env, check=True)
        say("")

    def status(self) -> dict[str, Any]:
        asked = [BIN / "factory", "status", "--json"]
        found = subprocess.run(asked, cwd=self.shop, env=self.env, check=True, capture_output=True)
        return dict(json.loads(found.stdout))

    @contextmanager
    def running(self) -> Iterator[None]:
        """A daemon, as long as the demo lasts."""
        self.type("factoryd", "start")
        try:
            yield
        finally:
            self.type("factoryd", "stop")

    @contextmanager
    def journal(self) -> Iterator["queue.Queue[dict[str, Any]]"]:
        """What happens, as it happens: `factory log --json -f` is made for programs."""
        told: queue.Queue[dict[str, Any]] = queue.Queue()
        asked = [BIN / "factory", "log", "--json", "--follow"]
        with subprocess.Popen(asked, cwd=self.shop, env=self.env, stdout=subprocess.PIPE, text=True) as following:
            reader = threading.Thread(target=lambda: [told.put(json.loads(line)) for line in following.stdout])
            reader.start()
            try:
                yield told
            finally:
                following.terminate()
                reader.join()  # before the pipe is closed under it

    def drop(self) -> None:
        for name, text in TASKS.items():
            (self.shop / "inbox" / name).write_text(text.replace("{python}", python()))
            say(f"  inbox/{name}")
        say("")

    def watch(self) -> bool:
        """Show what happens until all is done that can be; whether it came to that."""
        landed: set[str] = set()
        stuck, deadline = False, self.began + PATIENCE_S
        with self.journal() as told:
            while not (landed >= set(LANDS) and stuck) and time.monotonic() < deadline:
                try:
                    entry = told.get(timeout=1)
                except queue.Empty:
                    continue
                self.show(entry)
                if entry["event"] == "unit.landed":
                    landed.add(entry["unit"])
                elif entry.get("reason") == "asked":
                    self.answer(entry["unit"])
                stuck = stuck or (entry["event"] == "card.raised" and entry["unit"] == NEVER)
        missing = sorted(set(LANDS) - landed)
        if missing or not stuck:
            say(paint("red", f"after {PATIENCE_S:.0f} s this has not come: {', '.join(missing) or 'the card'}"))
        return not missing and stuck

    def show(self, entry: Mapping[str, Any]) -> None:
        """One line about an event that a person cares for."""
        unit, attempt, reason = entry["unit"], entry["attempt"], entry.get("reason", "")
        match entry["event"]:
            case "attempt.started":
                text = f"attempt {attempt} on {entry['worker']}"
            case "attempt.ended":
                text = paint(
                    "dim" if reason == "submitted" else "red", f"attempt {attempt}: {WORDS.get(reason, reason)}"
                )
            case "unit.landed":
                text = paint("landed", f"landed as {entry['commit'][:10]}")
            case "card.raised" if unit == NEVER:
                text = paint("card", f"a card for you: {self.card(unit)['question']}")
            case _:
                return
        say(f"{time.monotonic() - self.began:6.1f} s  {unit:<15} {text}")

    def card(self, unit: str) -> dict[str, Any]:
        return next((card for card in self.status()["escalations"] if card["unit"] == unit), {"question": "?"})

    def answer(self, unit: str) -> None:
        """A person comes by. All else goes on meanwhile."""
        card = self.card(unit)
        say(f"\n{paint('card', card['question'])}")
        for option in card["options"]:
            say(f"  {option['key']}  {option['label']}")
        self.type("factory", "answer", card["id"], "1")


# ── showing ──


def paint(what: str, text: str) -> str:
    """Coloured on a terminal, plain elsewhere."""
    return f"\x1b[{COLOURS[what]}m{text}\x1b[0m" if sys.stdout.isatty() else text


def say(text: str) -> None:
    print(text, flush=True)


def title(text: str) -> None:
    say(paint("bold", f"── {text} ──\n"))


def landed(shop: Path) -> None:
    """Trunk, as git has it."""
    unit = "%(trailers:key=Factory-Unit,valueonly,separator=%x2C)"
    say(git(shop, "log", "--reverse", f"--format=%h  %<(12)%an %<(16){unit} %s"))


def try_next(line: Line) -> None:
    card = line.card(NEVER)
    say(f"The shop is kept in {line.shop}. Look around:\n")
    say(f"  cd {line.shop}")
    for command, what in (
        ("factory show fix-total", "two attempts: one red, one landed"),
        ("factory why readme-tea", "why it went as it went"),
        ("factory diff fix-total", "what it changed"),
        (f"factory answer {card.get('id', 'E2')} 2", "the card that is left for you"),
        ("factoryd start", "then drop a task file of your own into inbox/"),
    ):
        say(f"  {command:<28} # {what}")
    say(f"\nThe commands are in {BIN}. In a repository of yours, factoryd start is all there is to it.")


def main() -> int:
    """Run the demo; 1 if anything that should have landed did not."""
    folder = Path(tempfile.mkdtemp(prefix="factoryd-demo-"))
    line = Line(make_shop(folder))
    title(f"a shop in {line.shop}: its tests pass, and it is wrong all the same")
    with line.running():
        title(f"{len(TASKS)} task files are dropped")
        line.drop()
        title("what happens")
        good = line.watch()
        say("")
        line.type("factory", "status")
        title("one of them in full: its second attempt has read why the first was red")
        line.type("factory", "log", "fix-total")
        title("what landed on main")
        landed(line.shop)
    title("what to try next")
    try_next(line)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
