"""One deployment, one session, two wire formats."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dspex_actors.embedded import EmbeddedConfig, start_server
from dspex_actors.errors import InvalidRequest
from dspex_actors.lm.content import Message, ToolCall, ToolResult
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.worker.session import LMSession


async def ask(session: LMSession, lm: LM, said: Any, **given: Any) -> LMReply:
    request = lm._prepare(said, None, given)
    return await session.complete(
        request.messages, request.params, options=request.lm.options, model_type=request.lm.model_type
    )


def test_chats_and_responses_are_asked_over_the_same_session(serve: Any, answer: Any, chat: Any) -> None:
    asked: list[tuple[str, Any]] = []

    def reply(number: int, head: str, body: bytes) -> bytes:
        path, data = head.split()[1], json.loads(body)
        asked.append((path, data))
        if path != "/v1/responses":
            return bytes(answer(200, chat("as a chat")))
        call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
        return bytes(answer(200, {"object": "response", "status": "completed", "output": [call]}))

    async def main() -> None:
        async with serve(reply) as server:
            lm = LM("openai/gpt-5.2", base_url=f"{server.url}/v1")
            twin = lm.copy(model_type="responses")
            session = LMSession(lm._parts.deployment)
            assert twin.deployment == lm.deployment
            assert (await ask(session, lm, "?")).text == "as a chat"
            first = await ask(session, twin, "?")
            assert first.tool_calls == (ToolCall("add", {"a": 1}, "c1"),)
            assert first.finish_reason == "tool_calls"
            said = [Message("user", "?"), first.message, ToolResult(first.tool_calls[0], "2")]
            await ask(session, lm, said, model_type="responses")
            assert (await ask(session, lm, said)).text == "as a chat"
            await session.aclose()

    asyncio.run(main())
    assert [path for path, _ in asked] == [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/responses",
        "/v1/chat/completions",
    ]
    assert [item["type"] for item in asked[2][1]["input"]] == ["message", "function_call", "function_call_output"]
    assert [message["role"] for message in asked[3][1]["messages"]] == ["user", "assistant", "tool"]
    assert all("model_type" not in data for _, data in asked)


def test_the_embedded_server_answers_in_both_formats() -> None:
    async def main() -> None:
        server = await start_server(EmbeddedConfig(answer="Hello to all of you.", rpm=600))
        lm = LM("openai/m", base_url=server.base_urls["openai"])
        session = LMSession(lm._parts.deployment)
        try:
            plain = await ask(session, lm, "Say hello.")
            other = await ask(session, lm, "Say hello.", model_type="responses")
            assert plain.text == other.text == "Hello to all of you."
            assert plain.usage == other.usage
            assert (other.finish_reason, plain.model) == ("stop", other.model)
            cut = await ask(session, lm, "Say hello.", model_type="responses", max_tokens=2)
            assert (cut.finish_reason, cut.usage.output_total) == ("length", 2)
            with pytest.raises(InvalidRequest, match="responses are not kept here"):
                await ask(session, lm, "?", model_type="responses", previous_response_id="resp_1")
        finally:
            await session.aclose()
            await server.close()

    asyncio.run(main())
