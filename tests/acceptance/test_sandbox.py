"""What agents, setups and gates can do, tried: with bubblewrap and without, judged from outside."""

import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from factory.child import process, programs
from factory.child import sandbox as sandbox_module
from factory.child.profile import Profile
from factory.store.records import CardKind, Verdict
from factory.store.unit import UnitState
from tests.acceptance.line import AGENT, RUNTIME, Line, files, line_in
from tests.acceptance.line import GATE as GATE_OF_TEXTS
from tests.acceptance.sandbox_exec import install
from tests.floor import scene_in, tried
from tests.git_repo import git

HOSTILE = Path(__file__).parent / "agents" / "hostile.py"
ROLES = ("agent", "setup", "gate")
NAPTIME = 100_000 + os.getpid()  # told apart from those of the tests beside
GATE = """\
for each in checks/*.py; do
    test ! -e "$each" || { python3 -I "$each" gate "$PWD/checks/targets.json"; exit 1; }
done
"""
SETUP = """\
# inputs: prepare/*
export VIRTUAL_ENV="$UV_PROJECT_ENVIRONMENT"
python3 -m venv --without-pip "$VIRTUAL_ENV"
for each in prepare/*.py; do
    test ! -e "$each" || python3 -I "$each" setup "$PWD/prepare/targets.json"
done
"""
CONFIG = 'agent = "hostile"\n[limits]\nattempts = 1\n[gates]\nflaky_reruns = 0\n'

# What gets through with bubblewrap: the network is open, and a setup is there to make an environment.
THROUGH = {"agent": {"reach_the_loopback", "reach_an_abstract_socket"}}
THROUGH |= {"gate": THROUGH["agent"], "setup": THROUGH["agent"] | {"change_the_environment"}}
# With sandbox-exec, which has no overlays, also what is written for good; a gate's environment is compared afterwards.
FOR_GOOD = {"poison_the_caches", "poison_its_own_cache", "change_the_environment"}
# What never does: nothing of these needs a sandbox.
NEVER = {"read_a_variable_of_the_daemons", "outlive", "outlive_without_a_mark", "plant_a_submodule"}
NEVER |= {
    "plant_a_hook",
    "plant_a_file_monitor",
    "plant_a_filter",
    "plant_a_diff_driver",
    "plant_hooks_elsewhere",
}
# What depends on the machine and on who runs it, where there is no sandbox.
MAY = {
    "trace_a_stranger",
    "enter_the_daemons_namespace",
    "set_something_of_the_kernels",
    "reach_the_magic_keys",
}
MAY |= {"make_a_device", "write_to_the_system", "make_the_disk_writable", "change_the_environment"}
MAY |= {
    "poison_the_caches",
    "poison_its_own_cache",
    "read_the_daemons_memory",
    "read_a_key_of_the_users",
}


# Calls by number, since libc has no names for them.
KEY_CALLS = (
    {"add_key": 248, "keyctl": 250}
    if os.uname().machine == "x86_64"
    else {"add_key": 217, "keyctl": 219}
)


def keep_a_key() -> None:
    """Put a key into a session keyring of this process, which a daemon started from it inherits, where that works."""
    libc, join, session = ctypes.CDLL(None), 1, -3
    libc.syscall(KEY_CALLS["keyctl"], join, None)
    libc.syscall(KEY_CALLS["add_key"], b"user", b"factoryd-test", b"secret", 6, session)


def bubblewrap() -> bool:
    """Whether it works on this machine."""
    argv = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    return bool(shutil.which("bwrap")) and subprocess.run(argv, capture_output=True).returncode == 0


confined = pytest.mark.skipif(
    not bubblewrap(), reason="bubblewrap is not installed, or does not work here"
)
MODES = [pytest.param("required", marks=confined), "off"]
CONFINERS = [pytest.param(name, marks=confined) for name in ("bwrap", "sandbox-exec")]


def on_path(line: Line) -> None:
    """Let the line find this Python, wherever it lies, by its real name."""
    line.environ["PATH"] = os.pathsep.join(
        [line.environment()["PATH"], str(Path(sys.base_prefix) / "bin")]
    )


