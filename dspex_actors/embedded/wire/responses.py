"""OpenAI's ``POST /v1/responses``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.embedded.wire.base import Answer, Call, RequestError, flag, model_of, number, text_of, whole
from dspex_actors.embedded.wire.openai import ROLES, OpenAI


class Responses(OpenAI):
    """The format of the Responses API; errors and headers are those of the chat completions."""

    name = "openai-responses"

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read a request for a response; nothing that was kept of an earlier one can be referred to."""
        if body.get("previous_response_id") is not None or body.get("conversation") is not None:
            raise RequestError(
                "previous_response_id: responses are not kept here; send the whole conversation as input",
                "previous_response_id",
            )
        messages, attachments = _messages(body)
        text = body.get("text")
        form = text.get("format") if isinstance(text, dict) else None
        form = form if isinstance(form, dict) else {}
        return Call(
            model=model_of(body),
            messages=messages,
            attachments=attachments,
            max_tokens=whole(body, "max_output_tokens", 1),
            temperature=number(body, "temperature", 0, 2) or 0.0,
            json=form.get("type") in ("json_object", "json_schema"),
            schema=form.get("schema"),
            stream=flag(body, "stream"),
        )

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return a response."""
        is_cut = answer.finishes[0] == "length"
        status = "incomplete" if is_cut else "completed"
        part = {"type": "output_text", "text": answer.texts[0], "annotations": [], "logprobs": []}
        message = {
            "type": "message",
            "id": f"msg_{request_id}",
            "status": status,
            "role": "assistant",
            "content": [part],
        }
        return {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": int(now),
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": None,
            "metadata": {},
            "model": call.model,
            "output": [message],
            "parallel_tool_calls": True,
            "temperature": call.temperature,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "max_output_tokens": call.max_tokens,
            "previous_response_id": None,
            "service_tier": "default",
            "store": False,
            "usage": {
                "input_tokens": answer.input_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": answer.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": answer.input_tokens + answer.output_tokens,
            },
        }


def _messages(body: dict[str, Any]) -> tuple[list[tuple[str, str]], int]:
    """Return what the input items say as (role, text) pairs, and how many parts of them were no text."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise RequestError("input: expected a text or a list of at least one item", "input")
    read: list[tuple[str, str]] = []
    attachments = 0
    instructions = body.get("instructions")
    if instructions is not None:
        if not isinstance(instructions, str):
            raise RequestError("instructions: expected a string", "instructions")
        read.append(("system", instructions))
    for at, item in enumerate(items):
        where = f"input[{at}]"
        if not isinstance(item, dict):
            raise RequestError(f"{where}: expected an item that is an object, got {type(item).__name__}", where)
        kind = item.get("type", "message")
        if kind == "message":
            role = item.get("role")
            if not isinstance(role, str) or role not in ROLES or role == "tool":
                raise RequestError(f"{where}.role: expected system, developer, user or assistant; got {role!r}", where)
            said = ROLES[role], item.get("content")
        elif kind == "function_call_output":
            said = "user", item.get("output")
        elif isinstance(kind, str):
            continue  # calls and thoughts of an assistant: nothing to learn from
        else:
            raise RequestError(f"{where}.type: expected a string, got {kind!r}", where)
        text, others = text_of(said[1], f"{where}.content")
        attachments += others
        read.append((said[0], text))
    if not any(role == "user" for role, _ in read):
        raise RequestError("input: expected at least one message of the user", "input")
    return read, attachments
