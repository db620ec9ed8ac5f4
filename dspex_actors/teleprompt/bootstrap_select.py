"""Which demos a bootstrap picks, from what became of its attempts. Pure.

The algorithm is that of DSPy's `BootstrapFewShot` (Khattab et al. 2023, "DSPy: Compiling Declarative Language
Model Calls into Self-Improving Pipelines"; the details are those of version 3.4). It is sequential: one
example after the other until there are enough successes. Here the attempts come from many calls at once, more
of them than needed; only those that the sequential algorithm would have made are looked at, so the demos are
the same.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.example import Example
from dspex_actors.foundation.codec import to_plain
from dspex_actors.foundation.scores import check_score, judged
from dspex_actors.programs.module import Module

#: A call of a predictor: its name in the program, its inputs, its outputs.
Step = tuple[str, dict[str, Any], dict[str, Any]]
#: Beside numbers, what `example.answer and ...` comes to where it is false.
_MAY_BE_FALSE = (type(None), str, list, tuple, dict, set)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def passes(value: Any, threshold: float | None) -> bool:
    """Whether a metric's value lets a prediction pass: it reaches the threshold; without one (None, 0), it is true.

    Raises:
        ConfigError: it is no score. A text or NaN is true in Python, and would let everything pass.
    """
    decides = judged(value)
    if not threshold and isinstance(decides, _MAY_BE_FALSE) and not decides:
        return False
    score = check_score(decides)
    return score >= threshold if threshold else bool(score)


def steps_of(teacher: Module, trace: Iterable[tuple[Any, Any, Any]]) -> list[Step]:
    """Return the calls in a trace that are those of a teacher's predictors.

    Other predictors are those of compiled sub-programs and of the metric: they get no demos.
    """
    names = {id(predictor): name for name, predictor in teacher.named_predictors()}
    return [
        (names[id(predictor)], dict(inputs), dict(outputs.items()))
        for predictor, inputs, outputs in trace
        if id(predictor) in names
    ]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one example, all rounds together.

    Args:
        success: the metric let it pass in some round.
        steps: the predictors' calls of that round, in order; only of a success.
        errors: a record per round that raised, in order.
        score: what the metric said of that round; where that is no number, 1.
    """

    success: bool = False
    steps: Sequence[Step] = ()
    errors: Sequence[dict[str, Any]] = ()
    score: float = 1.0

    def to_fields(self) -> dict[str, Any]:
        """Return it as the fields of a prediction: the form in which a worker hands it back."""
        fields = {"success": self.success, "steps": list(self.steps), "errors": list(self.errors)}
        return {**fields, "score": self.score} if self.success else fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any] | None, error: dict[str, Any] | None) -> Attempt:
        """Rebuild it from a result.

        Args:
            fields: what `to_fields` returned; None where no worker came that far (it died, or could not open
                the program): that is one error.
            error: the result's error.
        """
        if fields is None:
            return cls(errors=() if error is None else (error,))
        score = fields.get("score", 1.0)  # it is not in older journals
        return cls(fields["success"], [tuple(step) for step in fields["steps"]], fields["errors"], score)


@dataclass(slots=True)
class Bootstrapped:
    """What the sequential algorithm has when it stops.

    Args:
        demos: predictor's name → demos made of its calls, at most one per example that passed.
        passed: indices of the examples that passed.
        scores: what the metric said of each of these.
        taken: of each of these the demos, by predictor.
        looked_at: how many examples it came to.
        errors: how many rounds raised until then.
        fatal: index and error of the round that reached `max_errors`; None: the limit was not reached.
    """

    demos: dict[str, list[Example]] = field(default_factory=dict)
    passed: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    taken: list[dict[str, Example]] = field(default_factory=list)
    looked_at: int = 0
    errors: int = 0
    fatal: tuple[int, dict[str, Any]] | None = None


def select(attempts: Iterable[Attempt], *, max_bootstrapped_demos: int, max_errors: int) -> Bootstrapped:
    """Take demos from attempts until there are enough successes or too many errors.

    Args:
        attempts: in input order without a gap; what comes after the stop is not looked at.
        max_bootstrapped_demos: stop with the so-many-th example that passed.
        max_errors: stop with the so-many-th error; every round that raised counts, also that of an example
            which passed in a later one.
    """
    found = Bootstrapped()
    if max_bootstrapped_demos <= 0:
        return found
    for index, attempt in enumerate(attempts):
        found.looked_at = index + 1
        for error in attempt.errors:
            found.errors += 1
            if found.errors >= max_errors:
                found.fatal = (index, error)
                return found
        if attempt.success:
            found.passed.append(index)
            found.scores.append(attempt.score)
            found.taken.append({name: pick(demos) for name, demos in _by_predictor(attempt.steps).items()})
            for name, demo in found.taken[-1].items():
                found.demos.setdefault(name, []).append(demo)
            if len(found.passed) >= max_bootstrapped_demos:
                break
    return found


def _by_predictor(steps: Sequence[Step]) -> dict[str, list[Example]]:
    by_name: dict[str, list[Example]] = {}
    for name, inputs, outputs in steps:
        by_name.setdefault(name, []).append(Example({"augmented": True, **inputs, **outputs}))
    return by_name


def pick(demos: Sequence[Example]) -> Example:
    """Return the one demo of several calls of the same predictor in one example.

    One time in two it is the last, else any of the others. What decides is a SHA-256 over the demos' JSON
    view with sorted names: it depends on nothing but their content, so it is the same in every process and on
    every machine. (DSPy hashes their pickle, which also depends on its own classes: where a predictor is
    called several times its choice may be another one.)
    """
    if len(demos) == 1:
        return demos[0]
    view = json.dumps([to_plain(dict(demo.items())) for demo in demos], sort_keys=True)
    digest = hashlib.sha256(_ADDRESS.sub("", view).encode("utf-8", "surrogatepass"))
    rng = random.Random(digest.hexdigest())  # noqa: S311 - has to be repeatable, not secret
    return rng.choice(demos[:-1]) if rng.random() < 0.5 else demos[-1]


def student_demos(
    names: Iterable[str], trainset: Sequence[Example], found: Bootstrapped, *, max_labeled_demos: int
) -> dict[str, list[Example]]:
    """Return every predictor's demos: bootstrapped ones, then labelled ones up to `max_labeled_demos`.

    Args:
        names: the student's predictors, in order: one generator seeded with 0 draws for all of them.
        trainset: all examples; drawn from are those that did not pass, shuffled by a generator seeded with 0.
        found: what was bootstrapped.
        max_labeled_demos: demos per predictor, bootstrapped ones counted; if those are more, all stay.
    """
    passed = set(found.passed)
    rest = [example for index, example in enumerate(trainset) if index not in passed]
    random.Random(0).shuffle(rest)  # noqa: S311 - has to be repeatable, not secret
    rng = random.Random(0)  # noqa: S311 - the same
    demos = {}
    for name in names:
        augmented = found.demos.get(name, [])
        size = max(0, min(max_labeled_demos - len(augmented), len(rest)))
        demos[name] = augmented + rng.sample(rest, size)
    return demos
