"""What a run is made of is checked before anything is paid, and the error says what is wrong with it."""

import functools
import threading

import pytest

import dspex_actors as dspex
from dspex_actors.client.inputs import check_called, code_of


class Holding(dspex.Module):
    def __init__(self, held):
        super().__init__()
        self.tools = {"search": [held]}

    def forward(self, question):
        return dspex.Prediction(answer=question)


class Judge:
    def __call__(self, example, prediction, trace=None):
        return True


def weighed(example, prediction, trace=None, *, weight):
    return weight


@pytest.mark.parametrize("metric", [Judge(), functools.partial(weighed, weight=1), lambda e, p: 1, max])
def test_whatever_can_be_called_so_is_a_metric(metric):
    check_called(Holding(1), metric)


@pytest.mark.parametrize(
    ("program", "metric", "says"),
    [
        (Holding, max, "the program is invalid: got the class Holding, expected an object of it, as Holding\\(\\) is"),
        (Holding(1), Judge, "the metric is invalid: got the class Judge"),
        ("triage.json", max, "the program is invalid: got 'triage.json', expected a Module or another callable"),
        (Holding(1), "exact_match:a", "metric takes a function"),
        (Holding(1), lambda prediction: 1, r"got the parameters \(prediction\), expected \(example, predict"),
        (Holding(1), weighed, "weight"),
    ],
)
def test_what_cannot_is_refused_in_words(program, metric, says):
    with pytest.raises(dspex.ConfigError, match=says):
        check_called(program, metric)


def test_what_does_not_travel_is_named_by_its_place():
    with pytest.raises(dspex.ConfigError) as caught:
        code_of(Holding(threading.Lock()), "program")
    assert "the program cannot be sent to the workers: its attribute \"tools['search'][0]\"" in str(caught.value)
    assert "_thread.lock" in str(caught.value)


def test_what_is_in_no_attribute_is_told_as_before():
    with pytest.raises(dspex.ConfigError, match=r"the metric cannot be sent to the workers: TypeError: .*_thread.lock"):
        code_of(functools.partial(weighed, weight=threading.Lock()), "metric")
