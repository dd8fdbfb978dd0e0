"""Seatbelt's profiles, judged by what they say; and the trial, against stand-ins that confine too little."""

import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.child import process
from factory.child.profile import Profile
from factory.child.sandbox import Sandbox
from factory.child.seatbelt import Seatbelt
from factory.ground.errors import ConfigError
from tests.floor import tried
from tests.sbpl import allows, parse

HOSTILE = 'a "b") (allow default) (c \\'  # a folder's name, which has to stay one string


@dataclass
class Mac:
    """A user's folders, and the sandbox there, which has passed its trial."""

    folder: Path
    environ: dict[str, str]
    sandbox: Sandbox

    def profile(self, **profile: Any) -> str:
        """That of one command."""
        program, option, text, end = self.sandbox.confined(
            ["true"], self.environ, Profile(**profile)
        )
        assert (Path(program).name, option, end) == ("sandbox-exec", "-p", "--")
        return text


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    for name in (
        "bin",
        "home/.member",
        "home/.ssh",
        "work/tree",
        "work/venv",
        "work/other",
        f"work/{HOSTILE}",
    ):
        (tmp_path / name).mkdir(parents=True)
    says_so = tmp_path / "bin/sandbox-exec"  # what a trial is, is tried below
    says_so.write_text("#!/bin/sh\necho confined\n")
    says_so.chmod(0o755)
    environ = {"PATH": str(says_so.parent), "HOME": str(tmp_path / "home")}
    return Mac(tmp_path, environ, anyio.run(tried, environ, tmp_path / "work"))


READ, STAT, WRITE, UNLINK = (
    "file-read-data",
    "file-read-metadata",
    "file-write-create",
    "file-write-unlink",
)


@pytest.mark.parametrize(
    ("operation", "what", "allowed"),
    [
        (READ, "/usr/lib/libSystem.dylib", True),
        (WRITE, "/usr/lib/libSystem.dylib", False),
        (UNLINK, "{}/work/tree/a.txt", True),
        (UNLINK, "{}/work/tree", False),
        (UNLINK, "{}/home/.member", False),
        (READ, "/", True),
        (READ, "{}/home/.ssh/id", False),
        (READ, "/System/Volumes/Data{}/home/.ssh/id", False),
        (STAT, "{}/home/.ssh/id", False),
        (STAT, "{}/home", True),
        ("file-test-existence", "{}/home/.ssh/id", True),
        (READ, "{}/home", False),
        (WRITE, "{}/home/.ssh/id", False),
        (READ, "{}/home/.member/token", True),
        (WRITE, "{}/home/.member/token", True),
        (WRITE, "{}/work/tree/a.txt", True),
        (READ, "{}/work/venv/bin/python", True),
        (WRITE, "{}/work/venv/bin/python", False),
        (WRITE, "{}/work/treetop", False),
        (READ, "{}/work/other/a.txt", False),
        (WRITE, f"{{}}/work/{HOSTILE}/a.txt", True),
        (READ, "/Users/somebody/secret", False),
        (READ, "/private/tmp/secret", False),
        (READ, "/private/var/folders/secret", False),
        (READ, "/Volumes/disk/secret", False),
        (WRITE, "/private/tmp/new", False),
        (WRITE, "/dev/null", True),
        (READ, "/dev/ttys001", False),
        (WRITE, "/dev/disk0", False),
        ("process-exec", "/bin/sh", True),
        ("process-fork", "", True),
        ("signal", "same-sandbox", True),
        ("signal", "others", False),
        ("process-info-pidinfo", "same-sandbox", True),
        ("process-info-pidinfo", "others", False),
        ("sysctl-read", "hw.ncpu", True),
        ("sysctl-read", "kern.procargs2.1", False),
        ("sysctl-read", "kern.proc.all", False),
        ("mach-lookup", "com.apple.system.opendirectoryd.libinfo", True),
        ("mach-lookup", "com.apple.SecurityServer", False),
        ("mach-lookup", "com.apple.coreservices.launchservicesd", False),
        ("mach-lookup", "com.apple.pasteboard.1", False),
        ("mach-lookup", "com.apple.cfprefsd.agent", False),
        ("appleevent-send", "com.apple.finder", False),
        ("job-creation", "", False),
        ("lsopen", "", False),
        ("network-outbound", "unix-socket:{}/work/tree/socket", True),
        ("network-outbound", "unix-socket:{}/home/.member/socket", False),
        ("network-outbound", "unix-socket:/private/var/run/docker.sock", False),
    ],
)
def test_what_a_profile_allows(mac: Mac, operation: str, what: str, allowed: bool) -> None:
    work, member = mac.folder / "work", mac.folder / "home/.member"
    writes, shared = (work / "tree", work / HOSTILE), {member: work / "homes/w1/.member"}

    for network in (True, False):
        profile = mac.profile(writes=writes, reads=(work / "venv",), shared=shared, network=network)

        assert allows(profile, operation, what.replace("{}", str(mac.folder))) is allowed


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("network-outbound", "ip"),
        ("network-inbound", "ip"),
        ("network-bind", "ip"),
        (
            "network-outbound",
            "unix-socket:/private/var/run/mDNSResponder",
        ),  # it would ask the network
        ("mach-lookup", "com.apple.dnssd.service"),
        ("mach-lookup", "com.apple.trustd.agent"),
    ],
)
def test_the_network_is_open_or_none_as_declared(mac: Mac, operation: str, what: str) -> None:
    assert allows(mac.profile(), operation, what)
    assert not allows(mac.profile(network=False), operation, what)


