from __future__ import annotations

import asyncio
import gzip
import pickle
import zlib
from typing import Any

import pytest

from dspex_actors.errors import LMError, Overloaded, StreamTruncated
from dspex_actors.lm.wire.exchange import RawReply
from dspex_actors.lm.worker.http import HttpClient, Target


async def _post(serve: Any, answer: Any, **options: Any) -> tuple[RawReply, Any]:
    async with serve(lambda *_: answer) as server:
        client = HttpClient(**options)
        try:
            return await client.post(
                Target(server.url + "/v1/x", {"authorization": "Bearer k", "x-a": "b"}), b"{}"
            ), server
        finally:
            await client.aclose()


def post(serve: Any, answer: Any, **options: Any) -> tuple[RawReply, Any]:
    return asyncio.run(_post(serve, answer, **options))


def test_a_request_goes_out_and_its_answer_comes_back(serve: Any, answer: Any) -> None:
    raw, server = post(serve, answer(201, b"hello", {"X-Request-Id": "r1"}))
    assert (raw.status, raw.body, raw.headers["x-request-id"]) == (201, b"hello", "r1")
    head = server.heads[0].lower()
    assert head.startswith("post /v1/x http/1.1")
    assert "authorization: bearer k" in head
    assert server.bodies == [b"{}"]


def test_redirects_are_not_followed(serve: Any, answer: Any) -> None:
    raw, server = post(serve, answer(307, b"", {"location": "http://127.0.0.1:9/"}))
    assert raw.status == 307
    assert len(server.heads) == 1


def test_the_environment_does_not_choose_a_proxy(serve: Any, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(serve, answer(200, b"x"))[0].status == 200


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_an_answer_that_is_packed_unasked_is_unpacked(serve: Any, answer: Any, encoding: str, pack: Any) -> None:
    raw, _ = post(serve, answer(200, pack(b"x" * 5000), {"content-encoding": encoding}))
    assert raw.body == b"x" * 5000


CUT = b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"choices":'
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize(
    ("data", "error", "words", "retryable"),
    [
        ((CUT, "cut"), StreamTruncated, "broke off after", True),
        ((CHUNKED, "cut"), StreamTruncated, "broke off after", True),
        ("close", Overloaded, "closed the connection without an answer", True),
        ((b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "cut"), Overloaded, "not HTTP", True),
    ],
)
def test_broken_answers(serve: Any, data: Any, error: type[LMError], words: str, retryable: bool) -> None:
    with pytest.raises(error, match=words) as caught:
        post(serve, data)
    assert caught.value.retryable is retryable
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (b"x" * 2000, {}, Overloaded),
        (gzip.compress(b"x" * 100_000, mtime=0), {"content-encoding": "gzip"}, Overloaded),
        (gzip.compress(b"x" * 500, mtime=0)[:-9], {"content-encoding": "gzip"}, StreamTruncated),
        (b"not gzip", {"content-encoding": "gzip"}, StreamTruncated),
        (b"x", {"content-encoding": "br"}, Overloaded),
    ],
)
def test_an_answer_too_large_or_wrongly_packed_is_refused(
    serve: Any, answer: Any, body: bytes, headers: dict[str, str], error: type[LMError]
) -> None:
    with pytest.raises(error) as caught:
        post(serve, answer(200, body, headers), max_body=1000)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-gzip"])
def test_an_empty_answer_needs_no_unpacking(serve: Any, answer: Any, encoding: str) -> None:
    raw, _ = post(serve, answer(429, b"", {"content-encoding": encoding, "retry-after": "3"}))
    assert (raw.status, raw.body, raw.headers["retry-after"]) == (429, b"", "3")


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"x" * 500, mtime=0)[:3]])
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_refusal_that_cannot_be_unpacked_is_still_that_refusal(
    serve: Any, answer: Any, body: bytes, encoding: str
) -> None:
    raw, _ = post(serve, answer(503, body, {"content-encoding": encoding}))
    assert (raw.status, raw.body) == (503, b"")


def test_deflate_without_its_header_is_unpacked_and_so_is_x_gzip(serve: Any, answer: Any) -> None:
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(b"x" * 5000) + packer.flush()
    assert post(serve, answer(200, body, {"content-encoding": "deflate"}))[0].body == b"x" * 5000
    assert post(serve, answer(200, gzip.compress(b"y"), {"content-encoding": "x-gzip"}))[0].body == b"y"


def test_a_port_where_nobody_listens_is_overloaded_and_names_the_server() -> None:
    async def go() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        client = HttpClient()
        try:
            with pytest.raises(Overloaded, match=f"no connection to http://127.0.0.1:{port}: .*refused") as caught:
                await client.post(Target(f"http://127.0.0.1:{port}/v1", {}), b"")
            assert caught.value.retryable is True
        finally:
            await client.aclose()

    asyncio.run(go())


def test_after_it_is_closed_a_client_fails_clearly(serve: Any, answer: Any) -> None:
    async def go() -> None:
        async with serve(lambda *_: answer(200, b"x")) as server:
            client = HttpClient()
            target = Target(server.url, {})
            await client.post(target, b"")
            await client.aclose()
            with pytest.raises(LMError, match="failed"):
                await client.post(target, b"")

    asyncio.run(go())


def test_hundreds_of_requests_are_in_flight_at_once(serve: Any, answer: Any) -> None:
    async def go() -> int:
        everybody = asyncio.Event()

        class Barrier(serve):  # type: ignore[misc, valid-type]
            async def _serve(self, reader: Any, writer: Any) -> None:
                await reader.readuntil(b"\r\n\r\n")
                self.in_flight += 1
                if self.in_flight == 400:
                    everybody.set()
                await everybody.wait()
                writer.write(answer(200, b"x"))
                await writer.drain()
                writer.close()

        async with Barrier(lambda *_: None) as server:
            client = HttpClient()
            replies = await asyncio.gather(*(client.post(Target(server.url, {}), b"") for _ in range(400)))
            await client.aclose()
            return len(replies)

    assert asyncio.run(go()) == 400


def test_a_target_shows_and_gives_away_nothing() -> None:
    target = Target("https://host:8443/v1/x", {"authorization": "Bearer secret-value"})
    assert repr(target) == "<Target https://host:8443>"
    with pytest.raises(TypeError):
        pickle.dumps(target)
