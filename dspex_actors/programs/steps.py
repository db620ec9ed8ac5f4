"""Steps of a program: what it does, written once for all ways of calling it.

::

    from dspex_actors.steps import Ask, Parallel, Tool

    class Answer(dspex.Module):
        def steps(self, question):
            plan = yield Ask(self.plan, question=question)
            found = yield Parallel([Tool(search, {"query": query}) for query in plan.queries])
            return (yield Ask(self.answer, question=question, context=found))

A step is a value: it says what to do, and does nothing. What comes of it is what its `yield` gives; an error is raised
there. `carrying` does it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any

from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.types.tool import Tool as _ATool


class Ask:
    """Ask a program, an LM, an embedder, or any function, sync or async.

    Args:
        what: it.
        *args: what it is called with.
        **kwargs: what it is called with, by name.

    Raises:
        ConfigTypeError: it cannot be called.
    """

    __slots__ = ("args", "kwargs", "what")

    def __init__(self, what: Any, /, *args: Any, **kwargs: Any) -> None:
        """Take note of it."""
        if not callable(what) or isinstance(what, type):
            raise ConfigTypeError(f"Ask is invalid: got {what!r:.100}, expected a program, an LM or a function")
        self.what, self.args, self.kwargs = what, args, kwargs

    def __repr__(self) -> str:
        """Show whom it asks, and for what."""
        return f"Ask({_name(self.what)}, {', '.join([*map(repr, self.args), *self.kwargs])})"


class Tool:
    """Call a tool with what an LM has written.

    Args:
        tool: a `dspex.Tool`, or a function that one is made of.
        args: its arguments by name; they are checked.
        timeout: seconds; None: 120 where somebody else would have to wait (async code, workers), else no limit.

    Raises:
        ConfigError: no tool can be made of it, or the timeout is none.
    """

    __slots__ = ("args", "timeout", "tool")

    def __init__(self, tool: Any, args: Mapping[str, Any] | None = None, timeout: float | None = None) -> None:
        """Take note of it."""
        self.tool: _ATool = tool if isinstance(tool, _ATool) else _ATool(tool)
        self.args, self.timeout = dict(args or {}), check_timeout("timeout", timeout)

    def __repr__(self) -> str:
        """Show the tool and its arguments."""
        return f"Tool({self.tool.name}, {self.args!r:.200})"


class Parallel:
    """Do several things at once; the answers are a list, in their order.

    After an error nothing new is begun; what is under way ends, for it is paid. The error of the first of them in order
    is raised.

    Args:
        branches: steps, or generators of steps.
        at_once: so many at a time; None: all, up to 64.
        return_errors: give errors as answers; all are done then.

    Raises:
        ConfigError: one of them is no step, or at_once is no number.
    """

    __slots__ = ("at_once", "branches", "return_errors")

    def __init__(self, branches: Iterable[Any], at_once: int | None = None, return_errors: bool = False) -> None:
        """Take note of them."""
        self.branches = list(branches)
        for branch in self.branches:
            if not isinstance(branch, Ask | Tool | Parallel | Generator):
                raise not_a_step(branch)
        self.at_once = None if at_once is None else whole("at_once", at_once, 1)
        self.return_errors = bool(return_errors)

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"Parallel({len(self.branches)} branches)"


#: Steps, and what comes of them.
Steps = Generator[Any, Any, Any]


def not_a_step(value: Any) -> ConfigTypeError:
    """Return the error about what was yielded in a step's place."""
    return ConfigTypeError(
        f"a step is invalid: got {value!r:.100}, expected Ask(...), Tool(...) or Parallel([...]) of dspex_actors.steps"
    )


def check_timeout(name: str, value: Any) -> float | None:
    """Return seconds, or None for none told.

    Raises:
        ConfigValueError: it is neither.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigValueError(f"{name} is invalid: got {value!r:.60}, expected seconds, more than 0, or None")
    return float(value)


def _name(what: Any) -> str:
    return str(getattr(what, "__name__", None) or getattr(what, "model", None) or type(what).__name__)
