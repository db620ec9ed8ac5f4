"""A real server to ask, and the four providers' requests to ask it with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from embedded_prompts import TRAIN, chat

from dspex_actors.embedded import EmbeddedConfig, RunningServer, start_server

Ask = Callable[..., Awaitable[tuple[int, dict[str, str], Any]]]
PROVIDERS = ("openai", "anthropic", "gemini", "cohere")
MESSAGES = chat("App crashes", TRAIN)
EIGHT_SECONDS = aiohttp.ClientTimeout(total=8)


def body_of(provider: str, messages: list[tuple[str, str]] = MESSAGES, **extra: Any) -> dict[str, Any]:
    plain = [{"role": role, "content": text} for role, text in messages]
    if provider == "anthropic":
        system = [one["content"] for one in plain if one["role"] == "system"]
        return {
            "model": "m",
            "max_tokens": 100,
            "system": "\n".join(system),
            "messages": [one for one in plain if one["role"] != "system"],
            **extra,
        }
    if provider == "gemini":
        roles = {"assistant": "model", "user": "user"}
        return {
            "systemInstruction": {"parts": [{"text": t} for r, t in messages if r == "system"]},
            "contents": [{"role": roles[r], "parts": [{"text": t}]} for r, t in messages if r != "system"],
            "generationConfig": extra,
        }
    return {"model": "m", "messages": plain, **extra}


def path_of(provider: str) -> str:
    return {
        "openai": "/chat/completions",
        "anthropic": "/v1/messages",
        "gemini": "/v1beta/models/some-model:generateContent",
        "cohere": "/v2/chat",
    }[provider]


def text_in(provider: str, body: dict[str, Any]) -> str:
    match provider:
        case "openai":
            return str(body["choices"][0]["message"]["content"])
        case "anthropic":
            return str(body["content"][0]["text"])
        case "gemini":
            return str(body["candidates"][0]["content"]["parts"][0]["text"])
    return str(body["message"]["content"][0]["text"])


def serve(check: Callable[[RunningServer, Ask], Awaitable[None]], **settings: Any) -> None:
    """Run `check` against a server of these settings, and close it."""

    async def main() -> None:
        server = await start_server(EmbeddedConfig(**settings))
        try:
            async with aiohttp.ClientSession(timeout=EIGHT_SECONDS) as session:

                async def ask(
                    provider: str, body: Any = None, headers: dict[str, str] | None = None
                ) -> tuple[int, dict[str, str], Any]:
                    url = server.base_urls[provider] + path_of(provider)
                    sent = {"anthropic-version": "2023-06-01"} if headers is None else headers
                    data = body_of(provider) if body is None else body
                    async with session.post(url, json=data, headers=sent) as response:
                        found = {name.lower(): value for name, value in response.headers.items()}
                        return response.status, found, await response.json()

                await check(server, ask)
        finally:
            await server.close()
        assert server.stats.in_flight == 0

    asyncio.run(main())


async def in_flight(server: RunningServer, wanted: int) -> None:
    """Ask the server until so many requests are in flight."""
    async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(30):
        found = -1
        while found != wanted:
            async with session.get("/stats") as response:
                found = (await response.json())["in_flight"]
