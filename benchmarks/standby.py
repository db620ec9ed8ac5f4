"""What a standby costs: runs on a cluster of two nodes whose journals are copied, and on one whose are not, in turns.

All nodes are on this host, each at a loopback address of its own, with one worker, and so on the same cores and the
same disk: on two hosts the standby's part is another host's.

    python -m benchmarks.standby [--examples N] [--in-flight N] [--latency-ms N] [--turns N] [--quick]
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from pathlib import Path

import psutil

import dspex_actors as dspex
from benchmarks.clusters import cluster
from benchmarks.common import home, parser, run, server, table
from dspex_actors.client.system import System, use
from supervisors import Node


def cpu_of(nodes: list[Node]) -> float:
    """Return the CPU seconds of all processes of nodes."""
    total = 0.0
    for node in nodes:
        daemon = psutil.Process(node.info["pid"])
        for process in (daemon, *daemon.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def measure(nodes: list[Node], url: str, examples: int, in_flight: int, copies: int) -> tuple[float, float]:
    """Return the seconds of a run, and the CPU seconds of its nodes."""
    rows = [{"ticket": f"ticket {number}", "team": "billing"} for number in range(examples)]
    system = use(System(nodes[0], dspex.LM("openai/x", base_url=url, cache=False), own=False))
    program, metric = dspex.Predict("ticket -> team"), dspex.metrics.exact_match("team")
    used, began = cpu_of(nodes), time.monotonic()
    run_id = system.start_run("evaluate", program, rows, metric, settings={"max_in_flight": in_flight})
    result = system.wait_run(run_id)
    seconds, used = time.monotonic() - began, cpu_of(nodes) - used
    assert [one.index for one in result.results] == list(range(examples))
    found = System(nodes[1], None, own=False).journal.get_run(run_id)
    assert (0 if found is None else found.done) == (examples if copies == 2 else 0), "the standby has not all of it"
    return seconds, used


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=10_000, in_flight=256, latency_ms=0.0, turns=5).parse_args()
    if options.quick:
        options.examples, options.turns = min(options.examples, 2000), 3
    with home() as folder, server(options.latency_ms) as there, contextlib.ExitStack() as stack:
        pairs = {
            copies: stack.enter_context(cluster(Path(folder), 2, net="127.0.2", first=10 * copies, replicas=copies))
            for copies in (1, 2)
        }
        found: dict[int, list[tuple[float, float]]] = {copies: [] for copies in pairs}
        for turn in range(options.turns + 1):
            for copies, nodes in pairs.items():
                figures = measure(nodes, there.url, options.examples, options.in_flight, copies)
                if turn:  # the first one loads what is needed
                    found[copies].append(figures)
    rows = []
    for copies, name in ((1, "without a standby"), (2, "with a standby")):
        seconds, cpu = (statistics.median(one[place] for one in found[copies]) for place in range(2))
        rows.append([name, f"{options.examples / seconds:,.0f}", f"{cpu / options.examples * 1e6:,.0f}"])
    ratios = [with_[0] / without[0] for without, with_ in zip(found[1], found[2], strict=True)]
    rows.append(["cost (median of the turns)", f"{100 * (1 - 1 / statistics.median(ratios)):.1f} %", ""])
    table(
        f"runs of {options.examples:,} examples on 2 nodes, {options.in_flight} in flight, {options.latency_ms:g} ms, "
        f"{os.cpu_count()} cores, {options.turns} turns",
        ["", "examples/s", "CPU µs per example, all nodes"],
        rows,
    )


if __name__ == "__main__":
    run(main)
