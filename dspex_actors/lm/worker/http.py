"""The one module that speaks HTTP: the only importer of httpx and of its aiohttp transport.

The transport is used directly. httpx's client above it would double the CPU of a call (cookies,
authentication, redirects, a log line with the address) for things that must not happen here anyway.

Two rules. Redirects are not followed and the environment's proxies are not used: both would carry the key
and the prompt to an address nobody configured. (Whose certificates are trusted, the environment may say, as everywhere:
SSL_CERT_FILE, else SSL_CERT_DIR, else the bundled ones.) And no exception of a library leaves this module, not even as
a context: they hold requests, and requests hold keys.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import ssl
import zlib
from collections.abc import Mapping
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from dspex_actors.errors import ConfigError, LMError, Overloaded, StreamTruncated
from dspex_actors.lm.keys import scrub
from dspex_actors.lm.wire.exchange import RawReply

#: Seconds to open a connection, and to get a free one of the pool.
CONNECT = 5.0
#: Seconds an unused connection is kept.
KEEPALIVE = 30.0
#: Bytes of a reply's body at most, unpacked.
MAX_BODY = 32 * 1024 * 1024
#: Connections at most, where nothing else is said.
MAX_CONNECTIONS = 1024

# They write every address, and at DEBUG every header, to the log.
for _name in ("httpx", "httpx2", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Target:
    """An address with the headers that go there, the key's among them; made once, shown to nobody."""

    __slots__ = ("_headers", "_url")

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Prepare requests to `url`; `headers` hold the key.

        Raises:
            ConfigError: `url` is no address.
        """
        parsed = None
        with contextlib.suppress(httpx.InvalidURL):
            parsed = httpx.URL(url)
        if parsed is None or not parsed.host:
            raise ConfigError(f"base_url: expected an address of a server, got {scrub(url)[:80]!r}")
        self._url = parsed
        self._headers = httpx.Headers(headers)

    def request(self, body: bytes, extensions: dict[str, object]) -> httpx.Request:
        """Build one request."""
        return httpx.Request("POST", self._url, headers=self._headers, content=body, extensions=extensions)

    @property
    def origin(self) -> str:
        """Scheme, host and port, for messages."""
        return f"{self._url.scheme}://{self._url.netloc.decode('ascii')}"

    def __repr__(self) -> str:
        """Show the server only."""
        return f"<Target {self.origin}>"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("a Target holds a key: it stays in its process")


@functools.cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes tens of milliseconds: once per process, not once per LM.
    why = ""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        why = error.strerror or type(error).__name__
    name = next(name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name))
    raise ConfigError(f"{name}: expected certificates in PEM form, got {os.environ[name]!r}: {why}")


class HttpClient:
    """A pool of connections to one server; belongs to the event loop it was first used in.

    Args:
        max_connections: open connections at most; further requests wait for one.
        max_body: bytes of a reply at most.
        connect: seconds to open a connection.
    """

    def __init__(
        self, *, max_connections: int = MAX_CONNECTIONS, max_body: int = MAX_BODY, connect: float = CONNECT
    ) -> None:
        """Make the client; the first request opens the first connection."""
        self._max_connections = max_connections
        self._max_body = max_body
        # No read timeout: the caller limits the whole request, and a reply that is not streamed comes in one
        # piece.
        self._extensions: dict[str, object] = {"timeout": {"connect": connect, "pool": connect}}
        self._transport = AiohttpTransport(client=self._session, verify=_tls(), trust_env=False)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=KEEPALIVE, ttl_dns_cache=300, ssl=_tls()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def post(self, target: Target, body: bytes) -> RawReply:
        """Send one request and read its answer to the end.

        Args:
            target: where to, and with which headers.
            body: JSON.

        Raises:
            Overloaded: the server could not be reached, broke off before answering, or answered too much.
            StreamTruncated: it broke off in the middle of the answer.
        """
        failure: LMError
        try:
            response = await self._transport.handle_async_request(target.request(body, self._extensions))
        except Exception as exc:
            failure = _unreachable(exc, target.origin)
            if hint := _hint(exc, target.origin):
                failure.message += hint
                failure.args = (failure.message,)
        else:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
            chunks: list[bytes] = []
            size = 0
            try:
                async for chunk in response.stream:  # type: ignore[union-attr]
                    size += len(chunk)
                    chunks.append(chunk)
                    if size > self._max_body:
                        break
            except Exception as exc:
                failure = _broken(exc, size, target.origin)
            else:
                result = self._whole(response.status_code, headers, chunks, size, target.origin)
                if isinstance(result, RawReply):
                    return result
                failure = result
            finally:
                await _close(response)
        # Outside of every `except`: a library's exception must not become this one's context.
        raise failure

    def _whole(
        self, status: int, headers: dict[str, str], chunks: list[bytes], size: int, origin: str
    ) -> RawReply | LMError:
        if size > self._max_body:
            return self._too_big(status, origin)
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        encoding = headers.get("content-encoding", "identity").strip().lower().removeprefix("x-")
        if encoding in ("identity", "") or not body:
            return RawReply(status, headers, body)
        if status >= 300:
            # What the status says holds, whatever has happened to the words.
            with contextlib.suppress(zlib.error, KeyError):
                return RawReply(status, headers, _unpacked(encoding, body, self._max_body)[0])
            return RawReply(status, headers, b"")
        if encoding not in _WINDOW_BITS:
            return Overloaded(
                f"{origin} answered in the encoding '{scrub(encoding)[:40]}', which was not asked for",
                status=status,
                retryable=False,
            )
        try:
            body, is_whole = _unpacked(encoding, body, self._max_body + 1)
        except zlib.error:
            return StreamTruncated(
                f"{origin} answered with {encoding} data that is broken", status=status, retryable=True
            )
        if len(body) > self._max_body:
            return self._too_big(status, origin)
        if not is_whole:
            return StreamTruncated(
                f"{origin} answered with {encoding} data that is cut off", status=status, retryable=True
            )
        return RawReply(status, headers, body)

    def _too_big(self, status: int, origin: str) -> LMError:
        return Overloaded(
            f"{origin} answered with more than {self._max_body} bytes, which no reply has",
            status=status,
            retryable=False,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


#: zlib's windowBits by encoding. What is called deflate comes with zlib's header, or without.
_WINDOW_BITS: dict[str, tuple[int, ...]] = {"gzip": (47,), "deflate": (15, -15)}


def _unpacked(encoding: str, body: bytes, most: int) -> tuple[bytes, bool]:
    """Return at most so many unpacked bytes, and whether the packed data came to its end.

    Raises:
        zlib.error: it is not packed so.
        KeyError: the encoding is unknown.
    """
    for bits in _WINDOW_BITS[encoding]:
        unpacker = zlib.decompressobj(bits)
        try:
            return unpacker.decompress(body, most), unpacker.eof
        except zlib.error:
            continue
    raise zlib.error("broken")


async def _close(response: httpx.Response) -> None:
    """Give the connection back, or cut it if the answer was not read to its end."""
    # What goes wrong here does not change the answer, and the library's exception must not get out.
    with contextlib.suppress(Exception):
        await response.stream.aclose()  # type: ignore[union-attr]


def _hint(exc: Exception, origin: str) -> str:
    """Return what in the environment may be why there was no connection."""
    cause = exc if isinstance(exc, aiohttp.ClientError) else exc.__cause__ or exc
    if not isinstance(cause, (aiohttp.ClientConnectorError, ssl.SSLError, TimeoutError)):
        return ""
    hint = ""
    if isinstance(cause, (aiohttp.ClientConnectorCertificateError, ssl.CertificateError)):
        hint = "; for a CA of your own set SSL_CERT_FILE or SSL_CERT_DIR where the node is started"
    scheme, _, host = origin.partition("://")
    proxies = getproxies_environment()
    if (scheme in proxies or "all" in proxies) and not proxy_bypass(host):
        name = f"{scheme.upper()}_PROXY" if scheme in proxies else "ALL_PROXY"
        hint += f"; {name} is set, but requests never go through a proxy: give a base_url that is reachable without one"
    return hint


def _unreachable(exc: Exception, origin: str) -> LMError:
    """Translate what happened before an answer began. Only harmless words of the exception are kept."""
    # httpx-aiohttp calls most failures a connect timeout; its cause says what it was. Some it lets through.
    cause = exc if isinstance(exc, aiohttp.ClientError) else exc.__cause__ or exc
    if isinstance(cause, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        return _not_sent(f"no TLS connection to {origin}: its certificate or protocol is not acceptable", None, False)
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return _not_sent(f"no connection to {origin}: its name is not known — is base_url right?")
    if isinstance(cause, aiohttp.ClientConnectorError):
        number = cause.os_error.errno
        why = os.strerror(number) if number else type(cause.os_error).__name__
        return _not_sent(f"no connection to {origin}: {why}", type(cause.os_error).__name__)
    if isinstance(cause, TimeoutError):
        return _not_sent(f"no connection to {origin} in time", "connect_timeout")
    if isinstance(cause, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, OSError)):
        return Overloaded(f"{origin} closed the connection without an answer", code="disconnected", retryable=True)
    if isinstance(cause, aiohttp.ClientResponseError):
        return Overloaded(f"{origin} answered with something that is not HTTP — is base_url right?", retryable=True)
    return Overloaded(f"the request to {origin} failed: {type(cause).__name__}", retryable=False)


def _not_sent(message: str, code: str | None = None, retryable: bool = True) -> Overloaded:
    error = Overloaded(message, code=code, retryable=retryable)
    error.was_sent = False
    return error


def _broken(exc: Exception, size: int, origin: str) -> LMError:
    """Translate what happened in the middle of an answer."""
    cause = exc.__cause__ or exc
    return StreamTruncated(
        f"{origin} broke off after {size} bytes of its answer", code=type(cause).__name__, retryable=True
    )
