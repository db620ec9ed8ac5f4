"""An idle node: its processes and what memory each takes; and the program that is connected to it.

PSS shares a page among the processes that have it in common; USS is what is a process's own.

    python -m benchmarks.idle_node
"""

from __future__ import annotations

import time

import psutil

from benchmarks.common import Work, home, mb, parser, role, run, server, table


def main() -> None:
    """Measure and print."""
    parser(__doc__).parse_args()
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


if __name__ == "__main__":
    run(main)
