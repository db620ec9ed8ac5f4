"""What `benchmarks.million` says of its looks."""

import sys

import pytest

from benchmarks import million

MB = 10**6


def test_memory_is_compared_with_that_at_the_ten_thousandth():
    looks = [(0, 0.0, 100 * MB), (12_000, 2.0, 200 * MB), (30_000, 5.0, 208 * MB), (40_000, 7.0, 204 * MB)]
    assert million.figures(looks) == [
        ["seconds", "7.0"],
        ["examples/s, first half and second", "6,000, 5,000"],
        ["nodes and client, PSS MB, at 12,000", "200.0"],
        ["at their peak after that", "208.0 (+4.0 %)"],
    ]


@pytest.mark.parametrize("done", [1, 9_999, 10_000, 15_000])
def test_a_run_that_ends_before_anything_can_be_seen_says_so(done):
    rows = dict(million.figures([(0, 0.0, 100 * MB), (done, 2.0, 200 * MB)]))
    assert rows["seconds"] == "2.0"
    assert rows["nodes and client, PSS MB"] == "200.0; what it grows by is seen above 10,000 examples"


def test_no_examples_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["million", "--examples", "0"])
    with pytest.raises(SystemExit) as stopped:
        million.main()
    assert stopped.value.code == "--examples is 1 or more; got 0"
