"""What an agent, a setup or a gate might try, all of it against what the test owns: tells for each whether it worked.

Runs by itself: `python hostile.py ROLE TARGETS`, TARGETS being a JSON file. Prints `got NAME` or `not NAME: why`.
What leaves something behind that is to be looked for from outside says so by a plant: see `plant`.
"""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROLE, TARGETS = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
HOME, ROOT, WORK, OTHER = (Path(TARGETS[name]) for name in ("home", "root", "work", "other"))
DAEMON, STRANGER = int(TARGETS["pid"]), int(TARGETS["stranger"])
LIBC = ctypes.CDLL(None, use_errno=True)
ATTACKS: dict[str, Callable[[], object]] = {}
MS_REMOUNT, MS_BIND, CLONE_NEWUSER, CLONE_NEWNS = 32, 4096, 0x10000000, 0x20000


def attack(function: Callable[[], object]) -> Callable[[], object]:
    """Has worked where it returns something true."""
    ATTACKS[function.__name__] = function
    return function


def called(result: int) -> bool:
    """A C function's answer."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return True


def can_open(path: str, how: int) -> bool:
    """Whether it is opened; nothing is read or written."""
    os.close(os.open(path, how))
    return True


def plant(folder: Path) -> bool:
    """A file that is looked for from outside."""
    (folder / f"planted-by-{ROLE}").write_text("x")
    return True


def git(*args: str) -> str:
    """Git as an agent may call it."""
    return subprocess.run(["git", *args], check=True, capture_output=True, text=True).stdout


def forked(work: Callable[[], object]) -> bool:
    """Whether that works in a child of its own, which keeps its changes of namespaces to itself."""
    if (child := os.fork()) == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ── reading ──


@attack
def read_the_users_home() -> object:
    return (HOME / ".ssh/id").read_text()


@attack
def list_the_users_home() -> object:
    return any(HOME.iterdir())


@attack
def read_uncommitted_work() -> object:
    return (ROOT / "uncommitted.txt").read_text()


@attack
def read_the_users_git_config() -> object:
    return (ROOT / ".git/config").read_text()


@attack
def read_the_users_index() -> object:
    return (ROOT / ".git/index").read_bytes()


@attack
def read_the_store() -> object:
    return (ROOT / ".factory/store.sqlite").read_bytes()[:16]


@attack
def read_the_daemons_log() -> object:
    return can_open(str(ROOT / ".factory/daemon.log"), os.O_RDONLY)


@attack
def read_the_factory_repository() -> object:
    return (ROOT / ".factory/git/HEAD").read_text()


@attack
def read_another_attempt() -> object:
    return (ROOT / ".factory/attempts/other/1/output.log").read_text()


@attack
def read_another_workspace() -> object:
    return (WORK / "workspaces/w9/tree/secret").read_text()


@attack
def read_another_bench() -> object:
    return (WORK / "benches/b9/tree/secret").read_text()


@attack
def read_the_home_of_another_worker() -> object:
    return (WORK / "homes/w9-other/secret").read_text()


@attack
def read_a_file_in_tmp() -> object:
    return (OTHER / "secret").read_text()


@attack
def read_through_a_link() -> object:
    link = Path(f"link-{ROLE}")
    link.symlink_to(HOME / ".ssh/id")
    return link.read_text()


@attack
def read_by_a_link_among_its_programs() -> object:
    """What the programs on PATH lead to is shown: a setup's link would open it to the gate, an agent's to the next."""
    link = Path(os.environ["VIRTUAL_ENV"]) / "bin/linked"
    link.unlink(missing_ok=True)
    link.symlink_to(HOME / ".ssh/id")
    return link.read_text()


@attack
def read_by_borrowed_objects() -> object:
    """An object that only the user's repository has."""
    alternates = Path(git("rev-parse", "--git-path", "objects/info/alternates").strip())
    before = alternates.read_text()
    try:
        alternates.write_text(f"{before}{ROOT}/.git/objects\n")
        return git("cat-file", "-p", TARGETS["object"])
    finally:
        alternates.write_text(before)


@attack
def read_a_variable_of_the_daemons() -> object:
    return os.environ.get("SECRET_OF_THE_DAEMON")


