"""Environments: what is around a command, when one is made anew, and the traps in which a wrong thing would pass."""

import os
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from factory.inference.rules import Setup
from factory.judging import scratch
from factory.judging.commands import Commands, Order
from factory.judging.environments import Environments
from factory.judging.machine import Machine, ports
from factory.judging.place import Place
from factory.judging.run_dir import TAIL_BYTES
from factory.judging.setups import SetupFailed
from factory.judging.standing import Ready
from tests.floor import unconfined, underway
from tests.git_repo import write

BARE = ("{python}", "-I", "-m", "venv", "--without-pip", "{venv}")
SITE = 'site=$(echo "$VIRTUAL_ENV"/lib/python*/site-packages)\n'
NOTHING = Setup()


class World:
    """An Environments with a place of its own, in a temporary folder."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.passed: tuple[str, ...] = ()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "person"),
            "LANG": "C.UTF-8",
        } | environ
        self.machine = Machine(
            environ=self.environ,
            root=folder / "checkout",
            caches=folder / "caches",
            passed=lambda: self.passed,
        )
        self.commands = Commands(
            machine=self.machine, underway=underway(folder), sandbox=unconfined()
        )
        self.environments = Environments(self.commands)
        self.place = self.at("b1")

    def at(self, name: str) -> Place:
        folder = self.folder / "benches" / name
        place = Place(folder, 7, contents=partial(all_in, folder / "tree"))
        place.tree.mkdir(parents=True, exist_ok=True)
        return place

    async def ready(
        self, setup: Setup, place: Place | None = None, *, verify: bool = True
    ) -> Ready:
        (place or self.place).keeps = setup.dependencies
        made = await self.environments.ready(place or self.place, setup, verify=verify)
        assert isinstance(made, Ready), made
        return made

    async def passes(self, argv: tuple[str, ...]) -> bool:
        run = self.commands.underway.fresh(self.place.folder, "trap")
        return (await self.commands.run(Order(argv=argv, seconds=60), self.place, run)).ok

    async def refused(self, setup: Setup, place: Place | None = None) -> SetupFailed:
        place = place or self.place
        place.keeps = setup.dependencies
        failed = await self.environments.ready(place, setup)
        assert isinstance(failed, SetupFailed)
        assert not place.stamp.exists()
        return failed


async def all_in(tree: Path) -> dict[str, str]:
    """Stands for a listing of git's, as if everything were tracked."""
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(tree)): path.read_text(errors="replace") for path in files}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def scripted(text: str, *, inputs: tuple[str, ...] = (), keeps: tuple[str, ...] = ()) -> Setup:
    return Setup(
        kind="script",
        script=text,
        inputs=inputs,
        keeps=keeps,
        reason="conventions/workspace/setup.sh",
    )


def python(text: str, *, inputs: tuple[str, ...] = ()) -> Setup:
    return Setup(
        kind="script", commands=(BARE,), script=SITE + text, inputs=inputs, reason="setup.sh"
    )


# ── what is around a command ──


def test_a_command_sees_what_was_captured_and_passed_and_nothing_else_of_ours(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, SECRET="s", TOKEN="t", PYTHONPATH="/x", USER="ada", TMPDIR="/elsewhere")
    world.passed = ("TOKEN", "ABSENT")

    env = world.machine.variables(world.place, judging=True)

    assert (env["TOKEN"], env["USER"], env["LANG"]) == ("t", "ada", "C.UTF-8")
    assert not {"SECRET", "PYTHONPATH", "ABSENT", "VIRTUAL_ENV"} & env.keys()
    assert (env["HOME"], env["TMPDIR"]) == (str(world.place.home), str(world.place.tmp))
    assert env["TMPPREFIX"] == f"{world.place.tmp}/zsh"
    assert ports(7).items() <= env.items()
    assert env["FACTORY_PORT"] == "20700"


def test_gates_share_no_cache_with_setups(world: World) -> None:
    gates = world.machine.variables(world.place, judging=True)
    setup = world.machine.variables(world.place)

    assert gates["PIP_CACHE_DIR"] != setup["PIP_CACHE_DIR"]
    assert gates["PYTHONDONTWRITEBYTECODE"] == "1"
    assert "PYTHONDONTWRITEBYTECODE" not in setup


