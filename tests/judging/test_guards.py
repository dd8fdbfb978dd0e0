"""Which changes are refused before anything is judged."""

import time

import pytest

from factory.ground.sentences import shown
from factory.judging.guards import RULES, Guards, Refused, guard, in_the_way, led_to
from factory.store.unit import EndReason

SOURCES = frozenset({"pyproject.toml", "Makefile"})


def test_a_change_of_ordinary_files_is_let_through() -> None:
    assert guard(["src/a.py", "tests/test_a.py", "docs/inbox.md"], Guards(SOURCES)) is None


@pytest.mark.parametrize(
    "path",
    [
        "inbox/x.md",
        "INBOX/x.md",
        ".inbox/x.md",
        ".Inbox",
        ".factory/store.sqlite",
        ".Factory/x",
        "inbox",
        ".factory",
    ],
)
def test_the_factorys_own_folders_are_refused_in_any_case_and_nothing_lifts_it(path: str) -> None:
    refused = guard(
        ["a.py", path], Guards(SOURCES), allow=["edit-gates", "protected"], scope=["**"]
    )

    assert refused == Refused(
        EndReason.OUT_OF_SCOPE,
        (path,),
        f"it touches {path}: .factory/ and the inbox belong to the factory, and no task may change them",
        liftable=False,
    )


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("link", "inbox"),
        ("link", "./INBOX/x"),
        ("a/b/link", "../../.factory"),
        ("link", "../elsewhere/.factory/git"),
        ("link", "/home/somebody/project/inbox"),
        ("a/link", "../a/../inbox/"),
    ],
)
def test_a_symlink_into_the_factorys_own_folders_is_refused(path: str, target: str) -> None:
    refused = guard([path], Guards(), links={path: target})

    assert (refused and refused.paths, refused and refused.liftable) == ((path,), False)


@pytest.mark.parametrize("target", ["docs/inbox", "src", "../other", "inbox2"])
def test_a_symlink_to_elsewhere_is_let_through(target: str) -> None:
    assert guard(["link"], Guards(), links={"link": target}) is None


def test_a_change_outside_the_scope_names_what_lies_outside() -> None:
    refused = guard(["src/a.py", "lib/b.py"], Guards(), scope=["src/**", "docs"])

    assert refused == Refused(
        EndReason.OUT_OF_SCOPE,
        ("lib/b.py",),
        "it touches lib/b.py, outside its scope (src/**, docs)",
    )


@pytest.mark.parametrize(
    "path",
    [
        "factory.toml",
        "conventions/gates/10-lint.sh",
        "Conventions/policy.toml",
        "conventions/workspace/setup.sh",
        ".github/workflows/ci.yml",
        ".ci/run",
        "src/sitecustomize.py",
        "usercustomize/__init__.py",
        ".gitlab-ci.yml",
        "Jenkinsfile",
        "pyproject.toml",
        "PYPROJECT.toml",
        "makefile",
    ],
)
def test_what_judges_or_sets_up_work_is_guarded(path: str) -> None:
    refused = guard(["a.py", path], Guards(SOURCES))

    assert refused
    assert (refused.kind, refused.paths, refused.liftable) == (EndReason.GUARD, (path,), True)
    assert f"it changes {path}, " in refused.sentence


def test_a_task_that_allows_edit_gates_may_change_them() -> None:
    assert (
        guard(["conventions/gates/10.sh", "Makefile"], Guards(SOURCES), allow=["edit-gates"])
        is None
    )


def test_allowing_edit_gates_does_not_widen_the_scope() -> None:
    refused = guard(["Makefile"], Guards(SOURCES), allow=["edit-gates"], scope=["src"])

    assert refused
    assert refused.kind is EndReason.OUT_OF_SCOPE


