"""The four wire formats against a real server: answers, usage, refusals, keys, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from embedded_http import PROVIDERS, Ask, body_of, serve, text_in
from embedded_prompts import chat

from dspex_actors.embedded import RunningServer, layout


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_format_answers_like_the_nearest_example(provider: str) -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        status, headers, body = await ask(provider)
        assert status == 200
        assert headers["content-type"].startswith("application/json")
        assert layout.outputs(text_in(provider, body)) == {"team": "bugs"}
        assert server.stats.answered == 1

    serve(check)


def test_usage_stands_where_each_provider_puts_it_and_counts_the_same() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        used = []
        for provider in PROVIDERS:
            _, _, body = await ask(provider)
            match provider:
                case "openai":
                    usage = body["usage"]
                    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
                    used.append((usage["prompt_tokens"], usage["completion_tokens"]))
                case "anthropic":
                    used.append((body["usage"]["input_tokens"], body["usage"]["output_tokens"]))
                case "gemini":
                    usage = body["usageMetadata"]
                    used.append((usage["promptTokenCount"], usage["candidatesTokenCount"]))
                case _:
                    units = body["usage"]["billed_units"]
                    used.append((units["input_tokens"], units["output_tokens"]))
        assert len(set(used)) == 1
        assert used[0][0] > 300
        assert server.stats.input_tokens == 4 * used[0][0]
        assert server.stats.output_tokens == 4 * used[0][1]

    serve(check)


def test_an_answer_is_cut_at_max_tokens_and_at_stop_texts() -> None:
    cut = {
        "openai": "max_tokens",
        "anthropic": "max_tokens",
        "gemini": "maxOutputTokens",
        "cohere": "max_tokens",
    }
    stop = {"openai": "stop", "gemini": "stopSequences"}
    where: dict[str, Callable[[Any], Any]] = {
        "openai": lambda body: body["choices"][0]["finish_reason"],
        "anthropic": lambda body: body["stop_reason"],
        "gemini": lambda body: body["candidates"][0]["finishReason"],
        "cohere": lambda body: body["finish_reason"],
    }
    named = {
        "openai": ("stop", "length", "stop"),
        "anthropic": ("end_turn", "max_tokens", "stop_sequence"),
        "gemini": ("STOP", "MAX_TOKENS", "STOP"),
        "cohere": ("COMPLETE", "MAX_TOKENS", "STOP_SEQUENCE"),
    }

    async def check(server: RunningServer, ask: Ask) -> None:
        for provider in PROVIDERS:
            stops = {stop.get(provider, "stop_sequences"): ["bugs"]}
            replies = [
                (await ask(provider))[2],
                (await ask(provider, body_of(provider, **{cut[provider]: 3})))[2],
                (await ask(provider, body_of(provider, **stops)))[2],
            ]
            assert tuple(where[provider](body) for body in replies) == named[provider]
            assert "bugs" not in text_in(provider, replies[2])

    serve(check)


def test_several_choices_are_several_guesses() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        _, _, body = await ask("openai", body_of("openai", chat("App crashes", []), n=8))
        assert len({choice["message"]["content"] for choice in body["choices"]}) > 1
        _, _, body = await ask("gemini", body_of("gemini", candidateCount=2))
        assert [one["index"] for one in body["candidates"]] == [0, 1]

    serve(check)


def test_a_wrong_request_is_refused_in_the_providers_shape() -> None:
    shapes: dict[str, Callable[[Any], bool]] = {
        "openai": lambda body: body["error"]["type"] == "invalid_request_error",
        "anthropic": lambda body: body["type"] == "error" and body["error"]["type"] == "invalid_request_error",
        "gemini": lambda body: body["error"]["status"] == "INVALID_ARGUMENT" and body["error"]["code"] == 400,
        "cohere": lambda body: isinstance(body["message"], str),
    }
    turn = [{"role": "user", "content": "hi"}]

    async def check(server: RunningServer, ask: Ask) -> None:
        wrong: list[tuple[str, Any, dict[str, str] | None]] = [
            *((provider, {}, None) for provider in PROVIDERS),
            *((provider, [1], None) for provider in PROVIDERS),
            ("openai", {"model": "m"}, None),
            ("openai", {"messages": turn}, None),
            ("openai", {"model": "m", "messages": [{"role": "model", "content": "x"}]}, None),
            ("openai", {"model": "m", "messages": [{"role": "user", "content": 5}]}, None),
            ("openai", {"model": "m", "messages": turn, "stream": "yes"}, None),
            ("openai", {"model": "m", "messages": turn, "temperature": "hot"}, None),
            ("anthropic", {"model": "m", "messages": turn}, None),
            ("anthropic", body_of("anthropic"), {}),
            ("anthropic", body_of("anthropic", stream=1), None),
            ("anthropic", body_of("anthropic", temperature=0), {"anthropic-version": "2026-10-21"}),
            ("gemini", {"contents": [{"role": "assistant", "parts": []}]}, None),
            ("cohere", {"model": "m", "messages": turn, "stream": "yes"}, None),
        ]
        for provider, body, headers in wrong:
            status, _, reply = await ask(provider, body, headers)
            assert status == 400, (provider, body)
            assert shapes[provider](reply), (provider, reply)
        assert server.stats.refused == len(wrong)

    serve(check)


def test_only_the_expected_key_is_let_in_where_each_provider_carries_it() -> None:
    carried = {
        "openai": {"Authorization": "Bearer right"},
        "anthropic": {"x-api-key": "right"},
        "gemini": {"x-goog-api-key": "right"},
        "cohere": {"Authorization": "Bearer right"},
    }

    async def check(server: RunningServer, ask: Ask) -> None:
        for provider, headers in carried.items():
            version = {"anthropic-version": "2023-06-01"}
            assert (await ask(provider, None, {**headers, **version}))[0] == 200
            wrong = {name: value.replace("right", "wrong") for name, value in headers.items()}
            for refused in (wrong, {}):
                status, _, body = await ask(provider, None, {**refused, **version})
                assert status == 401
                assert "right" not in str(body)

    serve(check, require_key="right")


def test_over_the_limit_each_provider_says_429_and_how_long_to_wait() -> None:
    async def check(server: RunningServer, ask: Ask) -> None:
        assert (await ask("openai"))[0] == 200
        seen = {provider: await ask(provider) for provider in PROVIDERS}
        assert {status for status, _, _ in seen.values()} == {429}
        headers = seen["openai"][1]
        assert headers["x-ratelimit-limit-requests"] == "1"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"].endswith("s")
        assert 50 < int(headers["retry-after"]) <= 60
        assert seen["openai"][2]["error"]["code"] == "rate_limit_exceeded"
        assert seen["anthropic"][1]["anthropic-ratelimit-requests-reset"].endswith("Z")
        assert seen["anthropic"][2]["error"]["type"] == "rate_limit_error"
        assert "retry-after" not in seen["gemini"][1]
        details = seen["gemini"][2]["error"]["details"]
        assert 50 < float(details[1]["retryDelay"].rstrip("s")) <= 60
        assert seen["cohere"][1]["retry-after"]
        assert server.stats.rate_limited == 4

    serve(check, rpm=1)
