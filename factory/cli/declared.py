"""The purpose and the options of each command: one function for each command, with the same name.

Each function declares its command on a parser; `--help` and docs/commands.md come from these
declarations. Invariant: no function imports anything, because these functions run at each use of a
command.
"""

from argparse import ArgumentParser, ArgumentTypeError

JSON = "print JSON for programs, one object on a line"
_LIKELY = {"factory": "log", "factoryd": "stop"}  # commands in examples of `help`


def _count(text: str) -> int:
    """Return the number that a person typed; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ArgumentTypeError(f"{text!r} is not a number such as 20")
    return int(text)


def _examples(parser: ArgumentParser, *lines: str) -> None:
    parser.epilog = "\n  ".join(("examples:", *lines))


# ── what happens ──


def status(parser: ArgumentParser) -> None:
    """Show what needs you, then what is moving."""
    parser.description = (
        "Shows open cards, running, queued and waiting units, and the last landings."
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help=JSON)
    output.add_argument(
        "--watch", action="store_true", help="show it again each second until Ctrl-C"
    )
    _examples(parser, "factory status", "factory status --watch", "factory status --json")


def list(parser: ArgumentParser) -> None:
    """List the units of all states, newest first."""
    parser.description = "Lists the units of all states, newest first; without -n, the newest 50."
    which = parser.add_argument_group("which units")
    which.add_argument(
        "--state", metavar="STATE", help="list the units in this state, such as waiting or landed"
    )
    which.add_argument(
        "-n", dest="newest", metavar="N", type=_count, help="list the newest N units"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help=JSON)
    _examples(parser, "factory list", "factory list --state held", "factory list -n 200 --json")


def show(parser: ArgumentParser) -> None:
    """Show everything about one unit or card."""
    parser.description = (
        "Shows a unit with its attempts, verdicts and kept files,\n"
        "or a card with its evidence and options."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id, or a card's, such as E7")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--prompt", action="store_true", help="print the prompt of the unit's last attempt"
    )
    output.add_argument("--json", action="store_true", help=JSON)
    _examples(
        parser,
        "factory show fix-login",
        "factory show fix-login --prompt",
        "factory show E7 --json",
    )


def log(parser: ArgumentParser) -> None:
    """Show what happened, and what an agent says."""
    parser.description = (
        "Shows the events of all units, oldest first. With an ID: the events of that unit,\n"
        "and the output of its agent."
    )
    parser.add_argument("id", metavar="ID", nargs="?", default="", help="a unit's id")
    which = parser.add_argument_group("which events")
    which.add_argument(
        "--since",
        metavar="2h|DATE",
        help="show events of the last minutes (30m), hours (2h) or days (3d), or since a date",
    )
    which.add_argument(
        "-n",
        dest="newest",
        metavar="N",
        type=_count,
        help="show the newest N events, and as many lines of the agent's output",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="follow new events; with an ID, until that unit ends",
    )
    output.add_argument("--json", action="store_true", help="print one event a line for programs")
    _examples(
        parser,
        "factory log",
        "factory log --since 2h",
        'factory log --since "2026-11-28 14:30"',
        "factory log fix-login -n 20 -f",
        "factory log --json -f",
    )


def diff(parser: ArgumentParser) -> None:
    """Show what a unit changes."""
    parser.description = (
        "Shows the change of a unit: its landed commit, its queued change, or the change of\n"
        "its newest attempt. A pipe gets the exact bytes."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id")
    which = parser.add_argument_group("which change")
    which.add_argument("--attempt", metavar="N", help="show the change of that attempt")
    _examples(
        parser,
        "factory diff fix-login",
        "factory diff fix-login --attempt 2",
        "factory diff fix-login | git apply",
    )


def why(parser: ArgumentParser) -> None:
    """Show why a unit waits, was retried, or landed."""
    parser.description = "Shows why a unit is in its state and how it got there."
    parser.add_argument("id", metavar="ID", help="a unit's id")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help=JSON)
    _examples(parser, "factory why fix-login", "factory why fix-login --json")


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
    rule.add_argument(
        "--always", action="store_true", help="write the answer as a rule (not available yet)"
    )
    _examples(
        parser,
        "factory answer E7 2",
        'factory answer E7 "use the session store that the admin pages have"',
    )


def tell(parser: ArgumentParser) -> None:
    """Say something to a unit's agent."""
    parser.description = (
        "Sends a message to a unit's agent. If the agent is working, it gets the message when it\n"
        "ends, before the gates run. A queued unit leaves the queue, and its agent gets the\n"
        "message. When the landing has begun, it is too late."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id")
    parser.add_argument("text", metavar="TEXT…", nargs="+", help="the message")
    _examples(parser, 'factory tell fix-login "keep the old cookie name"')


def retry(parser: ArgumentParser) -> None:
    """Give units another attempt."""
    parser.description = (
        "Gives held or waiting units another round of attempts, at once, with a fresh context.\n"
        "If a unit's agent is paused because of a usage limit, factoryd tries the agent again.\n"
        "If a unit was cancelled, or has landed and its commit is no longer on trunk,\n"
        "it makes a new unit with the same text. If one ID is refused, nothing is done."
    )
    parser.add_argument("ids", metavar="ID…", nargs="+", help="ids of units")
    _examples(parser, "factory retry fix-login", "factory retry fix-login add-search")


def cancel(parser: ArgumentParser) -> None:
    """Drop units."""
    parser.description = (
        "Ends units and their agents. factoryd keeps the work of their attempts.\n"
        "If one ID is refused, nothing is done."
    )
    parser.add_argument("ids", metavar="ID…", nargs="+", help="ids of units")
    _examples(parser, "factory cancel fix-login", "factory cancel fix-login add-search typo")


def priority(parser: ArgumentParser) -> None:
    """Change when a unit gets its turn."""
    parser.description = (
        "Changes the priority of a unit, from 0 (now) to 4 (whenever). It is possible until the\n"
        "unit's first attempt begins. The task file does not change."
    )
    parser.add_argument("id", metavar="ID", help="a unit's id")
    parser.add_argument(
        "priority", metavar="N", type=_count, help="0 (now) to 4 (whenever); a task file has 2"
    )
    _examples(parser, "factory priority fix-login 0")


def pause(parser: ArgumentParser) -> None:
    """Start nothing new."""
    parser.description = (
        "Stops starting new attempts. Running attempts continue, and green units land."
    )
    _examples(parser, "factory pause")


def resume(parser: ArgumentParser) -> None:
    """Start new attempts again."""
    parser.description = "Starts new attempts again."
    _examples(parser, "factory resume")


# ── tasks ──


def add(parser: ArgumentParser) -> None:
    """Drop a task file into the inbox."""
    parser.description = "Puts a task file into the inbox and prints the result."
    parser.add_argument("file", metavar="FILE|-", help="the task file; - reads standard input")
    _examples(parser, "factory add fix-login.md", 'echo "Fix the login redirect" | factory add -')


def submit(parser: ArgumentParser) -> None:
    """Put your own commits into the queue."""
    parser.description = (
        "Makes a unit of commits that you, or a session of an agent, made by hand. factoryd\n"
        "merges them onto the newest trunk as one commit, judges that tree, and lands it if it is\n"
        "green. If you submit a branch again before it has landed, the new commits replace the\n"
        "earlier ones. The branch itself does not change."
    )
    parser.add_argument(
        "revision", metavar="BRANCH|COMMIT", help="a branch, or a commit such as HEAD"
    )
    about = parser.add_argument_group("about the commit on trunk")
    about.add_argument(
        "--title",
        metavar="TEXT",
        default="",
        help="its first line; without it, the first line of your first commit",
    )
    _examples(
        parser,
        "factory submit my-branch",
        'factory submit HEAD --title "Keep the redirect target after login"',
    )


def check(parser: ArgumentParser) -> None:
    """Say whether a task file would be accepted."""
    parser.description = (
        "Says whether factoryd would accept a task file, and what unit it would be. "
        "Exit code 1: it would not."
    )
    parser.add_argument("file", metavar="FILE", help="the task file")
    _examples(parser, "factory check inbox/fix-login.md")


# ── how it is set up ──


def gate(parser: ArgumentParser) -> None:
    """Run the gates as factoryd would."""
    parser.description = (
        "Runs the gates as factoryd does: on trunk, on a revision, or on your checkout.\n"
        "Exit code 0: every gate is green; 1: one is red."
    )
    tree = parser.add_argument_group("what to judge")
    tree.add_argument(
        "--tree", metavar="REV", help="judge a revision or an attempt's commit, by trunk's gates"
    )
    tree.add_argument(
        "--here",
        action="store_true",
        help="judge your checkout with its uncommitted changes, by its own gate files",
    )
    _examples(parser, "factory gate", "factory gate --tree my-branch", "factory gate --here")


def config(parser: ArgumentParser) -> None:
    """Show the values in force, and where each was set."""
    parser.description = (
        "Shows the settings in force and where each was set.\n"
        "Shows the gates, setup and agents that factoryd found, and why."
    )
    instead = parser.add_argument_group("something else instead")
    instead.add_argument("--explain", metavar="KEY", help="explain one setting")
    instead.add_argument(
        "--prompt", metavar="NAME", help="print a shipped prompt, as a start for your own version"
    )
    instead.add_argument(
        "--guards",
        action="store_true",
        help="list the paths that need your answer before a change lands",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json", action="store_true", help=f"{JSON}; can be combined with --guards"
    )
    _examples(
        parser,
        "factory config",
        "factory config --explain limits.minutes",
        "factory config --guards",
        "factory config --prompt footer > conventions/prompts/footer.md",
    )


def doctor(parser: ArgumentParser) -> None:
    """Find what is wrong or left over, and repair it."""
    parser.description = (
        "Shows missing programs, errors, leftovers, and differences between records and git,\n"
        "each with a way to repair it. Exit code 1: something has to be repaired."
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
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help=f"{JSON}; not with --rebuild")
    _examples(
        parser,
        "factory doctor",
        "factory doctor --fix",
        "factory doctor --rebuild",
        "factory doctor --agent claude",
        "factory doctor --json",
    )


# ── the daemon ──


def start(parser: ArgumentParser) -> None:
    """Start the factory of this repository."""
    parser.description = (
        "Starts the daemon of this repository. In a terminal, the command shows how trunk is\n"
        "judged until there is a result; Ctrl-C ends only this view. Elsewhere it returns when\n"
        "the daemon is up. If the daemon already runs, the command says so. Ctrl-C before the\n"
        "daemon is up cancels the start."
    )
    how = parser.add_argument_group("how it runs")
    how.add_argument(
        "--foreground",
        action="store_true",
        help="run it in this terminal and print each event, for systemd and containers",
    )
    how.add_argument(
        "--wait",
        action="store_true",
        help="return when trunk is judged: exit code 0 if it is green, else 1",
    )
    how.add_argument("--workers", metavar="N", help="the number of workers; overrides factory.toml")
    _examples(
        parser,
        "factoryd start",
        "factoryd start --workers 5",
        "factoryd start --foreground",
        "factoryd start --wait",
    )


def stop(parser: ArgumentParser) -> None:
    """Stop the daemon, and put unfinished units back in the queue."""
    parser.description = (
        "Accepts no new work, gives running attempts 60 s, and puts the rest back in the queue.\n"
        "Interrupted attempts do not count. It also ends running gates and setups; they run again\n"
        "after the next start. While it waits, it names what it waits for. Ctrl-C ends the wait.\n"
        "If no daemon runs, it ends the agents, gates and setups that a dead daemon left running."
    )
    how = parser.add_argument_group("how long it waits")
    how.add_argument("--drain", action="store_true", help="wait until all attempts have ended")
    how.add_argument(
        "--now",
        action="store_true",
        help="do not wait for agents and gates; wait for git, up to 10 s",
    )
    _examples(parser, "factoryd stop", "factoryd stop --drain", "factoryd stop --now")


def restart(parser: ArgumentParser) -> None:
    """Replace the daemon by a new one; running agents continue."""
    parser.description = (
        "Replaces the daemon by a new one, for example after an upgrade.\n"
        "Running agents, gates and setups continue."
    )
    _examples(parser, "factoryd restart")


def init(parser: ArgumentParser) -> None:
    """Write a commented factory.toml."""
    parser.description = (
        "Writes a commented factory.toml. You never need it: the defaults are in force."
    )
    _examples(parser, "factoryd init")


def demo(parser: ArgumentParser) -> None:
    """See factoryd at work, with a scripted agent."""
    parser.description = (
        "Runs factoryd on a small example repository in a temporary folder, with a scripted\n"
        "agent, and types the answers for you. It takes about 15 seconds and needs no\n"
        "repository, key or network. It removes the folder at the end and after Ctrl-C."
    )
    folder = parser.add_argument_group("the folder")
    folder.add_argument(
        "--keep", action="store_true", help="keep the folder, and print commands to try there"
    )
    _examples(parser, "factoryd demo", "factoryd demo --keep")


# ── about ──


def help(parser: ArgumentParser) -> None:
    """Show the commands, or the help of one command."""
    parser.description = "Shows the commands of this program, or the help of one command."
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="a command of this program")
    program = parser.get_default("program")
    _examples(parser, f"{program} help", f"{program} help {_LIKELY[program]}")


def version(parser: ArgumentParser) -> None:
    """Show the installed version."""
    parser.description = "Shows the version of the installed program."
    _examples(parser, parser.prog)
