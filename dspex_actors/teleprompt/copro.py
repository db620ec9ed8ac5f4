"""COPRO: instructions that an LM proposes, compared by their scores, the next ones proposed in the light of these.

optimizer = dspex.COPRO(metric=dspex.metrics.exact_match("team"), prompt_model=dspex.LM("openai/gpt-4o"))
better = optimizer.compile(triage, trainset=trainset)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from dspex_actors.errors import RunFailed
from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.checks import whole
from dspex_actors.lm.base import BaseLM
from dspex_actors.programs.module import Module
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from dspex_actors.teleprompt.candidates import Candidates
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.proposer import Proposer
from dspex_actors.teleprompt.steps import Ask, Candidate, Evaluate, Scored, Together
from dspex_actors.teleprompt.trainset import checked_lm, temperature

#: So many of the best are in its statistics.
TOP = 10


class ProposeInstruction(Signature):
    """You write instructions for language models. You are given the instruction of a task, which names its fields.
    Write a better one: an instruction with which a capable language model does the task well. Feel free to be creative.
    """

    basic_instruction: str = InputField(desc="the instruction as it is now")
    proposed_instruction: str = OutputField(desc="the better instruction")
    proposed_prefix_for_output_field: str = OutputField(
        desc="words for the end of the prompt, with which the model begins its answer"
    )


class ProposeFromAttempts(Signature):
    """You write instructions for language models. You are given instructions for one task that were tried, and the
    score of each on held-out examples; they stand in the order of their scores, the best last.
    Write a new one with which a capable language model does the task better still. Feel free to be creative.
    """

    attempted_instructions: str = InputField(desc="what was tried, with its score")
    proposed_instruction: str = OutputField(desc="the better instruction")
    proposed_prefix_for_output_field: str = OutputField(
        desc="words for the end of the prompt, with which the model begins its answer"
    )


@dataclass(frozen=True, slots=True)
class _Wording:
    instruction: str
    prefix: str


@dataclass(slots=True)
class _Tried:
    score: float
    program: Module
    wording: _Wording
    depth: int


class COPRO(Optimizer):
    """Have an LM propose instructions, score each, and propose again in the light of the scores.

    The algorithm and its numbers are DSPy 3.4's COPRO ("coordinate ascent of prompts", Khattab et al. 2023, after Zhou
    et al. 2022 and Yang et al. 2023). For each predictor, the LM proposes `breadth - 1` instructions (and words with
    which the last field begins), to which comes its present one. Each is scored on the trainset with the best so far of
    the others; then the LM is shown the best `breadth` with their scores, the best last, and proposes `breadth` more;
    that goes on until `depth` rounds are scored. With several predictors all proposals are scored again in each round.

    What differs: a round's candidates are scored at once, those of the last round as a race, and a proposal that cannot
    be read is left out instead of ending everything.

    Args:
        prompt_model: the LM that proposes; None: the one that the program asks.
        metric: `metric(example, prediction, trace=None)`.
        breadth: proposals per round, at least 2.
        depth: rounds, at least 1.
        init_temperature: the temperature of proposals.
        track_stats: have the best program tell of each round: `results_best` and `results_latest`, by predictor.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        prompt_model: BaseLM | None = None,
        metric: Callable[..., Any] | None = None,
        breadth: int = 10,
        depth: int = 3,
        init_temperature: float = 1.4,
        track_stats: bool = False,
    ) -> None:
        """Check the settings."""
        self.prompt_model = checked_lm("prompt_model", prompt_model)
        self.metric = metric
        self.breadth = whole("breadth", breadth, 2)
        self.depth = whole("depth", depth, 1)
        self.init_temperature = temperature("init_temperature", init_temperature)
        self.track_stats = bool(track_stats)

    def compile(
        self,
        student: Program,
        *,
        trainset: Any,
        eval_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Program:
        """Return a copy of the program with the best instructions; the program itself stays as it is.

        Args:
            student: the program.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV; candidates are scored on it.
            eval_kwargs: accepted as DSPy accepts it; the node's workers do the work.
            **options: see `Options`.

        Returns:
            The program, with `candidate_programs` (dicts with `score`, `program`, `instruction`, `prefix` and `depth`)
            and `total_calls`, the number of evaluations.

        Raises:
            ConfigError: program, trainset or metric are not usable, or nothing is connected.
            RunFailed: no proposal could be read.
            RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        examples = self.examples(student, trainset)
        return self.carry(self._steps(student, examples), student, examples, options)

    def expected(self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any) -> int:
        """Return how many candidates there are, if every proposal can be read."""
        count = len(student.predictors())
        rounds = range(1, self.depth + 1)
        return count * self.breadth * (len(rounds) if count == 1 else sum(rounds))

    def _steps(self, student: Program, examples: list[Example]) -> Generator[Any, Any, Program]:
        module = student.deepcopy()
        count = len(module.predictors())
        calls, stats = 0, _Stats(count)
        tried: list[dict[_Wording, _Tried]] = [{} for _ in range(count)]
        before = [_wording(predictor) for predictor in module.predictors()]
        proposed = yield Together([self._first(wording) for wording in before])
        if not any(proposed):
            raise RunFailed("COPRO: no proposal could be read; give a prompt_model that keeps to the form")
        latest = [
            [*found, _Wording(_clean(one.instruction), _clean(one.prefix))]
            for found, one in zip(proposed, before, strict=True)
        ]
        everything = [list(found) for found in latest]
        for depth in range(self.depth):
            for place in range(count):
                # With several predictors what was proposed before is scored again: the others have changed.
                wordings = everything[place] if count > 1 else latest[place]
                scored = yield from self._score(module, place, wordings, examples, depth)
                calls += len(wordings)
                fresh = [one.score for _, one in scored[-len(latest[place]) :] if one.score is not None]
                stats.latest(place, depth, fresh)
                for program, one in scored:
                    wording = _wording(program.predictors()[place])
                    known = tried[place].get(wording)
                    if one.score is not None and (known is None or known.score < one.score):
                        tried[place][wording] = _Tried(one.score, program, wording, depth)
                best = max(tried[place].values(), key=lambda one: one.score)
                _word(module, place, best.wording)
                stats.best(place, depth, [one.score for one in tried[place].values()])
            if depth + 1 < self.depth:
                latest = yield Together([self._next(list(found.values())) for found in tried])
                everything = [old + new for old, new in zip(everything, latest, strict=True)]
                if not any(latest):
                    break  # nothing new to score
        return self._best([one for found in tried for one in found.values()], calls, stats)  # type: ignore[no-any-return]

    def _first(self, wording: _Wording) -> Generator[Any, Any, list[_Wording]]:
        row = {"basic_instruction": wording.instruction}
        return (yield from self._propose(ProposeInstruction, row, self.breadth - 1))

    def _next(self, tried: list[_Tried]) -> Generator[Any, Any, list[_Wording]]:
        best = sorted(tried, key=lambda one: one.score, reverse=True)[: self.breadth]
        shown = []
        for number, one in enumerate(reversed(best), 1):
            shown.append(f"Instruction #{number}: {one.wording.instruction}")
            shown.append(f"Prefix #{number}: {one.wording.prefix}")
            shown.append(f"Resulting Score #{number}: {one.score}")
        return (yield from self._propose(ProposeFromAttempts, {"attempted_instructions": shown}, self.breadth))

    def _propose(
        self, signature: type[Signature], row: dict[str, Any], count: int
    ) -> Generator[Any, Any, list[_Wording]]:
        proposer = Proposer(signature, temperature=self.init_temperature)
        found: list[Prediction | None] = yield Ask(proposer, proposer.rows(row, count), self.prompt_model)
        return [
            _Wording(_clean(one.proposed_instruction), _clean(one.proposed_prefix_for_output_field))
            for one in found
            if one is not None
        ]

    def _score(
        self, module: Module, place: int, wordings: Sequence[_Wording], examples: list[Example], depth: int
    ) -> Generator[Any, Any, list[tuple[Module, Scored]]]:
        programs = []
        for wording in wordings:
            program = module.deepcopy()
            _word(program, place, wording)
            programs.append(program)
        # The scores of all are shown to who proposes next; after the last round only the best counts.
        race = f"predictor {place}" if depth + 1 == self.depth and place + 1 == len(module.predictors()) else None
        called = f"round {depth + 1}, predictor {place + 1}, proposal"
        scored: list[Scored] = yield Together(
            [
                self._score_one(f"{called} {number}", Evaluate(program, examples, self.metric, race))  # type: ignore[arg-type]
                for number, program in enumerate(programs, 1)
            ]
        )
        return list(zip(programs, scored, strict=True))

    def _score_one(self, name: str, step: Evaluate) -> Generator[Any, Any, Scored]:
        scored: Scored = yield step
        yield Candidate(name, step.program, scored.score)
        return scored

    def _best(self, tried: list[_Tried], calls: int, stats: _Stats) -> Any:
        tried = sorted(tried, key=lambda one: one.score, reverse=True)
        program = tried[0].program
        found = Candidates(
            {
                "score": one.score,
                "program": one.program,
                "instruction": one.wording.instruction,
                "prefix": one.wording.prefix,
                "depth": one.depth,
            }
            for one in _distinct(tried)
        )
        vars(program).update(candidate_programs=found, total_calls=calls)
        if self.track_stats:
            vars(program).update(results_best=stats.of_best, results_latest=stats.of_latest)
        return program


class _Stats:
    """What each round has come to, by predictor, as DSPy tells it."""

    def __init__(self, count: int) -> None:
        names = ("depth", "max", "average", "min", "std")
        self.of_best: dict[int, dict[str, list[float]]] = {at: {name: [] for name in names} for at in range(count)}
        self.of_latest: dict[int, dict[str, list[float]]] = {at: {name: [] for name in names} for at in range(count)}

    def best(self, place: int, depth: int, scores: Sequence[float]) -> None:
        _add(self.of_best[place], depth, sorted(scores, reverse=True)[:TOP])

    def latest(self, place: int, depth: int, scores: Sequence[float]) -> None:
        _add(self.of_latest[place], depth, scores)


def _add(rows: dict[str, list[float]], depth: int, scores: Sequence[float]) -> None:
    if scores:
        rows["depth"].append(depth)
        rows["max"].append(max(scores))
        rows["average"].append(sum(scores) / len(scores))
        rows["min"].append(min(scores))
        rows["std"].append(statistics.pstdev(scores))


def _wording(predictor: Any) -> _Wording:
    state = predictor.signature.dump_state()
    return _Wording(state["instructions"], state["fields"][-1]["prefix"])


def _word(program: Module, place: int, wording: _Wording) -> None:
    """Give a predictor of a program other words."""
    predictor = program.predictors()[place]
    last = list(predictor.signature.fields)[-1]
    worded = predictor.signature.with_instructions(wording.instruction)
    predictor.signature = worded.with_updated_fields(last, prefix=wording.prefix)


def _clean(text: Any) -> str:
    return str(text).strip('"').strip()


def _distinct(tried: Sequence[_Tried]) -> list[_Tried]:
    """Leave out who says the same as another one of the same score."""
    seen, found = set(), []
    for one in tried:
        key = (one.score, *(_wording(predictor) for predictor in one.program.predictors()))
        if key not in seen:
            seen.add(key)
            found.append(one)
    return found
