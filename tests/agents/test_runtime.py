"""Runtime files, the command lines they give, and what is read from the output of their agents."""

import json
import os
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.agents.output import LOOP_KINDS, LOOP_STEPS, OutputReader, Seen, Usage
from factory.agents.runtime import (
    Runtime,
    check_home,
    environment,
    find,
    invocation,
    logins,
)
from factory.agents.runtime_file import parse_runtime
from factory.ground.errors import ConfigError
from factory.ground.selectors import selector

SHIPPED = Path(__file__).parents[2] / "conventions" / "runtimes"
NOW = datetime(2026, 11, 24, 11, 10, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 11, 20, tzinfo=UTC)

CLAUDE_BEGINS = (
    '{"type":"system","subtype":"init","cwd":"/w","session_id":"cf67","tools":["Bash"],"model":"claude-opus-4-8"}',
    '{"type":"assistant","message":{"id":"msg_e9","role":"assistant","content":[{"type":"tool_use","id":"toolu_12",'
    '"name":"Bash","input":{"command":"ls"}}],"usage":{"input_tokens":1000,"output_tokens":1}},"session_id":"cf67"}',
)
CLAUDE_ENDS = (
    '{"type":"user","message":{"role":"user","content":[{"tool_use_id":"toolu_12","type":"tool_result",'
    '"content":"(no output)","is_error":false}]},"session_id":"cf67"}',
    '{"type":"result","subtype":"success","is_error":false,"api_error_status":null,"num_turns":2,"result":"Done.",'
    '"session_id":"cf67","total_cost_usd":0.0125,"usage":{"input_tokens":2000,"cache_creation_input_tokens":30,'
    '"cache_read_input_tokens":4,"output_tokens":100}}',
)
CLAUDE_UNAUTHORIZED = (
    '{"type":"result","subtype":"success","is_error":true,"api_error_status":401,'
    '"result":"Failed to authenticate. API Error: 401 nope","session_id":"33e1","total_cost_usd":0,"usage":{}}'
)
CLAUDE_LOGGED_OUT = (
    '{"type":"result","subtype":"success","is_error":true,"api_error_status":null,'
    '"result":"Not logged in · Please run /login","session_id":"27a5"}'
)
GEMINI_LOGGED_OUT = (
    "Please set an Auth method in your /home/me/.gemini/settings.json or specify one of the following environment "
    "variables before running: GEMINI_API_KEY, GOOGLE_GENAI_USE_VERTEXAI, GOOGLE_GENAI_USE_GCA"
)
OPENCODE_NO_LIST = (
    'timestamp=2026-11-26T20:36:11.295Z level=ERROR message="Failed to fetch models.dev" cause="Cause([Fail('
    "HttpClientError: Transport error (GET https://models.opencode.ai/api.json) (cause: Error: Unable to connect. "
    'Is the computer able to access the url?))])"'
)
OPENCODE_UNAUTHORIZED = (
    '{"type":"error","sessionID":"ses_1",'
    '"error":{"name":"APIError","data":{"message":"nope","statusCode":401}}}'
)
AIDER_LOGGED_OUT = (
    "No LLM model was specified and no API keys were provided.",
    "OpenRouter provides free and paid access to many LLMs.",
    "Waiting up to 5 minutes for you to finish in the browser...",
    "Authentication with OpenRouter failed.",
    "OpenRouter authentication did not complete successfully.",
)
CLAUDE_LIMIT = (
    '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795540000,'
    '"rateLimitType":"five_hour"},"session_id":"3763"}',
    '{"type":"result","subtype":"success","is_error":true,"api_error_status":429,'
    '"result":"You\'ve hit your session limit · resets 5:06pm (UTC)","session_id":"3763"}',
)
CLAUDE_BUSY = (
    '{"type":"result","subtype":"success","is_error":true,"api_error_status":529,'
    '"result":"API Error: 529 overloaded","session_id":"4248"}'
)
CLAUDE_POOR = (
    '{"type":"result","is_error":true,"api_error_status":400,'
    '"result":"Credit balance is too low","session_id":"4248"}'
)
CLAUDE_CUT_OFF = '{"type":"result","is_error":true,"result":"API Error: Unable to connect to API (ConnectionRefused)"}'
CODEX_BEGINS = (
    '{"type":"thread.started","thread_id":"01a2"}',
    '{"type":"turn.started"}',
    '{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"ls","status":"in_progress"}}',
)
CODEX_ENDS = (
    '{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"ls","exit_code":0}}',
    '{"type":"item.completed","item":{"id":"item_2","type":"error","message":"Model metadata not found"}}',
    '{"type":"item.completed","item":{"id":"item_3","type":"agent_message","text":"Done."}}',
    '{"type":"turn.completed","usage":{"input_tokens":3000,"cached_input_tokens":0,"output_tokens":150}}',
)
CODEX_RECONNECTING = (
    '{"type":"error","message":"Reconnecting... waiting for network (Connection failed)"}'
)
CODEX_UNAUTHORIZED = '{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized: nope, url: http://127.0.0.1/v1"}}'
CODEX_LIMIT = (
    '{"type":"turn.failed","error":{"message":"You’ve hit your usage limit. Upgrade to Pro '
    '(https://chatgpt.com/explore/pro) or try again at Nov 27th, 2026 9:44 AM."}}'
)
CODEX_BUSY = '{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}'


