import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from factory.stores import views

EXAMPLES = Path(__file__).parents[1] / "examples"
SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """The demo as `make demo` runs it, with nothing of this machine but its programs."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    (folder / "home").mkdir()
    return subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_the_demo_shows_a_whole_line(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    landed = set(re.findall(r"^ +[\d.]+ s  (\S+) +landed as", demo.stdout, re.MULTILINE))
    asked = set(re.findall(r"^  inbox/(\S+)\.md$", demo.stdout, re.MULTILINE))
    assert len(asked) >= 8
    assert asked - landed == {"float-sum"}
    for told in (
        r"fix-total +attempt 1: a gate is red",
        r"My last attempt was red: (ERROR|FAIL): test_an_empty_cart_costs_nothing",
        r"readme-\w+ +attempt 1: conflicts",
        r"rounding +attempt 1: asked a question",
        r"\$ factory answer E1 1",
        r"float-sum +a card for you: float-sum could not be done in 2 attempt",
        r"E2  attempts_exhausted",
    ):
        assert re.search(told, demo.stdout), f"{told} in\n{demo.stdout}"
    assert "\x1b" not in demo.stdout


def test_the_demo_stops_what_it_started_and_stays_in_its_folder(
    demo: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    (kept,) = folder.glob("factoryd-demo-*")
    assert f"kept in {kept}/shop" in demo.stdout
    con = views.open_store(str(kept / "shop/.factory/store.sqlite"))
    assert views.daemon(con)["state"] == "stopped"
    con.close()
    assert sorted(path.name for path in kept.iterdir()) == ["shop", "state"]
    assert list((folder / "home").iterdir()) == []


def test_the_demo_says_when_something_did_not_land(tmp_path: Path) -> None:
    broken = tmp_path / "examples"
    (broken / "agents").mkdir(parents=True)
    text = (EXAMPLES / "demo.py").read_text().replace("PATIENCE_S = 90.0", "PATIENCE_S = 4.0")
    (broken / "demo.py").write_text(text)
    (broken / "agents/apprentice.py").write_text("import sys\n\nsys.exit(1)\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "LANG": "C.UTF-8"}

    done = subprocess.run(
        [sys.executable, broken / "demo.py"], env=env, capture_output=True, text=True, check=False, timeout=SECONDS
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "this has not come: fix-slug, fix-total" in done.stdout
