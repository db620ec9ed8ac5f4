"""What an optimiser asks for, step by step, and what it is given for it. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.example import Example, Prediction
from dspex_actors.programs.module import Module

#: An optimiser: it yields steps, is given what they came to, and returns what it found.
Steps = Generator["Step", Any, Any]
#: Examples whose metric failed, before any has a score, after which nothing more is asked: as many as end an
#: evaluation, or a bootstrap, of DSPy's.
ENOUGH = 10


@dataclass(frozen=True, slots=True, eq=False)
class Evaluate:
    """Score a program. Gives `Scored`.

    Args:
        program: the candidate.
        examples: what it is scored on.
        metric: `metric(example, prediction, trace=None)`.
        race: candidates of one race are compared: one that can win no more, were all its other scores 1, is stopped.
            None: it is in none.
        lm: for predictors that have none; None: the one of the optimisation.
    """

    program: Module
    examples: Sequence[Example]
    metric: Callable[..., Any]
    race: str | None = None
    lm: Any = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What an evaluation came to.

    Args:
        score: the mean times 100, with two decimals; an example that failed counts 0. None: it was stopped.
        subscores: the score of each example, in order; empty where it was stopped.
        failed: how many examples failed.
        run_id: the run.
        error: record of the first example that failed; None: none did.
        unscored: at how many of those that failed it was the metric.
    """

    score: float | None
    subscores: Sequence[float] = ()
    failed: int = 0
    run_id: str | None = None
    error: Mapping[str, Any] | None = field(default=None, compare=False)
    unscored: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Observe:
    """Score a program, and see what it did. Gives a list: for each example an `Observed`.

    Args:
        program: the candidate.
        examples: what it is scored on.
        metric: `metric(example, prediction, trace=None)`; what it returns beside the score is kept.
        traces: keep what each predictor was given and gave.
        failure_score: what an example that failed counts as.
    """

    program: Module
    examples: Sequence[Example]
    metric: Callable[..., Any]
    traces: bool = True
    failure_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """What one example came to.

    Args:
        score: of the metric; where the example failed `failure_score`.
        prediction: None where the program failed.
        scores: all that the metric returned by name, where it did.
        feedback: the metric's.
        trace: (predictor's name, inputs, outputs) of each call, in order.
        unread: where the program failed by an answer that could not be read: predictor's name, inputs, the answer.
        error: record of what failed; None: nothing.
    """

    score: float
    prediction: Prediction | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    feedback: str | None = None
    trace: Sequence[tuple[str, dict[str, Any], dict[str, Any]]] = ()
    unread: tuple[str, dict[str, Any], str] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """Have a teacher try examples, one after the other as it counts. Gives `Bootstrapped`.

    Args:
        teacher: the program that tries.
        examples: in this order.
        metric: `metric(example, prediction, trace)` lets a prediction pass; None: each passes.
        max_bootstrapped_demos: examples that have to pass.
        max_rounds: tries per example.
        max_errors: it fails with the so-many-th error.
        metric_threshold: what the metric's value must reach; None: any true value.
        teacher_settings: settings of the teacher's calls.
        max_in_flight: always so many examples at once, also where most of them turn out to be needless; None: as many
            as the sequential algorithm comes to, by what has passed so far, and 64 at most, or 4 per demo if that is
            more.
        teacher_pool: from how many to how many examples at once, by what it takes yet; None: no pool.
        spare: without `max_in_flight` and pool: so many examples may be needless, and 5 % of the others.
    """

    teacher: Module
    examples: Sequence[Example]
    metric: Callable[..., Any] | None
    max_bootstrapped_demos: int
    max_rounds: int = 1
    max_errors: int = 10
    metric_threshold: float | None = None
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    max_in_flight: int | None = None
    teacher_pool: tuple[int, int] | None = None
    spare: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """Call a program with rows of inputs. Gives a list: for each row its Prediction, or None where it failed.

    Args:
        program: a predictor, mostly.
        rows: inputs by name, a dict for each call.
        lm: for predictors that have none; None: the one of the optimisation.
    """

    program: Module
    rows: Sequence[Mapping[str, Any]]
    lm: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Say that a program has a score: who follows the optimisation sees it. Gives nothing.

    Args:
        name: what it is called in lists.
        program: the candidate.
        score: of its evaluation, 0 to 100 with two decimals; None: it was stopped.
        whole: on all examples there are to score on, so that it may be the best; False: on some of them.
    """

    name: str
    program: Module
    score: float | None
    whole: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Do several things at once. Gives a list of what they came to, in their order.

    Args:
        items: steps, and generators of steps, each of which goes on by itself.
        enough: called with what the first so many items came to, whenever there is one more without a gap before it;
            once it says True the others are given up, and the list ends there; one that failed counts when all before
            it are through and not enough. None: all are wanted, and the first that fails ends it.
    """

    items: Sequence[Step | Steps]
    enough: Callable[[list[Any]], bool] | None = None


def spared(sure: int) -> int:
    """Return how many examples may be tried in vain where so many are asked in any case: one of twenty."""
    return sure // 20


Step = Evaluate | Observe | Bootstrap | Ask | Candidate | Together
#: Steps that are runs.
Run = Evaluate | Observe | Bootstrap | Ask
