"""Several joined nodes on this host, each at a loopback address of its own, with one cluster key."""

import contextlib
import shutil
import signal
import time

from node_helpers import alive, family
from node_helpers import until as until
from signals_kit import signal_all

from supervisors import Node, errors
from supervisors.cluster.handle import Cluster


class Member:
    """A node of a cluster under test.

    Attributes:
        node: connected to it; None while it does not run.
        pids: of all processes that it has had.
    """

    def __init__(self, name, host, folder, options):
        self.name, self.host, self.folder, self.options = name, host, folder, options
        self.node, self.pids = None, set()

    def start(self, **more):
        """Start it, or start it again over its folder."""
        self.node = Node.start(name=self.name, host=self.host, data_dir=self.folder, **{**self.options, **more})
        self.options.pop("join", None)  # from now on its folder says whom it belongs to
        self.note()
        return self

    def note(self):
        """Remember its processes."""
        if self.node is not None and alive(self.node.info["pid"]):
            self.pids |= set(family(self.node.info["pid"]))
        return self.pids

    @property
    def address(self):
        return self.node.info["address"]

    @property
    def cluster(self):
        return Cluster(self.node)

    def seen(self):
        """Return what it takes each member to be: name → state; nothing where it does not answer just now."""
        try:
            return {member.name: member.state for member in self.cluster.members()}
        except errors.CallTimeout:
            return {}

    def voters(self):
        """Return who votes on leases, as this one knows it."""
        return self.node.call("leases", ("about", ""))[1]

    def member(self, name):
        """Return a member as this one knows it."""
        return next(member for member in self.cluster.members() if member.name == name)

    def signal(self, number):
        """Send a signal to all of its processes, the daemon first."""
        signal_all(self.note(), number, self.node.info["pid"])

    def kill(self):
        """Kill all of it at once; return when that was done, as time.monotonic() has it."""
        self.signal(signal.SIGKILL)
        at = time.monotonic()
        until(lambda: not [pid for pid in self.pids if alive(pid)])
        self.node.close()
        self.node = None
        return at

    def stop(self):
        """Stop it in order."""
        self.note()
        self.node.close()
        self.node = None

    def remove(self):
        """Stop it if it runs, and kill what is left of it."""
        if self.node is not None:
            self.stop()
        signal_all([pid for pid in self.pids if alive(pid)], signal.SIGKILL)


@contextlib.contextmanager
def cluster_of(count, folder, *, first=1, **options):
    """Start joined nodes, n1 at 127.0.0.1 and so on; none of their processes is left behind.

    Args:
        count: how many.
        folder: where their data folders are made.
        first: the last part of the first address.
        **options: of Node.start; `labels` and `role` may be functions of the number.
    """
    members = []
    try:
        for number in range(first, first + count):
            own = {key: value(number) if callable(value) else value for key, value in options.items()}
            home = folder / f"n{number}"
            home.mkdir(mode=0o700, parents=True)
            if members:
                shutil.copy(members[0].folder / "cluster.key", home / "cluster.key")
                own["join"] = members[0].address
            members.append(Member(f"n{number}", f"127.0.0.{number}", home, own).start())
        until(lambda: all(set(each.seen().values()) == {"alive"} and len(each.seen()) == count for each in members))
        yield members
    finally:
        for member in members:
            signal_all(member.note(), signal.SIGCONT)
        for member in members:
            member.remove()
