"""One unit plants programs and configuration wherever it can write; the next unit runs none of it, by a real daemon.

With bubblewrap and without. Without it the agent has the user's HOME, which nobody may empty.
"""

import json
import sys
from collections.abc import Iterator

import pytest

from factory.store.unit import UnitState
from tests.acceptance.line import AGENT, RUNTIME, Line, files
from tests.acceptance.test_sandbox import MODES, on_path

SETUP = """\
# inputs: deps.txt
test "$1" = build || python3 -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"
mkdir -p node_modules/lib
echo sound > node_modules/lib/index.js
cp story.txt built.txt
"""
CONFIG = 'agent = "member"\nworkers = 1\n[limits]\nattempts = 1\n'
KEEP = 'keep = [".tool/sessions/*.jsonl"]\nresume = ["--session", "{session}"]\n'

# What an agent leaves: what lies in the tree, in its venv, and in its HOME.
PLANT = """
    home, tree = Path.home(), Path.cwd()
    venv = Path(os.environ["VIRTUAL_ENV"])
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "__pycache__").mkdir(exist_ok=True)
    (tree / "build").mkdir()
    for path in (venv / "bin/sed", site / "x.pth", site / "__pycache__/x.pyc", tree / "build/x"):
        path.write_text("#!/bin/sh\\n")
        path.chmod(0o6755)
    (tree / "node_modules/lib/index.js").write_text("poison")
    (tree / "built.txt").write_text("poison")
    if home != Path({users!r}):
        for name in (".bashrc", ".gitconfig", ".npmrc", ".tool/sessions/run", ".tool/settings.json"):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text("#!/bin/sh\\n")
        (home / ".tool/sessions/1.jsonl").write_text("{{}}")
    write("planted.txt", "x")
"""
LOOK = """
    import shutil
    home, tree = Path.home(), Path.cwd()
    venv = Path(os.environ["VIRTUAL_ENV"])
    found = [str(each) for each in venv.rglob("*") if each.name in ("sed", "x.pth", "x.pyc")]
    found += [name for name in ("build", "planted-by-run") if (tree / name).exists()]
    found += [name for name in ("node_modules/lib/index.js",) if (tree / name).read_text() != "sound\\n"]
    found += ["built.txt"] if (tree / "built.txt").read_text() != (tree / "story.txt").read_text() else []
    if home != Path({users!r}):
        found += [str(each.relative_to(home)) for each in home.rglob("*") if each.is_file()]
    write("found.json", json.dumps(sorted(found)))
"""


@pytest.fixture(scope="module", params=MODES)
def line(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("poison")
    contents = files() | {
        "factory.toml": CONFIG,
        ".gitignore": "build\nnode_modules\nbuilt.txt\n",
        "conventions/workspace/setup.sh": SETUP,
        "conventions/runtimes/member.toml": KEEP
        + RUNTIME.format(python=sys.executable, agent=AGENT),
    }
    line = Line(folder, contents, sandbox=request.param)
    on_path(line)
    try:
        yield line.start()
    finally:
        line.close()


def test_the_next_unit_finds_only_what_trunk_and_setup_made_and_the_sessions(line: Line) -> None:
    line.drop("plants", PLANT.format(users=str(line.home)))
    line.unit("plants")

    line.drop("looks", "import json\n" + LOOK.replace("\n    ", "\n").format(users=str(line.home)))
    line.unit("looks")

    kept = (
        [".tool/sessions/1.jsonl"] if line.environ["FACTORY__SANDBOX__MODE"] == "required" else []
    )
    assert json.loads((line.root / "found.json").read_text()) == kept
    changed = line.git("show", "--format=", "--name-only", "HEAD").split()
    assert changed == ["found.json"]
    armed = [
        each
        for each in line.places.work.rglob("*")
        if each.is_file() and each.stat().st_mode & 0o6000
    ]
    assert armed == []


def test_a_command_adds_to_no_cache_that_a_setup_reads(line: Line) -> None:
    if line.environ["FACTORY__SANDBOX__MODE"] == "off":
        pytest.skip("without a sandbox all of the factory's folders are its own")
    run = 'mkdir -p "$PIP_CACHE_DIR" && echo x > "$PIP_CACHE_DIR/planted" && echo x > cached.txt'
    line.drop_text("caches", f"---\nrun: {json.dumps(run)}\n---\nx\n")
    line.unit("caches", UnitState.LANDED)

    assert not list(line.places.work.glob("caches/**/planted"))
