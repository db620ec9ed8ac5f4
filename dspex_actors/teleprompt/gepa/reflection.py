"""What the workers do for GEPA beside evaluations: ask the metric for feedback on one predictor, and propose texts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.bridge import in_thread, is_async
from dspex_actors.foundation.scores import beside, check_score
from dspex_actors.judging import AsksLM
from dspex_actors.programs.module import Module
from dspex_actors.workers.calling import Metric, maybe


def takes(metric: Callable[..., Any], count: int) -> bool:
    """Whether a function may be called with so many arguments; one that does not tell may."""
    if isinstance(metric, Module):
        metric = getattr(metric, "forward", None) or getattr(metric, "aforward", None) or metric
    try:
        inspect.signature(metric).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


class Scoring:
    """GEPA's metric as that of an evaluation: one that must be given all five arguments gets None for three of them.

    Args:
        metric: `metric(gold, pred, trace, pred_name, pred_trace)`.
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        """Keep it."""
        self.metric = metric
        self.__name__ = getattr(metric, "__name__", type(metric).__name__)

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> Any:
        """Score a prediction."""
        return self.metric(example, prediction, trace, None, None)


def words(score: float) -> str:
    """Return the feedback of a metric that gives none."""
    return f"The score is {score:g}."


def told(feedback: Any, score: float) -> str:
    """Return the feedback of a metric as it is shown.

    Args:
        feedback: that; None: it gave none.
        score: of the whole.
    """
    return words(score) if feedback is None else str(feedback)


class Feedback(Module):
    """Asks the metric about one call of a predictor.

    Args:
        program: the candidate; its predictors are in the traces that the metric is given.
        metric: takes five arguments.
    """

    def __init__(self, program: Module, metric: Callable[..., Any]) -> None:
        """Keep them."""
        self.program = program
        self.ask = metric

    @staticmethod
    def row(seen: Mapping[str, Any], name: str, at: int) -> dict[str, Any]:
        """Return the inputs of one question, as plain data.

        Args:
            seen: what happened in the example (`trajectories`).
            name: of the predictor that is asked about.
            at: which call of the trace.
        """
        example, prediction = seen["example"], seen["prediction"]
        calls = [(one, *call[1:]) for one, call in zip(seen["names"], seen["trace"], strict=True)]
        return {
            "example": dict(example.items()),
            "inputs": list(example.inputs().keys()),
            "prediction": dict(prediction.items()),
            # An answer that could not be read is the last of them, and no prediction.
            "trace": [[one, given, dict(gave.items())] for one, given, gave in calls if isinstance(gave, Prediction)],
            "name": name,
            "at": at,
        }

    async def aforward(
        self,
        example: dict[str, Any],
        inputs: list[str],
        prediction: dict[str, Any],
        trace: list[Any],
        name: str,
        at: int,
    ) -> Prediction:
        """Ask, and return a prediction with `score` and `feedback`, which may be None."""
        predictors = dict(self.program.named_predictors())
        calls = [(predictors[one], given, Prediction(gave)) for one, given, gave in trace]
        gold = Example(example).with_inputs(*inputs)
        value = await Metric(self.ask)(gold, Prediction(prediction), calls, name, [calls[at]])
        return Prediction(score=check_score(value), feedback=beside(value).get("feedback"))


class Reflecting(Module):
    """Asks the metric for feedback on calls of a predictor, and then for an instruction: in one go.

    Args:
        programs: candidates.
        metric: takes five arguments.
        proposer: of instructions; its predictors have their LM.
    """

    def __init__(self, programs: Sequence[Module], metric: Callable[..., Any], proposer: Module) -> None:
        """Keep them."""
        self.feedback = [Feedback(program, metric) for program in programs]
        self.proposer = proposer

    async def aforward(
        self,
        current_instruction: str,
        examples_with_feedback: list[dict[str, Any]],
        questions: list[dict[str, Any] | None],
        scores: list[float],
        program: int,
    ) -> Prediction:
        """Ask, and return a prediction with `new_instruction`, and the `scores` that the metric gave on the way.

        Args:
            current_instruction: of the predictor.
            examples_with_feedback: what is shown; without feedback where the metric is asked.
            questions: what the metric is asked on each (see `Feedback.row`); None: nothing.
            scores: of each as a whole.
            program: which candidate it is.
        """
        said = await asyncio.gather(*(self._ask(program, question) for question in questions))
        shown = [
            row if one is None else row | {"Feedback": told(one.feedback, score)}
            for row, one, score in zip(examples_with_feedback, said, scores, strict=True)
        ]
        proposed = await self.proposer.acall(current_instruction=current_instruction, examples_with_feedback=shown)
        given = [None if one is None else one.score for one in said]
        return Prediction(new_instruction=proposed.new_instruction, scores=given)

    async def _ask(self, program: int, question: dict[str, Any] | None) -> Prediction | None:
        return None if question is None else await self.feedback[program].acall(**question)


class Proposing(Module):
    """Calls a proposer of the user's.

    Args:
        proposer: `proposer(candidate=, reflective_dataset=, components_to_update=)` → new text by name; sync or async.
    """

    def __init__(self, proposer: Callable[..., Any]) -> None:
        """Keep it."""
        self.propose = proposer

    async def aforward(
        self, candidate: dict[str, str], reflective_dataset: dict[str, Any], components_to_update: list[str]
    ) -> Prediction:
        """Call it, and return a prediction with `texts`."""
        given = {
            "candidate": candidate,
            "reflective_dataset": reflective_dataset,
            "components_to_update": components_to_update,
        }
        propose = self.propose.acall if isinstance(self.propose, Module | AsksLM) else self.propose
        value = await (propose(**given) if is_async(propose) else in_thread(lambda: propose(**given)))
        return Prediction(texts=dict(await maybe(value)))
