"""Runs setups: builds the environment of a place, or finishes a setup of an earlier daemon.

Invariant: the stamp of an environment is removed before a setup begins and written after the setup
has succeeded. So the environment of a setup that was killed is never used.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from signal import Signals

import anyio
from anyio import to_thread

from factory.child.killed import killed_by
from factory.ground import disk, faults
from factory.inference.rules import Setup, digest
from factory.judging import scratch
from factory.judging.commands import Commands, Order
from factory.judging.layers import Print, copy_that_serves
from factory.judging.origins import checked_modules, folders_told, outside_node, outside_python
from factory.judging.outset import Outset, outset_of
from factory.judging.place import Place, Stamp
from factory.judging.standing import (
    Asked,
    Ready,
    TooMuch,
    clear,
    made_in,
    print_place,
    restored,
    seal,
)
from factory.judging.trials import Ran
from factory.judging.venvs import has_python, site_folders
from factory.repo.underway import BrokenOff, Record, says_something

COMMAND_SHOWN = 80  # most characters of a setup command in a sentence
SETUP_SECONDS = 1800.0
# What pip, uv, npm, cargo, go, git and curl print if they cannot reach a server.
_NO_NETWORK = re.compile(
    "could not resolve host|name resolution|no such host|dns error|network is unreachable"
    "|no route to host|failed to establish a new connection|connection (refused|reset|timed out)"
    "|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT",
    re.IGNORECASE,
)
# The machine's Python runs this program, without loading installed packages (-S).
_WHERE_INSTALLED = (
    "import json, site, sys; print(); print(json.dumps([sys.executable, *site.getsitepackages()]))"
)


class Suspect(StrEnum):
    """What made an environment fail."""

    UNIT = "unit"  # the change in the tree
    UNKNOWN = "unknown"  # the change, the network or the machine
    NETWORK = "network"  # the network, as the output says
    MACHINE = "machine"  # something outside of the tree


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFailed:
    """Why there is no environment; `unconfined`: the sandbox does not start for any tree."""

    sentence: str
    tail: str = ""
    log: str = ""
    unconfined: bool = False
    suspect: Suspect = Suspect.UNKNOWN


class Building:
    """Runs a setup to build the environment of one place."""

    def __init__(self, commands: Commands, place: Place, setup: Setup) -> None:
        self._commands = commands
        self._underway = commands.underway
        self._place = place
        self._setup = setup

    @property
    def about(self) -> str:
        """Digest of everything the setup depends on, except what can only be seen in the tree."""
        place = self._place
        parts = self._commands.machine.around(self._setup)
        parts.append(self._commands.sandbox.name)
        parts += [str(place.folder), place.shows, place.candidate]  # a venv cannot be moved
        return digest("setup", *parts)

    async def build(self, asked: Asked) -> Ready | SetupFailed:
        """Build on the copy of the dependencies if it can be used; otherwise build everything."""
        copied = await to_thread.run_sync(copy_that_serves, self._place, asked.dependencies)
        if copied is None or not (self._setup.rebuild or self._setup.script):
            return await self.build_afresh(asked)
        made = await self._build_on(asked, copied)
        # A script may fail if it runs twice.
        failed_again = isinstance(made, SetupFailed) and self._setup.script
        if made is None or failed_again:
            return await self.build_afresh(asked)
        return made

    @faults.during("environment.build")
    async def build_afresh(self, asked: Asked) -> Ready | SetupFailed:
        """Build everything, even if there is a copy of the dependencies."""
        await to_thread.run_sync(_strip, self._place, self._setup)
        stamp = Stamp(asked=asked.dependencies, candidate=self._place.candidate, key="")
        return await self._begin(asked, stamp, before=None)

    @faults.during("environment.build")
    async def _build_on(self, asked: Asked, copied: Stamp) -> Ready | SetupFailed | None:
        """Build on the copied dependencies; return None if the copy cannot be read."""
        before = await to_thread.run_sync(_restore, self._place, self._setup, copied)
        if before is None:
            return None
        return await self._begin(asked, copied, before=before)

    async def _begin(
        self, asked: Asked, stamp: Stamp, *, before: Print | None
    ) -> Ready | SetupFailed:
        """Run the setup; `before`: the print of the dependencies on which it builds."""
        place = self._place
        ignored = tuple(await place.ignored())
        outset = Outset(asked=asked, stamp=stamp, ignored=ignored, again=before is not None)
        steps = self._setup.shown(again=outset.again)
        name = f"{self._setup.digest} {'again' if outset.again else 'whole'}"
        record = self._underway.begin(
            place.folder,
            "setup",
            tree=place.shows,
            about=self.about,
            found=outset.told(),
            shown={
                "unit": place.unit,
                "steps": steps,
                "usual": self._underway.durations.of(name),
            },
        )
        began = anyio.current_time()
        made = await self._see_through(record, outset, before=before)
        if steps and isinstance(made, Ready):
            took = anyio.current_time() - began
            self._underway.durations.note(name, took, now=datetime.now(UTC))
        return made

    # ── after an earlier daemon ──

    @faults.during("environment.build")
    async def go_on(self, *others: Place) -> SetupFailed | None:
        """Finish the setup that an earlier daemon began here, and return its failure.

        Returns None if the setup succeeded, or if it belongs to one of `others`, which are the same
        place for other trees. If the setup belongs to none of these, it is ended.
        """
        folder = self._place.folder
        builders = {self.about: self}
        for place in others:
            other = Building(self._commands, place, self._setup)
            builders[other.about] = other
        record = await self._underway.claim(folder, *builders)
        if record is None:
            return None
        with self._underway.until_over(folder):
            failed = await builders[record.about]._go_on(record)
        return failed if record.about == self.about else None

    async def _go_on(self, record: Record) -> SetupFailed | None:
        folder = self._place.folder
        if self._place.stamp.exists():  # the setup is finished, and only its record was left
            return None
        try:
            outset = outset_of(record.found)
        except (KeyError, TypeError):  # a daemon of another release wrote the record
            await self._underway.vacate(folder)
            return None
        # The earlier print of the dependencies is lost, so the next build copies all of them.
        outset = replace(outset, stamp=replace(outset.stamp, copy=""))
        try:
            made = await self._see_through(record, outset, before=None)
        except BrokenOff as broken:
            self._underway.let_go(folder, broken)
            return None
        # A setup that failed on existing dependencies may succeed with new ones.
        if outset.again or isinstance(made, Ready):
            return None
        return made

    async def _see_through(
        self, record: Record, outset: Outset, *, before: Print | None
    ) -> Ready | SetupFailed:
        """Run the rest of the setup, and stamp the environment that it made."""
        place, setup = self._place, self._setup
        with self._underway.until_over(place.folder):
            failed = await self._run(record, again=outset.again)
            failed = failed or await self._outside()
            if outset.again and before is None:
                before = await to_thread.run_sync(print_place, place)
            ignored = await place.ignored()
            made = made_in(place, setup, before=outset.ignored, after=ignored)
            if failed:
                for path in place.inside(made):
                    await to_thread.run_sync(disk.remove, path)
                return failed
            stamp = replace(outset.stamp, made=made)
            return await to_thread.run_sync(_sealed, place, setup, outset.asked, stamp, before)

    async def _run(self, record: Record, *, again: bool) -> SetupFailed | None:
        """Run the setup's commands, except those that an earlier daemon ran."""
        place = self._place
        python = self._commands.machine.python
        for number, order in enumerate(_orders(self._setup, place, python, again=again)):
            step = self._underway.step(place.folder, record, number)
            ran = await self._commands.resume(place, step)
            if ran and not says_something(ran.exit):
                raise BrokenOff(step.folder.name, left=ran.exit.left)
            if ran is None:
                ran = await self._commands.run(order, place, step)
            if not ran.ok:
                return _failure(" ".join(order.argv), ran, place)
        with suppress(OSError):
            place.venv.rmdir()  # no command made a venv, so the folder is empty
        return None

    # ── where modules come from ──

    async def _outside(self) -> SetupFailed | None:
        """Return a failure if gates would load modules from outside the tree; otherwise None."""
        tree, venv = self._place.tree, self._place.venv
        wrong = await to_thread.run_sync(outside_node, tree)
        if wrong:
            return SetupFailed(sentence=wrong)
        folders: list[Path] | SetupFailed
        if has_python(venv):
            folders = await to_thread.run_sync(site_folders, venv)
            look = partial(outside_python, tree, venv)
        elif await to_thread.run_sync(checked_modules, tree):
            folders = await self._machine_folders()
            look = partial(outside_python, tree, None)
        else:
            return None
        if isinstance(folders, SetupFailed):
            return folders
        python_path = self._commands.machine.passed().get("PYTHONPATH", "")
        before = [tree / folder for folder in python_path.split(os.pathsep) if folder]
        wrong = await to_thread.run_sync(partial(look, folders, before=before))
        return SetupFailed(sentence=wrong) if wrong else None

    async def _machine_folders(self) -> list[Path] | SetupFailed:
        """Return the package folders of the Python on PATH; [] if there is no Python."""
        place = self._place
        python = self._commands.machine.which("python3")
        if not python:
            return []
        argv = (python, "-I", "-S", "-c", _WHERE_INSTALLED)
        order = Order(argv=argv, seconds=SETUP_SECONDS)
        run = self._underway.fresh(place.folder, "origins")
        ran = await self._commands.run(order, place, run)
        if not ran.ok:
            return _failure("list the package folders of python3", ran, place)
        told = await to_thread.run_sync(folders_told, ran.tail)
        if told:
            return told
        sentence = (
            f"{python} did not report where its packages are, so it is not known what gates test."
        )
        return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where)


