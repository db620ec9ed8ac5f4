"""A `History` in messages: each turn is a user and an assistant message, calls of tools and results too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from dspex_actors.adapters.parts import Content
from dspex_actors.adapters.reading import jsonable
from dspex_actors.signatures.fields import InputField
from dspex_actors.signatures.signature import SignatureMeta, make_signature
from dspex_actors.types.history import History
from dspex_actors.types.tool_calls import ToolCall, ToolCallResults, ToolCalls

Message = dict[str, Any]


class Renders(Protocol):
    """What of an adapter is needed here."""

    use_native_function_calling: bool

    def user_content(self, signature: SignatureMeta, inputs: Mapping[str, Any], **how: Any) -> Content:
        """Return the content of a user message."""
        ...

    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return an answer as the LM should have written it."""
        ...


_RESULTS = make_signature({"tool_call_results": (ToolCallResults, InputField())})


def history_field(signature: SignatureMeta) -> str | None:
    """Return the input that is a conversation so far; None: there is none."""
    fields = signature.input_fields.items()
    return next((name for name, field in fields if field.annotation is History), None)


def turns(adapter: Renders, signature: SignatureMeta, history: History) -> list[Message]:
    """Return a conversation as messages.

    Args:
        adapter: whose form they have.
        signature: the program's, without the history's field.
        history: the conversation.
    """
    messages: list[Message] = []
    for turn in history.messages:
        field, calls = _calls_in(turn)
        results = None
        if calls is not None and calls.tool_call_results is not None:
            results = ToolCallResults.model_validate(calls.tool_call_results)
        # With the request of the first time: so a provider's prompt cache knows the turn again.
        is_request = any(name in turn for name in signature.input_fields)
        content = adapter.user_content(signature, turn, main_request=is_request)
        if content:
            messages.append({"role": "user", "content": content})
        if adapter.use_native_function_calling and calls is not None:
            messages += _native(adapter, signature, turn, calls, results)
            continue
        said = turn
        if field is not None and results is not None and calls is not None:
            said = {**turn, field: calls.model_copy(update={"tool_call_results": None})}
        text = adapter.format_assistant_message_content(signature, _all(signature, said))
        if text:
            messages.append({"role": "assistant", "content": text})
        if results is not None:
            told = adapter.user_content(_RESULTS, {"tool_call_results": results})
            messages.append({"role": "user", "content": told})
    return messages


def _all(signature: SignatureMeta, turn: Mapping[str, Any]) -> dict[str, Any]:
    """Return a turn with None for the outputs that it lacks: DSPy's way to show that they are not there."""
    return {**dict.fromkeys(signature.output_fields), **turn}


def _native(
    adapter: Renders,
    signature: SignatureMeta,
    turn: Mapping[str, Any],
    calls: ToolCalls,
    results: ToolCallResults | None,
) -> list[Message]:
    """Return the messages of a turn in which tools were called, with calls and results as providers take them."""
    shown = signature
    for name, field in signature.output_fields.items():
        if field.annotation is ToolCalls or turn.get(name) is None:
            shown = shown.delete(name)
    content = adapter.format_assistant_message_content(shown, turn) if shown.output_fields else ""
    if results is not None:
        ids = [call.id for call in calls.tool_calls]
        if ids != [one.call_id for one in results.tool_call_results] or not all(ids):
            results = None  # no provider takes results that name no call
    if not content and results is None:
        return []
    said: Message = {"role": "assistant", "content": content or None}
    if results is None:
        return [said]
    said["tool_calls"] = [_openai_call(call) for call in calls.tool_calls]
    answers = [
        {"role": "tool", "tool_call_id": one.call_id, "name": one.name, "content": _text(one.value)}
        for one in results.tool_call_results
    ]
    return [said, *answers]


def _calls_in(turn: Mapping[str, Any]) -> tuple[str | None, ToolCalls | None]:
    for name, value in turn.items():
        if isinstance(value, ToolCalls) or (isinstance(value, dict) and "tool_calls" in value):
            return name, ToolCalls.model_validate(value)
    return None, None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)


def _openai_call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(jsonable(call.args), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
