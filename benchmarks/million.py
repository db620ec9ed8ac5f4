"""Very many examples on each store: is memory flat from the ten thousandth on, and the time linear?

One run from a JSON lines file, on a server that answers at once: its journal a file, a file with a standby (two nodes),
or in a PostgreSQL server; what it writes there stays in the database, so give it one of its own.

    python -m benchmarks.million [--examples N] [--store file|standby|postgresql] [--postgres ADDRESS] [--in-flight N]
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import dspex_actors as dspex
from benchmarks import clusters
from benchmarks.common import home, mb, parser, run, server, table
from dspex_actors.client.system import System, use
from supervisors import Node

#: From here on memory has to be flat.
EARLY = 10_000

#: Examples done, seconds, and memory in bytes.
Look = tuple[int, float, int]


@contextlib.contextmanager
def nodes_of(store: str, folder: Path, postgres: str) -> Iterator[list[Node]]:
    """Give the nodes of a store."""
    if store == "standby":
        with clusters.cluster(folder, 2, net="127.0.5", replicas=2) as nodes:
            yield nodes
        return
    node = clusters.start(folder, 1, None, net="127.0.5", journal=postgres or None)
    try:
        yield [node]
    finally:
        node.close()


def memory(nodes: list[Node]) -> int:
    """Return the PSS of all processes of the nodes, and of this one, in bytes."""
    total = 0
    for pid in (os.getpid(), *(node.info["pid"] for node in nodes)):
        process = psutil.Process(pid)
        for one in (process, *(process.children(recursive=True) if pid != os.getpid() else ())):
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
    return total


def measure(options: Any, folder: Path, nodes: list[Node], url: str) -> list[Look]:
    """Run it; return examples done, seconds and memory, at a look every few seconds."""
    path = folder / "examples.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"ticket": "ticket {number}", "team": "billing"}}\n' for number in range(options.examples))
    system = use(System(nodes[0], dspex.LM("openai/x", base_url=url, cache=False), own=False))
    program, metric = dspex.Predict("ticket -> team"), dspex.metrics.exact_match("team")
    settings = {"max_in_flight": options.in_flight, "hedge": False}
    began = time.monotonic()
    run_id = system.start_run("evaluate", program, path, metric, settings=settings)
    looks: list[Look] = []
    while True:
        row = system.journal.get_run(run_id)
        assert row is not None
        looks.append((row.done, time.monotonic() - began, memory(nodes)))
        print(f"{row.done:,} after {looks[-1][1]:.0f} s, {mb(looks[-1][2])} MB", file=sys.stderr, flush=True)
        if row.state not in ("created", "running"):
            assert (row.state, row.done, row.failed) == ("finished", options.examples, 0), row
            return looks
        time.sleep(2)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=1_000_000, store="file", postgres="", in_flight=256).parse_args()
    if options.quick:
        options.examples = min(options.examples, 50_000)
    if options.examples < 1:
        sys.exit(f"--examples is 1 or more; got {options.examples}")
    if (options.store == "postgresql") != bool(options.postgres):
        sys.exit("expected --postgres ADDRESS together with --store postgresql")
    with home() as folder, server(0.0) as there, nodes_of(options.store, Path(folder), options.postgres) as nodes:
        looks = measure(options, Path(folder), nodes, there.url)
        requests = there.stats()["requests"]
    table(
        f"{options.examples:,} examples, {options.store}, {options.in_flight} in flight, {os.cpu_count()} cores",
        ["what", "figure"],
        [["requests", f"{requests:,}"], *figures(looks)],
        "wanted: +5 % at most",
    )


def figures(looks: list[Look]) -> list[list[str]]:
    """Return the rows of what the looks say; of too few examples they say nothing of memory, and that is told."""
    last = looks[-1]
    early = next((one for one in looks if one[0] >= EARLY), looks[0])
    half = next(one for one in looks if one[0] >= last[0] / 2)
    rows = [
        ["seconds", f"{last[1]:,.1f}"],
        ["examples/s, first half and second", f"{_rate(early, half)}, {_rate(half, last)}"],
    ]
    if early[0] < EARLY or early is last:
        return [
            *rows,
            ["nodes and client, PSS MB", f"{mb(last[2])}; what it grows by is seen above {EARLY:,} examples"],
        ]
    peak = max(one[2] for one in looks if one[0] >= EARLY)
    return [
        *rows,
        [f"nodes and client, PSS MB, at {early[0]:,}", mb(early[2])],
        ["at their peak after that", f"{mb(peak)} (+{100 * (peak / early[2] - 1):.1f} %)"],
    ]


def _rate(since: Look, until: Look) -> str:
    return "too short" if until[1] <= since[1] else f"{(until[0] - since[0]) / (until[1] - since[1]):,.0f}"


if __name__ == "__main__":
    run(main)
