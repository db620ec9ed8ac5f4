"""The one module that speaks HTTP, over aiohttp's connections.

aiohttp's connector and parser are used directly. Its session above them would double the CPU of a call (cookies,
redirects, authentication, a request and an answer made anew for each) for things that must not happen here anyway.

Two rules. Redirects are not followed and the environment's proxies are not used: both would carry the key
and the prompt to an address nobody configured. (Whose certificates are trusted, the environment may say, as everywhere:
SSL_CERT_FILE, else SSL_CERT_DIR, else the bundled ones.) And no exception of a library leaves this module, not even as
a context: they hold requests, and requests hold keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from dspex_actors.errors import ConfigError, LMError, Overloaded, StreamTruncated
from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.wire.exchange import RawReply
from dspex_actors.lm.worker import http_errors, lean, packing, resolving

with lean.imports():
    import aiohttp
    from aiohttp.client_reqrep import ClientRequest
    from yarl import URL

#: Seconds to open a connection, and to get a free one of the pool.
CONNECT = 5.0
#: Seconds an unused connection is kept.
KEEPALIVE = 30.0
#: Bytes of a reply's body at most, unpacked.
MAX_BODY = 32 * 1024 * 1024
#: Connections at most, where nothing else is said.
MAX_CONNECTIONS = 1024

#: What no header can carry.
_UNSENDABLE = frozenset("\r\n\0")


class Target:
    """An address with the headers that go there, the key's among them; made once, shown to nobody."""

    __slots__ = ("_head", "_request", "_url", "origin")

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Prepare requests to `url`; `headers` hold the key.

        Raises:
            ConfigError: `url` is no address, or a header holds what none can carry.
        """
        parsed = None
        with contextlib.suppress(ValueError):
            parsed = URL(url)
        if parsed is None or parsed.scheme not in ("http", "https") or not parsed.raw_host or not parsed.port:
            raise ConfigError(f"base_url: expected an address of a server, got {scrub(url)[:80]!r}")
        for name, value in headers.items():
            if not _UNSENDABLE.isdisjoint(name + value):
                raise ConfigError(f"header {scrub(name)[:40]!r}: expected one line of text, got more (not shown)")
        self._url = parsed.with_user(None).with_fragment(None)
        #: Scheme, host and port, for messages.
        self.origin = str(parsed.origin())
        fields = {"host": self._url.host_port_subcomponent, **headers}
        lines = [f"POST {self._url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._head = "\r\n".join([*lines, "content-length: "]).encode()
        self._request: ClientRequest | None = None

    def message(self, body: bytes) -> bytes:
        """Return one request as it is sent."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def request(self) -> ClientRequest:
        """Return what aiohttp finds connections by: the address, without headers."""
        if self._request is None:
            self._request = ClientRequest("POST", self._url, loop=asyncio.get_running_loop())
        return self._request

    def __repr__(self) -> str:
        """Show the server only."""
        return f"<Target {self.origin}>"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("a Target holds a key: it stays in its process")


def _no_tls() -> ssl.SSLContext:
    """Return a context that trusts nobody, for a server without TLS: no certificates are read for it."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the context that trusts whom the environment says, else the usual certificates; made once.

    Raises:
        ConfigError: what the environment names has no certificates.
    """
    # Reading the certificates takes tens of milliseconds: once per process, not once per LM.
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    why = ""
    try:
        if file:
            return ssl.create_default_context(cafile=file)
        if folder:
            return ssl.create_default_context(capath=folder)
        import certifi

        return ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        why = error.strerror or type(error).__name__
    name = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
    raise ConfigError(f"{name}: expected certificates in PEM form, got {os.environ.get(name)!r}: {why}")


