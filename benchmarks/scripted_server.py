"""An OpenAI-like server with the scripted answers of tests/scripted_answers.py, in a process of its own.

    python -m benchmarks.scripted_server [--latency-ms N]

It prints its port, and ends with its standard input. `/stats` tells requests, in_flight, max_in_flight; `/reset` too,
and begins to count anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from scripted_answers import is_drawn, text  # type: ignore[import-not-found]


class Scripted:
    """Answers after a while, and counts."""

    def __init__(self, seconds: float) -> None:
        """Nothing was asked."""
        self._seconds = seconds
        self._counts = {"requests": 0, "in_flight": 0, "max_in_flight": 0}
        #: How often each question was asked that is asked for several answers: the next one is another one.
        self._drawn: Counter[str] = Counter()

    async def complete(self, request: web.Request) -> web.Response:
        """Answer a request for a completion."""
        asked: dict[str, Any] = await request.json()
        counts = self._counts
        counts["requests"] += 1
        counts["in_flight"] += 1
        counts["max_in_flight"] = max(counts["max_in_flight"], counts["in_flight"])
        rollout = 0
        if is_drawn(asked["messages"]):
            question = json.dumps(asked["messages"])
            rollout = self._drawn[question]
            self._drawn[question] += 1
        try:
            await asyncio.sleep(self._seconds)
            message = {"role": "assistant", "content": text(asked["messages"], rollout)}
        finally:
            counts["in_flight"] -= 1
        return web.json_response(
            {
                "id": "scripted",
                "object": "chat.completion",
                "created": 0,
                "model": asked.get("model", "scripted"),
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            }
        )

    async def stats(self, request: web.Request) -> web.Response:
        """Tell the counts."""
        told = dict(self._counts)
        if request.path == "/reset":
            self._counts |= {"requests": 0, "max_in_flight": self._counts["in_flight"]}
            self._drawn.clear()
        return web.json_response(told)


async def serve(seconds: float) -> None:
    """Serve until standard input ends."""
    scripted = Scripted(seconds)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", scripted.complete)
    app.router.add_get("/stats", scripted.stats)
    app.router.add_get("/reset", scripted.stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps(runner.addresses[0][1]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--latency-ms", type=float, default=200.0)
    asyncio.run(serve(parser.parse_args().latency_ms / 1000))


if __name__ == "__main__":
    main()
