"""Guards: the changes that an agent may not make without permission.

Without permission, a change may not leave its scope, change how it is judged, or run code on the
user's machine.

Invariant: functions are pure. Upper and lower case do not matter, and symlinks are followed.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import cache
from itertools import chain

from factory.ground import bounded
from factory.ground.names import HIDDEN, INBOX
from factory.ground.scope import parents, with_parents, within
from factory.ground.sentences import SHOWN, shown
from factory.store.unit import EndReason

OURS = frozenset({".factory", INBOX, HIDDEN[INBOX]})
# Permissions. A task can list them under `allow`, or a person can give them with an answer.
KEYS_SHOWN = 2  # so many changed keys of a file are in the sentence; the evidence has more
GATES = "edit-gates"
AGENTS = "edit-agents"


@dataclass(frozen=True, slots=True)
class Rule:
    """A guarded path: what its content does, where, and which `allow` permits a change.

    `path` is a file, or a folder with everything below it; `*` stands for a part of a name. A path
    with a leading slash begins at the root. Any other path matches at any depth. Upper and lower
    case do not matter.
    """

    path: str
    runs: str
    where: str
    allow: str


def _rules(allow: str, where: str, rows: Mapping[str, str]) -> Iterator[Rule]:
    """Yield a rule for each path. Each row: what the content does, and its paths."""
    for runs, paths in rows.items():
        for path in paths.split():
            yield Rule(path, runs, where, allow)


_HERE = "the factory"
_CI = "your CI and your forge"
_AGENTS = "agents on your machine"
_EDITORS = "editors on your machine"
_SHELLS = "shells and git on your machine"
_TOOLS = "tools on your machine"

RULES: Sequence[Rule] = (
    *_rules(
        GATES,
        _HERE,
        {
            "settings of the factory": "/factory.toml",
            "gates, setup, prompts, runtimes, knowledge": "/conventions /.conventions",
            "the same, if conventions/ is the project's own": (
                "/conventions/gates /conventions/workspace /conventions/prompts "
                "/conventions/runtimes /conventions/knowledge /conventions/policy.toml"
            ),
            "checks that are run by hand and in CI": "/.ci",
            "code that every Python runs when it starts, also in gates": (
                "sitecustomize.py usercustomize.py sitecustomize usercustomize"
            ),
        },
    ),
    *_rules(
        GATES,
        _CI,
        {
            "GitHub Actions": "/.github/workflows /.github/actions",
            "Gitea Actions": "/.gitea/workflows /.gitea/actions",
            "Forgejo Actions": "/.forgejo/workflows /.forgejo/actions",
            "GitLab CI": "/.gitlab-ci.yml /.gitlab-ci.yaml /.gitlab",
            "CircleCI": "/.circleci",
            "Buildkite": "/.buildkite",
            "Woodpecker": "/.woodpecker /.woodpecker.yml /.woodpecker.yaml",
            "Travis CI": "/.travis.yml",
            "Drone": "/.drone.yml /.drone.yaml /.drone.star /.drone.jsonnet",
            "Bitbucket Pipelines": "/bitbucket-pipelines.yml",
            "Azure Pipelines": "/azure-pipelines* /.azure-pipelines* /.azuredevops /.vsts-ci.yml",
            "Jenkins": "jenkinsfile*",
            "AppVeyor": "/appveyor.yml /.appveyor.yml",
            "Cirrus CI": "/.cirrus.yml /.cirrus.star",
            "Cloud Build": "cloudbuild.yaml cloudbuild.yml cloudbuild.json",
            "AWS CodeBuild": "buildspec.yml buildspec.yaml",
            "Semaphore": "/.semaphore",
            "TeamCity": "/.teamcity",
            "Tekton": "/.tekton",
            "Codefresh": "/codefresh.yml",
            "Harness": "/.harness",
            "sourcehut builds": "/.build.yml /.builds",
            "required reviewers": "codeowners",
            "Dependabot, which opens pull requests": (
                "/.github/dependabot.yml /.github/dependabot.yaml"
            ),
            "Renovate, which opens pull requests": "renovate.json renovate.json5 .renovaterc*",
            "rules for merging and for the repository": (
                "/.mergify.yml /.github/mergify.yml /.github/settings.yml"
            ),
        },
    ),
    *_rules(
        AGENTS,
        _AGENTS,
        {
            "instructions of many agents": (
                "agents.md agent.md agents.override.md .agents .agent .rules"
            ),
            "Claude Code: settings, hooks, servers, instructions": (
                ".claude .claude-plugin claude.md claude.local.md .mcp.json"
            ),
            "Codex": ".codex",
            "Gemini CLI": ".gemini gemini.md",
            "OpenCode": ".opencode opencode.json opencode.jsonc",
            "Cursor": ".cursor .cursorrules",
            "GitHub Copilot": (
                "copilot-instructions.md .github/instructions .github/prompts "
                ".github/agents .github/chatmodes .github/hooks .github/skills "
                ".github/copilot"
            ),
            "Windsurf": ".windsurf .windsurfrules",
            "Cline, Roo, Kilo": (
                ".clinerules .cline .roo .roorules* .roomodes .kilocode .kilocodemodes"
            ),
            "Continue": ".continue .continuerules",
            "Aider": ".aider.conf.yml .aider.conf.yaml .aider.model.*",
            "Junie, Kiro, Qwen, Goose, Amazon Q": (
                ".junie .kiro .qwen qwen.md .goose .goosehints .amazonq"
            ),
            "Augment, Trae, Warp": ".augment .augment-guidelines .trae warp.md",
            "Crush": ".crush crush.json .crush.json crush.md",
        },
    ),
    *_rules(
        AGENTS,
        _EDITORS,
        {
            "VS Code: tasks, settings, servers": ".vscode *.code-workspace",
            "JetBrains: run configurations, startup tasks": ".idea .run .fleet",
            "Zed: tasks, settings": ".zed",
            "Vim": ".exrc .vimrc .nvimrc .nvim.lua .lvimrc",
            "Emacs": ".dir-locals.el .dir-locals-2.el",
            "Sublime Text: build systems": "*.sublime-project",
            "development containers, started by editors": (
                ".devcontainer .devcontainer.json .gitpod.yml"
            ),
        },
    ),
    *_rules(
        AGENTS,
        _SHELLS,
        {
            "direnv, when somebody enters the folder": ".envrc",
            "mise and asdf, when somebody enters the folder": (
                "mise.toml mise.*.toml .mise.toml .mise.*.toml mise/config*.toml .mise "
                ".config/mise .config/mise.toml .rtx.toml .tool-versions"
            ),
            "git hooks": ".husky .githooks .git-hooks .huskyrc* .hooks",
            "pre-commit, at a commit": ".pre-commit-config.yaml .pre-commit-config.yml",
            "lefthook, at a commit": (
                "lefthook.* .lefthook.* lefthook-local.* .lefthook-local.* .lefthook"
            ),
            "other hooks at a commit": (
                ".overcommit.yml .simple-git-hooks.* simple-git-hooks.* .lintstagedrc* "
                "lint-staged.config.* .commitlintrc* commitlint.config.*"
            ),
            "sources of submodules and large files": ".gitmodules .lfsconfig",
        },
    ),
    *_rules(
        AGENTS,
        _TOOLS,
        {
            "npm, pnpm, Yarn, Bun: registries, scripts' shell, plugins": (
                ".npmrc .yarnrc .yarnrc.yml .yarn .pnpmfile.* .pnp.cjs .pnp.loader.mjs bunfig.toml"
            ),
            "Cargo and rustup: runners, wrappers, toolchains": (
                ".cargo rust-toolchain rust-toolchain.toml"
            ),
            "Maven and Gradle: extensions, wrappers": ".mvn gradle/wrapper",
            "Bundler": ".bundle",
            "Bazel": ".bazelrc",
            "debuggers and consoles, when they start": (
                ".gdbinit .lldbinit .pdbrc .irbrc .pryrc .rprofile .renviron"
            ),
        },
    ),
)

_MINE = "which agents, editors or tools on your machine obey"
_PHRASES = {
    _HERE: "which the factory uses to judge or set up work",
    _CI: "which your CI or your forge obeys",
    **dict.fromkeys((_AGENTS, _EDITORS, _SHELLS, _TOOLS), _MINE),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a change is not judged; `liftable`: a person can give permission for the change."""

    kind: EndReason  # out_of_scope or guard; the card gets the same kind
    paths: tuple[str, ...]
    sentence: str
    liftable: bool = True
    evidence: tuple[str, ...] = ()  # one line per guarded path: what its content runs, and where