class Answer:
    """An answer whose body comes still: iterate over its bytes as they arrive, or `read` them all.

    Bytes are without content encoding, at most `max_body` of them. The connection is read no further ahead than
    aiohttp's buffer, 128 KiB: who reads slowly slows the server down.
    """

    __slots__ = ("_connection", "_most", "_origin", "_payload", "_size", "_unpacker", "headers", "status")

    def __init__(self, status: int, raw_headers: Any, payload: Any, connection: Any, most: int, origin: str) -> None:
        """Take over a connection on which an answer has begun."""
        #: As in the status line.
        self.status: int = status
        #: By lower-case name.
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw_headers}
        self._payload = payload
        self._connection = connection
        self._most = most
        self._origin = origin
        self._size = 0
        self._unpacker: packing.Unpacker | None = None

    @property
    def _encoding(self) -> str:
        return self.headers.get("content-encoding", "identity").strip().lower().removeprefix("x-") or "identity"

    def allow(self, most: int) -> None:
        """Let the body have so many bytes: of a stream, what is around its pieces is more than they are."""
        self._most = most

    async def read(self) -> RawReply:
        """Read the body to its end.

        Raises:
            Overloaded: it is too large, or packed in a way that was not asked for.
            StreamTruncated: the server broke off in the middle of it.
        """
        result = await self.whole()
        if isinstance(result, RawReply):
            return result
        raise result

    async def whole(self) -> RawReply | LMError:
        """Read the body to its end; return what `read` raises."""
        payload, chunks = self._payload, []
        try:
            # An answer that is not streamed has come in one piece, as a rule.
            while not payload.at_eof() and self._size <= self._most:
                chunks.append(await payload.readany())
                self._size += len(chunks[-1])
        except Exception as exc:
            return http_errors.broken(exc, self._size, self._origin)
        if self._size > self._most:
            return self._too_big()
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if "content-encoding" not in self.headers or not body or (encoding := self._encoding) == "identity":
            return RawReply(self.status, self.headers, body)
        return self._unpacked(encoding, body)

    def _unpacked(self, encoding: str, body: bytes) -> RawReply | LMError:
        if self.status >= 300:
            # What the status says holds, whatever has happened to the words.
            with contextlib.suppress(zlib.error, KeyError):
                return RawReply(self.status, self.headers, packing.unpacked(encoding, body, self._most)[0])
            return RawReply(self.status, self.headers, b"")
        if encoding not in packing.WINDOW_BITS:
            return self._unasked(encoding)
        try:
            body, is_whole = packing.unpacked(encoding, body, self._most + 1)
        except zlib.error:
            return self._ill_packed(encoding, "broken")
        if len(body) > self._most:
            return self._too_big()
        if not is_whole:
            return self._ill_packed(encoding, "cut off")
        return RawReply(self.status, self.headers, body)

    def __aiter__(self) -> Answer:
        """Iterate over the bytes."""
        return self

    async def __anext__(self) -> bytes:
        """Return the bytes that have come, at least one.

        Raises:
            Overloaded, StreamTruncated: as `read`.
        """
        while True:
            result = await self._piece()
            if isinstance(result, LMError):
                raise result
            if result is None:
                raise StopAsyncIteration
            if result:
                return result

    async def _piece(self) -> bytes | LMError | None:
        """Return the next bytes, possibly none where they are packed; None: the end."""
        try:
            piece: bytes = await self._payload.readany()
        except Exception as exc:
            return http_errors.broken(exc, self._size, self._origin)
        if "content-encoding" in self.headers and (encoding := self._encoding) != "identity":
            if encoding not in packing.WINDOW_BITS:
                return self._unasked(encoding)
            self._unpacker = self._unpacker or packing.Unpacker(encoding)
            try:
                if not piece:
                    return None if self._unpacker.is_whole else self._ill_packed(encoding, "cut off")
                piece = self._unpacker.feed(piece, self._most - self._size + 1)
            except zlib.error:
                return self._ill_packed(encoding, "broken")
        elif not piece:
            return None
        self._size += len(piece)
        return self._too_big() if self._size > self._most else piece

    def _too_big(self) -> LMError:
        return Overloaded(
            f"{self._origin} answered with more than {self._most} bytes, which no reply has",
            status=self.status,
            retryable=False,
        )

    def _unasked(self, encoding: str) -> LMError:
        return Overloaded(
            f"{self._origin} answered in the encoding '{scrub(encoding)[:40]}', which was not asked for",
            status=self.status,
            retryable=False,
        )

    def _ill_packed(self, encoding: str, how: str) -> LMError:
        return StreamTruncated(
            f"{self._origin} answered with {encoding} data that is {how}", status=self.status, retryable=True
        )

    def close(self) -> None:
        """Give the connection back, or cut it if the answer was not read to its end or came before all was sent."""
        connection = self._connection
        transport = connection.transport
        if self._payload.is_eof() and transport is not None and not transport.get_write_buffer_size():
            connection.release()
        else:
            connection.close()


