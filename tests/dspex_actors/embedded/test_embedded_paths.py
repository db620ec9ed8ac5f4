"""The addresses at which the providers' SDKs ask, with their settings and through gateways."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from embedded_http import EIGHT_SECONDS, body_of, text_in

from dspex_actors.embedded import EmbeddedConfig, start_server
from dspex_actors.embedded.paths import Route, family, route, streams

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
    ("/v1alpha/models/gemini-2.5-flash:generateContent", Route("gemini", "gemini-2.5-flash")),
    ("/v1beta/tunedModels/mine:generateContent", Route("gemini", "mine")),
    ("/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent", Route("gemini", "m")),
]


@pytest.mark.parametrize(("path", "expected"), SERVED)
def test_where_a_call_is_served(path: str, expected: Route) -> None:
    assert route(path) == expected
    assert not streams(path)


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/v1/models", "openai"),
        ("/v1/responses", "openai"),
        ("/v1/messages/batches", "anthropic"),
        ("/v2/embed", "cohere"),
        ("/v1beta/models", "gemini"),
        ("/v1/models/m:embedContent", "gemini"),
        ("/v1/models/m:streamGenerateContent", "gemini"),
        ("/", "openai"),
        ("", "openai"),
    ],
)
def test_what_is_not_served_is_refused_in_the_words_of_whose_it_is(path: str, whose: str) -> None:
    assert route(path) is None
    assert family(path) == whose
    assert streams(path) is ("stream" in path)


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
                        data = await answer.json()
                        assert answer.status == 200, (path, data)
                        assert text_in(found.wire, data) == "yes"
                        if found.model and found.wire == "openai":
                            assert data["model"] == "my-gpt"
        finally:
            await server.close()

    asyncio.run(go())