@dataclass
class Attacked:
    """What came of all attacks in one mode: role → name → whether it got through, with what the attacker said."""

    line: Line
    by: str  # what confines
    got: dict[str, dict[str, bool]]
    said: dict[str, dict[str, str]]


@pytest.fixture(scope="module", params=[*CONFINERS, "off"])
def attacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    """A line whose agent is hostile, and leaves its attacks to setup and gate as well."""
    folder = tmp_path_factory.mktemp("hostile")
    targets = folder / "targets.json"
    contents = {
        "conventions/gates/10-check.sh": GATE,
        "conventions/workspace/setup.sh": SETUP,
        "conventions/runtimes/hostile.toml": f'command = ["python3", "-I", "{HOSTILE}", "agent", "{targets}"]\n',
        "factory.toml": CONFIG,
        "a.txt": "a\n",
    }
    line = Line(folder, contents, sandbox="off" if request.param == "off" else "required")
    on_path(line)
    if request.param == "sandbox-exec":
        line.environ["PATH"] = str(install(folder / "tools"))
    keep_a_key()
    line.environ["PATH"] += f":{line.home}"  # a program of the user's there does not show all of it
    unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    short = tempfile.TemporaryDirectory(
        dir="/tmp"
    )  # `folder` may lie elsewhere, and too deep for a socket
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as tcp,
        closing(unix),
        closing(abstract),
        short as name,
    ):
        tmp = Path(name)
        for each, address in ((unix, f"{tmp}/socket"), (abstract, f"\0{tmp}")):
            each.bind(address)
            each.listen()
        stranger = subprocess.Popen(["sleep", "600"])
        try:
            line.start(SECRET_OF_THE_DAEMON="secret")
            targets.write_text(json.dumps(furnish(line, stranger.pid, tcp.getsockname()[1], tmp)))
            allowed = "---\nallow: [edit-gates, edit-agents]\n---\n"  # else the files of its traps are asked about
            line.drop_text("attack", f"{allowed}Attack.\n")
            line.unit("attack", UnitState.HELD)
            said = {role: told(line, role) for role in ROLES}
            yield Attacked(
                line,
                request.param,
                {role: outcome(line, role, said[role], tmp) for role in ROLES},
                said,
            )
        finally:
            stranger.kill()
            stranger.wait()
            line.close()


def furnish(line: Line, stranger: int, port: int, tmp: Path) -> dict[str, object]:
    """Lay out what is to be attacked."""
    secrets = [line.home / ".ssh/id", line.root / "uncommitted.txt", tmp / "secret"]
    work = line.places.work
    secrets += [
        work / "workspaces/w9/tree/secret",
        work / "benches/b9/tree/secret",
        work / "homes/w9-other/secret",
    ]
    secrets += [line.places.run_dir("other", 1) / "output.log"]
    for path in secrets:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret\n")
    for path in (line.home / "linked", line.root / ".git/hooks", line.folder / "sprung"):
        path.mkdir(exist_ok=True)
    return {
        "home": str(line.home),
        "root": str(line.root),
        "work": str(work),
        "other": str(tmp),
        "sprung": str(line.folder / "sprung"),
        "socket": f"{tmp}/socket",
        "abstract": str(tmp),
        "object": git(line.root, "hash-object", "-w", "uncommitted.txt"),
        "commit": line.begin,
        "pid": line.daemon.pid if line.daemon else 0,
        "stranger": stranger,
        "port": port,
        "naptime": NAPTIME,
        "keyctl": KEY_CALLS["keyctl"],
    }


def told(line: Line, role: str) -> dict[str, str]:
    """What the attacker says of each of its attacks."""
    judged = line.places.judged
    logs = {
        "agent": [line.places.run_dir("attack", 1) / "output.log"],
        "setup": sorted(judged.glob("b*-setup/output.log")),
        "gate": sorted(judged.glob("b*-10-check/output.log")),
    }
    lines = "".join(path.read_text() for path in logs[role]).splitlines()
    return {
        found[2]: found[1] for each in lines if (found := re.match(r"((?:got|not) (\w+).*)", each))
    }


