"""Learning a limit that nobody told: providers as functions of time, and what they refuse."""

import math

import pytest

from dspex_actors.lm.control.learning import BELOW, HIGHEST, LOWEST, PERIOD, Learner


class Provider:
    """Admits so many requests in each fixed window."""

    def __init__(self, limit, seconds=1.0):
        self.limit, self.seconds = limit, seconds
        self.windows, self.refused = {}, 0

    def ask(self, now):
        window = math.floor(now / self.seconds)
        if self.windows.get(window, 0) >= self.limit:
            self.refused += 1
            return False
        self.windows[window] = self.windows.get(window, 0) + 1
        return True


def let_learn(learner, provider, seconds, now=1000.0, *, luck=None, used_up=True):
    """Ask at the learner's pace for so long; return what was admitted and the time at the end."""
    admitted, end = 0, now + seconds
    upcoming = now
    while now < end:
        now += 0.05
        answered = refused = 0
        while upcoming <= now:
            fine = provider.ask(upcoming) and not (luck and luck())
            answered, refused = answered + fine, refused + (not fine)
            upcoming += 1 / learner.rate
        admitted += answered
        learner.count(answered, refused, 0)
        learner.tick(now, is_used_up=used_up)
    return admitted, now


def test_a_limit_is_found_soon_and_then_hardly_ever_passed():
    """20 requests a second in fixed windows: 400 within 26 s, and few of them refused."""
    for first in (10, 17, 34):
        provider, learner = Provider(20), Learner.first(first, 1.0, None, 1000.0)
        admitted, _ = let_learn(learner, provider, 26.0)
        assert admitted >= 400, first
        assert provider.refused <= 30, first


def test_what_was_learnt_is_used_from_the_start_the_next_time():
    provider, learner = Provider(20), Learner.first(17, 1.0, None, 1000.0)
    let_learn(learner, provider, 30.0)
    again, provider = Learner.from_dict(learner.to_dict(), 0.0), Provider(20)
    admitted, _ = let_learn(again, provider, 22.0, now=0.0)
    assert admitted >= 400
    assert provider.refused <= 8


def test_retry_after_says_how_long_the_window_is():
    learner = Learner.first(1200, 5.0, 55.0, 0.0)
    assert 19 < learner.rate < 20
    assert Learner.first(30, 1.0, 0.5, 0.0).rate == pytest.approx(12)
    assert Learner.first(0, 1.0, None, 0.0).rate > 0


def test_there_is_one_cut_a_period_however_many_are_refused():
    learner = Learner(100.0, 0.0, limit=100.0)
    for _ in range(50):
        learner.count(1, 1, 0)
        learner.tick(0.5, is_used_up=True)
    assert learner.rate == 100.0
    learner.tick(PERIOD, is_used_up=True)
    assert learner.rate == pytest.approx(50 * BELOW, rel=0.05)
    before = learner.rate
    learner.count(30, 10, 0)  # what was sent before the cut
    learner.tick(2 * PERIOD, is_used_up=True)
    assert learner.rate == before


def test_errors_and_timeouts_stop_growth_and_cut_nothing():
    learner = Learner(10.0, 0.0)
    learner.count(8, 0, 2)
    assert not learner.tick(1.1, is_used_up=True)
    learner.count(8, 0, 0)
    assert learner.tick(2.2, is_used_up=True)
    assert learner.rate == 14.0


def test_a_rate_that_nobody_uses_up_does_not_grow():
    learner = Learner(10.0, 0.0)
    learner.count(8, 0, 0)
    assert not learner.tick(1.1, is_used_up=False)


def test_a_provider_that_refuses_by_chance_is_not_asked_ever_more_slowly():
    ticks = iter(range(10**9))
    provider, learner = Provider(10**9), Learner(50.0, 1000.0, limit=50.0)
    let_learn(learner, provider, 120.0, luck=lambda: next(ticks) % 20 == 0)
    assert learner.rate > 35


def test_a_limit_that_has_gone_up_is_found_and_one_that_has_gone_down_too():
    provider, learner = Provider(20), Learner.first(17, 1.0, None, 1000.0)
    _, now = let_learn(learner, provider, 40.0)
    provider.limit = 60
    _, now = let_learn(learner, provider, 240.0, now)
    assert 45 < learner.rate <= 65
    provider.limit = 10
    before = provider.refused
    let_learn(learner, provider, 40.0, now)
    assert 8 < learner.rate <= 11
    assert provider.refused - before < 180


def test_a_limit_of_less_than_one_request_a_second_is_learnt_too():
    provider, learner = Provider(30, seconds=60.0), Learner.first(30, 1.0, 55.0, 0.0)
    let_learn(learner, provider, 600.0, now=0.0)
    assert 0.45 < learner.rate < 0.55
    assert provider.refused < 10


def test_a_long_window_that_nobody_has_told_of_is_used_all_the_same():
    """30 in each minute, and no word of it: all of it is asked soon, then once in a while until the next one begins."""
    provider, learner = Provider(30, seconds=60.0), Learner.first(30, 1.0, None, 0.0)
    admitted, _ = let_learn(learner, provider, 600.0, now=0.0)
    assert admitted >= 0.5 * 300
    assert provider.refused < 200


@pytest.mark.parametrize("data", [{}, {"rate": "x"}, {"rate": -1}, {"rate": math.nan}, {"rate": 5, "limit": 0}])
def test_what_is_no_rate_is_not_taken_over(data):
    with pytest.raises((LookupError, TypeError, ValueError)):
        Learner.from_dict(data, 0.0)


def test_a_rate_has_bounds():
    assert Learner(1e99, 0.0).rate == HIGHEST
    assert Learner(1e-99, 0.0).rate == LOWEST
