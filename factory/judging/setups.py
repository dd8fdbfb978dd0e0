"""Setups: they build the environment of a place, or go on with one that an earlier daemon began.

Invariant: the stamp of an environment is removed before a setup begins and written after it has
succeeded, so a setup that was killed has none and begins from nothing.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from anyio import to_thread

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

COMMAND_SHOWN = 80  # characters of a setup command in a sentence
SETUP_SECONDS = 1800.0
# Asked of the machine's own Python, which loads nothing that is installed (-S).
_WHERE_INSTALLED = (
    "import json, site, sys; print(); print(json.dumps([sys.executable, *site.getsitepackages()]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFailed:
    """Why there is no environment; `unconfined`: the sandbox does not start, for any tree."""

    sentence: str
    tail: str = ""
    log: str = ""
    unconfined: bool = False


class Setups:
    """Runs setups."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._underway = commands.underway

    def about(self, place: Place, setup: Setup) -> str:
        """Digest of all that a setup there depends on, as far as no look at the tree tells it."""
        machine, sandbox = self._commands.machine, self._commands.sandbox
        here = (str(place.folder), place.shows, place.candidate)  # a venv works where it was made
        return digest("setup", *machine.around(setup), sandbox.name, *here)

    async def build(self, place: Place, setup: Setup, asked: Asked) -> Ready | SetupFailed:
        """Build what the tree builds on dependencies that are there, or all of it."""
        copied = await to_thread.run_sync(copy_that_serves, place, asked.dependencies)
        if copied is None or not (setup.rebuild or setup.script):
            return await self._build_all(place, setup, asked)
        made = await self._build_on(place, setup, asked, copied)
        # A script may fail when it runs twice.
        failed_again = isinstance(made, SetupFailed) and setup.script
        if made is None or failed_again:
            return await self._build_all(place, setup, asked)
        return made

    @faults.during("environment.build")
    async def _build_all(self, place: Place, setup: Setup, asked: Asked) -> Ready | SetupFailed:
        await to_thread.run_sync(_strip, place, setup)
        stamp = Stamp(asked=asked.dependencies, candidate=place.candidate, key="")
        return await self._begin(place, setup, asked, stamp)

    @faults.during("environment.build")
    async def _build_on(
        self, place: Place, setup: Setup, asked: Asked, copied: Stamp
    ) -> Ready | SetupFailed | None:
        """Build on the dependencies that were copied; None where the copy cannot be read."""
        before = await to_thread.run_sync(_restore, place, setup, copied)
        if before is None:
            return None
        return await self._begin(place, setup, asked, copied, before=before)

    async def _begin(
        self, place: Place, setup: Setup, asked: Asked, stamp: Stamp, *, before: Print | None = None
    ) -> Ready | SetupFailed:
        """Run setup; `before`: how the dependencies stood that it runs on."""
        ignored = tuple(await place.ignored())
        outset = Outset(asked=asked, stamp=stamp, ignored=ignored, again=before is not None)
        record = self._underway.begin(
            place.folder,
            "setup",
            tree=place.shows,
            about=self.about(place, setup),
            found=outset.told(),
        )
        return await self._see_through(place, setup, record, outset, before=before)

    # ── after an earlier daemon ──

    @faults.during("environment.build")
    async def go_on(self, place: Place, setup: Setup, *others: Place) -> SetupFailed | None:
        """Bring the setup that an earlier daemon began at a place to its end; how it failed.

        None if it succeeded, or was about one of `others`: the same place for other trees. A setup
        that is about none of them is ended.
        """
        makers = {self.about(each, setup): each for each in (place, *others)}
        record = await self._underway.claim(place.folder, *makers)
        if record is None:
            return None
        with self._underway.until_over(place.folder):
            failed = await self._go_on(makers[record.about], setup, record)
        is_own = record.about == self.about(place, setup)
        return failed if is_own else None

    async def _go_on(self, place: Place, setup: Setup, record: Record) -> SetupFailed | None:
        if place.stamp.exists():  # only the record of it was left
            return None
        try:
            outset = outset_of(record.found)
        except (KeyError, TypeError):  # another release wrote it
            await self._underway.vacate(place.folder)
            return None
        # How the dependencies stood is not known any more: the next build copies them whole.
        outset = replace(outset, stamp=replace(outset.stamp, copy=""))
        try:
            made = await self._see_through(place, setup, record, outset, before=None)
        except BrokenOff as broken:
            self._underway.let_go(place.folder, broken)
            return None
        # One that ran on dependencies that were there may succeed from nothing.
        if outset.again or isinstance(made, Ready):
            return None
        return made

    async def _see_through(
        self, place: Place, setup: Setup, record: Record, outset: Outset, *, before: Print | None
    ) -> Ready | SetupFailed:
        """Run what is left of a setup, and stamp what it made."""
        with self._underway.until_over(place.folder):
            failed = await self._run(place, setup, record, again=outset.again)
            failed = failed or await self._outside(place)
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

    async def _run(
        self, place: Place, setup: Setup, record: Record, *, again: bool
    ) -> SetupFailed | None:
        """Run its commands, except those that an earlier daemon ran."""
        python = self._commands.machine.python
        for number, order in enumerate(_orders(setup, place, python, again=again)):
            step = self._underway.step(place.folder, record, number)
            ran = await self._commands.resume(place, step)
            if ran and not says_something(ran.exit):
                raise BrokenOff(step.folder.name, left=ran.exit.left)
            if ran is None:
                ran = await self._commands.run(order, place, step)
            if not ran.ok:
                return _failure(" ".join(order.argv), ran, place)
        with suppress(OSError):
            place.venv.rmdir()  # if no command made a venv
        return None

    # ── where modules come from ──

    async def _outside(self, place: Place) -> SetupFailed | None:
        """What gates would load from elsewhere than the tree, as a failure."""
        wrong = await to_thread.run_sync(outside_node, place.tree)
        if wrong:
            return SetupFailed(sentence=wrong)
        venv = place.venv if has_python(place.venv) else None
        if venv is not None:
            folders = await to_thread.run_sync(site_folders, venv)
        elif not await to_thread.run_sync(checked_modules, place.tree):
            return None
        else:
            found = await self._machine_folders(place)
            if isinstance(found, SetupFailed):
                return found
            folders = found
        python_path = self._commands.machine.passed().get("PYTHONPATH", "")
        before = [place.tree / folder for folder in python_path.split(os.pathsep) if folder]
        look = partial(outside_python, place.tree, venv, folders, before=before)
        wrong = await to_thread.run_sync(look)
        return SetupFailed(sentence=wrong) if wrong else None

    async def _machine_folders(self, place: Place) -> list[Path] | SetupFailed:
        """Where the Python on PATH keeps what is installed; none without a Python."""
        python = self._commands.machine.which("python3")
        if not python:
            return []
        argv = (python, "-I", "-S", "-c", _WHERE_INSTALLED)
        order = Order(argv=argv, seconds=SETUP_SECONDS)
        run = self._underway.fresh(place.folder, "origins")
        ran = await self._commands.run(order, place, run)
        if not ran.ok:
            return _failure("a look at what is installed for python3", ran, place)
        told = await to_thread.run_sync(folders_told, ran.tail)
        if not told:
            sentence = (
                f"{python} did not say where its packages are, "
                "so nobody knows what gates would test."
            )
            return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where)
        return told