def test_what_may_be_written_is_written_for_good(mac: Mac) -> None:
    assert allows(
        mac.profile(scratch=(mac.folder / "work/venv",)), WRITE, f"{mac.folder}/work/venv/new"
    )


def test_where_nothing_is_named_no_rule_is_for_all(mac: Mac) -> None:
    for rule in parse(mac.profile()):
        if any(str(word).startswith("file-write") for word in rule):
            assert any(isinstance(word, list) for word in rule), rule


def test_every_link_on_the_way_to_a_program_is_passed(mac: Mac) -> None:
    (mac.folder / "home/tools-1/bin").mkdir(parents=True)
    (mac.folder / "home/tools-1/bin/agent").touch()
    (mac.folder / "home/tools-1/secret").touch()
    (mac.folder / "home/tools").symlink_to("../home/latest")
    (mac.folder / "home/latest").symlink_to(mac.folder / "home/tools-1")
    (mac.folder / "home/round").symlink_to("round")

    profile = mac.profile(reads=(mac.folder / "home/tools/bin/agent", mac.folder / "home/round/x"))

    for name in ("tools", "latest", "tools-1/bin/agent"):
        assert allows(profile, READ, f"{mac.folder}/home/{name}"), name
    assert not allows(profile, READ, f"{mac.folder}/home/tools-1/secret")


def test_what_no_profile_can_name_is_not_shown_and_not_written(mac: Mac) -> None:
    odd = mac.folder / "work/a\nb"
    odd.mkdir()

    assert not allows(mac.profile(reads=(odd,)), READ, f"{odd}/a.txt")
    with pytest.raises(ConfigError, match="no profile can name"):
        mac.profile(writes=(odd,))


async def test_where_what_is_hidden_cannot_be_named_there_is_no_sandbox(mac: Mac) -> None:
    sandbox = await tried(mac.environ | {"HOME": f"{mac.folder}/a\nb"}, mac.folder / "work")

    assert sandbox.says.startswith(
        "unsandboxed, sandbox-exec does not work here (no profile can name '"
    )


def test_its_name_is_in_a_verdict_s_key_and_what_it_does_not_do_is_said(mac: Mac) -> None:
    assert (mac.sandbox.name, mac.sandbox.says, mac.sandbox.links) == ("sandbox-exec", "", True)
    assert mac.sandbox.protections == f"{Seatbelt.protections}"
    assert "no separate list of processes; no limits of memory" in mac.sandbox.protections


async def test_bubblewrap_goes_before_it(mac: Mac) -> None:
    says_so = mac.folder / "bin/bwrap"
    says_so.write_text("#!/bin/sh\necho '{ \"exit-code\": 0 }'\n")
    says_so.chmod(0o755)

    assert (await tried(mac.environ, mac.folder / "work")).name == "bwrap"


# ── how the command below it ends ──


async def test_the_stop_signal_goes_to_the_command_which_nothing_stands_before(
    tmp_path: Path,
) -> None:
    stand_in = tmp_path / "sandbox-exec"
    stand_in.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    stand_in.chmod(0o755)
    script = "trap 'exit 9' TERM; echo > ready; while :; do sleep 0.01; done"
    argv, env = ("sh", "-c", script), {"PATH": os.environ["PATH"]}

    child = await process.start(
        process.Command(
            argv=argv, cwd=tmp_path, env=env, run_dir=tmp_path / "run", within=(str(stand_in), "--")
        )
    )
    while not (tmp_path / "ready").exists():  # noqa: ASYNC110
        await anyio.sleep(0.01)
    ended = await child.stop()

    assert (ended.cause, ended.code) == ("stopped", 9)


# ── the trial ──

PASSES_ON = '#!/bin/sh\nshift 3\nexec "$@"\n'
ALL_WRONG = (  # less what only a Mac can show
    "a hidden file could be read, FOLDER could be listed, a hidden file could be written, a read-only file could be "
    "written, a file of others could be written through a link, its own folder could be replaced, the daemon "
    "could be signalled, a hidden socket could be reached"
)


def says(sandbox: Sandbox) -> str:
    """What a person is told, whichever folder comes first on this machine."""
    return re.sub(r"/\S+ could be listed", "FOLDER could be listed", sandbox.says)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (PASSES_ON, ALL_WRONG),
        ("#!/bin/sh\necho 'sandbox-exec: denied' >&2\nexit 71\n", "sandbox-exec: denied"),
        ("#!/bin/sh\nexit 65\n", "exit 65"),
        ("#!/bin/sh\necho confined\nexit 1\n", "confined"),
        ("#!/bin/sh\necho confined\necho what\n", "confined\nwhat"),
        ("#!/bin/sh\n", "exit 0"),
        ("no program", "[Errno 8] Exec format error: '{stand_in}'"),
    ],
)
async def test_a_trial_that_does_not_answer_as_it_must_is_no_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin/sandbox-exec"
    stand_in.write_text(script)
    stand_in.chmod(0o755)
    (tmp_path / "bin/python3").symlink_to(Path(sys.executable).resolve())
    (tmp_path / f"{0:0100}").mkdir()  # too long for the path of a socket
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / f"{0:0100}"))
    made, make = list[str](), tempfile.mkdtemp

    def noted(*args: Any) -> str:
        made.append(make(*args))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noted)

    sandbox = await tried({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}, tmp_path / "work")

    assert not sandbox.on
    whole = f"unsandboxed, sandbox-exec does not work here ({why.format(stand_in=stand_in)}): "
    assert says(sandbox).startswith(whole)
    with pytest.raises(ConfigError, match="sandbox-exec does not work here"):
        sandbox.check("required")
    assert [os.path.exists(folder) for folder in made] == [False]  # noqa: PTH110