def shipped(name: str) -> Runtime:
    return parse_runtime(name, (SHIPPED / f"{name}.toml").read_text(), where=f"{name}.toml")


def written(text: str) -> Runtime:
    return parse_runtime("mine", text, where="mine.toml")


def seen(
    runtime: Runtime, folder: Path, *lines: str, earlier: Usage | None = None, ended: bool = True
) -> Seen:
    (folder / "output.log").write_text("".join(f"{line}\n" for line in lines))
    return read_all(OutputReader(runtime, folder, earlier=earlier), ended=ended)


async def finished(runtime: Runtime, folder: Path, *lines: str) -> Seen:
    (folder / "output.log").write_text("".join(f"{line}\n" for line in lines))
    return await OutputReader(runtime, folder).finish(lambda: NOW)


def read_all(reader: OutputReader, at: datetime = NOW, *, ended: bool = False) -> Seen:
    reader.look(at)
    while reader.is_behind:
        reader.look(at)
    if ended:
        reader.end(at)
    return reader.seen()


# ── the file


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_a_shipped_runtime_is_well_formed(file: Path) -> None:
    runtime = parse_runtime(file.stem, file.read_text(), where=file.name)

    assert runtime.name == file.stem
    assert bool(runtime.resume) is bool(runtime.output.session)
    assert runtime.limit.patterns
    assert runtime.limit.login
    assert tomllib.loads(file.read_text())["exit"]


def test_notes_for_people_change_nothing() -> None:
    text = "command = ['mine']\ninstructions = 'AGENTS.md'\n[exit]\n1 = 'failed'"

    assert written(text) == written("command = ['mine']")


