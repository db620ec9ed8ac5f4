"""Several attempts of a program: copies that ask for other answers, and the best of them."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Generator
from typing import Any

from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.operation import breadcrumb
from dspex_actors.programs.at_once import add_to_trace
from dspex_actors.programs.module import Module
from dspex_actors.programs.steps import Ask
from dspex_actors.settings import context, settings
from dspex_actors.signatures.validating import takes

_log = logging.getLogger(__name__)

#: How much attempts may differ: DSPy's number.
TEMPERATURE = 1.0


class Hidden:
    """A function as an attribute in which nobody looks for predictors: a reward may be a program, too.

    Args:
        function: it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Keep it."""
        self.function = function

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return self.function(*args)


class Attempts(Module):
    """Base of programs that try another one several times.

    Args:
        module: the program.
        N: attempts at most.
        reward_fn: `reward_fn(inputs, prediction)` → number.
        threshold: the first attempt with such a reward is taken; None: all are made.
        fail_count: attempts that may fail; None: all but one.
    """

    def __init__(self, module: Any, N: int, reward_fn: Any, threshold: Any, fail_count: int | None) -> None:  # noqa: N803
        """Check them."""
        if not isinstance(module, Module):
            raise ConfigTypeError(f"module is invalid: got {module!r:.80}, expected a program (dspex.Module)")
        if not callable(reward_fn):
            raise ConfigTypeError(
                f"reward_fn is invalid: got {reward_fn!r:.80}, expected reward_fn(inputs, prediction)"
            )
        if not takes(reward_fn, 2):
            raise ConfigTypeError(
                f"reward_fn is invalid: got {reward_fn!r:.80}, which does not take (inputs, prediction)"
            )
        if threshold is not None and not _is_number(threshold):
            raise ConfigValueError(f"threshold is invalid: got {threshold!r:.60}, expected a number")
        self.module = module
        self.reward_fn = Hidden(reward_fn)
        self.threshold = threshold
        self.N = whole("N", N, 1)
        self.fail_count = self.N if fail_count is None else whole("fail_count", fail_count, 0)

    def _stands_for(self) -> Module | None:
        return self.module

    def rollouts(self) -> list[Any]:
        """Return the LM of each attempt: copies that tell answers apart for a cache, and vary them."""
        lm = self.module.get_lm() or settings.lm
        if lm is None:
            raise ConfigValueError(
                "No LM is loaded: connect(lm=dspex.LM('provider/model')), or configure(lm=...), or program.set_lm(...)"
            )
        if not callable(getattr(lm, "copy", None)):
            raise ConfigTypeError(f"{type(lm).__name__} cannot be copied with a rollout_id: write it as a dspex.BaseLM")
        start = (getattr(lm, "kwargs", None) or {}).get("rollout_id") or 0
        return [lm.copy(rollout_id=start + number, temperature=TEMPERATURE) for number in range(self.N)]


class Best:
    """What the attempts of one call have come to.

    Args:
        attempts: whose they are.
    """

    def __init__(self, attempts: Attempts) -> None:
        """Begin with none."""
        self._of = attempts
        self.prediction: Any = None
        self._reward = -math.inf
        self._trace: list[Any] = []
        self._error: Exception | None = None
        self._failed = 0

    def attempt(self, twin: Module, inputs: dict[str, Any]) -> Generator[Any, Any, tuple[Any, float, list[Any]]]:
        """Run a copy of the program, and have its prediction rewarded.

        Returns:
            The prediction, its reward, and the trace, in which the program's own predictors stand.
        """
        own = {id(theirs): ours for theirs, ours in zip(twin.predictors(), self._of.module.predictors(), strict=True)}
        with context(trace=[]):
            prediction = yield Ask(twin, **inputs)
            trace = [(own.get(id(predictor), predictor), *rest) for predictor, *rest in settings.trace]
            reward = _checked(float_or_self((yield Ask(self._of.reward_fn, inputs, prediction))))
        if reward > self._reward or self.prediction is None:  # any is better than none, one of -inf too
            self._reward, self.prediction, self._trace = reward, prediction, trace
        return prediction, reward, trace

    def failed(self, number: int, error: Exception) -> None:
        """Take note that an attempt has failed; too many raise."""
        breadcrumb(f"attempt {number + 1} failed", error=f"{type(error).__name__}: {error}")
        _log.warning("attempt %d of %d failed: %s: %s", number + 1, self._of.N, type(error).__name__, error)
        self._error = error
        self._failed += 1
        if self._failed > self._of.fail_count:
            raise error

    def taken(self) -> Any:
        """Return the best prediction, and put what led to it into the trace.

        Raises:
            Exception: every attempt has failed; the last one's.
        """
        if self.prediction is None and self._error is not None:
            raise self._error
        add_to_trace(settings.in_force(), self._trace)
        return self.prediction


def float_or_self(value: Any) -> Any:
    """Return the number that a prediction with a score stands for; anything else as it is."""
    return float(value) if hasattr(value, "toDict") else value


def _checked(reward: Any) -> Any:
    if not _is_number(reward):
        raise ConfigValueError(f"reward_fn is invalid: it returned {reward!r:.60}, expected a number")
    return reward


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not math.isnan(value)
