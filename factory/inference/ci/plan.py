"""The parts of a setup, collected from the steps of CI."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from factory.inference import node, python_setup
from factory.inference.files import PYTHON_INPUTS, Files
from factory.inference.rules import Setup


@dataclass
class Plan:
    """Commands in their order, each once, and what they need."""

    commands: dict[tuple[str, ...], None] = field(default_factory=dict)
    builds: dict[tuple[str, ...], None] = field(default_factory=dict)
    kinds: dict[str, None] = field(default_factory=dict)
    clients: dict[str, dict[str, None]] = field(default_factory=dict)  # each with requirements
    keeps: dict[str, None] = field(default_factory=dict)
    inputs: dict[str, None] = field(default_factory=dict)
    origins: dict[str, None] = field(default_factory=dict)

    def add(self, kind: str, *command: str, builds: bool = False) -> None:
        """Add a command; `builds`: it runs again for each tree."""
        self.kinds[kind] = None
        self.commands[command] = None
        if builds:
            self.builds[command] = None

    def pip(self, *arguments: str, builds: bool = False) -> None:
        """Add an installation into the venv."""
        self.add("pip", *python_setup.PIP_INSTALL, *arguments, builds=builds)

    def client(self, name: str, *requirements: str) -> None:
        """Add a client, such as poetry or tox, with an environment of its own."""
        self.clients.setdefault(name, {}).update(dict.fromkeys(requirements))

    def packages(self, found: Setup) -> None:
        """Add the packages of node of one folder."""
        for command in found.commands:
            self.add(found.kind, *command, builds=command in found.rebuild)
        self.keeps |= dict.fromkeys(found.keeps)
        self.inputs |= dict.fromkeys(found.inputs)

    def setup(self, files: Files, read_from: Iterable[str], *, python_used: bool) -> Setup:
        """Return the whole; `read_from`: the files of CI."""
        found = Setup()
        if self.commands or self.clients or python_used:
            said = ", ".join(self.origins)
            found = Setup(
                # In the order of the steps: the digest of the environment contains the kind.
                kind="+".join(kind for kind in self.kinds if kind != "node") or "pip",
                commands=(python_setup.VENV, *self._client_commands(), *self.commands),
                inputs=(*PYTHON_INPUTS, *read_from, *self.inputs),
                keeps=tuple(self.keeps),
                rebuild=tuple(self.builds),
                reason=f"what CI installs ({said})" if said else "what CI uses",
            )
        if "node" in self.kinds:
            found = node.with_packages(files, found)
        return found

    def _client_commands(self) -> Iterator[tuple[str, ...]]:
        """Yield commands that install each client apart from the packages of the project."""
        for name, requirements in self.clients.items():
            if name == "uv":
                yield python_setup.UV
                continue
            yield from python_setup.client_commands(name, *requirements)