def test_a_runtime_needs_a_command_only() -> None:
    runtime = written('command = ["mine"]')

    assert runtime == Runtime(name="mine", command=("mine",))
    assert (runtime.stop.signal, runtime.stop.grace_s, runtime.output.format) == ("TERM", 5, "text")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("comand = ['x']", "mine.toml: command: Field required"),
        ("command = ['x']\n[outpt]", "mine.toml: outpt is not known: did you mean output?"),
        (
            "command = ['x']\n[output]\nprogres = 'x'",
            "mine.toml: output.progres is not known: did you mean progress?",
        ),
        ("command = ['x']\nzzz = 1", "mine.toml: zzz is not known"),
        ("command = 'x'", "mine.toml: command: Input should be a list"),
        ("command = []", "mine.toml: command: "),
        ("command = [[]]", "mine.toml: command: "),
        ("command = ['x', ['a', 3]]", "mine.toml: command: Input should be a valid string"),
        (
            "command = ['x', '{promt}']",
            "mine.toml: command: {promt} is not known: did you mean prompt?",
        ),
        (
            "command = ['x']\nresume = ['{sesion}']",
            "mine.toml: command: {sesion} is not known: did you mean session?",
        ),
        ("command = ['x']\nstdin = 'file'", "mine.toml: stdin: Input should be 'prompt' or 'none'"),
        (
            "command = ['x']\nstop = {signal = 'STOP'}",
            "mine.toml: stop.signal: Input should be 'TERM', ",
        ),
        (
            "command = ['x']\nstop = {grace_s = 3600}",
            "mine.toml: stop.grace_s: Input should be less than or equal",
        ),
        (
            "command = ['x']\nstop = {grace_s = 1979-05-27}",
            "mine.toml: stop.grace_s: Input should be a valid number",
        ),
        (
            "command = ['x']\n[output]\nsession = 'a b'",
            'mine.toml: output.session: "a b" is not of the form "TYPE[',
        ),
        (
            "command = ['x']\n[output]\nsession = 3",
            'mine.toml: output.session: "3" is not of the form "TYPE[',
        ),
        (
            "command = ['x']\n[limit]\npatterns = ['(']",
            "mine.toml: limit.patterns: Input should be a valid regular expression",
        ),
        (
            "command = ['x']\n[limit]\npatterns = 'x'",
            "mine.toml: limit.patterns: Input should be a list",
        ),
        ("command =", "mine.toml: Invalid value"),
        (
            "command = ['x']\ninstructions = 3",
            "mine.toml: instructions: Input should be a valid string",
        ),
        ("command = ['x']\n[exit]\n1 = 3", "mine.toml: exit.1: Input should be a valid string"),
        (
            "command = ['x']\nfiles = {'../a' = ''}",
            'mine.toml: files: "../a" has to be a file in HOME, such as ".con',
        ),
        ("command = ['x']\nfiles = {'.' = ''}", 'mine.toml: files: "." has to be a file in HOME'),
        (f"command = ['x']\nfiles = {{'a/{'x' * 256}' = ''}}", 'mine.toml: files: "a/xxx'),
        (
            "command = ['x']\nfiles = {'a/b' = '', a = ''}",
            'mine.toml: files: "a" cannot be a file and the folder of "a',
        ),
        (
            "command = ['x']\nfiles = {'/etc/a' = ''}",
            'mine.toml: files: "/etc/a" has to be a file in HOME',
        ),
        ("command = ['x']\nfiles = {a = 3}", "mine.toml: files.a: Input should be a valid string"),
        (
            "command = ['x']\nhome = ['.x']\nfiles = {'.x/a' = ''}",
            'mine.toml: files: ".x/a" would be written into the user\'s own .x, which `home` names',
        ),
        (
            "command = ['x']\nhome = ['.x/y']\nfiles = {'.x' = ''}",
            'mine.toml: files: ".x" would be written into the user\'s own .x/y, which `home` names',
        ),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_form(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        written(text)

    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "9" * 5000,
        "[output.usage.price]\n'*' = [nan, 1]",
        "stop.grace_s = inf",
    ],
)
def test_nesting_and_numbers_without_end_are_refused_with_the_place(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^mine\.toml: "):
        written(f"command = ['x']\n{text}")


@given(st.text(max_size=60))
def test_any_text_is_a_runtime_or_a_sentence(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(written(text), Runtime)
    with suppress(ConfigError):
        assert isinstance(written(f"command = ['x']\n{text}"), Runtime)


# ── the command line


def called(
    runtime: Runtime, folder: Path, *, text: str = "Do it.", model: str = "", session: str = ""
) -> list[str]:
    (folder / "prompt.md").write_text(text)
    argv, _ = invocation(
        runtime, run_dir=folder, workspace=Path("/work"), model=model, session=session
    )
    return list(argv)


def test_a_model_is_named_only_where_one_is_wanted(tmp_path: Path) -> None:
    claude = shipped("claude")

    assert "--model" not in called(claude, tmp_path)
    assert called(claude, tmp_path, model="opus")[-2:] == ["--model", "opus"]


def test_resume_arguments_follow_the_command(tmp_path: Path) -> None:
    assert called(shipped("claude"), tmp_path, model="opus", session="cf67")[-4:] == [
        *("--model", "opus"),
        *("--resume", "cf67"),
    ]


def test_resume_arguments_go_where_the_command_says(tmp_path: Path) -> None:
    codex = shipped("codex")

    assert called(codex, tmp_path)[:3] == ["codex", "exec", "--json"]
    assert called(codex, tmp_path, session="01a2")[:5] == [
        "codex",
        "exec",
        "resume",
        "01a2",
        "--json",
    ]
    assert called(codex, tmp_path, session="01a2")[-1] == "-"


def test_every_placeholder_is_filled_and_other_braces_stay(tmp_path: Path) -> None:
    runtime = written(
        "command = ['x', '{prompt}', '{workspace}/{outbox}', '{run_dir}', '-c', 'a={b=\"c\"}', '{model}']"
    )

    assert called(runtime, tmp_path) == [
        *("x", "Do it.", f"/work/{tmp_path}/outbox", f"{tmp_path}/own", "-c", 'a={b="c"}', "")
    ]


def test_a_task_text_with_braces_is_not_filled_in_again(tmp_path: Path) -> None:
    assert called(written("command = ['x', '{prompt}']"), tmp_path, text="say {model}") == [
        "x",
        "say {model}",
    ]


def test_a_prompt_too_long_for_an_argument_becomes_the_request_to_read_its_file(
    tmp_path: Path,
) -> None:
    runtime = written("command = ['x', '{prompt}']")

    assert called(runtime, tmp_path, text="é" * 60_000) == [
        "x",
        f"Read {tmp_path / 'prompt.md'} and do what it says.",
    ]


@pytest.mark.parametrize(
    ("text", "given_file"),
    [
        ("command = ['x']\nstdin = 'prompt'", True),
        ("command = ['x']", True),
        ("command = ['x', ['--model', '{model}'], '{workspace}']", True),
        ("command = ['x', '{prompt}']", False),
        ("command = ['x', '--message-file={prompt_file}']", False),
        ("command = ['x', ['--in', '{workspace}', '--task', '{prompt}']]", False),
        ("command = ['x', '{prompt}']\nstdin = 'none'", False),
        ("command = ['x', '{prompt}']\nstdin = 'prompt'", True),
        # What goes when a placeholder is empty, or is there in a resumed session alone, tells nothing.
        ("command = ['x', ['--model', '{model}', '{prompt}']]", True),
        ("command = ['x']\nresume = ['{session}', '{prompt}']", True),
    ],
)
def test_the_prompt_is_stdin_unless_the_command_names_it(
    tmp_path: Path, text: str, given_file: bool
) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("Do it.")

    _, file = invocation(written(text), run_dir=tmp_path, workspace=tmp_path)

    assert file == (prompt if given_file else None)


@pytest.mark.parametrize(
    "command", ["['x']", "['x', '{workspace}']", "['x', ['--model', '{model}', '{prompt}']]"]
)
def test_a_runtime_that_is_told_nothing_is_refused(command: str) -> None:
    with pytest.raises(ConfigError) as refused:
        written(f"command = {command}\nstdin = 'none'")

    assert str(refused.value) == (
        'mine.toml: stdin = "none", and the command names neither {prompt} nor {prompt_file}: the agent would not '
        'get its task. Write stdin = "prompt", or name one of them in the command.'
    )


def test_a_program_is_found_on_the_path_absolutely_or_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "tools" / "agent"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "tools" / "notes").write_text("")

    assert find("agent", path=str(program.parent), root=Path("/")) == program
    assert find("tools/agent", path="", root=tmp_path) == program
    assert find(str(program), path="", root=Path("/")) == program
    assert find("agent", path="/nowhere", root=tmp_path) is None
    assert find("agent", path="tools", root=tmp_path) is None
    assert find("tools/notes", path="", root=tmp_path) is None
    assert find("tools/none", path="", root=tmp_path) is None


def test_an_agent_gets_what_its_file_lets_through_and_nothing_else() -> None:
    runtime = written(
        "command = ['x']\nenv = ['MY_KEY', 'CLOUD_*']\nset = {QUIET = '1', LANG = 'C'}"
    )
    source = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LANG": "de",
        "MY_KEY": "k",
        "CLOUD_A": "a",
        "OTHER": "o",
        "TZ": "X",
    }

    env = environment(runtime, source, {"TMPDIR": "/tmp/1"})

    assert env == {
        **{"PATH": "/bin", "HOME": "/home/me", "LANG": "C", "MY_KEY": "k", "CLOUD_A": "a"},
        **{"TZ": "UTC", "QUIET": "1", "TMPDIR": "/tmp/1"},
    }