def test_a_file_that_changed_in_no_key_that_judges_needs_no_permission() -> None:
    keys = {"pyproject.toml": ("tool.ruff.a", "tool.ruff.b", "tool.ruff.c"), "Makefile": ()}

    refused = guard(["Makefile", "pyproject.toml"], Guards(SOURCES, keys=keys))

    assert refused == Refused(
        EndReason.GUARD,
        ("pyproject.toml",),
        "it changes pyproject.toml (tool.ruff.a, tool.ruff.b and 1 more), "
        "which the factory uses to judge or set up work",
        evidence=(
            "pyproject.toml: tool.ruff.a, tool.ruff.b, tool.ruff.c: "
            "it decides gates or setup (the factory)",
        ),
    )
    assert guard(["Makefile"], Guards(SOURCES, keys=keys)) is None


def test_keys_lift_no_other_guard_of_a_file() -> None:
    keys = {".mcp.json": (), "checks/package.json": (), "package.json": ()}
    guards = Guards({"checks"}, keys=keys, reached={"package.json": "CLAUDE.md"})

    refused = guard(list(keys), guards)

    assert refused
    assert set(refused.paths) == keys.keys()


def test_names_that_only_begin_alike_are_not_guarded() -> None:
    alike = [
        "conventions.md",
        "src/factory.toml",
        "Makefile.md",
        "src/conventions/a.py",
        "src/.github/workflows/a.yml",
    ]
    alike += [
        "my.claude/a",
        "claude.md.txt",
        "docs/claude.md.j2",
        "src/mise/a.py",
        "a.vscode",
        ".git-blame-ignore-revs",
    ]
    alike += [
        "src/agents.py",
        "agents/a.py",
        "src/hooks/a.py",
        "justfile",
        ".github/ISSUE_TEMPLATE/bug.md",
        ".editorconfig",
    ]

    assert guard(alike, Guards(SOURCES)) is None


def test_folders_of_the_projects_own_are_no_concern_of_the_guard_but_what_would_rule_is() -> None:
    theirs = frozenset({"inbox", "conventions"})

    assert guard(["inbox/models.py", "conventions/naming.md"], Guards(theirs=theirs)) is None
    assert guard(["conventions/naming.md"], Guards())
    for path in (
        "conventions/gates/10-true.sh",
        "Conventions/policy.toml",
        "conventions/workspace/setup.sh",
    ):
        refused = guard([path], Guards(theirs=theirs))

        assert refused
        assert refused.kind is EndReason.GUARD
    refused = guard([".inbox/x.md"], Guards(theirs=theirs))
    assert refused
    assert not refused.liftable


# ── what runs in CI, and on the user's machine