def guard(
    changed: Iterable[str],
    guards: "Guards",
    *,
    allow: Collection[str] = (),
    scope: Collection[str] = (),
    links: Mapping[str, str] | None = None,
    larger: Mapping[str, int] | None = None,
) -> Refused | None:
    """Return the first objection to a change of these paths, or None.

    `changed` has both names of a moved file. `allow` and `scope` come from the task; after a
    person's permission, the caller passes all guards or no scope. `links`: the target of each
    changed symlink. `larger`: the rule files that are too large to be read, each with its size in
    bytes.
    """
    paths = sorted(set(changed))
    ours = [path for path in paths if _is_ours(path, links or {}, guards.ours)]
    if ours:
        sentence = (
            f"it touches {shown(ours)}: .factory/ and the inbox belong to the factory, "
            "and no task may change them"
        )
        return Refused(EndReason.OUT_OF_SCOPE, tuple(ours), sentence, liftable=False)
    outside = [path for path in paths if scope and not within(path, scope)]
    if outside:
        sentence = f"it touches {shown(outside)}, outside its scope ({', '.join(scope)})"
        return Refused(EndReason.OUT_OF_SCOPE, tuple(outside), sentence)
    refused = _guarded(paths, guards, allow)
    return _too_large(larger, refused) if larger else refused


