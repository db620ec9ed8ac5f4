"""Idle nodes: their processes and what memory each takes: alone with a program, and in a cluster, by role.

PSS shares a page among the processes that have it in common; USS is what is a process's own.

    python -m benchmarks.idle_node
"""

from __future__ import annotations

import time

import psutil

from benchmarks.common import Work, home, mb, parser, role, run, server, table
from benchmarks.hundred_nodes import nodes, see_all
from supervisors.host import processes

#: Nodes of a cluster are looked at so many seconds after all have seen all.
QUIET_SECONDS = 5.0


def main() -> None:
    """Measure and print."""
    parser(__doc__).parse_args()
    alone()
    in_a_cluster()


def alone() -> None:
    """Measure a node, and the program that is connected to it."""
    rows: list[list[str]] = []
    sums = [0.0, 0.0, 0.0, 0.0]
    with server(1) as there, home(), Work("idle", url=there.url) as child:
        client = psutil.Process(child.pid)
        everyone = [client, *client.children(recursive=True)]
        before = [sum(process.cpu_times()[:2]) for process in everyone]
        started = time.monotonic()
        child.tell()
        child.hear()
        seconds = time.monotonic() - started
        for process, used in zip(everyone, before, strict=True):
            info = process.memory_full_info()
            busy = (sum(process.cpu_times()[:2]) - used) / seconds * 100
            figures = [info.rss, getattr(info, "pss", info.uss), info.uss, busy]
            is_client = process.pid == child.pid
            if not is_client:
                sums = [one + other for one, other in zip(sums, figures, strict=True)]
            name = "the connected program" if is_client else role(process, set())
            rows.append([name, str(process.num_threads()), *map(mb, figures[:3]), f"{busy:.1f}"])
        rows.append([f"the node, {len(everyone) - 1} processes", "", *map(mb, sums[:3]), f"{sums[3]:.1f}"])
    table(
        "An idle node with two workers, after one call",
        ["process", "threads", "RSS MB", "PSS MB", "USS MB", "CPU %"],
        rows,
    )


def in_a_cluster() -> None:
    """Measure a full node and one that only works, which have joined."""
    with nodes(2, workers=2) as started:
        see_all(started)
        time.sleep(QUIET_SECONDS)
        for node, what in zip(started, ("A full node", "A node that only works"), strict=True):
            pids = [node.pid, *processes.descendants(node.pid)]
            each = [memory(psutil.Process(pid)) for pid in pids]
            names = ["daemon", "Thespian's admin", *(psutil.Process(pid).name() for pid in pids[2:])]
            rows = [[name, *map(mb, sizes)] for name, sizes in zip(names, each, strict=True)]
            rows.append([f"the node, {len(pids)} processes", *map(mb, map(sum, zip(*each, strict=True)))])
            columns = ["process", "PSS MB", "of files MB", "written to MB"]
            table(f"{what} with two workers in a cluster, idle", columns, rows)


def memory(process: psutil.Process) -> tuple[int, int, int]:
    """Return a process's share of memory (PSS), what of it is mapped from files, and what it alone has written to."""
    maps = process.memory_maps(grouped=True)
    files = sum(each.pss for each in maps if each.path.startswith("/"))
    return sum(each.pss for each in maps), files, sum(each.private_dirty for each in maps)


if __name__ == "__main__":
    run(main)