@attack
def read_a_key_of_the_users() -> object:
    """From the session's keyring, which processes inherit."""
    keyctl, search, read, session = TARGETS["keyctl"], 10, 11, -3
    key = LIBC.syscall(keyctl, search, session, b"user", b"factoryd-test", 0)
    return called(key) and called(LIBC.syscall(keyctl, read, key, None, 0))


@attack
def read_the_daemons_environment() -> object:
    return b"SECRET_OF_THE_DAEMON" in Path(f"/proc/{DAEMON}/environ").read_bytes()


@attack
def read_the_daemons_memory() -> object:
    return can_open(f"/proc/{DAEMON}/mem", os.O_RDONLY)


@attack
def read_the_daemons_files() -> object:
    return any(Path(f"/proc/{DAEMON}/fd").iterdir())


@attack
def read_by_the_daemons_root() -> object:
    return (Path(f"/proc/{DAEMON}/root") / str(HOME / ".ssh/id").lstrip("/")).read_text()


# ── writing: each of these leaves a plant, or would ──


@attack
def write_to_the_users_home() -> object:
    return plant(HOME)


@attack
def write_to_the_checkout() -> object:
    return plant(ROOT)


@attack
def write_a_hook_of_the_users() -> object:
    return plant(ROOT / ".git/hooks")


@attack
def write_the_users_git_config() -> object:
    with (ROOT / ".git/config").open("a") as file:
        return file.write(f"[planted]\n\tby-{ROLE} = true\n")


@attack
def write_to_the_inbox() -> object:
    return plant(ROOT / "inbox")


@attack
def write_beside_the_store() -> object:
    return plant(ROOT / ".factory")


@attack
def write_objects_of_the_factory() -> object:
    return plant(ROOT / ".factory/git/objects/info")


@attack
def write_to_another_workspace() -> object:
    return plant(WORK / "workspaces/w9/tree")


@attack
def write_to_another_bench() -> object:
    return plant(WORK / "benches/b9/tree")


@attack
def write_beside_its_own_tree() -> object:
    """Where the stamp of the environment lies."""
    return plant(Path.cwd().parent)


@attack
def write_to_tmp() -> object:
    return plant(OTHER)


@attack
def write_through_a_link() -> object:
    link = Path(f"out-{ROLE}")
    link.symlink_to(HOME / "linked")
    return plant(link)


@attack
def move_a_ref_of_the_users() -> object:
    return (
        git(
            "--git-dir",
            str(ROOT / ".git"),
            "update-ref",
            f"refs/heads/moved-{ROLE}",
            TARGETS["commit"],
        )
        == ""
    )


@attack
def move_a_ref_of_the_factorys() -> object:
    own = str(ROOT / ".factory/git")
    return git("--git-dir", own, "update-ref", f"refs/planted/{ROLE}", TARGETS["commit"]) == ""


@attack
def push_to_the_users_repository() -> object:
    return git("push", "-q", str(ROOT), f"HEAD:refs/heads/pushed-{ROLE}") == ""


@attack
def poison_the_caches() -> object:
    for name in ("workspaces", "benches", "gates"):
        folder = WORK / "caches" / name / "PIP_CACHE_DIR"
        folder.mkdir(parents=True, exist_ok=True)
        plant(folder)
    return True


@attack
def poison_its_own_cache() -> object:
    folder = Path(os.environ.get("PIP_CACHE_DIR") or os.environ["TMPDIR"])  # an agent has none
    folder.mkdir(parents=True, exist_ok=True)
    return plant(folder)


@attack
def change_the_environment() -> object:
    """The venv that gates are judged in."""
    return plant(Path(os.environ["VIRTUAL_ENV"]) / "bin")


# ── things of git's own that would run in somebody else's call ──


@attack
def plant_a_hook() -> object:
    return _trap(Path(".git/hooks/post-index-change"), "hook")


@attack
def plant_a_file_monitor() -> object:
    return _configured("core.fsmonitor", "monitor")


@attack
def plant_a_filter() -> object:
    Path(".gitattributes").write_text("*.txt filter=planted\n")
    return _configured("filter.planted.clean", "filter")


@attack
def plant_a_diff_driver() -> object:
    return _configured("diff.external", "differ")


@attack
def plant_hooks_elsewhere() -> object:
    _trap(Path(f"hooks-{ROLE}/post-index-change"), "hookspath")
    return git("config", "core.hooksPath", str(Path(f"hooks-{ROLE}").resolve())) == ""


