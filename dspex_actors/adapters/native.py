"""What models do by themselves: call functions, tell their reasoning. Then the prompt does not ask for it in words."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, Protocol

from dspex_actors.adapters.plan import Plan
from dspex_actors.errors import AdapterParseError
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.signatures.signature import Signature, SignatureMeta
from dspex_actors.types.base import Type
from dspex_actors.types.reasoning import Reasoning
from dspex_actors.types.tool import Tool
from dspex_actors.types.tool_calls import ToolCall, ToolCalls

#: What providers take as the name of a tool.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Reads(Protocol):
    """What of an adapter is needed here."""

    use_native_function_calling: bool
    native_response_types: tuple[type[Type], ...]
    parallel_tool_calls: bool | None

    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Return the output fields that the LM's text holds."""
        ...


def prepare(
    adapter: Reads, plan: Plan, signature: type[Signature], inputs: Mapping[str, Any], lm: Any, params: dict[str, Any]
) -> tuple[type[Signature], dict[str, Any]]:
    """Return the signature to render, and the parameters of the call; see `Adapter.prepare`."""
    params = dict(params)
    left_out: list[str] = []
    calls = calls_field(plan)
    if calls is not None and adapter.use_native_function_calling:
        tools = _tools_field(plan)
        if tools is None:
            raise ConfigValueError(
                f"{signature.__name__} has an output for calls of tools, {calls!r}, and no input with tools: "
                "add one of type list[dspex.Tool]"
            )
        if getattr(lm, "supports_function_calling", False):
            params.update(_declared(adapter, tools, inputs.get(tools), params))
            left_out += [calls, tools]
    for name, field in plan.outputs.items():
        kind = field.annotation
        if kind not in adapter.native_response_types or not isinstance(kind, type) or name in left_out:
            continue
        if issubclass(kind, Reasoning):
            effort = kind.native_effort(lm, params)
            if effort is not None:
                params["reasoning_effort"] = effort
                _show(lm, params)
                left_out.append(name)
        elif issubclass(kind, Type):
            shorter = kind.adapt_to_native_lm_feature(signature, name, lm, params)
            if shorter is not signature and name not in shorter.fields:
                left_out.append(name)
    return (plan.without(signature, *left_out) if left_out else signature), params


def read(adapter: Reads, plan: Plan, signature: type[Signature], asked: type[Signature], reply: Any) -> dict[str, Any]:
    """Return the output fields of a reply, in the signature's order; see `Adapter.read`."""
    found: dict[str, Any] = {}
    if is_said(plan, signature, asked, reply):
        try:
            found = adapter.parse(asked, reply.text or "")
        except AdapterParseError:
            if not has_calls(plan, reply):
                raise  # what is said beside calls of tools may be anything
    return completed(adapter, plan, found, reply)


def has_calls(plan: Plan, reply: Any) -> bool:
    """Tell whether a reply calls tools, and there is an output for that."""
    return bool(getattr(reply, "tool_calls", None)) and calls_field(plan) is not None


def is_said(plan: Plan, signature: type[Signature], asked: type[Signature], reply: Any) -> bool:
    """Tell whether outputs stand in the text of a reply: beside calls of tools there may be nothing, and nothing else
    may have been asked for in words."""
    if has_calls(plan, reply):
        return bool(reply.text) and bool(asked.output_fields)
    return asked is signature or bool(asked.output_fields)


def completed(adapter: Reads, plan: Plan, found: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Return the output fields that were found in a reply's text, and those that the model gave beside it."""
    if has_calls(plan, reply):
        found[str(calls_field(plan))] = ToolCalls(tool_calls=[_call(one) for one in reply.tool_calls])
    for name, field in plan.outputs.items():
        kind = field.annotation
        if kind in adapter.native_response_types and isinstance(kind, type) and issubclass(kind, Type):
            told = kind.parse_lm_response(_as_dspys(reply, reply.text or ""))
            if told is not None:
                found[name] = told
        if name not in found:
            found[name] = None if field.is_required() else field.get_default(call_default_factory=True)
    return {name: found[name] for name in plan.outputs}


#: What has providers show what their models think, beside that they are told to; those without a row just do.
_SHOWING: dict[tuple[Any, Any], dict[str, Any]] = {
    ("openai", "responses"): {"reasoning": {"summary": "auto"}},
    ("anthropic", "chat"): {"thinking": {"type": "adaptive"}},
    ("gemini", "chat"): {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
}


def _show(lm: Any, params: dict[str, Any]) -> None:
    """Ask for the reasoning to be told; what the user has said of the same stands."""
    asked = _SHOWING.get((getattr(lm, "provider", None), getattr(lm, "model_type", None)), {})
    own = getattr(lm, "kwargs", None) or {}
    for name, value in asked.items():
        if name not in params and name not in own:
            params[name] = value


def calls_field(plan: Plan) -> str | None:
    """Return the output that takes calls of tools; None: there is none."""
    return next((name for name, field in plan.outputs.items() if field.annotation is ToolCalls), None)


def _tools_field(plan: Plan) -> str | None:
    for name, field in plan.inputs.items():
        kind: Any = field.annotation
        if kind is Tool or (typing.get_origin(kind) is list and typing.get_args(kind)[0] is Tool):
            return name
    return None


def _declared(adapter: Reads, name: str, given: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that tell a model its tools."""
    if given is None:
        raise ConfigValueError(f"input {name!r} is missing: expected a list of tools")
    tools = [one if isinstance(one, Tool) else Tool(one) for one in (given if isinstance(given, list) else [given])]
    names = [tool.name for tool in tools]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise ConfigValueError(f"input {name!r} is invalid: got two tools called {twice!r}, expected distinct names")
    if wrong := next((one for one in names if not _NAME.fullmatch(one or "")), None):
        raise ConfigValueError(
            f"input {name!r} is invalid: got a tool called {wrong!r:.80}, expected 1 to 64 letters, digits, - and _, "
            "which is what providers take: give it a name, Tool(func, name=...)"
        )
    told: dict[str, Any] = {"tools": [_openai(tool) for tool in tools]}
    if adapter.parallel_tool_calls is not None and params.get("parallel_tool_calls") is None:
        told["parallel_tool_calls"] = adapter.parallel_tool_calls
    if told.get("parallel_tool_calls", params.get("parallel_tool_calls")) is not None:
        told["tool_choice"] = params.get("tool_choice") or "auto"
    return told


def _openai(tool: Tool) -> dict[str, Any]:
    told = tool.format_as_litellm_function_call()
    if told["function"]["description"] is None:
        del told["function"]["description"]  # no provider takes null
    return told


def _call(told: Any) -> ToolCall:
    """Return a call of a reply, ours or OpenAI's."""
    if isinstance(told, dict):
        return ToolCalls.from_dict_list([told]).tool_calls[0]
    arguments = told.arguments if hasattr(told, "arguments") else told.args
    return ToolCall(id=told.id or None, name=told.name, args=arguments)


def _as_dspys(reply: Any, text: str) -> dict[str, Any]:
    """Return a reply as DSPy hands it to `parse_lm_response`."""
    told: dict[str, Any] = {"text": text}
    if reasoning := getattr(reply, "reasoning", None):
        told["reasoning_content"] = reasoning
    return told