def test_tools_of_the_checkout_of_a_venv_and_of_factoryd_are_not_on_path(tmp_path: Path) -> None:
    folders = [
        tmp_path / "checkout/.venv/bin",
        tmp_path / "active/bin",
        Path(sys.prefix) / "bin",
        Path("/usr/bin"),
    ]
    path = os.pathsep.join([*map(str, folders), "node_modules/.bin", "", "."])
    world = World(tmp_path, PATH=path, VIRTUAL_ENV=str(tmp_path / "active"))

    found = world.machine.variables(world.place)["PATH"].split(os.pathsep)

    own = [str(Path(sys.prefix) / "bin")] if sys.prefix == sys.base_prefix else []
    assert found == [str(world.place.venv / "bin"), *own, "/usr/bin"]


def test_toolchains_in_the_person_s_home_are_found(world: World) -> None:
    (world.folder / "person/.rustup").mkdir(parents=True)

    env = world.machine.variables(world.place)

    assert env["RUSTUP_HOME"] == str(world.folder / "person/.rustup")
    assert "VOLTA_HOME" not in env


async def test_home_and_tmp_are_empty_after_a_refresh_and_a_link_planted_there_is_not_followed(
    world: World,
) -> None:
    write(world.folder, {"elsewhere/mine": "x", "benches/b1/tmp/old": "x"})
    world.place.home.symlink_to(world.folder / "elsewhere")

    scratch.empty(world.place)

    assert not world.place.home.is_symlink()
    assert not [*world.place.home.iterdir(), *world.place.tmp.iterdir()]
    assert (world.folder / "elsewhere/mine").exists()


# ── when it is made ──


async def test_an_input_that_leads_out_of_the_tree_is_not_read(world: World) -> None:
    write(world.place.tree, {"deps.txt": "1"})
    setup = scripted("echo made >> ../made\n", inputs=("*.txt", "folder/*"))
    (world.place.tree / "closed.txt").symlink_to("/proc/self/mem")
    (world.place.tree / "folder").symlink_to("/proc/self")

    first = await world.environments.ready(world.place, setup)
    again = await world.environments.ready(world.place, setup)

    assert isinstance(first, Ready)
    assert isinstance(again, Ready)
    assert (world.place.folder / "made").read_text() == "made\n"


async def test_inputs_are_compared_by_the_ids_of_their_content_and_not_read(world: World) -> None:
    """Of any size, behind links of the tree, and where links lead in a circle."""
    tree, ids = world.place.tree, {"big.lock": "1", "real/a.txt": "1", "closed.txt": "1"}
    write(tree, {"real/a.txt": "x", "closed.txt": "x", "untracked.txt": "x"})
    with (tree / "big.lock").open("wb") as file:
        file.truncate(1 << 43)
    (tree / "closed.txt").chmod(0)
    (tree / "link").symlink_to("real")
    (tree / "loop.txt").symlink_to("loop.txt")
    (tree / "circle").symlink_to("circle/further")
    setup = scripted("true", inputs=("*.lock", "*.txt", "link/*", "circle/*", "circle/**/*.txt"))

    async def listed() -> dict[str, str]:
        return ids

    place = Place(world.place.folder, contents=listed)
    asked = [(await world.environments.asked(place, setup)).dependencies]
    for changed in [*ids, "untracked.txt"]:
        ids[changed] = "2"
        asked.append((await world.environments.asked(place, setup)).dependencies)
    (tree / "new.txt").write_text("nobody tracks it")

    assert len(set(asked)) == 5
    assert (await world.environments.asked(place, setup)).dependencies == asked[-1]


async def test_an_environment_is_made_once_while_what_it_read_is_unchanged(world: World) -> None:
    setup = scripted("echo made >> ../made\n", inputs=("deps*.txt",))
    write(world.place.tree, {"deps.txt": "1", "other.txt": "1"})
    first = await world.ready(setup)
    write(world.place.tree, {"other.txt": "2"})

    second = await world.ready(setup)

    assert (first.built, second.built, first.key) == (True, False, second.key)
    assert (world.place.folder / "made").read_text() == "made\n"


@pytest.mark.parametrize(
    "change", ["input", "new input", "setup", "passed value", "stamp", "python"]
)
async def test_it_is_made_anew_when_anything_it_was_made_from_changed(
    world: World, change: str
) -> None:
    world.passed = ("INDEX",)
    setup = Setup(
        kind="script",
        commands=(BARE,),
        inputs=("deps*.txt", "/etc/x*", "../y*", ".", "a**"),
        reason="r",
    )
    write(world.place.tree, {"deps.txt": "1"})
    first = await world.ready(setup)
    if change.endswith("input"):
        write(world.place.tree, {"deps.txt" if change == "input" else "deps-dev.txt": "2"})
    elif change == "setup":
        setup = Setup(
            kind="script", commands=(BARE,), script="true", inputs=setup.inputs, reason="r"
        )
    elif change == "passed value":
        world.environ["INDEX"] = "https://example.invalid"
    elif change == "stamp":
        world.place.stamp.write_text("{")
    else:
        (world.place.venv / "bin/python").unlink()

    second = await world.ready(setup)

    assert second.built
    assert (second.key == first.key) is (change in ("stamp", "python"))