# ── the output: recorded lines


def test_a_good_run_of_claude(tmp_path: Path) -> None:
    assert seen(shipped("claude"), tmp_path, *CLAUDE_BEGINS, *CLAUDE_ENDS) == Seen(
        first=NOW,
        last=NOW,
        session="cf67",
        usage=Usage(2034, 100, 0.0125),
        result="Done.",
        done=True,
    )


def test_a_good_run_of_codex(tmp_path: Path) -> None:
    told = seen(
        shipped("codex"),
        tmp_path,
        "WARNING: no matter",
        *CODEX_BEGINS,
        *CODEX_ENDS,
        earlier=Usage(2000, 100),
    )

    assert told == Seen(
        first=NOW,
        last=NOW,
        session="01a2",
        usage=Usage(1000, 50, 0.00245, estimated=True),  # by the price in its file
        result="Done.",
        tail="WARNING: no matter",
        done=True,
    )
    assert told.good


@pytest.mark.parametrize(
    ("name", "lines", "call"),
    [("claude", CLAUDE_BEGINS, "toolu_12"), ("codex", CODEX_BEGINS, "item_1")],
)
def test_a_tool_is_open_until_it_is_closed(
    tmp_path: Path, name: str, lines: tuple[str, ...], call: str
) -> None:
    told = seen(shipped(name), tmp_path, *lines)

    assert (told.tools, told.done, told.good) == (frozenset({call}), False, False)


