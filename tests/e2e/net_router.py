"""Hosts in network namespaces, and the net between them, which loses, delays, doubles and reorders as it is told.

    python net_router.py PREFIX NUMBER...      as root; prints a line of JSON: number → the thread in its namespace

Each host has the address PREFIX.NUMBER on a device whose packets this process reads and writes; this process's own
namespace has PREFIX.1. Lines of JSON on standard input say from then on what becomes of packets: `cut` (pairs of
numbers, from and to), `delay` (seconds), `spread` (up to so many seconds more, another number for each packet),
`double` (the share that comes twice). Nothing stays behind when it ends, however it does.
"""

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import json
import os
import random
import selectors
import struct
import subprocess
import sys
import threading
import time

NEW_NET = 0x40000000
SET_DEVICE, DEVICE, BARE = 0x400454CA, 0x0001, 0x1000
#: Of the head of an IP packet: where the last byte of the sender's address is, and of the receiver's.
FROM, TO = 15, 19

libc = ctypes.CDLL(None, use_errno=True)


def device(name, address):
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(handle, SET_DEVICE, struct.pack("16sH22x", name.encode(), DEVICE | BARE))
    for words in (["addr", "add", f"{address}/24", "dev", name], ["link", "set", name, "up", "txqueuelen", "10000"]):
        subprocess.run(["ip", *words], check=True)
    return handle


class Namespace(threading.Thread):
    """A thread in a network namespace of its own, which is there as long as it is."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.made = address, threading.Event()
        self.start()
        self.made.wait()

    def run(self):
        if libc.unshare(NEW_NET):
            raise OSError(ctypes.get_errno(), "no network namespace")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.handle = device("eth0", self.address)
        self.made.set()
        threading.Event().wait()


class Net:
    def __init__(self, handles):
        self.handles, self.rules = handles, {}
        self.cut, self.delay, self.spread, self.double = set(), 0.0, 0.0, 0.0
        self.late, self.order, self.dice = [], itertools.count(), random.Random(1)

    def obey(self, rules):
        self.cut = {tuple(pair) for pair in rules.get("cut", ())}
        self.delay, self.spread, self.double = (rules.get(name, 0.0) for name in ("delay", "spread", "double"))

    def take(self, packet):
        if packet[0] >> 4 != 4 or (packet[FROM], packet[TO]) in self.cut:
            return
        for _ in range(2 if self.double and self.dice.random() < self.double else 1):
            wait = self.delay + (self.dice.random() * self.spread if self.spread else 0.0)
            if wait:
                heapq.heappush(self.late, (time.monotonic() + wait, next(self.order), packet))
            else:
                self.give(packet)

    def give(self, packet):
        handle = self.handles.get(packet[TO])
        if handle is not None:
            with contextlib.suppress(OSError):  # its queue is full: lost, as in any net
                os.write(handle, packet)

    def due(self):
        """Give what has waited long enough; return the seconds until there is more, None: there is none."""
        now = time.monotonic()
        while self.late and self.late[0][0] <= now:
            self.give(heapq.heappop(self.late)[2])
        return max(0.0, self.late[0][0] - time.monotonic()) if self.late else None


def main(prefix, numbers):
    spaces = {number: Namespace(f"{prefix}.{number}") for number in numbers}
    handles = {number: space.handle for number, space in spaces.items()}
    handles[1] = device(f"dx{os.getpid()}", f"{prefix}.1")
    net, select = Net(handles), selectors.DefaultSelector()
    for handle in handles.values():
        select.register(handle, selectors.EVENT_READ)
    select.register(sys.stdin.fileno(), selectors.EVENT_READ, "rules")
    os.set_blocking(sys.stdin.fileno(), False)
    print(json.dumps({number: space.native_id for number, space in spaces.items()}), flush=True)
    said = b""
    while True:
        for key, _ in select.select(net.due()):
            if key.data == "rules":
                more = os.read(sys.stdin.fileno(), 1 << 16)
                if not more:
                    return
                *lines, said = (said + more).split(b"\n")
                for line in lines:
                    net.obey(json.loads(line))
                    print("done", flush=True)
                continue
            try:
                for _ in range(100):
                    net.take(os.read(key.fd, 1 << 16))
            except BlockingIOError:
                pass


if __name__ == "__main__":
    main(sys.argv[1], [int(number) for number in sys.argv[2:]])
