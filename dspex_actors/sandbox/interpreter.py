"""`PythonInterpreter`: runs code that an LM has written, where it can do no harm."""

from __future__ import annotations

import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Protocol, runtime_checkable

from dspex_actors.foundation.bridge import is_async, is_bridged, on_background_loop
from dspex_actors.foundation.callbacks import heard
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.late import TIMEOUT, limited
from dspex_actors.foundation.operation import part
from dspex_actors.sandbox.checks import (
    NO_VARIABLES,
    REQUIRED,
    checked_tools,
    checked_variables,
    listed,
    names_of,
    readable,
    required,
    seconds,
)
from dspex_actors.sandbox.errors import CodeExecutionError, CodeInterpreterError
from dspex_actors.settings import settings

#: Seconds that code which is run first may take: it is the user's, and no LM can mend it.
_PRELUDE_SECONDS = 60.0
#: Characters of an error that an LM is shown.
_MOST_TOLD = 4000
#: Kinds of interpreters that are known to start.
_MOST_PROVEN = 1000


class FinalOutput:
    """What `execute` returns when the code has called SUBMIT.

    Args:
        output: what it submitted: `{"output": value}`, or by name where the interpreter has output fields.
    """

    def __init__(self, output: Any) -> None:
        """Keep it."""
        self.output = output

    def __repr__(self) -> str:
        """Show it."""
        return f"FinalOutput({self.output!r})"

    def __eq__(self, other: object) -> bool:
        """Compare what was submitted."""
        return self.output == other.output if isinstance(other, FinalOutput) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


