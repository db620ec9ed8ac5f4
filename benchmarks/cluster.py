"""One run on one node, on two, and on several of which some are killed in the middle: seconds, and what is asked twice.

All nodes are on this host, each at a loopback address of its own, with one worker: two nodes are faster than one only
where there are cores for both, or where the server is what is waited for.

    python -m benchmarks.cluster [--examples N] [--in-flight N] [--latency-ms N] [--nodes N] [--kill N] [--quick]
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import dspex_actors as dspex
from benchmarks.clusters import cluster, kill
from benchmarks.common import home, parser, run, server, table
from dspex_actors.client.system import System, use


def measure(nodes: int, kills: int, examples: int, in_flight: int, latency_ms: float) -> tuple[float, int, int]:
    """Return the seconds of a run, the requests that the server got, and the nodes that worked."""
    rows = [{"ticket": f"ticket {number}", "team": "billing"} for number in range(examples)]
    with home() as folder, server(latency_ms) as there, cluster(Path(folder), nodes, net="127.0.1") as started:
        system = use(System(started[0], dspex.LM("openai/x", base_url=there.url, cache=False), own=False))
        program, metric = dspex.Predict("ticket -> team"), dspex.metrics.exact_match("team")
        began = time.monotonic()
        run_id = system.start_run("evaluate", program, rows, metric, settings={"max_in_flight": in_flight})
        for node in started[len(started) - kills :] if kills else ():
            while system._ask("progress", run_id)["summary"]["done"] < examples // 3:
                time.sleep(0.02)
            kill([node])
        result = system.wait_run(run_id)
        seconds = time.monotonic() - began
        assert [one.index for one in result.results] == list(range(examples))
        return seconds, there.stats()["requests"], len(result.nodes)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=10_000, in_flight=256, latency_ms=100.0, nodes=20, kill=2).parse_args()
    if options.quick:
        options.examples, options.nodes, options.kill = min(options.examples, 2000), 4, 1
    examples, in_flight = options.examples, options.in_flight
    cases = [
        ("1 node, instant server", 1, 0, 0.0),
        ("2 nodes, instant server", 2, 0, 0.0),
        (f"1 node, {options.latency_ms:g} ms", 1, 0, options.latency_ms),
        (f"2 nodes, {options.latency_ms:g} ms", 2, 0, options.latency_ms),
        (f"{options.nodes} nodes, {options.latency_ms:g} ms", options.nodes, 0, options.latency_ms),
        (f"the same, {options.kill} killed", options.nodes, options.kill, options.latency_ms),
    ]
    rows = []
    for name, nodes, kills, latency in cases:
        seconds, asked, worked = measure(nodes, kills, examples, in_flight, latency)
        twice = 100 * (asked - examples) / examples
        rows.append([name, f"{seconds:.1f}", f"{examples / seconds:,.0f}", str(worked), f"{twice:.2f} %"])
    table(
        f"one run of {examples:,} examples, {in_flight} in flight, {os.cpu_count()} cores",
        ["", "seconds", "examples/s", "nodes that worked", "asked twice"],
        rows,
    )


if __name__ == "__main__":
    run(main)