def setup_seconds(setup: Setup) -> float:
    """Return how long a setup may take at most."""
    return SETUP_SECONDS * (len(setup.commands) + bool(setup.script))


def _strip(place: Place, setup: Setup) -> None:
    """Remove the environment, and everything that setup built in the tree."""
    clear(place, setup)
    place.stamp.unlink(missing_ok=True)
    for path in place.installed:
        disk.remove(path)
    scratch.empty(place)
    place.venv.mkdir()  # this is the only folder outside the tree that setup may write to


def _restore(place: Place, setup: Setup, copied: Stamp) -> Print | None:
    """Restore the dependencies from their copy; return None if the copy cannot be read."""
    clear(place, setup)
    before = restored(place, copied)
    if before is not None:
        scratch.empty(place)
    return before


def _orders(setup: Setup, place: Place, python: str, *, again: bool) -> Iterator[Order]:
    """Yield the commands of a setup, then its script. With `again`, only the build in the tree."""
    for command in setup.rebuild if again else setup.commands:
        argv = list[str]()
        for part in command:
            argv.append(part.replace("{venv}", str(place.venv)).replace("{python}", python))
        yield Order(argv=tuple(argv), seconds=SETUP_SECONDS)
    if setup.script:
        args = ("build",) if again else ()
        argv_of_script = ("sh", setup.reason, *args)
        yield Order(argv=argv_of_script, script=setup.script, seconds=SETUP_SECONDS)


