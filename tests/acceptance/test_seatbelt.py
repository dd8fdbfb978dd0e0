"""The confinement of macOS against stand-ins for `sandbox-exec`: one that confines, and those that do too little.

What a whole line does in it, and a hostile agent, is in test_sandbox.py.
"""

import sys
from pathlib import Path

import pytest

from factory.child.profile import Profile
from tests.acceptance.line import AGENT, RUNTIME, Line, files
from tests.acceptance.sandbox_exec import install
from tests.acceptance.test_sandbox import confined
from tests.child.test_seatbelt import ALL_WRONG, says
from tests.floor import tried

DIFFERENT = """
import os
import tests.acceptance.sandbox_exec as stand_in
confines, filters = stand_in.options, stand_in.filters
def words(profile, swaps={{}}, less="", more=()):
    return [*(swaps.get(word, word) for word in confines(profile) if word != less), *more]
def sockets(profile):
    found = [f"{{path}}/socket" for path in filters(profile, "deny", "file-read-data", "subpath")]
    return [word for path in found if os.path.exists(path) for word in ("--ro-bind", path, path)]
stand_in.options = lambda profile: {}
"""
LINKED = "a file of others could be written through a link"


@confined
@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("['--dev-bind', '/', '/']", ALL_WRONG),
        ("words(profile, {'0111': '0511'})", "FOLDER could be listed"),
        (
            "words(profile, {'0111': '0311', '--remount-ro': '--chdir'})",
            f"a hidden file could be written, {LINKED}",
        ),
        (
            "words(profile, {'--ro-bind': '--bind'})",
            f"a read-only file could be written, {LINKED}",
        ),
        ("words(profile, {'--bind': '--ro-bind'})", "its own folder could not be written"),
        ("words(profile, less='--unshare-pid')", "the daemon could be signalled"),
        (
            "words(profile, {'--remount-ro': '--chdir'}, more=sockets(profile))",
            "a hidden socket could be reached",
        ),
        ("words(profile, less='--unshare-net')", "the network could be reached without permission"),
        ("words(profile, more=['--unshare-net'])", "the network could not be reached"),
        (
            "words(profile, more=['--tmpfs', '/usr'])",
            "bwrap: execvp env: No such file or directory",
        ),
    ],
)
async def test_one_that_confines_too_little_or_too_much_is_off_and_says_why(
    tmp_path: Path, does: str, why: str
) -> None:
    environ = {
        "PATH": str(install(tmp_path / "bin", before=DIFFERENT.format(does))),
        "HOME": str(tmp_path),
    }

    sandbox = await tried(environ, tmp_path / "work")

    assert says(sandbox).startswith(
        f"unsandboxed, sandbox-exec does not work here ({why}): agents and gates run as"
    )
    assert (sandbox.on, sandbox.name, sandbox.confined(["true"], environ, Profile())) == (
        False,
        "off",
        (),
    )


@confined
async def test_one_that_confines_is_on(tmp_path: Path) -> None:
    environ = {"PATH": str(install(tmp_path / "bin")), "HOME": str(tmp_path)}

    sandbox = await tried(environ, tmp_path / "work")

    assert (sandbox.says, sandbox.on, sandbox.name) == ("", True, "sandbox-exec")


@confined
def test_one_that_does_not_work_is_said_and_where_it_is_required_nothing_starts(
    tmp_path: Path,
) -> None:
    line = Line(tmp_path, sandbox="required")
    line.environ["PATH"] = str(
        install(tmp_path / "tools", before=DIFFERENT.format("['--dev-bind', '/', '/']"))
    )
    try:
        code, said = line.refused()
        line.environ["FACTORY__SANDBOX__MODE"] = "auto"
        line.start()
        status = " ".join(line.factory("status")[1].split())
        mode = line.fact("sandbox")["mode"]
    finally:
        line.close()

    assert (code, mode) == (2, "off")
    assert (
        'sandbox.mode is "required", but sandbox-exec does not work here (a hidden file could be read'
        in said
    )
    assert "! unsandboxed, sandbox-exec does not work here (a hidden file could be read" in status


@confined
def test_from_one_confinement_to_the_other_a_login_is_found_and_nothing_of_its_home_is_in_the_way(
    tmp_path: Path,
) -> None:
    member = (
        RUNTIME.format(python=sys.executable, agent=AGENT)
        + 'home = [".member", ".config/member"]\n'
    )
    line = Line(
        tmp_path, files() | {"conventions/runtimes/member.toml": member}, sandbox="required"
    )
    for name in (".member", ".config/member"):
        (line.home / name).mkdir(parents=True)
        (line.home / name / "token").write_text("0")
    code = """
        for folder in (Path.home() / ".member", Path.home() / ".config/member"):
            (folder / "token").write_text(str(int((folder / "token").read_text()) + 1))
            assert {name} == folder.is_symlink()
        (Path.home() / ".config/of-its-own").touch()
        write(f"{name}-{os.environ['FACTORY_UNIT']}.txt", "x")
    """
    own = line.places.work / "homes/w1-member"
    try:
        for number, (tools, linked) in enumerate(
            [("", False), (str(install(tmp_path / "tools")), True), ("", False)]
        ):
            line.environ.pop("PATH", None)
            line.environ |= {"PATH": tools} if tools else {}
            line.start()
            line.drop(f"unit-{number}", code.replace("{name}", str(linked)), agent="member")
            line.unit(f"unit-{number}")
            assert line.fact("sandbox")["mode"] == ("sandbox-exec" if linked else "bwrap")
            assert [(own / name).is_symlink() for name in (".member", ".config/member")] == [
                linked,
                linked,
            ]
            line.stop()
    finally:
        line.close()

    assert [(line.home / name / "token").read_text() for name in (".member", ".config/member")] == [
        "3",
        "3",
    ]
    assert sorted(path.name for path in (line.home / ".config").iterdir()) == ["member"]
    assert (own / ".config/of-its-own").exists()


@confined
def test_an_agent_that_ties_knots_in_its_home_gets_a_link_again(tmp_path: Path) -> None:
    member = RUNTIME.format(python=sys.executable, agent=AGENT) + 'home = [".member"]\n'
    line = Line(
        tmp_path, files() | {"conventions/runtimes/member.toml": member}, sandbox="required"
    )
    line.environ["PATH"] = str(install(tmp_path / "tools"))
    (line.home / ".member").mkdir()
    (line.home / "victim").mkdir()
    knots = {
        "loop": "link.symlink_to(link)",
        "out": f"link.symlink_to({str(line.home / 'victim')!r})",
        "folder": "link.mkdir(); (link / 'x').touch()",
        "none": "pass",
    }
    try:
        line.start()
        for name, tie in knots.items():
            code = (
                f"link = Path.home() / '.member'; (link / {name!r}).touch(); link.unlink(); {tie}"
            )
            line.drop(name, f"{code}; write('{name}.txt', 'x')", agent="member")
            line.unit(name)
    finally:
        line.close()

    assert sorted(path.name for path in (line.home / ".member").iterdir()) == sorted(knots)
    assert list((line.home / "victim").iterdir()) == []
