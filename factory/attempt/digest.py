"""The digest: what the next attempt reads about why the last one failed.

Invariant: at most 16 KiB; the first failure and the command to reproduce it are never cut.
"""

import re
from collections.abc import Sequence

from factory.ground.sentences import shown
from factory.store.records import Verdict
from factory.store.unit import EndReason

LIMIT = 16 * 1024
SHORT = 2048  # bytes of each output that are never cut
AROUND = 12  # lines shown from the first failure on

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FAILURES = (
    re.compile(r"^(E  |FAIL(ED)?\b|ERROR\b|--- FAIL|not ok\b|panic:|error(\[\w+\])?:)"),
    re.compile(r"^\S+:\d+(:\d+)?:? "),  # file:line: message
    re.compile(r"\b(\w*Error|Exception|failed|FAILED)\b"),
)


def digest(
    reason: EndReason,
    *,
    detail: str = "",
    red: Sequence[Verdict] = (),
    said: str = "",
    notes: Sequence[str] = (),
    intents: Sequence[str] = (),
) -> str:
    """Return what went wrong, how each gate failed and how to rerun it, then the ends of outputs.

    `detail` is one sentence, `said` is the agent's last words, and `notes` are further sentences
    (about nested repositories, …). `intents`: lines about the tasks of units that do not fit
    together.
    """
    head = [f"The attempt ended: {reason}."]
    if detail:
        head.append(detail)
    head += notes
    head += intents
    ends = []
    for verdict in red:
        head += ["", _how_red(verdict)]
        # a short output is shown in full below, so it needs no excerpt here
        if len(verdict.tail.encode()) * len(red) >= SHORT:
            head += first_failure(verdict.tail)
        ends.append((f"The end of {verdict.gate}'s output:", verdict.tail))
    if said.strip():
        ends.append(("The attempt's last words:", said))
    text = "\n".join(head).encode()[: LIMIT // 2].decode(errors="ignore")
    room = (LIMIT - len(text.encode())) // max(len(ends), 1)
    for title, output in ends:
        text += _end(title, output, room)
    return text


def _how_red(verdict: Verdict) -> str:
    if verdict.rewrote:
        files = shown(sorted(verdict.rewrote))
        changed = (
            f"Gate {verdict.gate} succeeds only by changing {files}, which you left otherwise."
        )
        return f"{changed} Run it, and keep what it changes: {verdict.command}"
    return f"Gate {verdict.gate} is red. To see it: {verdict.command}"


def first_failure(output: str) -> list[str]:
    """Return the lines from the first reported failure on; prefer clear signs to vague ones."""
    lines = clean(output).splitlines()
    for sign in _FAILURES:
        for at, line in enumerate(lines):
            if sign.search(line):
                return [line[:400] for line in lines[at : at + AROUND]]
    return []


def clean(output: str) -> str:
    """Return the output without colours and without progress lines that were overwritten."""
    lines = _COLOUR.sub("", output).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rsplit("\r", 1)[-1] for line in lines)


def _end(title: str, output: str, room: int) -> str:
    """Return a titled section whose output is cut at the top, at a line."""
    head = f"\n\n{title}\n"
    text = clean(output).strip("\n")
    space = room - len(head)
    if len(text.encode()) > space:
        kept = text.encode()[-space + 4 :].decode(errors="ignore")
        text = "…\n" + kept.partition("\n")[2]
    return head + text
