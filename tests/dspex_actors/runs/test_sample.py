"""Which examples of a run are recorded: the share that was asked for, the same ones at every try."""

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.runs.identity.parts import options_identity
from dspex_actors.runs.sample import recorded, recording


@pytest.mark.parametrize(
    ("trace", "sample", "settings"),
    [
        (False, 0.0, {}),
        (False, 0, {}),
        (True, 0.0, {"trace": True}),
        (True, 0.5, {"trace": True}),
        (False, 0.25, {"sample": 0.25}),
        (False, 1, {"sample": 1.0}),
    ],
)
def test_what_is_asked_for_is_in_the_settings_and_nothing_else(trace, sample, settings):
    assert recording(trace, sample) == settings


@pytest.mark.parametrize(
    ("trace", "sample"), [("yes", 0.0), (1, 0.0), (False, -0.1), (False, 1.1), (False, True), (False, float("nan"))]
)
def test_what_is_no_share_is_refused(trace, sample):
    with pytest.raises(ConfigError, match=r"^(trace|sample) is invalid"):
        recording(trace, sample)


def test_none_or_all_are_recorded_at_the_ends():
    assert not any(map(recorded("run", {}), range(1000)))
    assert all(map(recorded("run", {"trace": True}), range(1000)))
    assert all(map(recorded("run", {"sample": 1.0}), range(1000)))


def test_a_sample_is_about_its_share_and_the_same_everywhere():
    first = [index for index in range(20_000) if recorded("run", {"sample": 0.1})(index)]
    is_in_sample = recorded("run", {"sample": 0.1})
    assert first == [index for index in range(20_000) if is_in_sample(index)]
    assert 1800 < len(first) < 2200
    other = [index for index in range(20_000) if recorded("another", {"sample": 0.1})(index)]
    assert set(first) != set(other)


def test_a_larger_sample_has_all_of_a_smaller_one():
    small, large = recorded("run", {"sample": 0.05}), recorded("run", {"sample": 0.2})
    assert all(large(index) for index in range(5000) if small(index))


def test_what_is_recorded_does_not_make_another_run():
    assert options_identity({"trace": True, "sample": 0.1}) == options_identity({})