@pytest.mark.parametrize(
    ("name", "lines", "limited", "unauthorized", "reset"),
    [
        ("claude", (CLAUDE_UNAUTHORIZED,), False, True, None),
        ("claude", (CLAUDE_LOGGED_OUT,), False, True, None),
        ("claude", CLAUDE_LIMIT, True, False, datetime(2026, 11, 24, 17, 6, 40, tzinfo=UTC)),
        ("claude", CLAUDE_LIMIT[1:], True, False, datetime(2026, 11, 24, 17, 6, tzinfo=UTC)),
        ("claude", (CLAUDE_BUSY,), True, False, None),
        ("claude", (CLAUDE_POOR,), True, False, None),
        ("codex", (CODEX_UNAUTHORIZED,), False, True, None),
        ("codex", (CODEX_LIMIT,), True, False, datetime(2026, 11, 27, 9, 44, tzinfo=UTC)),
        ("codex", (CODEX_BUSY,), True, False, None),
        ("claude", (CLAUDE_CUT_OFF,), True, False, None),
        ("codex", (CODEX_RECONNECTING,), True, False, None),
        (
            "gemini",
            ("[API Error: exception TypeError: fetch failed sending request]",),
            True,
            False,
            None,
        ),
        (
            "gemini",
            ("  cause: { code: 503, message: 'busy', details: [] },", "  status: 503"),
            True,
            False,
            None,
        ),
        (
            "gemini",
            ("  cause: { code: 403, message: 'no', details: [] },", "  status: 403"),
            False,
            True,
            None,
        ),
        ("opencode", (OPENCODE_NO_LIST, OPENCODE_UNAUTHORIZED), False, True, None),
        ("opencode", (OPENCODE_NO_LIST,), False, False, None),
        ("gemini", ("YOLO mode is enabled.", GEMINI_LOGGED_OUT), False, True, None),
        (
            "mini",
            (
                "ValueError: No default model set. Please run `mini-extra config setup` to set ",
                "one.",
            ),
            False,
            True,
            None,
        ),
        ("aider", AIDER_LOGGED_OUT, False, True, None),
    ],
)
def test_a_limit_and_a_refused_login_are_told_apart_from_failure(
    tmp_path: Path,
    name: str,
    lines: tuple[str, ...],
    limited: bool,
    unauthorized: bool,
    reset: datetime | None,
) -> None:
    told = seen(shipped(name), tmp_path, *lines)

    assert (told.limited, told.unauthorized, told.reset) == (limited, unauthorized, reset)
    assert told.error or told.tail
    assert not told.good


def test_reconnecting_is_no_sign_of_life(tmp_path: Path) -> None:
    told = seen(shipped("codex"), tmp_path, CODEX_RECONNECTING, CODEX_RECONNECTING)

    assert (told.first, told.last, told.failed) == (None, None, False)


def test_what_an_agent_reads_about_limits_is_no_limit(tmp_path: Path) -> None:
    line = '{"type":"user","message":{"content":[{"type":"tool_result","content":"usage limit reached|1795540000"}]}}'

    assert not seen(shipped("claude"), tmp_path, line, *CLAUDE_ENDS).limited


def test_plain_text_about_a_limit_counts_only_once_the_run_has_ended(tmp_path: Path) -> None:
    runtime = written("command = ['x']\n[limit]\npatterns = ['slow down for (?P<reset>\\d+)s']")

    assert not seen(runtime, tmp_path, "please slow down for 30s", ended=False).limited
    told = seen(runtime, tmp_path, "please slow down for 30s")
    assert (told.limited, told.reset) == (True, datetime(2026, 11, 24, 11, 10, 30, tzinfo=UTC))


def test_text_output_is_its_own_last_word(tmp_path: Path) -> None:
    told = seen(written("command = ['x']"), tmp_path, '{"type": "result"}', "bye", ended=False)

    assert told == Seen(first=NOW, last=NOW, tail='{"type": "result"}\nbye', done=True)
    assert told.good


def test_steps_are_summed_where_the_file_says_so(tmp_path: Path) -> None:
    runtime = written(
        "command = ['x']\n[output]\nformat = 'jsonl'\nusage = {mode = 'step', input = 'step:in', cost = 'step:usd'}"
    )

    told = seen(
        runtime, tmp_path, '{"type":"step","in":5,"usd":0.5}', '{"type":"step","in":7,"usd":0.25}'
    )

    assert told.usage == Usage(12, 0, 0.75)


