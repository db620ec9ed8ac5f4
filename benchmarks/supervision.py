"""What supervision costs: restarts, group restarts, large trees, mass kills, and a call beside bare Thespian's.

    python -m benchmarks.supervision [--quick]

A restart is measured from kill -9 to ready: `init` has returned in another process, which has the name. The first
tree of 200 is for memory that nobody has touched since the machine started: on a virtual machine each page of it costs
its host several times what it costs later, so it has a row of its own. Bare Thespian is a program of its own with an
actor that echoes. It is asked in turns with ours, in blocks, in the same run: by another actor, as a server asks a
server, and from outside by `ActorSystem.ask`, as `Node.call` asks (through the node's door: two processes more).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.common import median, parser, percentile, run, table
from supervisors import ChildSpec, GenServer, Node, Ref, SupervisorSpec, errors

#: Targets: milliseconds, seconds or a ratio.
TARGETS = {
    "restart p50": 15.0,
    "restart p99": 60.0,
    "one_for_all": 0.5,
    "start": 3.0,
    "mass kill": 4.0,
    "call": 1.5,
}
#: The program asks this often whether a child is back, in seconds.
PAUSE_SECONDS = 0.05
#: It asks a supervisor this often for each of its children, in seconds.
ASKING_SECONDS = 0.0005
THREADS = 64

#: Bare Thespian: reads how many calls to make, makes them from outside and between two actors, writes their seconds.
BARE = """
import sys, time
from thespian.actors import Actor, ActorSystem

class Echo(Actor):
    def receiveMessage(self, message, sender):
        if isinstance(message, tuple):
            self.send(sender, message)

class Asker(Actor):
    def receiveMessage(self, message, sender):
        if isinstance(message, list):
            self.echo, self.left, self.who, self.times = *message, sender, []
        elif isinstance(message, tuple):
            self.times.append(time.perf_counter() - self.began)
        else:
            return
        if self.left:
            self.left -= 1
            self.began = time.perf_counter()
            self.send(self.echo, ("echo", self.left))
        else:
            self.send(self.who, self.times)

system = ActorSystem("multiprocTCPBase", logDefs={"version": 1})
try:
    echo, asker = system.createActor(Echo), system.createActor(Asker)
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for number in range(int(line)):
            began = time.perf_counter()
            system.ask(echo, ("echo", number), 5)
            times.append(time.perf_counter() - began)
        print(*times, flush=True)
        print(*system.ask(asker, [echo, int(line)], 60), flush=True)
finally:
    system.shutdown()
