"""One node that works against two, each on a core of its own: is it twice the speed?

The first node coordinates and takes no work. Each of the others has one worker, is bound to a core and calls a metric
that computes for some milliseconds, as those that compare texts do: so the workers are what is waited for, and not the
server, the client and the coordinator, which share the cores with them here.

    python -m benchmarks.two_cores [--examples N] [--metric-ms N] [--in-flight N] [--latency-ms N] [--turns N] [--quick]
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import psutil

import dspex_actors as dspex
from benchmarks.clusters import start
from benchmarks.common import home, parser, run, server, table
from dspex_actors.client.system import System, use
from supervisors import Node
from supervisors.cluster.handle import Cluster
from supervisors.cluster.membership.messages import CORDONED
from supervisors.host import processes


def measure(count: int, examples: int, metric_ms: float, in_flight: int, latency_ms: float) -> tuple[float, int]:
    """Return examples per second of a run on so many nodes that work, the second one of them, and who has worked."""
    seconds = metric_ms / 1000

    def compared(example: Any, prediction: Any, trace: Any = None) -> bool:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        return bool(example.team == prediction.team)

    data = [{"ticket": f"ticket {number}", "team": "billing"} for number in range(examples)]
    program = dspex.Predict("ticket -> team")
    with home() as folder, server(latency_ms) as there:
        nodes = [start(Path(folder), 1, None, net="127.0.8")]
        try:
            for number in range(count):
                nodes.append(start(Path(folder), 2 + number, nodes[0], net="127.0.8", role="worker"))
                bind(nodes[-1], sorted(os.sched_getaffinity(0))[number])
            here = Cluster(nodes[0])
            here.order("node-1", CORDONED)
            while sum(member.takes_work for member in here.members()) < count:
                time.sleep(0.05)
            lm = dspex.LM("openai/x", base_url=there.url, cache=False)
            system = use(System(nodes[0], lm, own=False))
            for some in (data[:200], data):  # the first one has the workers load what they need
                began = time.monotonic()
                result = dspex.evaluate(
                    program, some, compared, system=system, max_in_flight=in_flight, display_progress=False
                )
                took = time.monotonic() - began
            assert (result.n, result.failed) == (examples, 0)
            system.close()
            return examples / took, len(result.nodes)
        finally:
            for node in nodes:
                node.close()


def bind(node: Node, core: int) -> None:
    """Have all processes of a node run on one core."""
    daemon = node.info["pid"]
    for pid in (daemon, *processes.descendants(daemon)):
        psutil.Process(pid).cpu_affinity([core])


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=3000, metric_ms=20.0, in_flight=64, latency_ms=100.0, turns=3).parse_args()
    if options.quick:
        options.examples, options.turns = min(options.examples, 500), 1
    ones, twos, ratios = [], [], []
    for _ in range(options.turns):
        one, two = (
            measure(count, options.examples, options.metric_ms, options.in_flight, options.latency_ms)
            for count in (1, 2)
        )
        assert (one[1], two[1]) == (1, 2)
        ones.append(one[0])
        twos.append(two[0])
        ratios.append(two[0] / one[0])
    table(
        f"{options.examples:,} examples, a metric of {options.metric_ms:g} ms of CPU, {os.cpu_count()} cores, "
        f"{options.turns} turns",
        ["", "examples/s"],
        [
            ["one node that works", f"{statistics.median(ones):.1f}"],
            ["two", f"{statistics.median(twos):.1f}"],
            ["ratio (median of the turns)", f"{statistics.median(ratios):.2f} x"],
        ],
    )


if __name__ == "__main__":
    run(main)
