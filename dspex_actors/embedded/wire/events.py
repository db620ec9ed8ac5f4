"""Streams of the formats: an answer as the events that its provider would send, one after the other. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from dspex_actors.embedded.wire.base import Answer, Call

#: A piece is a word with the blanks behind it: about what providers send.
_PIECE = re.compile(r"\s*\S+\s*|\s+")

#: What a whole answer is, in the provider's JSON.
Body = dict[str, Any]


def pieces_of(text: str) -> list[str]:
    """Return a text in pieces; joined they are the text."""
    return _PIECE.findall(text)


def _data(body: Any) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _named(body: Body) -> bytes:
    return b"event: " + str(body["type"]).encode() + b"\n" + _data(body)


def _openai(call: Call, answer: Answer, body: Body) -> list[bytes]:
    head = {name: body[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    if call.stream_usage:
        head["usage"] = None

    def chunk(index: int, delta: Body, finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**head, "choices": [choice]})

    events = []
    for index, choice in enumerate(body["choices"]):
        events.append(chunk(index, {"role": "assistant", "content": "", "refusal": None}))
        events += [chunk(index, {"content": piece}) for piece in pieces_of(answer.texts[index])]
        events.append(chunk(index, {}, choice["finish_reason"]))
    if call.stream_usage:
        events.append(_data({**head, "choices": [], "usage": body["usage"]}))
    return [*events, b"data: [DONE]\n\n"]


def _anthropic(call: Call, answer: Answer, body: Body) -> list[bytes]:
    usage = body["usage"]
    open_end: Body = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    end = {"stop_reason": body["stop_reason"], "stop_sequence": body["stop_sequence"]}
    events: list[Body] = [
        {"type": "message_start", "message": {**body, **open_end}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces_of(answer.texts[0])
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}},
        {"type": "message_stop"},
    ]
    return [_named(event) for event in events]


def _gemini(call: Call, answer: Answer, body: Body) -> list[bytes]:
    about = {name: body[name] for name in ("modelVersion", "responseId")}
    prompt = body["usageMetadata"]["promptTokenCount"]

    def response(index: int, text: str, finish: str | None, usage: Body) -> bytes:
        candidate: Body = {"content": {"role": "model", "parts": [{"text": text}]}, "index": index}
        if finish is not None:
            candidate["finishReason"] = finish
        whole = {"candidates": [candidate], "usageMetadata": usage, **about}
        return b"data: " + orjson.dumps(whole) + b"\r\n\r\n"

    events = []
    for index, candidate in enumerate(body["candidates"]):
        *before, last = pieces_of(answer.texts[index]) or [""]
        so_far = {"promptTokenCount": prompt, "totalTokenCount": prompt}
        events += [response(index, piece, None, so_far) for piece in before]
        events.append(response(index, last, candidate["finishReason"], body["usageMetadata"]))
    return events


def _cohere(call: Call, answer: Answer, body: Body) -> list[bytes]:
    def content(kind: str, part: Body) -> Body:
        return {"type": kind, "index": 0, "delta": {"message": {"content": part}}}

    start = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    events = [
        {"id": body["id"], "type": "message-start", "delta": start},
        content("content-start", {"type": "text", "text": ""}),
        *(content("content-delta", {"text": piece}) for piece in pieces_of(answer.texts[0])),
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": body["finish_reason"], "usage": body["usage"]}},
    ]
    return [_named(event) for event in events]


def _responses(call: Call, answer: Answer, body: Body) -> list[bytes]:
    [item] = body["output"]
    [part] = item["content"]
    started = {**body, "status": "in_progress", "output": [], "incomplete_details": None, "usage": None}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[Body] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
            for piece in pieces_of(answer.texts[0])
        ),
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{body['status']}", "response": body},
    ]
    return [_named({**event, "sequence_number": number}) for number, event in enumerate(events)]


_EVENTS: dict[str, Callable[[Call, Answer, Body], list[bytes]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "cohere": _cohere,
    "openai-responses": _responses,
}


def events_of(wire: str, call: Call, answer: Answer, body: Body) -> list[bytes]:
    """Return the events of a stream.

    Args:
        wire: the format's name.
        call: what was asked.
        answer: what is answered.
        body: the same, as the provider's JSON of a whole answer.
    """
    return _EVENTS[wire](call, answer, body)


def array_of(events: list[bytes]) -> list[bytes]:
    """Return Gemini's events as it sends them to who does not ask for events: one JSON array, piece by piece."""
    items = [event.removeprefix(b"data: ").strip() for event in events]
    return [b"[" + items[0], *(b",\r\n" + item for item in items[1:]), b"]"]


def error_event(wire: str, body: Body) -> bytes:
    """Return the event that ends a stream with an error; `body` is the error as the provider writes it elsewhere."""
    if wire == "anthropic":
        return _named(body)
    if wire == "openai-responses":
        return _named({"type": "error", **body["error"], "sequence_number": 0})
    if wire == "cohere":
        return _named({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": body["message"]}})
    return _data(body)
