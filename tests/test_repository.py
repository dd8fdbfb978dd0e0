"""This repository's own conventions: what CI and the line run here."""

import re
import tomllib
from pathlib import Path

from factory.ground.settings_file import load

ROOT = Path(__file__).parent.parent


def test_the_lock_hashes_every_package_that_the_project_asks_for_and_names_no_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = (ROOT / "requirements.lock").read_text()

    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[^\w.-]", each, maxsplit=1)[0].lower() for each in asked}
    entries = re.split(r"\n(?=\S)", lock.partition("\n# The following")[0])

    assert names - {entry.partition("==")[0] for entry in entries} == set()
    assert [entry for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []
    assert "://" not in lock
    assert not re.search(r"^--?[a-z]", lock, re.MULTILINE)


def test_the_factory_toml_of_this_repository_is_valid() -> None:
    assert load(ROOT / "factory.toml", {}).limits.minutes == 60


def test_every_gate_of_this_repository_says_what_it_judges() -> None:
    gates = sorted((ROOT / "conventions/gates").iterdir())

    assert {"10-lint.sh", "20-types.sh", "30-test.sh"} <= {gate.name for gate in gates}
    assert [gate.name for gate in gates if not gate.read_text().startswith("# ")] == []