async def test_a_new_module_of_an_installed_project_makes_it_anew_a_new_test_does_not(
    world: World,
) -> None:
    await world.ready(scripted("true"))
    write(world.place.tree, {"test_b.py": ""})
    same = await world.ready(scripted("true"))
    write(world.place.tree, {"src/fresh/__init__.py": ""})

    fresh = await world.ready(scripted("true"))

    assert (same.built, fresh.built) == (False, True)


async def test_a_setup_that_ended_halfway_leaves_nothing_that_is_taken_for_whole(
    world: World,
) -> None:
    setup = scripted('touch ../half\ncase "$(cat deps)" in bad) exit 3;; esac\n', inputs=("deps",))
    write(world.place.tree, {"deps": "good"})
    await world.ready(setup)
    write(world.place.tree, {"deps": "bad"})
    await world.refused(setup)
    write(world.place.tree, {"deps": "good"})

    again = await world.ready(setup)

    assert again.built


async def test_a_setup_does_not_read_what_a_gate_left_in_home(world: World) -> None:
    write(world.place.home, {".config/pip/pip.conf": "[global]\n"})

    ready = await world.ready(scripted("test ! -e ~/.config\n"))

    assert ready.built


async def test_a_cancelled_setup_is_ended_with_all_that_it_started(world: World) -> None:
    os.mkfifo(world.folder / "pid")
    setup = scripted(f"sleep 1000 &\necho $! > {world.folder / 'pid'}\nwait\n")

    async with anyio.create_task_group() as group:
        group.start_soon(world.environments.ready, world.place, setup)
        pid = await to_thread.run_sync((world.folder / "pid").read_text)
        group.cancel_scope.cancel()

    assert not Path(f"/proc/{pid.strip()}/environ").exists()
    assert not world.place.stamp.exists()


async def test_equal_environments_have_equal_keys_and_what_the_installer_chose_counts(
    world: World,
) -> None:
    setup = python('mkdir -p "$site/a-$(cat ../../chosen).dist-info"\n')
    write(world.folder, {"benches/chosen": "1"})
    first, same = await world.ready(setup), await world.ready(setup, world.at("b2"))
    write(world.folder, {"benches/chosen": "2"})

    newer = await world.ready(setup, world.at("b3"))

    assert first.key == same.key
    assert first.key != newer.key


async def test_a_failed_setup_says_what_failed_and_how_it_ended(world: World) -> None:
    failed = await world.refused(scripted("seq 10000\necho no such package\nexit 3\n"))

    assert "`sh conventions/workspace/setup.sh` ended with exit code 3." in failed.sentence
    assert failed.tail.endswith("no such package\n")
    assert len(failed.tail) == TAIL_BYTES
    assert Path(failed.log).read_text().startswith("1\n")


async def test_a_long_setup_command_is_cut_in_the_sentence_and_what_happened_is_not(
    world: World,
) -> None:
    setup = Setup(kind="pip", commands=(("sh", "-c", f"true {'x' * 500}; exit 3"),))

    failed = await world.refused(setup)

    assert failed.sentence.endswith("xx…` ended with exit code 3.")
    assert len(failed.sentence) < 140


async def test_a_setup_that_fails_says_the_same_wherever_it_does(world: World) -> None:
    setup = Setup(
        kind="pip", commands=(("{venv}/bin/python", "-m", "pip"),), reason="requirements.txt"
    )

    said = {await world.refused(setup, world.at(name)) for name in ("b1", "w1")}

    assert {each.sentence.partition("`")[2].partition("`")[0] for each in said} == {
        "venv/bin/python -m pip"
    }
    assert len({each.sentence[:200] for each in said}) == 1


async def test_a_setup_command_that_is_not_there_is_said(world: World) -> None:
    failed = await world.refused(Setup(kind="npm", commands=(("no-such-tool", "ci"),), reason="r"))

    assert "`no-such-tool ci` could not be started" in failed.sentence


async def test_a_script_runs_under_the_interpreter_that_it_names(world: World) -> None:
    await world.ready(
        scripted("#!/usr/bin/env perl\nopen(my $f, '>', '../said'); print $f 'perl';\n")
    )

    assert (world.place.folder / "said").read_text() == "perl"


# ── whether it is still the same ──


