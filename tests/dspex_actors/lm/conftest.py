"""A tiny real HTTP server on loopback, and a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest


def http(status: int, body: Any, headers: dict[str, str] | None = None) -> bytes:
    """Return one HTTP answer; a body that is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    return head.encode() + data


def completion(text: str = "hello", **changes: Any) -> dict[str, Any]:
    """Return an OpenAI chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        **changes,
    }


class Server:
    """Answers each request with what `answer(number, head, body)` returns.

    bytes are sent; a pair (bytes, "cut") is sent and the connection closed; "close" closes it at once; "hang"
    never answers.
    """

    def __init__(self, answer: Callable[[int, str, bytes], Any]) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length")
                )
                body = await reader.readexactly(length)
                self.heads.append(head)
                self.bodies.append(body)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                for _ in range(20):
                    await asyncio.sleep(0)  # lets the requests that are on their way arrive
                answer = self.answer(len(self.heads) - 1, head, body)
                if answer == "hang":
                    await asyncio.Event().wait()
                self.in_flight -= 1
                if answer == "close":
                    return
                data, cut = answer if isinstance(answer, tuple) else (answer, False)
                writer.write(data)
                await writer.drain()
                if cut:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


class FakeTime:
    """A clock whose sleeps take no time and are written down."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        target = self.now + seconds
        for _ in range(50):
            await asyncio.sleep(0)  # all who are ready to sleep do so before the time goes on
        self.now = max(self.now, target)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def serve() -> type[Server]:
    return Server


@pytest.fixture
def answer() -> Callable[..., bytes]:
    return http


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    return completion


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "tk-very-secret-0123456789")