def outcome(line: Line, role: str, said: dict[str, str], tmp: Path) -> dict[str, bool]:
    """What really came of them: what could leave something is looked for where that would lie."""
    known = {name: sentence.startswith("got ") for name, sentence in said.items()}
    work, own = line.places.work, line.places.git
    folders = {
        "write_to_the_users_home": line.home,
        "write_to_the_checkout": line.root,
        "write_a_hook_of_the_users": line.root / ".git/hooks",
        "write_to_the_inbox": line.root / "inbox",
        "write_beside_the_store": line.places.home,
        "write_objects_of_the_factory": own / "objects/info",
        "write_to_another_workspace": work / "workspaces/w9/tree",
        "write_to_another_bench": work / "benches/b9/tree",
        "write_to_tmp": tmp,
        "write_through_a_link": line.home / "linked",
        "write_beside_its_own_tree": work / ("workspaces/w1" if role == "agent" else "benches/b1"),
        "change_the_environment": work / "benches/b1/venv/bin",
    }
    planted = {name: (folder / f"planted-by-{role}").exists() for name, folder in folders.items()}
    caches = {
        path.relative_to(work / "caches").parts[0]
        for path in work.glob(f"caches/*/*/planted-by-{role}")
    }
    planted["poison_the_caches"] = bool(caches - {"workspaces"})  # those of benches and gates
    planted["poison_its_own_cache"] = bool(caches - {"workspaces"})
    planted["write_the_users_git_config"] = f"by-{role}" in (line.root / ".git/config").read_text()
    users, factorys = (git(at, "for-each-ref", "--format=%(refname)") for at in (line.root, own))
    planted["move_a_ref_of_the_users"] = f"moved-{role}" in users
    planted["push_to_the_users_repository"] = f"pushed-{role}" in users
    planted["move_a_ref_of_the_factorys"] = f"refs/planted/{role}" in factorys
    sprung = {path.name for path in (line.folder / "sprung").iterdir()}
    traps = {"hook": "plant_a_hook", "monitor": "plant_a_file_monitor", "filter": "plant_a_filter"}
    traps |= {
        "differ": "plant_a_diff_driver",
        "hookspath": "plant_hooks_elsewhere",
        "submodule": "plant_a_submodule",
    }
    planted |= {name: bool(sprung & {trap, f"{trap}-{role}"}) for trap, name in traps.items()}
    planted["outlive"] = planted["outlive_without_a_mark"] = sleepers()
    return known | {name: there for name, there in planted.items() if name in known}


def sleepers() -> bool:
    """Whether anything sleeps that an attack began."""
    sought = f"sleep\0{NAPTIME}.".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().startswith(sought))
        except OSError:
            continue
    return any(found)


@pytest.mark.parametrize("role", ROLES)
def test_what_gets_through(attacked: Attacked, role: str) -> None:
    tried = set(re.findall(r"^@attack\ndef (\w+)", HOSTILE.read_text(), re.MULTILINE))
    got = {name for name, through in attacked.got[role].items() if through}

    assert attacked.got[role].keys() == tried
    assert len(tried) >= 40
    if attacked.by == "off":
        assert tried - NEVER - MAY <= got <= tried - NEVER, attacked.said[role]
    else:
        for_good = FOR_GOOD if attacked.by == "sandbox-exec" and role != "agent" else set()
        assert got == THROUGH[role] | for_good, [attacked.said[role][name] for name in got]


def test_what_is_on_is_said(attacked: Attacked) -> None:
    assert attacked.line.fact("sandbox")["mode"] == attacked.by
    assert ("! unsandboxed" in attacked.line.factory("status")[1]) is (attacked.by == "off")


# ── one line, confined ──


