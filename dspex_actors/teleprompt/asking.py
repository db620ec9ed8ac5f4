"""Code that calls and waits, as a library's loop does, made a generator of steps: an optimiser like any other.

The code runs in a thread of its own and is held wherever it asks; what it asks for is yielded, and what came of it is
what its call returns. As long as it does the same whenever it is told the same, it is repeated after a kill as every
generator of steps is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from dspex_actors.teleprompt.steps import Step

T = TypeVar("T")
#: Who is given up and does not end in so many seconds is left alone: it is in code of the user's.
LEAVE_SECONDS = 10.0


class StepFailed(BaseException):
    """What was asked for failed: it passes every `except Exception` of the code that asked, which cannot go on.

    Args:
        error: why.
    """

    def __init__(self, error: BaseException) -> None:
        """Keep it."""
        super().__init__(str(error))
        self.error = error


class _GivenUp(BaseException):
    """Nobody waits for the code any more."""


def asking(code: Callable[[Callable[[Step], Any]], T]) -> Generator[Step, Any, T]:
    """Yield the steps that code asks for, one after the other, and return what it returns.

    Args:
        code: called in a thread, with the function by which it asks: `ask(step)` returns what the step came to. It is
            called by one thread at a time.

    Raises:
        BaseException: what the code raises, and what a step that failed was raised with.
    """
    asked: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    told: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def ask(step: Step) -> Any:
        asked.put(("step", step))
        what, value = told.get()
        if what == "failed":
            raise StepFailed(value)
        if what == "over":
            raise _GivenUp
        return value

    def run() -> None:
        try:
            value = code(ask)
        except StepFailed as failed:
            asked.put(("raised", failed.error))
        except BaseException as error:
            asked.put(("raised", error))
        else:
            asked.put(("returned", value))

    thread = threading.Thread(target=copy_context().run, args=(run,), name="optimiser", daemon=True)
    thread.start()
    try:
        what, value = asked.get()
        while what == "step":
            try:
                came = yield value
            except Exception as error:
                told.put(("failed", error))
            else:
                told.put(("came", came))
            what, value = asked.get()
    finally:
        told.put(("over", None))
        thread.join(LEAVE_SECONDS)
    if what == "raised":
        raise value
    return value  # type: ignore[no-any-return]
