"""The shop: a repository whose tests pass although it has bugs, and the tasks for it.

Invariant: the scripted agent (apprentice.py) knows every task by name, except those with `run`.
"""

from collections.abc import Iterator
from importlib.resources import files

AGENT = "tools/apprentice.py"  # a path in the shop, so that a kept shop is complete
GATE = "conventions/gates/10-tests.sh"

FILES = {
    "README.md": "# A shop\n\nIt sells tea.\n",
    "names.txt": "rooibos\nassam\nsencha\nassam\n",
    ".gitignore": "__pycache__/\n",
    "shop/__init__.py": "",
    "shop/cart.py": '''\
"""The cart: a list of names."""

PRICES = {"tea": 300, "cup": 800}


def total(cart):
    """Return what the cart costs, in cents."""
    return sum(PRICES[name] for name in set(cart))
''',
    "shop/text.py": '''\
"""Names for web addresses."""


def slug(title):
    """Return the title as part of an address."""
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

    def test_a_tea_and_a_cup_cost_their_prices(self):
        self.assertEqual(total(["tea", "cup"]), 1100)

    def test_a_title_becomes_an_address(self):
        self.assertEqual(slug("Green Tea"), "green-tea")
""",
    GATE: "python3 -m unittest discover -q -s tests -t .\n",
    "conventions/runtimes/apprentice.toml": f"""\
# The scripted agent of the demo. A real one is configured in the same way.
command = ["python3", "-I", "{AGENT}", "{{prompt_file}}"]
""",
    "factory.toml": """\
agent = "apprentice"
workers = 4

[limits]
attempts = 2
""",
}

TASKS = {
    "fix-total": """\
---
accept: python3 -c "from shop.cart import *; assert total(['tea'] * 2) == 600"
---
# Count each thing in the total

Two teas cost as much as one: `total` counts each name once.
""",
    "fix-slug": """\
---
accept: python3 -c "from shop.text import slug; assert slug('Green  Tea') == 'green-tea'"
scope: [shop/text.py]
---
# Make one dash of two spaces
""",
    "sort-names": """\
---
run: sort -u -o names.txt names.txt
---
# Sort the names
""",
    "readme-tea": """\
---
priority: 1
---
# Say in the README's first line that the tea is fresh
""",
    "readme-hours": """\
---
priority: 1
---
# Say in the README's first line that we are open all day
""",
    "receipt": """\
---
accept: python3 -c "from shop.receipt import receipt; assert '2 x tea' in receipt(['tea', 'tea'])"
---
# Print a receipt
""",
    "receipt-total": """\
---
needs: receipt
accept: python3 -c "from shop.receipt import receipt; assert '600' in receipt(['tea', 'tea'])"
---
# End the receipt with the total
""",
    "receipt-sample": """\
---
needs: [receipt-total, fix-total]
run: python3 -c "from shop.receipt import receipt; print(receipt(['tea', 'tea']))" > sample.txt
---
# Add a sample receipt
""",
    "rounding": """\
---
accept: python3 -c "from shop.money import rounded; assert str(rounded('1.234')) == '1.23'"
---
# Round prices to whole cents
""",
    "float-sum": """\
---
accept: python3 -c "assert 0.1 + 0.2 == 0.3"
priority: 3
---
# Make 0.1 + 0.2 be 0.3
""",
}
SHOWN = "fix-total"  # the task that is printed in full
ASKS = "rounding"
FAILS = "float-sum"
LANDS = frozenset(TASKS) - {FAILS}

# These agents work until the demo releases them, so that each demo shows the same events.
FIRST, SECOND = "readme-tea", "readme-hours"  # both change the same line; the second conflicts
SLOW = frozenset({"receipt", FAILS})  # the demo releases these after it has shown the screen
# The states of the open tasks on the screen. The others have landed.
TELLING = {
    ASKS: "held",
    "receipt": "running",
    FAILS: "running",
    "receipt-total": "waiting",
    "receipt-sample": "waiting",
}


def shop_files() -> Iterator[tuple[str, str]]:
    """Yield path and text of each file in the shop's first commit."""
    yield from FILES.items()
    yield AGENT, files(__package__).joinpath("apprentice.py").read_text(encoding="utf-8")


def title(name: str) -> str:
    """Return the heading of a task file."""
    return TASKS[name].partition("\n# ")[2].partition("\n")[0]
