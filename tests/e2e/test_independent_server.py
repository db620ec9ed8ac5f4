"""Every wire format against a server that nobody here wrote: whole and streamed replies, tools, faults, vectors.

It is aimock, of another language and other authors: `npm install @copilotkit/aimock`, and AIMOCK=.../bin/llmock for
these tests; they are skipped without it.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.request

import pytest
from e2e_kit import until

import dspex_actors as dspex
from dspex_actors.errors import LMError

PROGRAM = os.environ.get("AIMOCK") or shutil.which("llmock")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="needs aimock (AIMOCK says where its llmock is)")

TEXT = "Grüße! This is a reply of some length, so that it comes in pieces — with “quotes” and a newline\nin it."
THOUGHT = "First I consider the greeting."
ARGUMENTS = {"city": "Zürich", "days": 3}
FIXTURES = [
    {"match": {"userMessage": "say it"}, "response": {"content": TEXT}},
    {"match": {"userMessage": "think"}, "response": {"content": TEXT, "reasoning": THOUGHT}},
    {
        "match": {"userMessage": "weather"},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": ARGUMENTS}]},
    },
    {"match": {"userMessage": "cut me"}, "response": {"content": TEXT * 5}, "truncateAfterChunks": 12, "latency": 20},
    {"match": {"userMessage": "lost"}, "response": {"content": TEXT * 5}, "disconnectAfterMs": 400, "latency": 20},
    *(
        {"match": {"userMessage": prompt}, "response": {"error": {"message": "no", "type": kind}, "status": status}}
        for prompt, kind, status in (
            ("wrong", "invalid_request_error", 400),
            ("locked", "authentication_error", 401),
            ("slow down", "rate_limit_error", 429),
            ("down", "server_error", 503),
        )
    ),
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
FORMATS = {
    "openai": {"model": "openai/gpt-4o", "path": "/v1"},
    "responses": {"model": "openai/gpt-4o", "path": "/v1", "model_type": "responses"},
    "anthropic": {"model": "anthropic/claude-sonnet-4-5", "path": ""},
    "gemini": {"model": "gemini/gemini-2.5-flash", "path": ""},
    "cohere": {"model": "cohere/command-a-03-2025", "path": ""},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start it on a free port; return its address."""
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROGRAM, "--port", str(port), "--fixtures", str(folder / "fixtures.json"), "--log-level", "silent"]
    process = subprocess.Popen([*command, "--chunk-size", "7"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers():
        assert process.poll() is None, "it has ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
            return answer.status == 200

    until(answers)
    yield url
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("DSPEX_HOME", str(tmp_path_factory.mktemp("home")))
    patch.setenv("AIMOCK_KEY", "sk-mock")
    with dspex.connect(lm=dspex.LM("embedded/nearest")) as system:
        yield system
    patch.undo()


@pytest.fixture(params=FORMATS)
def lm(request, server, node):
    settings = dict(FORMATS[request.param])
    path = settings.pop("path")
    return dspex.LM(
        **settings, base_url=server + path, api_key="env:AIMOCK_KEY", max_tokens=500, deadline=2.0, cache=False
    )


def test_a_whole_reply(lm):
    reply = lm("say it")
    assert reply.text == TEXT
    assert reply.finish_reason == "stop"
    assert reply.usage.output_total > 0
    assert reply.usage.input_total > 0


def test_a_streamed_reply_is_the_whole_one(lm):
    with lm.stream("say it") as stream:
        pieces = list(stream)
    assert len(pieces) > 3
    assert stream.reply.text == TEXT
    assert stream.reply.finish_reason == "stop"
    assert stream.reply.usage.output_total > 0


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_a_tool_is_called(lm, way):
    if way == "whole":
        reply = lm("weather", tools=[TOOL])
    else:
        with lm.stream("weather", tools=[TOOL]) as stream:
            list(stream)
        reply = stream.reply
    (call,) = reply.tool_calls
    assert call.name == "get_weather"
    assert json.loads(call.arguments) if isinstance(call.arguments, str) else call.arguments == ARGUMENTS
    assert reply.finish_reason == "tool_calls"
    # The conversation goes on with the call and its result.
    told = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    assert lm([{"role": "user", "content": "say it"}, reply.message, told, {"role": "user", "content": "say it"}]).text


@pytest.mark.parametrize("prompt", ["cut me", "lost"])
def test_a_stream_that_is_cut_is_an_error_with_what_came(lm, prompt):
    with lm.stream(prompt) as stream, pytest.raises(dspex.StreamTruncated) as error:
        list(stream)
    assert (TEXT * 5).startswith(error.value.partial)
    assert len(error.value.partial) < len(TEXT * 5)


@pytest.mark.parametrize(
    ("prompt", "kinds"),
    [
        ("wrong", (dspex.InvalidRequest,)),
        ("locked", (dspex.AuthError,)),
        ("slow down", (dspex.RateLimited, dspex.DeadlineExceeded)),
        ("down", (dspex.Overloaded, dspex.DeadlineExceeded)),
    ],
)
@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_errors_are_ours(lm, prompt, kinds, way):
    with pytest.raises(LMError) as error:
        lm(prompt) if way == "whole" else list(lm.stream(prompt))
    assert isinstance(error.value, kinds)
    assert "sk-mock" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "path"),
    # It has none of Gemini's for many texts at once.
    [("openai/text-embedding-3-small", "/v1"), ("cohere/embed-v4.0", "")],
)
def test_vectors(server, node, model, path):
    embed = dspex.Embedder(model, base_url=server + path, api_key="env:AIMOCK_KEY", caching=False, deadline=5.0)
    found = embed(["one", "two", "three"])
    assert found.shape[0] == 3
    assert found.shape[1] > 1
    assert (found[0] != found[1]).any()
