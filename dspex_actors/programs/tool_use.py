"""Calls tools: checked arguments, an end to waiting, and nothing that a tool does ends more than its own call."""

from __future__ import annotations

import inspect
from typing import Any

from dspex_actors.foundation.bridge import is_async, on_background_loop
from dspex_actors.foundation.late import TIMEOUT, limited
from dspex_actors.foundation.operation import part
from dspex_actors.types.tool import Tool, told


def use(tool: Tool, args: dict[str, Any], seconds: float | None) -> Any:
    """Call a tool and wait; without a limit in this thread, if it is sync.

    Args:
        tool: it.
        args: what it gets.
        seconds: it may take so many; None: no limit.

    Raises:
        TimeoutError: it took longer.
        ConfigValueError: an argument does not fit.
    """
    with part(_name(tool), "tool", args) as op, told(tool, args) as seen:
        if seconds is not None or is_async(tool.func):
            answer = on_background_loop(lambda: _awaited(tool, args, seconds))
        else:
            answer = tool.begin(args)
            if inspect.iscoroutine(answer):
                coroutine = answer
                answer = on_background_loop(lambda: coroutine)
        op.outputs = seen.outputs = answer
    return answer


async def ause(tool: Tool, args: dict[str, Any], seconds: float | None) -> Any:
    """Call a tool without blocking the event loop; as `use`, with 120 seconds where none are told."""
    with part(_name(tool), "tool", args) as op, told(tool, args) as seen:
        op.outputs = seen.outputs = answer = await _awaited(tool, args, TIMEOUT if seconds is None else seconds)
    return answer


def _name(tool: Tool) -> str:
    return tool.name or "tool"


async def _awaited(tool: Tool, args: dict[str, Any], seconds: float | None) -> Any:
    return await limited(_name(tool), lambda: tool.begin(args), is_async(tool.func), seconds)
