"""What tasks are started with and what their ends mean, for tasks/outside.py and tasks/inside.py alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NoReturn, TypedDict

from supervisors.tasks.server import TaskServer
from supervisors.tasks.stream_core import Outcome, StreamOptions
from supervisors.terms.checks import Shutdown, check_function, check_shutdown
from supervisors.terms.errors import CallFailed, NodeDown, ServerExited, SpecError, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SealedStart
from supervisors.wire import pickles
from supervisors.wire.envelope import load_here


def seal_function(function: Callable[..., Any]) -> bytes:
    """Return a function as bytes.

    Raises:
        SpecError: not a function, or one that cannot be sent.
    """
    check_function("function", function)
    try:
        return pickles.dumps(function)
    except Exception as error:
        raise SpecError.of("function", function, f"one that can be sent ({error})") from None


def task_spec(
    function: bytes | None, label: str, *rest: Any, restart: str = "temporary", shutdown: Shutdown = None
) -> ChildSpec:
    """Return the sealed spec of a task.

    Args:
        function: sealed; None for a process that takes functions one after the other.
        label: the child's id in reports.
        *rest: what `TaskServer.init` takes after the function and what is carried here: a task that is restarted has
            what it was started with.
        restart: temporary, transient or permanent.
        shutdown: None - what the task supervisor says.

    Raises:
        SpecError: arguments that cannot be sent, or a restart or shutdown that is not legal.
    """
    try:
        args = (pickles.seal_args((function, load_here(), *rest)),)
    except Exception as error:
        raise SpecError(f"the arguments of task {label!r} cannot be sent: {error}") from None
    return ChildSpec(label, _start(), args, restart=restart, shutdown=shutdown)


@cache
def _start() -> SealedStart:
    """Return TaskServer as bytes: made once, and not for each task."""
    return SealedStart(pickles.dumps(TaskServer), f"{TaskServer.__module__}.{TaskServer.__qualname__}")


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


class StreamKeywords(TypedDict, total=False):
    """The options of `async_stream`, which `TaskSupervisor.async_stream` explains."""

    max_concurrency: int | None
    ordered: bool
    timeout: float | None
    on_timeout: str
    zip_input_on_exit: bool
    reuse: bool
    shutdown: Shutdown


def stream_options(options: StreamKeywords, linked: bool) -> tuple[StreamOptions, Shutdown]:
    """Return what a stream was given by name, checked; and how its tasks are stopped by others.

    Raises:
        SpecError: names the option.
    """
    known = StreamKeywords.__annotations__
    for name, value in options.items():
        if name not in known:
            raise SpecError.of(name, value, f"an option of a stream: {', '.join(known)}")
    given: dict[str, Any] = dict(options)
    shutdown = check_shutdown(given.pop("shutdown", None))
    most = given.pop("max_concurrency", None)
    return StreamOptions((os.cpu_count() or 1) if most is None else most, linked=linked, **given), shutdown


def stream_items(items: Iterable[Any]) -> Iterator[Any]:
    """Return the items of a stream, one after the other.

    Raises:
        SpecError: they are none: the function, say, which comes after them.
    """
    try:
        return iter(items)
    except TypeError:
        raise SpecError.of("items", items, "an iterable; then the function, and its further arguments") from None
