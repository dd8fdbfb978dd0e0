"""What each command is for and which options it takes: one function a command, named after it.

Each function declares its command on a parser; `--help` and docs/commands.md are made from that.
Invariant: no function imports anything, for the parser of a command is made each time it is used.
"""

from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping

Declare = Callable[[ArgumentParser], None]
JSON = "print JSON for programs, one object on a line"


def make(program: str, name: str) -> ArgumentParser:
    """Return the parser of one command."""
    parser = ArgumentParser(
        prog=f"{program} {name}",
        allow_abbrev=False,
        add_help=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _declaration(program, name)(parser)
    parser.usage = f"{parser.prog} {usage(parser)}".rstrip()
    others = parser.add_argument_group("other options")
    others.add_argument("-h", "--help", action="help", help="show this help")
    return parser


def usage(parser: ArgumentParser) -> str:
    """Return what the command takes, as the first line of its help and the manual write it."""
    parts = []
    for action in actions(parser):
        form = "|".join(action.option_strings) or str(action.metavar)
        if action.option_strings and action.nargs != 0:
            form += f" {action.metavar}"
        parts.append(form if action.required else f"[{form}]")
    return " ".join(parts)


def actions(parser: ArgumentParser) -> list[Action]:
    """Return its arguments and options without --help, in the order in which they were declared."""
    return [action for action in parser._actions if action.dest != "help"]


def _declaration(program: str, name: str) -> Declare:
    for group in PROGRAMS[program].values():
        for declare in group:
            if declare.__name__ == name:
                return declare
    raise LookupError(f"{program} {name}")


def _examples(parser: ArgumentParser, *lines: str) -> None:
    parser.epilog = "\n  ".join(("examples:", *lines))


# ── what happens ──


def status(parser: ArgumentParser) -> None:
    """What needs you, then what is moving."""
    parser.description = (
        "Shows one screen: what needs you, what runs, what is queued, what waits and why,\n"
        "and what landed last."
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help=JSON)
    output.add_argument(
        "--watch", action="store_true", help="show it again each second until Ctrl-C"
    )
    _examples(parser, "factory status", "factory status --watch", "factory status --json")


def show(parser: ArgumentParser) -> None:
    """All about one unit, or one card."""
    parser.description = (
        "Shows a unit (state, attempts, verdicts, what is kept of each attempt),\n"
        "or a card (question, evidence, options)."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id, or a card's, such as E7")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--prompt", action="store_true", help="print what the unit's last attempt was told"
    )
    output.add_argument("--json", action="store_true", help=JSON)
    _examples(
        parser,
        "factory show fix-login",
        "factory show fix-login --prompt",
        "factory show E7 --json",
    )


def log(parser: ArgumentParser) -> None:
    """What happened, what an agent says."""
    parser.description = (
        "Shows what happened, oldest first. With an ID: only what happened to that unit,\n"
        "and what its agent says."
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="a unit's id")
    output = parser.add_argument_group("output")
    output.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="go on with what happens next; with an ID, until that unit ends",
    )
    output.add_argument("--json", action="store_true", help="print one event a line for programs")
    _examples(parser, "factory log", "factory log fix-login -f", "factory log --json -f")


