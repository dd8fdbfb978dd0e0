"""A scripted model on 127.0.0.1 for the real agent CLIs: Anthropic messages, OpenAI chat and responses, Gemini.

Each step answers one request; which one is told by the model turns in the request's history, so a resumed session
goes on where it was. Past the end the last step repeats. `choose` may take other steps for what a request says.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Step = Mapping[str, Any]
Events = list[tuple[str, dict[str, Any]]]
CALLS = ("function_call", "custom_tool_call", "local_shell_call")
_NUMBERS = itertools.count(1)


def say(text: str) -> Step:
    return {"text": text}


def shell(command: str) -> Step:
    return {"command": command}


def write_file(path: str, content: str) -> Step:
    return {"file": (path, content), **shell(f"cat > {path} <<'END'\n{content}END\n")}


def fail(status: int, *, kind: str = "error", **more: Any) -> Step:
    return {
        "status": status,
        "headers": more.pop("headers", {}),
        "body": {"type": kind, "message": kind, **more},
    }


def hang() -> Step:
    return {"hang": True}


def stall() -> Step:
    """An answer that begins and never goes on."""
    return {"text": "Well", "stall": True}


def garbage() -> Step:
    """A proxy that answers for the model, as if all were well."""
    return {"garbage": True}


class FakeModel:
    """The script, and what was asked so far."""

    def __init__(
        self, steps: Sequence[Step], choose: Callable[[str], Sequence[Step]] | None = None
    ) -> None:
        self.choose = choose or (lambda _: steps)
        self.requests: list[dict[str, Any]] = []
        self.asked = threading.Semaphore(0)  # released at each request
        self.over = threading.Event()
        self.url = ""

    def step(self, request: dict[str, Any]) -> Step:
        text = json.dumps(request)
        if (
            not request.get("tools") and "file listing" not in text
        ):  # aider's way to have files edited
            return say("ok")  # a side request, for a title
        self.requests.append(request)
        self.asked.release()
        steps = self.choose(text)
        return steps[min(_turns(request), len(steps) - 1)]


@contextmanager
def fake_model(
    *steps: Step, choose: Callable[[str], Sequence[Step]] | None = None
) -> Iterator[FakeModel]:
    model = FakeModel(steps, choose)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": model}))
    model.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield model
    finally:
        model.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    model: ClassVar[FakeModel]

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        self._answer(200, b'{"data": [], "models": []}')

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "count_tokens" in self.path or "countTokens" in self.path:
            self._answer(200, b'{"input_tokens": 1, "totalTokens": 1}')
            return
        step = self.model.step(request)
        if step.get("hang"):
            self.model.over.wait()
        elif "status" in step:
            told = step["body"] | (
                {"code": step["status"], "status": "ERROR"} if "contents" in request else {}
            )
            body = json.dumps({"type": "error", "error": told}).encode()
            self._answer(step["status"], body, headers=step["headers"])
        elif "garbage" in step:
            self._answer(200, b"<html>Please log in to the proxy.</html>", kind="text/html")
        else:
            kind, text = self._told(step, request)
            self._answer(200, text.encode(), kind=kind, stall=bool(step.get("stall")))

    def _told(self, step: Step, request: dict[str, Any]) -> tuple[str, str]:
        if self.path.endswith("/chat/completions"):
            chunks = _chat(step, request)
            if not request.get("stream"):
                return "application/json", json.dumps(_whole(chunks))
            return "text/event-stream", "".join(
                f"data: {json.dumps(each)}\n\n" for each in chunks
            ) + "data: [DONE]\n\n"
        if "contents" in request:
            told = json.dumps(_gemini(step))
            return (
                ("text/event-stream", f"data: {told}\n\n")
                if "alt=sse" in self.path
                else ("application/json", told)
            )
        events = _anthropic(step) if "messages" in request else _openai(step, request)
        lines = (
            f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n" for name, data in events
        )
        return "text/event-stream", "".join(lines)

    def _answer(
        self,
        status: int,
        body: bytes,
        *,
        kind: str = "application/json",
        headers: Any = None,
        stall: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if stall:
            self.wfile.write(body[: body.find(b"\n\n") + 2])
            self.model.over.wait()
            return
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that was stopped
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


def _turns(request: dict[str, Any]) -> int:
    if not request.get("tools"):
        return 0  # aider: its examples look like turns
    items = request.get("messages") or request.get("input") or request.get("contents") or []
    return sum(
        item.get("role") in ("assistant", "model") or item.get("type") in CALLS for item in items
    )


def _chat(step: Step, request: dict[str, Any]) -> list[dict[str, Any]]:
    """One answer in pieces, the last of them its usage."""
    names = {tool["function"]["name"] for tool in request.get("tools") or ()}
    delta: dict[str, Any] = {"role": "assistant", "content": step.get("text", "")}
    command = step.get("command", "")
    if names == {"bash"} and "text" in step:  # mini-swe-agent has no other way to end
        command = f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo '{step['text']}'"
    if command and names:
        arguments = json.dumps({"command": command, "description": "work"})
        call = {"name": "bash", "arguments": arguments}
        delta["tool_calls"] = [
            {"index": 0, "id": f"call_{next(_NUMBERS)}", "type": "function", "function": call}
        ]
    elif command:
        path, content = step.get("file", ("hello.txt", "hi\n"))
        delta["content"] = f"{path}\n```\n{content}```\n"  # no tools: a listing of the file
    reason = "tool_calls" if "tool_calls" in delta else "stop"
    head = {
        "id": f"chat_{next(_NUMBERS)}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake-model",
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
    return [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        head | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        head | {"choices": [], "usage": usage},
    ]


def _whole(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    said, end, last = chunks
    choice = {
        "index": 0,
        "message": said["choices"][0]["delta"],
        "finish_reason": end["choices"][0]["finish_reason"],
    }
    return last | {"object": "chat.completion", "choices": [choice]}


def _gemini(step: Step) -> dict[str, Any]:
    call = {
        "functionCall": {"name": "run_shell_command", "args": {"command": step.get("command", "")}}
    }
    content = {"role": "model", "parts": [{"text": step["text"]} if "text" in step else call]}
    usage = {"promptTokenCount": 1000, "candidatesTokenCount": 50, "totalTokenCount": 1050}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
    }


def _anthropic(step: Step) -> Events:
    if "text" in step:
        reason = "end_turn"
        start: dict[str, Any] = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": step["text"]}
    else:
        reason = "tool_use"
        start = {"type": "tool_use", "id": f"toolu_{next(_NUMBERS)}", "name": "Bash", "input": {}}
        delta = {
            "type": "input_json_delta",
            "partial_json": json.dumps({"command": step["command"]}),
        }
    usage = {"input_tokens": 1000, "output_tokens": 1}
    message = {
        "id": f"msg_{next(_NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [],
        "usage": usage,
    }
    return [
        ("message_start", {"message": message | {"stop_reason": None, "stop_sequence": None}}),
        ("content_block_start", {"index": 0, "content_block": start}),
        ("content_block_delta", {"index": 0, "delta": delta}),
        ("content_block_stop", {"index": 0}),
        (
            "message_delta",
            {
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 50},
            },
        ),
        ("message_stop", {}),
    ]


def _openai(step: Step, request: dict[str, Any]) -> Events:
    item: dict[str, Any]
    if "text" in step:
        item = {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": step["text"]}],
        }
    else:
        name, arguments = _shell_tool(
            {tool.get("name") for tool in request["tools"]}, step["command"]
        )
        item = {
            "type": "function_call",
            "name": name,
            "arguments": json.dumps(arguments),
            "call_id": f"call_{next(_NUMBERS)}",
        }
    identity = f"resp_{next(_NUMBERS)}"
    details = {
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    usage = {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050, **details}
    return [
        ("response.created", {"response": {"id": identity}}),
        (
            "response.output_item.done",
            {"output_index": 0, "item": {"id": f"item_{next(_NUMBERS)}"} | item},
        ),
        ("response.completed", {"response": {"id": identity, "usage": usage}}),
    ]


def _shell_tool(offered: set[str | None], command: str) -> tuple[str, dict[str, Any]]:
    for name, key in (("exec_command", "cmd"), ("shell_command", "command")):
        if name in offered:
            return name, {key: command}
    return "shell", {"command": ["sh", "-c", command]}