def _sealed(
    place: Place, setup: Setup, asked: Asked, stamp: Stamp, before: Print | None
) -> Ready | SetupFailed:
    try:
        return seal(place, setup, asked, stamp, before=before)
    except TooMuch as error:
        return SetupFailed(sentence=str(error))
    except OSError as error:
        if disk.full(error):
            raise
        return SetupFailed(sentence=f"factoryd could not copy the files that setup made: {error}.")


# ── in words ──


def unconfined(ran: Ran) -> SetupFailed:
    """Return the failure for a sandbox that did not start the command; it concerns every tree."""
    sentence = f"the sandbox did not start a command: {ran.exit.detail}"
    return SetupFailed(sentence=sentence, log=ran.where, unconfined=True, suspect=Suspect.MACHINE)


def killed(ran: Ran) -> str:
    """Return how a command ended that somebody else killed."""
    name = Signals(killed_by(ran.exit)).name
    return f"was ended by {name}, which factoryd did not send (is there enough memory?)"


def _failure(command: str, ran: Ran, place: Place) -> SetupFailed:
    if ran.exit.cause == "unconfined":
        return unconfined(ran)
    detail = f" ({ran.exit.detail})" if ran.exit.detail else ""
    # Leave out the path of the place, so that the same failure at several places makes only one
    # card.
    here = f"{place.folder}/"
    command = command.replace(here, "")
    detail = detail.replace(here, "")
    if len(command) > COMMAND_SHOWN:
        command = f"{command[:COMMAND_SHOWN]}…"
    sentence = f"Setup failed: `{command}` {_ending(ran)}{detail}."
    return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where, suspect=_suspect(ran))


def _suspect(ran: Ran) -> Suspect:
    if killed_by(ran.exit):
        return Suspect.MACHINE
    return Suspect.NETWORK if _NO_NETWORK.search(ran.tail) else Suspect.UNKNOWN


def _ending(ran: Ran) -> str:
    match ran.exit.cause:
        case "timeout":
            return f"took longer than {SETUP_SECONDS / 60:.0f} minutes"
        case "unstartable":
            return "could not be started"
        case "overran":
            return "used too much and was ended"
    if killed_by(ran.exit):
        return killed(ran)
    if ran.exit.signal:
        return f"was ended by signal {ran.exit.signal}"
    return f"ended with exit code {ran.exit.code}"
