"""Finds the line of a TOML file that sets a key; tomllib does not keep it.

Invariant: it never fails. For a line that it cannot find, the answer is empty.
"""

import re


def line_of(text: str, key: str) -> str:
    """Return the line that sets `key`, or the line of its table; empty if no such line is found."""
    table = ""
    near = ""
    for number, line in enumerate(re.sub("[\"']", "", text).splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            table = header[1].strip()
            found = table
        else:
            name = line.partition("=")[0].strip()
            found = f"{table}.{name}".removeprefix(".")
        if found == key:
            return f" line {number}"
        if key.startswith(f"{found}."):
            near = f" line {number}"
    return near
