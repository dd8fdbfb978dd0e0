"""What setup, gates, `run` and `accept` find around them: a venv and scratch folders beside a tree, and variables.

Invariant: an environment serves only while all that it was made from is unchanged, as is the environment itself, and
one that a candidate's code made only that candidate; one in which a module of the project does not come from the tree
beside it is never used.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from factory.child import process
from factory.child.bubblewrap import make_layer, written
from factory.child.profile import Profile
from factory.child.sandbox import TOOLCHAINS, Sandbox
from factory.ground import disk, faults
from factory.ground.places import home
from factory.inference.rules import Setup, digest
from factory.judging.layers import Print, copy_that_serves, differing, remove_newer
from factory.judging.origins import (
    checked_modules,
    folders_told,
    modules_of,
    outside_node,
    outside_python,
)
from factory.judging.outset import Outset, outset_of
from factory.judging.place import Place, Stamp
from factory.judging.run_dir import script_in, tail_of
from factory.judging.standing import (
    Asked,
    Ready,
    TooMuch,
    clear,
    identity,
    lay,
    made_in,
    print_place,
    restored,
    seal,
    standing,
)
from factory.judging.trials import Ran
from factory.judging.venvs import has_python, site_folders
from factory.repo.underway import BrokenOff, Record, Run, Underway, resumed, says_something

COMMAND_SHOWN = 80  # characters of a setup command in a sentence
SETUP_SECONDS = 1800.0
_CAPTURED = ("LANG", "LC_ALL", "SHELL", "USER", "LOGNAME")
_TOOLS = ("python3", "uv", "node", "npm", "pnpm", "yarn", "go", "cargo", "rustc", "make")
_CACHES = (
    "PIP_CACHE_DIR",
    "UV_CACHE_DIR",
    "npm_config_cache",
    "GOMODCACHE",
    "GOCACHE",
    "CARGO_HOME",
)
# Asked of the machine's own Python, which loads nothing that is installed (-S).
_WHERE_INSTALLED = (
    "import json, site, sys; print(); print(json.dumps([sys.executable, *site.getsitepackages()]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFailed:
    """There is no environment, and why; `unconfined`: for the sandbox does not start, which is no tree's fault."""

    sentence: str
    tail: str = ""
    log: str = ""
    unconfined: bool = False


def ports(index: int) -> dict[str, str]:
    """The variables that keep what runs at the same time off each other's ports."""
    first = 20_000 + 100 * index
    return {
        "FACTORY_WORKER_INDEX": str(index),
        "FACTORY_PORT": str(first),
        "FACTORY_PORT_LAST": str(first + 99),
    }


