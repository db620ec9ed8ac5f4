"""What tasks are started with and what their ends mean, for tasks/outside.py (outside) and tasks/inside.py (inside)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

from supervisors.tasks.server import TaskServer
from supervisors.tasks.stream_core import Outcome, StreamOptions
from supervisors.terms.errors import CallFailed, NodeDown, ServerExited, SpecError, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, Shutdown
from supervisors.wire import pickles as sealing


def seal_function(function: Callable[..., Any]) -> bytes:
    """Return a function as bytes.

    Raises:
        SpecError: not a function, or one that cannot be sent.
    """
    if not callable(function):
        raise SpecError(f"function={function!r:.100}: expected a function")
    try:
        return sealing.dumps(function)
    except Exception as error:
        raise SpecError(f"function={function!r:.100}: it cannot be sent: {error}") from None


def task_spec(
    function: bytes | None, label: str, *rest: Any, restart: str = "temporary", shutdown: Shutdown = None
) -> ChildSpec:
    """Return the sealed spec of a task.

    Args:
        function: sealed; None for a process that takes functions one after the other.
        label: the child's id in reports.
        *rest: what `TaskServer.init` takes after the function.
        restart: temporary, transient or permanent.
        shutdown: None - what the task supervisor says.

    Raises:
        SpecError: arguments that cannot be sent, or a restart or shutdown that is not legal.
    """
    spec = ChildSpec(label, TaskServer, (function, *rest), restart=restart, shutdown=shutdown)
    try:
        return sealing.seal(spec)  # type: ignore[no-any-return]
    except Exception as error:
        raise SpecError(f"the arguments of task {label!r} cannot be sent: {error}") from None


def label_of(function: Any) -> str:
    """Return what a task is called in reports."""
    return str(getattr(function, "__qualname__", "")) or type(function).__qualname__


def outcome_of(error: BaseException) -> Outcome:
    """Return the exit that a failed claim stands for.

    Raises:
        BaseException: `error` itself, where it says nothing about the task.
    """
    if isinstance(error, CallFailed):
        return "exit", ExitReason.crash(error)
    if isinstance(error, SupervisorsError):
        return "exit", error.reason or ExitReason("nodedown" if isinstance(error, NodeDown) else "noproc")
    raise error


def raise_exit(label: str, ref: Ref, reason: ExitReason) -> NoReturn:
    """Raise that a task has ended without a result.

    Raises:
        ServerExited: always.
    """
    raise ServerExited(f"await of task {label} {ref}: it ended: {reason}", reason=reason, ref=ref)


def stream_options(options: dict[str, Any], linked: bool) -> StreamOptions:
    """Return what a stream was given by name, checked.

    Raises:
        SpecError: names the option.
    """
    known = ("max_concurrency", "ordered", "timeout", "on_timeout", "zip_input_on_exit", "reuse")
    for name in options:
        if name not in known:
            raise SpecError(f"{name}={options[name]!r}: expected one of {', '.join(known)}, shutdown")
    rest = {name: value for name, value in options.items() if name != "max_concurrency"}
    return StreamOptions(cpus(options.get("max_concurrency")), linked=linked, **rest)


def cpus(given: Any) -> Any:
    """Return `given`, or the number of CPUs here for None."""
    return (os.cpu_count() or 1) if given is None else given
