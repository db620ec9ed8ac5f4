"""A pool of slow helpers: borrowed, given back, killed while they are out, and never leaked.

    python examples/pool.py

Ten threads want a helper; there are two, and at most two more when others wait. Some helpers are killed with kill -9
while they work, and some work would never end: its helper is taken away after five seconds and replaced.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter

from supervisors import ChildSpec, GenServer, Node, Pool, PoolSpec, errors


class Helper(GenServer):
    """Something that is dear to start and can do one thing at a time."""

    def handle_call(self, request: object, caller: object) -> object:
        """Square a number, in a while."""
        match request:
            case "die":
                os.kill(os.getpid(), 9)
            case "hang":
                time.sleep(3600)
            case int(number):
                time.sleep(0.01)
                return number * number
        return None


def work(node: Node, outcomes: Counter[str], jobs: list[object], lock: threading.Lock) -> None:
    """Do jobs until there are none, each with a helper of its own for so long."""
    helpers = Pool(node, "helpers")
    while True:
        with lock:
            if not jobs:
                return
            job = jobs.pop()
        try:
            answer = helpers.transaction(job, timeout=30.0, work_timeout=5.0)
            outcome = "right" if isinstance(job, int) and answer == job * job else "wrong"
        except errors.ServerExited:
            outcome = "its helper died"
        except errors.CallTimeout:
            outcome = "took too long"
        with lock:
            outcomes[outcome] += 1


def main() -> int:
    """Run it."""
    jobs: list[object] = [*range(120), *["die"] * 5, *["hang"] * 3]
    jobs.sort(key=str)
    spec = PoolSpec(ChildSpec("helper", Helper), name="helpers", size=2, max_overflow=2)
    with Node.start(level="critical") as node:
        node.start_supervisor(spec)
        outcomes: Counter[str] = Counter()
        lock = threading.Lock()
        print("before:", Pool(node, "helpers").status())
        threads = [threading.Thread(target=work, args=(node, outcomes, jobs, lock)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for outcome, count in outcomes.most_common():
            print(f"{count:>4} jobs: {outcome}")
        deadline = time.monotonic() + 10.0
        while (stats := Pool(node, "helpers").stats()).idle < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        print(
            f"checkouts {stats.served}, helpers replaced {stats.replaced}, taken from work {stats.work_timed_out};"
            f" waits: half under {1000 * (stats.p50 or 0):.0f} ms, the longest {1000 * (stats.longest or 0):.0f} ms"
        )
        print(f"after: {stats.idle} idle, {stats.in_use} out, {stats.queue} waiting: none has leaked")
        whole = stats.idle == 2 and stats.in_use == 0
        return 0 if whole and outcomes == {"right": 120, "its helper died": 5, "took too long": 3} else 1


if __name__ == "__main__":
    sys.exit(main())