def _strip(place: Place, setup: Setup) -> None:
    """Remove the environment, and what setup built in the tree."""
    clear(place, setup)
    place.stamp.unlink(missing_ok=True)
    for path in place.installed:
        disk.remove(path)
    scratch.empty(place)
    place.venv.mkdir()  # setup may write to it, and to nothing else beside the tree


def _restore(place: Place, setup: Setup, copied: Stamp) -> Print | None:
    """Put the dependencies back as they were copied; None if the copy cannot be read."""
    clear(place, setup)
    before = restored(place, copied)
    if before is not None:
        scratch.empty(place)
    return before


def _orders(setup: Setup, place: Place, python: str, *, again: bool) -> Iterator[Order]:
    """The commands of a setup, then its script; `again`: only what builds in the tree."""
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
        return SetupFailed(sentence=f"What setup made could not be copied: {error}.")


# ── in words ──


def unconfined(ran: Ran) -> SetupFailed:
    """The failure that a sandbox which did not start a command means for each tree."""
    sentence = f"the sandbox did not start a command: {ran.exit.detail}"
    return SetupFailed(sentence=sentence, log=ran.where, unconfined=True)


def _failure(command: str, ran: Ran, place: Place) -> SetupFailed:
    if ran.exit.cause == "unconfined":
        return unconfined(ran)
    detail = f" ({ran.exit.detail})" if ran.exit.detail else ""
    # Without the place: what fails at each place is one cause, and one card.
    here = f"{place.folder}/"
    command = command.replace(here, "")
    detail = detail.replace(here, "")
    if len(command) > COMMAND_SHOWN:
        command = f"{command[:COMMAND_SHOWN]}…"
    sentence = f"Setup failed: `{command}` {_ending(ran)}{detail}."
    return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where)


def _ending(ran: Ran) -> str:
    match ran.exit.cause:
        case "timeout":
            return f"took longer than {SETUP_SECONDS / 60:.0f} minutes"
        case "unstartable":
            return "could not be started"
        case "overran":
            return "used too much and was ended"
    if ran.exit.signal:
        return f"was ended by signal {ran.exit.signal}"
    return f"ended with exit code {ran.exit.code}"
