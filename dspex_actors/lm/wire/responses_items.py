"""A conversation as the input items of OpenAI's Responses API, and its parameters in that API's words. Pure."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.content.messages import in_order
from dspex_actors.lm.wire.content import SYSTEM_ROLES, image_url, refuse, thinking, without_document
from dspex_actors.lm.wire.tools import function_of, is_call

_WHO = "openai's Responses API"


def instructions_of(messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return what the system messages at the beginning say, and the other messages."""
    texts: list[str] = []
    for place, message in enumerate(messages):
        content = message.get("content")
        if message["role"] not in SYSTEM_ROLES or not isinstance(content, str):
            return "\n\n".join(texts), messages[place:]
        texts.append(content)
    return "\n\n".join(texts), []


def items_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as input items.

    Raises:
        InvalidRequest: there is no way to say one.
    """
    items: list[dict[str, Any]] = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            if not message.get("tool_call_id"):
                raise refuse(_WHO, "a tool message needs a tool_call_id")
            output = {"type": "function_call_output", "call_id": message["tool_call_id"]}
            items.append({**output, "output": _content(message)})
        elif role == "assistant":
            items += [item for part in in_order(message) if (item := _said(part)) is not None]
        elif role == "user" or role in SYSTEM_ROLES:
            items.append({"type": "message", "role": role, "content": _content(message)})
        else:
            raise refuse(_WHO, f"no message of role '{role}' can be sent; use system, user, assistant or tool")
    return items


def _content(message: dict[str, Any]) -> Any:
    content = message.get("content")
    return content if isinstance(content, str) else [_asked(part) for part in in_order(message)]


def _asked(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of what the model is told."""
    part = without_document(part)
    kind = part.get("type")
    if kind == "text":
        return {"type": "input_text", "text": part["text"]}
    if kind == "image_url":
        image = part["image_url"]
        detail = image.get("detail") if isinstance(image, dict) else None
        return {"type": "input_image", "image_url": image_url(_WHO, part), "detail": detail or "auto"}
    if kind == "file":
        return {"type": "input_file", **part["file"]}
    if kind == "input_audio":
        raise refuse(_WHO, "it takes no audio; use model_type='chat' with an audio model for this prompt")
    return part  # its own parts as they are


def _said(part: dict[str, Any]) -> dict[str, Any] | None:
    """Return a part of what the model has said before; None: it is another provider's."""
    kind = part.get("type")
    if is_call(part):
        function = part["function"]
        arguments = function["arguments"] or "{}"
        return {
            "type": "function_call",
            "call_id": part.get("id", ""),
            "name": function["name"],
            "arguments": arguments,
        }
    if kind == "text":
        return {"type": "message", "role": "assistant", "content": part["text"]} if part["text"] else None
    if kind == "thinking" and "provider" in part:
        block = thinking(part, "openai")
        return block if block is not None and block.get("type") == "reasoning" else None
    return part  # its own items as they are


def tools_told(tools: Any) -> Any:
    """Return tools as this API declares them; one that is no function of the chat's form stays as it is."""
    if not isinstance(tools, list):
        return tools
    # What is not said of strictness means that it is wanted, here; in the chat it means that it is not.
    functions = [function_of(tool) for tool in tools]
    return [
        tool if told is None else {"type": "function", "strict": False, **told}
        for tool, told in zip(tools, functions, strict=True)
    ]


def choice_told(choice: Any) -> Any:
    """Return which tool is to be called."""
    function = function_of(choice)
    return {"type": "function", "name": function["name"]} if function else choice


def format_told(form: Any) -> Any:
    """Return a `response_format` as `text.format`."""
    holder = form.get("json_schema") if isinstance(form, dict) else None
    if not isinstance(holder, dict):
        return form
    schema = holder.get("schema", holder)
    named = {name: holder[name] for name in ("name", "description", "strict") if "schema" in holder and name in holder}
    return {"type": "json_schema", "name": "reply", **named, "schema": schema}
