"""Images, sound and tools go with examples to workers and to the provider, and come back in results."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import dspex_actors as dspex
from supervisors.testing import wait_until

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
WAV = b"RIFF$\x00\x00\x00WAVEfmt " + b"0" * 30
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
URL = "https://example.org/cat.png"


class Provider:
    """Speaks as OpenAI and Gemini do, and serves a picture; notes what it was asked."""

    def __init__(self):
        self.bodies, self.pictures = [], 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                provider.pictures += 1
                self.answer(PNG, "image/png")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.bodies.append(body)
                said = provider.gemini() if "contents" in body else provider.openai(body)
                self.answer(json.dumps(said).encode(), "application/json")

            def answer(self, data, kind):
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def gemini(self):
        parts = [{"text": "a cat"}]
        return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}

    def openai(self, body):
        if body.get("tools"):
            function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"a": 2, "b": 3}'}
            message = {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        else:
            kinds = [part["type"] for part in body["messages"][-1]["content"]]
            message = {"content": f"[[ ## label ## ]]\n{kinds[1]}\n\n[[ ## completed ## ]]"}
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        return {"id": "x", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def provider():
    one = Provider()
    yield one
    one.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory, provider):
    lm = dspex.LM("openai/gpt-4o-mini", base_url=f"{provider.url}/v1", cache=False)
    with dspex.connect(lm=lm, home=tmp_path_factory.mktemp("types") / "home", workers=1) as connection:
        yield connection


LABEL = dspex.metrics.exact_match("label")


def test_addresses_in_a_file_become_images_in_the_workers(system, provider, tmp_path):
    rows = [{"image": [DATA, URL][number % 2], "label": "image_url"} for number in range(6)]
    rows.append({"image": "cat.png", "label": "image_url"})
    file = tmp_path / "images.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    provider.bodies.clear()
    result = dspex.evaluate(dspex.Predict("image: dspex.Image -> label"), file, LABEL, system=system)
    assert (result.succeeded, result.failed) == (6, 1)
    assert result.score == 100.0
    urls = [body["messages"][-1]["content"][1]["image_url"]["url"] for body in provider.bodies]
    assert sorted(urls) == sorted([DATA, URL] * 3)  # and nobody was asked about what is no image
    failed = result.results[6]
    assert "input 'image'" in failed.error["message"]
    assert "got 'cat.png'" in failed.error["message"]


def test_values_of_examples_travel_and_are_in_the_results(system, provider):
    devset = [
        dspex.Example(media=dspex.Image(PNG), label="image_url").with_inputs("media"),
        dspex.Example(media=dspex.Audio(WAV), label="input_audio").with_inputs("media"),
        dspex.Example(media=dspex.File(b"%PDF-1.4", filename="a.pdf"), label="file").with_inputs("media"),
    ]
    program = dspex.Predict("media: dspex.Image | dspex.Audio | dspex.File -> label")
    result = dspex.evaluate(program, devset, LABEL, system=system)
    assert result.score == 100.0
    assert [one.example["media"] for one in result.results] == [one.media for one in devset]


class Agent(dspex.Module):
    """Asks which tool to call, and calls it."""

    def __init__(self):
        self.tools = [dspex.Tool(add)]
        self.step = dspex.Predict("question, tools: list[dspex.Tool] -> calls: dspex.ToolCalls")

    async def aforward(self, question):
        with dspex.context(adapter=dspex.ChatAdapter(use_native_function_calling=True)):
            calls = (await self.step.acall(question=question, tools=self.tools)).calls
        results = [call.execute(self.tools) for call in calls.tool_calls]
        return dspex.Prediction(answer=results[0], calls=calls)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_tools_are_called_in_the_workers(system, provider):
    devset = [dspex.Example(question=f"2+3? ({number})", answer=5).with_inputs("question") for number in range(3)]
    result = dspex.evaluate(Agent(), devset, dspex.metrics.exact_match("answer"), system=system)
    assert result.score == 100.0
    [call] = result.results[0].prediction["calls"].tool_calls
    assert (call.id, call.name, call.args) == ("c1", "add", {"a": 2, "b": 3})
    assert provider.bodies[-1]["tools"][0]["function"]["description"] == "Add two numbers."


def test_pictures_for_gemini_are_fetched_from_the_hosts_that_the_configuration_lists(system, provider):
    lm = dspex.LM("gemini/gemini-2.5-flash", base_url=provider.url)
    image = dspex.Image(f"{provider.url}/cat.png")
    messages = [{"role": "user", "content": image.format()}]
    with pytest.raises(dspex.errors.InvalidRequest, match=r"providers\.media_hosts"):
        lm(messages)
    assert provider.pictures == 0
    with pytest.raises(dspex.ConfigError, match="got 'http://a b', expected a host such as"):
        system.config.update("providers.media_hosts", ["http://a b"])
    system.config.update("providers.media_hosts", [provider.url])

    def answered():
        try:
            return lm(messages).text
        except dspex.errors.InvalidRequest:
            return None  # the worker has not heard of it yet

    assert wait_until(answered, 60.0) == "a cat"
    assert provider.pictures == 1
    inline = {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}
    assert provider.bodies[-1]["contents"][0]["parts"] == [{"inlineData": inline}]
