"""Tools and their results in Gemini's words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dspex_actors.lm.wire.content import parts_of, refuse, text_of
from dspex_actors.lm.wire.gemini_parts import gemini_id
from dspex_actors.lm.wire.tools import function_of, named


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
    if not isinstance(result, dict):
        result = {"error" if message.get("is_error") else "result": result}
    number = message.get("tool_call_id") or ""
    return {"functionResponse": {**gemini_id(number), "name": name, "response": result}}


def gemini_tools(tools: Iterable[Any]) -> list[Any]:
    """Return tools as Gemini declares them; one that is no function of OpenAI's form stays as it is."""
    functions = [function for tool in tools if (function := function_of(tool))]
    declared = [
        {
            **named(function),
            **({"parametersJsonSchema": function["parameters"]} if function.get("parameters") else {}),
        }
        for function in functions
    ]
    others = [tool for tool in tools if not function_of(tool)]
    return [*([{"functionDeclarations": declared}] if declared else []), *others]


def gemini_choice(choice: Any) -> dict[str, Any]:
    """Return which tool Gemini is to call, as its `toolConfig`."""
    words = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
    function = function_of(choice)
    if function:
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [function["name"]]}}
    mode = words.get(choice) if isinstance(choice, str) else None
    if mode is None:
        raise refuse("gemini", "tool_choice can be auto, required, none, or a function")
    return {"functionCallingConfig": {"mode": mode}}
