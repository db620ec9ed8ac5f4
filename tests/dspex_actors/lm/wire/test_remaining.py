"""What providers tell of their limits in headers."""

import pytest

from dspex_actors.lm.wire.remaining import UNKNOWN_SECONDS, remaining

NOW = 1_763_000_000.0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("6ms", 0.006),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("12", 12.0),  # Azure
        ("0", UNKNOWN_SECONDS),
        ("-1", UNKNOWN_SECONDS),
        ("", UNKNOWN_SECONDS),
        ("soon", UNKNOWN_SECONDS),
        ("5 s 6", UNKNOWN_SECONDS),
    ],
)
def test_what_is_left_and_for_how_long(reset, seconds):
    headers = {"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": reset}
    assert remaining(headers, NOW) == {"requests": (59.0, pytest.approx(seconds))}


@pytest.mark.parametrize("odd", ["-1", "", "many", "nan", "inf"])
def test_numbers_that_are_none_say_nothing(odd):
    assert remaining({"x-ratelimit-remaining-tokens": odd, "x-ratelimit-reset-tokens": "1s"}, NOW) == {}


def test_anthropics_times_become_seconds():
    headers = {
        "anthropic-ratelimit-requests-remaining": "4",
        "anthropic-ratelimit-requests-reset": "2025-11-13T02:14:00Z",
        "anthropic-ratelimit-input-tokens-remaining": "900",
        "anthropic-ratelimit-input-tokens-reset": "2025-11-13T02:13:21+00:00",
        "anthropic-ratelimit-output-tokens-remaining": "8",
    }
    assert remaining(headers, NOW) == {
        "requests": (4.0, pytest.approx(40.0)),
        "input": (900.0, pytest.approx(1.0)),
        "output": (8.0, UNKNOWN_SECONDS),
    }
