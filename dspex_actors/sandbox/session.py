"""Inside the child: variables that stay from one piece of code to the next, and what the code prints, returns, submits.

It is `exec`, as plain as can be: what keeps code from doing harm stands around the process (`walls`), not in here.
"""

from __future__ import annotations

import ast
import builtins
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

#: The name of the code's file in tracebacks.
FILE = "<code>"
_OWN = ("SUBMIT", "__builtins__")


class Submitted(BaseException):
    """The code has called SUBMIT; nothing after it is run."""

    def __init__(self, value: Any) -> None:
        """Keep what it gave."""
        self.value = value


class TooMuch(BaseException):
    """The code has printed more than it may; `except Exception` does not hold it up."""


class _Screen(io.TextIOBase):
    """Takes what is printed, up to a bound."""

    def __init__(self, most: int) -> None:
        self._most, self._left, self._parts = most, most, list[str]()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._left -= len(text)
        if self._left < 0:
            raise TooMuch(f"more than {self._most:,} characters were printed")
        self._parts.append(text)
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)


class Session:
    """Runs pieces of code, one after the other.

    Args:
        ask: calls a tool of the host's: name, args, kwargs → what it returns.
        most: characters that a piece may print, and that its result may have.
        home: the folder that each piece begins in.
    """

    def __init__(self, ask: Callable[[str, Sequence[Any], dict[str, Any]], Any], most: int, home: str) -> None:
        """Start with nothing."""
        self._ask, self._most, self._home = ask, most, home
        self._tools: list[str] = []
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a piece of code.

        Args:
            request: `code`, `variables`, `literals` (variables as Python), `tools` and `outputs` (the fields of SUBMIT;
                None: one value).

        Returns:
            A message: `result`, `final`, `syntax` or `error`.
        """
        for name in self._tools:
            self._names.pop(name, None)
        self._tools = request["tools"]
        self._names.update(request["variables"])
        self._names.update({name: ast.literal_eval(text) for name, text in request["literals"].items()})
        self._names.update({name: self._tool(name) for name in self._tools})
        self._names.update(__builtins__=dict(vars(builtins)), SUBMIT=_submit(request["outputs"]))
        os.chdir(self._home)
        screen = _Screen(self._most)
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = screen
        try:
            answer = self._run(request["code"])
        except Submitted as done:
            answer = self._given("final", done.value)
        except SyntaxError as error:
            answer = {"type": "syntax", "error": str(error)}
        except BaseException as error:
            answer = {"type": "error", "error": told(error)}
        finally:
            sys.stdout, sys.stderr = before
        return {**answer, "printed": screen.text()}

    def _run(self, code: str) -> dict[str, Any]:
        try:
            tree = ast.parse(code, FILE)
        except (RecursionError, MemoryError, ValueError) as error:  # nested too deeply, or with a null in it
            raise SyntaxError(str(error)) from None
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, FILE, "exec"), self._names)  # noqa: S102 - it is what this process is for
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), FILE, "eval"), self._names)  # noqa: S307 - the same
        return self._given("result", value)

    def _given(self, kind: str, value: Any) -> dict[str, Any]:
        try:
            told, length = jsonable(value)
        except BaseException as error:  # a __repr__ may do anything, and memory may end
            return {"type": "error", "error": f"its result cannot be told: {type(error).__name__}"}
        if length > self._most:
            return {"type": "error", "error": f"too much output: the result has {length:,} characters"}
        return {"type": kind, "value": told}

    def _tool(self, name: str) -> Callable[..., Any]:
        def tool(*args: Any, **kwargs: Any) -> Any:
            return self._ask(name, args, kwargs)

        tool.__name__ = name
        return tool


def _submit(outputs: Sequence[str] | None) -> Callable[..., None]:
    """Return SUBMIT: with one value, or with those of the output fields."""

    def submit(*args: Any, **kwargs: Any) -> None:
        if outputs is None:
            if len(args) + len(kwargs) != 1:
                raise TypeError("SUBMIT takes one value")
            raise Submitted({"output": args[0] if args else next(iter(kwargs.values()))})
        values = {**dict(zip(outputs, args, strict=False)), **kwargs}
        if len(args) > len(outputs) or set(values) != set(outputs) or len(args) + len(kwargs) != len(outputs):
            raise TypeError(f"SUBMIT takes {', '.join(outputs)}")
        raise Submitted(values)

    submit.__name__ = "SUBMIT"
    return submit


def jsonable(value: Any) -> tuple[Any, int]:
    """Return a value as it is where JSON has a form for it, else in words; and how long that is."""
    try:
        return value, len(json.dumps(value, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        words = repr(value)
        return words, len(words)


def told(error: BaseException) -> str:
    """Return an error in words, with the line of the code where it came up."""
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except BaseException:  # its own __str__ may do anything
        text = type(error).__name__
    if isinstance(error, TooMuch):
        return f"too much output: {error}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    return f"{text} (line {lines[-1]})" if lines else text
