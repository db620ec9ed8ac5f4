"""Hostile addresses: how many are tried, how many refused, and whether anybody was asked who must not be.

Base URLs that mean a cloud's metadata service in some notation, names that mean one when they are looked up, redirects,
and addresses of pictures for a provider that takes none. A canary listens where redirects and rebinding lead; it must
hear nothing.

    python -m benchmarks.hostile_addresses [--quick]
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.common import parser, run, table
from dspex_actors import LM
from dspex_actors.errors import ConfigError, LMError
from dspex_actors.lm.worker.media import Media
from dspex_actors.lm.worker.session import LMSession

HI = [{"role": "user", "content": "hi"}]
BASE_URLS = [
    "http://169.254.169.254/latest",
    "http://169.254.169.254:80/v1",
    "http://169.254.169.254./v1",
    "http://169.254.170.2/v2",
    "http://2852039166",
    "http://0xa9fea9fe/v1",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/v1",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[fd00:ec2::254]/latest",
    "http://[fe80::1]/v1",
    "http://metadata.google.internal/v1",
    "http://METADATA.Google.Internal./v1",
    "http://metadata.goog/",
    "http://instance-data/latest",
    "http://100.100.100.200/latest",
    "http://192.0.0.192/opc",
    "http://168.63.129.16/",
    "http://１６９.２５４.１６９.２５４/",
    "http://169。254。169。254/",
    "http://0x7f.1/v1",
    "http://2130706433/v1",
    "http://0177.0.0.1/v1",
    "http://127.1/v1",
    "http://0/v1",
    "http://ⓛocalhost/v1",
    "http://u:p@169.254.169.254/",
    "http://api.openai.com@169.254.169.254/",
    "http://api.openai.com#@169.254.169.254/",
    "http://api.openai.com\\@169.254.169.254/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "//169.254.169.254/v1",
    "http://h:99999/v1",
]
PICTURES = [
    "http://169.254.169.254/latest",
    "https://metadata.google.internal/",
    "https://2852039166/",
    "https://0x7f.1/a.png",
    "https://[::ffff:169.254.169.254]/",
    "https://[fd00:ec2::254]/",
    "https://localhost/a.png",
    "https://127.0.0.1/a.png",
    "https://10.0.0.1/a.png",
    "https://[::1]/a.png",
    "https://listed.example@127.0.0.1/a.png",
    "https://u:p@listed.example/a.png",
    "https://listed.example:8443/a.png",
    "http://listed.example/a.png",
    "https://listed.example.evil.example/a.png",
    "https://listed.example\\@evil.example/",
    "https://ｌisted.example/a.png",
    "ftp://listed.example/a.png",
    "file:///etc/passwd",
    "//listed.example/a.png",
    "https:///a.png",
    "javascript:alert(1)",
]
PRIVATE = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.0.1", "100.100.100.200", "0.0.0.0"]
REDIRECTS = [301, 302, 303, 307, 308]
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
ANSWERS = {
    "html": b"<html>root:x:0:0</html>",
    "text": b"root:x:0:0",
    "nothing": b"",
    "too much": PNG + b"0" * 2_000_000,
}


@contextlib.asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Give port and requests of a server that has one answer."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


def said(body: bytes, status: int = 200, *more: str) -> bytes:
    """Return an HTTP answer."""
    return "\r\n".join([f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *more, "", ""]).encode() + body


async def refused(ask: Callable[[], Awaitable[Any]]) -> bool:
    """Tell whether somebody is refused in one line."""
    try:
        await ask()
    except (ConfigError, LMError) as error:
        return "\n" not in str(error)
    return False


async def asks(url: str) -> bool:
    """Tell whether a call to a base URL is refused."""

    async def go() -> None:
        session = LMSession(LM("openai/m", base_url=url)._parts.deployment)
        try:
            await session.complete(HI)
        finally:
            await session.aclose()

    return await refused(go)


async def fetches(url: str, *hosts: str) -> bool:
    """Tell whether a picture is refused."""
    image = {"type": "image_url", "image_url": {"url": url}}
    media = Media(hosts, most=1_000_000, seconds=2.0)
    return await refused(lambda: media.inlined("gemini", [{"role": "user", "content": [image]}]))


@contextlib.contextmanager
def meaning(address: str) -> Any:
    """Have every name mean an address."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        loop.getaddrinfo = real  # type: ignore[method-assign]


async def measured() -> list[tuple[str, list[bool], int]]:
    """Try all of them: what, whether each was refused, and how often the canary was asked."""
    async with answering(said(PNG)) as (canary, heard):
        rows: list[tuple[str, list[bool], int]] = []

        def row(what: str, results: list[bool]) -> None:
            rows.append((what, results, len(heard)))
            heard.clear()

        row("base_url, as written", [await asks(url) for url in BASE_URLS])
        results = []
        for address in ("169.254.169.254", "100.100.100.200", "168.63.129.16"):
            with meaning(address):
                results.append(await asks("http://rebinding.example/v1"))
        row("base_url, a name that means a metadata service", results)
        results = []
        for status in REDIRECTS:
            async with answering(said(b"", status, f"location: http://127.0.0.1:{canary}/v1")) as (port, _):
                results.append(await asks(f"http://127.0.0.1:{port}/v1"))
        row("base_url, a redirect", results)
        row("picture, an address that is not listed", [await fetches(url, "listed.example") for url in PICTURES])
        results = []
        for address in PRIVATE:
            with meaning(address):
                url = f"http://listed.example:{canary}"
                results.append(await fetches(f"{url}/a.png", url))
        row("picture, a listed name that means a private address", results)
        results = []
        for status in REDIRECTS:
            async with answering(said(b"", status, f"location: http://127.0.0.1:{canary}/a.png")) as (port, _):
                url = f"http://127.0.0.1:{port}"
                results.append(await fetches(f"{url}/a.png", url, f"http://127.0.0.1:{canary}"))
        row("picture, a redirect", results)
        results = []
        for body in ANSWERS.values():
            async with answering(said(body, 200, "content-type: image/png")) as (port, _):
                url = f"http://127.0.0.1:{port}"
                results.append(await fetches(f"{url}/a.png", url))
        row("picture, an answer that is none", results)
        return rows


def main() -> None:
    """Print the table; fail if one was not refused."""
    parser(__doc__).parse_args()
    rows = asyncio.run(measured())
    shown = [[what, str(len(tried)), str(sum(tried)), str(heard)] for what, tried, heard in rows]
    total = [len(tried) for _, tried, _ in rows]
    shown.append(
        ["all", str(sum(total)), str(sum(sum(tried) for _, tried, _ in rows)), str(sum(row[2] for row in rows))]
    )
    table("Hostile addresses", ["what", "tried", "refused", "canary asked"], shown)
    if not all(all(tried) and not heard for _, tried, heard in rows):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
