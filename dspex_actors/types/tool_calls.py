"""`ToolCalls`: the calls that an LM asks for; `ToolCallResults`: what they gave."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field, TypeAdapter, model_serializer, model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigValueError
from dspex_actors.foundation.repairing import repaired
from dspex_actors.types.base import Type
from dspex_actors.types.tool import Tool


class ToolCall(Type):
    """One call that an LM asks for.

    Args:
        id: the provider's id of it, which the result names; None: there is none.
        name: the tool.
        args: its arguments by name.
    """

    id: str | None = None
    name: str
    args: dict[str, Any] = Field(json_schema_extra={"additionalProperties": True})

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Leave out what the LM does not write."""
        return _without(handler.resolve_ref_schema(handler(core_schema)), "id")

    def format(self) -> dict[str, Any]:  # type: ignore[override]
        """Return name and arguments."""
        return {"name": self.name, "args": self.args}

    def __dspex_plain__(self) -> dict[str, Any]:
        """Return id, name and arguments."""
        return {**({"id": self.id} if self.id else {}), "name": self.name, "args": self.args}

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        return cls.model_construct(**data)

    def execute(self, functions: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """Call the tool.

        Args:
            functions: functions by name, or a list of tools and functions; None: a function of that name where this
                is called.

        Raises:
            ConfigValueError: there is no such tool; also a ValueError.
            ConfigRuntimeError: the tool raised; its exception is the cause. Also a RuntimeError.
        """
        if functions is None:
            frame = sys._getframe(1)
            found = frame.f_locals.get(self.name) or frame.f_globals.get(self.name)
        elif isinstance(functions, Mapping):
            found = functions.get(self.name)
        else:
            found = next((one for one in functions if _name(one) == self.name), None)
        if found is None:
            raise ConfigValueError(
                f"Tool function '{self.name}' not found. Please pass the tool functions to the `execute` method."
            )
        try:
            return (found.func if isinstance(found, Tool) else found)(**(self.args or {}))
        except Exception as error:
            raise ConfigRuntimeError(f"Error executing tool '{self.name}': {error}") from error


def _name(tool: Any) -> Any:
    return tool.name if isinstance(tool, Tool) else getattr(tool, "__name__", None)


_Call = ToolCall


class ToolCalls(Type):
    """The calls that an LM asks for, as an output field; the tools are an input field, `list[dspex.Tool]`.

    Args:
        tool_calls: the calls.
        tool_call_results: what they gave, for the turn of a `History`.
    """

    #: DSPy's place for it.
    ToolCall: ClassVar[type[_Call]] = _Call

    tool_calls: list[_Call]
    tool_call_results: Any | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Leave out what the LM does not write."""
        return _without(handler.resolve_ref_schema(handler(core_schema)), "tool_call_results")

    @classmethod
    def from_dict_list(cls, tool_calls_dicts: list[dict[str, Any]]) -> Self:
        """Make calls of dicts with `name` and `args`, or as providers write them."""
        return cls(tool_calls=[ToolCall(**_normal(one)) for one in tool_calls_dicts])

    @classmethod
    def description(cls) -> str:
        """Return words about calls for the LM."""
        return (
            "A JSON object whose `tool_calls` is a list of the calls to make, each with the tool's `name` and its "
            '`args`. For example: {"tool_calls": [{"name": "search", "args": {"query": "cats"}}]}'
        )

    def format(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the calls as plain data."""
        return {"tool_calls": [call.format() for call in self.tool_calls]}

    @model_serializer()
    def serialize_model(self) -> Any:  # type: ignore[override]
        """Return the calls, and what they gave where it is known, as plain data."""
        data = self.format()
        if self.tool_call_results is not None:
            kind = type(self.tool_call_results)
            data["tool_call_results"] = TypeAdapter(kind).dump_python(self.tool_call_results, mode="json")
        return data

    def __dspex_plain__(self) -> dict[str, Any]:
        """Return the calls with their ids, and what they gave."""
        data: dict[str, Any] = {"tool_calls": [call.__dspex_plain__() for call in self.tool_calls]}
        if self.tool_call_results is not None:
            data["tool_call_results"] = self.tool_call_results
        return data

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        return cls.model_validate(data)

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if isinstance(value, list) and all(isinstance(one, ToolCall) or _is_call(one) for one in value):
            return {"tool_calls": [_call(one) for one in value]}
        if isinstance(value, dict):
            calls = value.get("tool_calls")
            if isinstance(calls, list):
                given = {name: value[name] for name in ("tool_call_results",) if name in value}
                return {"tool_calls": [_call(one) for one in calls], **given}
            if "tool_calls" not in value and _is_call(value):
                return {"tool_calls": [_call(value)]}
        raise ConfigValueError(
            f"ToolCalls is invalid: got {media.shortened(value)}, expected a list of calls with name and args"
        )


class ToolCallResult(BaseModel):
    """What one call gave.

    Args:
        call_id: the call's id.
        name: the tool.
        value: what it returned.
        is_error: it raised; `value` says what.
    """

    call_id: str | None = None
    name: str
    value: Any
    is_error: bool = False


_Result = ToolCallResult


class ToolCallResults(BaseModel):
    """What calls gave, in their order.

    Args:
        tool_call_results: one for each.
    """

    #: DSPy's place for it.
    ToolCallResult: ClassVar[type[_Result]] = _Result

    tool_call_results: list[_Result]

    @classmethod
    def from_tool_calls_and_values(
        cls, tool_calls: list[_Call] | ToolCalls, values: list[Any], is_errors: list[bool] | None = None
    ) -> Self:
        """Put calls and what they returned together.

        Raises:
            ConfigValueError: they are not as many.
        """
        calls = tool_calls.tool_calls if isinstance(tool_calls, ToolCalls) else tool_calls
        errors = [False] * len(calls) if is_errors is None else is_errors
        if not len(calls) == len(values) == len(errors):
            raise ConfigValueError(
                f"`tool_calls`, `values` and `is_errors` must have the same length: {len(calls)}, {len(values)}, "
                f"{len(errors)}"
            )
        return cls(
            tool_call_results=[
                ToolCallResult(call_id=call.id, name=call.name, value=value, is_error=is_error)
                for call, value, is_error in zip(calls, values, errors, strict=True)
            ]
        )

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"tool_call_results": value}
        if isinstance(value, dict) and "tool_call_results" not in value and {"name", "value"} <= value.keys():
            return {"tool_call_results": [value]}
        return value


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a JSON schema without some properties, and without our words about the class."""
    schema.pop("description", None)
    for name in names:
        schema.get("properties", {}).pop(name, None)
    return schema


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and (
        ("name" in value and ("args" in value or "arguments" in value)) or "function" in value
    )


def _call(value: Any) -> Any:
    return ToolCall(**_normal(value)) if isinstance(value, dict) else value


def _normal(value: dict[str, Any]) -> dict[str, Any]:
    """Return a call as id, name and args, whoever wrote it."""
    function = value.get("function", value) or {}
    if not isinstance(function, dict):
        raise ConfigValueError(
            f"ToolCalls is invalid: got {media.shortened(function)}, expected a function with a name"
        )
    arguments = function.get("args", function.get("arguments", {}))
    if isinstance(arguments, str):
        try:  # providers write whole JSON, nearly always, and parse it before
            arguments = repaired(arguments)
        except (ValueError, RecursionError):
            arguments = {}
    return {
        # The Responses API has an id of the item too; results name the call's.
        "id": value.get("call_id") or value.get("id"),
        "name": function.get("name") or value.get("name"),
        "args": arguments if isinstance(arguments, dict) else {},
    }