@attack
def plant_a_submodule() -> object:
    text = f'[submodule "x"]\n\tpath = x\n\turl = ./x\n\tupdate = !touch {TARGETS["sprung"]}/submodule\n'
    return Path(".gitmodules").write_text(text)


def _trap(path: Path, name: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {TARGETS['sprung']}/{name}-{ROLE}\nexec cat\n")
    path.chmod(0o755)
    return True


def _configured(key: str, name: str) -> bool:
    _trap(Path(f"trap-{name}-{ROLE}").resolve(), name)
    return git("config", key, str(Path(f"trap-{name}-{ROLE}").resolve())) == ""


# ── processes ──


@attack
def see_the_daemon() -> object:
    return DAEMON and Path(f"/proc/{DAEMON}/cmdline").exists()


@attack
def signal_the_daemon() -> object:
    os.kill(DAEMON, 0)
    return True


@attack
def signal_a_stranger() -> object:
    os.kill(STRANGER, 0)
    return True


@attack
def trace_a_stranger() -> object:
    attach, detach = 16, 17
    called(LIBC.ptrace(attach, STRANGER, 0, 0))
    os.waitpid(STRANGER, 0x40000000)
    return called(LIBC.ptrace(detach, STRANGER, 0, 0))


@attack
def enter_the_daemons_namespace() -> object:
    def enter() -> bool:
        handle = os.open(f"/proc/{DAEMON}/ns/mnt", os.O_RDONLY)
        return called(LIBC.setns(handle, 0)) and (HOME / ".ssh/id").exists()

    return forked(enter)


@attack
def outlive() -> object:
    return _outlive(dict(os.environ))


@attack
def outlive_without_a_mark() -> object:
    return _outlive({"PATH": os.environ["PATH"]})


def _outlive(env: dict[str, str]) -> bool:
    """A process of its own session, whose parent is gone; what it is looked for by is in its command line."""
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 3)
        os.execvpe("sleep", ["sleep", f"{TARGETS['naptime']}.{len(env) % 7}"], env)
    return True


# ── the system's own ──


@attack
def set_something_of_the_kernels() -> object:
    return can_open("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@attack
def reach_the_magic_keys() -> object:
    return can_open("/proc/sysrq-trigger", os.O_WRONLY)


@attack
def make_a_device() -> object:
    os.mknod(f"disk-{ROLE}", 0o600 | 0o060000, os.makedev(7, 0))
    return can_open(f"disk-{ROLE}", os.O_RDONLY)


@attack
def write_to_the_system() -> object:
    path = Path(f"/usr/local/planted-by-{ROLE}-{os.getpid()}")
    path.write_text("x")
    path.unlink()
    return True


@attack
def make_the_disk_writable() -> object:
    return called(LIBC.mount(b"none", b"/usr", None, MS_REMOUNT | MS_BIND, None))


@attack
def uncover_what_is_hidden() -> object:
    """As root of a namespace of its own."""

    def uncover() -> bool:
        if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0:
            called(LIBC.unshare(CLONE_NEWNS))
        for path in (HOME, HOME.parent, Path("/tmp"), Path("/root"), Path("/home")):
            LIBC.umount2(os.fsencode(path), 2)
        return (HOME / ".ssh/id").exists()

    return forked(uncover)


@attack
def reach_a_socket_of_the_users() -> object:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(TARGETS["socket"])
        return True


@attack
def reach_an_abstract_socket() -> object:
    """It belongs to the network, which is open."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(f"\0{TARGETS['abstract']}")
        return True


@attack
def reach_the_loopback() -> object:
    with socket.create_connection(("127.0.0.1", TARGETS["port"]), timeout=2):
        return True


def main() -> None:
    """Try everything."""
    for name, function in ATTACKS.items():
        try:
            print(f"got {name}" if function() else f"not {name}: nothing", flush=True)
        except Exception as error:  # noqa: BLE001
            print(f"not {name}: {error}".replace("\n", " "), flush=True)
    if ROLE == "agent":  # what it leaves in its tree goes on where that is prepared and judged
        for folder in map(Path, ("prepare", "checks")):
            folder.mkdir()
            shutil.copy(__file__, folder / "attack.py")
            shutil.copy(sys.argv[2], folder / "targets.json")


main()
