"""`factoryd demo`: what a newcomer sees, and what it leaves behind."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from docs import picture
from factory.child import process
from factory.child.identity import Identity
from factory.demo import apprentice, shop

SECONDS = 180
FACTORYD = Path(sys.executable).with_name("factoryd")
IMPATIENT = """
import sys
from factory.cli import demo
from factory.cli.main import factoryd

demo.PATIENCE_S = 0.5
sys.exit(factoryd(["demo"]))
"""


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this machine but its programs; a HOME and a TMPDIR of its own."""
    (folder / "home").mkdir()
    (folder / "tmp").mkdir()
    home, tmp = str(folder / "home"), str(folder / "tmp")
    return {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": tmp, "LANG": "C.UTF-8"}


def left(folder: Path) -> tuple[list[Path], Mapping[Identity, str]]:
    """The files and the processes that a demo left behind."""
    files = [*(folder / "tmp").iterdir(), *(folder / "home").iterdir()]
    return files, process.living(f"XDG_STATE_HOME={folder}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share: one demo is enough for them."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def demo(folder: Path) -> str:
    """What a whole demo prints; its folder is kept."""
    said = folder / "said.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.write_text(run_the_demo(folder), encoding="utf-8")
    return said.read_text(encoding="utf-8")


def run_the_demo(folder: Path) -> str:
    done = subprocess.run(
        [FACTORYD, "demo", "--keep"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_says_that_its_agent_is_scripted_and_that_answers_are_typed_for_you(
    demo: str,
) -> None:
    introduction, _, _ = demo.partition("1. The shop")

    assert "The agent is a script that knows these tasks by heart" in introduction
    assert "The answers that you would give are typed for you." in introduction


def test_the_demo_shows_its_input(demo: str) -> None:
    _, _, tasks = demo.partition("2. The tasks")

    whole = "\n".join(f"  {line}".rstrip() for line in shop.TASKS[shop.SHOWN].splitlines())
    assert f"\n{whole}\n" in tasks
    assert all(
        re.search(rf"^    {name} +{re.escape(shop.title(name))}$", tasks, re.MULTILINE)
        for name in shop.TASKS
    )


def test_the_demo_shows_a_whole_line(demo: str) -> None:
    landed = set(re.findall(r"^ +[\d.]+ s  (\S+) +landed on main as \w+$", demo, re.MULTILINE))

    assert landed == shop.LANDS
    for told in (
        r"fix-total +attempt 1 does not land\n +gate 10-tests is red\n +ERROR: test_an_empty_cart_costs_nothing\n"
        r" +IndexError: list index out of range\n",
        r"fix-total +w\d starts attempt 2, and knows why 1 failed\n",
        r"“The gate was red: test_an_empty_cart_costs_nothing”",
        r"readme-hours +attempt 1 does not land\n +conflicts with `readme-tea` \(landed \w{7}\) in\n +README.md\n",
        r"rounding +attempt 1 asks you a question, and frees its worker\n",
        r"\$ factory answer E1 1\n",
        r"rounding +w\d starts attempt 2, and knows your answer\n",
        r"float-sum +attempt 2 does not land\n +`python3 -c",
        r"E2  attempts_exhausted",
        r"\+    return sum\(PRICES\[name\] for name in cart\)\n",
    ):
        assert re.search(told, demo), f"{told} in\n{demo}"


def test_the_demo_has_no_colours_where_it_is_no_terminal(demo: str) -> None:
    assert "\x1b" not in demo
    assert "\r" not in demo


def test_the_commands_that_the_demo_ends_with_can_be_pasted(demo: str, folder: Path) -> None:
    _, _, below = demo.partition("To look around, paste:\n")
    pasted, _, removal = below.partition("To remove it:\n")
    plain = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "LANG": "C.UTF-8"}

    script = "\n".join(["set -e", pasted, removal])
    done = subprocess.run(
        ["sh", "-c", script],
        env=plain,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "factoryd is running" in done.stdout
    assert "\nstopped\n" in done.stdout
    assert left(folder) == ([], {})


def test_the_picture_shows_the_words_of_the_demo(demo: str) -> None:
    drawn = picture.words(picture.PICTURE.read_text(encoding="utf-8"))

    assert picture.normal(drawn) == picture.normal(picture.screen(demo)), (
        "draw it anew: make picture"
    )
    assert picture.PICTURE.stat().st_size < 30_000


def test_the_scripted_agent_knows_every_task_but_the_run_ones() -> None:
    runs = {name for name, text in shop.TASKS.items() if "\nrun: " in text}

    assert set(apprentice.KNOWN) == set(shop.TASKS) - runs


@pytest.mark.parametrize("moment", ["$ factoryd start", "fix-slug        w"])
def test_ctrl_c_leaves_no_process_and_no_folder(moment: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [FACTORYD, "demo"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout
        said = list[str]()
        for line in running.stdout:
            said.append(line)
            if moment in line:
                running.send_signal(signal.SIGINT)
                break
        said += running.stdout

    assert running.returncode == 130, "".join(said)
    assert "The demo is stopped, and its folder is removed.\n" in said
    assert left(tmp_path) == ([], {})


def test_the_demo_says_what_did_not_land_in_time_and_removes_its_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"After 0 s this has not come: .*fix-total", done.stdout)
    assert left(tmp_path) == ([], {})
