"""Callbacks: objects that hear when programs, LMs, adapters, tools and interpreters begin and end, in this process.

    class Prints(dspex.BaseCallback):
        def on_lm_end(self, call_id, outputs, exception=None):
            print(outputs)

    dspex.configure(callbacks=[Prints()])

What runs in workers is heard of there by nobody: `system.events` tells of a whole node.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

from dspex_actors.foundation.ids import new_id

_log = logging.getLogger(__name__)

#: The call that is under way here; what begins inside of it began because of it.
ACTIVE_CALL_ID: ContextVar[str | None] = ContextVar("dspex_call_id", default=None)


class BaseCallback:
    """Base of callbacks, DSPy's: override what you want to hear.

    Each is told a `call_id`, the same at start and end. What it raises is logged, and changes nothing.
    """

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that a program is called; inputs: `args` and `kwargs`."""

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear what it returned, or raised."""

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an LM is asked; inputs: `prompt`, `messages` and `kwargs`."""

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear its reply, or its error."""

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that a prompt is made; inputs: `signature`, `demos` and `inputs`."""

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear its messages."""

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an answer is read; inputs: `signature` and `completion`."""

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear its fields, or why it cannot be read."""

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that `evaluate` is called; `instance` is the program, inputs are the arguments by name."""

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear the EvaluationResult, or why there is none."""

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an optimiser compiles; inputs: `student`, `trainset` and the other arguments by name."""

    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear the compiled program, or why there is none."""

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that a tool is called; inputs: `kwargs`."""

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear what it gave, or raised."""

    def on_interpreter_startup_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an interpreter starts."""

    def on_interpreter_startup_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that it has, or why not."""

    def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that code is run; inputs: `code` and `variables`."""

    def on_interpreter_execute_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear what it gave, or what went wrong."""

    def on_interpreter_tool_call_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that code calls a tool; inputs: `tool_name`, `args` and `kwargs`."""

    def on_interpreter_tool_call_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear what it gave, or raised."""

    def on_interpreter_shutdown_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an interpreter is shut down."""

    def on_interpreter_shutdown_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that it is."""


Callbacks = Sequence[Any]


class Heard:
    """A call that callbacks hear of, as a context manager; set `outputs`.

    Args:
        callbacks: who hears.
        kind: module, lm, adapter_format, adapter_parse, tool, evaluate, compile, interpreter_execute and the like.
        instance: what is called.
        inputs: with what.
    """

    def __init__(self, callbacks: Callbacks, kind: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Prepare it."""
        self._callbacks, self._kind, self._instance, self._inputs = callbacks, kind, instance, inputs
        self._id = new_id()
        self.outputs: Any = None

    def __enter__(self) -> Heard:
        """Tell of the start."""
        self._tell("start", instance=self._instance, inputs=self._inputs)
        self._before = ACTIVE_CALL_ID.get()
        ACTIVE_CALL_ID.set(self._id)
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """Tell of the end."""
        ACTIVE_CALL_ID.set(self._before)
        self._tell("end", outputs=self.outputs if error is None else None, exception=error)

    def _tell(self, when: str, **about: Any) -> None:
        for callback in self._callbacks:
            try:
                handler = getattr(callback, f"on_{self._kind}_{when}", None)
                if handler is not None:
                    handler(call_id=self._id, **about)
            except Exception:
                _log.exception("callback %s failed", type(callback).__name__)


def heard(callbacks: Callbacks, kind: str, instance: Any, inputs: dict[str, Any], call: Callable[[], Any]) -> Any:
    """Return what a function returns; callbacks hear of it."""
    with Heard(callbacks, kind, instance, inputs) as told:
        told.outputs = call()
    return told.outputs


async def aheard(
    callbacks: Callbacks, kind: str, instance: Any, inputs: dict[str, Any], call: Callable[[], Awaitable[Any]]
) -> Any:
    """Return what a coroutine returns; callbacks hear of it."""
    with Heard(callbacks, kind, instance, inputs) as told:
        told.outputs = await call()
    return told.outputs