class Environments:
    """Builds environments and judges whether one may still be used.

    `environ` is as captured at start, of which `passed` ([env] pass) names what goes through; nothing in `root`, the
    user's checkout, may be on PATH. What it builds and runs is noted in `underway`.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        root: Path,
        caches: Path,
        underway: Underway,
        passed: Callable[[], Sequence[str]],
        sandbox: Sandbox,
        limits: Callable[[], process.Limits] = process.Limits,
    ) -> None:
        self._environ, self._root, self._caches, self._passed = environ, root, caches, passed
        self.underway, self.sandbox, self._limits = underway, sandbox, limits
        self._path = _path(environ, root)

    def variables(self, place: Place, *, judging: bool = False) -> dict[str, str]:
        """The whole environment of a command at `place`; gates (`judging`) have caches that no setup reads."""
        caches = self._caches_of(place, judging)
        own = {name: home(self._environ) / folder for name, folder in TOOLCHAINS.items()}
        env = {name: str(folder) for name, folder in own.items() if folder.is_dir()}
        env |= self._captured((*_CAPTURED, *TOOLCHAINS)) | {
            name: str(caches / name) for name in _CACHES
        }
        env |= self._captured(self._passed()) | ports(place.index)
        # Copies: in a cache's hard links, a gate that writes into its venv would write into every venv.
        env |= {
            "UV_LINK_MODE": "copy",
            "UV_COMPILE_BYTECODE": "1",
            "UV_PROJECT_ENVIRONMENT": str(place.venv),
        }
        env |= {
            "HOME": str(place.home),
            "TMPDIR": str(place.tmp),
            "PATH": f"{place.venv}/bin{os.pathsep}{self._path}",
        }
        env |= {"TMPPREFIX": f"{place.tmp}/zsh"}  # else it writes into /tmp for each here-document
        env |= {"VIRTUAL_ENV": str(place.venv)} if (place.venv / "bin").is_dir() else {}
        return env | ({"PYTHONDONTWRITEBYTECODE": "1", "CI": "true"} if judging else {})

    def profile(self, place: Place, *, judging: bool = False, layer: Path | None = None) -> Profile:
        """What a command at `place` may write; gates leave the environment, and candidates caches, as they were.

        `layer`: takes what it writes in the tree beside others; it alone sees what it writes at `place`, for the code
        that one gate runs must not decide what another looks at.
        """
        caches = self._caches_of(place, judging)
        caches.mkdir(parents=True, exist_ok=True)
        made = [path for path in place.installed if path.is_dir() and not path.is_symlink()]
        kept = [*(made if judging else ()), *((caches,) if place.candidate else ())]
        scratch = (place.home, place.tmp)
        own = () if layer else (place.tree, *scratch)
        writes = (*own, *(() if judging else made), *(() if place.candidate else (caches,)))
        if layer is None:
            return Profile(writes=writes, scratch=tuple(kept))
        return Profile(writes=writes, scratch=(*kept, *scratch), layered={place.tree: layer})

    def limits(self, *folders: Path) -> process.Limits:
        """What a command may use, of the disk in these folders."""
        return replace(self._limits(), folders=folders)

    def _caches_of(self, place: Place, judging: bool) -> Path:
        return self._caches / ("gates" if judging else place.caches)

    async def ready(
        self, place: Place, setup: Setup, *, verify: bool = True
    ) -> Ready | SetupFailed:
        """The environment for the tree as it now stands, made where there is none to use.

        Not `verify`: one that was written into since (by an agent, in its own workspace) will do.
        """
        asked = await self.asked(place, setup)
        found = await to_thread.run_sync(partial(standing, place, asked, verify=verify))
        return found or await self._make(place, setup, asked)

    async def found(self, place: Place, setup: Setup) -> Ready | None:
        """The environment for the tree as it now stands, where there is one to use."""
        asked = await self.asked(place, setup)
        return await to_thread.run_sync(partial(standing, place, asked, verify=True))

    async def lacks_only_its_build(self, place: Place, setup: Setup) -> bool:
        """Whether the dependencies are there, and nothing is to be built but what each tree builds for itself."""
        asked = await self.asked(place, setup)
        copied = await to_thread.run_sync(copy_that_serves, place, asked.dependencies)
        return copied is not None and not setup.made_from

    async def asked(self, place: Place, setup: Setup) -> Asked:
        """What an environment for the tree as it now stands is made from."""
        return await to_thread.run_sync(self._asked, place, setup, await place.contents())

    async def changed(self, place: Place, ready: Ready) -> list[str]:
        """Paths of the environment that differ from what was ready; if any, it is not used again."""
        now = await to_thread.run_sync(print_place, place)
        paths = await to_thread.run_sync(differing, ready.print, now)
        if paths:
            with faults.step("environment.distrust"):
                place.stamp.unlink(missing_ok=True)
        return paths

    async def lay(self, place: Place, ready: Ready) -> None:
        """Put back what setup built in the tree, where a checkout or a gate changed it."""
        await to_thread.run_sync(lay, place, ready)

    @faults.during("environment.tidy")
    async def tidy(self, place: Place) -> None:
        """Delete what was added to the environment since it was made; what was changed in it is found by `ready`."""
        if place.stamp.is_file():
            await to_thread.run_sync(remove_newer, place.installed, place.stamp)

    @faults.during("place.empty")
    async def refresh(self, place: Place) -> None:
        """Empty HOME and TMPDIR: nothing that ran before speaks to what runs next."""
        for folder in (place.home, place.tmp):
            await to_thread.run_sync(disk.remove, folder)
            folder.mkdir(parents=True)
        await to_thread.run_sync(disk.remove, place.layers)

    @faults.during("place.empty")
    async def forget_layers(self, place: Place) -> None:
        """Delete what commands wrote apart from others."""
        await to_thread.run_sync(disk.remove, place.layers)

    async def run(
        self,
        argv: tuple[str, ...],
        place: Place,
        *,
        name: str,
        script: str = "",
        seconds: float,
        judging: bool = False,
        beside: bool = False,
        noted: Run | None = None,
    ) -> Ran:
        """Run a command, or a script's text from a file outside the tree, under the shim; cancelled, it is ended.

        `beside` others, where the sandbox has layers: none sees what another writes. One that is `noted` is not ended
        if this daemon leaves it to the next one.
        """
        run = noted or self.underway.fresh(place.folder, name)
        env = self.variables(place, judging=judging)
        with faults.step("command.start"):
            argv = (
                (*await to_thread.run_sync(script_in, run.folder, script), *argv[2:])
                if script
                else argv
            )
            layer = (
                make_layer(place.layers / run.folder.name)
                if beside and self.sandbox.layers
                else None
            )
            profile = self.profile(place, judging=judging, layer=layer)
            profile = replace(profile, reads=(run.folder,) if script else ())
            command = process.Command(
                argv=argv,
                cwd=place.tree,
                env=env,
                run_dir=run.folder,
                seconds=seconds,
                within=self.sandbox.confined(argv, env, profile),
                limits=self.limits(place.folder),
                nonce=run.nonce,
            )
            child = await process.start(command)
        return await self._ended(child, place, run, left=noted is not None)

    async def _ended(self, child: process.Child, place: Place, run: Run, *, left: bool) -> Ran:
        """How it ended; cancelled, it is ended, unless it is `left` to the next daemon."""
        try:
            ended = await child.wait()
        except anyio.get_cancelled_exc_class():
            if not (left and self.underway.leaves()):
                with (
                    anyio.CancelScope(shield=True),
                    faults.step("command.stop"),
                ):  # bounded by the stop ladder
                    await child.stop(grace_s=0)
            raise
        return await self._ran(ended, place, run)

    async def _ran(self, ended: process.Exit, place: Place, run: Run) -> Ran:
        with suppress(OSError), faults.step("tree.enter"):
            disk.reopen(place.tree)
        log, wrote = run.folder / "output.log", written(place.layers / run.folder.name)
        where = log.relative_to(self._root) if log.is_relative_to(self._root) else log
        tail = await to_thread.run_sync(tail_of, run.folder)
        return Ran(
            exit=ended,
            tail=tail,
            log=log,
            where=str(where),
            wrote=wrote if wrote.is_dir() else None,
        )

    async def resume(self, place: Place, run: Run) -> Ran | None:
        """How a run of an earlier daemon has ended, once it has; None where it never began.

        Cancelled, it is ended like one of this daemon's.
        """
        found = await resumed(run)
        if found is None:
            return None
        if isinstance(found, process.Child):
            return await self._ended(found, place, run, left=True)
        return await self._ran(found, place, run)

    async def _make(self, place: Place, setup: Setup, asked: Asked) -> Ready | SetupFailed:
        """Build what the tree builds on dependencies that are there, or all of it."""
        copied = await to_thread.run_sync(copy_that_serves, place, asked.dependencies)
        if copied is None or not (setup.rebuild or setup.script):
            return await self._build(place, setup, asked)
        made = await self._build_on(place, setup, asked, copied)
        if made is None or (
            isinstance(made, SetupFailed) and setup.script
        ):  # a script need not bear to be run twice
            return await self._build(place, setup, asked)
        return made

    @faults.during("environment.build")
    async def _build(self, place: Place, setup: Setup, asked: Asked) -> Ready | SetupFailed:
        # The stamp goes first and comes last: a build that was killed has none and is made anew.
        await to_thread.run_sync(clear, place, setup)
        place.stamp.unlink(missing_ok=True)
        for path in place.installed:
            await to_thread.run_sync(disk.remove, path)
        await self.refresh(place)
        place.venv.mkdir()  # it alone may be written, not what else lies beside the tree
        stamp = Stamp(asked=asked.dependencies, candidate=place.candidate, key="")
        return await self._prepared(place, setup, asked, stamp)

    @faults.during("environment.build")
    async def _build_on(
        self, place: Place, setup: Setup, asked: Asked, copied: Stamp
    ) -> Ready | SetupFailed | None:
        """Build on the dependencies that were copied; None where that copy is of no use."""
        await to_thread.run_sync(clear, place, setup)
        before = await to_thread.run_sync(restored, place, copied)
        if before is None:
            return None
        await self.refresh(place)
        return await self._prepared(place, setup, asked, copied, before=before)

    async def _prepared(
        self, place: Place, setup: Setup, asked: Asked, stamp: Stamp, *, before: Print | None = None
    ) -> Ready | SetupFailed:
        """Run setup, and stamp what came of it; `before`: how the dependencies stood that it runs on."""
        ignored = await place.ignored() if place.ignored else ()
        outset = Outset(asked=asked, stamp=stamp, ignored=tuple(ignored), again=before is not None)
        about, found = self.about(place, setup), outset.told()
        record = self.underway.begin(
            place.folder, "setup", tree=place.shows, about=about, found=found
        )
        return await self._seen_through(place, setup, record, outset, before=before)

    @faults.during("environment.build")
    async def go_on(self, place: Place, setup: Setup, *others: Place) -> SetupFailed | None:
        """Bring the setup that an earlier daemon began at a place to its end; how it failed, if it did.

        One that is about neither the place nor one of the others (the same, for another tree) is ended.
        """
        makers = {self.about(each, setup): each for each in (place, *others)}
        record = await self.underway.claim(place.folder, *makers)
        if record is None:
            return None
        with self.underway.until_over(place.folder):
            failed = await self._gone_on(makers[record.about], setup, record)
        return (
            failed if record.about == self.about(place, setup) else None
        )  # else the place's own may well succeed

    async def _gone_on(self, place: Place, setup: Setup, record: Record) -> SetupFailed | None:
        if place.stamp.exists():  # all was done but to forget it
            return None
        try:
            outset = outset_of(record.found)
        except (KeyError, TypeError):  # of another release
            await self.underway.vacate(place.folder)
            return None
        # How the dependencies stood is not known any more: the next build lays out their copy whole.
        outset = replace(outset, stamp=replace(outset.stamp, copy=""))
        try:
            made = await self._seen_through(place, setup, record, outset, before=None)
        except BrokenOff as broken:
            self.underway.let_go(place.folder, broken)
            return None
        # One that ran on dependencies that were there may well succeed from nothing.
        return made if isinstance(made, SetupFailed) and not outset.again else None

    async def _seen_through(
        self, place: Place, setup: Setup, record: Record, outset: Outset, *, before: Print | None
    ) -> Ready | SetupFailed:
        """Run what is left of a setup, and stamp what came of it."""
        with self.underway.until_over(place.folder):
            return await self._set_up(place, setup, record, outset, before=before)

    async def _set_up(
        self, place: Place, setup: Setup, record: Record, outset: Outset, *, before: Print | None
    ) -> Ready | SetupFailed:
        failed = await self._run_setup(
            place, setup, record, again=outset.again
        ) or await self._outside(place)
        if outset.again and before is None:
            before = await to_thread.run_sync(print_place, place)
        after = await place.ignored() if place.ignored else ()
        made = made_in(place, setup, before=outset.ignored, after=after)
        if failed:
            for path in place.inside(made):
                await to_thread.run_sync(disk.remove, path)
            return failed
        try:
            sealing = partial(
                seal, place, setup, outset.asked, replace(outset.stamp, made=made), before=before
            )
            return await to_thread.run_sync(sealing)
        except TooMuch as error:
            return SetupFailed(sentence=str(error))
        except OSError as error:
            if disk.full(error):
                raise
            return SetupFailed(sentence=f"What setup made could not be copied: {error}.")

    async def _run_setup(
        self, place: Place, setup: Setup, record: Record, *, again: bool
    ) -> SetupFailed | None:
        """Run its commands and its script, but for those that an earlier daemon ran.

        `again`: only what builds in the tree.
        """
        orders = [(command, "") for command in (setup.rebuild if again else setup.commands)]
        if setup.script:
            orders.append((("sh", setup.reason, *(("build",) if again else ())), setup.script))
        for number, (command, script) in enumerate(orders):
            argv = tuple(
                part.replace("{venv}", str(place.venv)).replace("{python}", self._python())
                for part in command
            )
            step = self.underway.step(place.folder, record, number)
            ran = await self.resume(place, step)
            if ran and not says_something(ran.exit):
                raise BrokenOff(step.folder.name, left=ran.exit.left)
            ran = ran or await self.run(
                argv, place, name="setup", script=script, seconds=SETUP_SECONDS, noted=step
            )
            if not ran.ok:
                return _failure(" ".join(argv), ran, place)
        with suppress(OSError):
            place.venv.rmdir()  # nobody made one
        return None

    async def _outside(self, place: Place) -> SetupFailed | None:
        """What of the project would be tested from elsewhere than the tree."""
        if wrong := await to_thread.run_sync(outside_node, place.tree):
            return SetupFailed(sentence=wrong)
        venv = place.venv if has_python(place.venv) else None
        if venv is None and not await to_thread.run_sync(checked_modules, place.tree):
            return None
        folders = (
            await to_thread.run_sync(site_folders, venv)
            if venv
            else await self._machine_folders(place)
        )
        if isinstance(folders, SetupFailed):
            return folders
        first = self._captured(self._passed()).get("PYTHONPATH", "").split(os.pathsep)
        before = [place.tree / folder for folder in first if folder]
        wrong = await to_thread.run_sync(
            partial(outside_python, place.tree, venv, folders, before=before)
        )
        return SetupFailed(sentence=wrong) if wrong else None

    async def _machine_folders(self, place: Place) -> list[Path] | SetupFailed:
        """Where the Python on PATH keeps what is installed; none without a Python."""
        python = self._which("python3")
        if not python:
            return []
        asked = (python, "-I", "-S", "-c", _WHERE_INSTALLED)
        ran = await self.run(asked, place, name="origins", seconds=SETUP_SECONDS)
        if not ran.ok:
            return _failure("a look at what is installed for python3", ran, place)
        told = await to_thread.run_sync(folders_told, ran.tail)
        if not told:
            sentence = f"{python} did not say where its packages are, so nobody knows what gates would test."
            return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where)
        return told

    def about(self, place: Place, setup: Setup) -> str:
        """Digest of all that a setup there depends on, told without a look at the tree."""
        here = (str(place.folder), place.shows, place.candidate)  # a venv works where it was made
        return digest("setup", *self.around(setup), self.sandbox.name, *here)

    def around(self, setup: Setup) -> list[str]:
        """What an environment depends on beside the tree."""
        parts = [setup.digest, self._python(), repr(sorted(self._captured(self._passed()).items()))]
        return parts + [f"{name} {identity(self._which(name))}" for name in _TOOLS]

    def _asked(self, place: Place, setup: Setup, blobs: Mapping[str, str]) -> Asked:
        parts = self.around(setup)
        if any("-e" in command for command in setup.commands) or setup.kind in ("uv", "script"):
            parts += [
                name for name in modules_of(place.tree) if not name.startswith("test")
            ]  # mapped when installed
        build = ["tree", place.shows]
        if setup.made_from:
            build = ["made from", *_contents(place.tree, setup.made_from, blobs)]
        return Asked(digest(*parts, *_contents(place.tree, setup.inputs, blobs)), digest(*build))

    def _captured(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._environ[name] for name in names if name in self._environ}

    def _which(self, name: str) -> str:
        return shutil.which(name, path=self._path) or ""

    def _python(self) -> str:
        """The Python to make venvs with: the user's, whose venv serves for that as well."""
        return shutil.which("python3", path=self._environ.get("PATH", os.defpath)) or "python3"


