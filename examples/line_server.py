"""A supervised TCP line server whose clients do not notice that their handlers are killed.

    python examples/line_server.py              # a demonstration: clients, and kill -9 among their handlers
    python examples/line_server.py --serve      # serve until Ctrl-C; try it with `nc 127.0.0.1 PORT`

    line_server (rest_for_one)
    ├─ connections (one_for_one)   one handler process per connection, started when a client comes
    │   ├─ connection-1
    │   └─ connection-2
    └─ listener                    owns the listening socket and a copy of every open connection

A handler gets its connection from the listener over a Unix socket, and so does the one that replaces it. It takes a
line off the connection only when that line is answered (MSG_PEEK), so a handler that is killed leaves it to the next
one: no line is lost. Killed between the answer and the taking off, lines are answered again, by each handler that is
killed there; so lines have a number.
When the listener is killed, handlers go on with the connections they have; new clients wait until it is back.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from supervisors import IGNORE, ChildSpec, Down, GenServer, Node, Ref, Stop, SupervisorSpec, errors


class Listener(GenServer):
    """Owns the listening socket; has a handler started for each client, and keeps a copy of its connection."""

    def init(self, address: tuple[str, int], handover: str) -> None:
        """Listen for clients at `address`, and at the Unix socket `handover` for handlers."""
        self.handover = handover
        self.connections: dict[int, socket.socket] = {}
        self.leaving: dict[Ref, int] = {}
        self.listening = socket.create_server(address, backlog=128)
        Path(handover).unlink(missing_ok=True)
        self.shop = socket.socket(socket.AF_UNIX)
        self.shop.bind(handover)
        self.shop.listen()
        for each in (self.listening, self.shop):
            each.setblocking(False)
        self.spawn(self.accept())
        self.spawn(self.hand_over())

    async def accept(self) -> None:
        """Take in clients, for ever."""
        loop = asyncio.get_running_loop()
        number = time.time_ns()  # no listener before this one has used it
        while True:
            connection, _ = await loop.sock_accept(self.listening)
            number += 1
            self.connections[number] = connection
            spec = ChildSpec(f"connection-{number}", Handler, (number, self.handover), restart="transient")
            await self.start_child("connections", spec)

    async def hand_over(self) -> None:
        """Give handlers their connections, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            handler, _ = await loop.sock_accept(self.shop)
            with handler, suppress(OSError, KeyError):
                number = int.from_bytes(await loop.sock_recv(handler, 8), "big")
                handler.setblocking(True)
                socket.send_fds(handler, [b"."], [self.connections[number].fileno()])

    def handle_call(self, request: object, caller: object) -> object:
        """Say which port this is."""
        return self.listening.getsockname()[1]

    async def handle_cast(self, message: object) -> None:
        """Let a connection go whose client has left."""
        match message:
            case ("left", int(number), Ref() as ref):
                self.leaving[ref] = number
                self.monitor(ref)
                if number in self.connections:
                    self.connections.pop(number).close()

    async def handle_info(self, message: object) -> None:
        """Forget the handler that has ended since."""
        if isinstance(message, Down) and message.ref is not None:
            with suppress(errors.ChildRunning, errors.ChildNotFound):
                await self.delete_child("connections", f"connection-{self.leaving.pop(message.ref)}")


class Handler(GenServer):
    """Answers the lines of one connection in capitals."""

    def init(self, number: int, handover: str) -> object:
        """Fetch the connection from the listener; one that it does not have any more needs no handler."""
        self.number = number
        with socket.socket(socket.AF_UNIX) as shop:
            shop.connect(handover)
            shop.sendall(number.to_bytes(8, "big"))
            _, descriptors, _, _ = socket.recv_fds(shop, 1, 1)
        if not descriptors:
            return IGNORE
        self.connection = socket.socket(fileno=descriptors[0])
        self.spawn(self.answer_lines())
        return None

    async def answer_lines(self) -> None:
        """Answer line after line until the client leaves."""
        seen = 0
        with suppress(ConnectionError):
            while True:
                await self.more_than(seen)
                data = self.connection.recv(65536, socket.MSG_PEEK)
                end = data.rfind(b"\n") + 1
                if end:
                    self.connection.sendall(data[:end].upper())
                    self.connection.recv(end)
                elif len(data) == seen:
                    break  # it wakes us without more to read: the client has left
                seen = 0 if end else len(data)
        self.cast("listener", ("left", self.number, self.ref))
        raise Stop("normal")

    async def more_than(self, count: int) -> None:
        """Wait until more than `count` bytes can be read, or the client has left."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count + 1)
        loop.add_reader(self.connection, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self.connection)


def server(handover: str, port: int = 0) -> SupervisorSpec:
    """Return the whole tree; a port is chosen here, so that a listener that comes back has the same."""
    if port == 0:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    connections = SupervisorSpec([], intensity=1000, name="connections")
    return SupervisorSpec(
        [
            ChildSpec("connections", connections),
            ChildSpec("listener", Listener, args=(("127.0.0.1", port), handover), name="listener"),
        ],
        strategy="rest_for_one",
        intensity=5,
        name="line_server",
    )


def client(port: int, name: int, enough: threading.Event, counts: list[int], wrong: list[str]) -> None:
    """Send lines until it is enough, and check the answers; one that was answered before may come again."""
    with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
        answers = connection.makefile("r")
        for number in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
            counts[name] += 1
            connection.sendall(f"{number} hello from client {name}\n".encode())
            wanted = f"{number} HELLO FROM CLIENT {name}\n"
            for answer in answers:
                if answer == wanted:
                    break
                if int(answer.split()[0]) >= number:
                    wrong.append(f"client {name}: wanted {wanted!r}, got {answer!r}")
            else:
                wrong.append(f"client {name}: the connection was closed")
                return


def handlers(node: Node) -> list[int]:
    """Return the pids of the handlers that live now."""
    return [row.pid for row in node.which_children("connections") if row.pid is not None]


def demonstrate(clients: int = 6, kills: int = 15) -> int:
    """Run clients, kill handlers under them, and count what went wrong."""
    with Node.start(level="critical") as node:
        node.start_supervisor(server(str(node.data_dir / "handover")))
        port = node.call("listener", "port")
        print(f"serving on port {port}; {clients} clients send lines, one after the other")
        enough, counts = threading.Event(), [0] * clients
        wrong: list[str] = []
        threads = [threading.Thread(target=client, args=(port, name, enough, counts, wrong)) for name in range(clients)]
        for thread in threads:
            thread.start()
        killed: set[int] = set()
        while len(killed) < kills and not wrong:
            living = [pid for pid in handlers(node) if pid not in killed]
            if len(living) == clients:
                victim = random.choice(living)
                killed.add(victim)
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            time.sleep(0.01)
        enough.set()
        print(f"killed {len(killed)} handlers with kill -9 meanwhile")
        for thread in threads:
            thread.join()
        for line in wrong:
            print("WRONG", line)
        print(f"{sum(counts)} lines answered, {len(wrong)} wrong or missing")
        return 1 if wrong else 0


def serve(port: int) -> int:
    """Serve until Ctrl-C, or SIGINT from a program; a shell starts what is in the background deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Node.start(level="critical") as node:
        ended = node.monitor(node.start_supervisor(server(str(node.data_dir / "handover"), port)))
        print(f"serving on port {node.call('listener', 'port')}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            ended.wait()
        return 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A supervised TCP line server.")
    options.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    options.add_argument("--port", type=int, default=0, help="with --serve; 0: any free one")
    chosen = options.parse_args()
    sys.exit(serve(chosen.port) if chosen.serve else demonstrate())
