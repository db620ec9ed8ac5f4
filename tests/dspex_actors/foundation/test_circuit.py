from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import (
    AuthError,
    ConfigError,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    StreamTruncated,
    Timeout,
)
from dspex_actors.foundation.circuit import Change, Circuit, CircuitSettings, Grant, Refused, counts


def circuit(**changes):
    return Circuit(CircuitSettings.from_dict({"failure_threshold": 3, "recovery_time": 10.0, **changes}))


def opened(at=0.0, **changes):
    made = circuit(**changes)
    for _ in range(made.settings.failure_threshold):
        made.ended(at, failed=True, reason="503")
    return made


def test_a_closed_circuit_lets_everything_through():
    made = circuit()
    assert [made.admit(0.0) for _ in range(5)] == [Grant()] * 5
    assert made.wait(0.0) == 0.0


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    made = circuit()
    for failed in (True, True, False, True, True):
        made.ended(0.0, failed=failed)
    assert (made.state, made.failures) == ("closed", 2)
    made.ended(1.0, failed=True, reason="503")
    assert made.changes() == [Change("open", 3, 10.0, "503")]
    assert made.admit(5.0) == Refused(6.0)


def test_many_that_fail_at_the_same_moment_are_one_event_where_that_is_said():
    made = circuit()
    made.settings = CircuitSettings(failure_threshold=3, failure_time=0.5)
    made.told(10.0, 0, 200)
    made.told(10.4, 0, 1)
    assert made.state == "closed"
    made.told(10.4, 5, 1, in_row=1)
    made.told(10.8, 0, 100)
    assert made.state == "closed"  # they have gone on since 10.4
    made.told(10.9, 0, 1)
    assert made.state == "open"
    # Who names the number means it; what else is told stays as it stands over.
    over = CircuitSettings(failure_time=0.5)
    assert CircuitSettings.from_dict({"failure_threshold": 3}, over=over).failure_time == 0.0
    assert CircuitSettings.from_dict({"recovery_time": 3}, over=over).failure_time == 0.5


def test_one_probe_is_granted_and_its_success_closes():
    made = opened()
    assert made.admit(10.0) == Grant(1)
    assert made.admit(11.0) == Refused(59.0)  # the probe has its time
    made.ended(12.0, failed=False, probe=1)
    assert (made.state, made.admit(12.0)) == ("closed", Grant())
    assert [change.state for change in made.changes()] == ["open", "half_open", "closed"]


def test_a_probe_that_fails_opens_it_for_longer_up_to_the_longest():
    made = opened(growth=2.0, max_recovery_time=35.0)
    now, waits = 0.0, []
    for _ in range(4):
        waits.append(made.wait(now))
        now += waits[-1]
        grant = made.admit(now)
        made.ended(now, failed=True, probe=grant.probe)
    assert waits == [10.0, 20.0, 35.0, 35.0]
    made.ended(now, failed=False, probe=made.admit(now + made.wait(now)).probe)
    for _ in range(3):
        made.ended(now, failed=True)
    assert made.wait(now) == 10.0  # a success forgets


def test_a_probe_whose_holder_died_is_granted_anew_at_once():
    made = opened()
    assert made.admit(10.0) == Grant(1)
    made.given_up(11.0, 1)
    assert made.admit(11.0) == Grant(2)
    made.given_up(12.0, 1)  # told twice, or late: nothing
    assert isinstance(made.admit(12.0), Refused)


def test_a_probe_that_nobody_tells_of_is_granted_anew_after_its_time():
    made = opened(probe_time=5.0)
    assert made.admit(10.0) == Grant(1)
    assert made.admit(14.9) == Refused(pytest.approx(0.1))
    assert made.admit(15.0) == Grant(2)
    made.ended(15.5, failed=True, probe=1)
    assert made.state == "half_open"  # the first one's failure is old
    made.ended(15.6, failed=False, probe=1)
    assert made.state == "closed"  # its success is not: the server has answered


def test_several_probes_must_succeed_one_after_the_other():
    made = opened(half_open_calls=3)
    for number in (1, 2, 3):
        assert made.state != "closed"
        assert made.admit(10.0) == Grant(number)
        assert isinstance(made.admit(10.0), Refused)
        made.ended(10.0, failed=False, probe=number)
    assert made.state == "closed"


def test_the_share_of_failures_opens_it_with_enough_calls_only():
    made = circuit(failure_threshold=None, failure_rate=0.5, window=10.0, min_calls=10)
    for _ in range(4):
        made.ended(0.0, failed=True)
        made.ended(0.0, failed=False)
    made.ended(0.0, failed=True)
    assert made.state == "closed"
    made.ended(0.0, failed=True)
    assert made.state == "open"


def test_what_is_older_than_the_window_does_not_count():
    made = circuit(failure_threshold=None, failure_rate=0.5, window=10.0, min_calls=4)
    made.told(0.0, 0, 3)
    made.told(20.0, 0, 3)
    assert made.state == "closed"
    made.told(21.0, 0, 1)
    assert made.state == "open"


def test_batches_of_an_earlier_epoch_say_nothing():
    made = opened()
    made.ended(10.0, failed=False, probe=made.admit(10.0).probe)
    made.told(10.0, 0, 50, epoch=0)
    assert made.state == "closed"
    made.told(10.0, 0, 50, epoch=made.epoch)
    assert made.state == "open"


