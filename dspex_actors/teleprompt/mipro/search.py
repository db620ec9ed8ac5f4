"""The search of MIPROv2: trials of combinations, scored on minibatches; the best on average are scored on all."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.mipro.plan import Plan
from dspex_actors.teleprompt.mipro.trials import Asked, Trials, drawn_at_random
from dspex_actors.teleprompt.scoring import Scores, score_of
from dspex_actors.teleprompt.steps import Candidate


@dataclass(slots=True)
class Found:
    """What has been found so far.

    Args:
        program: the best that was scored on all examples.
        score: its score, 0 to 100.
        tried: all that was scored: dicts with `score`, `program` and `full_eval`.
        logs: DSPy's `trial_logs`: by number from 1 what was chosen, and what it scored.
        evaluated: examples scored so far, as DSPy counts them: each in every trial.
    """

    program: Module
    score: float
    tried: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[int, dict[str, Any]] = field(default_factory=dict)
    evaluated: int = 0


@dataclass(slots=True)
class _Combination:
    program: Module
    choices: dict[str, int]
    scores: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)


class Search:
    """A search for the best combination.

    Args:
        plan: its numbers.
        student: the program.
        instructions: predictor's place → instructions to choose from.
        demos: predictor's place → sets of demos to choose from; None: demos stay as they are.
        scores: of the valset.
        seed: of the study.
        rng: draws minibatches.
        in_flight: trials that are proposed without knowing of each other's scores, and carried out together.
    """

    def __init__(
        self,
        plan: Plan,
        student: Module,
        instructions: Sequence[Sequence[str]],
        demos: Sequence[Sequence[Sequence[Any]]] | None,
        scores: Scores,
        *,
        seed: int,
        rng: random.Random,
        in_flight: int = 1,
    ) -> None:
        """Draw the minibatches."""
        self._plan, self._student, self._scores = plan, student, scores
        self._instructions, self._demos, self._seed, self._in_flight = instructions, demos, seed, in_flight
        self._all = list(range(len(scores.examples)))
        size = len(self._all) if plan.minibatch is None else plan.minibatch
        self._batches = [
            rng.sample(self._all, size) if size < len(self._all) else self._all for _ in range(plan.trials)
        ]
        self._sizes: dict[str, int] = {}
        for place, found in enumerate(instructions):
            self._sizes[_instruction(place)] = len(found)
            if demos is not None:
                self._sizes[_demo_set(place)] = len(demos[place])
        self._combinations: dict[tuple[int, ...], _Combination] = {}
        self._whole: set[tuple[int, ...]] = set()

    def steps(self) -> Generator[Any, Any, Found]:
        """Yield evaluations, and return what was found."""
        plan, student = self._plan, self._student
        # What chance alone decides is known before anything is scored: it is scored at once.
        ahead = drawn_at_random(self._seed, self._sizes, plan.trials, plan.is_full_after)
        first = [(self._program(choices), batch) for choices, batch in zip(ahead, self._batches, strict=False)]
        known, *_ = yield from self._scores.of([(student, self._all), *first])
        score = score_of(known)
        found = Found(student.deepcopy(), score)
        found.tried.append({"score": score, "program": student.deepcopy(), "full_eval": True})
        self._log(found, 1, student, score, len(self._all), whole=True)
        yield Candidate("the program as it is", student, score)
        study = Trials(self._seed, self._sizes)
        study.add(dict.fromkeys(self._sizes, 0), score)
        done = 0
        while done < plan.trials:
            count = 1
            while count < self._in_flight and done + count < plan.trials and not plan.is_full_after(done + count):
                count += 1
            wave = [study.ask() for _ in range(count)]
            programs = [self._program(asked.choices) for asked in wave]
            batches = self._batches[done : done + count]
            scored = yield from self._scores.of(list(zip(programs, batches, strict=True)))
            for asked, program, batch, one in zip(wave, programs, batches, scored, strict=True):
                done += 1
                score = score_of(one)
                yield from self._take(found, asked, program, score, len(batch))
                if plan.is_full_after(done):
                    yield from self._score_whole(found, study)  # its trial comes before this one's score, as in DSPy
                study.tell(asked, score)
        return found

    def _take(self, found: Found, asked: Asked, program: Module, score: float, size: int) -> Generator[Any, Any, None]:
        is_whole, number = size >= len(self._all), asked.number + 1
        key = tuple(asked.choices.values())
        self._combinations.setdefault(key, _Combination(program, asked.choices)).scores.append(score)
        found.tried.append({"score": score, "program": program, "full_eval": is_whole})
        self._log(found, number, program, score, size, whole=self._plan.minibatch is None)
        found.logs[number] |= asked.choices
        if self._plan.minibatch is None and score > found.score:
            found.score, found.program = score, program.deepcopy()
        yield Candidate(f"trial {number}", program, score, whole=self._plan.minibatch is None)

    def _score_whole(self, found: Found, study: Trials) -> Generator[Any, Any, None]:
        """Score the combination that is best on average, of those that were not scored on all examples yet."""
        left = [(key, one) for key, one in self._combinations.items() if key not in self._whole]
        if not left:
            return  # all there are
        key, best = max(left, key=lambda one: one[1].mean)
        (known,) = yield from self._scores.of([(best.program, self._all)])
        score = score_of(known)
        self._whole.add(key)
        number = study.add(best.choices, score) + 1
        found.tried.append({"score": score, "program": best.program, "full_eval": True})
        self._log(found, number, best.program, score, len(self._all), whole=True)
        if score > found.score:
            found.score, found.program = score, best.program.deepcopy()
        yield Candidate(f"trial {number}, on all examples", best.program, score)

    def _log(self, found: Found, number: int, program: Module, score: float, size: int, *, whole: bool) -> None:
        found.evaluated += size
        kind = "full_eval" if whole else "mb"
        found.logs[number] = {
            f"{kind}_program_path": None,
            f"{kind}_score": score,
            "total_eval_calls_so_far": found.evaluated,
            f"{kind}_program": program,
        }

    def _program(self, choices: Mapping[str, int]) -> Module:
        program = self._student.deepcopy()
        for place, predictor in enumerate(program.predictors()):
            text = self._instructions[place][choices[_instruction(place)]]
            predictor.signature = predictor.signature.with_instructions(text)
            if self._demos is not None:
                predictor.demos = list(self._demos[place][choices[_demo_set(place)]])
        return program


def _instruction(place: int) -> str:
    return f"{place}_predictor_instruction"


def _demo_set(place: int) -> str:
    return f"{place}_predictor_demos"
