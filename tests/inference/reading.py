"""How the tests here read a commit of a few files."""

from factory.inference.infer import rules_of, wanted
from factory.inference.rules import Rules

GATES = "conventions/gates/"
SETUP = "conventions/workspace/setup.sh"
UNITTEST = "import unittest\nclass TestA(unittest.TestCase): ...\n"
VENV = ("{python}", "-I", "-m", "venv", "{venv}")


def of(files: dict[str, str]) -> Rules:
    names = wanted(list(files))
    return rules_of(list(files), {name: files[name] for name in names})


def commands(found: Rules) -> dict[str, str]:
    return {gate.name: gate.shown for gate in found.gates}


def installs(found: Rules) -> list[str]:
    return [" ".join(command[7:]) for command in found.setup.commands if "pip" in command]