def test_a_batch_says_how_many_failed_after_the_last_answer():
    made = circuit()
    made.told(0.0, 5, 5, in_row=2)
    assert (made.state, made.failures) == ("closed", 2)
    made.told(0.0, 0, 1)
    assert made.state == "open"


def test_a_successor_of_an_owner_that_had_opened_and_closed_it_heeds_failures():
    made = circuit()
    made.told(0.0, 0, 2, epoch=4)
    assert (made.state, made.failures, made.epoch) == ("closed", 2, 4)
    made.told(0.0, 0, 50, epoch=3)
    made.told(0.0, 0, 1, epoch=4)
    assert (made.state, made.failures, made.epoch) == ("open", 3, 5)


def test_a_successor_takes_over_that_it_was_open():
    made = circuit()
    made.adopt(100.0, 5, 7, "503")
    assert (made.state, made.epoch, made.failures) == ("open", 5, 7)
    assert made.admit(100.0) == Grant(1)
    made.adopt(100.0, 4, 1, "old")
    assert (made.state, made.epoch) == ("half_open", 5)


@pytest.mark.parametrize(
    "given",
    [
        {"failure_threshold": 0},
        {"failure_threshold": True},
        {"failure_threshold": 2.5},
        {"failure_threshold": "5"},
        {"failure_threshold": None},
        {"recovery_time": 0},
        {"recovery_time": -1},
        {"recovery_time": float("nan")},
        {"recovery_time": float("inf")},
        {"recovery_time": "10"},
        {"growth": 0.5},
        {"failure_rate": 0},
        {"failure_rate": 1.5},
        {"failure_rate": True},
        {"min_calls": 0},
        {"half_open_calls": 0},
        {"treshold": 5},
        {1: 5},
        [],
        "5",
        5,
    ],
)
def test_settings_that_are_none_are_refused_in_one_line(given):
    with pytest.raises(ConfigError, match=r"circuit.* is invalid: got .*expected") as caught:
        CircuitSettings.from_dict(given)
    assert "\n" not in str(caught.value)


def test_what_is_not_given_is_as_where_it_stands_over():
    over = CircuitSettings(failure_threshold=7, recovery_time=3.0)
    assert CircuitSettings.from_dict({"growth": 1.5}, over=over) == CircuitSettings(7, 3.0, 1.5)
    assert CircuitSettings.from_dict(over.to_dict()) == over


@pytest.mark.parametrize(
    ("error", "does"),
    [
        (Overloaded("500", status=500), True),
        (Overloaded("529", status=529), True),
        (Overloaded("no connection"), True),
        (Overloaded("conflict", status=409), False),
        (Timeout("t"), True),
        (StreamTruncated("s"), True),
        (RateLimited("429", status=429), False),
        (QuotaExhausted("q"), False),
        (ContextWindowExceeded("c"), False),
        (InvalidRequest("i"), False),
        (ContentBlocked("b"), False),
        (AuthError("a"), False),
        (DeadlineExceeded("d"), False),
        (None, False),
    ],
)
def test_what_counts_as_a_failure(error, does):
    assert counts(error) is does


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("time"), st.floats(0.0, 30.0)),
        st.tuples(st.just("admit"), st.just(0)),
        st.tuples(st.sampled_from(["answered", "failed", "given_up"]), st.integers(0, 20)),
    ),
    max_size=120,
)


@settings(max_examples=examples(300), deadline=None)
@given(
    STEPS,
    st.integers(1, 4),
    st.floats(0.5, 20.0),
    st.floats(1.0, 4.0),
    st.one_of(st.none(), st.floats(0.1, 1.0)),
    st.integers(1, 3),
)
def test_promises(steps, threshold, recovery, growth, rate, half_open):
    """Never two probes at once; nothing before the recovery time; enough successes close; failures open."""
    made = circuit(
        failure_threshold=threshold,
        recovery_time=recovery,
        growth=growth,
        failure_rate=rate,
        min_calls=3,
        half_open_calls=half_open,
        probe_time=15.0,
    )
    now = opened_at = 0.0
    out: list[int | None] = []  # what is under way
    granted_at: dict[int, float] = {}
    for what, value in steps:
        if what == "time":
            now += value
        elif what == "admit":
            before, wait = made.state, made.wait(now)
            answer = made.admit(now)
            if isinstance(answer, Refused):
                assert before != "closed"
                assert answer.retry_after == wait > 0
                continue
            out.append(answer.probe)
            if answer.probe is None:
                assert before == "closed"
                continue
            assert made.state == "half_open"
            assert now >= opened_at + recovery - 1e-9
            live = [one for one in out if one in granted_at and now - granted_at[one] < 15.0 - 1e-9]
            assert not live, "two probes at once"
            granted_at[answer.probe] = now
        elif out:
            probe = out.pop(value % len(out))
            if what == "given_up":
                if probe is not None:
                    made.given_up(now, probe)
                continue
            before, current = made.state, made.probe
            made.ended(now, failed=what == "failed", probe=probe)
            if before == "half_open" and probe is not None and what == "answered" and half_open == 1:
                assert made.state == "closed"
            if before == "half_open" and probe is not None and probe == current and what == "failed":
                assert made.state == "open"
            if before == "open":
                assert made.state == "open"
        for change in made.changes():
            if change.state == "open":
                opened_at = now
                assert change.seconds >= recovery - 1e-9
                assert made.wait(now) == pytest.approx(change.seconds)
