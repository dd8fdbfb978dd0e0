"""The real agent CLIs for tests, with a scripted model at the other end and logins that are none.

FACTORY_TEST_AGENTS names the folder that has the CLIs, unless they are on PATH.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

FOLDER = os.environ.get("FACTORY_TEST_AGENTS", "")
PATH = os.pathsep.join([FOLDER, os.environ["PATH"]])
NAMES = ("claude", "codex", "opencode", "gemini", "mini", "aider")
MODELS = {"opencode": "fake/fake-model", "mini": "openai/fake-model", "aider": "openai/fake-model"}
KEYS = {f"{name}_API_KEY": "dummy" for name in ("ANTHROPIC", "OPENAI", "GEMINI")}
FEWER = {
    "CLAUDE_CODE_MAX_RETRIES": "0",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
}  # tries of their own


def program(name: str) -> Path:
    """The CLI of that name; without it the test is skipped, and fails where FACTORY_TEST_AGENTS promises it."""
    found = shutil.which(name, path=PATH)
    if found is None and FOLDER:
        pytest.fail(f"{name} is not in FACTORY_TEST_AGENTS ({FOLDER}): make agents")
    if found is None:
        pytest.skip(f"{name} is not on PATH, and FACTORY_TEST_AGENTS names no folder that has it")
    return Path(found).absolute()


def provide(name: str, url: str, home: Path) -> dict[str, str]:
    """Tell the CLI where its model is: files in its HOME, and the variables that are returned."""
    match name:
        case "codex":
            _write(
                home / ".codex/config.toml",
                'model = "fake-model"\nmodel_provider = "fake"\n'
                '[model_providers.fake]\nname = "fake"\nenv_key = "OPENAI_API_KEY"\n'
                f'wire_api = "responses"\nbase_url = "{url}/v1"\n'
                "request_max_retries = 0\nstream_max_retries = 0\n",
            )
        case "opencode":
            options = {"baseURL": f"{url}/v1", "apiKey": "dummy"}
            models = {
                "fake-model": {
                    "limit": {"context": 200000, "output": 8000},
                    "cost": {"input": 1, "output": 2},
                }
            }
            provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": models}
            settings = {"autoupdate": False, "share": "disabled", "provider": {"fake": provider}}
            _write(
                home / ".config/opencode/opencode.json",
                json.dumps(settings | {"model": "fake/fake-model"}),
            )
        case "gemini":
            general = {"enableAutoUpdate": False, "maxAttempts": 1}
            auth = {"auth": {"selectedType": "gemini-api-key"}}
            quiet = {"usageStatisticsEnabled": False}
            model = {"name": "fake-model"}  # else it asks another one first which to take
            settings = {"security": auth, "general": general, "privacy": quiet, "model": model}
            _write(home / ".gemini/settings.json", json.dumps(settings))
    return {
        "ANTHROPIC_BASE_URL": url,
        "OPENAI_API_BASE": f"{url}/v1",
        "GOOGLE_GEMINI_BASE_URL": url,
        "MSWEA_MODEL_NAME": "openai/fake-model",
        "AIDER_MODEL": "openai/fake-model",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "npm_config_registry": "http://127.0.0.1:9",  # nothing is fetched
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
