"""SIMBA: on small batches a program is tried several ways; what went well and what went wrong becomes demos and rules.

optimizer = dspex.SIMBA(metric=dspex.metrics.exact_match("team"))
better = optimizer.compile(triage, trainset=trainset)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Unpack

from dspex_actors.example import Example
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.base import BaseLM
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.bootstrap import checked_teacher_settings
from dspex_actors.teleprompt.candidates import Candidates, Logs
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.scoring import Scores, score_of
from dspex_actors.teleprompt.simba.advice import Limits, add_demo, add_rules
from dspex_actors.teleprompt.simba.pool import Pool, drop_demos, spread
from dspex_actors.teleprompt.simba.trajectories import Trajectory, Way, tried
from dspex_actors.teleprompt.steps import Candidate, Together
from dspex_actors.teleprompt.trainset import checked_lm, checked_threads

#: Percentiles of a batch's scores: what is good and what is bad in it.
LOW, HIGH = 10, 90


class _Lesson(NamedTuple):
    """A program that is to learn from a bucket: a demo, or a rule."""

    program: Module
    bucket: list[Trajectory]
    is_demo: bool


class SIMBA(Optimizer):
    """Improve a program by what it did itself: demos of what went well, rules from what went wrong.

    The algorithm and its numbers are DSPy 3.4's SIMBA ("stochastic introspective mini-batch ascent"). In each step:

    1. Each example of a mini-batch is done `num_candidates` times, at temperature 1, each time by a program drawn from
       the pool, the better the likelier.
    2. The examples on which the outcomes differ most come first. For each, a program is drawn; some of its demos go;
       then either the calls of the best way become demos, or an LM compares the best with the worst way and its advice
       is added to the instructions.
    3. The new programs (`num_candidates + 1`) are scored on the mini-batch and go into the pool; the best is kept.

    In the end the kept programs, evenly spread over the steps, are scored on the whole trainset, and the best wins.

    With the same seed and the same answers it chooses what DSPy chooses. What differs: all ways, all advice and all
    new programs of a step are done at once, and an example is not asked for again that the same program was scored on.

    Args:
        metric: `metric(example, prediction, trace=None)`; what it gives beside a `score` (feedback) is shown to who
            advises.
        bsize: examples of a mini-batch; the trainset has as many at least.
        num_candidates: ways per example, and new programs per step, less one.
        max_steps: steps.
        max_demos: demos a predictor holds, roughly; 0: only rules are added.
        prompt_model: the LM that advises; None: the one of the settings.
        teacher_settings: its `lm` does each example the first time.
        demo_input_field_maxlen: characters of an input in a demo; what is longer is cut.
        num_threads: accepted as DSPy accepts it; the node's workers do the work (`max_in_flight` of `compile`).
        temperature_for_sampling, temperature_for_candidates: how much chance there is in drawing programs, for ways
            and for new programs; above 0.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        *,
        metric: Callable[..., Any] | None = None,
        bsize: int = 32,
        num_candidates: int = 6,
        max_steps: int = 8,
        max_demos: int = 4,
        prompt_model: BaseLM | None = None,
        teacher_settings: Mapping[str, Any] | None = None,
        demo_input_field_maxlen: int = 100_000,
        num_threads: int | None = None,
        temperature_for_sampling: float = 0.2,
        temperature_for_candidates: float = 0.2,
    ) -> None:
        """Check the settings."""
        self.metric = metric
        self.bsize = whole("bsize", bsize, 1)
        self.num_candidates = whole("num_candidates", num_candidates, 1)
        self.max_steps = whole("max_steps", max_steps, 1)
        self.max_demos = whole("max_demos", max_demos, 0)
        self.prompt_model = checked_lm("prompt_model", prompt_model)
        self.teacher_settings = checked_teacher_settings(teacher_settings)
        self.demo_input_field_maxlen = whole("demo_input_field_maxlen", demo_input_field_maxlen, 0)
        self.num_threads = checked_threads(num_threads)
        self.temperature_for_sampling = _above_0("temperature_for_sampling", temperature_for_sampling)
        self.temperature_for_candidates = _above_0("temperature_for_candidates", temperature_for_candidates)

    def compile(self, student: Program, *, trainset: Any, seed: int = 0, **options: Unpack[Options]) -> Program:
        """Return the best program; the program itself stays as it is.

        Args:
            student: the program.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            seed: of all chance.
            **options: see `Options`.

        Returns:
            The program, with `candidate_programs` (dicts with `score`, the mean as the metric gives it, and `program`)
            and `trial_logs`.

        Raises:
            ConfigError: program or trainset are not usable, or nothing is connected.
            RunFailed, RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        examples = self.examples(student, trainset)
        if len(examples) < self.bsize:
            raise ConfigValueError(
                f"trainset: expected at least bsize={self.bsize} examples, got {len(examples)}; give a smaller bsize"
            )
        steps = self._steps(student, examples, whole("seed", seed, 0))
        return self.carry(steps, student, examples, options)

    def expected(self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any) -> int:
        """Return how many candidates there are, if all advice can be read."""
        return self.max_steps * (self.num_candidates + 1) + len(spread(self.max_steps, self.num_candidates + 1))

    def _steps(self, student: Program, examples: list[Example], seed: int) -> Generator[Any, Any, Program]:
        import numpy  # for those who optimise

        rng, chance = random.Random(seed), numpy.random.default_rng(seed)  # noqa: S311 - has to be repeatable
        scores = Scores(examples, self.metric)  # type: ignore[arg-type]  # it was checked
        first: Module = student.deepcopy()
        pool, winners = Pool([first]), [first]
        order, at = list(range(len(examples))), 0
        rng.shuffle(order)
        for step in range(self.max_steps):
            if at + self.bsize > len(order):
                rng.shuffle(order)
                at = 0
            batch = order[at : at + self.bsize]
            at += self.bsize
            ways = self._ways(pool, [examples[number] for number in batch], rng)
            trajectories = yield from tried(ways, self.metric)  # type: ignore[arg-type]
            points = [one.score for one in trajectories]
            limits = Limits(float(numpy.percentile(points, LOW)), float(numpy.percentile(points, HIGH)))
            new = yield from self._taught(pool, _buckets(trajectories, self.bsize), limits, rng, chance)
            scored = yield from scores.of([(program, batch) for program in new])
            for number, (program, subscores) in enumerate(zip(new, scored, strict=True), 1):
                yield Candidate(f"step {step + 1}, program {number}", program, score_of(subscores), whole=False)
                pool.add(program, subscores)
            if new:
                winners.append(new[max(range(len(new)), key=lambda place: sum(scored[place]) / self.bsize)].deepcopy())
        chosen = spread(len(winners) - 1, self.num_candidates + 1)
        scored = yield from scores.of([(winners[number], range(len(examples))) for number in chosen])
        best: Program = yield from self._best(winners, chosen, scored)
        return best

    def _best(self, winners: list[Module], chosen: list[int], scored: list[list[float]]) -> Generator[Any, Any, Any]:
        means = [sum(subscores) / len(subscores) for subscores in scored]
        logs: dict[int, dict[str, Any]] = {step: {} for step in range(self.max_steps)}
        for place, (number, mean) in enumerate(zip(chosen, means, strict=True)):
            if place:
                logs[place - 1]["train_score"] = mean
            title = f"the best of step {number}" if number else "the program as it is"
            yield Candidate(title, winners[number], score_of(scored[place]))
        best = winners[chosen[means.index(max(means))]].deepcopy()
        found = Candidates(
            {"score": mean, "program": winners[number].deepcopy()} for number, mean in zip(chosen, means, strict=True)
        )
        vars(best).update(candidate_programs=found, trial_logs=Logs(logs))
        return best

    def _ways(self, pool: Pool, batch: list[Example], rng: random.Random) -> list[Way]:
        """Draw a program for each example and rollout; the first may be a teacher's."""
        best = pool.top(self.num_candidates)
        ways = []
        for rollout in range(self.num_candidates):
            is_teacher = bool(self.teacher_settings) and rollout == 0
            lm = self.teacher_settings.get("lm") if is_teacher else None
            for example in batch:
                program = pool.programs[pool.draw(rng, best, self.temperature_for_sampling)]
                ways.append(Way(program, example, rollout, lm, None if is_teacher else 1.0))
        return ways

    def _taught(
        self, pool: Pool, buckets: list[list[Trajectory]], limits: Limits, rng: random.Random, chance: Any
    ) -> Generator[Any, Any, list[Module]]:
        """Make new programs, one for a bucket, until there are enough: for advice that cannot be read comes another."""
        found: list[Module] = []
        left = self._lessons(pool, buckets, rng, chance)
        while lessons := list(islice(left, self.num_candidates + 1 - len(found))):
            made: list[Module | None] = yield Together([self._learn(lesson, limits) for lesson in lessons])
            found += [program for program in made if program is not None]
        return found

    def _lessons(
        self, pool: Pool, buckets: list[list[Trajectory]], rng: random.Random, chance: Any
    ) -> Iterator[_Lesson]:
        for bucket in buckets:
            number = pool.draw(rng, pool.top(self.num_candidates), self.temperature_for_candidates)
            program = pool.programs[number].deepcopy()
            drop_demos(program, self.max_demos, rng, chance)
            kinds = [True, False] if self.max_demos else [False]
            yield _Lesson(program, bucket, rng.choice(kinds))

    def _learn(self, lesson: _Lesson, limits: Limits) -> Generator[Any, Any, Module | None]:
        if lesson.is_demo:
            add_demo(lesson.program, lesson.bucket[0], limits, self.demo_input_field_maxlen)
            return lesson.program
        return (yield from add_rules(lesson.program, lesson.bucket, limits, self.prompt_model))


def _buckets(trajectories: Sequence[Trajectory], size: int) -> list[list[Trajectory]]:
    """Return the trajectories of each example, the best first; those come first whose outcomes differ most."""
    buckets = []
    for place in range(size):
        bucket = sorted(trajectories[place::size], key=lambda one: one.score, reverse=True)
        best, worst = bucket[0].score, bucket[-1].score
        mean = sum(one.score for one in bucket) / len(bucket)
        buckets.append((bucket, (best - worst, best, best - mean)))
    buckets.sort(key=lambda one: one[1], reverse=True)
    return [bucket for bucket, _ in buckets]


def _above_0(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigValueError(f"{name} is invalid: got {value!r:.100}, expected a number above 0")
    return float(value)