@pytest.fixture(scope="module", params=["bwrap", "sandbox-exec"])
def shut(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Line]:
    """A confined line with scripted agents."""
    folder = tmp_path_factory.mktemp("shut")
    contents = files(factory__toml="") | {
        "factory.toml": 'agent = "scripted"\nworkers = 1\n[limits]\nattempts = 1\n',
        "conventions/runtimes/alone.toml": RUNTIME.format(python=sys.executable, agent=AGENT)
        + 'network = "none"\n',
        "conventions/runtimes/member.toml": RUNTIME.format(python=sys.executable, agent=AGENT)
        + 'home = [".member", "$MEMBER_HOME", ".absent"]\nenv = ["MEMBER_*", "XDG_*", "A_FILE"]\n'
        + 'files = { ".tool/settings" = "as told" }\nkeep = [".tool/sessions/*"]\n',
    }
    line = Line(folder, contents, sandbox="required")
    if request.param == "sandbox-exec":
        line.environ["PATH"] = str(install(folder / "tools"))
    for name in ("home/.member", "elsewhere/member"):
        (folder / name).mkdir(parents=True)
        (folder / name / "token").write_text("1")
    (folder / "certificate").write_text("c")
    elsewhere = {
        "MEMBER_HOME": str(folder / "elsewhere/member"),
        "A_FILE": str(folder / "certificate"),
    }
    try:
        yield line.start(**elsewhere, XDG_DATA_HOME=str(folder / "home/.data"))
    finally:
        line.close()


@confined
def test_a_login_that_is_replaced_is_the_user_s_and_all_else_of_its_home_is_its_own(
    shut: Line,
) -> None:
    code = """
        home = Path.home()
        for folder in (home / ".member", Path(os.environ["MEMBER_HOME"])):
            (folder / "new").write_text(str(int((folder / "token").read_text()) + 1))
            (folder / "new").replace(folder / "token")
        assert Path(os.environ["A_FILE"]).read_text() == "c"
        assert "XDG_DATA_HOME" not in os.environ
        (home / ".tool/sessions").mkdir(parents=True, exist_ok=True)
        counts = [home / name for name in ("seen", ".tool/sessions/seen")]
        for each in counts:
            each.write_text(each.read_text() + "+" if each.exists() else "+")
        write(f"seen-{len(counts[0].read_text())}-{len(counts[1].read_text())}.txt", "x")
    """
    shut.drop("first", code, agent="member")
    shut.unit("first")
    shut.drop("second", code, agent="member")
    shut.unit("second")

    assert [
        (shut.folder / name / "token").read_text() for name in ("home/.member", "elsewhere/member")
    ] == ["3", "3"]
    assert sorted(path.name for path in shut.root.glob("seen-*")) == [
        "seen-1-1.txt",
        "seen-1-2.txt",
    ]
    assert not (shut.home / "seen").exists()
    assert not (shut.home / ".absent").exists()


@confined
def test_a_link_that_an_agent_leaves_in_place_of_a_login_leads_nowhere(shut: Line) -> None:
    victim = shut.home / "victim"
    victim.mkdir()
    code = f"(Path.home() / '.absent').symlink_to({str(victim)!r}); write('l.txt', 'x'); Path.home().chmod(0)"
    shut.drop("links", code, agent="member")
    shut.unit("links")
    (shut.home / ".absent").mkdir()
    shut.drop(
        "follows",
        "(Path.home() / '.absent/x').write_text('x'); write('f.txt', 'x')",
        agent="member",
    )
    shut.unit("follows")

    assert [path.name for path in (shut.home / ".absent").iterdir()] == ["x"]
    assert list(victim.iterdir()) == []


@confined
def test_the_files_of_a_runtime_are_in_its_home_at_each_start_and_nowhere_else(shut: Line) -> None:
    victim = shut.home / "settled"
    victim.mkdir()
    code = f"""
        folder = Path.home() / ".tool"
        write("{{0}}.txt", (folder / "settings").read_text())
        folder.rename(Path.home() / "{{0}}")
        folder.symlink_to({str(victim)!r})
    """
    for name in ("settles", "settles-again"):
        shut.drop(name, code.replace("{0}", name), agent="member")
        shut.unit(name)

    assert [(shut.root / f"{name}.txt").read_text() for name in ("settles", "settles-again")] == [
        "as told"
    ] * 2
    assert list(victim.iterdir()) == []
    assert not (shut.home / ".tool").exists()


