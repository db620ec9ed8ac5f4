"""What GEPA sees of an example: its prediction, its score, and its trace, in the form that DSPy's GEPA gives it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_actors.example import Example, Prediction
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.steps import Observed

#: A call of a predictor: the predictor, its inputs, its prediction, or the answer that could not be read.
Call = tuple[Any, dict[str, Any], Any]


class ScoreWithFeedback(Prediction):
    """What a metric may return: a score, and words on it; `objective_scores` are further scores by name."""


@dataclass(frozen=True, slots=True)
class FailedPrediction:
    """An answer that could not be read.

    Args:
        completion_text: the answer.
    """

    completion_text: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A call that is shown to whoever proposes an instruction.

    Args:
        place: of its example in the batch.
        at: place of the call in the trace.
        call: the call.
    """

    place: int
    at: int
    call: Call


def trajectories(program: Module, examples: Sequence[Example], seen: Sequence[Observed]) -> list[dict[str, Any]]:
    """Return what happened in each example: `example_ind`, `example`, `prediction`, `trace` and `score`, as DSPy
    does, and `names` of the predictors in the trace, and the metric's `feedback`.

    Examples whose program raised are left out, as in DSPy, unless it was by an answer that could not be read: then the
    prediction, and the last call of the trace, are a `FailedPrediction`.

    Args:
        program: the candidate.
        examples: the batch.
        seen: what each came to.
    """
    predictors = dict(program.named_predictors())
    found = []
    for place, (example, one) in enumerate(zip(examples, seen, strict=True)):
        called = [call for call in one.trace if call[0] in predictors]
        trace: list[Call] = [(predictors[name], dict(given), Prediction(gave)) for name, given, gave in called]
        names = [name for name, *_ in called]
        prediction: Any = one.prediction
        if one.unread is not None and one.unread[0] in predictors:
            name, given, text = one.unread
            prediction = FailedPrediction(text)
            trace.append((predictors[name], dict(given), prediction))
            names.append(name)
        if prediction is not None:
            row = {"example_ind": place, "example": example, "prediction": prediction, "trace": trace}
            found.append({**row, "score": one.score, "names": names, "feedback": one.feedback})
    return found


def choose(predictor: Any, rows: Sequence[Mapping[str, Any]], rng: random.Random, *, failures: bool) -> list[Chosen]:
    """Return the call of a predictor that is shown for each example, where there is one.

    It is DSPy's choice: an answer that could not be read, if those are shown, else one of the predictor's calls at
    random.

    Args:
        predictor: of the candidate.
        rows: trajectories.
        rng: of the optimisation; it is drawn from once for each example that is shown.
        failures: show answers that could not be read.
    """
    found = []
    for row in rows:
        calls = [(at, call) for at, call in enumerate(row["trace"]) if call[0].signature.equals(predictor.signature)]
        if not failures:
            calls = [pair for pair in calls if not isinstance(pair[1][2], FailedPrediction)]
        if not calls:
            continue
        chosen = next((pair for pair in calls if isinstance(pair[1][2], FailedPrediction)), None)
        if chosen is None:
            if isinstance(row["prediction"], FailedPrediction):
                continue
            chosen = rng.choice(calls)
        found.append(Chosen(row["example_ind"], *chosen))
    return found
