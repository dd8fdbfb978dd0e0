"""The scripted agent of the demo: it can do eight tasks and needs no model, key or network.

factoryd runs it like any agent: as a process in a workspace, with a prompt file. The agent reads in
the prompt why its last attempt failed and what a person answered.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

OUTBOX = Path(os.environ.get("FACTORY_OUTBOX", "."))
SHOP = Path("shop")
RELEASED = "released"  # a file that the demo puts into the outbox
PATIENCE_S = 60.0


class Prompt:
    """The prompt that factoryd gives to the agent."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def failure(self) -> str:
        """Return the failed test or the sentence about the conflict; empty if there is neither."""
        _, _, told = self.text.partition("## What went wrong")
        found = re.search(r"^(?:FAIL|ERROR): (\w+)|^(conflicts with .* in .*)", told, re.MULTILINE)
        return found[1] or found[2] if found else ""

    @property
    def answer(self) -> str:
        """Return the answer of a person; empty if there is none."""
        _, _, told = self.text.partition("A person said:")
        return told.strip().partition("\n")[0]


def say(text: str) -> None:
    """Print a line, as an agent's output."""
    print(text, flush=True)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the text once; change nothing if the new text is already there."""
    text = path.read_text()
    if new not in text:
        path.write_text(text.replace(old, new, 1))


def done(subject: str) -> None:
    """Report the work; the first line becomes the subject of the commit."""
    (OUTBOX / "done.md").write_text(f"{subject}\n")


def wait_for_release() -> None:
    """Wait in the first attempt until the demo releases it."""
    deadline = time.monotonic() + PATIENCE_S
    while os.environ["FACTORY_ATTEMPT"] == "1" and time.monotonic() < deadline:
        if (OUTBOX / RELEASED).exists():
            return
        time.sleep(0.05)


# ── the tasks ──


def fix_total(prompt: Prompt) -> None:
    """Forget the case of an empty cart at first; correct that after the gate is red."""
    if not prompt.failure:
        say("It counts each name once. I add up all prices.")
        edit(
            SHOP / "cart.py",
            "return sum(PRICES[name] for name in set(cart))",
            "prices = [PRICES[name] for name in cart]\n"
            "    amount = prices[0]\n"
            "    for price in prices[1:]:\n"
            "        amount += price\n"
            "    return amount",
        )
        return
    say(f"The gate was red: {prompt.failure}")
    say("An empty cart has no first price. I use sum().")
    file = SHOP / "cart.py"
    head, _, _ = file.read_text().partition("    prices = ")
    file.write_text(f"{head}    return sum(PRICES[name] for name in cart)\n")
    done("Count each thing in the total")


def fix_slug(_: Prompt) -> None:
    """Land at the first attempt."""
    edit(SHOP / "text.py", 'title.lower().replace(" ", "-")', '"-".join(title.lower().split())')
    done("Make one dash of any number of spaces")


def receipt(_: Prompt) -> None:
    """Work slowly, so that other tasks wait for this one."""
    wait_for_release()
    (SHOP / "receipt.py").write_text(
        '"""The receipt of a cart."""\n\n\n'
        "def receipt(cart):\n"
        '    """Return one line for each name in the cart."""\n'
        '    return "\\n".join(f"{cart.count(name)} x {name}" for name in sorted(set(cart)))\n'
    )
    done("Print a receipt")


def receipt_total(_: Prompt) -> None:
    """Extend the receipt that another task made; that task landed before this one started."""
    file = SHOP / "receipt.py"
    edit(file, "\n\n\ndef receipt", "\n\nfrom shop.cart import total\n\n\ndef receipt")
    edit(file, 'return "\\n".join(', "rows = [")
    edit(
        file,
        "(set(cart)))\n",
        '(set(cart))]\n    return "\\n".join([*rows, f"total {total(cart)}"])\n',
    )
    done("End the receipt with the total")


def headline(text: str) -> Callable[[Prompt], None]:
    """Return the work of a task that changes the README's first line; two such tasks conflict."""

    def change(prompt: Prompt) -> None:
        wait_for_release()
        if prompt.failure:
            say("Another task changed the same line. I keep both sentences.")
        first, _, rest = Path("README.md").read_text().partition("\n")
        Path("README.md").write_text(f"{first} {text}\n{rest}")
        done(f"Say in the README: {text}")

    return change


def rounding(prompt: Prompt) -> None:
    """Ask a person first: only a person can decide this."""
    if not prompt.answer:
        say("The task does not say how to round. I ask.")
        (OUTBOX / "question.md").write_text(
            "---\noptions: [Half up, Half to even]\n---\nHow should half a cent be rounded?\n"
        )
        return
    say(f"The answer is: {prompt.answer}")
    how = "ROUND_HALF_EVEN" if "even" in prompt.answer else "ROUND_HALF_UP"
    (SHOP / "money.py").write_text(
        f'"""Money."""\n\nfrom decimal import {how}, Decimal\n\n\n'
        "def rounded(amount):\n"
        '    """Return the amount (a text) in whole cents."""\n'
        f'    return Decimal(amount).quantize(Decimal("0.01"), {how})\n'
    )
    done("Round prices to whole cents")


def float_sum(_: Prompt) -> None:
    """Try and fail, because the task is impossible."""
    wait_for_release()
    say("I cannot do this. I leave a note.")
    with (SHOP / "wishes.py").open("a") as file:
        file.write(f"# attempt {os.environ['FACTORY_ATTEMPT']}: 0.1 + 0.2 should be 0.3\n")


KNOWN: Mapping[str, Callable[[Prompt], None]] = {
    "fix-total": fix_total,
    "fix-slug": fix_slug,
    "receipt": receipt,
    "receipt-total": receipt_total,
    "readme-tea": headline("Tea is fresh."),
    "readme-hours": headline("Open all day."),
    "rounding": rounding,
    "float-sum": float_sum,
}


def main() -> None:
    """Do the task that the environment names."""
    work = KNOWN.get(os.environ["FACTORY_UNIT"])
    if work is None:
        sys.exit(f"I know only these tasks: {', '.join(KNOWN)}. Give this one to a real agent.")
    work(Prompt(Path(sys.argv[1]).read_text()))


if __name__ == "__main__":
    main()
