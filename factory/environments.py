"""What setup, gates, `run` and `accept` find around them: a venv and scratch folders beside a tree, and variables.

Invariant: an environment serves only while all that it was made from is unchanged, as is the environment itself, and
one that a candidate's code made only that candidate; one in which a module of the project does not come from the tree
beside it is never used.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
from anyio import to_thread

from factory import disk, faults, process
from factory.confines import Confines
from factory.inference import Setup, digest
from factory.places import home
from factory.sandbox import TOOLCHAINS, Sandbox

SETUP_SECONDS = 1800.0
TAIL_BYTES = 16 << 10
_CAPTURED = ("LANG", "LC_ALL", "SHELL", "USER", "LOGNAME")
_TOOLS = ("python3", "uv", "node", "npm", "pnpm", "yarn", "go", "cargo", "rustc", "make")
_CACHES = ("PIP_CACHE_DIR", "UV_CACHE_DIR", "npm_config_cache", "GOMODCACHE", "GOCACHE", "CARGO_HOME")
_BUILD_CACHES = (".cache", ".vite", ".vitest")  # what node tools write into node_modules while they work
_COMMON = frozenset({"tests", "docs", "examples", "scripts", "benchmarks", "tools", "setup", "conftest", "noxfile"})
_NAME = re.compile(r"""(?:^|\()\s*name\s*=\s*["']?([\w.-]+)""", re.MULTILINE)  # of a project, in any of its manifests
_CURE = (
    ": gates would test that and not the candidate. Install the project editable (pip install -e .), "
    "e.g. in conventions/workspace/setup.sh."
)
_PROBE = """\
import importlib.metadata, importlib.util, json, os, sys
modules = {}
for name in sys.argv[1:]:
    try:
        spec = importlib.util.find_spec(name)
    except Exception:
        spec = None
    where = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    if where:
        modules[name] = os.path.realpath(where)
found = [
    (dist.metadata["Name"] or "", os.path.realpath(dist.locate_file("")), dist.read_text("direct_url.json") or "{}")
    for dist in importlib.metadata.distributions()
]
print("\\n" + json.dumps({"modules": modules, "found": found}))"""


class Place:
    """A tree and what belongs to it, in one folder; `index` keeps the ports of places apart.

    `keeps`: what setup makes in the tree. `caches`: which of the factory's caches serve here. `candidate`: the tree's
    id, where it is not trunk's: its code adds to no cache, and an environment that it made serves that tree alone, for
    a later one's verdict would rest on it.
    """

    def __init__(
        self,
        folder: Path,
        index: int = 0,
        *,
        keeps: Sequence[str] = (),
        caches: str = "workspaces",
        candidate: str = "",
    ) -> None:
        self.folder, self.index, self.caches, self.candidate = folder, index, caches, candidate
        self.keeps = tuple(keeps)
        self.tree, self.venv = folder / "tree", folder / "venv"
        self.home, self.tmp = folder / "home", folder / "tmp"  # HOME and TMPDIR of what runs here
        self.stamp = folder / "environment.json"  # says what the environment was made from; written last


Print = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An environment that may be used; equal keys, equal environments. `built`: just now, so the tree may be dirty."""

    key: str
    built: bool
    print: Print = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFailed:
    """There is no environment, and why."""

    sentence: str
    tail: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended and what it said last."""

    exit: process.Exit
    tail: str
    log: Path
    where: str  # the same for a person, and for the store: relative to the checkout where it lies in it

    @property
    def ok(self) -> bool:
        """Whether it exited 0 and nothing of it is left."""
        return self.exit.cause == "exited" and self.exit.code == 0 and not self.exit.left


def ports(index: int) -> dict[str, str]:
    """The variables that keep what runs at the same time off each other's ports."""
    first = 20_000 + 100 * index
    return {"FACTORY_WORKER_INDEX": str(index), "FACTORY_PORT": str(first), "FACTORY_PORT_LAST": str(first + 99)}


class Environments:
    """Builds environments and judges whether one may still be used.

    `environ` is as captured at start, of which `passed` ([env] pass) names what goes through; nothing in `root`, the
    user's checkout, may be on PATH.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        root: Path,
        caches: Path,
        logs: Path,
        passed: Callable[[], Sequence[str]],
        sandbox: Sandbox,
        limits: Callable[[], process.Limits] = process.Limits,
    ) -> None:
        self._environ, self._root, self._caches, self._logs, self._passed = environ, root, caches, logs, passed
        self.sandbox, self._limits = sandbox, limits
        self._path = _path(environ, root)

    def variables(self, place: Place, *, judging: bool = False) -> dict[str, str]:
        """The whole environment of a command at `place`; gates (`judging`) have caches that no setup reads."""
        caches = self._caches_of(place, judging)
        own = {name: home(self._environ) / folder for name, folder in TOOLCHAINS.items()}
        env = {name: str(folder) for name, folder in own.items() if folder.is_dir()}
        env |= self._captured((*_CAPTURED, *TOOLCHAINS)) | {name: str(caches / name) for name in _CACHES}
        env |= self._captured(self._passed()) | ports(place.index)
        # Copies: in a cache's hard links, a gate that writes into its venv would write into every venv.
        env |= {"UV_LINK_MODE": "copy", "UV_COMPILE_BYTECODE": "1", "UV_PROJECT_ENVIRONMENT": str(place.venv)}
        env |= {"HOME": str(place.home), "TMPDIR": str(place.tmp), "PATH": f"{place.venv}/bin{os.pathsep}{self._path}"}
        env |= {"TMPPREFIX": f"{place.tmp}/zsh"}  # else it writes into /tmp for each here-document
        env |= {"VIRTUAL_ENV": str(place.venv)} if (place.venv / "bin").is_dir() else {}
        return env | ({"PYTHONDONTWRITEBYTECODE": "1", "CI": "true"} if judging else {})

    def confines(self, place: Place, *, judging: bool = False, beside: bool = False) -> Confines:
        """What a command at `place` may write; gates leave the environment, and candidates caches, as they were.

        `beside` others: what it writes at `place` it sees alone, for the code that one gate runs must not decide what
        another looks at.
        """
        caches = self._caches_of(place, judging)
        caches.mkdir(parents=True, exist_ok=True)
        made = [path for path in (place.venv, *_kept(place)) if path.is_dir() and not path.is_symlink()]
        kept = [*(made if judging else ()), *((caches,) if place.candidate else ())]
        own = (place.tree, place.home, place.tmp)
        writes = (*(() if beside else own), *(() if judging else made), *(() if place.candidate else (caches,)))
        return Confines(writes=writes, scratch=(*kept, *(own if beside else ())))

    def limits(self, *folders: Path) -> process.Limits:
        """What a command may use, of the disk in these folders."""
        return replace(self._limits(), folders=folders)

    def _caches_of(self, place: Place, judging: bool) -> Path:
        return self._caches / ("gates" if judging else place.caches)

    async def ready(self, place: Place, setup: Setup, *, verify: bool = True) -> Ready | SetupFailed:
        """The environment for the tree as it now stands, made where there is none to use.

        Not `verify`: one that was written into since (by an agent, in its own workspace) will do.
        """
        asked = await self.asked(place, setup)
        found = await to_thread.run_sync(_stamped, place, setup, asked, verify)
        return found or await self._build(place, setup, asked)

    async def found(self, place: Place, setup: Setup) -> Ready | None:
        """The environment for the tree as it now stands, where there is one to use."""
        return await to_thread.run_sync(_stamped, place, setup, await self.asked(place, setup), True)

    async def asked(self, place: Place, setup: Setup) -> str:
        """Digest of all that an environment for the tree as it now stands is made from."""
        return await to_thread.run_sync(self._asked, place, setup)

    async def changed(self, place: Place, ready: Ready) -> list[str]:
        """Paths of the environment that differ from what was ready; if any, it is not used again."""
        now = await to_thread.run_sync(_print, place)
        paths = [path for path in {**ready.print, **now} if ready.print.get(path) != now.get(path)]
        if paths:
            with faults.step("environment.distrust"):
                place.stamp.unlink(missing_ok=True)
        return sorted(paths)

    @faults.during("place.empty")
    async def refresh(self, place: Place) -> None:
        """Empty HOME and TMPDIR: nothing that ran before speaks to what runs next."""
        for folder in (place.home, place.tmp):
            await to_thread.run_sync(disk.remove, folder)
            folder.mkdir(parents=True)

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
    ) -> Ran:
        """Run a command, or a script's text from a file outside the tree, under the shim; cancelled, it is ended."""
        run_dir = self._logs / f"{place.folder.name}-{secrets.token_hex(4)}-{re.sub(r'[^a-z0-9]+', '-', name)[:40]}"
        env = self.variables(place, judging=judging)
        with faults.step("command.start"):
            argv = await to_thread.run_sync(_script, run_dir, script) if script else argv
            confines = self.confines(place, judging=judging, beside=beside)
            confines = replace(confines, reads=(run_dir,) if script else ())
            command = process.Command(
                argv=argv,
                cwd=place.tree,
                env=env,
                run_dir=run_dir,
                seconds=seconds,
                within=self.sandbox.confined(argv, env, confines),
                limits=self.limits(place.folder),
            )
            child = await process.start(command)
        try:
            ended = await child.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True), faults.step("command.stop"):  # bounded by the stop ladder
                await child.stop(grace_s=0)
            raise
        with suppress(OSError), faults.step("tree.enter"):
            disk.reopen(place.tree)
        log = run_dir / "output.log"
        where = log.relative_to(self._root) if log.is_relative_to(self._root) else log
        return Ran(exit=ended, tail=await to_thread.run_sync(_tail, run_dir), log=log, where=str(where))

    @faults.during("environment.build")
    async def _build(self, place: Place, setup: Setup, asked: str) -> Ready | SetupFailed:
        # The stamp goes first and comes last: a build that was killed has none and is made anew.
        place.stamp.unlink(missing_ok=True)
        for path in (place.venv, *_kept(place)):
            await to_thread.run_sync(disk.remove, path)
        await self.refresh(place)
        place.venv.mkdir()  # it alone may be written, not what else lies beside the tree
        orders = [(command, "") for command in setup.commands]
        orders += [(("sh", setup.reason), setup.script)] if setup.script else []
        for command, script in orders:
            argv = tuple(
                part.replace("{venv}", str(place.venv)).replace("{python}", self._python()) for part in command
            )
            ran = await self.run(argv, place, name="setup", script=script, seconds=SETUP_SECONDS)
            if not ran.ok:
                return _failure(" ".join(argv), ran, place)
        with suppress(OSError):
            place.venv.rmdir()  # nobody made one
        if wrong := await self._outside(place):
            return wrong
        return await to_thread.run_sync(_seal, place, setup, asked)

    async def _outside(self, place: Place) -> SetupFailed | None:
        """What of the project would be tested from elsewhere than the tree."""
        if wrong := await to_thread.run_sync(_outside_node, place.tree):
            return SetupFailed(sentence=wrong)
        names = [name for name in _modules(place.tree) if name not in sys.stdlib_module_names | _COMMON]
        python = str(place.venv / "bin/python") if place.venv.is_dir() else names and self._which("python3")
        if not python:
            return None
        ran = await self.run((python, "-I", "-c", _PROBE, *names), place, name="origins", seconds=SETUP_SECONDS)
        if not ran.ok:
            return _failure("a look at where the project's modules come from", ran, place)
        facts = json.loads(ran.log.read_bytes().splitlines()[-1])
        wrong = await to_thread.run_sync(_outside_python, place, facts)
        return SetupFailed(sentence=wrong, log=ran.where) if wrong else None

    def _asked(self, place: Place, setup: Setup) -> str:
        parts = [setup.digest, self._python(), repr(sorted(self._captured(self._passed()).items()))]
        parts += [f"{name} {_identity(self._which(name))}" for name in _TOOLS]
        if any("-e" in command for command in setup.commands) or setup.kind in ("uv", "script"):
            parts += [name for name in _modules(place.tree) if not name.startswith("test")]  # mapped when installed
        return digest(*parts, *_contents(place.tree, setup.inputs))

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
    barred = [Path(folder).resolve() for folder in (root, environ.get("VIRTUAL_ENV"), own) if folder]
    folders = [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder[:1] == "/"]
    return os.pathsep.join(
        folder for folder in folders if not any(Path(folder).resolve().is_relative_to(bar) for bar in barred)
    )


