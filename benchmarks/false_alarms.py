"""Healthy nodes on a machine that has no time for them: how often one of them is taken to be suspect, or down.

Each node is at a loopback address of its own, and sees all the others. Beside them, programs that only compute want
every core. Nothing dies, so each suspicion that is told is a false one, and each `down` a false alarm.

    python -m benchmarks.false_alarms [--nodes N] [--minutes N] [--busy N] [--quick]
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks import clusters
from benchmarks.common import home, parser, run, table
from supervisors.cluster.handle import Cluster

#: The members as each node sees them are looked at this often, in seconds.
LOOK_SECONDS = 0.2


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Have so many programs compute."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, nodes=5, minutes=10.0, busy=4 * (os.cpu_count() or 1)).parse_args()
    minutes = min(options.minutes, 0.5) if options.quick else options.minutes
    seen: Counter[str] = Counter()
    looks, load = 0, 0.0
    with (
        home(),
        tempfile.TemporaryDirectory() as folder,
        clusters.cluster(Path(folder), options.nodes, net="127.0.86") as nodes,
        busy(options.busy),
    ):
        handles = [Cluster(node) for node in nodes]
        before = [{member.name: "alive" for member in handle.members()} for handle in handles]
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            for handle, known in zip(handles, before, strict=True):
                for member in handle.members():
                    if member.state != known.get(member.name) and member.state != "alive":
                        seen[member.state] += 1
                    known[member.name] = member.state
            looks += 1
            load = max(load, os.getloadavg()[0])
            time.sleep(LOOK_SECONDS)
    rows = [[name, str(seen[name])] for name in ("suspect", "down")]
    rows += [["looks at each node", f"{looks:,}"], ["greatest load", f"{load:.0f}"]]
    table(f"{options.nodes} nodes for {minutes:g} minutes", ["taken to be", "times"], rows, "wanted: none down")


if __name__ == "__main__":
    run(main)
