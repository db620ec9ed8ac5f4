"""What is a legal spec, and that an illegal one is refused before anything starts, in one line."""

from itertools import product

import pytest
from core_world import Server

from supervisors import Backoff, ChildSpec, SupervisorSpec, check_childspecs, errors


# rows: 3, 4
def test_defaults_are_those_of_otp():
    spec = SupervisorSpec()
    assert (spec.strategy, spec.intensity, spec.period, spec.auto_shutdown) == ("one_for_one", 1, 5.0, "never")
    child = ChildSpec("a", Server)
    assert (child.restart, child.type, child.significant, child.with_defaults().shutdown) == (
        "permanent", "worker", False, 5.0)  # fmt: skip
    nested = ChildSpec("s", spec)
    assert (nested.type, nested.with_defaults().shutdown, nested.shutdown_limit) == ("supervisor", "infinity", None)
    assert child.backoff is None


# rows: 1
def test_children_are_given_as_a_list_or_a_tuple_and_kept_as_a_tuple():
    child = ChildSpec("a", Server)
    assert SupervisorSpec([child]) == SupervisorSpec((child,))
    assert SupervisorSpec([child]).children == (child,)


# rows: 5
def test_id_and_start_are_required_and_the_id_is_named_first():
    with pytest.raises(TypeError, match="'id' and 'start'"):
        ChildSpec()
    with pytest.raises(TypeError, match="'start'"):
        ChildSpec("a")
    with pytest.raises(errors.SpecError, match="id is invalid: got"):
        ChildSpec(None, None)


# rows: 6
def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match="silly_flag"):
        ChildSpec("a", Server, silly_flag=True)
    with pytest.raises(TypeError, match="silly_flag"):
        SupervisorSpec((), silly_flag=True)


# rows: 7
@pytest.mark.parametrize(
    ("field", "value"),
    [("strategy", "one_for_none"), ("strategy", None), ("intensity", -1), ("intensity", "infinity"),
     ("intensity", 1.5), ("intensity", True), ("period", 0), ("period", -1), ("period", "infinity"),
     ("period", float("nan")), ("auto_shutdown", "sometimes"), ("auto_shutdown", None), ("name", ""), ("name", 7),
     ("children", "ab"), ("children", [1])],
)  # fmt: skip
def test_bad_flags(field, value):
    with pytest.raises(errors.SpecError) as caught:
        SupervisorSpec(**{field: value})
    assert str(caught.value).startswith(f"{field} is invalid: got ")
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


# rows: 8, 53
@pytest.mark.parametrize(
    ("field", "value"),
    [("id", ""), ("id", 3), ("start", "a.b"), ("start", object), ("start", None), ("args", 1), ("kwargs", [1]),
     ("kwargs", {1: 2}), ("restart", "always"), ("restart", None), ("shutdown", -1), ("shutdown", "later"),
     ("shutdown", True), ("significant", 1), ("name", ""), ("start_timeout", 0), ("start_timeout", "x"),
     ("backoff", 1.0)],
)  # fmt: skip
def test_bad_child_specs(field, value):
    with pytest.raises(errors.SpecError) as caught:
        ChildSpec(**{"id": "a", "start": Server, field: value})
    assert str(caught.value).startswith(f"{field} is invalid: got ")
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("field", [{"first": -1}, {"factor": 0.5}, {"limit": 0.01}, {"jitter": 2}])
def test_bad_backoffs(field):
    with pytest.raises(errors.SpecError, match=rf"backoff\.{next(iter(field))} is invalid: got"):
        Backoff(**field)


# rows: 8, 53
def test_every_combination_of_legal_values_is_taken():
    legal = product(
        ("permanent", "transient", "temporary"), (0, 1, 2.5, "brutal_kill", "infinity", None), (False, True),
        (Server, SupervisorSpec()), ("any_significant", "all_significant"),
    )  # fmt: skip
    for restart, shutdown, significant, start, rule in legal:
        if significant and restart == "permanent":
            continue
        child = ChildSpec("a", start, restart=restart, shutdown=shutdown, significant=significant)
        assert SupervisorSpec([child], auto_shutdown=rule).children == (child,)
        check_childspecs([child], auto_shutdown=rule)


# rows: 9
def test_an_id_twice_refuses_the_whole():
    twice = [ChildSpec("a", Server), ChildSpec("b", Server), ChildSpec("a", Server)]
    for make in (SupervisorSpec, check_childspecs):
        with pytest.raises(errors.SpecError, match="children is invalid: got 'a', expected each id once"):
            make(twice)


# rows: 10
def test_check_childspecs_says_the_same_without_starting():
    assert check_childspecs([]) is None
    assert check_childspecs([ChildSpec("a", Server)]) is None
    significant = ChildSpec("a", Server, restart="transient", significant=True)
    assert check_childspecs([significant], auto_shutdown="any_significant") is None
    for wrong in ([significant], "ab", None, ChildSpec("a", Server), [1]):
        with pytest.raises(errors.SpecError):
            check_childspecs(wrong)
    with pytest.raises(errors.SpecError, match="auto_shutdown is invalid: got 'maybe'"):
        check_childspecs([], auto_shutdown="maybe")


# rows: 79
@pytest.mark.parametrize("count", [0, 2])
def test_simple_one_for_one_takes_exactly_one_template(count):
    with pytest.raises(errors.SpecError, match="exactly one template"):
        SupervisorSpec([ChildSpec(str(n), Server) for n in range(count)], "simple_one_for_one")


# rows: 86, 92
def test_significant_goes_with_auto_shutdown_and_an_end_for_good():
    with pytest.raises(errors.SpecError, match="permanent child never ends"):
        ChildSpec("a", Server, significant=True)
    child = ChildSpec("a", Server, restart="temporary", significant=True)
    with pytest.raises(errors.SpecError, match=r"'a'.*\"never\""):
        SupervisorSpec([child])
    with pytest.raises(errors.SpecError, match="auto_shutdown"):
        SupervisorSpec([ChildSpec("a", Server)], "simple_one_for_one", auto_shutdown="any_significant")
