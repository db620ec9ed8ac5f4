import pytest

from dspex_actors.foundation.gcra import Gcra


def test_a_pacer_starts_each_one_burst_ahead_of_what_was_taken():
    limit = Gcra(60, 1.0, used_up_at=101.0)
    starts = []
    for _ in range(3):
        starts.append(limit.delay(100.0))
        limit.take(1, 100.0)
    assert starts == [0.0, 1.0, 2.0]


def test_what_was_not_used_is_there_again_and_what_was_used_beyond_is_not():
    limit = Gcra(60, 1.0, used_up_at=100.0)
    limit.take(10, 100.0)
    limit.give_back(4, 100.0)
    assert limit.reset_after(100.0) == pytest.approx(6.0)
    limit.give_back(-2, 100.0)
    assert limit.reset_after(100.0) == pytest.approx(8.0)


def test_what_is_given_back_makes_no_second_burst():
    limit = Gcra(60, 1.0, used_up_at=100.0)
    limit.give_back(1000, 100.0)
    limit.take(2, 100.0)
    assert limit.delay(100.0) == pytest.approx(1.0)
