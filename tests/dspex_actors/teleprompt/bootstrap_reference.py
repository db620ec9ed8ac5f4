"""The sequential bootstrap, as the design's notes on DSPy 3.4 describe it: one call after the other.

Two forms: `pick_demos` works on outcomes that are known, `bootstrap` runs programs. Both share no code with
the implementation.
"""

import hashlib
import json
import random

from dspex_actors import Example, context


class GaveUpError(Exception):
    def __init__(self, index, error):
        super().__init__(f"example {index}: {error}")
        self.index, self.error = index, error


def one_of(demos):
    """Several calls of one predictor: half the time the last, half the time one of the others."""
    if len(demos) == 1:
        return demos[0]
    text = json.dumps([demo.toDict() for demo in demos], sort_keys=True)
    rng = random.Random(hashlib.sha256(text.encode()).hexdigest())
    if rng.random() < 0.5:
        return rng.choice(demos[:-1])
    return demos[-1]


class Collector:
    """The loop's state: who passed, how many errors there were, which demos there are."""

    def __init__(self, max_bootstrapped_demos, max_errors):
        self.most, self.max_errors = max_bootstrapped_demos, max_errors
        self.passed, self.errors, self.demos, self.tried = [], 0, {}, []

    @property
    def full(self):
        return len(self.passed) >= self.most

    def error(self, index, error):
        self.errors += 1
        if self.errors >= self.max_errors:
            raise GaveUpError(index, error)

    def success(self, index, steps):
        self.passed.append(index)
        by_name = {}
        for name, inputs, outputs in steps:
            by_name.setdefault(name, []).append(Example(augmented=True, **inputs, **outputs))
        for name, demos in by_name.items():
            self.demos.setdefault(name, []).append(one_of(demos))

    def assemble(self, names, trainset, max_labeled_demos):
        validation = [example for index, example in enumerate(trainset) if index not in self.passed]
        random.Random(0).shuffle(validation)
        rng = random.Random(0)
        result = {}
        for name in names:
            augmented = self.demos.get(name, [])[: self.most]
            size = min(max_labeled_demos - len(augmented), len(validation))
            result[name] = augmented + rng.sample(validation, max(0, size))
        return result


def pick_demos(names, trainset, rounds, *, max_bootstrapped_demos, max_labeled_demos, max_errors):
    """rounds[i]: what each round of example i gives: "error", "fail", or the list of its steps."""
    loop = Collector(max_bootstrapped_demos, max_errors)
    for index in range(len(trainset)):
        if loop.full:
            break
        for outcome in rounds[index]:
            if outcome == "error":
                loop.error(index, "boom")
            elif outcome != "fail":
                loop.success(index, outcome)
                break
    return loop.assemble(names, trainset, max_labeled_demos)


def bootstrap(
    student,
    trainset,
    metric,
    *,
    lm,
    teacher=None,
    metric_threshold=None,
    max_bootstrapped_demos=4,
    max_labeled_demos=16,
    max_rounds=1,
    max_errors=10,
):
    """Return the student with its demos, and the (example, round) pairs tried."""
    result = student.reset_copy()
    teacher = (teacher or student).deepcopy()
    if not teacher._compiled and max_labeled_demos > 0:
        teacher = teacher.reset_copy()
        rng = random.Random(0)
        for predictor in teacher.predictors():
            predictor.demos = rng.sample(trainset, min(max_labeled_demos, len(trainset)))
    names = {id(predictor): name for name, predictor in teacher.named_predictors()}
    loop = Collector(max_bootstrapped_demos, max_errors)
    for index, example in enumerate(trainset):
        if loop.full:
            break
        for number in range(max_rounds):
            loop.tried.append((index, number))
            own = {id(predictor): predictor.demos for predictor in teacher.predictors()}
            trace = []
            try:
                rollout = lm if number == 0 else lm.copy(temperature=1.0, seed=number)
                with context(lm=rollout, trace=trace):
                    for predictor in teacher.predictors():
                        predictor.demos = [demo for demo in predictor.demos if demo != example]
                    prediction = teacher(**dict(example.inputs().items()))
                    value = True if metric is None else metric(example, prediction, trace)
                    success = value >= metric_threshold if metric_threshold else value
            except Exception as error:
                loop.error(index, error)
                continue
            finally:
                for predictor in teacher.predictors():
                    predictor.demos = own[id(predictor)]
            if success:
                steps = [(names[id(p)], i, dict(o.items())) for p, i, o in trace if id(p) in names]
                loop.success(index, steps)
                break
    demos = loop.assemble([name for name, _ in result.named_predictors()], trainset, max_labeled_demos)
    for name, predictor in result.named_predictors():
        predictor.demos = demos[name]
    return result, loop
