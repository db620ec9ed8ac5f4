"""Answers that are read as they come."""

from __future__ import annotations

import asyncio
import gc
import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex_actors.errors import ConfigError, LMError, Overloaded, StreamTruncated
from dspex_actors.lm.worker.http import Answer, HttpClient, Target

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    """Return pieces as a chunked body without its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def ask(serve: Any, answer: Any, use: Callable[[Answer], Awaitable[Any]], **options: Any) -> Any:
    async def go() -> Any:
        async with serve(lambda *_: answer) as server:
            client = HttpClient(secure=False, **options)
            try:
                async with client.stream(Target(server.url, {"authorization": "Bearer k"}), b"{}") as reply:
                    return await use(reply)
            finally:
                await client.aclose()

    return asyncio.run(go())


async def pieces(reply: Answer) -> tuple[int, bytes]:
    return reply.status, b"".join([piece async for piece in reply])


class Slow:
    """A server that sends one piece each time it is told to, and says when its client has gone."""

    async def __aenter__(self) -> Slow:
        self.go, self.gone = asyncio.Queue[bytes](), asyncio.Event()
        self.connections = 0
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.target = Target(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}", {})
        self.client = HttpClient(secure=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"{}")
        end = asyncio.ensure_future(reader.read())
        writer.write(HEAD)
        while not end.done():
            more = asyncio.ensure_future(self.go.get())
            await asyncio.wait([more, end], return_when=asyncio.FIRST_COMPLETED)
            if more.done():
                writer.write(more.result())
            more.cancel()
        self.gone.set()
        writer.close()


def test_pieces_are_given_as_they_come() -> None:
    async def go() -> list[bytes]:
        async with Slow() as server, server.client.stream(server.target, b"{}") as reply:
            assert reply.headers["content-type"] == "text/event-stream"
            seen = []
            for word in (b"one", b"two", b"three"):
                server.go.put_nowait(chunked(word))
                seen.append(await asyncio.wait_for(anext(reply), 30))
            server.go.put_nowait(chunked(b""))
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(anext(reply), 30)
            return seen

    assert asyncio.run(go()) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("how", ["leave", "cancel"])
def test_who_stops_reading_cuts_the_connection(how: str) -> None:
    async def go() -> None:
        async with Slow() as server:
            has_read = asyncio.Event()

            async def read() -> None:
                async with server.client.stream(server.target, b"{}") as reply:
                    await anext(reply)
                    has_read.set()
                    if how == "cancel":
                        await anext(reply)

            server.go.put_nowait(chunked(b"one"))
            task = asyncio.ensure_future(read())
            await asyncio.wait_for(has_read.wait(), 30)
            if how == "cancel":
                task.cancel()
            await asyncio.wait([task])
            await asyncio.wait_for(server.gone.wait(), 30)

    asyncio.run(go())


def test_an_answer_read_to_its_end_gives_its_connection_back(serve: Any) -> None:
    async def go() -> int:
        connections: set[Any] = set()

        class Counting(serve):  # type: ignore[misc, valid-type]
            async def _serve(self, reader: Any, writer: Any) -> None:
                connections.add(writer)
                await super()._serve(reader, writer)

        async with Counting(lambda *_: HEAD + chunked(b"x", b"")) as server:
            client = HttpClient(secure=False)
            target = Target(server.url, {})
            for _ in range(3):
                async with client.stream(target, b"{}") as reply:
                    assert await pieces(reply) == (200, b"x")
                assert (await client.post(target, b"{}")).body == b"x"
            await client.aclose()
        return len(connections)

    assert asyncio.run(go()) == 1


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        ((HEAD + chunked(b"hello"), "cut"), StreamTruncated, "broke off after 5 bytes"),
        ("close", Overloaded, "closed the connection without an answer"),
        ((b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "cut"), Overloaded, "not HTTP"),
        (HEAD + chunked(b"x" * 600, b"y" * 600, b""), Overloaded, "more than 1000 bytes"),
    ],
)
def test_a_stream_that_goes_wrong_says_how_without_a_librarys_exception(
    serve: Any, sent: Any, error: type[LMError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        ask(serve, sent, pieces, max_body=1000)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def packed(encoding: str, data: bytes) -> bytes:
    return HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: %b\r\n\r\n" % encoding.encode()) + data


RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(b"hello" * 9) + RAW.flush()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(b"hello" * 9, mtime=0)),
        ("deflate", zlib.compress(b"hello" * 9)),
        ("deflate", RAW_DEFLATE),
    ],
)
def test_a_stream_that_is_packed_unasked_is_unpacked_a_byte_at_a_time(serve: Any, encoding: str, data: bytes) -> None:
    body = chunked(*(data[n : n + 1] for n in range(len(data))), b"")
    assert ask(serve, packed(encoding, body), pieces) == (200, b"hello" * 9)


@pytest.mark.parametrize(
    ("encoding", "data", "error"),
    [
        ("gzip", gzip.compress(b"x" * 100_000, mtime=0), Overloaded),
        ("gzip", gzip.compress(b"hello", mtime=0)[:-9], StreamTruncated),
        ("gzip", b"no gzip", StreamTruncated),
        ("br", b"hello", Overloaded),
    ],
)
def test_a_stream_wrongly_packed_is_refused(serve: Any, encoding: str, data: bytes, error: type[LMError]) -> None:
    with pytest.raises(error) as caught:
        ask(serve, packed(encoding, chunked(data, b"")), pieces, max_body=1000)
    assert caught.value.__context__ is None


def test_a_refusal_is_read_as_a_whole(serve: Any, answer: Any) -> None:
    raw = ask(serve, answer(429, b"slowly", {"retry-after": "3"}), lambda reply: reply.read())
    assert (raw.status, raw.body, raw.headers["retry-after"]) == (429, b"slowly", "3")


def test_informational_answers_are_passed_over(serve: Any, answer: Any) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" + answer(200, b"hello")
    assert ask(serve, early, pieces) == (200, b"hello")


def test_an_answer_that_comes_before_all_is_sent_ends_its_connection() -> None:
    async def go() -> tuple[int, int]:
        connections = 0

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 3\r\n\r\nbig")
            await writer.drain()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1000) as server:
            client = HttpClient(secure=False)
            target = Target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
            for _ in range(2):
                assert (await client.post(target, b"x" * 20_000_000)).status == 413
            await client.aclose()
            return connections, gc.collect()

    assert asyncio.run(go())[0] == 2


def test_headers_that_would_begin_another_request_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="not shown") as caught:
        Target("http://h/v1", {"authorization": "Bearer secret\r\n\r\nGET /"})
    assert "secret" not in str(caught.value)
    assert b"\r\nX:" not in Target("http://h/a\r\nX: y", {}).message(b"")


@pytest.mark.parametrize("url", ["ftp://h/v1", "http://h:0/v1", "h/v1", "http://h:99999/v1", "http:///v1", ""])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected an address of a server"):
        Target(url, {})
