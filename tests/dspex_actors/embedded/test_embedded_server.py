"""The server over real connections: faults, its own pages, its end."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from embedded_http import PROVIDERS, Ask, body_of, in_flight, path_of, serve, text_in
from embedded_prompts import chat

from dspex_actors.embedded import EmbeddedConfig, RunningServer, start_server


def test_tokens_asked_for_count_until_the_answer_is_known() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        # The first leaves little behind although it reserved all; the second's reservation is too much.
        assert (await ask("openai", body_of("openai", chat("a", []), max_tokens=9000)))[0] == 200
        status, headers, body = await ask("openai", body_of("openai", max_tokens=20_000))
        assert status == 429
        assert body["error"]["type"] == "tokens"
        assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 10_000

    serve(check, tpm=10_000, burst_seconds=60)


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("rate_limit", (429, 429, 429, 429)),
        ("server_error", (500, 500, 500, 500)),
        ("overloaded", (503, 529, 503, 503)),
    ],
)
def test_a_fault_with_a_status_has_the_providers_own(kind: str, statuses: tuple[int, ...]) -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        assert tuple([(await ask(provider))[0] for provider in PROVIDERS]) == statuses
        assert server.stats.faults == {kind: 4}
        assert server.stats.answered == 0

    serve(check, faults={kind: 1.0})


def test_html_and_garbage_are_no_json() -> None:
    async def check_html(server: RunningServer, ask: Ask) -> None:
        with pytest.raises(aiohttp.ContentTypeError) as error:
            await ask("openai")
        assert error.value.status == 502

    async def check_garbage(server: RunningServer, ask: Ask) -> None:
        with pytest.raises(ValueError, match=r"JSON|decode|Expecting"):
            await ask("openai")

    serve(check_html, faults={"html": 1.0})
    serve(check_garbage, faults={"garbage": 1.0})


def test_a_truncated_body_is_shorter_than_it_said() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask("openai")

    serve(check, faults={"truncated": 1.0})


def test_a_reset_is_a_reset() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 30)
        writer.close()

    serve(check, faults={"reset": 1.0})


def test_a_hang_lasts_until_the_client_goes_away() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        hung = asyncio.create_task(ask("openai"))
        await in_flight(server, 1)
        assert not hung.done()
        hung.cancel()
        await in_flight(server, 0)
        assert server.stats.faults == {"hang": 1}

    serve(check, faults={"hang": 1.0})


def test_closing_ends_what_hangs() -> None:
    async def main() -> None:
        server = await start_server(EmbeddedConfig(faults={"hang": 1.0}))
        async with aiohttp.ClientSession() as session:
            url = server.base_urls["cohere"] + path_of("cohere")
            hung = asyncio.create_task(session.post(url, json=body_of("cohere")))
            await in_flight(server, 1)
            async with asyncio.timeout(30):
                await server.close()
                with pytest.raises(aiohttp.ClientError):
                    await hung
        await server.close()

    asyncio.run(main())


def test_waiting_requests_are_served_at_once_and_counted() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        replies = await asyncio.gather(*(ask("openai") for _ in range(20)))
        assert {status for status, _, _ in replies} == {200}
        assert server.stats.max_in_flight >= 10

    serve(check, latency_ms=100)


def test_a_fixed_answer_is_given_as_it_is() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        assert text_in("gemini", (await ask("gemini"))[2]) == "fixed"

    serve(check, answer="fixed")


def test_health_statistics_models_and_unknown_paths() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        await ask("openai")
        async with aiohttp.ClientSession(server.url) as session:

            async def get(path: str) -> tuple[int, Any]:
                async with session.get(path) as response:
                    return response.status, await response.json()

            assert await get("/healthz") == (200, {"status": "ok"})
            status, stats = await get("/stats")
            assert (status, stats["requests"], stats["answered"]) == (200, 1, 1)
            assert (await get("/v1/models"))[1]["data"][0]["id"] == "nearest"
            status, body = await get("/v1/nothing")
            assert status == 404
            assert "/v1/nothing" in body["error"]["message"]
            assert (await get("/v1beta/nothing"))[1]["error"]["status"] == "NOT_FOUND"
            assert (await get("/v1/messages"))[1]["error"]["type"] == "not_found_error"
            assert "message" in (await get("/v2/nothing"))[1]
            async with session.post("/v1beta/models/m:streamGenerateContent", json={}) as response:
                assert response.status == 400
                assert "contents" in (await response.json())["error"]["message"]

    serve(check)
