"""Infers gates and setup from package.json, for npm, pnpm, Yarn and Bun.

Invariant: the client that made the lock file installs the packages, in the version that the project
names, and exactly as locked. The client itself goes into the folder of the venv.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from factory.inference.files import BERRY, LOCK_OF, NODE_INPUTS, PNPM_WORKSPACE, Files, at, bare
from factory.inference.rules import CHECKS, TESTS, Gate, Setup

RULED_BY = {
    "npm": ("package.json", ".npmrc"),
    "pnpm": ("package.json", ".npmrc", PNPM_WORKSPACE),
    "yarn": ("package.json", ".yarnrc", BERRY),
    "bun": ("package.json", "bunfig.toml"),
}
_DEPENDENCY_TABLES = ("dependencies", "devDependencies", "optionalDependencies")
_LIFECYCLE = (
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
)
_CHECKS = (
    "lint",
    "typecheck",
    "type-check",
    "check-types",
    "types",
    "tsc",
    "check",
    "format:check",
    "format-check",
    "check:format",
    "prettier:check",
    "lint:ci",
)
_NAMED = re.compile(r"(npm|pnpm|yarn|bun)@(\d[\w.-]*)")
# The version of pnpm's lock file → the pnpm that writes it.
_PNPM_OF_LOCK = {"5": "7", "6": "8", "9": "9"}
_BERRY_KEEPS = (
    ".pnp.cjs",
    ".pnp.loader.mjs",
    ".yarn/cache",
    ".yarn/unplugged",
    ".yarn/install-state.gz",
)
# Clients keep downloads below npm's cache, and copy packages instead of linking them: a gate that
# writes into a linked package would change it for every tree.
_INSTALL = {
    "pnpm": "CI=true pnpm install --frozen-lockfile --package-import-method=copy"
    ' --store-dir "$npm_config_cache/pnpm"',
    "yarn": 'YARN_CACHE_FOLDER="$npm_config_cache/yarn" yarn install'
    " --frozen-lockfile --non-interactive",
    "berry": 'YARN_CACHE_FOLDER="$npm_config_cache/berry" YARN_ENABLE_TELEMETRY=0 yarn install'
    " --immutable",
    "bun": 'BUN_INSTALL_CACHE_DIR="$npm_config_cache/bun" bun install'
    " --frozen-lockfile --backend=copyfile",
}


@dataclass(frozen=True, slots=True)
class Client:
    """Who installs the packages. `version`: empty if the project names none."""

    name: str
    version: str
    lock: str  # the lock file, or ""
    is_berry: bool = False  # Yarn 2 or newer


def client_of(files: Files) -> Client:
    """Return the client of a package: the one that the project names, or that made its lock."""
    locks = {files.first(names): name for name, names in LOCK_OF.items() if files.first(names)}
    named = _NAMED.match(str(files.package.get("packageManager", "")))
    engine = at(files.package, "devEngines", "packageManager")
    name, version = "npm", ""
    if named:
        name, version = named[1], named[2]
    elif engine.get("name") in LOCK_OF:
        name, version = str(engine["name"]), ""
    elif locks:
        name = next(iter(locks.values()))
    lock = next((path for path, maker in locks.items() if maker == name), "")
    if name == "pnpm" and not version:
        found = re.search(r"^lockfileVersion: '?(\d+)", files.sample(lock), re.MULTILINE)
        version = _PNPM_OF_LOCK.get(found[1], "") if found else ""
    is_berry = name == "yarn" and (BERRY in files.names or version[:2] not in ("", "1."))
    return Client(name, version, lock, is_berry)


def gates(files: Files) -> Iterator[Gate]:
    """Yield gates for the scripts that check, and for `test`."""
    scripts = at(files.package, "scripts")
    client = client_of(files).name
    for name in _CHECKS:
        if scripts.get(name):
            command = (client, "run", name)
            yield Gate(name.replace(":", "-"), CHECKS, command, f"package.json, scripts.{name}")
    test = scripts.get("test")
    if test and "no test specified" not in str(test):
        run = (client, "run", "test") if client == "bun" else (client, "test")
        yield Gate("test", TESTS, run, "package.json, scripts.test")
    elif _packages(files):
        yield from _recursive(client)


def _recursive(client: str) -> Iterator[Gate]:
    """Yield the gate that runs the tests of all packages of a workspace."""
    commands = {
        "npm": ("npm", "test", "--workspaces", "--if-present"),
        "pnpm": ("pnpm", "-r", "test"),
        "bun": ("bun", "run", "--filter", "*", "test"),
    }
    if client in commands:
        yield Gate("test", TESTS, commands[client], "package.json, the tests of its workspaces")


def with_packages(files: Files, setup: Setup) -> Setup:
    """Return the setup with the installation of the packages, if the commit needs any."""
    client = client_of(files)
    if not client.lock and not _needs_packages(files):
        return setup
    if any(name.startswith("node_modules/") for name in files.names):
        return setup  # the tree itself contains the modules
    folders = _packages(files)
    inputs = [*setup.inputs, *NODE_INPUTS]
    keeps = ["node_modules"]
    for folder in folders:
        inputs.append(f"{folder}/package.json")
        keeps.append(f"{folder}/node_modules")
    if client.is_berry:
        keeps += _BERRY_KEEPS
    install = _install(client)
    reason = f"{client.lock} is there"
    if not client.lock:
        reason = "package.json has dependencies and no lock file"
    builds = _lifecycle(files) if client.name == "npm" else iter([install[-1]])
    return replace(
        setup,
        kind=client.name if setup.kind == "none" else f"{setup.kind}+{client.name}",
        commands=(*setup.commands, *install),
        inputs=tuple(inputs),
        keeps=(*setup.keeps, *keeps),
        rebuild=(*setup.rebuild, *builds),
        reason=f"{setup.reason}; {reason}" if setup.commands else reason,
    )


def in_folder(files: Files, folder: str, name: str) -> Setup:
    """Return the installation of a package in a folder by the client with this name."""
    locks = [f"{folder}/{lock}" for lock in LOCK_OF[name]]
    lock = files.first(locks)
    whole = client_of(files)  # the root may say which version all folders use
    client = Client(name, "", lock, name == "yarn" and f"{folder}/{BERRY}" in files.names)
    if whole.name == name:
        client = replace(whole, lock=lock, is_berry=client.is_berry or whole.is_berry)
    *get_client, install = _install(client)
    code = install[-1] if install[0] == "sh" else " ".join(install)
    command = ("sh", "-e", "-c", f"cd {shlex.quote(folder)}\n{code}")
    return Setup(
        kind=name,
        commands=(*get_client, command),
        inputs=(*locks, f"{folder}/package.json"),
        keeps=(f"{folder}/node_modules",),
        rebuild=(command,),
    )


def _install(client: Client) -> list[tuple[str, ...]]:
    """Return the commands that install the client, and then the packages."""
    if client.name == "npm":
        if client.lock:
            return [("npm", "ci", "--no-audit", "--no-fund")]
        return [("npm", "install", "--no-package-lock", "--no-audit", "--no-fund")]
    code = _INSTALL["berry" if client.is_berry else client.name]
    if not client.lock:
        code = re.sub(r" --(frozen-lockfile|immutable)", "", code)
    package = f"{client.name}@{client.version or 'latest'}"
    if client.is_berry and client.version:
        package = f"@yarnpkg/cli-dist@{client.version}"
    elif client.name == "yarn":
        package = "yarn@1"  # it starts the release that .yarnrc.yml names
    return [
        ("npm", "install", "--global", "--prefix", "{venv}", "--no-audit", "--no-fund", package),
        ("sh", "-c", code),
    ]


def _needs_packages(files: Files) -> bool:
    if "prepare" in at(files.package, "scripts"):
        return True
    return any(at(files.package, table) for table in _DEPENDENCY_TABLES)


def _packages(files: Files) -> list[str]:
    """Return the folders that may be workspaces of the package."""
    if "workspaces" not in files.package and PNPM_WORKSPACE not in files.names:
        return []
    globs = _workspace_globs(files)
    folders = []
    for name in files.names:
        folder, slash, base = name.rpartition("/")
        if slash and base == "package.json" and "node_modules" not in folder.split("/"):
            if not globs or _is_workspace(folder, globs):
                folders.append(folder)
    return sorted(folders)


def _workspace_globs(files: Files) -> list[str]:
    """Return the globs that say which folders are packages; "!" excludes. [] if none is known."""
    declared: Any = files.package.get("workspaces")
    if isinstance(declared, dict):
        declared = declared.get("packages")
    if PNPM_WORKSPACE in files.names:
        declared = files.yaml(PNPM_WORKSPACE).get("packages")
    if not isinstance(declared, list):
        return []
    return [bare(glob).rstrip("/") for glob in declared if isinstance(glob, str)]


def _is_workspace(folder: str, globs: Sequence[str]) -> bool:
    is_one = False
    for glob in globs:
        pattern = re.escape(bare(glob.removeprefix("!")))
        pattern = pattern.replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        if re.fullmatch(pattern, folder):
            is_one = not glob.startswith("!")
    return is_one


def _lifecycle(files: Files) -> Iterator[tuple[str, ...]]:
    """Yield commands that run the project's own install scripts, as `npm install` does."""
    # --ignore-scripts: without this option, npm would also run the pre and post scripts of each
    # script.
    run = ("npm", "run", "--ignore-scripts")
    scripts = at(files.package, "scripts")
    for name in _LIFECYCLE:
        if "workspaces" in files.package:
            yield (*run, "--workspaces", "--include-workspace-root", "--if-present", name)
        elif name in scripts:
            yield (*run, name)
