"""What a worker does with one example of a run: call the program, score the prediction, never raise.

A kind of run (`runs.spec.KINDS`) has one `Runner` class. It is made once per worker and run, and used for hundreds of
examples at the same time.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_actors.data.fields import unpack_example
from dspex_actors.errors import OURS, ConfigError, DspexError, LMError, RateLimited
from dspex_actors.example import Example
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.codec import HoldsObjects, to_plain
from dspex_actors.lm.attempts import Ledger, opened, out_of_time
from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.lm.keys import scrub
from dspex_actors.lm.reply import CUT
from dspex_actors.lm.worker.retry import passes
from dspex_actors.runs.spec import KINDS, Job
from dspex_actors.runs.work import Again, Result

#: HTTP status of a limit on speed: a call that waited for it until its deadline has it too.
_TOO_MANY = 429


@dataclass(slots=True)
class Outcome:
    """What became of one example.

    Args:
        prediction: packed fields of the prediction (for a bootstrap, of its trace); None when it failed.
        score: what the metric said.
        success: whether it counts as a success for a stop rule.
        error: the error's record.
        failure: name of our error's class; None for an error that is none of ours.
        again: whether another attempt may mend the failure.
        extra: packed dict of what there is beside the prediction; None: nothing.
        finish_reason: why the program's answer ended, see `finish_reason_of`.
    """

    prediction: bytes | None = None
    score: float | None = None
    success: bool = False
    error: dict[str, Any] | None = None
    failure: str | None = None
    again: Again = "no"
    extra: bytes | None = None
    finish_reason: str | None = None


class Runner(Protocol):
    """Does the work of one kind of run."""

    def __init__(self, job: Job) -> None:
        """Open the job's code."""

    async def attempt(self, example: Example) -> Outcome:
        """Do one example; errors may be raised."""
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
    runner: Runner, payload: bytes, index: int = 0, send: int = 1, ledger: Ledger | None = None
) -> Result:
    """Do one example.

    Args:
        runner: of its run.
        payload: the packed example.
        index: the example's place in the dataset, from 0.
        send: the number of its sending.
        ledger: gets its requests, and says how long it may take; None: a fresh one, without end.
    """
    ledger = Ledger() if ledger is None else ledger
    started = time.perf_counter()
    limit = _Limit(ledger.deadline)
    async with opened(ledger):
        try:
            outcome = await _attempt(runner, payload)
        except LoopBlocked as error:
            outcome = failed(ConfigError(str(error)))
        except asyncio.CancelledError as error:
            if limit.has_ended_it():
                outcome = failed(out_of_time(ledger.deadline))
            elif limit.task.cancelling():
                raise  # the run was dropped here
            else:
                # The program cancelled something of its own and awaited it: an error of this example.
                outcome = failed(error)
        except GeneratorExit:
            raise  # the loop is closed
        except BaseException as error:  # KeyboardInterrupt too: no signal comes to a worker as one
            outcome = failed(error)
        finally:
            limit.lift()
    return Result(
        index=index,
        send=send,
        prediction=outcome.prediction,
        score=outcome.score,
        success=outcome.success,
        error=outcome.error,
        failure=outcome.failure,
        again=outcome.again,
        latency=time.perf_counter() - started,
        extra=outcome.extra,
        finish_reason=outcome.finish_reason,
        attempts=list(ledger.attempts),
    )


async def _attempt(runner: Runner, payload: bytes) -> Outcome:
    try:
        inputs, labels = unpack_example(payload, objects="refuse")
    except HoldsObjects:
        inputs, labels = await in_thread(lambda: unpack_example(payload, objects="load"))
    return await runner.attempt(Example(**inputs, **labels).with_inputs(*inputs))


class _Limit:
    """Cancels what takes longer than so many seconds; a thread that cannot be ended is left alone.

    It is `asyncio.timeout` without what is not needed here, for it is made for every example.
    """

    __slots__ = ("_is_over", "_timer", "task")

    def __init__(self, seconds: float | None) -> None:
        """Begin."""
        self._is_over = False
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self._is_over = True
        self.task.cancel()

    def has_ended_it(self) -> bool:
        """Tell, once, whether it is this limit alone that has cancelled the task."""
        was_over, self._is_over = self._is_over, False
        return was_over and self.task.uncancel() == 0

    def lift(self) -> None:
        """Let it be; a task that did not heed it goes on as one that nobody has cancelled."""
        if self._timer is not None:
            self._timer.cancel()
        self.has_ended_it()


def failed(error: BaseException) -> Outcome:
    """Return the outcome of an example that failed."""
    failure, again = verdict_of(error)
    return Outcome(error=error_record(error), failure=failure, again=again)


def finish_reason_of(calls: Iterable[Any]) -> str | None:
    """Return why the answer of a program ended: `length` if any reply was cut, else what its last reply says."""
    reasons = [getattr(reply, "finish_reason", None) for reply in calls]
    return CUT if CUT in reasons else reasons[-1] if reasons else None


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
    if isinstance(error, DspexError):
        record = _writable(to_plain(error.to_record()))
        record["message"] = scrub(str(record["message"]))
        return dict(record)
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)[-3:]
    except Exception:
        lines = []  # its own __str__ may raise
    return {
        "type": type(error).__name__,
        "message": _text(error)[:2000],
        "traceback": scrub(_writable("".join(lines)))[-2000:],
    }


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
