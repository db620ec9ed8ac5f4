"""Ways in which programs do an example: what every predictor was asked and said, and what the metric said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.errors import LMError, RunFailed
from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.scores import SCORE, check_score
from dspex_actors.programs.module import Module
from dspex_actors.settings import context, settings
from dspex_actors.teleprompt.bootstrap_select import Step, steps_of
from dspex_actors.teleprompt.steps import ENOUGH, Ask, Together
from dspex_actors.workers.calling import Metric, Program, fields_of

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Trajectory:
    """What became of an example.

    Args:
        example: which one.
        score: what the metric gave; 0 where it raised.
        steps: predictor's name, inputs and outputs of each call, in order.
        prediction: what the program said; None: it raised.
        told: what else the metric said (feedback).
    """

    example: Example
    score: float
    steps: list[Step] = field(default_factory=list)
    prediction: dict[str, Any] | None = None
    told: dict[str, Any] = field(default_factory=dict)


class Sampled:
    """An LM that is asked for another answer than before: temperature 1, and a rollout of its own.

    It asks through the LM itself and changes the calls' parameters only, so that connections, limits and budgets stay
    those of the LM. A predictor's own parameters win, as they do over any LM's.

    Args:
        lm: the LM.
        rollout: which answer; it tells answers of one prompt apart for a cache.
        temperature: of the calls; None: the LM's.
    """

    def __init__(self, lm: Any, rollout: int, temperature: float | None) -> None:
        """Prepare the parameters."""
        self._lm = lm
        self._params: dict[str, Any] = {"rollout_id": rollout}
        if temperature is not None:
            self._params["temperature"] = temperature

    def __getattr__(self, name: str) -> Any:
        """Return what the LM has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._lm, name)

    def __call__(self, prompt: Any = None, **params: Any) -> Any:
        """Ask and wait."""
        return self._lm(prompt, **{**self._params, **params})

    async def acall(self, prompt: Any = None, **params: Any) -> Any:
        """Ask."""
        return await self._lm.acall(prompt, **{**self._params, **params})


class Tried(Module):
    """A program that is watched while it does an example: its prediction is the trajectory.

    Args:
        program: the program.
        metric: `metric(example, prediction)`; it is called with None where the program raised, as in DSPy.
        temperature: of the LM's calls; None: the LM's own.
    """

    def __init__(self, program: Module, metric: Callable[..., Any], temperature: float | None) -> None:
        """Keep them."""
        self.program, self.metric, self.temperature = program, metric, temperature

    async def aforward(self, fields: dict[str, Any], inputs: list[str], rollout: int) -> Prediction:
        """Do an example, and tell how.

        Args:
            fields: of the example.
            inputs: which of them the program is given.
            rollout: which answers.
        """
        example = Example(fields).with_inputs(*inputs)
        program: Module = self.program.deepcopy()
        trace: list[Any] = []
        prediction: Any = None
        for predictor in program.predictors():
            # Every predictor asks with this rollout, those with an LM of their own too.
            lm = settings.lm if predictor.lm is None else predictor.lm
            predictor.lm = Sampled(lm, rollout, self.temperature)
        with context(trace=trace):
            try:
                prediction = await Program(program)({**example.inputs()})
            except LMError:
                raise  # it is tried again, or says that going on is no use: who carries this out knows
            except Exception as error:
                _log.debug("%s failed: %r", type(program).__name__, error)
        why = None
        try:
            value = await Metric(self.metric)(example, prediction)
        except LMError:
            raise
        except Exception as error:
            _log.debug("the metric failed: %r", error)
            value, why = 0.0, f"{type(error).__name__}: {error}" if prediction is not None else None
        score, told = scored(value)
        return Prediction(
            score=score,
            steps=[list(step) for step in steps_of(program, trace)],
            prediction=None if prediction is None else fields_of(prediction),
            told=told,
            unscored=why,
        )


def scored(value: Any) -> tuple[float, dict[str, Any]]:
    """Return a metric's score, and what else it says.

    Raises:
        ConfigError: it has no score.
    """
    score = check_score(value)
    fields = dict(value.items()) if isinstance(value, Mapping) or hasattr(value, "toDict") else {}
    return score, {name: one for name, one in fields.items() if name != SCORE}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do an example.

    Args:
        program: which one.
        example: what with.
        rollout: which answers.
        lm: for predictors; None: their own, or the one of the optimisation.
        temperature: of the calls; None: the LM's.
    """

    program: Module
    example: Example
    rollout: int
    lm: Any = None
    temperature: float | None = 1.0


def tried(ways: Sequence[Way], metric: Callable[..., Any]) -> Generator[Any, Any, list[Trajectory]]:
    """Yield what is to try, all at once, a run for each program, and return the trajectories in order.

    Args:
        ways: what to try.
        metric: `metric(example, prediction)`.

    Raises:
        RunFailed: none of them came to anything, or the metric failed for each.
    """
    groups: dict[tuple[int, int, float | None], list[int]] = {}
    for place, way in enumerate(ways):
        groups.setdefault((id(way.program), id(way.lm), way.temperature), []).append(place)
    asked = []
    for places in groups.values():
        first = ways[places[0]]
        program = first.program.deepcopy()
        if first.lm is not None:
            program.set_lm(None)  # all ask this one, as in DSPy
        rows = [_row(ways[place]) for place in places]
        asked.append(Ask(Tried(program, metric, first.temperature), rows, first.lm))
    found = yield Together(asked)
    if not any(answer is not None for answers in found for answer in answers):
        raise RunFailed("SIMBA: no example could be done and scored: `dspex runs` shows what is wrong in each")
    came = [answer for answers in found for answer in answers if answer is not None]
    errors = [answer.get("unscored") for answer in came]
    if len(errors) >= ENOUGH and all(errors):
        raise RunFailed(f"SIMBA: the metric failed for each of {len(errors):,} examples, the first with {errors[0]}")
    by_place: dict[int, Trajectory] = {}
    for places, answers in zip(groups.values(), found, strict=True):
        for place, answer in zip(places, answers, strict=True):
            by_place[place] = _trajectory(ways[place].example, answer)
    return [by_place[place] for place in range(len(ways))]


def _row(way: Way) -> dict[str, Any]:
    example = way.example
    return {"fields": dict(example.items()), "inputs": sorted(example.inputs().keys()), "rollout": way.rollout}


def _trajectory(example: Example, answer: Prediction | None) -> Trajectory:
    if answer is None:
        return Trajectory(example, 0.0)
    steps = [(name, dict(inputs), dict(outputs)) for name, inputs, outputs in answer["steps"]]
    return Trajectory(example, answer["score"], steps, answer["prediction"], dict(answer["told"]))
