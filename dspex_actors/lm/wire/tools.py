"""Tool calls and their results in messages, and tools in parameters: OpenAI's form in the other providers' words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dspex_actors.lm.wire.content import parts_of, refuse, text_of


def calls_of(provider: str, message: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return an assistant message's tool calls as (id, name, arguments).

    Raises:
        InvalidRequest: a call is not of OpenAI's form, or its arguments are no JSON object.
    """
    found = []
    for call in message.get("tool_calls") or ():
        try:
            function = call["function"]
            arguments = function["arguments"] or "{}"
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            if not isinstance(arguments, dict):
                raise TypeError("arguments")
            found.append((str(call.get("id", "")), str(function["name"]), arguments))
        except (LookupError, TypeError, ValueError, AttributeError):
            pass
        else:
            continue
        raise refuse(provider, "a tool call needs a function with a name, and arguments that are a JSON object")
    return found


def anthropic_result(message: dict[str, Any], content: str | list[dict[str, Any]]) -> dict[str, Any]:
    """Return a tool message, with its content in Anthropic's form, as the block that Anthropic takes it as.

    Raises:
        InvalidRequest: it does not say which call it answers.
    """
    if not message.get("tool_call_id"):
        raise refuse("anthropic", "a tool message needs a tool_call_id")
    return {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}


def gemini_result(message: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a tool message as the part that Gemini takes it as.

    Args:
        message: the message.
        names: the tools' names by the ids of their calls.

    Raises:
        InvalidRequest: it does not say which tool it is of, or has more than text to say.
    """
    name = message.get("name") or names.get(message.get("tool_call_id", ""))
    if not name:
        raise refuse("gemini", "a tool message needs a name, or the tool_call_id of a call before it")
    if any(part.get("type") != "text" for part in parts_of(message.get("content"))):
        raise refuse("gemini", "a tool message can only be text")
    text = text_of(message.get("content"))
    try:
        result = json.loads(text)
    except (ValueError, RecursionError):
        result = text
    return {"functionResponse": {"name": name, "response": result if isinstance(result, dict) else {"result": result}}}


def anthropic_tools(tools: Iterable[Any]) -> list[Any]:
    """Return tools as Anthropic declares them; one that is no function of OpenAI's form stays as it is."""
    declared = []
    for tool in tools:
        if (function := _function(tool)) is None:
            declared.append(tool)
            continue
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        declared.append({**_named(function), "input_schema": schema})
    return declared


def gemini_tools(tools: Iterable[Any]) -> list[Any]:
    """Return tools as Gemini declares them; one that is no function of OpenAI's form stays as it is."""
    functions = [function for tool in tools if (function := _function(tool))]
    declared = [
        {
            **_named(function),
            **({"parametersJsonSchema": function["parameters"]} if function.get("parameters") else {}),
        }
        for function in functions
    ]
    others = [tool for tool in tools if not _function(tool)]
    return [*([{"functionDeclarations": declared}] if declared else []), *others]


def anthropic_choice(choice: Any) -> Any:
    """Return which tool Claude is to call; what is not of OpenAI's form stays as it is."""
    words = {"auto": "auto", "required": "any", "none": "none"}
    if isinstance(choice, str):
        return {"type": words.get(choice, choice)}
    function = _function(choice)
    return {"type": "tool", "name": function["name"]} if function else choice


def gemini_choice(choice: Any) -> dict[str, Any]:
    """Return which tool Gemini is to call, as its `toolConfig`."""
    words = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
    function = _function(choice)
    if function:
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [function["name"]]}}
    mode = words.get(choice) if isinstance(choice, str) else None
    if mode is None:
        raise refuse("gemini", "tool_choice can be auto, required, none, or a function")
    return {"functionCallingConfig": {"mode": mode}}


def _named(function: dict[str, Any]) -> dict[str, Any]:
    return {name: function[name] for name in ("name", "description") if function.get(name)}


def _function(tool: Any) -> dict[str, Any] | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function if isinstance(function, dict) and "name" in function else None
