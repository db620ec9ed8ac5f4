"""A supervised counter: crash it, kill it, wear its supervisor out, and see what is said about it.

python examples/counter.py
"""

from __future__ import annotations

import os
import signal

from supervisors import ChildSpec, GenServer, Node, SupervisorSpec, errors


class Counter(GenServer):
    """Counts. Its state is its own: nobody else can touch it, and it dies with it."""

    def init(self, value: int = 0) -> None:
        """Begin at `value`, at every start."""
        self.value = value

    def handle_call(self, request: object, caller: object) -> int:
        """Add, or divide; dividing by zero is a crash."""
        match request:
            case ("add", int(n)):
                self.value += n
            case ("divide by", int(n)):
                self.value //= n
        return self.value


def main() -> None:
    """Run it."""
    children = [ChildSpec("counter", Counter, args=(100,), name="counter")]
    with Node.start(level="critical") as node:
        top = node.start_supervisor(SupervisorSpec(children, intensity=2, period=5.0))
        ended = node.monitor(top)
        print("add 5          ->", node.call("counter", ("add", 5)))

        first = node.pid("counter")
        try:
            node.call("counter", ("divide by", 0))
        except errors.ServerExited as error:
            print("divide by 0    -> the server ended:", error.reason)
        print("add 1          ->", after_restart(node, first, ("add", 1)), "  (it began at 100 again)")

        second = node.pid("counter")
        assert second is not None
        os.kill(second, signal.SIGKILL)
        print("kill -9, add 2 ->", after_restart(node, second, ("add", 2)))

        third = node.pid("counter")
        assert third is not None
        os.kill(third, signal.SIGKILL)
        down = ended.wait(5.0)
        assert down is not None
        print("kill -9 again  -> a third time in 5 s is too much: the supervisor ended,", down.reason)

        print("\nwhat the supervisor reported:")
        for report in node.reports():
            if report.id == "counter":
                print(f"  {report.kind:<30} {report.reason or ''}")


def after_restart(node: Node, old_pid: int | None, request: object) -> int:
    """Ask the counter that comes after the one with `old_pid`; it takes some 15 ms to be there."""
    while True:
        if node.pid("counter") not in (None, old_pid):
            return int(node.call("counter", request))


if __name__ == "__main__":
    main()
