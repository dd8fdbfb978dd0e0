"""Which files of a HOME are configuration: a program runs them or reads settings from them.

Invariant: factoryd refuses a glob that could match such a file, so it deletes every such file with
its unit.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from factory.ground.scope import within

# One file of each kind: files that a shell, git, a package manager, an interpreter, an editor or an
# agent reads at its start, and programs.
_FILES = """
.bashrc .bash_profile .bash_login .bash_logout .profile .inputrc .env .envrc
.zshrc .zshenv .zprofile .zlogin .zlogout .kshrc .cshrc .tcshrc
.config/fish/config.fish .config/fish/functions/ls.fish .config/tool/config.json
.gitconfig .config/git/config .config/git/attributes .config/git/hooks/pre-commit
.npmrc .yarnrc .yarnrc.yml .bunfig.toml .cargo/config.toml .gemrc .m2/settings.xml
.pip/pip.conf .config/pip/pip.conf .config/uv/uv.toml .pypirc .pdbrc .gradle/init.gradle
.local/lib/python3/site-packages/x.pth .local/lib/python3/site-packages/x.py
.local/bin/sed .cargo/bin/sed bin/sed .npm-global/bin/sed node_modules/.bin/sed
.ssh/config .ssh/authorized_keys .gnupg/gpg.conf .netrc .curlrc .wgetrc
.docker/config.json .aws/config .kube/config .editorconfig .vscode/settings.json
.vimrc .vim/plugin/x.vim .config/nvim/init.lua .emacs .cursor/mcp.json .aider.conf.yml
.claude.json .claude/settings.json .claude/settings.local.json .claude/CLAUDE.md
.claude/agents/x.md .claude/commands/x.md .claude/hooks/x .claude/plugins/x/y
.claude/skills/x/SKILL.md .claude/projects/x/memory/MEMORY.md
.codex/config.toml .codex/AGENTS.md .codex/prompts/x.md .codex/skills/x/SKILL.md
.codex/hooks.json .codex/rules/x.rules
.gemini/settings.json .gemini/GEMINI.md .gemini/commands/x.toml .gemini/trustedFolders.json
.gemini/extensions/x/gemini-extension.json
.config/opencode/opencode.json .config/opencode/plugin/x.js .opencode/opencode.json
"""
# Names of configuration or code in any folder.
_KINDS = """
*rc *rc.* *profile *.toml *.ini *.cfg *.conf *.config *.properties *.yaml *.yml
config config.* settings*.json mcp*.json hooks.json package.json *.rules .env* .git*
*.sh *.bash *.zsh *.fish *.py *.pyc *.pth *.so *.dylib *.node *.jar *.wasm
*.js *.cjs *.mjs *.ts *.rb *.pl *.lua *.vim *.md hooks bin
"""
_EXAMPLES = tuple(_FILES.split())
_NAMES = tuple(_KINDS.split())
_WILD = re.compile(r"\*+|\?|\[[^]]*\]")


def is_configuration(path: str) -> bool:
    """Return whether a program runs this path of a HOME or reads configuration from it."""
    if path in _EXAMPLES:
        return True
    parts = path.split("/")
    return parts[0] == ".config" or any(map(_is_named_so, parts))


def _is_named_so(part: str) -> bool:
    return any(fnmatchcase(part.lower(), name) for name in _NAMES)


def kept(globs: Iterable[str]) -> tuple[str, ...]:
    """Return these globs of files that outlive a unit; raise ValueError for a forbidden glob."""
    return tuple(map(_kept, globs))


def _kept(glob: str) -> str:
    parts = glob.split("/")
    form = 'such as ".tool/sessions/*.jsonl"'
    if not glob or glob[0] in "/~$" or ".." in parts or "\0" in glob:
        raise ValueError(f'"{glob}" has to be a glob of files in HOME, {form}')
    found = _configuration_in(glob)
    if found:
        why = "configuration and programs do not outlive a unit"
        raise ValueError(f'"{glob}" would keep {found}: {why}. Name its sessions alone, {form}')
    return glob


def _configuration_in(glob: str) -> str:
    """Return the configuration file that the glob would keep, or the glob; "" if it keeps none."""
    for path in _EXAMPLES:
        if within(path, [glob]):
            return path
    for part in glob.split("/"):
        if _is_named_so(_WILD.sub("x", part)):
            return glob
    return ""
