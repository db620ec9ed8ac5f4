"""What gepa's engine asks of a system, asked of the node: evaluations, feedback and proposals are runs of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_actors.example import Example
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.gepa.ahead import Ahead
from dspex_actors.teleprompt.gepa.instructions import InstructionProposer
from dspex_actors.teleprompt.gepa.reflection import Feedback, Proposing, takes, words
from dspex_actors.teleprompt.gepa.trajectories import Chosen, FailedPrediction, choose, trajectories
from dspex_actors.teleprompt.steps import Ask, Candidate, Observe, Observed, Step, Together
from dspex_actors.types.base import Type

_log = logging.getLogger("dspex_actors.gepa")


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is optimised, and how.

    Args:
        student: the program.
        scoring: the metric as that of an evaluation.
        metric: the metric as it is asked for feedback.
        proposer: of instructions: ours, or one of the user's.
        reflection_lm: whom a proposer asks.
        failure_score: of examples that failed.
        format_failures: show answers that could not be read.
        warn: say once that the metric scores a predictor in another way.
        only_val: ids of examples that are never reflected on.
    """

    student: Module
    scoring: Callable[..., Any]
    metric: Callable[..., Any]
    proposer: Any
    reflection_lm: Any
    failure_score: float
    format_failures: bool
    warn: bool
    only_val: frozenset[int]