def _failure(command: str, ran: Ran, place: Place) -> SetupFailed:
    how = {
        "timeout": f"took longer than {SETUP_SECONDS / 60:.0f} minutes",
        "unstartable": "could not be started",
        "overran": "used too much and was ended",
    }
    said = how.get(ran.exit.cause, f"ended with {ran.exit.signal or ran.exit.code}")
    detail = f" ({ran.exit.detail})" if ran.exit.detail else ""
    # Without the place: what fails in each of them is one cause, and one card.
    command, detail = (text.replace(f"{place.folder}/", "") for text in (command, detail))
    sentence = f"The setup command `{command[:300]}` {said}{detail}: there is no environment to judge in."
    return SetupFailed(sentence=sentence, tail=ran.tail, log=ran.where)


def _outside_node(tree: Path) -> str:
    if not (tree / "package.json").is_file():
        return ""
    if above := next((path for folder in tree.parents if (path := folder / "node_modules").is_dir()), None):
        return (
            f"node looks into {above} for what the tree lacks: gates would pass here and fail elsewhere. "
            "Remove that folder, or set XDG_STATE_HOME to a place that has none above it."
        )
    for link in [*(tree / "node_modules").glob("*"), *(tree / "node_modules").glob("@*/*")]:
        if link.is_symlink() and not link.resolve().is_relative_to(tree.resolve()):
            return (
                f"{link.relative_to(tree)} leads out of the tree, to {link.resolve()}: gates would not test the "
                "candidate. Name the package in package.json by a version or by a path in the repository."
            )
    return ""


