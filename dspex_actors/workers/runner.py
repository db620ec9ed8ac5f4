"""What a worker does with one example of a run: call the program, score the prediction, never raise.

A kind of run (`runs.spec.KINDS`) has one `Runner` class. It is made once per worker and run, and used for hundreds of
examples at the same time.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from dspex_actors.data.fields import unpack_example
from dspex_actors.errors import OURS, ConfigError, DspexError, LMError, RateLimited
from dspex_actors.example import Example
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.codec import HoldsObjects, to_plain
from dspex_actors.foundation.error_context import context_of
from dspex_actors.foundation.limits import Limit
from dspex_actors.foundation.operation import Operation, note_error
from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.attempts import Ledger, opened, out_of_time
from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.lm.reply import CUT
from dspex_actors.lm.worker.retry import passes
from dspex_actors.runs.spec import KINDS, Job
from dspex_actors.runs.work import Again, Result

#: The path of an error that an example's LM has raised: the example, the program, the LM.
_OBVIOUS = 3
#: HTTP status of a limit on speed: a call that waited for it until its deadline has it too.
_TOO_MANY = 429


class Runner(Protocol):
    """Does the work of one kind of run."""

    def __init__(self, job: Job) -> None:
        """Open the job's code."""

    async def attempt(self, example: Example) -> Result:
        """Do one example; errors may be raised. Which example it was, and what it took, `run_example` fills in."""
        ...


async def open_runner(job: Job) -> Runner:
    """Return the runner for a job; its code is opened in a thread: nobody knows what that does.

    Raises:
        ConfigError: as `make_runner`.
    """
    runner: Runner = await in_thread(lambda: make_runner(job))
    return runner


def make_runner(job: Job) -> Runner:
    """Return the runner for a job.

    Raises:
        ConfigError: its kind is unknown, or its code cannot be opened here.
    """
    kind = KINDS.get(job.kind)
    if kind is None:
        raise ConfigError(f"the kind of a run is one of {', '.join(KINDS)}; got {job.kind!r}")
    try:
        runner: Runner = kind.open_runner()(job)
    except DspexError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the program or metric cannot be opened in a worker: {type(error).__name__}: {_text(error)}"
        ) from None
    return runner


async def run_example(
    runner: Runner,
    payload: bytes,
    ledger: Ledger | None = None,
    run_id: str = "",
    is_recorded: bool = False,
    here: Operation | None = None,
) -> Result:
    """Do one example, as an operation of its own with the correlation id `run_id/index`.

    Args:
        runner: of its run.
        payload: the packed example.
        ledger: says which example it is and how long it may take, and gets its requests; None: a fresh one, without
            end.
        run_id: the run.
        is_recorded: whether events are made of it, see `Operation`.
        here: instead of the last two, the operation that it is.
    """
    ledger = Ledger() if ledger is None else ledger
    started = time.perf_counter()
    limit = Limit(ledger.deadline)
    here = here or Operation("example", None, None, f"{run_id}/{ledger.index}", is_recorded, "example")
    async with opened(ledger):
        with here:
            try:
                result = await _attempt(runner, payload)
            except LoopBlocked as error:
                result = failed(ConfigError(str(error)))
            except asyncio.CancelledError as error:
                if limit.has_ended_it():
                    result = failed(out_of_time(ledger.deadline))
                elif limit.task.cancelling():
                    raise  # the run was dropped here
                else:
                    # The program cancelled something of its own and awaited it: an error of this example.
                    result = failed(error)
            except BaseException as error:  # KeyboardInterrupt too: no signal comes to a worker as one
                if isinstance(error, GeneratorExit) and not _runs(limit.task):
                    raise  # the loop is closed, and nobody's code has raised it
                result = failed(error)
            finally:
                limit.lift()
    if ledger.refused is not None:
        # Whatever its program made of it: without that request it has no result, and gets one with more money.
        result = failed(ledger.refused)
        result.again = "free"
    result.index, result.send = ledger.index, ledger.send
    result.latency = time.perf_counter() - started
    result.attempts = list(ledger.attempts)
    return result


def _runs(task: asyncio.Task[Any]) -> bool:
    """Whether a task is the one that runs now."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False


async def _attempt(runner: Runner, payload: bytes) -> Result:
    try:
        inputs, labels = unpack_example(payload, objects="refuse")
    except HoldsObjects:
        inputs, labels = await in_thread(lambda: unpack_example(payload, objects="load"))
    return await runner.attempt(Example(**inputs, **labels).with_inputs(*inputs))


def failed(error: BaseException) -> Result:
    """Return the result of an example that failed."""
    failure, again = verdict_of(error)
    return Result(error=row_record(error), failure=failure, again=again)


def finish_reason_of(calls: Iterable[Any]) -> str | None:
    """Return why the answer of a program ended: `length` if any reply was cut, else what its last reply says."""
    reasons = [getattr(reply, "finish_reason", None) for reply in calls]
    return CUT if CUT in reasons else reasons[-1] if reasons else None


def cached_of(calls: Sequence[Any]) -> str | None:
    """Return which cache a program's answers came from: that of its last reply; None where an LM was asked for any."""
    found = [getattr(reply, "cached", None) for reply in calls]
    return found[-1] if found and all(found) else None


def verdict_of(error: BaseException) -> tuple[str | None, Again]:
    """Return the name of our class that an error is of (None: it is no error of ours), and whether to try again.

    Tried again is what an LM could not answer for the moment. What the program or the adapter says, a refusal, an
    answer that was cut: it would be the same again, and paid again.
    """
    failure = next((cls.__name__ for cls in type(error).__mro__ if cls in OURS), None)
    if not isinstance(error, LMError) or not passes(error):
        return failure, "no"
    slow = isinstance(error, RateLimited) or error.status == _TOO_MANY
    return failure, "free" if slow else "yes"


def error_record(error: BaseException) -> dict[str, Any]:
    """Return an error as plain data; a foreign one with the last lines of its traceback, keys scrubbed.

    Whatever a program raises can be sent and written down: halves of surrogate pairs, which JSON text may hold, are
    written out, and what is no plain data becomes text.
    """
    note_error(error)
    if isinstance(error, DspexError):
        record = _writable(to_plain(error.to_record()))
        record["message"] = scrub(str(record["message"]))
        return dict(record)
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)[-3:]
    except Exception:
        lines = []  # its own __str__ may raise
    record = {
        "type": type(error).__name__,
        "message": _text(error)[:2000],
        "traceback": scrub(_writable("".join(lines)))[-2000:],
    }
    context = context_of(error)
    return record if context is None else {**record, "context": dict(context)}


def row_record(error: BaseException) -> dict[str, Any]:
    """Return the error of an example as `error_record` does, for a row of many.

    Its context is there only where it says more than run, index, program and LM do.
    """
    record = error_record(error)
    context = record.get("context")
    if context is not None:
        has_notes = any(context.get(kind) for kind in ("breadcrumbs", "trace", "metadata"))
        if not has_notes and len(context["path"]) <= _OBVIOUS:
            del record["context"]
    return record


def _text(error: BaseException) -> str:
    try:
        return scrub(str(_writable(str(error))))
    except Exception as broken:
        return f"(its text cannot be had: {type(broken).__name__})"


def _writable(value: Any) -> Any:
    """Return plain data without halves of surrogate pairs, and with numbers that JSON can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, dict):
        return {str(_writable(name)): _writable(item) for name, item in value.items()}
    return [_writable(item) for item in value] if isinstance(value, list) else value
