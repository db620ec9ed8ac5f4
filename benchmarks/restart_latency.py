"""How long a killed child is away, and what a call costs, on a node of its own.

    python benchmarks/restart_latency.py [--kills 200]

A child is killed with SIGKILL; it counts as ready again when another process answers a call by the same name. The
client asks for that name without pause, so the figures have the cost of its asking in them.
"""

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable

from supervisors import ChildSpec, GenServer, Node, SupervisorSpec, errors


class Server(GenServer):
    def handle_call(self, request, caller):
        return os.getpid()


def restart_times(node: Node, kills: int) -> list[float]:
    times = []
    pid = node.call("server", None)
    for _ in range(kills):
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        old = pid
        while pid == old:
            try:
                pid = node.call("server", None)
            except (errors.NoProcess, errors.ServerExited):
                time.sleep(0.0005)
        times.append(time.perf_counter() - began)
    return times


def call_times(node: Node, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        node.call("server", None)
        times.append(time.perf_counter() - began)
    return times


def rate(node: Node, threads: int, calls: int) -> float:
    def work() -> None:
        for _ in range(calls):
            node.call("server", None)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * calls / (time.perf_counter() - began)


def row(name: str, times: list[float], show: Callable[[str], None] = print) -> None:
    ordered = sorted(times)
    cells = (1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.9, 0.99))
    show(f"{name:<38}" + "".join(f"{cell:>10.2f}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    kills = parser.parse_args().kills
    with Node.start() as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("s", Server, name="server")], intensity=kills, period=1e6))
        call_times(node, 200)
        print(f"{'milliseconds':<38}{'p50':>10}{'p90':>10}{'p99':>10}")
        row("call, one at a time", call_times(node, 2000))
        row(f"restart after kill -9 ({kills} kills)", restart_times(node, kills))
        print(f"{'calls a second from 64 threads':<38}{rate(node, 64, 100):>10,.0f}")


if __name__ == "__main__":
    main()