STEPS = {  # one step as each of them tells it; the number is one that grows
    "claude": '{{"type":"assistant","message":{{"id":"m{0}","content":[{{"type":"tool_use","id":"t{0}","name":"Bash",'
    '"input":{{"command":"{1}"}}}}]}}}}',
    "codex": '{{"type":"item.started","item":{{"id":"i{0}","type":"command_execution","command":"{1}"}}}}',
    "gemini": '{{"type":"tool_use","tool_name":"shell","tool_id":"t{0}","parameters":{{"command":"{1}"}}}}',
    "opencode": '{{"type":"tool_use","part":{{"tool":"bash","callID":"c{0}","state":{{"input":{{"c":"{1}"}}}}}}}}',
    "mini": "mini-swe-agent (step {0}, $0.00):\n```\n{1}\n```\n\nTool:\n<returncode>\n{0}",
}


def steps(name: str, *commands: str) -> list[str]:
    return [
        line
        for at, each in enumerate(commands)
        for line in STEPS[name].format(at, each).splitlines()
    ]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    ("commands", "looping"),
    [
        (["ls"] * LOOP_STEPS, True),
        (["make test", "ls", "cat x"] * LOOP_STEPS, True),
        (["ls"] * (LOOP_STEPS - 1), False),
        ([f"ls {at}" for at in range(LOOP_KINDS + 1)] * LOOP_STEPS, False),
        ([each for at in range(LOOP_STEPS) for each in ("make test", f"sed -i {at}d x")], False),
        (["ls"] * LOOP_STEPS + ["make", "vi", "git diff", "rm x"], False),  # it came out of it
    ],
)
def test_the_same_steps_again_and_again_are_a_loop(
    tmp_path: Path, name: str, commands: list[str], looping: bool
) -> None:
    told = seen(shipped(name), tmp_path, *steps(name, *commands), ended=False)

    assert told.looping is looping


def test_edits_of_which_the_content_is_not_told_are_never_a_loop(tmp_path: Path) -> None:
    edit = '{"type":"item.started","item":{"id":"i%d","type":"file_change","changes":[{"path":"x","kind":"update"}]}}'

    told = seen(shipped("codex"), tmp_path, *(edit % at for at in range(LOOP_STEPS)))

    assert not told.looping


def test_empty_answers_again_and_again_are_a_loop(tmp_path: Path) -> None:
    asked = (
        '{"type":"step_start","part":{}}',
        '{"type":"step_finish","part":{"reason":"unknown","tokens":{"input":0}}}',
    )

    assert seen(shipped("opencode"), tmp_path, *asked * LOOP_STEPS).looping


def test_who_says_that_it_went_round_has_not_ended_well(tmp_path: Path) -> None:
    loop = '{"type":"error","severity":"warning","message":"Loop detected, stopping execution"}'

    told = seen(
        shipped("gemini"), tmp_path, loop, '{"type":"result","status":"success","stats":{}}'
    )

    assert (told.looping, told.good) == (True, False)


@pytest.mark.parametrize(
    ("error", "limited"),
    [  # as opencode 1.18.33 writes them to its log
        (
            "AI_APICallError: Cannot connect to API: Unable to connect. Is the computer able to access the url?",
            True,
        ),
        ("AI_APICallError: rate_limit_exceeded", True),
        ("AI_APICallError: overloaded", True),
        ("AI_APICallError: invalid_api_key", False),
    ],
)
def test_what_a_program_tries_again_in_silence_is_known_from_its_log_when_it_has_ended(
    tmp_path: Path, error: str, limited: bool
) -> None:
    line = f'timestamp=2026-11-26T19:57:52.670Z level=ERROR message="stream error" agent=build error.error="{error}'
    session = '{"type":"step_start","sessionID":"ses_1","part":{}}'

    running = seen(shipped("opencode"), tmp_path, session, line, line, ended=False)
    told = seen(shipped("opencode"), tmp_path, session, line, line)

    assert (running.limited, told.limited, told.unauthorized) == (False, limited, False)
    assert told.error in error
    assert bool(told.error) is limited


def test_a_result_in_pieces_is_what_was_said_after_the_last_tool(tmp_path: Path) -> None:
    said = '{"type":"message","role":"assistant","content":"%s"}'
    tool = ('{"type":"tool_use","tool_id":"t1"}', '{"type":"tool_result","tool_id":"t1"}')
    result = '{"type":"result","status":"success","stats":{"input_tokens":3}}'

    told = seen(
        shipped("gemini"),
        tmp_path,
        said % "Let me look.",
        *tool,
        said % "All ",
        said % "done.",
        result,
    )

    assert (told.result, told.good, told.usage.input, told.tools) == (
        "All done.",
        True,
        3,
        frozenset(),
    )


