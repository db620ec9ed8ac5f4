"""Windows and alerts: what a metric is over the last seconds, and when a threshold counts as crossed."""

import asyncio
import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors.ecosystem.inference.messages import Concluded
from dspex_actors.ecosystem.inference.monitor import posted
from dspex_actors.ecosystem.inference.windows import METRICS, Windows


def row(latency=0.1, error=None, cached=False, tokens=0, cost=0.0):
    return Concluded(latency, error, cached, tokens, cost)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 50)), min_size=1, max_size=80), st.integers(1, 60))
def test_figures_are_those_of_the_rows_in_the_window(events, window):
    windows, now = Windows(60), 0.0
    for after, latency in events:
        now += after
        windows.add([row(latency, tokens=3, cost=0.5)], now)
    times = [sum(after for after, _ in events[: place + 1]) for place in range(len(events))]
    # To the second: a second counts as long as any of it is in the window.
    inside = [latency for at, (_, latency) in zip(times, events, strict=True) if now - window < int(at) + 1]
    found = windows.figures(window, now)
    assert set(found) == set(METRICS)
    assert found["inferences.count"] == len(inside)
    assert found["tokens.count"] == 3 * len(inside)
    assert found["cost.sum"] == pytest.approx(0.5 * len(inside))
    assert found["latency.mean"] == pytest.approx(statistics.mean(inside))
    assert found["latency.max"] == max(inside)
    assert found["latency.p50"] == pytest.approx(sorted(inside)[(len(inside) - 1) // 2], rel=0.02)


def test_shares_and_rates():
    windows = Windows()
    windows.add([row(), row(error="ValueError"), row(cached=True), row(cost=None)], 10.0)
    found = windows.figures(2.0, 10.5)
    assert (found["errors.share"], found["cache.hit_share"]) == (0.25, 0.25)
    assert found["inferences.rate"] == 2.0
    later = windows.figures(2.0, 100.0)
    assert later["inferences.count"] == 0
    assert later["latency.p99"] is None
    assert later["errors.share"] is None


def test_a_window_does_not_grow():
    windows = Windows(60)
    for second in range(1000):
        windows.add([row()], float(second))
    assert len(windows._seconds) <= 61


def fired(alert, values):
    is_armed, found = True, []
    for value in values:
        fires, is_armed = alert.fires(value, is_armed=is_armed)
        found.append(fires)
    return found


def test_an_alert_fires_once_until_the_value_has_come_back():
    alert = dspex.Alert("latency.p99", above=2.0)
    assert fired(alert, [1.0, 2.0, 2.1, 3.0, 1.9, 2.1, 1.8, 2.1]) == [
        False,
        False,
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    assert fired(alert, [None, 3.0, None, 3.0]) == [False, True, False, False]
    below = dspex.Alert("cache.hit_share", below=0.5, back=0.7)
    assert fired(below, [0.6, 0.4, 0.6, 0.4, 0.7, 0.4]) == [False, True, False, False, False, True]


@settings(deadline=None)
@given(st.lists(st.floats(0, 10) | st.none(), max_size=60), st.floats(0.1, 9))
def test_between_two_firings_the_value_has_always_come_back(values, above):
    alert = dspex.Alert("latency.max", above=above)
    places = [place for place, fires in enumerate(fired(alert, values)) if fires]
    assert all(values[place] > above for place in places)
    for first, second in itertools.pairwise(places):
        assert any(value is not None and value <= above * 0.9 + 1e-9 for value in values[first:second])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "latency"}, "expected one of latency.mean"),
        ({"above": None}, "expected one of the two"),
        ({"below": 1.0}, "expected one of the two"),
        ({"above": math.nan}, "above is invalid"),
        ({"above": math.inf}, "above is invalid"),
        ({"above": "2"}, "above is invalid"),
        ({"above": True}, "above is invalid"),
        ({"window": 0}, "window is invalid"),
        ({"window": math.nan}, "window is invalid"),
        ({"window": 4000}, "window is invalid"),
        ({"back": 3.0}, "back is invalid"),
        ({"action": "mail"}, "action is invalid"),
        ({"action": "ftp://x"}, "action is invalid"),
        ({"action": "http://"}, "action is invalid"),
        ({"action": None}, "action is invalid"),
    ],
)
def test_an_alert_that_means_nothing_is_refused(settings, said):
    with pytest.raises(dspex.ConfigError, match=said):
        dspex.Alert(**{"metric": "latency.p99", "above": 2.0, **settings})


@pytest.mark.parametrize(
    ("status", "said"), [(204, None), (302, "answered 302"), (404, "answered 404"), (0, "cannot be asked")]
)
def test_a_webhook_that_does_not_take_an_alert_has_failed_and_its_key_is_not_told(status, said):
    async def answer(reader, writer):
        await reader.readuntil(b"}")
        if status:
            writer.write(b"HTTP/1.1 %d X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n" % status)
            await writer.drain()
        writer.close()

    async def main():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await posted(f"http://127.0.0.1:{port}/services/T0/very-private", {"metric": "cost.sum"})

    if said is None:
        asyncio.run(main())
        return
    with pytest.raises(ConnectionError, match=said) as caught:
        asyncio.run(main())
    assert "private" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
