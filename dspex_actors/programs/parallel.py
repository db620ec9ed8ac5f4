"""`Parallel`: programs and their inputs in threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from dspex_actors.errors import RunFailed
from dspex_actors.example import Example
from dspex_actors.foundation.bridge import in_thread, is_async
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.programs.at_once import Outcome, arun_at_once, run_at_once
from dspex_actors.settings import settings

_log = logging.getLogger(__name__)


class Parallel:
    """Run (program, inputs) pairs in threads, as DSPy's `Parallel`.

        triage = dspex.Predict("ticket -> team")
        results = dspex.Parallel(num_threads=4)([(triage, {"ticket": text}) for text in texts])

    Inputs are an Example (its inputs), a dict (arguments by name), a tuple (by place), or a list for another Parallel.
    Settings, operation and whoever watches are in each thread what they are here; the trace has the steps in the order
    of the pairs. Within a run `dspex.evaluate` is what spreads over workers; this is for the inside of a program.

    Unlike DSPy's it asks nothing twice: what takes long is a call with a deadline of its own (`dspex.LM`). It draws no
    bar, and its lists of failures are those of the last call.

    Args:
        num_threads: threads; 1: in this one. None: the setting (8).
        max_errors: with so many errors it gives up; None: the setting (10).
        access_examples: give an Example's inputs by name; False: give the Example.
        return_failed_examples: also return the inputs that failed, and their errors.
        provide_traceback: log errors with their tracebacks.
        disable_progress_bar: accepted as DSPy accepts it.
        timeout: accepted as DSPy accepts it, and so is `straggler_limit`.
        straggler_limit: see there.

    Raises:
        ConfigError: a number is none.
    """

    def __init__(
        self,
        num_threads: int | None = None,
        max_errors: int | None = None,
        access_examples: bool = True,
        return_failed_examples: bool = False,
        provide_traceback: bool | None = None,
        disable_progress_bar: bool = False,
        timeout: float = 120,
        straggler_limit: int = 3,
    ) -> None:
        """Check the numbers."""
        self.num_threads = settings.num_threads if num_threads is None else whole("num_threads", num_threads, 1)
        self.max_errors = settings.max_errors if max_errors is None else whole("max_errors", max_errors, 1)
        self.access_examples = access_examples
        self.return_failed_examples = return_failed_examples
        self.provide_traceback = provide_traceback
        self.disable_progress_bar = disable_progress_bar
        self.timeout = timeout
        self.straggler_limit = straggler_limit
        self.failed_examples: list[Any] = []
        self.exceptions: list[Exception] = []

    def __call__(self, exec_pairs: Iterable[Any], num_threads: int | None = None) -> Any:
        """Run them and wait for all.

        Args:
            exec_pairs: (program, inputs) pairs; a program may be any function.
            num_threads: for this call.

        Returns:
            The results in order, None for what failed; with `return_failed_examples` (results, inputs, errors).

        Raises:
            RunFailed: `max_errors` was reached; the last error is its cause.
        """
        return self.forward(exec_pairs, num_threads)

    def forward(self, exec_pairs: Iterable[Any], num_threads: int | None = None) -> Any:
        """Do what a call does."""
        pairs, threads = _pairs(exec_pairs), self._threads(num_threads)
        return self._results(pairs, run_at_once([partial(self._run, pair) for pair in pairs], threads, self.max_errors))

    async def acall(self, exec_pairs: Iterable[Any], num_threads: int | None = None) -> Any:
        """Do what a call does with tasks in place of threads, from inside an event loop."""
        pairs, threads = _pairs(exec_pairs), self._threads(num_threads)
        jobs = [partial(self._arun, pair) for pair in pairs]
        return self._results(pairs, await arun_at_once(jobs, threads, self.max_errors))

    def _threads(self, number: int | None) -> int:
        return self.num_threads if number is None else whole("num_threads", number, 1)

    def _run(self, pair: Any) -> Any:
        program, args, kwargs = self._call(pair)
        return program(*args, **kwargs)

    async def _arun(self, pair: Any) -> Any:
        program, args, kwargs = self._call(pair)
        acall = getattr(program, "acall", None) or (program if is_async(program) else None)
        if acall is not None:
            return await acall(*args, **kwargs)
        return await in_thread(lambda: program(*args, **kwargs))

    def _call(self, pair: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return whom to call, and with what."""
        program, given = pair
        if isinstance(given, Example):
            return (program, (), dict(given.inputs().items())) if self.access_examples else (program, (given,), {})
        if isinstance(given, dict):
            return program, (), given
        if isinstance(given, tuple):
            return program, given, {}
        if isinstance(given, list) and isinstance(program, Parallel):
            return program, (given,), {}
        raise ConfigValueError(
            f"the inputs of a pair are invalid: got {given!r:.100} ({type(given).__name__}), expected an Example, a "
            "dict, a tuple, or a list for a Parallel"
        )

    def _results(self, pairs: list[Any], outcomes: list[Outcome]) -> Any:
        failed = [place for place, outcome in enumerate(outcomes) if outcome.error is not None]
        for place in failed:
            error = outcomes[place].error
            _log.error("pair %d failed: %s: %s", place, type(error).__name__, error, exc_info=self._traceback(error))
        self.failed_examples = [pairs[place][1] for place in failed]
        self.exceptions = [error for place in failed if (error := outcomes[place].error) is not None]
        if len(failed) >= self.max_errors:
            last = self.exceptions[-1]
            raise RunFailed(
                f"{len(failed)} of {len(pairs)} pairs failed, which is max_errors={self.max_errors}; the last: "
                f"{type(last).__name__}: {last}"
            ) from last
        results = [outcome.value for outcome in outcomes]
        return (results, self.failed_examples, self.exceptions) if self.return_failed_examples else results

    def _traceback(self, error: Exception | None) -> Exception | None:
        return error if self.provide_traceback else None


def _pairs(given: Iterable[Any]) -> list[Any]:
    """Return the pairs, all of them checked before one is run."""
    if isinstance(given, str | bytes | dict) or not isinstance(given, Iterable):
        raise ConfigTypeError(f"exec_pairs is invalid: got {given!r:.100}, expected a list of (program, inputs)")
    pairs = list(given)
    for place, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not callable(pair[0]):
            raise ConfigValueError(f"exec_pairs[{place}] is invalid: got {pair!r:.100}, expected (program, inputs)")
    return pairs


def inputs_of(examples: Any) -> list[Any]:
    """Return the inputs of examples, all of them checked.

    Raises:
        ConfigError: they are no list, or one is no example, or does not say which of its fields are inputs.
    """
    if isinstance(examples, str | bytes | dict | Example) or not isinstance(examples, Iterable):
        raise ConfigTypeError(f"examples is invalid: got {examples!r:.100}, expected a list of Examples")
    found = []
    for place, example in enumerate(examples):
        inputs = getattr(example, "inputs", None)
        if not callable(inputs) and not isinstance(example, dict):
            raise ConfigTypeError(f"examples[{place}] is invalid: got {example!r:.100}, expected an Example or a dict")
        found.append(inputs() if callable(inputs) else example)
    return found
