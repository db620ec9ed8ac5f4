"""`GET /metrics` on loopback: nothing else is served, to nobody else.

A page in a browser here whose name is made to mean 127.0.0.1 is somebody else: it says its name as `Host`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

HOST = "127.0.0.1"
#: A request is not longer than this, comes within so many seconds, and is one of so many at a time; others are left.
MOST_BYTES, REQUEST_SECONDS, MOST_AT_ONCE = 8192, 5.0, 16
#: A port that is taken is tried again this often, in seconds.
AGAIN_SECONDS = 5.0
#: What this host is called by those who ask on loopback.
_HOSTS = re.compile(rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d*)?", re.IGNORECASE)
_HOST_LINE = re.compile(rb"^Host:[ \t]*(.*?)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


class Endpoint:
    """Serves the page on one port at a time.

    Args:
        page: makes the text.
        log: the actor's.
    """

    def __init__(self, page: Callable[[], Awaitable[bytes]], log: Any) -> None:
        """Serve nothing yet."""
        self._page, self._log = page, log
        self._server: asyncio.Server | None = None
        self._at_once = 0

    async def serve(self, port: int | None) -> None:
        """Serve on another port from now on; returns when it does, which is tried until it can.

        Args:
            port: 0 for any free one; None: serve nothing.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        has_said = False
        while port is not None:
            try:
                self._server = await asyncio.start_server(self._answer, HOST, port, limit=MOST_BYTES)
            except OSError as error:
                if not has_said:
                    self._log.error(
                        f"/metrics is not served: port {port} cannot be had; it is tried again",
                        why=error.strerror or str(error),
                    )
                has_said = True
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            port = self._server.sockets[0].getsockname()[1]
            self._log.info("/metrics is served", url=f"http://{HOST}:{port}/metrics")
            return

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._at_once += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                writer.write(await self._reply(reader))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a stranger that says nothing, or too much
        finally:
            self._at_once -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        if self._at_once > MOST_AT_ONCE:
            return b""
        head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
        if not all(_HOSTS.fullmatch(host) for host in _HOST_LINE.findall(head)):
            return _response("403 Forbidden", b"asked under another name than localhost\n")
        path = rest.split(b" ")[0].split(b"?")[0]
        if path != b"/metrics":
            return _response("404 Not Found", b"only /metrics is here\n")
        if method != b"GET":
            return _response("405 Method Not Allowed", b"only GET is known\n", "Allow: GET\r\n")
        return _response("200 OK", await self._page())


def _response(status: str, body: bytes, more: str = "") -> bytes:
    kind = "text/plain; version=0.0.4; charset=utf-8"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body
