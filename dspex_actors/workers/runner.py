"""What a worker does with one example of a run: call the program, score the prediction, never raise.

A kind of run (`runs.spec.KINDS`) has one `Runner` class. It is made once per worker and run, and used for hundreds of
examples at the same time.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_actors.data.fields import unpack_example
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.example import Example
from dspex_actors.foundation.codec import to_plain
from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.lm.keys import scrub
from dspex_actors.lm.usage import Usage
from dspex_actors.runs.spec import KINDS, Job
from dspex_actors.settings import record_calls


@dataclass(slots=True)
class Outcome:
    """What became of one example.

    Args:
        prediction: packed fields of the prediction (for a bootstrap, of its trace); None when it failed.
        score: what the metric said.
        success: whether it counts as a success for a stop rule.
        error: the error's record.
    """

    prediction: bytes | None = None
    score: float | None = None
    success: bool = False
    error: dict[str, Any] | None = None


class Runner(Protocol):
    """Does the work of one kind of run."""

    def __init__(self, job: Job) -> None:
        """Open the job's code."""

    async def attempt(self, example: Example) -> Outcome:
        """Do one example; errors may be raised."""
        ...


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


async def run_example(runner: Runner, payload: bytes) -> list[Any]:
    """Do one example and return (prediction, score, error, latency, usage, asked, cost, success)."""
    started = time.perf_counter()
    with record_calls() as calls:
        try:
            inputs, labels = unpack_example(payload, trusted=True)
            outcome = await runner.attempt(Example(**inputs, **labels).with_inputs(*inputs))
        except (Exception, SystemExit) as error:
            outcome = Outcome(error=error_record(error))
        except LoopBlocked as error:
            outcome = Outcome(error=error_record(ConfigError(str(error))))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the run was dropped here
            # The program cancelled something of its own and awaited it: an error of this example.
            outcome = Outcome(error=error_record(error))
    usage, cost = Usage(), 0.0
    asked, priced = calls.in_vain, True
    for reply in calls:
        usage = usage + reply.usage
        asked += reply.asked
        if reply.cost is None:
            priced = False
        else:
            cost += reply.cost
    latency = time.perf_counter() - started
    return [
        outcome.prediction,
        outcome.score,
        outcome.error,
        latency,
        usage.to_dict() if calls else None,
        asked,
        cost if priced else None,
        outcome.success,
    ]


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