@confined
def test_without_a_network_nothing_is_reached(shut: Line) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2); write('{name}.txt', 'x')"
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        shut.drop("open", code.format(port=port, name="open"))
        shut.drop("alone", code.format(port=port, name="alone"), agent="alone")
        shut.unit("open")
        held = shut.unit("alone", UnitState.HELD)

    assert shut.attempts(held.id) == ["crashed"]
    shut.answer(shut.card(CardKind.ATTEMPTS_EXHAUSTED), "Cancel")


@confined
@pytest.mark.parametrize("shut", ["bwrap"], indirect=True)
def test_memory_that_is_a_disk_has_an_end(shut: Line) -> None:
    code = """
        for name in ("/tmp", "/dev/shm"):
            about = os.statvfs(name)
            assert about.f_blocks * about.f_frsize <= 512 << 20
        assert not os.access("/dev", os.W_OK)
        write("bounded.txt", "x")
    """
    shut.drop("bounded", code)
    shut.unit("bounded")


@confined
def test_its_stop_signal_reaches_a_confined_agent(shut: Line) -> None:
    code = """
        import signal
        def leave_in_order(*_):
            write("last.txt", "tidy")
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave_in_order)
        print("ready", flush=True)
        time.sleep(30)
    """
    shut.drop("orderly", code)
    log = shut.places.run_dir("orderly", 1) / "output.log"
    shut.until("it is ready", lambda: log.exists() and "ready" in log.read_text())
    assert shut.factory("cancel", "orderly")[0] == 0
    shut.unit("orderly", UnitState.CANCELLED)
    shut.until("its end is on record", lambda: shut.attempts("orderly") == ["cancelled"])

    assert (
        shut.git(
            "--git-dir", str(shut.places.git), "show", "refs/factory/attempts/orderly/1:last.txt"
        )
        == "tidy"
    )


@confined
def test_a_program_that_is_not_there_is_as_little_there_when_confined(shut: Line) -> None:
    shut.drop_text("no-shell", "---\nrun: no-such-program-anywhere\n---\nx\n")
    shut.unit("no-shell", UnitState.HELD)

    assert "not found" in (shut.places.run_dir("no-shell", 1) / "output.log").read_text()
    shut.answer(shut.card(CardKind.ATTEMPTS_EXHAUSTED), "Cancel")


@confined
async def test_a_script_whose_interpreter_is_not_there_cannot_be_started_when_confined_either(
    tmp_path: Path,
) -> None:
    program = tmp_path / "agent"
    program.write_text("#!/no/such\n")
    program.chmod(0o755)
    sandbox = await tried({**os.environ}, tmp_path)
    within = sandbox.confined([str(program)], {}, Profile(reads=(program,)))

    child = await process.start(
        process.Command(
            argv=(str(program),), cwd=tmp_path, env={}, run_dir=tmp_path / "run", within=within
        )
    )
    ended = await child.wait()

    assert (ended.cause, ended.detail) == ("unstartable", f"No such file or directory: {program}")


@confined
@pytest.mark.parametrize("what", ["gates", "agents"])
def test_a_sandbox_that_fails_is_nobody_s_fault_and_one_card(tmp_path: Path, what: str) -> None:
    broken = {"gates": "*caches/gates*", "agents": "*outbox*"}[what]
    with line_in(tmp_path, sandbox="auto") as line:
        line.drop("first", "write('first.txt', 'x')")
        line.unit("first")
        (line.folder / "state/factoryd").chmod(0o700)
        real = shutil.which("bwrap")
        ours = line.bin / "bwrap"
        ours.write_text(
            f'#!/bin/sh\ncase "$*" in {broken}) echo \'bwrap: no\'; exit 1;; esac\nexec {real} "$@"\n'
        )
        ours.chmod(0o755)
        line.stop()
        line.start()
        for name in ("one", "two"):
            line.drop(name, f"write('{name}.txt', 'x')")
            line.unit(name, UnitState.WAITING)
        card = line.card(CardKind.SETUP)
        ours.unlink()
        ours.symlink_to(str(real))
        line.answer(card, "Try again")
        for name in ("one", "two"):
            line.unit(name)

        assert (
            "Nothing can be judged or started: the sandbox did not start a command: bwrap: no."
            in card.question
        )
        assert "gate_red" not in line.attempts("one") + line.attempts("two")


