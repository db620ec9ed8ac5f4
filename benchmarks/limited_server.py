"""A server that refuses by its own book: OpenAI's chat format, with limits that it counts itself.

    python -m benchmarks.limited_server --per-second 20 --latency-ms 100

    GET /book    what was asked, admitted and refused since the last look, the most requests in a fixed window of a
                 second, and the most requests and tokens in any window of `--seconds`; then it begins anew

Args of the command line:
    --per-second N   requests admitted in each fixed window of a second; 0: any number.
    --requests N     requests that it counts in any `--seconds`, and does not refuse; the same for --tokens.
    --latency-ms N   how long an answer takes; a refusal comes at once.
    --retry-after    tell it with a refusal, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections import Counter

from benchmarks.server import Connection, Desk, response

REFUSED = json.dumps({"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}})


def most_within(log: list[tuple[float, float]], seconds: float) -> float:
    """Return the most that any window of so many seconds has of (moment, amount), in order."""
    most = total = 0.0
    first = 0
    for at, amount in log:
        total += amount
        while log[first][0] <= at - seconds:
            total -= log[first][1]
            first += 1
        most = max(most, total)
    return most


class Book(Desk):
    """Admits or refuses, and writes it down."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begin an empty book."""
        super().__init__(options.latency_ms / 1000, 0)
        self._options = options
        self._log: list[tuple[float, float]] = []
        self._windows: Counter[int] = Counter()
        self._refused = 0

    def ask(self, connection: Connection, body: bytes) -> None:
        """Take in a request."""
        now = self._loop.time()
        limit = self._options.per_second
        if limit and self._windows[int(now)] >= limit:
            self._refused += 1
            connection.send(self._refusal(now))
            return
        self._windows[int(now)] += 1
        tokens = sum(len(message["content"]) for message in json.loads(body)["messages"]) // 4
        self._log.append((now, float(tokens + 10)))
        self._right = response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "[[ ## team ## ]]\nbugs\n\n[[ ## completed ## ]]"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": tokens, "completion_tokens": 10, "total_tokens": tokens + 10},
            }
        )
        super().ask(connection, body)

    def _refusal(self, now: float) -> bytes:
        wait = f"retry-after-ms: {1000 * (1 - now % 1):.0f}\r\n" if self._options.retry_after else ""
        head = f"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n{wait}"
        return f"{head}Content-Length: {len(REFUSED)}\r\n\r\n{REFUSED}".encode()

    def stats(self, *, reset: bool) -> dict[str, float]:  # type: ignore[override]
        """Return the book and begin a new one."""
        log, seconds = self._log, self._options.seconds
        found = {
            "admitted": len(log),
            "refused": self._refused,
            "most": max(self._windows.values(), default=0),
            "requests": most_within([(at, 1.0) for at, _ in log], seconds),
            "tokens": most_within(log, seconds),
            "all_tokens": sum(tokens for _, tokens in log),
            "span": log[-1][0] - log[0][0] if log else 0.0,
        }
        self._log, self._windows, self._refused = [], Counter(), 0
        return found


async def serve(options: argparse.Namespace) -> None:
    """Serve until cancelled."""
    book = Book(options)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(book), "127.0.0.1", options.port, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    async with server:
        await ended.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--per-second", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--retry-after", action="store_true")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
