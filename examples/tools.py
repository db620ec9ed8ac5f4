"""A picture, tools and a conversation: what goes to a language model beside text, and how it comes back.

It asks a stand-in for a provider on this machine, which costs nothing; with a key, `--model openai/gpt-4o-mini`
asks a real one.

python examples/tools.py
"""

import argparse
import base64
import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dspex_actors as dspex


def weather(city: str, days: int = 1) -> str:
    """Look up the weather of a city."""
    return f"{city}: sun for {days} day{'s' if days > 1 else ''}"


class Helper(dspex.Module):
    """Asks the model, calls the tools that it asks for, and tells it what they gave, until it answers."""

    def __init__(self, *tools):
        self.tools = [dspex.Tool(tool) for tool in tools]
        self.step = dspex.Predict(
            "question, history: dspex.History, tools: list[dspex.Tool] -> answer: str | None, calls: dspex.ToolCalls"
        )

    def forward(self, question):
        turns = []
        for _ in range(5):
            said = self.step(question=question, history=dspex.History(messages=turns), tools=self.tools)
            if not said.calls:
                return dspex.Prediction(answer=said.answer, turns=len(turns) + 1)
            values = [call.execute(self.tools) for call in said.calls.tool_calls]
            print("called:", ", ".join(map(str, values)))
            results = dspex.ToolCallResults.from_tool_calls_and_values(said.calls, values)
            calls = said.calls.model_copy(update={"tool_call_results": results})
            turns.append({"question": question, "calls": calls})
        return dspex.Prediction(answer=None, turns=len(turns))


def red_square(size=8):
    """Return a picture as a PNG file's bytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = size.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    rows = zlib.compress((b"\x00" + b"\xff\x00\x00" * size) * size)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class StandIn(BaseHTTPRequestHandler):
    """Speaks as OpenAI does, and knows just what this example asks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answer one call."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        last = asked["messages"][-1]["content"]
        message = {"role": "assistant", "content": self.words(asked["messages"], last)}
        if asked.get("tools") and not any(each["role"] == "tool" for each in asked["messages"]):
            function = {"name": "weather", "arguments": '{"city": "Turin", "days": 3}'}
            message = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        data = json.dumps({"id": "1", "model": "stand-in", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def words(self, messages, last):
        """Say what was seen."""
        if isinstance(last, list):
            [url] = [part["image_url"]["url"] for part in last if part["type"] == "image_url"]
            size = len(base64.b64decode(url.partition(",")[2]))
            return f"[[ ## colour ## ]]\nred, in {size} bytes\n\n[[ ## completed ## ]]"
        results = [each["content"] for each in messages if each["role"] == "tool"]
        return f"[[ ## answer ## ]]\nPack light. {' '.join(results)}\n\n[[ ## completed ## ]]"

    def log_message(self, *args):
        """Be quiet."""


def main():
    """Show a picture, then have tools called."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--model", help="a real model, such as openai/gpt-4o-mini; its key in the usual variable")
    model = words.parse_args().model
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in = f"http://127.0.0.1:{server.server_port}/v1"
    lm = dspex.LM(model) if model else dspex.LM("openai/gpt-4o-mini", base_url=stand_in)
    with dspex.connect(lm=lm, workers=1):
        look = dspex.Predict("picture: dspex.Image -> colour")
        print(look(picture=dspex.Image(red_square())).colour)
        with dspex.context(adapter=dspex.ChatAdapter(use_native_function_calling=True)):
            found = Helper(weather)(question="What do I pack for three days in Turin?")
        print(f"{found.answer} ({found.turns} turns)")
    server.shutdown()


if __name__ == "__main__":
    main()
