"""BootstrapFewShotWithRandomSearch: bootstraps of shuffled trainsets, compared by their scores.

optimizer = dspex.BootstrapFewShotWithRandomSearch(metric=dspex.metrics.exact_match("team"))
better = optimizer.compile(triage, trainset=trainset, valset=valset)
better.candidate_programs[0]["score"]
"""

from __future__ import annotations

import math
import numbers
import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

from dspex_actors.errors import RunFailed
from dspex_actors.example import Example
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.bootstrap import BootstrapFewShot, check_pair, checked_teacher_settings
from dspex_actors.teleprompt.candidates import Candidates
from dspex_actors.teleprompt.labeled import LabeledFewShot
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.steps import Candidate, Evaluate, Together, spared
from dspex_actors.teleprompt.trainset import checked_seeds, checked_threads

#: The candidates that are not drawn: without demos, with labelled ones only, bootstrapped from the trainset as it is.
ZERO_SHOT, LABELED, UNSHUFFLED = -3, -2, -1


class _Tried(NamedTuple):
    seed: int
    program: Module
    score: float | None
    subscores: Sequence[float]


class BootstrapFewShotWithRandomSearch(Optimizer):
    """Bootstrap demos from many shuffles of the trainset, and take the program that scores best.

    The algorithm and its numbers are DSPy 3.4's (Khattab et al. 2023). Candidates have seeds: -3 has no demos, -2
    labelled ones, -1 those of a bootstrap; each from 0 on shuffles the trainset by `random.Random(seed)` and bootstraps
    between 1 and `max_bootstrapped_demos` demos. Each is scored on the valset, where a failed example counts 0. The
    best wins, and of equals the one with the smallest seed.

    What differs: all candidates are made and scored at once, and one that cannot win any more is stopped (its score is
    None). Which one wins is the same, as long as the metric gives no example more than 1 and the answers are the same:
    without a cache an LM that draws lots may answer a candidate otherwise each time. Equal candidates are scored once.

    Args:
        metric: `metric(example, prediction, trace=None)`; in a bootstrap it is given a trace.
        teacher_settings, max_bootstrapped_demos, max_labeled_demos, max_rounds, max_errors, metric_threshold: as of
            `BootstrapFewShot`.
        num_candidate_programs: seeds from 0 on.
        num_threads: accepted as DSPy accepts it; the node's workers do the work (`max_in_flight` of `compile`).
        stop_at_score: take the first, in the order of seeds, that scores so much; 0 to 100.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        teacher_settings: Mapping[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        num_candidate_programs: int = 16,
        num_threads: int | None = None,
        max_errors: int | None = None,
        stop_at_score: float | None = None,
        metric_threshold: float | None = None,
    ) -> None:
        """Check the settings."""
        self._before = (metric_threshold, teacher_settings)
        self.teacher_settings = checked_teacher_settings(teacher_settings)
        self._after: tuple[int, int, int | None] = (max_labeled_demos, max_rounds, max_errors)
        self.metric = metric
        self.max_bootstrapped_demos = whole("max_bootstrapped_demos", max_bootstrapped_demos, 1)
        self.max_labeled_demos = max_labeled_demos
        self._bootstrap(self.max_bootstrapped_demos)  # refuses what is not legal
        self.num_candidate_programs = whole("num_candidate_programs", num_candidate_programs, 0)
        self.num_threads = checked_threads(num_threads)
        self.stop_at_score = _score("stop_at_score", stop_at_score)

    def _bootstrap(self, demos: int) -> BootstrapFewShot:
        labeled, rounds, errors = self._after
        return BootstrapFewShot(self.metric, *self._before, demos, labeled, rounds, errors)

    def expected(self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any) -> int:
        """Return how many candidates there are."""
        return self.num_candidate_programs + 3

    def compile(
        self,
        student: Program,
        *,
        teacher: Module | None = None,
        trainset: Any,
        valset: Any = None,
        restrict: Iterable[int] | None = None,
        labeled_sample: bool = True,
        **options: Unpack[Options],
    ) -> Program:
        """Return the best candidate; the program itself stays as it is.

        Args:
            student: the program, not optimised before.
            teacher: a program with the same predictors; None: the student itself.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            valset: what candidates are scored on; None: the trainset.
            restrict: only the candidates with these seeds.
            labeled_sample: draw the labelled demos of candidate -2 at random; False takes the first.
            **options: see `Options`.

        Returns:
            The program, with `candidate_programs`: dicts with `score`, `subscores`, `seed` and `program`.

        Raises:
            ConfigError: program, teacher, trainset or valset are not usable, or nothing is connected.
            RunFailed, RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        examples = self.examples(student, trainset)
        scored_on = examples if valset is None else self.examples(student, valset, "valset")
        check_pair(student, teacher)
        seeds = range(UNSHUFFLED - 2, self.num_candidate_programs)
        wanted = checked_seeds("restrict", restrict, seeds)
        steps = self._steps(student, teacher, examples, scored_on, wanted, labeled_sample)
        return self.carry(steps, student, examples, options, valset=scored_on)

    def _steps(
        self,
        student: Program,
        teacher: Module | None,
        examples: list[Example],
        scored_on: list[Example],
        seeds: list[int],
        labeled_sample: bool,
    ) -> Generator[Any, Any, Program]:
        stop = self.stop_at_score
        tried: list[_Tried] = yield Together(
            [self._candidate(student, teacher, examples, scored_on, seed, labeled_sample) for seed in seeds],
            None if stop is None else lambda first: (first[-1].score or 0.0) >= stop,
        )
        best = None
        for one in tried:
            if one.score is not None and (best is None or best.score is None or one.score > best.score):
                best = one
        if best is None:
            raise RunFailed("no candidate has a score")
        program: Program = best.program  # type: ignore[assignment]  # it is a copy of the student
        program.candidate_programs = Candidates(  # type: ignore[attr-defined]  # DSPy's name
            {"score": one.score, "subscores": one.subscores, "seed": one.seed, "program": one.program} for one in tried
        )
        return program

    def _candidate(
        self,
        student: Program,
        teacher: Module | None,
        examples: list[Example],
        scored_on: list[Example],
        seed: int,
        labeled_sample: bool,
    ) -> Generator[Any, Any, _Tried]:
        program: Module
        if seed == ZERO_SHOT:
            program = student.reset_copy()
        elif seed == LABELED:
            program = LabeledFewShot(self.max_labeled_demos).compile(student, trainset=examples, sample=labeled_sample)
        else:
            drawn, demos = list(examples), self.max_bootstrapped_demos
            if seed >= 0:
                random.Random(seed).shuffle(drawn)  # noqa: S311 - has to be repeatable, not secret
                demos = random.Random(seed).randint(1, demos)  # noqa: S311 - the same
            spare = spared(len(scored_on))  # so many will be asked in the next step, whatever comes of this one
            program = yield from self._bootstrap(demos).steps(student, drawn, teacher, spare=spare)
        # With a score to stop at, each in turn counts, a beaten one too.
        race = "candidates" if self.stop_at_score is None else None
        scored = yield Evaluate(program, scored_on, self.metric, race)  # type: ignore[arg-type]  # it was checked
        yield Candidate(f"seed {seed}", program, scored.score)
        return _Tried(seed, program, scored.score, scored.subscores)


def _score(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ConfigValueError(f"{name} is invalid: got {value!r:.100}, expected a score from 0 to 100, or None")
    return float(value)
