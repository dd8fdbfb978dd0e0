"""The machine around a command: variables, PATH, tools and caches, captured at the daemon's start.

Invariant: PATH contains no folder of the user's checkout, of a venv that was active at the start,
or of factoryd's own venv. A tool from such a folder would load the wrong modules.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from factory.child.profile import Profile
from factory.child.programs import TOOLCHAINS
from factory.ground.places import home
from factory.ground.regular import is_real
from factory.inference.rules import Setup
from factory.judging.place import Place
from factory.judging.standing import identity

_CAPTURED = ("LANG", "LC_ALL", "SHELL", "USER", "LOGNAME")
# How this machine reaches the network: proxies, certificates, and indexes of packages.
_NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
    *("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST"),
    *("PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_NO_INDEX"),
    *("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"),
    *("UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"),
    *("NODE_EXTRA_CA_CERTS", "npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_cafile"),
    *("YARN_NPM_REGISTRY_SERVER", "BUN_CONFIG_REGISTRY", "COREPACK_NPM_REGISTRY"),
    *("GOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "GOPRIVATE"),
    *("CARGO_HTTP_CAINFO", "CARGO_HTTP_PROXY"),
)
_CREDENTIALS = re.compile(r"://[^/\s@]+@")
_TOOLS = ("python3", "uv", "node", "npm", "pnpm", "yarn", "go", "cargo", "rustc", "make")
_CACHES = (
    "PIP_CACHE_DIR",
    "UV_CACHE_DIR",
    "npm_config_cache",
    "GOMODCACHE",
    "GOCACHE",
    "CARGO_HOME",
)


class Machine:
    """The environment variables of commands, and the folders that commands may write.

    `environ`: the variables at the daemon's start. `passed` ([env] pass) names the variables that
    commands get. `root`: the user's checkout. `caches`: the folder for the caches of tools.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        root: Path,
        caches: Path,
        passed: Callable[[], Sequence[str]],
    ) -> None:
        self.root = root
        self._environ = environ
        self._caches = caches
        self._passed = passed
        self._path = _path(environ, root)

    def variables(self, place: Place, *, judging: bool = False) -> dict[str, str]:
        """Return all variables of a command at `place`; `judging`: the command is a gate."""
        env = self._toolchains()
        env |= self._captured((*_CAPTURED, *TOOLCHAINS))
        env |= self._network()
        caches = self._caches_of(place, judging=judging)
        for name in _CACHES:
            env[name] = str(caches / name)
        env |= self.passed()
        env |= ports(place.index)
        env |= {
            "HOME": str(place.home),
            "TMPDIR": str(place.tmp),
            "TMPPREFIX": f"{place.tmp}/zsh",  # without it, zsh writes into /tmp
            "PATH": f"{place.venv}/bin{os.pathsep}{self._path}",
            # With hard links, a gate that writes into its venv would also write into other venvs.
            "UV_LINK_MODE": "copy",
            "UV_COMPILE_BYTECODE": "1",
            "UV_PROJECT_ENVIRONMENT": str(place.venv),
        }
        if (place.venv / "bin").is_dir():
            env["VIRTUAL_ENV"] = str(place.venv)
        if judging:
            env |= {"PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
        return env

    def profile(self, place: Place, *, judging: bool = False, layer: Path | None = None) -> Profile:
        """Return what a command at `place` may write.

        Gates must not change the environment, and candidates must not change the caches. `layer`: a
        folder for files that a gate writes in the tree while other gates run. The other gates do
        not see these files, because a gate must not change what others judge.
        """
        caches = self._caches_of(place, judging=judging)
        caches.mkdir(parents=True, exist_ok=True)
        writes = list[Path]()
        scratch = list[Path]()
        if layer is None:
            writes += [place.tree, place.home, place.tmp]
        installed = writes if not judging else scratch
        for path in place.installed:
            if is_real(path):
                installed.append(path)
        if place.candidate:
            scratch.append(caches)
        else:
            writes.append(caches)
        if layer is None:
            return Profile(writes=tuple(writes), scratch=tuple(scratch))
        scratch += [place.home, place.tmp]
        return Profile(writes=tuple(writes), scratch=tuple(scratch), layered={place.tree: layer})

    def passed(self) -> dict[str, str]:
        """Return the variables named by [env] pass, with their values."""
        return self._captured(self._passed())

    def which(self, name: str) -> str:
        """Return the path of a tool, as commands find the tool; empty if they do not find it."""
        return shutil.which(name, path=self._path) or ""

    @property
    def python(self) -> str:
        """The Python that makes venvs: the user's own, even if it comes from a venv."""
        return shutil.which("python3", path=self._environ.get("PATH", os.defpath)) or "python3"

    def around(self, setup: Setup) -> list[str]:
        """Return everything that an environment depends on, without the tree."""
        parts = [setup.digest, self.python, repr(sorted(self.passed().items()))]
        for name in _TOOLS:
            parts.append(f"{name} {identity(self.which(name))}")
        return parts

    def _toolchains(self) -> dict[str, str]:
        """Return the toolchain folders in the user's HOME: variable name → folder."""
        found = dict[str, str]()
        for name, folder in TOOLCHAINS.items():
            path = home(self._environ) / folder
            if path.is_dir():
                found[name] = str(path)
        return found

    def _network(self) -> dict[str, str]:
        """Return the network settings, without those that hold a password.

        Code that an agent wrote runs in setups and gates, so no command gets a password by itself.
        """
        found = self._captured(_NETWORK)
        return {name: value for name, value in found.items() if not _CREDENTIALS.search(value)}

    def _captured(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._environ[name] for name in names if name in self._environ}

    def _caches_of(self, place: Place, *, judging: bool) -> Path:
        """Return the folder of caches. Gates have their own, so that no setup reads their files."""
        return self._caches / ("gates" if judging else place.caches)


def ports(index: int) -> dict[str, str]:
    """Return variables with a separate range of ports for each place."""
    first = 20_000 + 100 * index
    return {
        "FACTORY_WORKER_INDEX": str(index),
        "FACTORY_PORT": str(first),
        "FACTORY_PORT_LAST": str(first + 99),
    }


def _path(environ: Mapping[str, str], root: Path) -> str:
    """Return PATH without relative folders and without those that the invariant excludes."""
    own = sys.prefix if sys.prefix != sys.base_prefix else ""
    barred = list[Path]()
    for folder in (str(root), environ.get("VIRTUAL_ENV"), own):
        if folder:
            barred.append(Path(folder).resolve())
    kept = list[str]()
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        if folder[:1] != "/":
            continue
        real = Path(folder).resolve()
        if not any(map(real.is_relative_to, barred)):
            kept.append(folder)
    return os.pathsep.join(kept)