@runtime_checkable
class CodeInterpreter(Protocol):
    """What runs code for ProgramOfThought and CodeAct; DSPy's, so that one of its interpreters does too."""

    @property
    def tools(self) -> Mapping[str, Callable[..., Any]]:
        """Functions of the host's that code may call, by name."""

    def start(self) -> None:
        """Get ready; `execute` does it where nobody has."""

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run code; variables stay until `shutdown`.

        Returns:
            A FinalOutput, the value of its last expression, what it printed, or None.

        Raises:
            CodeExecutionError: the code has failed; better code may not.
            SyntaxError: it is no Python.
            CodeInterpreterError: something else has.
        """

    def shutdown(self) -> None:
        """End it."""


class PythonInterpreter:
    """Run code in a child process that can reach nothing but a scratch folder.

        with dspex.PythonInterpreter() as python:
            python("x = 6 * 7")
            python("x + 1")      # 43

    What holds on Linux, without root: no network; no other processes or threads, no signals to any, no debugging; no
    file can be read but Python's own and its packages', none written but those of a scratch folder, which goes with
    it; nothing of this process's environment, memory and open files is there; memory, CPU time, time, disk and output
    have limits. Namespaces, Landlock, seccomp and resource limits do it; each is used where it is there, and
    `protections` says which. A host where a part of `require` has no protection runs nothing.

    The child is killed when the interpreter is shut down, when its code takes too long, and when this process dies,
    however it dies. Code that was stopped is an error that an LM can learn from; the next piece runs in a new child,
    without the variables of those before.

    Args:
        deno_command: accepted as DSPy accepts it; there is no Deno here.
        enable_read_paths: files and folders that code may read, at the same place.
        enable_write_paths: refused: it writes to its scratch folder.
        enable_env_vars: names of environment variables that code may see.
        enable_network_access: refused: there is none; a tool can fetch what it may have.
        sync_files: accepted as DSPy accepts it.
        tools: functions of yours that code may call by name, sync or async. They run here, with your rights: take what
            they are given for what a stranger has written.
        output_fields: the fields of SUBMIT, each a dict with its `name`; None: SUBMIT takes one value.
        callbacks: who hears of it, beside those of the settings.
        timeout: seconds that a piece of code may take; time in tools does not count.
        cpu: seconds of CPU time that all of its code may take.
        memory: bytes of address space.
        disk: bytes that it may write.
        output: characters that a piece of code may print, and that its result may have.
        require: what has to be protected: some of network, files, processes, memory. An empty list: run it all the
            same, on macOS for example; use that for code that you trust.
        prelude: code that is run first, in each new child.
        tool_timeout: seconds that a tool may take, then the code gets an error. None: 120 in async code and in workers;
            in a sync call a tool runs in the caller's own thread, as long as it likes.

    Raises:
        ConfigError: a setting is not usable.
    """

    def __init__(
        self,
        deno_command: Any = None,
        enable_read_paths: Iterable[str | os.PathLike[str]] | None = None,
        enable_write_paths: Any = None,
        enable_env_vars: Iterable[str] | None = None,
        enable_network_access: Any = None,
        sync_files: bool = True,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        output_fields: Sequence[Mapping[str, Any]] | None = None,
        callbacks: Sequence[Any] | None = None,
        *,
        timeout: float = 30.0,
        cpu: int = 60,
        memory: int = 512 << 20,
        disk: int = 64 << 20,
        output: int = 100_000,
        require: Iterable[str] = REQUIRED,
        prelude: Sequence[str] = (),
        tool_timeout: float | None = None,
    ) -> None:
        """Take note of it; the child starts with the first code."""
        for name, value in (
            ("enable_write_paths", enable_write_paths),
            ("enable_network_access", enable_network_access),
        ):
            if value:
                raise ConfigValueError(
                    f"{name} is invalid: got {value!r:.80}, expected nothing: code has a scratch folder, no network; "
                    "give it a function of yours instead, tools={...}"
                )
        self.timeout = seconds("timeout", timeout)
        self.tool_timeout = None if tool_timeout is None else seconds("tool_timeout", tool_timeout)
        self.cpu, self.memory = whole("cpu", cpu, 1), whole("memory", memory, 64 << 20)
        self.disk, self.output = whole("disk", disk, 4096), whole("output", output, 1)
        self.require = required(require)
        self.read_paths = [readable(each) for each in listed("enable_read_paths", enable_read_paths)]
        self.env_vars = [str(name) for name in listed("enable_env_vars", enable_env_vars)]
        self.tools = checked_tools(tools or {})
        self.output_fields = None if output_fields is None else [dict(field) for field in output_fields]
        self._outputs = None if output_fields is None else names_of("output_fields", self.output_fields or [])
        self.callbacks = list(callbacks or [])
        self.prelude = list(prelude)
        self._new()

    #: What was started in this process: what had to be protected, and the code that comes first.
    _proven: ClassVar[set[tuple[frozenset[str], tuple[str, ...]]]] = set()
    #: Parts of the host that are not used; for tests.
    _without: tuple[str, ...] = ()

    def _new(self) -> None:
        self._child: Any = None
        self._busy = threading.Lock()
        self._is_over = False

    def __getstate__(self) -> dict[str, Any]:
        """Travel, and be copied, without the child: each has its own."""
        return {
            name: value
            for name, value in vars(self).items()
            if name not in ("_child", "_busy", "_is_over", "callbacks")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive."""
        vars(self).update(state, callbacks=[])
        self._new()

    @property
    def protections(self) -> dict[str, list[str]] | None:
        """What keeps network, files, processes and memory safe: by name the parts that do; None: not started yet."""
        return None if self._child is None else dict(self._child.report["by"])

    @property
    def lacks(self) -> dict[str, str] | None:
        """What this host does not have, and why; None: not started yet."""
        return None if self._child is None else dict(self._child.report["lacks"])

    def start(self) -> None:
        """Start the child, where there is none yet.

        Raises:
            CodeInterpreterError: it cannot be started, the host cannot keep safe what is required, or the interpreter
                was shut down.
        """
        if self._is_over:
            raise CodeInterpreterError("the interpreter was shut down; make a new one")
        if self._child is None:
            self._heard("startup", {}, self._start)

    def _start(self) -> None:
        from dspex_actors.sandbox.process import Child, Gone

        walls = {
            "read": self.read_paths,
            "memory": self.memory,
            "cpu": self.cpu,
            "disk": self.disk,
            "without": list(self._without),
        }
        environment = {name: os.environ[name] for name in self.env_vars if name in os.environ}
        try:
            child = Child(walls, self.output, environment)
        except (OSError, Gone) as error:
            raise CodeInterpreterError(f"no interpreter can be started: {error}") from None
        by, lacks = child.report["by"], child.report["lacks"]
        if missing := [name for name in self.require if not by[name]]:
            child.end()
            why = "; ".join(f"{part}: {reason}" for part, reason in lacks.items())
            raise CodeInterpreterError(
                f"code is not run: this host cannot keep {' and '.join(missing)} safe from it ({why}); code that you "
                "trust runs all the same with PythonInterpreter(require=[])"
            )
        self._child = child
        for code in self.prelude:
            try:
                self._run(code, NO_VARIABLES, max(self.timeout, _PRELUDE_SECONDS))
            except (CodeExecutionError, SyntaxError) as error:
                self._end_child()
                raise CodeInterpreterError(f"the code that comes first does not run: {error}") from error
        if len(self._proven) >= _MOST_PROVEN:
            self._proven.clear()
        self._proven.add(self._kind())

    def _kind(self) -> tuple[frozenset[str], tuple[str, ...]]:
        return frozenset(self.require), tuple(self.prelude)

    @property
    def is_proven(self) -> bool:
        """Whether one like it was started in this process: the host protects what is required, and its code runs."""
        return self._kind() in self._proven

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run code; its variables stay for the next.

        Args:
            code: Python.
            variables: by name, set before: JSON data, sets, pydantic models, dates and the like.

        Returns:
            A FinalOutput where it called SUBMIT, else the value of its last expression, else what it printed, else
            None. What JSON has no form for is a text, its `repr`.

        Raises:
            CodeExecutionError: it raised, took too long, or too much.
            SyntaxError: it is no Python.
            CodeInterpreterError: the interpreter is at work already, or cannot be started; a variable cannot be given
                to it (a ConfigError, too).
        """
        if not isinstance(code, str):
            raise ConfigTypeError(f"code is invalid: got {code!r:.80}, expected a text")
        given = checked_variables({} if variables is None else variables, self.tools)
        if not self._busy.acquire(blocking=False):
            raise CodeInterpreterError("the interpreter is running other code: use one for each thread")
        try:
            with part("python", "tool", {"code": code}) as op:
                inputs = {"code": code, "variables": variables}
                op.outputs = answer = self._heard("execute", inputs, lambda: self._execute(code, given))
            return answer
        finally:
            self._busy.release()

    __call__ = execute

    def _execute(self, code: str, variables: dict[str, Any]) -> Any:
        self.start()
        return self._run(code, variables, self.timeout)

    def _run(self, code: str, variables: dict[str, Any], limit: float) -> Any:
        from dspex_actors.sandbox.process import Gone, Late

        child = self._child
        deadline = time.monotonic() + limit
        request = {"type": "run", "code": code, **variables, "tools": list(self.tools)}
        try:
            child.send({**request, "outputs": self._outputs}, deadline)
            while (answer := child.receive(deadline))["type"] == "tool":
                began = time.monotonic()
                reply = self._used(answer)
                deadline += time.monotonic() - began
                child.send(reply, deadline)
        except Late:
            self._lost(f"the code did not end within {limit:g} s and was stopped")
        except Gone as error:
            if self._is_over:
                raise CodeInterpreterError("the interpreter was shut down while its code ran") from None
            self._lost(f"the code was stopped: {error}")
        except BaseException:
            self._end_child()
            raise
        return _given(answer)

    def _lost(self, why: str) -> NoReturn:
        self._end_child()
        raise CodeExecutionError(f"{why}; variables of earlier code are gone") from None

    def _used(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool as code asks, and say what came of it."""
        name, args, kwargs = request.get("name"), request.get("args"), request.get("kwargs")
        try:
            if name not in self.tools or not isinstance(args, list) or not isinstance(kwargs, dict):
                raise CodeInterpreterError(f"there is no tool {name!r:.80}")
            inputs = {"tool_name": name, "args": args, "kwargs": kwargs}
            value = self._heard("tool_call", inputs, lambda: self._call(name, args, kwargs))
            json.dumps(value, allow_nan=False)
        except (Exception, SystemExit) as error:
            return {"type": "tool_error", "error": f"{type(error).__name__}: {error}"[:_MOST_TOLD]}
        return {"type": "tool_result", "value": value}

    def _call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        tool = self.tools[name]
        limit = self.tool_timeout if self.tool_timeout is not None else TIMEOUT if is_bridged() else None
        if limit is None:
            return _awaited(tool(*args, **kwargs))
        return on_background_loop(lambda: limited(name, lambda: tool(*args, **kwargs), is_async(tool), limit))

    def _heard(self, what: str, inputs: dict[str, Any], call: Callable[[], Any]) -> Any:
        callbacks = settings.heard_by(self.callbacks)
        return heard(callbacks, f"interpreter_{what}", self, inputs, call) if callbacks else call()

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def shutdown(self) -> None:
        """End it: its child is killed, whatever it does. Again, and from any thread."""
        if not self._is_over:
            self._is_over = True
            self._heard("shutdown", {}, self._end_child)

    def __enter__(self) -> PythonInterpreter:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.shutdown()

    def __del__(self) -> None:
        """End what nobody has ended."""
        child = vars(self).get("_child")
        if child is not None:
            child.end()


def _given(answer: Mapping[str, Any]) -> Any:
    """Return what an answer of the child says. Code may have written it itself, and then it is its own to blame."""
    kind, error = answer["type"], str(answer.get("error"))[:_MOST_TOLD]
    if kind == "final":
        return FinalOutput(answer.get("value"))
    if kind == "result":
        value = answer.get("value")
        return value if value is not None else str(answer.get("printed") or "") or None
    if kind == "syntax":
        raise SyntaxError(error)
    raise CodeExecutionError(error)


def _awaited(answer: Any) -> Any:
    if inspect.iscoroutine(answer):
        return on_background_loop(lambda: answer)
    return answer
