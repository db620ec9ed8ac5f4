"""Streams: what reading a reply in pieces costs over the bare transport, and how late a first piece is.

Both figures are of replies of so many pieces. The CPU is that of reading: once the bytes are only taken, once they go
through decoder, session and books to a reader in a task of its own. The transport is a stand-in for the HTTP client
that hands on the same bytes both times, at once or one event a turn of the event loop: over sockets the two would be
cut differently, and the difference would be that of the cuts. The lateness is between the moment in which a server
hands its first event to the kernel and the one in which a program outside of the node holds the piece; the server is a
thread of this process, so both are of one clock.

    python -m benchmarks.streaming [--quick] [--replies N] [--pieces N] [--rounds N] [--firsts N]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.common import home, parser, run, table

HI = [{"role": "user", "content": "Tell me a story."}]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#: The server answers at once, sends the first piece so many seconds later, and the others as many after it.
WAIT = 0.02


def events(pieces: int) -> list[bytes]:
    """Return a reply as the chunks in which OpenAI sends it."""
    about = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}

    def chunk(data: Any) -> bytes:
        text = data if isinstance(data, str) else json.dumps({**about, **data})
        body = f"data: {text}\n\n".encode()
        return b"%x\r\n%b\r\n" % (len(body), body)

    def delta(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
        return chunk({"choices": [choice], "usage": None})

    usage = {"prompt_tokens": 10, "completion_tokens": pieces, "total_tokens": 10 + pieces}
    end = [delta("", "stop"), chunk({"choices": [], "usage": usage}), chunk("[DONE]") + b"0\r\n\r\n"]
    return [*(delta(f" word{number}") for number in range(pieces)), *end]


class Server:
    """Sends the same reply to everybody, on an event loop in a thread of its own."""

    def __init__(self, pieces: int) -> None:
        """Listen."""
        self.events = events(pieces)
        #: When the first event of the last reply was handed to the kernel.
        self.sent = 0.0
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._listen(ready)), daemon=True).start()
        ready.wait()

    async def _listen(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await asyncio.sleep(WAIT)
        self.sent = time.perf_counter()
        writer.write(self.events[0])
        await asyncio.sleep(WAIT)
        writer.write(b"".join(self.events[1:]))
        await writer.drain()


class Canned:
    """An HTTP client whose every answer is the same bytes, in so many reads."""

    def __init__(self, reads: list[bytes]) -> None:
        """Keep them."""
        self._reads = reads
        self.status, self.headers = 200, {"content-type": "text/event-stream"}

    @contextlib.asynccontextmanager
    async def stream(self, target: Any, body: bytes) -> AsyncIterator[Canned]:
        """Answer."""
        yield self

    def allow(self, most: int) -> None:
        """Do nothing."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the reads, a turn of the event loop each."""
        for read in self._reads:
            await asyncio.sleep(0)
            yield read

    async def aclose(self) -> None:
        """Do nothing."""


async def measured(one: Callable[[], Awaitable[None]], replies: int) -> float:
    """Return the CPU milliseconds a reply of this thread."""
    before = time.thread_time()
    for _ in range(replies):
        await one()
    return (time.thread_time() - before) / replies * 1000


async def over_the_transport(reads: list[bytes], replies: int, rounds: int) -> tuple[float, float]:
    """Return the CPU milliseconds of a reply: of bare bytes, and of pieces that are read; of the best round each."""
    from dspex_actors.lm.lm import LM
    from dspex_actors.lm.worker.session import LMSession
    from dspex_actors.lm.worker.streaming import Sink

    client: Any = Canned(reads)
    lm = LM("openai/gpt-4o-mini", base_url="http://127.0.0.1:9/v1")
    session = LMSession(lm.request(HI, {}).lm.deployment, http=client)

    async def bare() -> None:
        async with client.stream(None, b"") as answer:
            async for _ in answer:
                pass

    async def ours() -> None:
        sink = Sink()
        task = asyncio.ensure_future(session.complete(HI, {}, sink=sink))
        task.add_done_callback(lambda _: sink.close())
        while await sink.take():
            pass
        await task

    found: tuple[list[float], list[float]] = [], []
    for _ in range(rounds + 1):
        for times, one in zip(found, (bare, ours), strict=True):
            times.append(await measured(one, replies))
    return min(found[0][1:]), min(found[1][1:])


def firsts(server: Server, count: int) -> dict[str, list[float]]:
    """Return how many milliseconds after it was sent a first piece is held by a program, read in both ways."""
    import dspex_actors as dspex

    late: dict[str, list[float]] = {"for": [], "async for": []}
    with dspex.connect():
        lm = dspex.LM("openai/gpt-4o-mini", base_url=server.url, cache=False)
        for number in range(count + 20):
            with lm.stream(HI) as stream:
                next(stream)
                late["for"].append((time.perf_counter() - server.sent) * 1000)
                stream.read()
            if number == 20:
                late["for"].clear()

        async def read() -> None:
            for number in range(count + 20):
                async with lm.stream(HI) as stream:
                    await anext(stream)
                    late["async for"].append((time.perf_counter() - server.sent) * 1000)
                    await stream.aread()
                if number == 20:
                    late["async for"].clear()

        asyncio.run(read())
    return late


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, replies=200, pieces=200, rounds=10, firsts=300).parse_args()
    if options.quick:
        options.replies, options.rounds, options.firsts = 50, 5, 50
    server = Server(options.pieces)
    sent = [chunk.partition(b"\r\n")[2].rpartition(b"\r\n")[0] for chunk in events(options.pieces)]
    sent[-1] = b"data: [DONE]\n\n"
    rows = []
    for name, reads in (("all at once", [b"".join(sent)]), ("each for itself", sent)):
        bare, ours = asyncio.run(over_the_transport(reads, options.replies, options.rounds))
        rows.append([name, f"{bare:.2f}", f"{ours:.2f}", f"{ours - bare:.2f}"])
    table(
        f"{options.pieces} pieces a reply, best of {options.rounds} rounds: CPU ms a reply",
        ["how they come", "bare transport", "ours", "ours over it"],
        rows,
        "expected over the bare transport: at most 1.5 ms",
    )
    with home():
        late = firsts(server, options.firsts)
    rows = []
    for name, values in late.items():
        points = statistics.quantiles(values, n=100)
        rows.append(
            [name, *(f"{value:.2f}" for value in (statistics.median(values), points[89], points[98], max(values)))]
        )
    table(
        f"first piece through the node, {options.firsts} replies one after the other: ms after it left the server",
        ["read by", "median", "p90", "p99", "worst"],
        rows,
        "expected: at most 5 ms",
    )


if __name__ == "__main__":
    run(main)