def _path(environ: Mapping[str, str], root: Path) -> str:
    """PATH less the checkout, an activated venv and factoryd's own: a tool there would judge by their modules."""
    own = sys.prefix if sys.prefix != sys.base_prefix else ""
    barred = [
        Path(folder).resolve() for folder in (root, environ.get("VIRTUAL_ENV"), own) if folder
    ]
    folders = [
        folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder[:1] == "/"
    ]
    return os.pathsep.join(
        folder
        for folder in folders
        if not any(Path(folder).resolve().is_relative_to(bar) for bar in barred)
    )


def unconfined(ran: Ran) -> SetupFailed:
    """What a sandbox that did not start a command means for all of them."""
    sentence = f"the sandbox did not start a command: {ran.exit.detail}"
    return SetupFailed(sentence=sentence, log=ran.where, unconfined=True)


def _failure(command: str, ran: Ran, place: Place) -> SetupFailed:
    if ran.exit.cause == "unconfined":
        return unconfined(ran)
    how = {
        "timeout": f"took longer than {SETUP_SECONDS / 60:.0f} minutes",
        "unstartable": "could not be started",
        "overran": "used too much and was ended",
    }
    ended = (
        f"was ended by signal {ran.exit.signal}"
        if ran.exit.signal
        else f"ended with exit code {ran.exit.code}"
    )
    said = how.get(ran.exit.cause, ended)
    detail = f" ({ran.exit.detail})" if ran.exit.detail else ""
    # Without the place: what fails in each of them is one cause, and one card.
    command, detail = (text.replace(f"{place.folder}/", "") for text in (command, detail))
    named = command if len(command) <= COMMAND_SHOWN else f"{command[:COMMAND_SHOWN]}…"
    sentence = f"Setup failed: `{named}` {said}{detail}."
    return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where)


def _contents(tree: Path, globs: Iterable[str], blobs: Mapping[str, str]) -> Iterator[str]:
    """What the globs name, each with the id that git has for its content: no file is read.

    What git does not track is not of this tree, so it counts for nothing.
    """
    found = set[Path]()
    for glob in (glob for glob in globs if glob[:1] != "/" and ".." not in glob.split("/")):
        with suppress(ValueError, IndexError):  # no glob, so it names nothing
            found.update(tree.glob(glob))
    top = os.path.realpath(tree)
    for path in sorted(filter(Path.is_file, found)):
        real = os.path.realpath(path)  # of a link where it leads, which may be anywhere
        content = blobs.get(os.path.relpath(real, top), "")
        if not content and path.is_symlink():
            content = real
        if content:
            yield f"{path.relative_to(tree)} {content}"
