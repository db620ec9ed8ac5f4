"""Metrics that are programs, as DSPy has them: an LM compares a response with what is known to be right.

They read the fields `question` and `response` of the example, and `response` of the prediction, one of them its
`context` too. Their calls are those of a judge: tag `role=judge`, the budget of the run, its limits and its cache.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.example import Prediction
from dspex_actors.judging import TAG, AsksLM
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.settings import context, settings
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature

_RECALL = "the part of the ground truth, from 0.0 to 1.0, that the response covers"
_PRECISION = "the part of the response, from 0.0 to 1.0, that the ground truth covers"
_IDEAS, _IDEAS_SAID = "the key ideas of the ground truth, one by one", "the key ideas of the response, one by one"


class RecallAndPrecision(Signature):
    """Compare a response with the ground truth: how much of each is covered by the other. When you reason, go through
    the key ideas of each one and say whether the other has them.
    """

    question: str = InputField()
    ground_truth: str = InputField()
    system_response: str = InputField()
    recall: float = OutputField(desc=_RECALL)
    precision: float = OutputField(desc=_PRECISION)


class DecomposedRecallAndPrecision(Signature):
    """Compare a response with the ground truth: write down the key ideas of each one, discuss what they share, and then
    say how much of each is covered by the other.
    """

    question: str = InputField()
    ground_truth: str = InputField()
    system_response: str = InputField()
    ground_truth_key_ideas: str = OutputField(desc=_IDEAS)
    system_response_key_ideas: str = OutputField(desc=_IDEAS_SAID)
    discussion: str = OutputField(desc="what they share")
    recall: float = OutputField(desc=_RECALL)
    precision: float = OutputField(desc=_PRECISION)


class Completeness(Signature):
    """Say how complete a response is, compared with the ground truth: write down the key ideas of each one, discuss
    what they share, and then how complete it is.
    """

    question: str = InputField()
    ground_truth: str = InputField()
    system_response: str = InputField()
    ground_truth_key_ideas: str = OutputField(desc=_IDEAS)
    system_response_key_ideas: str = OutputField(desc=_IDEAS_SAID)
    discussion: str = OutputField(desc="what they share")
    completeness: float = OutputField(desc="the part of the ground truth, from 0.0 to 1.0, that the response covers")


class Groundedness(Signature):
    """Say how far a response is supported by documents that were retrieved: write down the claims in it that are worth
    checking, and discuss which of them follow from the documents and from common sense.
    """

    question: str = InputField()
    retrieved_context: str = InputField()
    system_response: str = InputField()
    system_response_claims: str = OutputField(desc="the claims of the response that are worth checking")
    discussion: str = OutputField(desc="how far the documents support them")
    groundedness: float = OutputField(desc="the part of the response, from 0.0 to 1.0, that the documents support")


def harmonic(one: float, other: float) -> float:
    """Return the F1 of two parts of a whole, each held within 0 and 1."""
    one, other = (max(0.0, min(1.0, part)) for part in (one, other))
    return 2 * one * other / (one + other) if one + other else 0.0


class _Compares(Module, AsksLM):
    """A program that is a metric: `metric(example, pred, trace=None)` gives a Prediction with `score`.

    While demonstrations are collected (`trace` is not None) the score is whether it reaches the threshold.
    """

    def __init__(self, threshold: float) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ConfigError(f"threshold is invalid: got {threshold!r:.100}, expected a number from 0 to 1")
        self.threshold = threshold

    def _given(self, score: float, trace: Any, **parts: float) -> Prediction:
        return Prediction(score=score if trace is None else score >= self.threshold, **parts)


class SemanticF1(_Compares):
    """Score a response by the F1 of what it shares with the example's `response`, in the eyes of an LM.

    Args:
        threshold: what the score has to reach while demonstrations are collected, 0 to 1.
        decompositional: have the LM write down the key ideas first.

    Raises:
        ConfigError: the threshold is none.
    """

    def __init__(self, threshold: float = 0.66, decompositional: bool = False) -> None:
        """Make the predictor."""
        super().__init__(threshold)
        self.module = ChainOfThought(DecomposedRecallAndPrecision if decompositional else RecallAndPrecision)

    def forward(self, example: Any, pred: Any, trace: Any = None) -> Prediction:
        """Ask, and return a prediction with `score`, `recall` and `precision`."""
        with _as_judge():
            return self._scored(self.module(**_asked(example, pred)), trace)

    async def aforward(self, example: Any, pred: Any, trace: Any = None) -> Prediction:
        """Do what `forward` does, from inside an event loop."""
        with _as_judge():
            return self._scored(await self.module.acall(**_asked(example, pred)), trace)

    def _scored(self, said: Any, trace: Any) -> Prediction:
        score = harmonic(said.precision, said.recall)
        return self._given(score, trace, recall=said.recall, precision=said.precision)


class CompleteAndGrounded(_Compares):
    """Score a response by the F1 of its completeness (against the example's `response`) and its groundedness (in the
    prediction's `context`), in the eyes of an LM.

    Args:
        threshold: what the score has to reach while demonstrations are collected, 0 to 1.

    Raises:
        ConfigError: the threshold is none.
    """

    def __init__(self, threshold: float = 0.66) -> None:
        """Make the predictors."""
        super().__init__(threshold)
        self.completeness_module = ChainOfThought(Completeness)
        self.groundedness_module = ChainOfThought(Groundedness)

    def forward(self, example: Any, pred: Any, trace: Any = None) -> Prediction:
        """Ask twice, and return a prediction with `score`, `completeness` and `groundedness`."""
        with _as_judge():
            complete = self.completeness_module(**_asked(example, pred))
            return self._scored(complete, self.groundedness_module(**_asked(example, pred, grounded=True)), trace)

    async def aforward(self, example: Any, pred: Any, trace: Any = None) -> Prediction:
        """Do what `forward` does, from inside an event loop."""
        with _as_judge():
            complete = await self.completeness_module.acall(**_asked(example, pred))
            grounded = await self.groundedness_module.acall(**_asked(example, pred, grounded=True))
            return self._scored(complete, grounded, trace)

    def _scored(self, complete: Any, grounded: Any, trace: Any) -> Prediction:
        parts = {"completeness": complete.completeness, "groundedness": grounded.groundedness}
        return self._given(harmonic(*parts.values()), trace, **parts)


def _as_judge() -> AbstractContextManager[Any]:
    return context(tags={**settings.tags, **TAG}, trace=[])


def _asked(example: Any, pred: Any, *, grounded: bool = False) -> dict[str, Any]:
    against = {"retrieved_context": pred.context} if grounded else {"ground_truth": example.response}
    return {"question": example.question, **against, "system_response": pred.response}
