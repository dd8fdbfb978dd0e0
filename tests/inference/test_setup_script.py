"""The setup that a script makes, and the comments in it."""

from dataclasses import replace

import pytest

from factory.ground.errors import ConfigError
from tests.inference.reading import SETUP, VENV, of


def test_a_setup_script_rules_alone_and_says_what_it_reads_and_makes() -> None:
    found = of(
        {
            SETUP: "#!/bin/sh\n# inputs: a.lock deps/*.txt\n# keeps: out\nmake deps\n",
            "requirements.txt": "x",
        }
    )

    assert found.setup.kind == "script"
    assert found.setup.commands == (VENV,)
    assert (found.setup.inputs, found.setup.keeps) == (("a.lock", "deps/*.txt"), ("out",))
    assert found.setup.reason == SETUP


def test_a_setup_script_tells_dependencies_from_what_each_tree_builds_for_itself() -> None:
    found = of(
        {
            SETUP: "# keeps: dist web/node_modules src/_version.py\n# made-from: pyproject.toml src/**\nmake\n"
        }
    )

    assert found.setup.dependencies == ("node_modules", ".venv", "web/node_modules")
    assert found.setup.builds == ("dist", "src/_version.py")
    assert found.setup.made_from == ("pyproject.toml", "src/**")
    assert of({SETUP: "make\n"}).setup.builds == ()
    assert found.setup.digest != replace(found.setup, made_from=()).digest


def test_a_setup_script_that_says_nothing_is_thought_to_read_every_manifest() -> None:
    found = of({SETUP: "make deps\n"})

    assert found.setup.commands == ()
    assert {"pyproject.toml", "package-lock.json", "uv.lock", "pnpm-lock.yaml"} <= set(
        found.setup.inputs
    )
    assert found.setup.keeps == ("node_modules", ".venv")


@pytest.mark.parametrize(
    "says",
    [
        "keeps: ../x",
        "keeps: /x",
        "keeps: a/../../x",
        "inputs: .",
        "inputs: src/**.lock",
        "made-from: ../x",
    ],
)
def test_a_setup_script_cannot_keep_what_lies_outside_or_read_what_is_no_glob(says: str) -> None:
    with pytest.raises(ConfigError, match="leads out of the tree, or is not a glob"):
        of({SETUP: f"# {says}\ntrue\n"})
