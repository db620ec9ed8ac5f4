import pytest

from dspex_actors.foundation.durations import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-1, "0 ms"),
        (0.008, "8 ms"),
        (1.25, "1.25 s"),
        (59.999, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (360000, "4 d 4 h"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.012, "12 ms"), (12.4, "12 s"), (59.6, "1 min 00 s")])
def test_seconds_may_be_whole(seconds, text):
    assert duration_text(seconds, 0) == text
