"""Telemetry of a process: counters, gauges, histograms; `dspex_actors.observe` merges them over a node.

::

    from dspex_actors import telemetry              # in a metric or a program, wherever that runs

    telemetry.counter("search.asked", index="tickets")
    with telemetry.measure("search.duration"):
        ...
"""

from dspex_actors.foundation.telemetry.recording import counter, gauge, histogram, measure, summary

__all__ = ["counter", "gauge", "histogram", "measure", "summary"]
