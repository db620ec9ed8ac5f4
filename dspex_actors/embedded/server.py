"""The embedded LM as an HTTP server.

::

    server = await start_server(EmbeddedConfig(latency_ms=200, faults={"hang": 0.01}))
    ...                       # ask server.base_urls["openai"] and the like
    await server.close()

It listens on loopback, speaks the wire formats of four providers, and does to a request what a provider may
do to it: answers, refuses, waits, or breaks. `GET /healthz`, `GET /stats`, `GET /booked` and `GET /batched` are its
own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import Any

import orjson

# Not `aiohttp.web`: its applications and routes, which nobody here uses, cost each start of a node 20 ms of CPU.
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from dspex_actors.embedded.batching import MAX_BATCH, Batching
from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.embedded.paths import Route, family, hint, route
from dspex_actors.embedded.service import Outcome, Service, Stats
from dspex_actors.embedded.wire import WIRES, Trouble, Wire
from dspex_actors.embedded.wire.events import array_of
from dspex_actors.embedded.wire.openai import models

#: The largest body that any of the four providers takes.
MAX_BODY = 32 * 1024 * 1024
#: Connections that may wait to be accepted: a client may open all of its pool at once.
_BACKLOG = 1024
#: Seconds that `close` leaves to requests which are being answered.
_GRACE = 1.0
#: SO_LINGER on, 0 seconds: closing sends a reset.
_RESET = struct.pack("ii", 1, 0)


class RunningServer:
    """A server that listens.

    Attributes:
        host: the address it listens on.
        port: the port, the real one where the config had 0.
        url: its root, without a path.
    """

    def __init__(self, config: EmbeddedConfig) -> None:
        """Prepare; `start_server` makes it listen."""
        self.host = config.host
        self.port = config.port
        self._config = config
        self._service = Service(config)
        self._batching = Batching(config, self._service)
        self._started = int(time.time())
        self._closing = asyncio.Event()
        self._places = None if config.at_once is None else asyncio.Semaphore(config.at_once)
        self._booked: list[dict[str, Any]] = []
        self._running: tuple[asyncio.Server, Server] | None = None

    @property
    def url(self) -> str:
        """The root of the server, as ``http://host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_urls(self) -> dict[str, str]:
        """The base address per provider, as that provider's own SDK takes it."""
        return {name: f"{self.url}/v1" if name == "openai" else self.url for name in WIRES if "-" not in name}

    @property
    def stats(self) -> Stats:
        """What the server has done so far."""
        return self._service.stats

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken, or the address is not this host's.
        """
        loop = asyncio.get_running_loop()

        def make_request(*parts: Any) -> BaseRequest:
            message, payload, protocol, writer, task = parts
            most = MAX_BATCH if Batching.serves(message.path) else MAX_BODY
            return BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=most)

        # The low-level server, without router, middleware and access log: a stand-in must not be what a
        # measurement of its client measures.
        server = Server(self._handle, request_factory=make_request, handler_cancellation=True, access_log=None)
        listener = await loop.create_server(server, self._config.host, self._config.port, backlog=_BACKLOG)
        self._running = listener, server
        # A name may stand for several addresses, and port 0 for a port on each: the first is the one to use.
        self.host, self.port = listener.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Stop listening, end what hangs, leave a moment to what is being answered. Idempotent."""
        self._closing.set()
        self._batching.close()
        if self._running is not None:
            (listener, server), self._running = self._running, None
            listener.close()
            await asyncio.sleep(0)  # what has come in already begins to be answered
            server.pre_shutdown()
            await server.shutdown(_GRACE)

    async def _handle(self, request: BaseRequest) -> StreamResponse:
        found = route(request.path)
        if found is None and Batching.serves(request.path):
            return await self._batching.answer(request)
        if found is None or request.method != "POST":
            return self._other(request)
        stats = self.stats
        stats.requests += 1
        number = stats.requests
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        try:
            return await self._answer(request, WIRES[found.wire], found, number)
        finally:
            stats.in_flight -= 1

    async def _answer(self, request: BaseRequest, wire: Wire, found: Route, number: int) -> StreamResponse:
        try:
            raw = await request.read()
        except HTTPRequestEntityTooLarge:
            self.stats.refused += 1
            trouble = Trouble("too_large", f"the request's body is larger than {MAX_BODY} bytes")
            return _response(self._service.refuse(wire, trouble, f"{number:016x}", time.time(), time.monotonic()))
        outcome = self._service.answer(
            wire, found.model, request.headers, raw, number, time.time(), time.monotonic(), stream=found.stream
        )
        if self._config.book:
            self._booked.append(outcome.booked(number))
        if outcome.fault == "hang":
            return await self._hang(request)
        if outcome.fault == "reset":
            return _reset(request)
        # A refusal is quick; only an answer takes a model's time.
        if outcome.status == 200:
            seconds = self._config.latency(number)
            if seconds:
                async with self._places or contextlib.nullcontext():
                    await asyncio.sleep(seconds)
        if outcome.events is not None:
            is_array = found.stream and request.query.get("alt") != "sse"
            return await self._stream(request, outcome, outcome.events, is_array=is_array)
        if outcome.fault == "truncated":
            return await _truncated(request, outcome)
        return _response(outcome)

    def _other(self, request: BaseRequest) -> Response:
        """Answer what is not a call to a model."""
        if request.method == "GET" and request.path == "/healthz":
            return _json(200, {"status": "ok"})
        if request.method == "GET" and request.path == "/stats":
            return _json(200, self.stats.as_dict())
        if request.method == "GET" and request.path == "/booked":
            return _json(200, self._booked)
        wire = WIRES[family(request.path)]
        trouble = self._service.key_trouble(wire, request.headers)
        if trouble is None:
            if request.method == "GET" and request.path == "/v1/models":
                return _json(200, models(self._started))
            trouble = Trouble("not_found", f"Unknown request URL: {request.method} {request.path}; {hint(self.url)}")
        return _response(self._service.refuse(wire, trouble, "0", time.time(), time.monotonic()))

    async def _stream(
        self, request: BaseRequest, outcome: Outcome, events: list[bytes], *, is_array: bool
    ) -> StreamResponse:
        """Send events one after the other, or as Gemini's array; who does not read makes this wait."""
        self.stats.streams += 1
        kind = "application/json" if is_array else "text/event-stream"
        events = array_of(events) if is_array else events
        response = StreamResponse(headers={"Content-Type": kind, **outcome.headers})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            for number, event in enumerate(events):
                if number and self._config.piece_delay_ms:
                    await asyncio.sleep(self._config.piece_delay_ms / 1000)
                await response.write(event)
            if outcome.fault == "stall":
                await self._closing.wait()
        except (asyncio.CancelledError, ConnectionError):
            self.stats.abandoned += 1
            raise
        if outcome.fault in ("stall", "truncated") and request.transport is not None:
            request.transport.close()
        return response

    async def _hang(self, request: BaseRequest) -> Response:
        """Answer nothing; the task is cancelled when the client goes away."""
        await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()
        return Response()


def _json(status: int, body: Any) -> Response:
    return Response(status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json"})


def _response(outcome: Outcome) -> Response:
    outcome.headers.setdefault("Content-Type", "application/json")
    return Response(status=outcome.status, body=outcome.body, headers=outcome.headers)


def _reset(request: BaseRequest) -> Response:
    """Reset the connection. The response that is returned meets a closed transport and is dropped."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return Response()


async def _truncated(request: BaseRequest, outcome: Outcome) -> StreamResponse:
    """Announce the whole body, send half of it, and close."""
    response = StreamResponse(headers={"Content-Type": "application/json", **outcome.headers})
    response.content_length = len(outcome.body)
    await response.prepare(request)
    await response.write(outcome.body[: len(outcome.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def start_server(config: EmbeddedConfig | None = None) -> RunningServer:
    """Start a server in the running event loop and return it once it listens.

    Args:
        config: its settings; None: the defaults, on any free port.

    Raises:
        OSError: the port is taken, or the address is not this host's.
    """
    server = RunningServer(config or EmbeddedConfig())
    await server.start()
    return server