async def test_the_report_that_a_program_leaves_at_its_end_is_read_as_an_event(
    tmp_path: Path,
) -> None:
    reply = {"response": {"usage": {"prompt_tokens": 10, "completion_tokens": 2}}}
    info = {
        "exit_status": "Submitted",
        "submission": "Fixed.",
        "model_stats": {"instance_cost": 0.5},
    }
    report = {"info": info, "messages": [{"extra": reply}, {"extra": {}}, {"extra": reply}]}

    without = await finished(shipped("mini"), tmp_path, "step 1")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/report.json").write_text(json.dumps(report))
    told = await finished(shipped("mini"), tmp_path, "step 1")

    assert (without.good, told.good, told.result) == (False, True, "Fixed.")
    assert told.usage == Usage(20, 4, 0.5)


async def test_a_report_that_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "elsewhere.json").write_text(json.dumps({"info": {"exit_status": "Submitted"}}))
    (tmp_path / "own/report.json").symlink_to(tmp_path / "elsewhere.json")
    linked = await finished(shipped("mini"), tmp_path, "step 1")
    (tmp_path / "own/report.json").unlink()
    os.mkfifo(tmp_path / "own/report.json")
    waiting = await finished(shipped("mini"), tmp_path, "step 1")

    assert (linked.good, waiting.good) == (False, False)


@pytest.mark.parametrize("folder", ["/etc", "..", ".a/../../b", "$", ""])
def test_a_login_folder_lies_in_home_or_below_a_variable(folder: str) -> None:
    with pytest.raises(ConfigError, match="has to be a folder in HOME"):
        written(f"command = ['x']\nhome = ['{folder}']")


def test_login_folders_are_those_that_are_there(tmp_path: Path) -> None:
    runtime = written("command = ['x']\nhome = ['.a', '.b', '$D/c', '$E', '$F']")
    for name in ("user/.a", "data/c"):
        (tmp_path / name).mkdir(parents=True)
    environ = {
        "HOME": str(tmp_path / "user"),
        "D": str(tmp_path / "data"),
        "E": "relative",
        "F": "",
    }

    found = logins(runtime, environ, Path("/home/own"))

    assert found == {
        tmp_path / "user/.a": Path("/home/own/.a"),
        tmp_path / "data/c": tmp_path / "data/c",
    }


def test_where_a_program_cannot_keep_its_sessions_it_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, environ = (
        written("command = ['x']\nhome = ['.none', '.a', '.b']"),
        {"HOME": str(tmp_path)},
    )
    check_home(runtime, environ)
    for name in (".a", ".b"):
        (tmp_path / name).mkdir()
    closed = tmp_path / ".b"
    monkeypatch.setattr(
        os, "access", lambda path, _: path != closed
    )  # root may write to what is read-only
    check_home(runtime, environ)

    closed = tmp_path / ".a"
    with pytest.raises(
        ConfigError,
        match=r"mine has to write to /.*/\.a, but has no permission: make yourself the owner",
    ):
        check_home(runtime, environ)


@pytest.mark.parametrize(
    ("end", "good", "limited"),
    [
        (
            "litellm.RateLimitError: busy\nRetrying in 0.2 seconds\nDone.\nTokens: 593 sent, 3 received.",
            True,
            False,
        ),
        ("litellm.RateLimitError: busy", False, True),
        ("Nothing of the kind", False, False),
        ("Empty response received from LLM.\n\nTokens: 765 sent, 0 received.", False, False),
    ],
)
def test_a_program_that_ends_with_0_whatever_happened_is_judged_by_how_its_text_ends(
    tmp_path: Path, end: str, good: bool, limited: bool
) -> None:
    told = seen(shipped("aider"), tmp_path, "Aider v0", end)

    assert (told.good, told.limited) == (good, limited)


@pytest.mark.parametrize(
    "line", ["{", "[]", '"x"', "null", "{}", '{"type":[]}', "\0", "[" * 5000, '{"type":"result"']
)
def test_a_line_that_is_no_event_does_no_harm(tmp_path: Path, line: str) -> None:
    told = seen(shipped("claude"), tmp_path, line, *CLAUDE_ENDS)

    assert (told.good, told.result) == (True, "Done.")


