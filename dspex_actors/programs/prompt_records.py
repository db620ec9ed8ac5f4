"""What a prompt template learns from what was recorded: the wording that did best, and demonstrations. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import ConfigError

#: A wording counts as if so many more of its records had scored nothing: one lucky record does not decide.
CAUTION = 2


@dataclass(frozen=True, slots=True)
class Demo:
    """A demonstration: what a template was filled with, and what came of it."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One use of a template.

    Args:
        inputs: what it was filled with.
        outputs: what came of it; empty: it is not told.
        score: the more the better.
        text: its wording then; None: the one it has now.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    score: float
    text: str | None = None


_EXPECTED = (
    "an EvaluationResult, or records as {'inputs': {...}, 'output': ..., 'score': 0.9, 'text': the wording, where it "
    "was another one}"
)


def records_of(data: Any) -> list[Record]:
    """Return what was recorded; what has no score (it failed) is left out.

    Raises:
        ConfigError: it is nothing of the kind, or there is nothing.
    """
    rows = getattr(data, "results", data)
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise ConfigError(f"the performance data are invalid: got {type(data).__name__}, expected {_EXPECTED}")
    found = [record for number, row in enumerate(rows) if (record := _record(number, row)) is not None]
    if not found:
        raise ConfigError(f"the performance data are invalid: got no record with a score, expected {_EXPECTED}")
    return found


def _record(number: int, row: Any) -> Record | None:
    text = None
    if isinstance(row, tuple) and len(row) == 3:  # as in the results of DSPy's Evaluate
        inputs, outputs, score = row
    elif isinstance(row, Mapping):
        inputs = row.get("inputs", row.get("example"))
        outputs = row.get("outputs", row.get("output", row.get("prediction")))
        score, text = row.get("score"), row.get("text", row.get("template"))
    else:
        inputs, outputs = getattr(row, "example", None), getattr(row, "prediction", None)
        score = getattr(row, "score", None)
    if score is None and (inputs is not None or outputs is not None):
        return None
    if isinstance(score, bool):
        score = float(score)
    is_number = isinstance(score, int | float) and math.isfinite(score)
    fields = _fields(inputs, only_inputs=True)
    if fields is None or not is_number:
        raise ConfigError(f"record {number} of the performance data is invalid: got {row!r:.80}, expected {_EXPECTED}")
    text = getattr(text, "text", text)
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"record {number} of the performance data is invalid: its text is a {type(text).__name__}")
    return Record(fields, _outputs(outputs), float(score), text)


def _fields(value: Any, *, only_inputs: bool) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return {str(name): one for name, one in value.items()}
    if not hasattr(value, "toDict"):
        return None
    if only_inputs and getattr(value, "_input_keys", None) is not None:
        value = value.inputs()
    return dict(value.items())


def _outputs(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    found = _fields(value, only_inputs=False)
    return {"output": value} if found is None else found


def best_wording(records: Iterable[Record], now: str, fits: Mapping[str, bool]) -> str:
    """Return the wording that did best; of several the one that is there now, else the one recorded first.

    Args:
        records: what was recorded.
        now: the wording that is there.
        fits: for each other wording whether it may stand for it.
    """
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record.text if record.text is not None else now, []).append(record.score)
    nothing = min(0.0, *(score for each in scores.values() for score in each))

    def worth(text: str) -> tuple[float, bool]:
        mine = scores[text]
        return (sum(mine) + CAUTION * nothing) / (len(mine) + CAUTION), text == now

    return max((text for text in scores if text == now or fits.get(text)), key=worth, default=now)


def demonstrations(
    records: Iterable[Record], variables: Iterable[str], most: int, threshold: float | None
) -> tuple[Demo, ...]:
    """Return the best records that show all variables and an output, each input once, best first.

    Args:
        records: what was recorded.
        variables: of the template.
        most: so many at most.
        threshold: the score that one has to have; None: any above 0.
    """
    names = tuple(variables)

    def chosen() -> Iterator[Demo]:
        seen = set()
        for record in sorted(records, key=lambda record: -record.score):
            good = record.score > 0 if threshold is None else record.score >= threshold
            if not good or not record.outputs or any(name not in record.inputs for name in names):
                continue
            inputs = {name: record.inputs[name] for name in names}
            key = json.dumps(inputs, sort_keys=True, default=repr)
            if key not in seen:
                seen.add(key)
                yield Demo(inputs, {name: one for name, one in record.outputs.items() if one is not None})

    return tuple(demo for _, demo in zip(range(most), chosen(), strict=False))