async def test_a_write_into_the_environment_is_seen_even_if_the_times_are_put_back(
    world: World,
) -> None:
    setup = python('echo x = 1 > "$site/a.py"\n')
    ready = await world.ready(setup)
    path = next(world.place.venv.glob("lib/python*/site-packages/a.py"))
    before = path.stat()
    path.write_text("x = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    changed = await world.environments.changed(world.place, ready)

    assert changed == [str(path)]
    assert (await world.ready(setup)).built
    assert path.read_text() == "x = 1\n"


async def test_a_change_that_nobody_lived_to_see_is_found_when_it_is_next_asked_for(
    world: World,
) -> None:
    setup = python("true\n")
    await world.ready(setup)
    write(world.place.venv, {"bin/pytest": "#!/bin/sh\n"})

    trusting = await world.ready(setup, verify=False)
    strict = await world.ready(setup)

    assert (trusting.built, strict.built) == (False, True)
    assert not (world.place.venv / "bin/pytest").exists()


async def test_what_a_setup_makes_in_the_tree_belongs_to_the_environment_but_for_build_caches(
    world: World,
) -> None:
    setup = scripted("mkdir node_modules\ntouch node_modules/a\n", keeps=("node_modules",))
    ready = await world.ready(setup)
    write(world.place.tree, {"node_modules/.cache/x": "warm"})

    assert await world.environments.changed(world.place, ready) == []
    assert not (world.place.tree / "node_modules/.cache").exists()
    write(world.place.tree, {"node_modules/b": ""})
    assert await world.environments.changed(world.place, ready) == [
        str(world.place.tree / "node_modules/b")
    ]


async def test_links_that_a_candidate_puts_in_a_kept_path_have_nothing_removed_elsewhere(
    world: World,
) -> None:
    write(world.folder, {"mine/node_modules/.cache/a": "", "mine/node_modules/b": ""})
    setup = scripted("true", keeps=("pkg/node_modules", "node_modules"))
    (world.place.tree / "pkg").symlink_to(world.folder / "mine")
    await world.ready(setup)
    (world.place.tree / "node_modules").symlink_to(world.folder / "mine/node_modules")

    again = await world.ready(setup)

    assert again.built
    assert sorted(path.name for path in (world.folder / "mine/node_modules").rglob("*")) == [
        ".cache",
        "a",
        "b",
    ]


# ── traps: each would have passed ──

PROVES = ("python", "-I", "-c", "import pkg; assert pkg.right")


async def test_a_project_that_resolves_into_another_checkout_is_refused(world: World) -> None:
    write(
        world.folder,
        {
            "checkout/pkg/__init__.py": "right = True",
            "benches/b1/tree/pkg/__init__.py": "right = False",
        },
    )

    failed = await world.refused(python(f'echo {world.folder / "checkout"} > "$site/a.pth"\n'))

    assert "`import pkg` gives" in failed.sentence
    assert str(world.folder / "checkout") in failed.sentence
    assert await world.passes(PROVES)


async def test_an_editable_install_of_another_checkout_is_refused_by_its_record(
    world: World,
) -> None:
    url = f'{{"url": "file://{world.folder}/checkout", "dir_info": {{"editable": true}}}}'

    failed = await world.refused(python(_installed("pkg", url)))

    assert f"pkg is installed from {world.folder}/checkout, outside the tree" in failed.sentence


async def test_a_stale_copy_of_the_project_is_refused(world: World) -> None:
    write(world.place.tree, {"src/pkg/__init__.py": "right = True"})
    url = f'{{"url": "file://{world.place.tree}", "dir_info": {{}}}}'
    setup = python(_installed("pkg", url) + 'cp -r src/pkg "$site/"\n')

    failed = await world.refused(setup)

    assert "pkg is installed as a copy" in failed.sentence
    write(world.place.tree, {"src/pkg/__init__.py": "right = False"})
    assert await world.passes(PROVES)


@pytest.mark.parametrize("file", ["pyproject.toml", "setup.cfg", "setup.py"])
async def test_a_copy_of_the_project_from_an_index_is_refused_too(world: World, file: str) -> None:
    text = {"pyproject.toml": '[project]\nname = "My_Pkg"\n', "setup.cfg": "name = my.pkg\n"}
    write(world.place.tree, {file: text.get(file, "setup(name='my-pkg')\n")})

    failed = await world.refused(python(_installed("my-pkg", "")))

    assert "my-pkg is installed as a copy" in failed.sentence


async def test_an_editable_install_of_the_tree_itself_is_what_is_wanted(world: World) -> None:
    write(
        world.place.tree, {"pyproject.toml": '[project]\nname = "pkg"\n', "src/pkg/__init__.py": ""}
    )
    url = f'{{"url": "file://{world.place.tree}", "dir_info": {{"editable": true}}}}'

    ready = await world.ready(python(_installed("pkg", url) + 'echo "$PWD/src" > "$site/a.pth"\n'))

    assert ready.built


async def test_a_dependency_that_happens_to_be_called_like_a_folder_is_no_trap(
    world: World,
) -> None:
    write(world.place.tree, {"alembic/__init__.py": "", "tests/__init__.py": "", "types.py": ""})

    make = (
        _installed("alembic", "")
        + 'echo alembic/__init__.py,, > "$site/alembic-1.dist-info/RECORD"\n'
    )

    ready = await world.ready(
        python(make + 'mkdir "$site/alembic"; touch "$site/alembic/__init__.py"\n')
    )

    assert ready.built


async def test_without_a_venv_the_python_on_path_must_not_know_the_project_from_elsewhere(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"checkout/pkg/__init__.py": "", "benches/b1/tree/pkg/__init__.py": ""})
    maker = World(tmp_path / "maker")
    await maker.ready(python(f'echo {tmp_path / "checkout"} > "$site/a.pth"\n'))
    world = World(tmp_path, PATH=f"{maker.place.venv / 'bin'}:/usr/bin:/bin")

    failed = await world.refused(NOTHING)

    assert "`import pkg` gives" in failed.sentence


