"""One prediction at a time: what `program(...)` through the Python API adds to the HTTP call that it makes.

In turn with it, on the same server, the same request is sent over a kept connection by `http.client` and
by aiohttp.

    python -m benchmarks.one_prediction [--calls N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Callable

import aiohttp
import orjson

from benchmarks.common import TICKET, home, median, parser, percentile, run, server, table
from benchmarks.work import connected, rendered


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, calls=300, latency_ms=20.0).parse_args()
    if options.quick:
        options.calls = min(options.calls, 60)
    times: dict[str, list[float]] = {}
    with (
        server(options.latency_ms) as there,
        home(),
        connected(there.url) as (system, program, _metric),
        asyncio.Runner() as runner,
    ):
        payload = rendered()
        headers = {"content-type": "application/json"}
        plain = http.client.HTTPConnection("127.0.0.1", there.port)
        session = runner.run(_session())

        def with_http_client(number: int) -> None:
            body = orjson.dumps(payload(TICKET.format(number)))
            plain.request("POST", "/v1/chat/completions", body, headers)
            orjson.loads(plain.getresponse().read())

        def with_aiohttp(number: int) -> None:
            runner.run(_post(session, there.url, orjson.dumps(payload(TICKET.format(number))), headers))

        def ours(number: int) -> None:
            assert program(ticket=TICKET.format(number)).team == "bugs"

        def ours_awaited(number: int) -> None:
            assert runner.run(program.acall(ticket=TICKET.format(number))).team == "bugs"

        def a_call(_number: int) -> None:
            system.node.call("worker-1", "stats")

        ways: dict[str, Callable[[int], None]] = {
            "http.client, kept connection": with_http_client,
            "aiohttp, kept connection": with_aiohttp,
            "ours: program(...)": ours,
            "ours: await program.acall(...)": ours_awaited,
            "(a call to a worker that answers at once)": a_call,
        }
        for number in range(-10, options.calls):
            for name, way in ways.items():
                started = time.perf_counter()
                way(abs(number))
                if number >= 0:
                    times.setdefault(name, []).append(time.perf_counter() - started)
        runner.run(session.close())
        plain.close()
    base = median(times["http.client, kept connection"])
    rows = []
    for name, values in times.items():
        middle, late = median(values), percentile(values, 0.99)
        added = [f"{(middle - base) * 1000:.2f}", f"{(late - base) * 1000:.2f}", f"{middle / base:.3f}"]
        if name.startswith("("):
            added = ["", "", ""]
        rows.append([name, f"{middle * 1000:.2f}", f"{late * 1000:.2f}", *added])
    table(
        f"One prediction at a time, server at {options.latency_ms:g} ms, {options.calls} calls each, in turn",
        ["what", "median ms", "p99 ms", "added, median ms", "added, p99 ms", "÷ http.client"],
        rows,
        "added: to the median of http.client",
    )


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _post(session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> None:
    async with session.post(url + "/chat/completions", data=body, headers=headers) as response:
        orjson.loads(await response.read())


if __name__ == "__main__":
    run(main)