"""


class Server(GenServer):
    """Echoes."""

    def init(self):
        """Note when it is ready: its name is registered by now."""
        self.ready = time.time()

    def handle_call(self, request, caller):
        """Return the process id and since when it is ready, or what was asked."""
        return (os.getpid(), self.ready) if request is None else request


def restarts(node: Node, kills: int) -> list[float]:
    """Kill a child so often; return the seconds until it was ready again, by the clock of its successor.

    The program does not ask meanwhile: on two processors, asking without pause takes as much as the restart itself.
    """
    top = node.start_supervisor(SupervisorSpec([ChildSpec("s", Server, name="restarted")], intensity=kills))
    times = []
    pid, _ = node.call("restarted", None)
    for _ in range(kills):
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        old = pid
        while pid == old:
            time.sleep(PAUSE_SECONDS)
            with contextlib.suppress(errors.NoProcess, errors.ServerExited):
                pid, ready = node.call("restarted", None)
        times.append(ready - killed)
    node.stop(top)
    return times


def children(count: int) -> list[ChildSpec]:
    """Return so many children with names."""
    return [ChildSpec(f"c{number}", Server, name=f"bench-{number}") for number in range(count)]


def until_all_new(node: Node, top: Ref, old: set[int | None]) -> None:
    """Wait until no child is down and none is one of the old processes; the supervisor is not asked too often."""
    while old & {row.pid for row in node.which_children(top)}:
        time.sleep(len(old) * ASKING_SECONDS)


def group(node: Node, size: int, rounds: int) -> list[float]:
    """Kill the first of a one_for_all group; return the seconds until all are new."""
    top = node.start_supervisor(SupervisorSpec(children(size), "one_for_all", intensity=rounds))
    times = []
    for number in range(rounds):
        old = {row.pid for row in node.which_children(top)} | {None}
        victim = node.pid(f"bench-{number % size}")
        assert victim is not None
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        until_all_new(node, top, old)
        times.append(time.perf_counter() - began)
    node.stop(top)
    return times


def flat(node: Node, size: int) -> tuple[float, float]:
    """Start a flat tree, then kill all its children at once; return the seconds of both."""
    began = time.perf_counter()
    top = node.start_supervisor(SupervisorSpec(children(size), intensity=2 * size))
    started = time.perf_counter() - began
    old = {row.pid for row in node.which_children(top)}
    began = time.perf_counter()
    for pid in old:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    until_all_new(node, top, old | {None})
    restarted = time.perf_counter() - began
    node.stop(top)
    return started, restarted


class Asker(GenServer):
    """Asks another server so often, and returns the seconds of each call."""

    async def handle_call(self, request, caller):
        """Ask, one call after the other."""
        target, count = request
        times = []
        for number in range(count):
            began = time.perf_counter()
            await self.call(target, ("echo", number))
            times.append(time.perf_counter() - began)
        return times


@contextlib.contextmanager
def bare() -> Iterator[subprocess.Popen[str]]:
    """Run bare Thespian inside the `with`."""
    process = subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("bare Thespian did not start")
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


def calls(node: Node, blocks: int, block: int) -> dict[str, list[float]]:
    """Ask ours and bare Thespian in turns, from outside and between two servers; return the seconds of each call."""
    spec = SupervisorSpec([ChildSpec("s", Server, name="called"), ChildSpec("a", Asker, name="asker")])
    top = node.start_supervisor(spec)
    found: dict[str, list[float]] = {"bare outside": [], "bare inside": [], "outside": [], "inside": []}
    with bare() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for round_ in range(blocks + 1):
            process.stdin.write(f"{block}\n")
            process.stdin.flush()
            outside, inside = ([float(word) for word in process.stdout.readline().split()] for _ in range(2))
            ours = []
            for number in range(block):
                began = time.perf_counter()
                node.call("called", ("echo", number))
                ours.append(time.perf_counter() - began)
            between = node.call("asker", ("called", block), timeout=60)
            if round_:  # the first warms up
                for name, times in zip(found, (outside, inside, ours, between), strict=True):
                    found[name] += times
    node.stop(top)
    return found


def rate(node: Node, threads: int, calls: int) -> float:
    """Return the calls a second of a program whose threads all ask one server at the same time."""
    top = node.start_supervisor(SupervisorSpec([ChildSpec("s", Server, name="asked")]))

    def ask() -> None:
        for _ in range(calls):
            node.call("asked", None)

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - began
    node.stop(top)
    return threads * calls / seconds


def row(what: str, value: float, unit: str, target: str) -> list[str]:
    """Return a row of the table."""
    limit = TARGETS[target]
    return [what, f"{value:.2f} {unit}", f"{limit:g} {unit}", "yes" if value <= limit else "NO"]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, kills=200, group=20, size=200, rounds=5, calls=2000).parse_args()
    if options.quick:
        options.kills, options.rounds, options.calls = 30, 2, 400
    with Node.start() as node:
        trips = {name: median(times) for name, times in calls(node, 10, options.calls // 10).items()}
        times = [1e3 * each for each in restarts(node, options.kills)]
        groups = group(node, options.group, options.rounds)
        cold, _ = flat(node, options.size)
        start, mass = flat(node, options.size)
        many = rate(node, THREADS, options.calls // 20)
    table(
        f"Supervision, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        ["what", "measured", "target", "met"],
        [
            row(f"restart of a killed child, median of {options.kills}", median(times), "ms", "restart p50"),
            row("the same, 99th percentile", percentile(times, 0.99), "ms", "restart p99"),
            row(f"one_for_all of {options.group}, slowest of {options.rounds}", max(groups), "s", "one_for_all"),
            row(f"start of a flat tree of {options.size}, first time", cold, "s", "start"),
            row(f"start of a flat tree of {options.size}", start, "s", "start"),
            row(f"all {options.size} killed at once, until all are back", mass, "s", "mass kill"),
            row("call from server to server over bare Thespian's", trips["inside"] / trips["bare inside"], "", "call"),
            row("call from outside over bare Thespian's ask", trips["outside"] / trips["bare outside"], "", "call"),
        ],
        caption="medians, µs: "
        + ", ".join(f"{name} {1e6 * each:.0f}" for name, each in trips.items())
        + f"; {many:,.0f} calls a second from {THREADS} threads",
    )


if __name__ == "__main__":
    run(main)
