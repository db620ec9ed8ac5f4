"""The first requests of a session, spread out, and what is noticed of refusals."""

import pytest

from dspex_actors.lm.worker.ramp import ENOUGH, HOLD_SECONDS, LEAST, Noticed, Ramp


def begins(ramp, count, now=0.0):
    """Return when each of so many requests that all come at once may begin."""
    return [now + ramp.wait(now) for _ in range(count)]


def test_requests_begin_ever_faster_and_all_of_them_within_two_answers_times():
    ramp = Ramp()
    assert begins(ramp, 3) == [0.0] * 3, "before the first answer nobody knows"
    ramp.answered(0.1)
    ramp.answered(50.0)
    times = begins(ramp, 128)
    assert times == sorted(times)
    assert times[-1] < 0.2
    halfway = sum(1 for at in times if at < times[-1] / 2)
    assert halfway < 20, "few have begun when the first refusals come back"


def test_a_slow_provider_is_not_waited_for_longer_than_a_fast_one_is():
    ramp = Ramp()
    ramp.answered(40.0)
    assert begins(ramp, 128)[-1] < 2.0


def test_who_comes_one_after_the_other_is_not_held_up():
    ramp, now = Ramp(), 0.0
    ramp.answered(0.1)
    for _ in range(50):
        now += 0.1
        assert ramp.wait(now) == 0.0
    assert begins(ramp, 2, now)[1] < now + 0.01


def test_it_is_over_after_enough_requests():
    ramp = Ramp()
    ramp.answered(0.001)
    begins(ramp, ENOUGH)
    assert ramp.is_over
    assert Ramp(is_over=True).is_over


def test_the_first_refusal_holds_up_all_who_have_not_begun_and_no_other_does():
    ramp = Ramp()
    ramp.answered(0.1)
    begins(ramp, 16)
    ramp.refused(1.0)
    assert ramp.held_until == 1.0 + HOLD_SECONDS
    assert ramp.wait(1.0) == pytest.approx(HOLD_SECONDS)
    ramp.refused(1.2)
    assert ramp.held_until == 1.0 + HOLD_SECONDS


def test_a_single_refusal_is_no_pattern_and_some_of_few_are():
    noticed = Noticed()
    for _ in range(10):
        noticed.answered(0.5)
    assert [noticed.refused(1.0) for _ in range(LEAST)] == [False] * (LEAST - 1) + [True]
    assert noticed.admitted(1.0) == 10
    assert noticed.admitted(1.6) == 0


def test_one_refusal_in_twenty_is_no_pattern_and_six_of_the_last_ten_are():
    noticed = Noticed()
    for number in range(400):
        if number % 20:
            noticed.answered(number / 200)
        else:
            assert not noticed.refused(number / 200)
    assert [noticed.refused(2.0) for _ in range(6)][-1]
