"""`Tool`: a function that an LM may ask for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError, ValidationInfo, model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.callbacks import Heard
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.tap import current_tap
from dspex_actors.settings import settings
from dspex_actors.types.base import CHECKED, Type, told_in_a_line
from dspex_actors.types.tool_schema import described, misfit
from dspex_actors.types.validators import type_adapter


class Tool(Type):
    """A function, sync or async, with what an LM has to know to ask for it.

        def search(query: str, limit: int = 5) -> list[str]:
            '''Search the archive.'''

        dspex.Tool(search).args     # {'query': {'type': 'string'}, 'limit': {'type': 'integer', 'default': 5}}

    Name, description and schemas come from the function: its name, its docstring, its annotations.

    Args:
        func: the function, a method, or an object that can be called.
        name: another name for it.
        desc: another description.
        args: JSON schemas by parameter, instead of those of the annotations.
        arg_types: types by parameter, instead of the annotations.
        arg_desc: descriptions by parameter.

    Raises:
        ConfigError: no schema can be made of it; names the parameter. Also a ValueError or TypeError.
    """

    func: Callable[..., Any]
    name: str | None = None
    desc: str | None = None
    args: dict[str, Any] | None = None
    arg_types: dict[str, Any] | None = None
    arg_desc: dict[str, str] | None = None
    has_kwargs: bool = False

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        desc: str | None = None,
        args: dict[str, Any] | None = None,
        arg_types: dict[str, Any] | None = None,
        arg_desc: dict[str, str] | None = None,
    ) -> None:
        """Look at the function; see the class."""
        self._make(_fields(func, name, desc, args, arg_types, arg_desc))

    # Validation goes by `_validated` alone, not by `__init__` a second time.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any, info: ValidationInfo) -> Any:
        if info.context is CHECKED or isinstance(value, cls):
            return value
        if callable(value):
            return _fields(value)
        if isinstance(value, dict) and callable(value.get("func")):
            return _fields(**{name: one for name, one in value.items() if name != "has_kwargs"})
        raise ConfigValueError(f"Tool is invalid: got {media.shortened(value)}, expected a function or a Tool")

    def format(self) -> str:
        """Return the tool in words, for a model without function calling."""
        return str(self)

    def format_as_litellm_function_call(self) -> dict[str, Any]:
        """Return the tool as OpenAI declares functions."""
        args = self.args or {}
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.desc,
                "parameters": {
                    "type": "object",
                    "properties": args,
                    "required": [name for name, schema in args.items() if "default" not in schema],
                },
            },
        }

    def __call__(self, **kwargs: Any) -> Any:
        """Call the function with checked arguments.

        Raises:
            ConfigValueError: an argument does not fit, or the function is async; also a ValueError.
        """
        with told(self, kwargs) as seen:
            result = seen.outputs = self._call(kwargs)
        return result

    def _call(self, kwargs: dict[str, Any]) -> Any:
        result = self.begin(kwargs)
        if not inspect.iscoroutine(result):
            return result
        if not settings.allow_tool_async_sync_conversion:
            result.close()
            raise ConfigValueError(
                f"tool {self.name!r} is async: use `await tool.acall(...)`, or "
                "configure(allow_tool_async_sync_conversion=True)"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(result)
        result.close()
        raise ConfigValueError(f"tool {self.name!r} is async and an event loop runs here: use `await tool.acall(...)`")

    async def acall(self, **kwargs: Any) -> Any:
        """Call the function with checked arguments, awaiting it where it is async.

        Raises:
            ConfigValueError: an argument does not fit; also a ValueError.
        """
        with told(self, kwargs) as seen:
            result = self.begin(kwargs)
            seen.outputs = result = await result if inspect.isawaitable(result) else result
        return result

    def begin(self, kwargs: dict[str, Any]) -> Any:
        """Call the function with checked arguments; of an async one this gives a coroutine.

        Raises:
            ConfigValueError: an argument does not fit; also a ValueError.
        """
        return self.func(**self._checked(kwargs))

    def _checked(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        known, kinds = self.args or {}, self.arg_types or {}
        parsed: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name not in known and not self.has_kwargs:
                raise ConfigValueError(
                    f"Arg {name} is not in the tool's args: {self.name} takes {', '.join(known) or 'nothing'}."
                )
            plain = value.model_dump() if hasattr(value, "model_dump") else value
            problem = misfit(known.get(name, {}), plain)
            kind = kinds.get(name, Any)
            if not problem and kind is not Any and name in known:
                try:
                    parsed[name] = type_adapter(kind).validate_python(value)
                    continue
                except ValidationError as error:
                    problem = told_in_a_line(error)
            if problem:
                raise ConfigValueError(f"Arg {name} is invalid: {problem}")
            parsed[name] = value
        return parsed

    @classmethod
    def from_mcp_tool(cls, session: Any, tool: Any, *, result_mode: str = "text") -> Tool:
        """Make a tool of an MCP server's.

        Args:
            session: an MCP client or session with an async `call_tool`.
            tool: the MCP tool.
            result_mode: text (texts, or the other contents where there are any), or structured.

        Raises:
            ConfigValueError: another result_mode.
        """
        if result_mode not in ("text", "structured"):
            raise ConfigValueError(f"result_mode: expected text or structured, got {result_mode!r:.60}")
        schema = getattr(tool, "inputSchema", None) or getattr(tool, "input_schema", None) or {}
        args, arg_types = _args_of(schema)

        async def call(**kwargs: Any) -> Any:
            return _mcp_result(await session.call_tool(tool.name, arguments=kwargs), result_mode)

        return cls(func=call, name=tool.name, desc=tool.description, args=args, arg_types=arg_types)

    @classmethod
    def from_langchain(cls, tool: Any) -> Tool:
        """Make a tool of one of LangChain's."""
        schema = tool.get_input_schema()
        args, arg_types = _args_of(schema.model_json_schema())

        async def call(**kwargs: Any) -> Any:
            return await tool.ainvoke(kwargs)

        return cls(func=call, name=tool.name, desc=tool.description, args=args, arg_types=arg_types)

    def __dspex_plain__(self) -> dict[str, Any]:
        """Return name, description and schemas."""
        return {"name": self.name, "desc": self.desc, "args": self.args}

    def __repr__(self) -> str:
        """Show name, description and schemas."""
        return f"Tool(name={self.name}, desc={self.desc}, args={self.args})"

    def __str__(self) -> str:
        """Return the tool in words: DSPy's, which models see."""
        desc = f", whose description is <desc>{self.desc}</desc>.".replace("\n", "  ") if self.desc else "."
        return f"{self.name}{desc} It takes arguments {self.args}."


