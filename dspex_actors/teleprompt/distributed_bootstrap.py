"""DistributedBootstrap: demos from all of a large trainset, the best of them, and those that were no luck.

optimizer = dspex.DistributedBootstrap(metric=dspex.metrics.f1("answer"), target_demos=16)
better = optimizer.compile(answer, trainset="questions.jsonl")
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from dspex_actors.errors import RunFailed
from dspex_actors.example import Example
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.bootstrap import MAX_ERRORS, BootstrapFewShot, check_pair
from dspex_actors.teleprompt.bootstrap_select import Bootstrapped, student_demos
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.steps import Bootstrap, Candidate, Together

#: So many times the demos that are wanted are kept for the vote.
KEPT = 2
#: Voters ask anew, at this temperature.
TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """An example that passed: a candidate for a demo.

    Args:
        index: in the trainset.
        score: what the metric said of it.
        demos: predictor → the demo that was made of its call.
    """

    index: int
    score: float
    demos: Mapping[str, Example]


def chunks_of(count: int, size: int) -> list[range]:
    """Return the parts of so many examples, in order: as many as parts of at most `size` take, equally long."""
    parts = max(1, -(-count // size))
    return [range(count * place // parts, count * (place + 1) // parts) for place in range(parts)]


def ranked(found: Sequence[Found], target: int) -> list[Found]:
    """Return the best of what passed, best first and at most twice as many as wanted; of equals what comes first."""
    return sorted(found, key=lambda one: (-one.score, one.index))[: KEPT * target]


def agreed(found: Sequence[Found], votes: Sequence[Sequence[int]], consensus: float) -> list[Found]:
    """Return those for which enough voters are.

    Args:
        found: what is voted on.
        votes: of each voter the places in `found` that it is for.
        consensus: the share of voters that it takes; with no voters all of them stay.
    """
    if not votes:
        return list(found)
    counts = [sum(place in ballot for ballot in map(frozenset, votes)) for place in range(len(found))]
    # In whole numbers: 3 of 5 are 0.6, whatever floats say.
    return [one for one, count in zip(found, counts, strict=True) if round(count - consensus * len(votes), 9) >= 0]


class DistributedBootstrap(Optimizer):
    """Bootstrap in parallel from all parts of a trainset, and keep the demos that are best and agreed on.

    1. The trainset is cut into chunks. A teacher tries the examples of all of them at once, on the workers of all
       nodes; a prediction that the metric gives `quality_threshold` is a candidate. A chunk ends with twice as many
       candidates as demos are wanted. One that meets too many errors is left out.
    2. The candidates are ranked by score; the best, twice as many as wanted, stay.
    3. Each of `voters` teachers asks them once more, by itself, at temperature 1. A candidate that fewer than
       `consensus_threshold` of them get right was luck, and goes.
    4. The first `target_demos` of what is left become the student's demos; labelled examples fill up to
       `max_labeled_demos`.

    If nothing is left, it does what `BootstrapFewShot` does, with as many demos.

    Args:
        metric: `metric(example, prediction, trace=None)` → a score from 0 to 1.
        target_demos: demos wanted.
        quality_threshold: the score that a candidate needs.
        consensus_threshold: the share of voters that must be for it, 0 to 1.
        voters: how many vote; 0: nobody does.
        chunk_size: examples of a chunk. None: 100, or enough for 64 chunks.
        max_labeled_demos: demos per predictor, labelled ones included; the teacher's too.
        max_rounds: tries per example.
        max_errors: a chunk is left out with the so-many-th error; None: 10.
        teacher_settings: settings of the teacher's calls, as of `BootstrapFewShot`.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        target_demos: int = 16,
        quality_threshold: float = 0.7,
        consensus_threshold: float = 0.6,
        voters: int = 3,
        chunk_size: int | None = None,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
        teacher_settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the settings."""
        self.target_demos = whole("target_demos", target_demos, 1)
        self.quality_threshold = _share("quality_threshold", quality_threshold)
        self.consensus_threshold = _share("consensus_threshold", consensus_threshold)
        self.voters = whole("voters", voters, 0)
        self.chunk_size = None if chunk_size is None else whole("chunk_size", chunk_size, 1)
        self.max_rounds = whole("max_rounds", max_rounds, 1)
        self.max_errors = MAX_ERRORS if max_errors is None else whole("max_errors", max_errors, 1)
        self._plain = BootstrapFewShot(
            metric, quality_threshold, teacher_settings, target_demos, max_labeled_demos, max_rounds, max_errors
        )
        self.metric, self.teacher_settings = self._plain.metric, self._plain.teacher_settings
        self.max_labeled_demos = self._plain.max_labeled_demos

    def compile(
        self, student: Program, *, teacher: Module | None = None, trainset: Any, **options: Unpack[Options]
    ) -> Program:
        """Return a copy of the program with demos; the program itself stays as it is.

        Args:
            student: the program, not optimised before.
            teacher: a program with the same predictors; None: the student itself.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            **options: see `Options`.

        Raises:
            ConfigError: program, teacher or trainset are not usable, or nothing is connected.
            RunFailed: every chunk met too many errors.
            RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        examples = self.examples(student, trainset)
        check_pair(student, teacher)
        expected = self.expected(student, len(examples))
        return self.carry(self.steps(student, examples, teacher), student, examples, options, expected)

    def steps(
        self, student: Program, examples: list[Example], teacher: Module | None = None
    ) -> Generator[Any, Any, Program]:
        """Yield what `compile` does as steps, and return what it returns.

        Args:
            student: the program, not optimised before.
            examples: in this order.
            teacher: a program with the same predictors; None: the student itself.
        """
        master = self._plain.teacher_for(student, teacher, examples)
        chunks = self._chunks(len(examples))
        parts = yield Together(
            [self._chunk(student, master, examples, chunk, number) for number, chunk in enumerate(chunks, 1)]
        )
        failures = [part for part in parts if isinstance(part, RunFailed)]
        if len(failures) == len(parts):
            raise failures[0]
        found = ranked([one for part in parts if not isinstance(part, RunFailed) for one in part], self.target_demos)
        if found:
            best = self._with_demos(student, examples, found[: self.target_demos])
            yield Candidate("the best of all chunks", best, None, whole=False)
            votes = yield Together([self._vote(master, examples, found, place) for place in range(self.voters)])
            found = agreed(found, [vote for vote in votes if vote is not None], self.consensus_threshold)
        if found:
            program = self._with_demos(student, examples, found[: self.target_demos])
        else:
            program = yield from self._plain.steps(student, examples, teacher)
        yield Candidate("bootstrapped", program, None)
        return program

    def expected(
        self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any
    ) -> int | None:
        """Return how many candidates there are, if no chunk is left out: what chunks find, all of them, the result."""
        return None if trainset is None else len(self._chunks(trainset)) + 2

    def _chunks(self, count: int) -> list[range]:
        return chunks_of(count, self.chunk_size or max(100, -(-count // 64)))

    def _bootstrap(self, teacher: Module, examples: list[Example], most: int, rounds: int, errors: int) -> Bootstrap:
        return Bootstrap(
            teacher,
            examples,
            self.metric,
            max_bootstrapped_demos=most,
            max_rounds=rounds,
            max_errors=errors,
            metric_threshold=self.quality_threshold,
            teacher_settings=self._plain.teacher_settings,
        )

    def _chunk(
        self, student: Program, teacher: Module, examples: list[Example], chunk: range, number: int
    ) -> Generator[Any, Any, Any]:
        mine = examples[chunk.start : chunk.stop]
        try:
            made: Bootstrapped = yield self._bootstrap(
                teacher, mine, KEPT * self.target_demos, self.max_rounds, self.max_errors
            )
        except RunFailed as error:
            return error
        found = [Found(chunk.start + place, score, demos) for place, score, demos in
                 zip(made.passed, made.scores, made.taken, strict=True)]  # fmt: skip
        # It has been compared with nothing, but whoever wants the best so far gets that.
        best = ranked(found, self.target_demos)[: self.target_demos]
        yield Candidate(f"chunk {number}", self._with_demos(student, examples, best), None, whole=False)
        return found

    def _vote(
        self, teacher: Module, examples: list[Example], found: Sequence[Found], place: int
    ) -> Generator[Any, Any, list[int] | None]:
        """Have a teacher ask once more; a voter that cannot vote (None) does not count."""
        voter = teacher.deepcopy().configure(temperature=TEMPERATURE, rollout_id=place + 1)
        asked = [examples[one.index] for one in found]
        try:
            made: Bootstrapped = yield self._bootstrap(voter, asked, len(asked), 1, len(asked))
        except RunFailed:
            return None
        return made.passed

    def _with_demos(self, student: Program, examples: list[Example], taken: Sequence[Found]) -> Program:
        program = student.reset_copy()
        predictors = dict(program.named_predictors())
        made = Bootstrapped(passed=[one.index for one in taken])
        for one in taken:
            for name, demo in one.demos.items():
                made.demos.setdefault(name, []).append(demo)
        for name, demos in student_demos(predictors, examples, made, max_labeled_demos=self.max_labeled_demos).items():
            predictors[name].demos = demos
        program._compiled = True
        return program


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
        raise ConfigValueError(f"{name} is invalid: got {value!r:.100}, expected a number from 0 to 1")
    return float(value)
