"""`Client`'s own figures."""

from collections import deque

import pytest

from dspex_actors.client.lm_client import _latency
from dspex_actors.foundation.telemetry.stats import QUANTILES, Stats


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 101])
def test_a_clients_quantiles_are_by_the_rule_of_the_nodes(count):
    values = [float(number) for number in range(1, count + 1)]
    told = Stats()
    told.add(values, 0.0)
    own, of_node = _latency(deque(values), sum(values), count), told.figures()
    assert [own[name] for name in QUANTILES] == pytest.approx([of_node[name] for name in QUANTILES], rel=0.005)
    assert own["mean"] == of_node["mean"]


def test_one_that_was_never_answered_has_none():
    assert _latency(deque(), 0.0, 0) == {"p50": None, "p90": None, "p99": None, "mean": None}
