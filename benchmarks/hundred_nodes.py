"""A hundred nodes on one host: how long they take to start, to know each other, and for 10,000 predictions.

The first node is a full one and coordinates, the others only work (`--role worker`), with one worker each; all have a
loopback address of their own. The first run has each worker load what a call needs; the second finds them ready.

    python -m benchmarks.hundred_nodes [--nodes N] [--examples N] [--in-flight N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

import dspex_actors as dspex
from benchmarks.common import console, home, mb, median, parser, run, server, table
from dspex_actors.app import AppConfig, started_as
from dspex_actors.client.system import System, use
from dspex_actors.foundation.home import HOME
from supervisors import Node
from supervisors.client.launch import launch, stop_process
from supervisors.cluster.handle import Cluster
from supervisors.errors import NodeDown, SupervisorsError
from supervisors.host import processes
from supervisors.host.node_config import NodeConfig
from supervisors.wire.keys import KEY_FILE

#: So many are started at once; all must see all within so many seconds; and idle CPU is looked at for so long.
AT_ONCE, SEEN_SECONDS, IDLE_SECONDS = 4, 300.0, 10.0
#: A start that fails is tried so often.
TRIES = 3
#: How many nodes have addresses with the same first three numbers.
NET = 200


@dataclass
class Started:
    """One node of the benchmark."""

    folder: Path
    address: str
    pid: int


def start(folder: Path, number: int, first: Started | None, lifeline: int, workers: int) -> Started:
    """Start a node with so many workers; it ends with this program."""
    place = folder / f"node-{number}"
    place.mkdir(mode=0o700)
    if first is not None:
        shutil.copy(first.folder / KEY_FILE, place / KEY_FILE)
    role = "full" if first is None else "worker"
    config = NodeConfig(
        name=f"node-{number}",
        host=f"127.0.{10 + number // NET}.{1 + number % NET}",
        data_dir=str(place),
        app_config=AppConfig(workers=workers).to_dict(),
        join=None if first is None else first.address,
        role=role,
        **started_as(role, workers),
    )
    for tried in range(1, TRIES + 1):
        try:
            _, said = launch(config, lifeline, HOME)
            break
        except NodeDown as error:  # a host with more to do than it can: the node that is joined did not answer in time
            if tried == TRIES:
                raise
            console.print(f"node-{number} is started again: {error}")
    return Started(place, said["address"], said["pid"])


@contextlib.contextmanager
def nodes(count: int, workers: int = 1) -> Iterator[list[Started]]:
    """Give so many nodes that have joined; none of their processes is left."""
    read, write = os.pipe()
    with home() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        first = start(Path(folder), 0, None, read, workers)
        started = [first]
        try:
            started += pool.map(lambda number: start(Path(folder), number, first, read, workers), range(1, count))
            yield started
        finally:
            everyone = [pid for node in started for pid in (node.pid, *processes.descendants(node.pid))]
            began = time.monotonic()
            for node in started:
                stop_process(node.pid, now=True)
            os.close(write)  # also for those that this program does not know yet
            there = []
            for pid in everyone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    there.append(psutil.Process(pid))
            psutil.wait_procs(there, timeout=60)
            left = [pid for pid in everyone if psutil.pid_exists(pid) and not _has_ended(pid)]
            console.print(f"taken down in {time.monotonic() - began:.1f} s; {len(left)} processes are left")
            os.close(read)


def _has_ended(pid: int) -> bool:
    try:
        return processes.has_ended(pid, 0)
    except OSError:
        return True


def see_all(started: Sequence[Started]) -> None:
    """Wait until each node takes all of them to be alive."""
    until = time.monotonic() + SEEN_SECONDS
    for node in started:
        with Node.attach(node.folder, HOME) as attached:
            while (seen := _alive(attached)) < len(started):
                if time.monotonic() > until:
                    raise SystemExit(f"{node.folder.name} sees {seen} of {len(started)} nodes")
                time.sleep(0.2)


def _alive(node: Node) -> int:
    try:
        return sum(member.state == "alive" for member in Cluster(node).members())
    except SupervisorsError:  # it has much to do just now
        return 0


@dataclass
class Used:
    """What nodes use: processes, bytes that are theirs (PSS), and seconds of CPU so far; when that was."""

    count: int
    pss: int
    cpu: float
    at: float


def used(started: Sequence[Started]) -> list[Used]:
    """Return what each node uses."""
    found = []
    for node in started:
        pids = [node.pid, *processes.descendants(node.pid)]
        infos = [psutil.Process(pid) for pid in pids]
        cpu, at = sum(sum(info.cpu_times()[:2]) for info in infos), time.monotonic()
        found.append(Used(len(pids), sum(info.memory_full_info().pss for info in infos), cpu, at))
    return found


def evaluate(system: System, examples: int, in_flight: int) -> tuple[float, int, int, int]:
    """Return seconds, results, failed ones, and how many nodes have worked."""
    data = [{"ticket": f"ticket {number}", "team": "billing"} for number in range(examples)]
    program, metric = dspex.Predict("ticket -> team"), dspex.metrics.exact_match("team")
    began = time.monotonic()
    result = dspex.evaluate(program, data, metric, system=system, max_in_flight=in_flight, display_progress=False)
    seconds = time.monotonic() - began
    assert [one.index for one in result.results] == list(range(examples))
    return seconds, result.n, result.failed, len(result.nodes)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, nodes=100, examples=10_000, in_flight=500, latency_ms=100.0).parse_args()
    if options.quick:
        options.nodes, options.examples = min(options.nodes, 10), min(options.examples, 2_000)
    # Each process of a node holds connections to many others.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows: list[list[str]] = []

    def row(what: str, figure: str) -> None:
        console.print(f"{what}: {figure}")
        rows.append([what, figure])

    load = os.getloadavg()[0]
    began = time.monotonic()
    with server(options.latency_ms) as there, nodes(options.nodes) as started:
        row("all have started and joined", f"{time.monotonic() - began:.1f} s")
        see_all(started)
        row("all see all", f"{time.monotonic() - began:.1f} s")
        idle = used(started)
        workers = idle[1:] or idle
        row("CPU for the start of a worker node, median", f"{median([each.cpu for each in workers]):.2f} s")
        row("processes", f"{sum(each.count for each in idle)}")
        row("PSS of a worker node, median", f"{mb(median([each.pss for each in workers]))} MB")
        row("PSS of all", f"{mb(sum(each.pss for each in idle))} MB")
        time.sleep(IDLE_SECONDS)
        # It takes seconds to look at hundreds of processes.
        later = zip(idle, used(started), strict=True)
        busy = sum((now.cpu - before.cpu) / (now.at - before.at) for before, now in later)
        row("CPU of all while idle", f"{busy * 100:.0f} % of a core")
        system = use(
            System(
                Node.attach(started[0].folder, HOME), dspex.LM("openai/x", base_url=there.url, cache=False), own=False
            )
        )
        for name in ("first run, in which workers load what a call needs", "second run"):
            there.stats(reset=True)
            before = sum(each.cpu for each in used(started))
            seconds, count, failed, worked = evaluate(system, options.examples, options.in_flight)
            asked = there.stats()["requests"]
            row(
                name,
                f"{count:,} predictions in {seconds:.1f} s ({60 * count / seconds:,.0f} a minute), {failed} failed, "
                f"{asked - count} asked twice, {worked} nodes worked, "
                f"{sum(each.cpu for each in used(started)) - before:.0f} s of CPU",
            )
        see_all(started)
        row("PSS of all after that", f"{mb(sum(each.pss for each in used(started)))} MB")
        system.close()
    table(
        f"{options.nodes} nodes on one host, {os.cpu_count()} cores, load {load:.1f} before, "
        f"{options.latency_ms:g} ms a call, {options.in_flight} in flight",
        ["", ""],
        rows,
    )


if __name__ == "__main__":
    run(main)