class HttpClient:
    """A pool of connections to one server; belongs to the event loop it was first used in.

    Args:
        max_connections: open connections at most; further requests wait for one.
        max_body: bytes of a reply at most.
        connect: seconds to open a connection, waiting for a free one of the pool included.
        secure: whether the server speaks TLS; without, a request to an https address is refused.
    """

    def __init__(
        self,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_body: int = MAX_BODY,
        connect: float = CONNECT,
        secure: bool = True,
    ) -> None:
        """Make the client; the first request opens the first connection."""
        self._max_connections = max_connections
        self._max_body = max_body
        # No read timeout: the caller limits the whole request, and who streams the time between two pieces.
        self._timeout = aiohttp.ClientTimeout(connect=connect, sock_connect=connect)
        self._ssl = tls() if secure else _no_tls()
        self._connector: aiohttp.TCPConnector | None = None
        self._is_closed = False

    def _connections(self) -> aiohttp.TCPConnector:
        if self._connector is None:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            self._connector = aiohttp.TCPConnector(
                limit=self._max_connections,
                keepalive_timeout=KEEPALIVE,
                ttl_dns_cache=300,
                ssl=self._ssl,
                resolver=resolving.Resolver(),
            )
        return self._connector

    async def post(self, target: Target, body: bytes) -> RawReply:
        """Send one request and read its answer to the end.

        Args:
            target: where to, and with which headers.
            body: JSON.

        Raises:
            Overloaded: the server could not be reached, broke off before answering, or answered too much.
            StreamTruncated: it broke off in the middle of the answer.
        """
        answer = await self._ask(target, body)
        if isinstance(answer, LMError):
            raise answer
        try:
            result = await answer.whole()
        finally:
            answer.close()
        if isinstance(result, RawReply):
            return result
        raise result

    @contextlib.asynccontextmanager
    async def stream(self, target: Target, body: bytes) -> AsyncIterator[Answer]:
        """Send one request and give its answer as soon as its headers have come; the connection goes with the `with`.

            async with client.stream(target, body) as answer:
                if answer.status != 200:
                    raw = await answer.read()
                async for piece in answer: ...

        Args:
            target: where to, and with which headers.
            body: JSON.

        Raises:
            Overloaded: the server could not be reached, or broke off before answering.
        """
        answer = await self._ask(target, body)
        if isinstance(answer, LMError):
            raise answer
        try:
            yield answer
        finally:
            answer.close()

    async def _ask(self, target: Target, body: bytes) -> Answer | LMError:
        """Send a request and wait for the head of its answer; errors are returned.

        Raised in an `except`, an error would have the library's exception as its context.
        """
        try:
            connection = await self._connections().connect(target.request(), traces=[], timeout=self._timeout)
            try:
                protocol, transport = connection.protocol, connection.transport
                assert protocol is not None
                assert transport is not None
                protocol.set_response_params(read_until_eof=True, auto_decompress=False)
                # All of it is in memory already: there is nothing to hold back while the socket is full.
                transport.write(target.message(body))
                while True:
                    head, payload = await protocol.read()
                    if head.code >= 200 or head.code == 101:
                        break
                return Answer(head.code, head.raw_headers, payload, connection, self._max_body, target.origin)
            except BaseException:
                connection.close()
                raise
        except Exception as exc:
            return http_errors.unreachable(exc, target.origin)

    async def aclose(self) -> None:
        """Close all connections."""
        self._is_closed = True
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()