CI = [
    *(
        ".gitea/workflows/a.yml",
        ".forgejo/workflows/a.yml",
        "appveyor.yml",
        ".appveyor.yml",
        ".cirrus.yml",
    ),
    *(
        "cloudbuild.yaml",
        "deploy/cloudbuild.json",
        ".github/workflows/ci.yml",
        ".circleci/config.yml",
        "Jenkinsfile",
    ),
    *(
        "ci/Jenkinsfile.release",
        "azure-pipelines-nightly.yml",
        ".woodpecker/a.yml",
        ".drone.yml",
        ".travis.yml",
    ),
    *(
        "bitbucket-pipelines.yml",
        ".gitlab-ci.yml",
        ".gitlab/ci/a.yml",
        "buildspec.yml",
        ".semaphore/semaphore.yml",
    ),
    *(
        "CODEOWNERS",
        ".github/CODEOWNERS",
        "docs/CODEOWNERS",
        ".github/dependabot.yml",
        "renovate.json",
        ".mergify.yml",
    ),
]
MACHINE = [
    *(
        ".claude/settings.json",
        "sub/.claude/hooks/a.sh",
        ".mcp.json",
        "CLAUDE.md",
        "src/CLAUDE.local.md",
        "AGENTS.md",
    ),
    *(
        "sub/AGENTS.md",
        "a/b/agents.md",
        "GEMINI.md",
        ".codex/config.toml",
        ".gemini/settings.json",
        "opencode.json",
    ),
    *(
        ".opencode/agent/a.md",
        ".cursor/rules/a.mdc",
        ".cursorrules",
        ".github/copilot-instructions.md",
        ".junie/a.md",
    ),
    *(
        ".github/instructions/a.instructions.md",
        ".windsurfrules",
        ".clinerules/a.md",
        ".aider.conf.yml",
        ".kiro/a",
    ),
    *(
        ".envrc",
        "sub/.envrc",
        ".tool-versions",
        "mise.toml",
        ".mise.local.toml",
        ".config/mise/config.toml",
    ),
    *(
        ".husky/pre-commit",
        "web/.husky/pre-push",
        ".githooks/post-merge",
        "lefthook.yml",
        ".lefthook-local.yml",
    ),
    *(
        ".pre-commit-config.yaml",
        ".lintstagedrc.mjs",
        "commitlint.config.js",
        ".gitmodules",
        ".lfsconfig",
    ),
    *(
        ".vscode/tasks.json",
        "sub/.vscode/settings.json",
        "a.code-workspace",
        ".idea/runConfigurations/a.xml",
        ".run/a",
    ),
    *(
        ".zed/tasks.json",
        ".exrc",
        ".dir-locals.el",
        ".devcontainer/devcontainer.json",
        ".devcontainer.json",
    ),
    *(
        "web/.npmrc",
        ".yarnrc.yml",
        ".yarn/releases/yarn.cjs",
        ".pnpmfile.cjs",
        "bunfig.toml",
        ".cargo/config.toml",
    ),
    *(
        "rust-toolchain.toml",
        ".mvn/extensions.xml",
        "gradle/wrapper/gradle-wrapper.properties",
        ".bazelrc",
    ),
    *(".gdbinit", ".Rprofile", ".pdbrc"),
]


@pytest.mark.parametrize("path", CI)
def test_what_runs_in_ci_or_rules_the_forge_is_lifted_by_edit_gates(path: str) -> None:
    for spelled in (path, path.upper()):
        refused = guard(["a.py", spelled], Guards(SOURCES), allow=["edit-agents"])

        assert refused
        assert (refused.kind, refused.paths) == (EndReason.GUARD, (spelled,))
        assert refused.sentence == f"it changes {spelled}, which your CI or your forge obeys"
        assert guard([spelled], Guards(SOURCES), allow=["edit-gates"]) is None


@pytest.mark.parametrize("path", MACHINE)
def test_what_runs_on_the_users_machine_is_lifted_by_edit_agents(path: str) -> None:
    for spelled in (path, path.upper(), f"deep/er/{path}"):
        refused = guard(["a.py", spelled], Guards(SOURCES), allow=["edit-gates"])

        assert refused
        assert (refused.kind, refused.paths) == (EndReason.GUARD, (spelled,))
        assert (
            refused.sentence
            == f"it changes {spelled}, which agents, editors or tools on your machine obey"
        )
        assert guard([spelled], Guards(SOURCES), allow=["edit-agents"]) is None


def test_a_link_or_a_file_in_place_of_a_guarded_folder_is_guarded() -> None:
    refused = guard(
        [".claude", "sub/.husky", ".github/workflows"], Guards(), links={".claude": "docs"}
    )

    assert refused
    assert refused.paths == (".claude", "sub/.husky", ".github/workflows")


def test_all_guards_are_named_at_once_with_what_each_path_runs() -> None:
    refused = guard([".envrc", "Makefile", ".github/workflows/a.yml", "b.py"], Guards(SOURCES))

    assert refused
    assert refused.paths == (".envrc", ".github/workflows/a.yml", "Makefile")
    assert refused.sentence == (
        "it changes .envrc, which agents, editors or tools on your machine obey; "
        "it changes .github/workflows/a.yml, which your CI or your forge obeys; "
        "it changes Makefile, which the factory uses to judge or set up work"
    )
    assert refused.evidence == (
        ".envrc: direnv, when somebody enters the folder (shells and git on your machine)",
        ".github/workflows/a.yml: GitHub Actions (your CI and your forge)",
        "Makefile: it decides gates or setup (the factory)",
    )


