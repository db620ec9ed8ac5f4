"""What gepa's engine asks of a system, asked of the node: evaluations, feedback and proposals are runs of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from dspex_actors.example import Example
from dspex_actors.teleprompt.gepa.ahead import Ahead, Try
from dspex_actors.teleprompt.gepa.instructions import InstructionProposer
from dspex_actors.teleprompt.gepa.proposals import Question, Shown, Task, proposals, questions, shown
from dspex_actors.teleprompt.gepa.reflection import Feedback, Proposing
from dspex_actors.teleprompt.gepa.trajectories import choose, trajectories
from dspex_actors.teleprompt.steps import Ask, Candidate, Observe, Observed, Step, Together

_log = logging.getLogger("dspex_actors.gepa")
#: A candidate, the examples to ask it, and where each goes: to which item, and where there; None: it is asked ahead.
_Asked = tuple[Mapping[str, str], list[Example], list[tuple[int, int] | None]]


class Adapter:
    """gepa's adapter (`gepa.GEPAAdapter`).

    Args:
        task: what is optimised.
        ask: has the node do a step.
        rng: draws the calls that are shown.
        calls: so many examples are scored in all.
    """

    def __init__(self, task: Task, ask: Callable[[Step], Any], rng: random.Random, calls: int) -> None:
        """Keep them."""
        self.task, self._ask, self._rng, self._warns = task, ask, rng, task.warn
        self.ahead = Ahead(calls)
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
        return self._evaluated(step, self._ask(step), capture_traces)

    def batch_evaluate(self, items: Sequence[tuple[Any, Any]], *, capture_traces: bool = True) -> list[Any]:
        """Score several candidates, each on its examples, at once; with them what will be asked for next."""
        found, foreseen = [self.ahead.take(candidate, batch) for candidate, batch in items], self.ahead.next()
        #: For each candidate: the examples to ask for, and where each goes; to no item: ahead.
        asked: list[_Asked] = []
        for number, (candidate, batch) in enumerate(items):
            lacking = [place for place, seen in enumerate(found[number]) if seen is None]
            if lacking:
                asked.append((candidate, [batch[place] for place in lacking], [(number, place) for place in lacking]))
        if asked:
            _add(foreseen, asked)
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
    ) -> dict[str, Shown]:
        """Return, for each predictor that is to get another instruction, what it did and what the metric says of it.

        Raises:
            Exception: there is nothing to show of any of them; gepa goes on with another batch.
        """
        found = self._shown(candidate, eval_batch.trajectories or [], components_to_update)
        for name in components_to_update:
            if name not in found:
                _log.warning("GEPA: no call of %s can be shown", name)
        if not found:
            raise Exception("no prediction of any predictor can be shown")
        if not self.task.waits:
            self._settle(candidate, found)
        return found

    def _shown(
        self, candidate: Mapping[str, str], rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> dict[str, Shown]:
        program = self.build_program(candidate)
        predictors, found = dict(program.named_predictors()), {}
        for name in names:
            chosen = choose(predictors[name], rows, self._rng, failures=self.task.format_failures)
            if chosen:
                found[name] = shown(self.task, program, name, rows, chosen)
        return found

    def _settle(self, candidate: Mapping[str, str], dataset: Mapping[str, Shown]) -> None:
        """Have the metric asked for what it says of single calls, by itself."""
        for rows in dataset.values():
            asked = [place for place, question in enumerate(rows.questions) if question is not None]
            if asked:
                feedback = Feedback(self.build_program(candidate), self.task.metric)
                came = self._ask(Ask(feedback, [rows.questions[place] or {} for place in asked]))
                for place, one in zip(asked, came, strict=True):
                    rows.settle(place, None if one is None else one.feedback)
                    self._heard(rows.name, rows.scores[place], None if one is None else one.score)

    def _heard(self, name: str, score: float, given: float | None) -> None:
        if given is not None and given != score and self._warns:
            self._warns = False
            _log.warning(
                "GEPA: the metric scores a predictor (pred_name=%r) otherwise than the whole: %s and not %s; the "
                "score of the whole counts. warn_on_score_mismatch=False: do not say so",
                name,
                given,
                score,
            )

    # --- proposing --------------------------------------------------------------------------------------------------

    def _propose(
        self, candidate: dict[str, str], reflective_dataset: Mapping[str, Any], components_to_update: list[str]
    ) -> dict[str, str]:
        """Return a new instruction for each predictor.

        Raises:
            ValueError: one of them could not be had; gepa tries once more.
        """
        if not isinstance(self.task.proposer, InstructionProposer):
            row = {
                "candidate": dict(candidate),
                "reflective_dataset": {name: list(rows) for name, rows in reflective_dataset.items()},
                "components_to_update": list(components_to_update),
            }
            (came,) = self._ask(Ask(Proposing(self.task.proposer), [row], self.task.reflection_lm))
            if came is None:
                raise ValueError("the proposer failed")
            return dict(came.texts)
        names = [name for name in components_to_update if name in candidate and name in reflective_dataset]
        dataset = {name: reflective_dataset[name] for name in names}
        proposed = self._proposals(questions(candidate, dataset))
        if any(one is None for one in proposed):
            self._settle(candidate, dataset)  # should it have been the metric: it is asked by itself, and may fail
            raise ValueError("no instruction could be read")
        for name, one in zip(names, proposed, strict=True):
            for score, given in zip(dataset[name].scores, getattr(one, "scores", ()), strict=False):
                self._heard(name, score, given)
        return {name: one.new_instruction for name, one in zip(names, proposed, strict=True)}

    def _proposals(self, asked: Sequence[Question]) -> list[Any]:
        """Return what is proposed, None where that failed; with it is asked what the next try would ask."""
        found = [self.ahead.take_proposal(question) for question in asked]
        lacking = [question for question, one in zip(asked, found, strict=True) if one is None]
        if not lacking:
            return found
        later, ahead = self._next_try()
        came = self._ask(proposals(self.task, self.build_program, [*lacking, *ahead]))
        fresh = iter(came)
        found = [next(fresh) if one is None else one for one in found]
        texts = {}
        for question, one in zip(ahead, fresh, strict=True):
            if one is not None:
                self.ahead.keep_proposal(question, one)
                texts[question.name] = one.new_instruction
        if later is not None and len(texts) == len(ahead):
            self.ahead.want(Try({**later.candidate, **texts}, later.batch))
        return found

    def _next_try(self) -> tuple[Try | None, list[Question]]:
        """Return the next try that would propose something, should this one come to nothing, and what it would ask."""
        known = self.task.foresees
        if known is None or not self.task.waits:
            return None, []
        for one in self.ahead.tries:
            seen = self.ahead.seen(one)
            if seen is None or self.ahead.room <= len(one.batch):
                break
            rows = trajectories(self.build_program(one.candidate), one.batch, seen)
            if not rows or known.skips([each.score for each in seen]):
                continue  # nothing comes of it
            rng, self._rng = self._rng, deepcopy(self._rng)
            try:
                dataset = self._shown(one.candidate, rows, known.names(one))
            finally:
                self._rng = rng
            asked = questions(one.candidate, dataset)
            # They are there already where gepa asks once more for what could not be read.
            return (one, asked) if asked and not any(map(self.ahead.has_proposal, asked)) else (None, [])
        return None, []

    # --- telling ----------------------------------------------------------------------------------------------------

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Tell of a candidate with its score on all examples (a callback of gepa's)."""
        score = round(100 * event["average_score"], 2)
        self._ask(Candidate(f"candidate {event['candidate_idx']}", self.build_program(event["candidate"]), score))


def _add(ahead: Iterable[tuple[Any, Example]], asked: list[_Asked]) -> None:
    """Add what is foreseen to what is to be asked: a candidate that is asked anyway is asked for more."""
    for candidate, example in ahead:
        same = next((one for one in asked if one[0] == candidate), None)
        if same is None:
            asked.append((candidate, [example], [None]))
        else:
            same[1].append(example)
            same[2].append(None)
