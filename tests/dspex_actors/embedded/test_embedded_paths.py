"""The addresses at which the providers' SDKs ask, with their settings and through gateways."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from embedded_http import EIGHT_SECONDS, body_of, text_in

from dspex_actors.embedded import EmbeddedConfig, start_server
from dspex_actors.embedded.paths import Route, family, route

SERVED = [
    ("/v1/chat/completions", Route("openai")),
    ("/chat/completions", Route("openai")),
    ("/api/v1/chat/completions", Route("openai")),
    ("/openai/v1/chat/completions", Route("openai")),
    ("/v1beta/openai/chat/completions", Route("openai")),
    ("/compatibility/v1/chat/completions", Route("openai")),
    ("/openai/deployments/my-gpt/chat/completions", Route("openai", "my-gpt")),
    ("/v1/messages", Route("anthropic")),
    ("/anthropic/v1/messages", Route("anthropic")),
    ("/v2/chat", Route("cohere")),
    ("/v1beta/models/m:generateContent", Route("gemini", "m")),
    ("/v1/models/m:generateContent", Route("gemini", "m")),
    ("/v1/models/m:streamGenerateContent", Route("gemini", "m", stream=True)),
    ("/v1alpha/models/gemini-2.5-flash:generateContent", Route("gemini", "gemini-2.5-flash")),
    ("/v1beta/tunedModels/mine:generateContent", Route("gemini", "mine")),
    ("/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent", Route("gemini", "m")),
]


@pytest.mark.parametrize(("path", "expected"), SERVED)
def test_where_a_call_is_served(path: str, expected: Route) -> None:
    assert route(path) == expected


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/v1/models", "openai"),
        ("/v1/messages/batches", "anthropic"),
        ("/v2/embed", "cohere"),
        ("/v1beta/models", "gemini"),
        ("/v1/models/m:embedContent", "gemini"),
        ("/", "openai"),
        ("/v1/v1/chat/completions", "openai"),
        ("/v1/chat/completions/chat/completions", "openai"),
        ("/whatever/chat/completions", "openai"),
        ("/v1/messages/v1/messages", "anthropic"),
        ("/v2/v2/chat", "cohere"),
        ("/v1/chat/completionsx", "openai"),
        ("", "openai"),
    ],
)
def test_what_is_not_served_is_refused_in_the_words_of_whose_it_is(path: str, whose: str) -> None:
    assert route(path) is None
    assert family(path) == whose


def test_each_is_answered() -> None:
    async def go() -> None:
        server = await start_server(EmbeddedConfig(answer="yes", require_key="k"))
        keys = {"authorization": "Bearer k", "x-goog-api-key": "k", "anthropic-version": "2023-06-01"}
        try:
            async with aiohttp.ClientSession(timeout=EIGHT_SECONDS) as session:
                for path, found in SERVED:
                    body = body_of(found.wire)
                    headers = keys
                    if found == Route("openai", "my-gpt"):  # as Azure's SDK does it
                        body.pop("model")
                        headers = {"api-key": "k"}
                    async with session.post(f"{server.url}{path}?api-version=1", json=body, headers=headers) as answer:
                        if found.stream:
                            (part,) = await answer.json()  # one array, where no events are asked for
                            assert part["candidates"][0]["content"]["parts"][0]["text"] == "yes"
                            continue
                        data = await answer.json()
                        assert answer.status == 200, (path, data)
                        assert text_in(found.wire, data) == "yes"
                        if found.model and found.wire == "openai":
                            assert data["model"] == "my-gpt"
        finally:
            await server.close()

    asyncio.run(go())


def test_a_wrong_base_url_is_told_which_is_right() -> None:
    async def go() -> None:
        server = await start_server(EmbeddedConfig())
        try:
            async with (
                aiohttp.ClientSession(timeout=EIGHT_SECONDS) as session,
                session.post(f"{server.url}/v1/v1/chat/completions", json={}) as answer,
            ):
                told = await answer.json()
                assert answer.status == 404
            message = told["error"]["message"]
            assert message.startswith("Unknown request URL: POST /v1/v1/chat/completions; base_url is")
            assert f"{server.url}/v1 for openai" in message
            assert "\n" not in message
        finally:
            await server.close()

    asyncio.run(go())
