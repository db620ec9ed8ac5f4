"""A node's telemetry in the text format of Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from dspex_actors.foundation.telemetry.checks import Kind, Tags
from dspex_actors.foundation.telemetry.merge import Table
from dspex_actors.foundation.telemetry.sketch import count_up_to
from dspex_actors.foundation.telemetry.stats import POINTS, QUANTILES, Stats

#: Bounds of buckets: the same at all times, or rates of them mean nothing.
BOUNDS = tuple(factor * 10.0**power for power in range(-4, 7) for factor in (1.0, 2.5, 5.0))
#: A page has so many series; how many were left out stands at its end.
MOST_SERIES = 10_000
_LEFT_OUT = "dspex_series_left_out"
_OTHER = re.compile(r"[^a-zA-Z0-9_]")
#: Labels that the format has a meaning for.
_RESERVED = frozenset({"le", "quantile"})


def page(table: Table) -> bytes:
    """Return series as the text of `/metrics`."""
    return generate_latest(_Node(table))


class _Node(Collector):
    """What a table has, as prometheus_client's metric families."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def collect(self) -> Iterable[Metric]:
        """Give a family per metric."""
        left, out = MOST_SERIES, 0
        taken: set[str] = {_LEFT_OUT}
        for name, series in sorted(self._table.items()):
            shown = sorted(series.items())[:left]
            out += len(series) - len(shown)
            left -= len(shown)
            if shown:
                kind = shown[0][1].kind
                yield _family(_free(f"dspex_{_OTHER.sub('_', name)}", taken), name, kind,
                              ((tags, told.stats) for tags, told in shown))  # fmt: skip
        if out:
            yield GaugeMetricFamily(_LEFT_OUT, "series beyond what a page holds", value=out)


def _family(name: str, told: str, kind: Kind, series: Iterable[tuple[Tags, Stats]]) -> Metric:
    family: Metric
    rows = ((_labels(tags), stats) for tags, stats in series)
    if kind == "counter":
        family = CounterMetricFamily(name, told)
        for labels, stats in rows:
            family.add_sample(f"{family.name}_total", labels, stats.sum)
    elif kind == "gauge":
        family = GaugeMetricFamily(name, told)
        for labels, stats in rows:
            family.add_sample(name, labels, stats.last)
    elif kind == "histogram":
        family = HistogramMetricFamily(name, told)
        for labels, stats in rows:
            for bound, count in _buckets(stats):
                family.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
            _sum_and_count(family, name, labels, stats)
    else:
        family = SummaryMetricFamily(name, told)
        for labels, stats in rows:
            figures = stats.figures()
            for point, key in zip(POINTS, QUANTILES, strict=True):
                family.add_sample(name, {**labels, "quantile": str(point)}, figures[key])
            _sum_and_count(family, name, labels, stats)
    return family


def _buckets(stats: Stats) -> Iterator[tuple[str, int]]:
    for bound, count in zip(BOUNDS, count_up_to(stats.bins or {}, BOUNDS), strict=True):
        yield f"{bound:g}", count
    yield "+Inf", stats.count


def _sum_and_count(family: Metric, name: str, labels: dict[str, str], stats: Stats) -> None:
    family.add_sample(f"{name}_count", labels, stats.count)
    family.add_sample(f"{name}_sum", labels, stats.sum)


def _labels(tags: Tags) -> dict[str, str]:
    taken: set[str] = set(_RESERVED)
    return {_free(_OTHER.sub("_", name).lstrip("_") or "tag", taken): value for name, value in tags}


def _free(name: str, taken: set[str]) -> str:
    """Return a name that nothing else has: two may become one where dots do."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
