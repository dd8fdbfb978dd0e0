"""A scripted agent: it works as a coding agent does, but knows eight tasks by heart and needs no model, key or network.

The line runs it as it would run any agent: a process in a workspace, given a prompt file, judged by what it leaves.
What it knows about its attempt it knows from the prompt: why the last one failed, what a person answered.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

OUTBOX = Path(os.environ["FACTORY_OUTBOX"])
SHOP = Path("shop")


class Prompt:
    """What the line says to the agent."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def failure(self) -> str:
        """The line that says what went wrong last time; empty in a first attempt."""
        _, _, told = self.text.partition("## What went wrong")
        found = re.search(r"^(FAIL|ERROR): .*|^\w*Error: .*|^.*conflicts with trunk.*", told, re.MULTILINE)
        return found[0] if found else ""

    @property
    def answer(self) -> str:
        """What a person answered; empty where nobody was asked."""
        _, _, told = self.text.partition("A person said:")
        return told.strip().partition("\n")[0]


def say(text: str) -> None:
    print(text, flush=True)


def edit(path: Path, old: str, new: str) -> None:
    """Replace what is there once; a second time it changes nothing."""
    text = path.read_text()
    if new not in text:
        path.write_text(text.replace(old, new, 1))


def done(subject: str) -> None:
    """The first line is the subject of the commit."""
    (OUTBOX / "done.md").write_text(f"{subject}\n")


# ── what it knows ──


def fix_total(prompt: Prompt) -> None:
    """In a hurry first; then by the digest of the red gate."""
    if not prompt.failure:
        say("The quantity is ignored. I start from the first line and add the others.")
        edit(
            SHOP / "cart.py",
            "return sum(price for _, price, _ in lines)",
            "amounts = [price * quantity for _, price, quantity in lines]\n"
            "    total = amounts[0]\n"
            "    for amount in amounts[1:]:\n"
            "        total += amount\n"
            "    return total",
        )
        return
    say(f"My last attempt was red: {prompt.failure}")
    say("There need not be a first line. A sum starts from nothing.")
    file = SHOP / "cart.py"
    head, _, _ = file.read_text().partition("    amounts = ")
    file.write_text(f"{head}    return sum(price * quantity for _, price, quantity in lines)\n")
    done("Count how often a thing is bought")


def fix_slug(prompt: Prompt) -> None:
    edit(SHOP / "text.py", 'title.lower().replace(" ", "-")', '"-".join(title.lower().split())')
    done("Make one dash of many spaces")


def receipt(prompt: Prompt) -> None:
    (SHOP / "receipt.py").write_text(
        '"""What the customer takes home."""\n\n\n'
        "def receipt(lines):\n"
        '    """One line for each thing bought."""\n'
        '    return "\\n".join(f"{quantity} x {name}" for name, _, quantity in lines)\n'
    )
    done("Print a receipt")


def receipt_total(prompt: Prompt) -> None:
    """Needs the receipt of another unit, which has landed when this one starts."""
    edit(SHOP / "receipt.py", "\n\n\ndef receipt", "\n\nfrom shop.cart import total\n\n\ndef receipt")
    edit(
        SHOP / "receipt.py",
        'return "\\n".join(f"{quantity} x {name}" for name, _, quantity in lines)',
        'rows = [f"{quantity} x {name}" for name, _, quantity in lines]\n'
        '    return "\\n".join([*rows, f"total {total(lines)}"])',
    )
    done("End the receipt with the total")


def headline(text: str) -> Callable[[Prompt], None]:
    """Both of a pair change the same line of the README, at the same time: one of them finds out at the rehearsal."""

    def change(prompt: Prompt) -> None:
        if prompt.failure:
            say(f"Somebody was faster: {prompt.failure}. Both sentences shall stand.")
        else:
            time.sleep(1)  # long enough that both are at work at once
        first, _, rest = Path("README.md").read_text().partition("\n")
        Path("README.md").write_text(f"{first} {text}\n{rest}")
        done(f"Say in the README: {text}")

    return change


def rounding(prompt: Prompt) -> None:
    """Only a person can know."""
    if not prompt.answer:
        say("The task does not say how halves are rounded. I ask.")
        (OUTBOX / "question.md").write_text(
            "---\noptions: [Half up, Half to even]\n---\nHow shall half a cent be rounded?\n"
        )
        return
    say(f"The answer is: {prompt.answer}")
    how = "ROUND_HALF_EVEN" if "even" in prompt.answer else "ROUND_HALF_UP"
    (SHOP / "money.py").write_text(
        f'"""Money."""\n\nfrom decimal import {how}, Decimal\n\n\n'
        "def rounded(amount):\n"
        '    """The amount (as text) in whole cents."""\n'
        f'    return Decimal(amount).quantize(Decimal("0.01"), {how})\n'
    )
    done("Round to whole cents")


def float_sum(prompt: Prompt) -> None:
    """It tries, and cannot: nobody can."""
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
    """Do the unit that the environment names, as the prompt says."""
    work = KNOWN.get(os.environ["FACTORY_UNIT"])
    if work is None:
        sys.exit(f"I know only {', '.join(KNOWN)}: give this to a real agent.")
    work(Prompt(Path(sys.argv[1]).read_text()))


if __name__ == "__main__":
    main()