def _outside_python(place: Place, facts: Mapping[str, Any]) -> str:
    tree = place.tree.resolve()
    texts = (_text(tree / name) for name in ("pyproject.toml", "setup.cfg", "setup.py"))
    project = next((_plain(found[1]) for text in texts if (found := _NAME.search(text))), "")
    for name, where, url in facts["found"]:
        if _plain(name) != project and not place.venv.is_dir():
            continue  # without a venv the machine's Python is asked, and what else it knows is nobody's matter
        source = json.loads(url)
        local = "dir_info" in source and Path(unquote(urlsplit(source.get("url", "")).path)).resolve()
        if local and not local.is_relative_to(tree):
            return f"{name} is installed from {local}, outside of the tree{_CURE}"
        copied = not source.get("dir_info", {}).get("editable") and not Path(where).is_relative_to(tree)
        if copied and (local or (project and _plain(name) == project)):
            return f"{name} is installed as a copy{_CURE}"
    for name, where in facts["modules"].items():
        if not any(Path(where).is_relative_to(inside) for inside in (tree, place.venv.resolve())):
            return f"`import {name}` gives {where}, outside of the tree{_CURE}"
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules(tree: Path) -> list[str]:
    """Names of the project's top-level modules."""
    paths = [*tree.glob("*"), *(tree / "src").glob("*")]
    modules = [path for path in paths if path.suffix == ".py" or os.path.isfile(path / "__init__.py")]  # noqa: PTH113
    return sorted({name for path in modules if (name := path.name.removesuffix(".py")).isidentifier()})


