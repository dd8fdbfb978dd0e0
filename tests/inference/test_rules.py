"""What a digest covers, and which files a change must not touch unseen."""

from factory.inference.rules import Gate, Setup
from tests.inference.reading import SETUP, of


def test_a_gate_s_digest_is_of_its_text_and_not_of_its_time_limit() -> None:
    gate = Gate(name="a", group=1, script="x", reason="r")

    assert (
        gate.digest
        == Gate(name="a", group=2, script="x", reason="r", timeout_s=5, flaky_reruns=3).digest
    )
    assert gate.digest != Gate(name="a", group=1, script="y", reason="r").digest
    assert gate.digest != Gate(name="a", group=1, command=("x",), reason="r").digest


def test_files_that_an_inferred_setup_would_read_if_they_appeared_are_sources_too() -> None:
    changed = [
        "requirements-dev.txt",
        "setup.py",
        "package.json",
        "src/app.py",
        "docs/requirements.txt",
    ]
    inferred, written = of({"requirements.txt": "attrs\n"}), of({SETUP: "pip install -r a.txt\n"})

    assert inferred.sources_among(changed) == inferred.sources | {
        "requirements-dev.txt",
        "setup.py",
        "package.json",
    }
    assert written.sources_among(changed) == written.sources


def test_a_setup_shows_its_commands_as_a_person_types_them() -> None:
    setup = Setup(
        commands=(
            ("{python}", "-m", "venv", "{venv}"),
            ("{venv}/bin/pip", "install", "a b"),
            ("sh", "-e", "-c", "cd web && npm ci"),
        ),
        script="make deps\n",
        reason="conventions/workspace/setup.sh",
    )

    assert setup.shown() == [
        "python3 -m venv venv",
        "venv/bin/pip install 'a b'",
        "cd web && npm ci",
        "sh conventions/workspace/setup.sh",
    ]
