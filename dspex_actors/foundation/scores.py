"""What a metric returned: the score that counts, and what there is beside it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from decimal import Decimal
from inspect import isawaitable
from typing import Any

from dspex_actors.errors import ConfigError

#: The field that counts, and DSPy's one for further scores.
SCORE, FURTHER = "score", "objective_scores"
#: How the message of an error of the metric begins, of an example whose prediction is there.
METRIC_FAILED = "the metric failed, the prediction is kept: "


def judged(value: Any) -> Any:
    """Return what decides of a metric's value: of scores by name `score`, else the first; anything else as it is."""
    if isinstance(value, Mapping):
        if SCORE in value:
            return value[SCORE]
        return next((one for one in value.values() if _is_score(_number_in(one))), value)
    if hasattr(value, "toDict") and SCORE in value:
        return value[SCORE]
    return value


def check_score(value: Any, what: str = "metric returned") -> float:
    """Return what a metric returned as a number.

    Args:
        value: a bool, a number, or a prediction (or dict) with a `score` that is one.
        what: where it comes from, for the error.

    Returns:
        The score.

    Raises:
        ConfigError: anything else; NaN and infinities too, because they would spoil every mean.
    """
    if type(value) is bool:
        return float(value)  # nearly always
    score = _number_in(judged(value))
    if not _is_score(score):
        if isawaitable(value):
            raise ConfigError(f"{what} an awaitable that nobody awaited; expected bool or number")
        shown = " ".join(repr(value).split())  # a prediction has many lines
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        more = ": is there a path through it without a return?" if score is None else ""
        raise ConfigError(f"{what} {shown} ({type(value).__name__}); expected bool or number{more}")
    number = float(score)
    if not math.isfinite(number):
        raise ConfigError(f"{what} {number}; expected bool or finite number")
    return number


def beside(value: Any) -> dict[str, Any]:
    """Return what a metric returned beside the one score that counts.

    Args:
        value: scores by name (a dict, a prediction; its `objective_scores` too), with `feedback` or without.

    Returns:
        `scores`, all of them by name, where any has another name than `score`; `feedback`, a text. Without both: {}.

    Raises:
        ConfigError: a score is not finite.
    """
    if isinstance(value, Mapping):
        fields = dict(value)
    elif hasattr(value, "toDict") and hasattr(value, "items"):
        fields = dict(value.items())
    else:
        return {}
    further = fields.pop(FURTHER, None)
    feedback = fields.pop("feedback", None)
    fields |= further if isinstance(further, Mapping) else {}
    scores = {str(name): float(number) for name, one in fields.items() if _is_score(number := _number_in(one))}
    for name, number in scores.items():
        if not math.isfinite(number):
            raise ConfigError(f"metric returned {name}={number}; expected bool or finite number")
    found: dict[str, Any] = {"scores": scores} if set(scores) - {SCORE} else {}
    return found if feedback is None else {**found, "feedback": str(feedback)}


def _number_in(value: Any) -> Any:
    """Return the number or bool in a scalar of numpy's, or in an array or tensor of one; anything else as it is."""
    item = getattr(value, "item", None)
    if not callable(item) or isinstance(value, numbers.Real):
        return value
    try:
        return item()
    except (ValueError, TypeError, RuntimeError):
        return value


def _is_score(value: Any) -> bool:
    return isinstance(value, numbers.Real | Decimal)