def _contents(tree: Path, globs: Iterable[str]) -> Iterator[str]:
    found = set[Path]()
    for glob in (glob for glob in globs if glob[:1] != "/" and ".." not in glob.split("/")):
        with suppress(ValueError, IndexError):  # no glob, so it names nothing
            found.update(tree.glob(glob))
    for path in sorted(filter(Path.is_file, found)):
        content = os.fsencode(real := path.resolve())
        if real.is_relative_to(tree.resolve()):  # a candidate's link leads anywhere: to what never ends, or is closed
            with suppress(OSError):
                content = real.read_bytes()
        yield f"{path.relative_to(tree)} {hashlib.sha256(content).hexdigest()}"


def _stamped(place: Place, setup: Setup, asked: str, verify: bool) -> Ready | None:
    with suppress(OSError, ValueError, KeyError):
        stamp = json.loads(place.stamp.read_bytes())
        print_ = _print(place) if verify else {}
        if stamp["candidate"] not in ("", place.candidate):
            return None
        if stamp["asked"] == asked and (not verify or stamp["print"] == digest(repr(sorted(print_.items())))):
            return Ready(key=stamp["key"], built=False, print=print_)
    return None


def _seal(place: Place, setup: Setup, asked: str) -> Ready:
    print_ = _print(place)
    key = digest(asked, *_installed(place, setup))
    fresh = place.stamp.with_suffix(".new")
    stamp = {"asked": asked, "key": key, "print": digest(repr(sorted(print_.items()))), "candidate": place.candidate}
    fresh.write_text(json.dumps(stamp))
    fresh.replace(place.stamp)
    return Ready(key=key, built=True, print=print_)