class Adapter:
    """gepa's adapter (`gepa.GEPAAdapter`).

    Args:
        task: what is optimised.
        ask: has the node do a step.
        rng: draws the calls that are shown.
    """

    def __init__(self, task: Task, ask: Callable[[Step], Any], rng: random.Random) -> None:
        """Keep them."""
        self.task, self._ask, self._rng, self._warns = task, ask, rng, task.warn
        self.ahead = Ahead()
        # An attribute and not a method: gepa asks whether it is None.
        self.propose_new_texts = self._propose

    def build_program(self, candidate: Mapping[str, str]) -> Any:
        """Return the student with a candidate's instructions."""
        program = self.task.student.deepcopy()
        for name, predictor in program.named_predictors():
            if name in candidate:
                predictor.signature = predictor.signature.with_instructions(candidate[name])
        return program

    # --- evaluating -------------------------------------------------------------------------------------------------

    def evaluate(self, batch: Sequence[Example], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """Score a candidate on examples."""
        step = self._observe(batch, candidate, capture_traces)
        self.ahead.given(len(batch))
        return self._evaluated(step, self._ask(step), capture_traces)

    def batch_evaluate(self, items: Sequence[tuple[Any, Any]], *, capture_traces: bool = True) -> list[Any]:
        """Score several candidates, each on its examples, at once; with them what will be asked for next."""
        found, ahead = [self.ahead.take(candidate, batch) for candidate, batch in items], self.ahead.next()
        #: For each candidate: the examples to ask for, and where each goes; to no item: ahead.
        asked: list[tuple[Any, list[Example], list[tuple[int, int] | None]]] = []
        for number, (candidate, batch) in enumerate(items):
            lacking = [place for place, seen in enumerate(found[number]) if seen is None]
            if lacking:
                asked.append((candidate, [batch[place] for place in lacking], [(number, place) for place in lacking]))
        if asked:
            _add(ahead, asked)
            steps = [self._observe(examples, candidate, capture_traces) for candidate, examples, _ in asked]
            came = [self._ask(steps[0])] if len(steps) == 1 else self._ask(Together(steps))
            for (candidate, examples, places), seen in zip(asked, came, strict=True):
                for example, place, one in zip(examples, places, seen, strict=True):
                    if place is None:
                        self.ahead.put(candidate, example, one)
                    else:
                        found[place[0]][place[1]] = one
        return [
            self._evaluated(self._observe(batch, candidate, capture_traces), list(filter(None, seen)), capture_traces)
            for (candidate, batch), seen in zip(items, found, strict=True)
        ]

    def _observe(self, batch: Sequence[Example], candidate: Mapping[str, str], traced: bool) -> Observe:
        # Traces are for reflection, and nobody reflects on examples that are only scored.
        traced = traced and not all(id(example) in self.task.only_val for example in batch)
        program = self.build_program(candidate)
        return Observe(program, list(batch), self.task.scoring, traced, self.task.failure_score)

    def _evaluated(self, step: Observe, seen: Sequence[Observed], traced: bool) -> Any:
        from gepa.core.adapter import EvaluationBatch

        named = [{name: one.scores[name] for name in one.scores if name != "score"} for one in seen]
        return EvaluationBatch(
            outputs=[one.prediction for one in seen],
            scores=[one.score for one in seen],
            trajectories=trajectories(step.program, step.examples, seen) if traced else None,
            objective_scores=named if any(named) else None,
        )

    # --- reflecting -------------------------------------------------------------------------------------------------

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return, for each predictor that is to get another instruction, what it did and what the metric says of it.

        Raises:
            Exception: there is nothing to show of any of them; gepa goes on with another batch.
        """
        program = self.build_program(candidate)
        predictors = dict(program.named_predictors())
        rows = eval_batch.trajectories or []
        found = {}
        for name in components_to_update:
            chosen = choose(predictors[name], rows, self._rng, failures=self.task.format_failures)
            if chosen:
                said = self._feedback(program, name, rows, chosen)
                found[name] = [self._shown(one, text) for one, text in zip(chosen, said, strict=True)]
            else:
                _log.warning("GEPA: no call of %s can be shown", name)
        if not found:
            raise Exception("no prediction of any predictor can be shown")
        return found

    def _feedback(
        self, program: Module, name: str, rows: Sequence[Mapping[str, Any]], chosen: Sequence[Chosen]
    ) -> list[str]:
        by_place = {row["example_ind"]: row for row in rows}
        asked = [one for one in chosen if not isinstance(one.call[2], FailedPrediction)]
        said = iter(self._metrics_words(program, name, [(by_place[one.place], one) for one in asked]))
        form = _form(program, name)
        return [form if isinstance(one.call[2], FailedPrediction) else next(said) for one in chosen]

    def _metrics_words(
        self, program: Module, name: str, asked: Sequence[tuple[Mapping[str, Any], Chosen]]
    ) -> list[str]:
        if not takes(self.task.metric, 5):
            # It says nothing of single predictors: what it said of the example is known.
            return [row["feedback"] or words(row["score"]) for row, _ in asked]
        inputs = [Feedback.row(row, name, one.at) for row, one in asked]
        came = self._ask(Ask(Feedback(program, self.task.metric), inputs)) if inputs else []
        found = []
        for (row, _), one in zip(asked, came, strict=True):
            if one is not None and one.score != row["score"] and self._warns:
                self._warns = False
                _log.warning(
                    "GEPA: the metric scores a predictor (pred_name=%r) otherwise than the whole: %s and not %s; the "
                    "score of the whole counts. warn_on_score_mismatch=False: do not say so",
                    name,
                    one.score,
                    row["score"],
                )
            feedback = None if one is None else one.feedback
            found.append(words(row["score"]) if feedback is None else str(feedback))
        return found

    def _shown(self, chosen: Chosen, feedback: str) -> dict[str, Any]:
        _, inputs, outputs = chosen.call
        as_they_are = isinstance(self.task.proposer, InstructionProposer)
        made: Any
        if isinstance(outputs, FailedPrediction):
            made = f"This answer could not be read:\n```\n{outputs.completion_text}\n```\n"
        else:
            made = {name: value if as_they_are else str(value) for name, value in outputs.items()}
        given = {
            name: value if as_they_are or isinstance(value, Type) else str(value) for name, value in inputs.items()
        }
        return {"Inputs": given, "Generated Outputs": made, "Feedback": feedback}

    # --- proposing --------------------------------------------------------------------------------------------------

    def _propose(
        self, candidate: dict[str, str], reflective_dataset: Mapping[str, Any], components_to_update: list[str]
    ) -> dict[str, str]:
        """Return a new instruction for each predictor.

        Raises:
            ValueError: one of them could not be had; gepa tries once more.
        """
        lm = self.task.reflection_lm
        if not isinstance(self.task.proposer, InstructionProposer):
            row = {
                "candidate": dict(candidate),
                "reflective_dataset": {name: list(rows) for name, rows in reflective_dataset.items()},
                "components_to_update": list(components_to_update),
            }
            (came,) = self._ask(Ask(Proposing(self.task.proposer), [row], lm))
            if came is None:
                raise ValueError("the proposer failed")
            return dict(came.texts)
        names = [name for name in components_to_update if name in candidate and name in reflective_dataset]
        asked = [
            {"current_instruction": candidate[name], "examples_with_feedback": list(reflective_dataset[name])}
            for name in names
        ]
        proposed = self._ask(Ask(self.task.proposer, asked, lm)) if asked else []
        if any(one is None for one in proposed):
            raise ValueError("no instruction could be read")
        return {name: one.new_instruction for name, one in zip(names, proposed, strict=True)}

    # --- telling ----------------------------------------------------------------------------------------------------

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Tell of a candidate with its score on all examples (a callback of gepa's)."""
        score = round(100 * event["average_score"], 2)
        self._ask(Candidate(f"candidate {event['candidate_idx']}", self.build_program(event["candidate"]), score))


def _add(ahead: Iterable[tuple[Any, Example]], asked: list[Any]) -> None:
    """Add what is foreseen to what is to be asked: a candidate that is asked anyway is asked for more."""
    for candidate, example in ahead:
        same = next((one for one in asked if one[0] == candidate), None)
        if same is None:
            asked.append((candidate, [example], [None]))
        else:
            same[1].append(example)
            same[2].append(None)


def _form(program: Module, name: str) -> str:
    """Return what an answer of a predictor has to look like, as its LM is told."""
    from dspex_actors.adapters.chat import ChatAdapter

    signature = dict(program.named_predictors())[name].signature
    return f"It has to have this form:\n{ChatAdapter().format_field_structure(signature)}"