@confined
def test_what_a_gate_writes_into_its_environment_is_gone(tmp_path: Path) -> None:
    gate = '#!/bin/sh\ntest ! -e "$VIRTUAL_ENV/bin/left" && touch "$VIRTUAL_ENV/bin/left" node_modules/left\n'
    contents = files() | {
        "conventions/gates/10-whole.sh": gate,
        "conventions/workspace/setup.sh": "# keeps: node_modules\n"
        'python3 -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"\nmkdir node_modules\n',
        "conventions/runtimes/scripted.toml": RUNTIME.format(python=sys.executable, agent=AGENT),
    }
    line = Line(tmp_path, contents, sandbox="required")
    on_path(line)
    try:
        line.start()
        for name in ("one", "two"):
            line.drop(name, f"write('{name}.txt', 'x')")
            line.unit(name)
        assert not list(line.places.work.glob("benches/*/venv/bin/left"))
        assert not list(line.places.work.glob("benches/*/tree/node_modules/left"))
    finally:
        line.close()


@confined
def test_what_the_code_of_one_gate_does_to_the_checkout_no_gate_beside_it_sees(
    tmp_path: Path,
) -> None:
    gates = {
        "conventions/gates/10-tests.sh": 'for each in t*.sh; do test ! -e "$each" || sh "$each"; done\n',
        "conventions/gates/10-whole.sh": f"for _ in $(seq 100); do test -e done || sleep 0.01; done\n{GATE_OF_TEXTS}",
    }
    with line_in(tmp_path, files() | gates, sandbox="required") as line:
        line.drop(
            "hides",
            "write('bad.txt', 'BROKEN'); write('t.sh', 'rm bad.txt; touch done\\n')",
            attempts=1,
        )
        line.unit("hides", UnitState.HELD)
        reds = {each.gate: each.rewrote for each in line.store.select(Verdict) if not each.ok}

    assert reds == {"10-tests": ("bad.txt",), "10-whole": ()}


@confined
async def test_a_program_that_cannot_even_be_looked_at_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/odd").symlink_to(
        tmp_path / ("x" * 300)
    )  # as one that leads into another user's HOME is, for a user
    environ = {
        "PATH": os.pathsep.join([os.environ["PATH"], str(tmp_path / "bin")]),
        "HOME": str(tmp_path / "home"),
    }
    sandbox = await tried(environ, tmp_path / "work")

    words = sandbox.confined(["true"], environ, Profile())

    assert subprocess.run([*words, "true"], env=environ).returncode == 0


@confined
async def test_a_linked_program_that_is_not_hidden_needs_no_mount(tmp_path: Path) -> None:
    link = next(each for each in Path("/usr/bin").iterdir() if each.is_symlink() and each.is_file())
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    sandbox = await tried(environ, tmp_path / "work")

    words = sandbox.confined(["true"], environ, Profile(reads=(link,)))

    assert subprocess.run([*words, "test", "-e", str(link)], env=environ).returncode == 0


@confined
async def test_links_on_the_way_to_what_is_hidden_lead_there_inside(tmp_path: Path) -> None:
    (tmp_path / "disk/state/work").mkdir(parents=True)
    (tmp_path / "disk/user/tools-1/bin").mkdir(parents=True)
    (tmp_path / "user").symlink_to("disk/user")
    (tmp_path / "user/state").symlink_to(tmp_path / "disk/state")
    (tmp_path / "user/tools").symlink_to("tools-1")
    program, work = tmp_path / "user/tools/bin/agent", tmp_path / "user/state/work"
    program.write_text("#!/bin/sh\necho written > $HOME/said\n")
    program.chmod(0o700)
    environ = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "user")}
    sandbox = await tried(environ, work)

    for argv in (["agent"], [str(program)]):
        words = sandbox.confined(argv, environ, Profile(writes=(work,)))

        assert subprocess.run([*words, *argv], env=environ | {"HOME": str(work)}).returncode == 0
        assert (work / "said").read_text() == "written\n"