def _guarded(paths: Sequence[str], guards: "Guards", allow: Collection[str]) -> Refused | None:
    refused = dict[str, dict[str, str]]()  # path → its text in the sentence, by phrase
    evidence = list[str]()
    for path in paths:
        every = guards.of(path)
        link = guards.link_to(path)
        led = ""
        if link:
            every += guards.of_link(link)
            led = f"{link} leads there: "
        rules = [rule for rule in every if rule.allow not in allow]
        if not rules:
            continue
        keys = guards.keys_of(path)
        which = f"{shown(keys)}: " if keys else ""
        evidence.append(f"{path}: {which}{led}{rules[0].runs} ({rules[0].where})")
        label = f"{path} ({shown(keys, KEYS_SHOWN)})" if keys else path
        for phrase in dict.fromkeys(_PHRASES[rule.where] for rule in rules):
            refused.setdefault(phrase, {})[path] = label
    if not refused:
        return None
    named = dict.fromkeys(chain.from_iterable(refused.values()))
    sentences = [f"it changes {shown(them.values())}, {phrase}" for phrase, them in refused.items()]
    return Refused(EndReason.GUARD, tuple(named), "; ".join(sentences), evidence=tuple(evidence))


def _too_large(larger: Mapping[str, int], refused: Refused | None) -> Refused:
    """Return the objection to files that are too large to be read, with the other objections."""
    most = f"{bounded.shown(bounded.PARSED)} (lock files: {bounded.shown(bounded.LOCK_FILE)})"
    sentence = (
        f"it has {bounded.listed(larger.items(), SHOWN)}, but a file that decides how work "
        f"is judged may have at most {most}"
    )
    paths = dict.fromkeys(larger)
    evidence = [f"{path}: {bounded.shown(size)}" for path, size in larger.items()]
    if refused:
        sentence = f"{sentence}; {refused.sentence}"
        paths |= dict.fromkeys(refused.paths)
        evidence += refused.evidence
    return Refused(EndReason.GUARD, tuple(paths), sentence, evidence=tuple(evidence))


