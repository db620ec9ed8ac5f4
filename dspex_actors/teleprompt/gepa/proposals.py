"""What a proposer of instructions is shown and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.gepa.ahead import Try
from dspex_actors.teleprompt.gepa.instructions import InstructionProposer
from dspex_actors.teleprompt.gepa.reflection import Feedback, Reflecting, takes, told
from dspex_actors.teleprompt.gepa.trajectories import Chosen, FailedPrediction
from dspex_actors.teleprompt.steps import Ask
from dspex_actors.types.base import Type


@dataclass(frozen=True, slots=True)
class Foresees:
    """What has to be known of gepa's engine to foresee what it will propose.

    Args:
        selector: round_robin or all.
        perfect: a batch of at least this score is left alone; None: none is.
    """

    selector: str
    perfect: float | None

    def names(self, one: Try) -> list[str]:
        """Return the predictors that get another instruction in a try, if it is the next one."""
        if self.selector == "all":
            return list(one.candidate)
        state = one.state
        return [
            state.list_of_named_predictors[state.named_predictor_id_to_update_next_for_program_candidate[one.place]]
        ]

    def skips(self, scores: Sequence[float]) -> bool:
        """Whether a batch is left alone."""
        return self.perfect is not None and all(score >= self.perfect for score in scores)


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
        foresees: how it is foreseen what will be proposed; None: it is not.
        is_watched: somebody looks at what is shown before a proposer does.
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
    foresees: Foresees | None = None
    is_watched: bool = False

    @property
    def waits(self) -> bool:
        """Whether the metric is asked for feedback together with the proposal: nobody else looks at it."""
        return isinstance(self.proposer, InstructionProposer) and not self.is_watched


class Shown(list[dict[str, Any]]):
    """What is shown of the calls of one predictor, and what the metric is still to be asked on each; None: nothing."""

    def __init__(self, name: str) -> None:
        """Show nothing yet."""
        super().__init__()
        self.name = name
        self.questions: list[dict[str, Any] | None] = []
        self.scores: list[float] = []

    def settle(self, place: int, feedback: Any) -> None:
        """Take in what the metric has said on a call; None: nothing."""
        self[place]["Feedback"] = told(feedback, self.scores[place])
        self.questions[place] = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for one new instruction; equal ones ask the same.

    Args:
        candidate: whose.
        name: of the predictor.
        shown: what is shown to the proposer.
        questions: what the metric is asked before, on each; None: nothing.
        scores: of each.
    """

    candidate: dict[str, str]
    name: str
    shown: list[dict[str, Any]]
    questions: list[dict[str, Any] | None]
    scores: list[float]


def shown(task: Task, program: Module, name: str, rows: Sequence[Mapping[str, Any]], chosen: Sequence[Chosen]) -> Shown:
    """Return what is shown of the calls of a predictor; the feedback of a metric of five arguments is asked for later.

    Args:
        task: what is optimised.
        program: the candidate.
        name: of the predictor.
        rows: trajectories.
        chosen: the calls.
    """
    by_place = {row["example_ind"]: row for row in rows}
    found, asks = Shown(name), takes(task.metric, 5)
    for one in chosen:
        row, feedback, question = by_place[one.place], None, None
        if isinstance(one.call[2], FailedPrediction):
            feedback = _form(program, name)
        elif asks:
            question = Feedback.row(row, name, one.at)
        else:  # it says nothing of single predictors: what it said of the example is known
            feedback = row["feedback"] or told(None, row["score"])
        found.append(_as_shown(task, one, feedback))
        found.questions.append(question)
        found.scores.append(row["score"])
    return found


def questions(candidate: Mapping[str, str], dataset: Mapping[str, Shown]) -> list[Question]:
    """Return what is asked for new instructions of a candidate's predictors."""
    return [
        Question(dict(candidate), name, [dict(row) for row in rows], list(rows.questions), list(rows.scores))
        for name, rows in dataset.items()
    ]


def proposals(task: Task, build: Callable[[Mapping[str, str]], Module], asked: Sequence[Question]) -> Ask:
    """Return the step that asks for new instructions, and the metric before where it is to be asked.

    Args:
        task: what is optimised.
        build: makes a program of a candidate.
        asked: what for.
    """
    rows: list[dict[str, Any]] = [
        {"current_instruction": one.candidate[one.name], "examples_with_feedback": one.shown} for one in asked
    ]
    if not any(question is not None for one in asked for question in one.questions):
        return Ask(task.proposer, rows, task.reflection_lm)
    candidates: list[dict[str, str]] = []
    for row, one in zip(rows, asked, strict=True):
        if one.candidate not in candidates:
            candidates.append(one.candidate)
        row |= {"questions": one.questions, "scores": one.scores, "program": candidates.index(one.candidate)}
    proposer = task.proposer.deepcopy()
    for predictor in proposer.predictors():  # the metric may ask an LM, too, and not this one
        predictor.lm = predictor.lm or task.reflection_lm
    return Ask(Reflecting([build(candidate) for candidate in candidates], task.metric, proposer), rows)


def _as_shown(task: Task, chosen: Chosen, feedback: str | None) -> dict[str, Any]:
    _, inputs, outputs = chosen.call
    as_they_are = isinstance(task.proposer, InstructionProposer)
    made: Any
    if isinstance(outputs, FailedPrediction):
        made = f"This answer could not be read:\n```\n{outputs.completion_text}\n```\n"
    else:
        made = {name: value if as_they_are else str(value) for name, value in outputs.items()}
    given = {name: value if as_they_are or isinstance(value, Type) else str(value) for name, value in inputs.items()}
    return {"Inputs": given, "Generated Outputs": made, "Feedback": feedback}


def _form(program: Module, name: str) -> str:
    """Return what an answer of a predictor has to look like, as its LM is told."""
    from dspex_actors.adapters.chat import ChatAdapter

    signature = dict(program.named_predictors())[name].signature
    return f"It has to have this form:\n{ChatAdapter().format_field_structure(signature)}"
