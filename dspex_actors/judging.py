"""A language model as metric: it is shown an example and its prediction, and says how good that is.

Its calls belong to the run that it scores: they are in its books with the tag `role=judge`, and are paid out of its
budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from dspex_actors.errors import ConfigError
from dspex_actors.programs.predict import Predict
from dspex_actors.settings import check_lm, context, settings
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, make_signature

#: The tag of a judge's calls.
TAG = {"role": "judge"}
#: What a judge with a text of its own is shown, and what it says.
_SHOWN = ("inputs", "expected", "prediction")
#: A scale of so few whole numbers is told one by one.
_FEW = 20


class AsksLM:
    """Marks metrics that ask an LM by `acall`: they are called in a worker's event loop, without a thread."""

    async def acall(self, example: Any, prediction: Any, trace: Any = None) -> Any:
        """Score a prediction."""
        raise NotImplementedError


class Judge(AsksLM):
    """Scores predictions by asking an LM. `dspex.metrics.judge` makes it.

    Args:
        what: what makes a prediction good, in words; or a signature, whose inputs are filled by name from the
            prediction, the example's inputs and its labels, and whose output `score` (else its last one) counts.
        scale: the lowest and the highest score; None: right or wrong.
        lm: who judges; None: the LM of the run.

    Raises:
        ConfigError: one of them is not usable.
    """

    def __init__(self, what: Any, *, scale: tuple[float, float] | None = None, lm: Any = None) -> None:
        """Make the signature, if a text was given."""
        self.__name__ = "judge"
        self._scale = _checked(scale)
        check_lm(lm)
        self._asks_in_words = isinstance(what, str)
        if isinstance(what, str) and what.strip():
            self._signature: Any = _signature(what.strip(), self._scale)
        elif isinstance(what, type) and issubclass(what, Signature):
            self._signature = what
        else:
            raise ConfigError(
                f"a judge takes a text that says what makes a prediction good, or a signature; got {what!r:.100}"
            )
        outputs = list(self._signature.output_fields)
        self._output = "score" if "score" in outputs else outputs[-1]
        self._predict = Predict(self._signature)
        self._predict.lm = lm

    @property
    def lm(self) -> Any:
        """Who judges; None: the LM of the run."""
        return self._predict.lm

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float | bool:
        """Ask, and return the score: 0.0 to 1.0 on a scale, else right or wrong."""
        with self._here():
            said = self._predict(**self._inputs(example, prediction))
        return self._score(said)

    async def acall(self, example: Any, prediction: Any, trace: Any = None) -> float | bool:
        """Do what a call does, from inside an event loop."""
        with self._here():
            said = await self._predict.acall(**self._inputs(example, prediction))
        return self._score(said)

    def _here(self) -> Any:
        return context(tags={**settings.tags, **TAG}, trace=[])

    def _inputs(self, example: Any, prediction: Any) -> dict[str, Any]:
        inputs, fields = dict(example.inputs().items()), dict(prediction.items())
        if self._asks_in_words:
            labels = {name: value for name, value in example.items() if name not in inputs}
            return dict(zip(_SHOWN, map(_lines, (inputs, labels, fields)), strict=True))
        known = {**dict(example.items()), **fields}
        missing = [name for name in self._signature.input_fields if name not in known]
        if missing:
            raise ConfigError(
                f"the judge's signature has the input {missing[0]}, and neither the prediction nor the example has it"
            )
        return {name: known[name] for name in self._signature.input_fields}

    def _score(self, said: Any) -> float | bool:
        value = said[self._output]
        if self._scale is None:
            return value if isinstance(value, bool) else float(value)
        low, high = self._scale
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"the judge said {value!r:.100}, expected a number from {low:g} to {high:g}")
        return (value - low) / (high - low)


def _checked(scale: Any) -> tuple[float, float] | None:
    if scale is None:
        return None
    pair = tuple(scale) if isinstance(scale, list | tuple) else ()
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one) for one in pair)
    if len(pair) != 2 or not numbers or pair[0] >= pair[1]:
        raise ConfigError(f"scale is invalid: got {scale!r:.100}, expected the lowest and the highest score, as (1, 5)")
    return pair


def _signature(what: str, scale: tuple[float, float] | None) -> Any:
    kind: Any = bool
    how = "whether the prediction is good"
    if scale is not None:
        low, high = scale
        how = f"from {low:g} (worst) to {high:g} (best)"
        whole = isinstance(low, int) and isinstance(high, int) and high - low < _FEW
        kind = Literal[tuple(range(int(low), int(high) + 1))] if whole else float
    fields = {
        "inputs": (str, InputField(desc="what was asked")),
        "expected": (str, InputField(desc="what is known to be right; may be empty")),
        "prediction": (str, InputField(desc="what is judged")),
        "reasoning": (str, OutputField(desc="why, briefly")),
        "score": (kind, OutputField(desc=how)),
    }
    return make_signature(fields, f"Judge a prediction. {what}", signature_name="Judgement")


def _lines(fields: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in fields.items())
