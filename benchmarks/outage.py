"""A server that goes away in the middle of a run: how often it is asked meanwhile, what fails, when the run goes on.

The server is a thread of this process. While it is away it answers 503; its book says when it was asked. A second run
has a fallback.

    python -m benchmarks.outage [--examples N] [--in-flight N] [--seconds N] [--recovery-ms N] [--quick]
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from typing import Any, Self

from benchmarks.common import home, parser, run, table

#: Text of each answer.
ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"


class Outages(asyncio.Protocol):
    """A connection to a server that can be away."""

    def __init__(self, server: Provider) -> None:
        """Belong to a server."""
        self._server = server
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._data += data
        while True:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            if len(rest) < length:
                return
            self._data = rest[length:]
            self._server.take(self._transport)


class Provider:
    """An OpenAI-like server in a thread; a context manager.

    Args:
        latency: seconds to an answer.
    """

    def __init__(self, latency: float = 0.01) -> None:
        """Prepare it."""
        self._latency = latency
        #: Monotonic seconds of each request, those in an outage apart.
        self.asked: list[float]
        self.asked_in_vain: list[float]
        #: After so many answers it goes away, for so many seconds.
        self.outage: tuple[int, float] | None = None
        self.forget()
        body = {
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        self._good = _http(200, body)
        self._bad = _http(503, {"error": {"message": "it is down"}})

    def take(self, transport: Any) -> None:
        """Take in a request."""
        now = time.monotonic()
        if self.outage is not None and len(self.asked) >= self.outage[0]:
            seconds, self.outage = self.outage[1], None
            self.is_away, self.went = True, now
            self._loop.call_later(seconds, self._come_back)
        (self.asked_in_vain if self.is_away else self.asked).append(now)
        self._loop.call_later(self._latency, transport.write, self._bad if self.is_away else self._good)

    def _come_back(self) -> None:
        self.is_away, self.back = False, time.monotonic()

    def __enter__(self) -> Self:
        """Listen."""
        there = threading.Event()

        def work() -> None:
            asyncio.run(self._run(there))

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        there.wait()
        return self

    async def _run(self, there: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: Outages(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        there.set()
        await self._end.wait()
        server.close()

    def __exit__(self, *error: object) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)

    def forget(self) -> None:
        """Begin a new book; it is not away."""
        self.asked, self.asked_in_vain = [], []
        self.is_away, self.went, self.back = False, 0.0, 0.0

    def probes(self, settled: float = 1.0) -> list[float]:
        """Return when it was asked in its outage, once what was under way had ended: seconds after it went."""
        return [at - self.went for at in self.asked_in_vain if at - self.went > settled]


def _http(status: int, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def outage(
    provider: Provider, lm: Any, examples: int, in_flight: int, at: float, seconds: float, **settings: Any
) -> Any:
    """Evaluate on a server that goes away after a share of the examples; return the result.

    Args:
        provider: the server.
        lm: who is asked.
        examples: how many.
        in_flight: at once.
        at: share of the examples that are answered before it goes away.
        seconds: for how long it does.
        **settings: more of `dspex.evaluate`.
    """
    import dspex_actors as dspex

    rows = [{"ticket": f"ticket {number}", "team": "billing"} for number in range(examples)]
    provider.outage = (int(examples * at), seconds)
    metric = dspex.metrics.exact_match("team")
    program = dspex.Predict("ticket -> team")
    settings = {"max_in_flight": in_flight, "display_progress": False, **settings}
    return dspex.evaluate(program, rows, metric, lm=lm, **settings)


def main() -> None:
    """Measure and print."""
    import dspex_actors as dspex

    options = parser(__doc__, examples=5000, in_flight=64, seconds=30, recovery_ms=5000).parse_args()
    if options.quick:
        options.examples, options.seconds, options.recovery_ms = 1000, 3, 500
    recovery = options.recovery_ms / 1000
    circuit = {"recovery_time": recovery, "growth": 1.0}
    rows = []
    with home(), dspex.connect(workers=2), Provider() as away, Provider() as other:
        for what in ("no fallback", "a fallback"):
            for server in (away, other):
                server.forget()
            fallbacks = [dspex.LM("openai/other", base_url=other.url)] if what == "a fallback" else []
            lm = dspex.LM(f"openai/{what.replace(' ', '-')}", base_url=away.url, circuit=circuit, fallbacks=fallbacks)
            began = time.monotonic()
            result = outage(away, lm, options.examples, options.in_flight, 0.4, options.seconds)
            took = time.monotonic() - began
            probes = away.probes()
            gaps = [b - a for a, b in itertools.pairwise(probes)]
            rows.append(
                [
                    what,
                    str(result.failed),
                    str(len(away.asked_in_vain) - len(probes)),
                    str(len(probes)),
                    "" if not gaps else f"{min(gaps):.2f}",
                    "" if not away.back else f"{next((at for at in away.asked if at > away.back), 0) - away.back:.2f}",
                    str(len(other.asked)),
                    f"{took:.1f}",
                ]
            )
    table(
        f"an outage of {options.seconds} s in {options.examples:,} examples, {options.in_flight} in flight, "
        f"recovery_time {recovery:g} s",
        [
            "",
            "failed",
            "asked in vain in its first second",
            "probes",
            "apart, s",
            "asked again after, s",
            "the fallback answered",
            "the run took, s",
        ],
        rows,
    )


if __name__ == "__main__":
    run(main)