def test_a_path_that_is_guarded_twice_needs_both_lifted() -> None:
    twice = frozenset({".npmrc"})

    assert guard([".npmrc"], Guards(twice), allow=["edit-gates"])
    assert guard([".npmrc"], Guards(twice), allow=["edit-agents"])
    assert guard([".npmrc"], Guards(twice), allow=["edit-gates", "edit-agents"]) is None


def test_what_a_guarded_link_of_trunk_leads_to_is_guarded() -> None:
    links = {
        "CLAUDE.md": "docs/Agents.txt",
        "web/.husky": "../tools/hooks",
        "Makefile": "build/Makefile",
        ".github": "gh",
    }
    reached = led_to(links, {link: link for link in links})

    assert reached == {
        "docs/agents.txt": "CLAUDE.md",
        "tools/hooks": "web/.husky",
        "build/makefile": "Makefile",
        "gh": ".github",
    }
    for path in (
        "docs/Agents.txt",
        "tools/hooks/pre-commit",
        "tools/HOOKS",
        "build/Makefile",
        "gh/workflows/a.yml",
    ):
        refused = guard([path], Guards(SOURCES, reached=reached))

        assert refused
        assert refused.paths == (path,)
        assert " leads there: " in refused.evidence[0]
    assert guard(["docs/other.txt", "tools/a", "build/b"], Guards(SOURCES, reached=reached)) is None
    assert (
        guard(["docs/Agents.txt"], Guards(SOURCES, reached=reached), allow=["edit-agents"]) is None
    )


def test_what_leads_out_of_the_repository_leads_to_nothing_in_it() -> None:
    links = {".claude": "/etc", "AGENTS.md": "../elsewhere/AGENTS.md", "CLAUDE.md": "."}

    assert led_to(links, {link: link for link in links}) == {}


@pytest.mark.parametrize(
    ("link", "guarded"),
    [
        *(
            (".github", True),
            ("sub/.claude", True),
            ("x/gradle", True),
            ("Makefile", True),
            ("build", True),
        ),
        *(("src", False), ("sub/workflows", False), ("x/.github/workflows", False), ("mise", True)),
    ],
)
def test_a_link_is_followed_where_something_guarded_is_or_can_be_below_it(
    link: str, guarded: bool
) -> None:
    assert bool(Guards({"Makefile", "build/rules.mk"}).of_link(link)) is guarded


def test_links_at_above_and_below_a_path_are_in_its_way() -> None:
    links = ["conf", "conf/a", "conf/a/b", "Conf/A", "config", "other/conf/a"]

    assert in_the_way(links, {"conf/a": ".claude"}) == dict.fromkeys(
        ["conf", "conf/a", "conf/a/b", "Conf/A"], ".claude"
    )


def test_each_rule_names_what_runs_where_and_what_lifts_it_and_guards_its_own_path() -> None:
    assert len({rule.path for rule in RULES}) == len(RULES)
    assert {rule.allow for rule in RULES} == {"edit-gates", "edit-agents"}
    for rule in RULES:
        assert rule.runs
        assert rule.where
        assert rule in Guards().of(rule.path.removeprefix("/").replace("*", "x"))
        assert rule.path == rule.path.casefold()


def test_a_change_of_very_many_files_is_looked_at_in_no_time() -> None:
    many = [f"src/some/package/of/{number % 100}/file{number}.py" for number in range(20_000)]
    reached = {"docs/agents.md": "CLAUDE.md"}
    begun = time.process_time()

    assert guard(many, Guards(SOURCES, reached=reached)) is None

    assert time.process_time() - begun < 0.5, "measured: 0.1 s"


def test_a_long_list_is_cut_and_an_unprintable_name_is_escaped() -> None:
    assert shown(["a\nb", *"cdefgh"]) == r"'a\nb', c, d, e, f and 2 more"
    assert shown(["x\udcff"]) == r"'x\udcff'"
