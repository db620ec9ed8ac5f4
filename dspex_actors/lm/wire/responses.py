"""OpenAI's Responses API: the fifth wire format, of the same provider as the chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dspex_actors.errors import ContentBlocked, Overloaded
from dspex_actors.lm import rules
from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.parts import Part, Text
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import count, entries, standard, table, word
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import excerpt
from dspex_actors.lm.wire.openai import OpenAI
from dspex_actors.lm.wire.responses_items import choice_told, format_told, instructions_of, items_of, tools_told
from dspex_actors.lm.wire.responses_stream import ResponsesDecoder
from dspex_actors.lm.wire.said import call, logprobs_in, other, said, thoughts

#: How a parameter of the chat is called here, and in which object it stands.
_PLACES = {
    "max_tokens": ("max_output_tokens",),
    "max_completion_tokens": ("max_output_tokens",),
    "reasoning_effort": ("reasoning", "effort"),
    "verbosity": ("text", "verbosity"),
}
#: What is asked for beside the reply, where it can be had.
_ENCRYPTED, _LIKELY = "reasoning.encrypted_content", "message.output_text.logprobs"
#: Codes of a reply that failed, after which asking again may help.
_PASSING = {"server_error": 500, "rate_limit_exceeded": 429, "vector_store_timeout": 504}


class Responses(OpenAI):
    """`POST {base}/responses`; base_url ends in /v1.

    Nothing is kept at OpenAI: the whole conversation is sent, `store` is false unless the user says otherwise, and
    what a model has thought comes and goes encrypted.
    """

    table: ClassVar[str] = "responses"
    knows_media = False

    def path(self, model: str) -> str:
        """Return the responses' path."""
        return "/responses"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Translate messages into items, and parameters into this API's words; its own words stand."""
        instructions, rest = instructions_of(messages)
        payload: dict[str, Any] = {"model": model, "input": items_of(rest), "store": False}
        if instructions:
            payload["instructions"] = instructions
        include = [_ENCRYPTED] if rules.is_openai_reasoning(model) else []
        for name, value in params.items():
            if name in _PLACES:
                _put(payload, _PLACES[name], value)
            elif name == "response_format":
                _put(payload, ("text", "format"), format_told(value))
            elif name == "tools":
                payload["tools"] = tools_told(value)
            elif name == "tool_choice":
                payload["tool_choice"] = choice_told(value)
            elif name == "logprobs":
                include += [_LIKELY] if value else []
            elif name == "top_logprobs":
                if value:
                    payload["top_logprobs"] = value
            elif name == "include":
                include += [each for each in value if each not in include]
            elif isinstance(value, dict) and isinstance(there := payload.get(name), dict):
                payload[name] = {**there, **value}
            else:
                payload[name] = value
        if include:
            payload["include"] = include
        return payload

    def streamed(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Usage comes with the stream's end without being asked for."""
        return {**payload, "stream": True}

    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Return the reader of a stream."""
        return ResponsesDecoder(self, status, headers)

    def error_in(self, data: Any) -> Any:
        """Return what failed after the request was taken; its `code` is the kind."""
        error = data.get("error") if isinstance(data, dict) else None
        if not isinstance(error, dict) or data.get("object") != "response":
            return data if error or (isinstance(data, dict) and data.get("type") == "error") else None
        code = word(error.get("code")) or "server_error"
        kind = {429: "rate_limit_error", 500: "server_error", 504: "server_error"}
        return {"error": {**error, "type": kind.get(_PASSING.get(code, 400), "invalid_request_error"), "code": code}}

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a response."""
        items = data["output"]
        if not isinstance(items, list):
            raise TypeError("output")
        status = word(data.get("status")) or "completed"
        why = word(table(data.get("incomplete_details")).get("reason"))
        if status not in ("completed", "incomplete"):
            raise Overloaded(
                f"{self.name} has not finished the reply: {excerpt(status, 40)}", code=status, retryable=True
            )
        parts: list[Part] = []
        logprobs: list[Logprob] = []
        refusals: list[str] = []
        for item in entries(items):
            kind = item.get("type")
            if kind == "message":
                self._said_by(item, parts, logprobs, refusals)
            elif kind == "reasoning":
                texts = [*entries(item.get("summary")), *entries(item.get("content"))]
                spoken = [text for each in texts if (text := word(each.get("text")))]
                parts.append(thoughts("\n\n".join(spoken), self.thinker, item))
            elif kind == "function_call":
                made = call(item.get("name"), item.get("arguments"), item.get("call_id"))
                parts += [made] if made else []
            else:
                parts.append(other(item))
        if why == "content_filter" or (refusals and not any(isinstance(part, Text) and part.text for part in parts)):
            words = excerpt(" ".join(refusals)) or "by its content filter"
            raise ContentBlocked(f"{self.name} refused to reply: {words}", code=why, retryable=False)
        reason = "stop" if status == "completed" else "length" if why in ("max_output_tokens", None) else why
        calls = any(item.get("type") == "function_call" for item in entries(items))
        return WireReply(
            **said(parts),
            logprobs=tuple(logprobs) or None,
            usage=self.usage(data),
            finish_reason="tool_calls" if calls and reason == "stop" else reason,
            model=word(data.get("model")),
            request_id=word(data.get("id")),
            tier=standard(data.get("service_tier"), "default", "auto", "standard", "on_demand"),
        )

    #: Whose thoughts they are: the provider's that serves the format.
    thinker: ClassVar[str] = "openai"

    def _said_by(self, item: dict[str, Any], parts: list[Part], logprobs: list[Logprob], refusals: list[str]) -> None:
        for part in entries(item.get("content")):
            if part.get("type") == "output_text":
                parts.append(Text(str(part["text"])))
                logprobs += logprobs_in(part.get("logprobs"), ("token", "logprob", "top_logprobs")) or ()
            elif part.get("type") == "refusal":
                refusals.append(str(part.get("refusal", "")))
            else:
                parts.append(other(part))

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read `usage`; cached and reasoning tokens are inside its counts."""
        told = data.get("usage")
        if not isinstance(told, dict):
            return None
        prompt, reply = table(told.get("input_tokens_details")), table(told.get("output_tokens_details"))
        return Usage(
            input_total=count(told.get("input_tokens")),
            cache_read=count(prompt.get("cached_tokens")),
            cache_write=count(prompt.get("cache_write_tokens")),
            output_total=count(told.get("output_tokens")),
            reasoning=count(reply.get("reasoning_tokens")),
        )


class EmbeddedResponses(Responses):
    """The stand-in LM inside the node, asked in this format."""

    name = "embedded"
    default_base_url = None
    default_key = None


def _put(payload: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Put a value into an object of the payload; what the user wrote there stands."""
    place = payload
    for name in path[:-1]:
        inner = place.get(name)
        place[name] = place = dict(inner) if isinstance(inner, dict) else {}
    place.setdefault(path[-1], value)