def _installed(place: Place, setup: Setup) -> Iterator[str]:
    """What the installers chose: the same request may give something newer elsewhere."""
    yield from sorted(path.name for path in place.venv.glob("lib/python*/site-packages/*.dist-info"))
    for path in (place.venv / "pyvenv.cfg", *(place.tree / kept / ".package-lock.json" for kept in setup.keeps)):
        yield re.sub(r"(?m)^command = .*$", "", _text(path))


@faults.during("environment.print")
def _print(place: Place) -> Print:
    """Who is who in the environment; the change time tells even of a write that put the times back."""
    tops = [place.venv, *_kept(place)]
    for cache in [top / name for top in tops[1:] if not top.is_symlink() for name in _BUILD_CACHES]:
        disk.remove(cache)
    print_ = {"python": _identity(str(place.venv / "bin/python"))}
    for folder, folders, files in (below for top in tops for below in os.walk(top)):
        for name in (*files, *folders):
            about = os.lstat(f"{folder}/{name}")
            times = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
            print_[f"{folder}/{name}"] = (about.st_mode, *(() if stat.S_ISDIR(about.st_mode) else times))
    return print_


def _kept(place: Place) -> list[Path]:
    """What the setup makes in the tree, less what a link of the candidate's would have us remove elsewhere."""
    tree = place.tree.resolve()
    return [path for name in place.keeps if (path := place.tree / name).parent.resolve().is_relative_to(tree)]


def _identity(path: str) -> tuple[int, ...]:
    with suppress(OSError):
        about = os.stat(path)  # noqa: PTH116  ten tools, each time: no Path for them
        return (about.st_size, about.st_mtime_ns, about.st_ino) if path else ()
    return ()


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text("utf-8", "replace")
    return ""


def _tail(run_dir: Path) -> str:
    logs = [path for name in ("output.1.log", "output.log") if (path := run_dir / name).is_file()]
    return b"".join(path.read_bytes() for path in logs)[-TAIL_BYTES:].decode(errors="replace")


def _script(run_dir: Path, text: str) -> tuple[str, ...]:
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "script"
    path.write_text(text)
    path.chmod(0o500)
    return (str(path),) if text.startswith("#!") else ("sh", str(path))
