"""Hosts of a test in network namespaces, and faults of the net between them. Only where the machine allows it."""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

NEW_NET = 0x40000000
#: The test itself, LM servers, PostgreSQL.
OUTSIDE = 1

libc = ctypes.CDLL(None, use_errno=True)


@cache
def why_not():
    """Return why there can be no net here; None: there can be."""
    if os.geteuid():
        return "network namespaces need root"
    if not shutil.which("ip") or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "network namespaces need ip and /dev/net/tun"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        return "no network namespaces here"
    return None


class Net:
    """The net.

    Args:
        numbers: of its hosts: the last part of their addresses.
    """

    def __init__(self, *numbers):
        self.prefix, self.numbers = f"10.{200 + os.getpid() // 250 % 50}.{os.getpid() % 250}", numbers
        command = [sys.executable, Path(__file__).with_name("net_router.py"), self.prefix, *map(str, numbers)]
        self._router = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._threads = {int(number): thread for number, thread in json.loads(self._router.stdout.readline()).items()}

    def address(self, number=OUTSIDE):
        return f"{self.prefix}.{number}"

    @contextlib.contextmanager
    def inside(self, number):
        """Have processes that are started in the `with`, by this thread, be on a host."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = f"/proc/{self._router.pid}/task/{self._threads[number]}/ns/net"
        other = os.open(there, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._enter(other)
            try:
                yield
            finally:
                self._enter(own)
        finally:
            os.close(own)
            os.close(other)

    @staticmethod
    def _enter(space):
        if libc.setns(space, NEW_NET):
            raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")

    def rules(self, **rules):
        """Say what becomes of packets from now on; without any all is well. See `net_router`."""
        self._router.stdin.write(json.dumps(rules) + "\n")
        self._router.stdin.flush()
        assert self._router.stdout.readline() == "done\n"

    def cut(self, number, *, into=True, out=True, outside=True):
        """Cut a host off.

        Args:
            number: which one.
            into: what is sent to it is lost.
            out: what it sends is lost.
            outside: what is outside is cut off from it too, not only the other hosts.
        """
        others = [other for other in (*self.numbers, *([OUTSIDE] if outside else [])) if other != number]
        pairs = [(other, number) for other in others if into] + [(number, other) for other in others if out]
        self.rules(cut=pairs)

    def close(self):
        self._router.stdin.close()
        self._router.wait(20)
        self._router.stdout.close()
