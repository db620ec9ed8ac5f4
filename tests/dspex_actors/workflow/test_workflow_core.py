"""Workflows before they run: what is a step and what is none, and how mappings merge."""

import asyncio
import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors.workflow.core import Conflict, leaves, merged, normalised, same
from dspex_actors.workflow.engine import Call, Save, State, walk


def f(data):
    return None


def paths(steps):
    return [leaf.path for leaf in leaves(normalised(steps))]


def test_steps_have_paths():
    inner = dspex.Workflow([("x", f), ("y", f)])
    steps = [
        ("a", f),
        dspex.Step("b", f, retries=1),
        dspex.Branches({"c": f, "d": dspex.Step("e", f), "g": [("h", f)], "i": inner}),
        ("j", dspex.Branches({"a": f})),
        ("k", inner),
        dspex.Step("l", [("a", f)], timeout=1.0),
        ("m", functools.partial(f)),
        ("n", dspex.Predict("question -> answer")),
    ]
    expected = ["a", "b", "c", "d/e", "g/h", "i/x", "i/y", "j/a", "k/x", "k/y", "l/a", "m", "n"]
    assert paths(steps) == expected
    assert dspex.Workflow(steps).steps == expected
    assert dspex.Workflow(dspex.Workflow(steps)).steps == expected


def in_itself():
    steps = [("a", f)]
    steps.append(("b", steps))
    return steps


def branches_in_themselves():
    branches = {"a": f}
    branches["b"] = [("c", dspex.Branches(branches))]
    return [dspex.Branches(branches)]


def deep():
    steps = [("a", f)]
    for _ in range(200):
        steps = [("a", steps)]
    return steps


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (list, "expected a list of one or more"),
        (lambda: None, "expected a list of one or more"),
        (lambda: "ab", "expected a list of one or more"),
        (lambda: {"a": f}, "expected a list of one or more"),
        (lambda: [f], r"expected \(name, function\), Step\(\.\.\.\) or Branches"),
        (lambda: [("a", f, 2)], r"expected \(name, function\)"),
        (lambda: [("a", 7)], "fn of step 'a' is invalid: got int 7, expected a function of the data, or a program"),
        (lambda: [("a", None)], "fn of step 'a' is invalid: got None"),
        (lambda: [("a", dict)], "fn of step 'a' is invalid: got the class dict"),
        (lambda: [("a", dspex.Predict)], "got the class Predict"),
        (lambda: [dspex.Step("a", f, fallback="b")], "fallback of step 'a' is invalid"),
        (lambda: [dspex.Step("a", f, fallback=[("b", f)])], "fallback of step 'a' is invalid"),
        (lambda: [dspex.Step("a", f, retries=-1)], "retries of step 'a' are invalid: got -1"),
        (lambda: [dspex.Step("a", f, retries=True)], "retries of step 'a' are invalid: got True"),
        (lambda: [dspex.Step("a", f, retries=1.5)], "retries of step 'a' are invalid"),
        (lambda: [dspex.Step("a", f, timeout=0)], "timeout of step 'a' is invalid: got 0"),
        (lambda: [dspex.Step("a", f, timeout=float("nan"))], "timeout of step 'a' is invalid: got nan"),
        (lambda: [dspex.Step("a", f, timeout="5")], "timeout of step 'a' is invalid"),
        (lambda: [("", f)], "the name of a step is invalid: got ''"),
        (lambda: [(3, f)], "the name of a step is invalid: got 3"),
        (lambda: [("a/b", f)], "without /"),
        (lambda: [("__data__", f)], "does not begin with __"),
        (lambda: [("a\nb", f)], "the name of a step is invalid"),
        (lambda: [("a" * 101, f)], "the name of a step is invalid"),
        (lambda: [("a", f), ("a", f)], "the step a is there twice: give each step a name of its own"),
        (lambda: [("a", f), dspex.Branches({"a": f})], "the step a is there twice"),
        (lambda: [("x", [("a", f), ("a", f)])], "the step x/a is there twice"),
        (lambda: [dspex.Branches({"a": f}), dspex.Branches({"a": [("b", f)]})], "the step a is there twice"),
        (lambda: [dspex.Branches({})], "branches are invalid"),
        (lambda: [dspex.Branches([f])], "branches are invalid"),
        (lambda: [dspex.Branches({"a": 7})], "fn of step 'a' is invalid: got int 7"),
        (lambda: [dspex.Branches({"a": []})], "the steps of 'a' are invalid: got list"),
        (lambda: [dspex.Branches({"a": f}, on_conflict="best")], "on_conflict is invalid: got 'best', expected one of"),
        (in_itself, "they stand in themselves"),
        (branches_in_themselves, "they stand in themselves"),
        (deep, "expected at most 100 levels"),
    ],
)
def test_what_is_no_workflow_is_refused_when_it_is_made(make, said):
    with pytest.raises(dspex.ConfigError, match=said):
        dspex.Workflow(make())


def test_a_workflow_that_stands_in_several_places_is_none_in_itself():
    inner = dspex.Workflow([("x", f)])
    assert dspex.Workflow([("a", inner), ("b", inner), dspex.Branches({"c": inner, "d": inner})]).steps == [
        "a/x",
        "b/x",
        "c/x",
        "d/x",
    ]


class Unequal:
    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


class Vague:
    def __eq__(self, other):
        return [True, False]

    __hash__ = None


one = Unequal()


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (1, 1, True),
        ([1, {"a": 2}], [1, {"a": 2}], True),
        (1, 1.0, False),  # which of them it is would hang on the order
        (1, True, False),
        (one, one, True),
        (Unequal(), Unequal(), False),
        (None, 0, False),
    ],
)
def test_values_that_are_equal(left, right, expected):
    assert same(left, right) is expected


def test_conflicts():
    updates = {"a": {"x": 1, "y": [1]}, "b": {"y": [1], "z": 2}, "c": {"x": 3}}
    with pytest.raises(Conflict, match="the branches 'a' and 'c' give different values of 'x'"):
        merged(updates)
    assert merged(updates, "first") == {"x": 1, "y": [1], "z": 2}
    assert merged(updates, "last") == {"x": 3, "y": [1], "z": 2}


values = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=4))
def test_merging_is_what_dicts_do(given_updates):
    updates = {str(place): update for place, update in enumerate(given_updates)}
    last = {}
    for update in given_updates:
        last |= update
    first = {}
    for update in reversed(given_updates):
        first |= update
    assert merged(updates, "last") == last
    assert merged(updates, "first") == first
    if first == last:
        in_order = {str(place): update for place, update in enumerate(given_updates)}
        differs = any(
            key in one and key in other and one[key] != other[key]
            for one in given_updates
            for other in given_updates
            for key in "abcd"
        )
        if differs:
            with pytest.raises(Conflict):
                merged(in_order)
        else:
            assert merged(in_order) == last
    else:
        with pytest.raises(Conflict):
            merged(updates)


def test_a_step_counts_as_done_before_it_is_written_down():
    """One that is given up while it is written down is not done, and paid, again."""
    state = State("w", is_durable=True)
    steps = walk(normalised([("a", f)]), {}, state)
    assert isinstance(next(steps), Call)
    assert isinstance(steps.send({"a": 1}), Save)
    with pytest.raises(asyncio.CancelledError):
        steps.throw(asyncio.CancelledError())
    assert state.updates == {"a": {"a": 1}}
    with pytest.raises(StopIteration) as done:
        next(walk(normalised([("a", f)]), {}, state))
    assert done.value.value == {"a": 1}