def test_events_of_another_shape_do_no_harm(tmp_path: Path) -> None:
    odd = '{"type":"result","result":{"deep":[1]},"usage":"much","is_error":null,"api_error_status":"429"}'

    told = seen(shipped("claude"), tmp_path, '{"type":"assistant","message":"plain"}', odd)

    assert (told.done, told.failed, told.usage) == (True, False, Usage())


# ── the output: as it grows


@pytest.mark.parametrize("number", ["Infinity", "NaN", "-5", "1e300", "9" * 30, '"7"'])
def test_a_count_that_is_none_tells_nothing(tmp_path: Path, number: str) -> None:
    lines = "command = ['x']\n[output]\nformat = 'jsonl'\nusage = {input = 'n:in', cost = 'n:usd'}"

    told = seen(written(lines), tmp_path, f'{{"type":"n","in":{number},"usd":{number}}}')

    assert (told.usage, told.usage.priced) == (Usage(), False)


@pytest.mark.parametrize("session", ['{"a":1}', '"--yes"', '"a\\u0000b"', '"\\ud800"'])
def test_a_session_that_is_no_name_is_none(tmp_path: Path, session: str) -> None:
    lines = "command = ['x']\n[output]\nformat = 'jsonl'\nsession = 's:id'"

    told = seen(
        written(lines), tmp_path, '{"type":"s","id":"good"}', f'{{"type":"s","id":{session}}}'
    )

    assert told.session == "good"


def test_only_what_is_new_is_read_and_half_a_line_waits(tmp_path: Path) -> None:
    reader = OutputReader(shipped("claude"), tmp_path)
    log = tmp_path / "output.log"
    text = "".join(f"{line}\n" for line in (*CLAUDE_BEGINS, *CLAUDE_ENDS)).encode()

    assert read_all(reader) == Seen()
    log.write_bytes(text[:150])
    assert read_all(reader).session == "cf67"
    log.write_bytes(text[:-5])
    assert not read_all(reader).done
    log.write_bytes(text[:-1])
    last = read_all(reader, LATER, ended=True)

    assert (last.first, last.last, last.good) == (NOW, LATER, True)


def test_nothing_is_missed_or_read_twice_when_the_file_is_rotated(tmp_path: Path) -> None:
    runtime = written(
        "command = ['x']\n[output]\nformat = 'jsonl'\nusage = {mode = 'step', input = 'n:n'}"
    )
    reader, log, older = (
        OutputReader(runtime, tmp_path),
        tmp_path / "output.log",
        tmp_path / "output.1.log",
    )
    numbers = [json.dumps({"type": "n", "n": 10**exponent}) + "\n" for exponent in range(6)]

    log.write_text(numbers[0])
    read_all(reader)
    log.write_text("".join(numbers[:2]) + numbers[2][:7])
    log.rename(older)
    log.write_text(numbers[2][7:] + numbers[3])
    read_all(reader)
    log.write_text(numbers[2][7:] + numbers[3] + numbers[4])
    read_all(reader)

    assert read_all(reader).usage.input == 11111


def test_after_an_adoption_both_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "output.1.log").write_text("".join(f"{line}\n" for line in CLAUDE_BEGINS))

    told = seen(shipped("claude"), tmp_path, *CLAUDE_ENDS)

    assert (told.session, told.tools, told.good) == ("cf67", frozenset(), True)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    reader = OutputReader(written("command = ['x']"), tmp_path)
    (tmp_path / "output.log").write_bytes(b"x" * (9 << 20))

    said = read_all(reader)

    assert said.tail == "x" * 4000


# ── selectors and times


EVENT = {
    "type": "a.b",
    "list": [{"k": "x", "v": 1}, {"k": "y", "v": 2}],
    "deep": {"on": True},
    "none": None,
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.b:list.v", [1, 2]),
        ("a.b:list[k=y].v", [2]),
        ("a.b[deep.on=true]:deep.on", [True]),
        ("a.b[deep.on=false]:deep.on", []),
        ("a.b[none=null]", [EVENT]),
        ("*:deep", [{"on": True}]),
        ("other:deep", []),
        ("a.b:none", []),
        ("a.b:deep.on.more", []),
    ],
)
def test_a_selector_finds(text: str, found: list[object]) -> None:
    assert selector(text).find(EVENT) == found


@pytest.mark.parametrize("text", ["", ":x", "a:b..c", "a:b.", "a[b]:c", "a b", "a:[k=v]"])
def test_a_selector_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        selector(text)


def test_the_shipped_files_name_no_provider_and_no_model() -> None:
    for file in SHIPPED.glob("*.toml"):
        words = json.dumps(tomllib.loads(file.read_text())["command"])
        assert "base_url" not in words
        assert "{model}" in words