async def test_the_store_is_hidden_where_a_link_leads_to_it_and_so_are_other_factories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "HIDDEN", ())
    (tmp_path / "disk").mkdir()
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/.factory").symlink_to(tmp_path / "disk")

    async with scene_in(tmp_path) as scene:
        assert scene.floor.sandbox.is_hidden(tmp_path / "disk/store.sqlite")
        assert scene.floor.sandbox.is_hidden(scene.state.places.work.parent / "other/homes")
        assert not scene.floor.sandbox.is_hidden(tmp_path)


@confined
async def test_a_script_finds_what_interprets_it(tmp_path: Path) -> None:
    (tmp_path / "hidden/bin").mkdir(parents=True)
    (tmp_path / "hidden/bin/shell").symlink_to("/bin/sh")
    program = tmp_path / "scripts/agent"
    program.parent.mkdir()
    program.write_text(f"#!{tmp_path}/hidden/bin/shell -e\nexit 3\n")
    program.chmod(0o700)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    sandbox = await tried(environ, tmp_path / "work")

    words = sandbox.confined([str(program)], environ, Profile())

    assert subprocess.run([*words, program], env=environ).returncode == 3


@confined
async def test_what_holds_all_that_is_private_is_not_shown_whoever_names_it(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NVM_DIR": str(tmp_path)}
    sandbox = await tried(environ, tmp_path / "work")

    words = sandbox.confined(
        ["true"], environ, Profile(reads=(Path("/tmp"), tmp_path, tmp_path / "link"))
    )

    assert subprocess.run([*words, "test", "-e", tmp_path / "secret"], env=environ).returncode == 1


@confined
async def test_links_that_lead_round_end(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    environ = {"PATH": f"{os.environ['PATH']}:{tmp_path}", "HOME": "/nowhere"}
    sandbox = await tried(environ, tmp_path / "work")

    words = sandbox.confined(["true"], environ, Profile(reads=(tmp_path / "one",)))

    assert subprocess.run([*words, "true"], env=environ).returncode == 0


@confined
async def test_a_folder_of_programs_is_looked_through_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, links = list[str](), programs._links_in

    def look(folder: Path) -> Iterator[Path]:
        looked.append(folder.name)
        return links(folder)

    monkeypatch.setattr(programs, "_links_in", look)
    for name in ("one", "two", "all"):
        (tmp_path / name).mkdir()
    sandbox = await tried({"PATH": "/usr/bin"}, tmp_path)

    def confine() -> list[str]:
        looked.clear()
        for name in ("one", "two"):
            sandbox.confined(["true"], {"PATH": f"{tmp_path / name}:{tmp_path / 'all'}"}, Profile())
        return [name for name in looked if name in ("one", "two", "all")]

    assert confine() == ["one", "all", "two"]
    assert confine() == []
    (tmp_path / "all/new").symlink_to("/nowhere")
    assert confine() == ["all"]


# ── where it does not work ──


async def test_where_all_would_be_hidden_that_is_said(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": "/"}
    sandbox = await tried(environ, tmp_path)

    assert sandbox.says.startswith("unsandboxed, HOME is /, which cannot be hidden: ")


@confined
async def test_whether_there_are_overlays_is_known_before_the_first_start(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    told = []
    for work in (tmp_path, tmp_path / "later/work"):
        sandbox = await tried(environ, work)
        told.append(sandbox.protections)

    assert told[0] == told[1]


def test_a_sandbox_that_does_not_work_is_said_and_one_that_is_required_refuses_to_start(
    tmp_path: Path,
) -> None:
    line = Line(tmp_path, sandbox="required")
    (line.bin / "bwrap").write_text(
        "#!/bin/sh\necho 'No permissions to create a namespace' >&2\nexit 1\n"
    )
    (line.bin / "bwrap").chmod(0o755)
    try:
        code, said = line.refused()
        line.environ["FACTORY__SANDBOX__MODE"] = "auto"
        line.start()
        says = line.fact("sandbox")["says"]
        line.environ.pop("FACTORY__SANDBOX__MODE")
        line.stop()
        line.start()
        line.configure(f"{CONFIG}[sandbox]\nmode = 'required'\n")
        card = line.card(CardKind.CONFIG)
    finally:
        line.close()

    assert code == 2
    assert (
        'sandbox.mode is "required", but bubblewrap does not work here (No permissions to create a'
        in said
    )
    assert says.startswith("unsandboxed, bubblewrap does not work here (No permissions")
    assert 'sandbox.mode is "required"' in card.question + card.evidence


# ── limits ──

USES = {
    "memory": ("x = bytearray(400_000_000); time.sleep(30)", "GB of memory, of 0.2 allowed"),
    "shared memory": (
        "import mmap; x = mmap.mmap(-1, 400_000_000)\nfor _ in range(40): x.write(b'x' * 10_000_000)\ntime.sleep(30)",
        "GB of memory, of 0.2 allowed",
    ),
    "disk": (
        "for n in range(30): write(f'{n}.bin', 'x' * 10_000_000)\ntime.sleep(30)",
        "GB of disk, of 0.1 allowed",
    ),
    "processes": (
        "import subprocess; all = [subprocess.Popen(['sleep', '30']) for _ in range(150)]; time.sleep(30)",
        "processes, of 60 allowed",
    ),
    "cpu": (  # most of it by children that have ended
        "import subprocess\nwhile True: subprocess.run(['sh', '-c', 'i=0; until [ $i = 99999 ]; do i=$((i+1)); done'])",
        "minutes of CPU time, of 0.05 allowed",
    ),
}


@pytest.fixture(scope="module", params=MODES)
def narrow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Line]:
    """A line with little room."""
    limits = "attempts = 1\nmemory_gb = 0.2\ndisk_gb = 0.1\nprocesses = 60\ncpu_minutes = 0.05\n"
    contents = files(factory__toml="") | {"factory.toml": f'agent = "scripted"\n[limits]\n{limits}'}
    with line_in(tmp_path_factory.mktemp("narrow"), contents, sandbox=request.param) as line:
        yield line


BEGINS = "write('begun.txt', 'fine')"  # an agent that ends at once and does nothing, unit after unit, would rest


@pytest.mark.parametrize("what", USES)
def test_who_uses_too_much_is_ended_and_told_so(narrow: Line, what: str) -> None:
    code, why = USES[what]
    name = narrow.drop(what.replace(" ", "-"), f"{BEGINS}\n{code}")
    held = narrow.unit(name, UnitState.HELD)
    attempt = narrow.attempt(name)

    assert narrow.attempts(held.id) == ["crashed"]
    assert re.fullmatch(
        rf"it used too much and was ended \([\d.]+ {re.escape(why)}\)", attempt.detail
    )
    assert attempt.end
    assert (attempt.end - attempt.start).total_seconds() < 60, "far below the limit of an attempt"
    narrow.factory("cancel", name)


def test_a_file_that_is_too_large_is_not_written(narrow: Line) -> None:
    narrow.drop("large", f"{BEGINS}\nwith open('large', 'wb') as f: f.truncate(150_000_000)")
    narrow.unit("large", UnitState.HELD)

    assert "File too large" in (narrow.places.run_dir("large", 1) / "output.log").read_text()
    narrow.factory("cancel", "large")


def test_a_gate_that_uses_too_much_is_red_and_says_why(narrow: Line) -> None:
    narrow.commit(
        {
            "conventions/gates/20-hungry.sh": "test ! -e hungry || tail -c 400000000 /dev/zero | tail | sleep 30\n"
        }
    )
    narrow.drop("hungry", "write('hungry', 'x')")
    narrow.unit("hungry", UnitState.HELD)

    (verdict,) = [each for each in narrow.store.select(Verdict, gate="20-hungry") if not each.ok]
    assert "[ended: it used too much: " in verdict.tail