def _fields(
    func: Callable[..., Any],
    name: str | None = None,
    desc: str | None = None,
    args: dict[str, Any] | None = None,
    arg_types: dict[str, Any] | None = None,
    arg_desc: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a tool of a function holds; what is not told, the function says."""
    found = described(func, arg_desc or {}, needs_args=args is None)
    return {
        "func": func,
        "name": name or found.name,
        "desc": desc or found.desc,
        "args": found.args if args is None else args,
        "arg_types": found.arg_types if arg_types is None else arg_types,
        "arg_desc": arg_desc,
        "has_kwargs": found.has_kwargs,
    }


_KINDS: dict[Any, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def _args_of(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters' schemas and types of a JSON schema of an object."""
    from dspex_actors.types.tool_schema import without_references  # here: for other people's tools only

    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    definitions = {"$defs": schema["$defs"]} if schema.get("$defs") else {}
    args = {name: without_references({**definitions, **one}) for name, one in properties.items()}
    for name, one in args.items():
        if name not in required:
            one.setdefault("default", None)
    kinds = {name: _KINDS.get(one.get("type"), Any) if name in required else Any for name, one in args.items()}
    return args, kinds


def _mcp_result(result: Any, mode: str) -> Any:
    contents = list(getattr(result, "content", None) or ())
    texts = [one.text for one in contents if hasattr(one, "text")]
    others = [one for one in contents if not hasattr(one, "text")]
    told: Any = texts[0] if len(texts) == 1 else texts
    if not texts:
        told = others
    if getattr(result, "isError", False) or getattr(result, "is_error", False):
        raise ConfigTypeError(f"Failed to call a MCP tool: {told!r:.500}")
    structured = getattr(result, "structuredContent", None)
    return structured if mode == "structured" and structured is not None else told


class told:  # noqa: N801 - used as a function
    """Tells whoever watches that a tool is called, and what it has answered."""

    def __init__(self, tool: Tool, inputs: dict[str, Any]) -> None:
        """Tell of the start."""
        self.outputs: Any = None
        # How a loop with tools ends is no tool to speak of.
        self._tap = current_tap() if tool.name != "finish" else None
        if self._tap is not None:
            self._tap.status("tool_start_status_message", tool, inputs)
        callbacks = settings.heard_by()
        self._heard = Heard(callbacks, "tool", tool, {"kwargs": inputs}) if callbacks else None

    def __enter__(self) -> told:
        """Begin."""
        if self._heard is not None:
            self._heard.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """Tell of the end."""
        if self._heard is not None:
            self._heard.outputs = self.outputs
            self._heard.__exit__(kind, error, frames)
        if self._tap is not None and error is None:
            self._tap.status("tool_end_status_message", self.outputs)