FORGED = """\
import json, os
os.write(1, json.dumps({"modules": {}, "found": []}).encode())
os._exit(0)
"""


async def test_what_a_candidate_runs_at_each_start_has_no_say_in_where_modules_come_from(
    world: World,
) -> None:
    write(world.folder, {"checkout/pkg/__init__.py": ""})
    write(world.place.tree, {"pkg/__init__.py": "", "src/sitecustomize.py": FORGED})
    lines = f"echo $PWD/src > $site/a.pth\necho {world.folder}/checkout > $site/b.pth\n"

    failed = await world.refused(python(lines))

    assert "`import pkg` gives" in failed.sentence


async def test_a_candidate_that_ends_each_python_at_its_start_does_not_stop_judging(
    world: World,
) -> None:
    ends = "import os\nos._exit(0)\n"
    write(world.place.tree, {"src/pkg/__init__.py": "", "src/sitecustomize.py": ends})

    ready = await world.ready(python("echo $PWD/src > $site/a.pth\n"))

    assert ready.built


async def test_a_python_on_path_that_says_nothing_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    write(tmp_path, {"bin/python3": "#!/bin/sh\n", "benches/b1/tree/pkg/__init__.py": ""})
    (tmp_path / "bin/python3").chmod(0o755)

    failed = await world.refused(NOTHING)

    assert f"{tmp_path}/bin/python3 did not report where its packages are" in failed.sentence


async def test_a_python_path_that_is_passed_on_must_not_lead_to_another_checkout(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"checkout/pkg/__init__.py": "", "benches/b1/tree/pkg/__init__.py": ""})
    world = World(tmp_path, PYTHONPATH=f"src:{tmp_path}/checkout")
    world.passed = ("PYTHONPATH",)

    failed = await world.refused(python(""))

    assert "`import pkg` gives" in failed.sentence


@pytest.mark.parametrize("above", ["benches/node_modules", "node_modules"])
async def test_node_modules_above_the_tree_are_refused(world: World, above: str) -> None:
    write(world.place.tree, {"package.json": "{}"})
    write(world.folder, {f"{above}/a/index.js": ""})

    failed = await world.refused(NOTHING)

    assert str(world.folder / above) in failed.sentence


@pytest.mark.parametrize("link", ["node_modules/a", "node_modules/@b/a"])
async def test_a_node_package_linked_from_outside_is_refused_one_from_within_is_not(
    world: World, link: str
) -> None:
    make = f"mkdir -p packages/own {Path(link).parent}; ln -s $PWD/packages/own node_modules/own; ln -s"
    write(world.place.tree, {"package.json": "{}"})
    await world.ready(
        scripted(
            f"{make} own {Path(link).parent}/own2; mv {Path(link).parent}/own2 node_modules/own3\n"
        )
    )
    outside = scripted(f"{make} {world.folder} {link}\n", keeps=("node_modules", "packages"))

    failed = await world.refused(outside)

    assert f"{link} leads out of the tree, to {world.folder}" in failed.sentence


def _installed(name: str, direct_url: str) -> str:
    """A script that records a distribution, as pip does."""
    folder = f'"$site/{name}-1.dist-info"'
    record = f"echo '{direct_url}' > {folder}/direct_url.json\n" if direct_url else ""
    metadata = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n"
    return f"mkdir {folder}\nprintf '{metadata}' > {folder}/METADATA\n{record}"
