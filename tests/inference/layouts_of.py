"""How the table of layouts shows what is inferred from a commit."""

from factory.inference.infer import rules_of, wanted
from factory.inference.python_setup import PIP_INSTALL, UV, VENV

PYTHON = (3, 13)
_DEPENDENCIES = ("node_modules", ".venv", ".tox", ".nox")


def shown(files: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The gates, the setup and the folders of dependencies, as text."""
    contents = {name: files[name] for name in wanted(list(files))}
    found = rules_of(list(files), contents, python=PYTHON)
    gates = tuple(f"{gate.name}: {gate.shown} <- {gate.reason}" for gate in found.gates)
    keeps = tuple(path for path in found.setup.keeps if path.endswith(_DEPENDENCIES))
    return gates, tuple(filter(None, map(_command, found.setup.commands))), keeps


def _command(words: tuple[str, ...]) -> str:
    if words[0].startswith("{venv}/tools"):
        return " ".join(("client", *words[words.index("--no-input") + 1 :]))
    if words[: len(VENV) - 1] == VENV[:-1] or words == UV or words[0] == "ln":
        return ""
    if words[: len(PIP_INSTALL)] == PIP_INSTALL:
        return " ".join(("pip install", *words[len(PIP_INSTALL) :]))
    if words[:2] == ("npm", "install") and "--global" in words:
        return f"get {words[-1]}"
    script = words[-1] if words[0] in ("sh", "bash") else " ".join(words)
    return script.replace("{venv}/bin/", "").replace("\n", " && ")
