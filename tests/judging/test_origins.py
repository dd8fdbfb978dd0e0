"""Where modules come from is read from installed files: nothing of a candidate's runs to tell it.

What setuptools and editables write here is what their releases of 2025 write.
"""

import json
import os
from pathlib import Path

import pytest

from factory.judging import installed
from factory.judging.origins import folders_told, outside_python
from factory.judging.venvs import site_folders
from tests.git_repo import write

SITE = "lib/python3.13/site-packages"
FINDER = """\
from pathlib import Path

MAPPING: dict[str, str] = {'more': '/usr/more', 'app': '%s'}
NAMESPACES: dict[str, list[str]] = {}
PATH_PLACEHOLDER = '__editable__.app-1.finder' + ".__path_hook__"
"""
REDIRECTS = """\
from editables.redirector import RedirectingFinder as F
F.install()
F.map_module('app', '%s/__init__.py')
"""


class World:
    """A venv beside a tree that holds the module `app`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tree, self.venv = folder, folder / "tree", folder / "venv"
        self.site = self.venv / SITE
        self.elsewhere = folder / "checkout/src/app"
        write(folder, {f"venv/{SITE}/pip/__init__.py": "", "tree/src/app/__init__.py": ""})
        write(folder, {"checkout/src/app/__init__.py": "", "venv/bin/python": ""})

    def has(self, files: dict[str, str], *, site: str = SITE) -> None:
        write(self.venv / site, files)

    def installs(self, name: str, *owned: str, direct_url: object = None) -> None:
        """Record a distribution, as pip does."""
        info = f"{name}-1.dist-info"
        self.has({f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\n\nname: other\n"})
        self.has({f"{info}/RECORD": "".join(f"{path},sha256=x,1\n" for path in owned)})
        if direct_url:
            self.has({f"{info}/direct_url.json": json.dumps(direct_url)})

    def wrong(self, *, before: list[Path] | None = None) -> str:
        folders = site_folders(self.venv)
        return outside_python(self.tree, self.venv, folders, before=before or [])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def editable(folder: Path) -> object:
    return {"url": f"file://{folder}", "dir_info": {"editable": True}}


# ── the ways to a module ──


def through_a_path(world: World, app: Path) -> None:
    world.has({"app.pth": f"# where\n\n{app.parent}\n"})


def through_the_finder_of_setuptools(world: World, app: Path) -> None:
    name = "__editable___app_1_finder"
    world.has(
        {"__editable__.app-1.pth": f"import {name}; {name}.install()", f"{name}.py": FINDER % app}
    )


def through_editables(world: World, app: Path) -> None:
    world.has({"_editable_impl_app.pth": "import _editable_impl_app"})
    world.has({"_editable_impl_app.py": REDIRECTS % app})


def through_a_link(world: World, app: Path) -> None:
    (world.site / "app").symlink_to(app)


WAYS = [through_a_path, through_the_finder_of_setuptools, through_editables, through_a_link]


@pytest.mark.parametrize("leads", WAYS)
def test_a_module_that_an_installation_takes_from_elsewhere_is_seen(
    world: World, leads: object
) -> None:
    leads(world, world.elsewhere)  # type: ignore[operator]

    wrong = world.wrong()

    assert wrong.startswith(f"`import app` gives {world.elsewhere}")
    assert "outside the tree" in wrong


@pytest.mark.parametrize("leads", WAYS)
def test_a_module_that_an_installation_takes_from_the_tree_is_what_is_wanted(
    world: World, leads: object
) -> None:
    world.installs("app", "app.pth", direct_url=editable(world.tree))

    leads(world, world.tree / "src/app")  # type: ignore[operator]

    assert world.wrong() == ""


@pytest.mark.parametrize("library", ["lib64/python3.13", "lib/pypy3.11"])
def test_every_folder_of_packages_that_a_venv_may_have_is_read(world: World, library: str) -> None:
    world.has({"app.pth": str(world.elsewhere.parent)}, site=f"{library}/site-packages")

    assert "`import app` gives" in world.wrong()


def test_a_folder_that_is_a_link_to_another_is_read_once(world: World) -> None:
    (world.venv / "lib64").symlink_to("lib")

    assert site_folders(world.venv) == [world.site]


@pytest.mark.parametrize("key", ["version", "version_info"])
def test_the_packages_of_the_system_count_where_the_venv_uses_them(world: World, key: str) -> None:
    settings = (
        f"home = {world.folder}/usr/bin\n{key} = 3.13.5\ninclude-system-site-packages = true\n"
    )
    write(world.folder, {"venv/pyvenv.cfg": settings})
    write(world.folder, {f"usr/{SITE}/app.pth": str(world.elsewhere.parent)})

    assert f"gives {world.elsewhere}" in world.wrong()


def test_a_python_path_that_is_passed_on_comes_first(world: World) -> None:
    through_a_path(world, world.tree / "src/app")

    assert "`import app` gives" in world.wrong(before=[world.elsewhere.parent])


def test_the_first_place_that_has_the_module_counts(world: World) -> None:
    world.has({"a.pth": str(world.tree / "src"), "b.pth": str(world.elsewhere.parent)})

    assert world.wrong() == ""


def test_a_folder_without_init_gives_way_to_a_package_further_down(world: World) -> None:
    world.has({"app/shipped/text.txt": "", "a.pth": str(world.tree / "src")})

    assert world.wrong() == ""


def test_path_files_in_the_tree_and_hidden_ones_lead_nowhere(world: World) -> None:
    other = str(world.elsewhere.parent)
    write(world.tree, {"src/more.pth": other})
    world.has({"a.pth": str(world.tree / "src"), ".b.pth": other})

    assert world.wrong() == ""


# ── copies ──


@pytest.mark.parametrize(
    "file", ["app/__init__.py", "app.py", "app.cpython-313-x86_64-linux-gnu.so"]
)
def test_a_module_in_the_venv_that_no_package_owns_is_a_copy(world: World, file: str) -> None:
    world.installs("pip", "pip/__init__.py")
    world.has({file: ""})

    assert (
        f"`import app` gives {SITE}/{file}, a copy that no installed package owns" in world.wrong()
    )


@pytest.mark.parametrize("owned", ["app/__init__.py", "app.py"])
def test_a_dependency_may_be_called_like_a_module_of_the_tree(world: World, owned: str) -> None:
    world.installs("apptools", owned)
    world.has({owned: ""})

    assert world.wrong() == ""


def test_a_package_of_the_system_may_list_what_it_owns_in_the_old_way(world: World) -> None:
    world.has({"app/__init__.py": "", "apptools-1.egg-info/top_level.txt": "app\n"})
    world.has({"apptools-1.egg-info/PKG-INFO": "Name: apptools\n"})

    assert world.wrong() == ""


def test_what_an_editable_installation_built_is_its_own(world: World) -> None:
    world.installs("app", "app/__init__.py", direct_url=editable(world.tree))
    world.has({"app/__init__.py": ""})

    assert world.wrong() == ""


def test_a_module_from_a_package_file_of_this_machine_is_a_copy(world: World) -> None:
    wheel = {"url": f"file://{world.tree}/dist/app-1-py3-none-any.whl", "archive_info": {}}
    world.installs("something", "app/__init__.py", direct_url=wheel)
    world.has({"app/__init__.py": ""})

    assert "a copy that something installed" in world.wrong()


def test_without_a_venv_what_else_the_machine_has_is_nobody_s_matter(world: World) -> None:
    world.installs("other", direct_url=editable(world.folder / "checkout"))

    assert outside_python(world.tree, None, [world.site]) == ""
    assert "other is installed from" in world.wrong()


# ── what nobody can read ──


def test_a_path_file_without_an_end_is_not_read(world: World) -> None:
    os.mkfifo(world.site / "a.pth")
    (world.site / "b.pth").symlink_to("/dev/zero")

    assert world.wrong() == ""


@pytest.mark.parametrize("file", ["a.pth", "loader.py"])
def test_a_file_that_leads_elsewhere_and_is_too_large_is_refused(world: World, file: str) -> None:
    world.has({"z.pth": "import loader\n", file: "# " + "x" * installed.LINK_BYTES})

    wrong = world.wrong()

    assert f"{file} is larger than 1,024 KiB" in wrong
    assert wrong.endswith("so it is unknown whether gates would test the candidate.")


def test_more_lines_or_packages_than_are_read_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.has({"a.pth": "x\n" * (installed.LINES + 1)})
    lines = world.wrong()
    monkeypatch.setattr(installed, "PACKAGES", 1)

    packages = world.wrong()

    assert "more than 10,000 lines" in lines
    assert "holds more than 1 files" in packages


@pytest.mark.parametrize(
    "text", ["'" + "\\'" * 500_000, "'a'," + " " * 900_000, "\\" * 900_000, "'" * 900_000]
)
def test_a_loader_is_read_in_one_go_whatever_its_text_is(world: World, text: str) -> None:
    world.has({"a.pth": "import loader\n", "loader.py": text})

    assert world.wrong() == ""


def test_metadata_that_is_none_stops_nothing(world: World) -> None:
    deep = "[" * 60_000
    for name, told in {"a": "", "b": "[]", "c": deep, "d": '{"url": 3, "dir_info": []}'}.items():
        world.has({f"{name}-1.dist-info/direct_url.json": told})
    world.has(
        {"e.egg-info": "Name: e\n", "f.pth": "import \nimport\tno_such\nimport a.b, c ;x\n\0\n"}
    )

    assert world.wrong() == ""


# ── what the machine's Python says ──


@pytest.mark.parametrize("said", ["", "x", "[]", "{}", "[1]", '["/usr/bin/python3"]x', "\n\n"])
def test_a_python_that_says_nothing_of_use_gives_no_folders(said: str) -> None:
    assert folders_told(said) == []


def test_a_python_of_a_venv_has_the_folders_of_the_venv(world: World) -> None:
    (world.venv / "pyvenv.cfg").touch()
    said = json.dumps([str(world.venv / "bin/python"), "/usr/lib/python3/dist-packages"])

    assert folders_told(f"a warning\n\n{said}\n") == [world.site]
    assert folders_told('["/no/bin/python3", "/no/site-packages"]') == [Path("/no/site-packages")]