class Guards:
    """Finds the rules that guard a path: those in the table, and a rule for each of `sources`.

    `sources`: the files that gates and setup were read or inferred from. `theirs`: folders of the
    project that have a name of the factory's folders (see ground/names.py). `reached`: the targets
    of trunk's guarded symlinks, each with its link (see `led_to`). `keys`: the changed keys that
    judge, for each changed file that was compared (see keys.py). If a source has none, its change
    needs no permission.
    """

    def __init__(
        self,
        sources: Collection[str] = (),
        *,
        theirs: Collection[str] = (),
        reached: Mapping[str, str] | None = None,
        keys: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.ours = OURS.difference(theirs)
        self._sources = frozenset(map(str.casefold, sources))
        self._theirs = frozenset(f"/{name}" for name in theirs)
        self._above = frozenset(chain.from_iterable(map(parents, self._sources)))
        self._reached = reached or {}
        self._keys = keys or {}

    def of(self, path: str) -> list[Rule]:
        """Return the rules for a path."""
        plain = path.casefold()
        found = list[Rule]()
        is_judging = path not in self._keys or bool(self._keys[path])
        if plain in self._sources and is_judging:
            found.append(_source(path))
        elif not self._sources.isdisjoint(parents(plain)):
            found.append(_source(path))
        parts = plain.split("/")
        for at, part in enumerate(parts):
            for row in _rows_for(part):
                if row.rule.path not in self._theirs and row.fits(parts, at):
                    found.append(row.rule)
        return found

    def keys_of(self, path: str) -> Sequence[str]:
        """Return the changed keys of a file that judge, if the file was compared."""
        return self._keys.get(path, ())

    def of_link(self, path: str) -> list[Rule]:
        """Return the rules for a symlink at that path and for all paths that can lie below it."""
        plain = path.casefold()
        found = self.of(path)
        if plain in self._above:
            found.append(_source(path))
        return found + [row.rule for row in _long() if row.is_below(plain)]

    def link_to(self, path: str) -> str:
        """Return the guarded link in trunk that leads to a path; empty if there is none."""
        return _nearest(path.casefold(), self._reached)


def _source(path: str) -> Rule:
    return Rule(path, "it decides gates or setup", _HERE, GATES)


# ── the table, by the first part of a path ──


@dataclass(frozen=True, slots=True)
class _Row:
    """A rule with its path split into parts."""

    rule: Rule
    parts: tuple[str, ...]
    rooted: bool

    def fits(self, path: Sequence[str], at: int) -> bool:
        """Whether the path has the rule's parts from position `at` on."""
        if self.rooted and at:
            return False
        here = path[at : at + len(self.parts)]
        return len(here) == len(self.parts) and all(map(fnmatchcase, here, self.parts))

    def is_below(self, folder: str) -> bool:
        """Whether a path that the rule guards can lie below that folder."""
        path = folder.split("/")
        for count in range(1, len(self.parts)):
            end = path[-count:]
            if len(end) < count or (self.rooted and len(path) != count):
                continue
            if all(map(fnmatchcase, end, self.parts)):
                return True
        return False


@cache
def _rows() -> tuple[Mapping[str, Sequence[_Row]], Sequence[_Row], re.Pattern[str]]:
    """Return the rules by first part, the rules with a `*` there, and a pattern for the latter."""
    plain = defaultdict[str, list[_Row]](list)
    wild = list[_Row]()
    for rule in RULES:
        path = rule.path.removeprefix("/")
        row = _Row(rule, tuple(path.split("/")), rooted=path != rule.path)
        first = row.parts[0]
        if "*" in first:
            wild.append(row)
        else:
            plain[first].append(row)
    return plain, wild, re.compile("|".join(translate(row.parts[0]) for row in wild))


@cache
def _long() -> Sequence[_Row]:
    """Return the rules with more than one part."""
    plain, wild, _ = _rows()
    every = chain(*plain.values(), wild)
    return [row for row in every if len(row.parts) > 1]


def _rows_for(part: str) -> Sequence[_Row]:
    """Return the rules that may begin with that part. This is fast, for changes with many paths."""
    plain, wild, like_them = _rows()
    found = plain.get(part, ())
    return (*found, *wild) if like_them.match(part) else found


# ── links ──


def led_to(links: Mapping[str, str], origins: Mapping[str, str]) -> dict[str, str]:
    """Return the symlinks' targets in the repository: target in lower case → guarded link.

    `links`: link → its target; `origins`: link → the guarded link that led to it.
    """
    found = dict[str, str]()
    for path, to in links.items():
        target = _target(path, to)
        if target.split("/")[0] not in ("", "..", "."):
            found[target.casefold()] = origins[path]
    return found


def in_the_way(links: Iterable[str], found: Mapping[str, str]) -> dict[str, str]:
    """Return the links at, above or below a path in `found`, each with that path's guarded link."""
    above = dict[str, str]()
    for path, origin in found.items():
        for parent in with_parents(path):
            above[parent] = origin
    met = dict[str, str]()
    for link in links:
        plain = link.casefold()
        origin = above.get(plain) or _nearest(plain, found)
        if origin:
            met[link] = origin
    return met


def _is_ours(path: str, links: Mapping[str, str], ours: frozenset[str]) -> bool:
    if path.casefold().split("/")[0] in ours:
        return True
    if path not in links:
        return False
    target = _target(path, links[path]).casefold().split("/")
    if target[0] in ("", ".."):
        # The link leads out of the tree and may lead back into it, so each part of its target
        # counts.
        return not ours.isdisjoint(target)
    return target[0] in ours


def _target(path: str, to: str) -> str:
    """Return the path that a link at `path` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), to))


# ── folders above a path ──


def _nearest(path: str, found: Mapping[str, str]) -> str:
    """Return the value of a path or of the nearest folder above it; empty if none has a value."""
    for above in with_parents(path):
        if above in found:
            return found[above]
    return ""
