"""Which optimiser suits a program and its data, and why. Pure.

The rules are DSPy's advice (dspy.ai, "Optimization overview"): with few examples `BootstrapFewShot`, with 50 and more
the random search, with 200 and more MIPROv2; GEPA where the metric says in words what was wrong. What earlier
optimisations of the same program have gained goes before that.
"""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

#: What is taken where nothing else suits.
OTHERWISE = "copro"
#: Examples that a strategy needs to have something to choose by.
LEAST = {"bootstrap": 1, "copro": 1, "gepa": 10, "random_search": 50, "mipro": 200, "distributed_bootstrap": 1000}
#: So many predictors, and instructions matter more than a handful of demos for each.
MANY_PREDICTORS = 3
#: From so many examples on a part of them tells as much.
ENOUGH = 5000
#: Points out of 100 that an optimiser has to have gained to be taken again.
GAIN = 0.5


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be optimised.

    Args:
        predictors: of the program.
        examples: of the trainset.
        nodes: whose workers work.
        has_feedback: the metric says in words what was wrong.
        budget: USD; None: no limit.
    """

    predictors: int
    examples: int
    nodes: int = 1
    has_feedback: bool = False
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier optimisation of the same program.

    Args:
        strategy: its optimiser, by name.
        gain: its best candidate's score less its first one's, in points out of 100.
        cost: USD.
    """

    strategy: str
    gain: float
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy, and why.

    Args:
        strategy: the optimiser, by name.
        why: in words.
    """

    is_noted = True

    strategy: str
    why: str


def choose(facts: Facts, past: Sequence[Past], strategies: Collection[str]) -> Choice:
    """Return what to do.

    Args:
        facts: what is to be optimised.
        past: earlier optimisations of the same program.
        strategies: from which to choose; COPRO is there always.
    """
    open_to = [name for name in LEAST if name in strategies and facts.examples >= LEAST[name]]
    proven = _proven(facts, past, open_to)
    if proven is not None:
        return proven
    data = f"{facts.examples:,} example{'s' if facts.examples != 1 else ''}"
    shape = f"{facts.predictors} predictor{'s' if facts.predictors != 1 else ''}"
    rules = [
        ("gepa", facts.has_feedback, "the metric says in words what was wrong, and GEPA reads it"),
        (
            "distributed_bootstrap",
            facts.examples >= ENOUGH and facts.predictors < MANY_PREDICTORS,
            f"{data} on {facts.nodes} node{'s' if facts.nodes != 1 else ''}: demos from all of them are ranked",
        ),
        ("mipro", True, f"{data} are enough to try instructions and demos together, for {shape}"),
        ("random_search", True, f"{data} are enough to compare bootstraps, for {shape}"),
        ("bootstrap", facts.predictors < MANY_PREDICTORS, f"{data} are few: what is answered well becomes demos"),
    ]
    for name, suits, why in rules:
        if suits and name in open_to:
            return Choice(name, why)
    few = " are too few to compare sets of demos" if facts.predictors >= MANY_PREDICTORS else ""
    return Choice(OTHERWISE, f"{data}{few}, {shape}: instructions are improved")


def _proven(facts: Facts, past: Sequence[Past], open_to: Collection[str]) -> Choice | None:
    """Return what has gained most so far, if it can be had again."""
    by_name = {name: [one for one in past if one.strategy == name] for name in open_to}
    gains = {name: statistics.fmean(one.gain for one in ones) for name, ones in by_name.items() if ones}
    if facts.budget is not None:
        costs = {name: min(one.cost for one in by_name[name]) for name in gains}
        gains = {name: gain for name, gain in gains.items() if costs[name] <= facts.budget}
    best = max(gains, key=lambda name: gains[name], default=None)
    if best is None or gains[best] < GAIN:
        return None
    count = len(by_name[best])
    times = f"{count} earlier optimisations" if count > 1 else "an earlier optimisation"
    return Choice(best, f"it gained {gains[best]:.1f} points in {times} of this program, more than others")


def takes_feedback(metric: Callable[..., Any]) -> bool:
    """Tell whether a metric is one of GEPA's: it is told which predictor it judges, and answers with feedback."""
    try:
        names = inspect.signature(metric).parameters
    except (TypeError, ValueError):
        return False
    return {"pred_name", "pred_trace"} <= set(names)