def diff(parser: ArgumentParser) -> None:
    """What a unit changes."""
    parser.description = (
        "Shows what a unit changes: its commit on trunk, what is queued,\n"
        "or what its newest attempt left. A pipe gets the exact bytes."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id")
    which = parser.add_argument_group("which change")
    which.add_argument(
        "--attempt", metavar="N", help="what that attempt left, also of a unit that has ended"
    )
    _examples(
        parser,
        "factory diff fix-login",
        "factory diff fix-login --attempt 2",
        "factory diff fix-login | git apply",
    )


def why(parser: ArgumentParser) -> None:
    """Why a unit waits, was retried, or landed."""
    parser.description = "Shows why a unit is in its state, what it waits for, and what led there."
    parser.add_argument("id", metavar="ID", help="a unit's id")
    _examples(parser, "factory why fix-login")


# ── what you say ──


def answer(parser: ArgumentParser) -> None:
    """Decide a card."""
    parser.description = (
        "Answers a card, with an option's number or your own words. It acts at once.\n"
        "A card takes one answer."
    )
    parser.add_argument("card", metavar="CARD", help="a card's id, such as E7")
    parser.add_argument(
        "option", metavar="OPTION|TEXT…", nargs="+", help="an option's number, or your own words"
    )
    rule = parser.add_argument_group("rules")
    rule.add_argument("--always", action="store_true", help="not yet: write the answer as a rule")
    _examples(
        parser,
        "factory answer E7 2",
        'factory answer E7 "use the session store that the admin pages have"',
    )


def tell(parser: ArgumentParser) -> None:
    """Say something to a unit's agent."""
    parser.description = (
        "Sends a message to a unit's agent. A working agent continues with it when it ends,\n"
        "before its work is judged. A queued unit leaves the queue for it, until its landing begins."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id")
    parser.add_argument("text", metavar="TEXT…", nargs="+", help="the message")
    _examples(parser, 'factory tell fix-login "keep the old cookie name"')


def retry(parser: ArgumentParser) -> None:
    """Give a unit another attempt."""
    parser.description = (
        "Gives a held or waiting unit another round of attempts, at once and with a fresh context.\n"
        "If its agent rests because of a usage limit, that ends the rest.\n"
        "For a cancelled unit, or a landed one whose commit is no longer on trunk,\n"
        "it makes a new unit with the same text."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id")
    _examples(parser, "factory retry fix-login")


def cancel(parser: ArgumentParser) -> None:
    """Drop a unit."""
    parser.description = "Ends a unit and its agent. The tree of each of its attempts is kept."
    parser.add_argument("id", metavar="ID", help="a unit's id")
    _examples(parser, "factory cancel fix-login")


def pause(parser: ArgumentParser) -> None:
    """Start nothing new."""
    parser.description = (
        "Starts nothing new. Running attempts continue to their end, and green units land."
    )
    _examples(parser, "factory pause")


def resume(parser: ArgumentParser) -> None:
    """Go on after a pause."""
    parser.description = "Continues after `factory pause`."
    _examples(parser, "factory resume")


# ── tasks ──


def add(parser: ArgumentParser) -> None:
    """Drop a task file into the inbox."""
    parser.description = "Drops a task file into the inbox and prints what became of it."
    parser.add_argument("file", metavar="FILE|-", help="the task file; - reads standard input")
    _examples(parser, "factory add fix-login.md", 'echo "Fix the login redirect" | factory add -')


def check(parser: ArgumentParser) -> None:
    """Would this task file be accepted?"""
    parser.description = (
        "Says whether a task file would be accepted, and as what. Exit code 1: it would not."
    )
    parser.add_argument("file", metavar="FILE", help="the task file")
    _examples(parser, "factory check inbox/fix-login.md")


# ── how it is set up ──


def gate(parser: ArgumentParser) -> None:
    """Run the gates as the line would."""
    parser.description = (
        "Runs the gates as factoryd does: on trunk, on a revision, or on your checkout.\n"
        "Exit code 0: every gate is green; 1: one is red."
    )
    tree = parser.add_argument_group("what to judge")
    tree.add_argument("--tree", metavar="REV", help="judge a revision, by trunk's gates")
    tree.add_argument(
        "--here",
        action="store_true",
        help="judge this checkout with its uncommitted work, by its own gates",
    )
    _examples(parser, "factory gate", "factory gate --tree my-branch", "factory gate --here")


def config(parser: ArgumentParser) -> None:
    """The values in force, and where from."""
    parser.description = (
        "Shows the settings in force and where they come from,\n"
        "and which gates, setup and agents were found and why."
    )
    instead = parser.add_argument_group("something else instead")
    instead.add_argument("--explain", metavar="KEY", help="explain one setting")
    instead.add_argument(
        "--prompt", metavar="NAME", help="print a shipped prompt, to start an override from"
    )
    instead.add_argument(
        "--guards",
        action="store_true",
        help="list the paths whose change waits for a person, and what allows each",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help=f"{JSON}; alone or with --guards")
    _examples(
        parser,
        "factory config",
        "factory config --explain limits.minutes",
        "factory config --guards",
        "factory config --prompt footer > conventions/prompts/footer.md",
    )


def doctor(parser: ArgumentParser) -> None:
    """What is wrong or stray, and mending it."""
    parser.description = (
        "Shows what is missing, wrong or left over, where records and git disagree,\n"
        "and how to repair it. Exit code 1: something has to be repaired."
    )
    repair = parser.add_argument_group("repair, while the daemon is stopped")
    repair.add_argument(
        "--fix",
        action="store_true",
        help="end left-over processes, remove left-over trees (kept in the archive) and locks",
    )
    repair.add_argument(
        "--rebuild",
        action="store_true",
        help="make a new store from git and the unit folders, if the old one is damaged or lost",
    )
    agent = parser.add_argument_group("agents")
    agent.add_argument(
        "--agent",
        metavar="NAME",
        help="check an agent: its program, version, login, and whether it lands a small unit",
    )
    agent.add_argument("--json", action="store_true", help=f"{JSON}; with --agent")
    _examples(
        parser,
        "factory doctor",
        "factory doctor --fix",
        "factory doctor --rebuild",
        "factory doctor --agent claude",
    )


# ── the daemon ──


def start(parser: ArgumentParser) -> None:
    """Start the factory of this repository."""
    parser.description = (
        "Starts the daemon of this repository, says what it found out, and returns when it is up.\n"
        "Ctrl-C before that stops it again."
    )
    how = parser.add_argument_group("how it runs")
    how.add_argument(
        "--foreground", action="store_true", help="stay attached, for systemd and containers"
    )
    how.add_argument("--workers", metavar="N", help="how many workers, in place of factory.toml's")
    _examples(
        parser,
        "factoryd start",
        "factoryd start --workers 5",
        "factoryd start --foreground",
    )


def stop(parser: ArgumentParser) -> None:
    """Stop it; the unfinished is handed back."""
    parser.description = (
        "Accepts no new work, gives running attempts up to 60 s and names them,\n"
        "then puts the rest back in the queue. Interrupted attempts do not count.\n"
        "A gate or setup that runs is ended, and runs again after the next start.\n"
        "Ctrl-C ends the wait. Without a daemon, it ends what a dead daemon left running."
    )
    how = parser.add_argument_group("how long it waits")
    how.add_argument("--drain", action="store_true", help="wait for running attempts to end")
    how.add_argument(
        "--now", action="store_true", help="wait for none of them; only up to 10 s for git"
    )
    _examples(parser, "factoryd stop", "factoryd stop --drain", "factoryd stop --now")


def restart(parser: ArgumentParser) -> None:
    """A new daemon; running agents stay."""
    parser.description = (
        "Replaces the daemon, for example after an upgrade.\n"
        "Running agents, gates and setups continue under the new daemon."
    )
    _examples(parser, "factoryd restart")


def init(parser: ArgumentParser) -> None:
    """Write a commented factory.toml."""
    parser.description = (
        "Writes a factory.toml in which every key is explained and commented out.\n"
        "It is never needed: the defaults are in force."
    )
    _examples(parser, "factoryd init")


def demo(parser: ArgumentParser) -> None:
    """See it at work, with a scripted agent."""
    parser.description = (
        "Shows factoryd at work on a small shop in a temporary folder, with a scripted agent\n"
        "and typed answers, in about 15 seconds. It needs no repository, key or network."
    )
    folder = parser.add_argument_group("the folder")
    folder.add_argument(
        "--keep", action="store_true", help="keep it, and print commands to look around with"
    )
    _examples(parser, "factoryd demo", "factoryd demo --keep")


# In the order of --help, by the heading there.
FACTORY: Mapping[str, tuple[Declare, ...]] = {
    "what happens": (status, show, log, diff, why),
    "what you say": (answer, tell, retry, cancel, pause, resume),
    "tasks": (add, check),
    "set-up": (gate, config, doctor),
}
FACTORYD: Mapping[str, tuple[Declare, ...]] = {
    "the daemon": (start, stop, restart),
    "to begin with": (init, demo),
}
PROGRAMS = {"factory": FACTORY, "factoryd": FACTORYD}
