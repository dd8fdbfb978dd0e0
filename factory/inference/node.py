"""Infers gates and setup from package.json; npm installs the packages."""

from collections.abc import Iterator

from factory.inference.files import NODE_INPUTS, NPM_LOCKS, Files, at
from factory.inference.rules import Gate, Setup

RULED_BY = {
    "npm": ("package.json", ".npmrc"),
    "pnpm": ("package.json", ".npmrc"),
    "yarn": ("package.json", ".yarnrc", ".yarnrc.yml"),
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


def gates(files: Files) -> Iterator[Gate]:
    """Yield gates for the scripts `lint` and `test`."""
    scripts = at(files.package, "scripts")
    if scripts.get("lint"):
        yield Gate("lint", 10, ("npm", "run", "lint"), "package.json, scripts.lint")
    test = scripts.get("test")
    if test and "no test specified" not in str(test):
        yield Gate("test", 20, ("npm", "test"), "package.json, scripts.test")


def with_packages(files: Files, setup: Setup) -> Setup:
    """Return the setup with npm's packages added, if the commit needs any."""
    lock = files.first(NPM_LOCKS)
    if not lock and not _needs_packages(files):
        return setup
    if any(name.startswith("node_modules/") for name in files.names):
        return setup  # the tree itself contains the modules
    inputs = [*setup.inputs, *NODE_INPUTS]
    keeps = ["node_modules"]
    for folder in _workspaces(files):
        inputs.append(f"{folder}/package.json")
        keeps.append(f"{folder}/node_modules")
    install: tuple[str, ...]
    if lock:
        install = ("npm", "ci", "--no-audit", "--no-fund")
        reason = f"{lock} is there"
    else:
        install = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund")
        reason = "package.json has dependencies and no lock file"
    return Setup(
        kind="npm" if setup.kind == "none" else f"{setup.kind}+npm",
        commands=(*setup.commands, install),
        inputs=tuple(inputs),
        keeps=tuple(keeps),
        rebuild=(*setup.rebuild, *_lifecycle(files)),
        reason=f"{setup.reason}; {reason}" if setup.commands else reason,
    )


def _needs_packages(files: Files) -> bool:
    if "prepare" in at(files.package, "scripts"):
        return True
    return any(at(files.package, table) for table in _DEPENDENCY_TABLES)


def _workspaces(files: Files) -> list[str]:
    """Return the folders that may be workspaces of the package."""
    if "workspaces" not in files.package:
        return []
    folders = []
    for name in files.names:
        folder, slash, base = name.rpartition("/")
        if slash and base == "package.json":
            folders.append(folder)
    return sorted(folders)


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
