"""A server that speaks OpenAI's chat format and costs next to nothing: what the benchmarks ask.

    python -m benchmarks.server --port 8390 --latency-ms 100

It is a plain `asyncio.Protocol` in a process of its own, so that what is measured is who asks. Every
answer comes after the same latency, and therefore in the order of the requests: one timer and one queue
do for all of them.

    GET /stats   requests, in_flight, max_in_flight since the start or the last reset
    GET /reset   the same, and starts counting anew

Args of the command line:
    --port N         0 picks a free one; the first line on standard output is `port N`.
    --latency-ms N   how long each answer takes; 0 answers at once.
    --right-every N  the answer is `team: bugs` when the last `number I` in the prompt has I divisible
                     by N, else `team: billing`. 0: always `bugs`.
    --until-eof      end when standard input does, and leave Ctrl-C to whoever holds its other end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
import threading
from collections import deque

_NUMBER = re.compile(rb"number (\d+)")


def answer(team: str) -> bytes:
    """Return a whole HTTP response with a chat completion in it."""
    content = f"[[ ## team ## ]]\n{team}\n\n[[ ## completed ## ]]"
    return response(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 10, "total_tokens": 210},
        }
    )


def response(data: object) -> bytes:
    """Return a whole HTTP response with JSON in it."""
    body = json.dumps(data).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


class Desk:
    """Counts requests, and answers each when its time has come."""

    def __init__(self, latency: float, right_every: int) -> None:
        """Answer after `latency` seconds."""
        self._latency = latency
        self._right_every = right_every
        self._right, self._wrong = answer("bugs"), answer("billing")
        self._queue: deque[tuple[float, Connection, bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self.requests = self.in_flight = self.max_in_flight = 0

    def ask(self, connection: Connection, body: bytes) -> None:
        """Take in a request."""
        self.requests += 1
        reply = self._right
        if self._right_every:
            numbers = _NUMBER.findall(body)
            if not numbers or int(numbers[-1]) % self._right_every:
                reply = self._wrong
        if not self._latency:
            self.max_in_flight = max(self.max_in_flight, 1)
            connection.send(reply)
            return
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        due = self._loop.time() + self._latency
        self._queue.append((due, connection, reply))
        if len(self._queue) == 1:
            self._loop.call_at(due, self._answer)

    def _answer(self) -> None:
        queue, now = self._queue, self._loop.time() + 0.0005
        while queue and queue[0][0] <= now:
            _, connection, reply = queue.popleft()
            self.in_flight -= 1
            connection.send(reply)
        if queue:
            self._loop.call_at(queue[0][0], self._answer)

    def stats(self, *, reset: bool) -> dict[str, int]:
        """Return the counts, and forget them if asked to."""
        found = {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
        }
        if reset:
            self.requests, self.max_in_flight = 0, self.in_flight
        return found


class Connection(asyncio.Protocol):
    """One kept connection; a client sends its next request when it has its answer."""

    def __init__(self, desk: Desk) -> None:
        """Bring requests to this desk."""
        self._desk = desk
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Split the stream into requests."""
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + size:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
            if head.startswith(b"get /"):
                self.send(response(self._desk.stats(reset=head.startswith(b"get /reset"))))
            else:
                self._desk.ask(self, body)

    def send(self, data: bytes) -> None:
        """Answer, if anybody is there still."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def serve(port: int, latency: float, right_every: int) -> None:
    """Serve until cancelled."""
    desk = Desk(latency, right_every)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(desk), "127.0.0.1", port, backlog=4096)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--right-every", type=int, default=0)
    parser.add_argument("--until-eof", action="store_true")
    options = parser.parse_args()
    if options.until_eof:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

        def wait() -> None:
            sys.stdin.read()
            signal.raise_signal(signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.latency_ms / 1000, options.right_every))


if __name__ == "__main__":
    main()
