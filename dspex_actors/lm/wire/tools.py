"""Tool calls and their results in messages, and tools in parameters: OpenAI's form in the other providers' words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dspex_actors.lm.wire.content import refuse


def call_of(provider: str, call: Any) -> tuple[str, str, dict[str, Any]]:
    """Return a tool call of OpenAI's form as (id, name, arguments).

    Raises:
        InvalidRequest: it is not of OpenAI's form, or its arguments are no JSON object.
    """
    try:
        function = call["function"]
        arguments = function["arguments"] or "{}"
        arguments = json.loads(arguments, strict=False) if isinstance(arguments, str) else arguments
        if isinstance(arguments, dict):
            return str(call.get("id", "")), str(function["name"]), arguments
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    raise refuse(provider, "a tool call needs a function with a name, and arguments that are a JSON object")


def is_call(part: dict[str, Any]) -> bool:
    """Tell whether what stands in a message is a tool call of OpenAI's form."""
    return part.get("type") == "function" or "function" in part


def anthropic_result(message: dict[str, Any], content: str | list[dict[str, Any]]) -> dict[str, Any]:
    """Return a tool message, with its content in Anthropic's form, as the block that Anthropic takes it as.

    Raises:
        InvalidRequest: it does not say which call it answers.
    """
    if not message.get("tool_call_id"):
        raise refuse("anthropic", "a tool message needs a tool_call_id")
    result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}
    return {**result, "is_error": True} if message.get("is_error") else result


def anthropic_tools(tools: Iterable[Any]) -> list[Any]:
    """Return tools as Anthropic declares them; one that is no function of OpenAI's form stays as it is."""
    declared = []
    for tool in tools:
        if (function := function_of(tool)) is None:
            declared.append(tool)
            continue
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        declared.append({**named(function), "input_schema": schema})
    return declared


def anthropic_choice(choice: Any) -> Any:
    """Return which tool Claude is to call; what is not of OpenAI's form stays as it is."""
    words = {"auto": "auto", "required": "any", "none": "none"}
    if isinstance(choice, str):
        return {"type": words.get(choice, choice)}
    function = function_of(choice)
    return {"type": "tool", "name": function["name"]} if function else choice


def named(function: dict[str, Any]) -> dict[str, Any]:
    """Return name and description of a function, as far as they are there."""
    return {name: function[name] for name in ("name", "description") if function.get(name)}


def function_of(tool: Any) -> dict[str, Any] | None:
    """Return the function of a tool of OpenAI's form; None: it is of another."""
    function = tool.get("function") if isinstance(tool, dict) else None
    return function if isinstance(function, dict) and "name" in function else None
