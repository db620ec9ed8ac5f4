"""An optimiser's steps carried out in the test's own process, without a node."""

import random

import dspex_actors as dspex
from dspex_actors.errors import RunFailed
from dspex_actors.foundation.codec import pack, unpack
from dspex_actors.foundation.scores import beside, check_score
from dspex_actors.teleprompt.bootstrap_select import Attempt, passes, select, steps_of
from dspex_actors.teleprompt.steps import Ask, Evaluate, Observe, Observed, Scored
from dspex_actors.teleprompt.strands import Strands
from dspex_actors.workers.calling import fields_of
from dspex_actors.workers.traced import Traced


def fresh(predicted):
    """Return a prediction as one that has come from a worker."""
    return dspex.Prediction(unpack(pack(fields_of(predicted))))


def done(step):
    """Do a step, and return what it comes to."""
    if isinstance(step, Evaluate):
        scores, failed = [], 0
        for example in step.examples:
            try:
                scores.append(check_score(step.metric(example, step.program(**example.inputs()))))
            except Exception:
                scores.append(0.0)
                failed += 1
        return Scored(round(100 * sum(scores) / len(scores), 2), scores, failed)
    if isinstance(step, Observe):
        return [observed(step, example) for example in step.examples]
    if isinstance(step, Ask):
        answers = []
        for row in step.rows:
            try:
                answers.append(fresh(step.program(**row)))
            except (dspex.AdapterParseError, dspex.ConfigError):
                answers.append(None)
        return answers
    return select(
        (attempt(step, example) for example in step.examples),
        max_bootstrapped_demos=step.max_bootstrapped_demos,
        max_errors=step.max_errors,
    )


def observed(step, example):
    """Do one example, and see what the predictors did."""
    inputs, traced = dict(example.inputs().items()), Traced(step.program)
    predicted = error = None
    with dspex.context(trace=[]):
        try:
            predicted = step.program(**inputs)
        except dspex.AdapterParseError as unread:
            error = unread
        kept = unpack(pack(traced.kept(inputs, error))) if step.traces else {}
    trace = [tuple(row) for row in kept.get("trace", ())]
    unread = tuple(kept["unread"]) if "unread" in kept else None
    if error is not None:
        return Observed(step.failure_score, None, {}, None, trace, unread, {"type": "AdapterParseError"})
    value = step.metric(example, predicted)
    told = beside(value)
    return Observed(check_score(value), fresh(predicted), told.get("scores", {}), told.get("feedback"), trace)


def attempt(step, example):
    """Have a teacher try an example, without it among its demos."""
    teacher, trace = step.teacher.deepcopy(), []
    for predictor in teacher.predictors():
        predictor.demos = [demo for demo in predictor.demos if demo != example]
    with dspex.context(trace=trace):
        predicted = teacher(**example.inputs())
    passed = passes(step.metric(example, predicted, trace), step.metric_threshold)
    return Attempt(passed, steps_of(teacher, trace) if passed else [])


def carried(made_of, monkeypatch):
    """Return what `compile` returns, and the steps that it made. What is to do is done in an order of chance.

    Args:
        made_of: an optimiser, and a call of its `compile`.
        monkeypatch: of the test.
    """
    optimizer, compile_ = made_of
    made, rng = [], random.Random(0)

    def carry(generator, student, examples, options, expected=None, valset=()):
        strands = Strands(generator)
        while not strands.over:
            task = rng.choice(list(strands.todo))
            strands.todo.remove(task)
            made.append(task.step)
            try:
                outcome = done(task.step)
            except RunFailed as error:
                strands.failed(task, error)
            else:
                strands.done(task, outcome)
            strands.dropped.clear()
        return strands.result

    monkeypatch.setattr(optimizer, "carry", carry)
    return compile_(), made
