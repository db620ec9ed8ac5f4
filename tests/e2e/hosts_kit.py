"""Several joined dspex nodes on this host, each at a loopback address of its own, with one cluster key."""

import contextlib
import shutil
import signal
import time

from e2e_kit import Host, gone, until
from signals_kit import signal_all

from dspex_actors.app import started_as
from supervisors import Node
from supervisors.client.launch import launch
from supervisors.cluster.handle import Cluster
from supervisors.host.node_config import NodeConfig


class Place(Host):
    """A host with a daemon in a cluster.

    Attributes:
        node: connected to it; None while it does not run.
    """

    def __init__(self, name, address, home, workers=1, role="full", labels=None, **app):
        super().__init__(home, workers, **app)
        self.name, self.host, self.role, self.labels = name, address, role, labels or {}
        self.node = None

    def start(self, join=None):
        """Start it, or start it again over its folder: which tells whom it belongs to."""
        config = NodeConfig(
            name=self.name,
            data_dir=str(self.home),
            host=self.host,
            **started_as(self.role, self.app.worker_count),
            app_config=self.app.to_dict(),
            join=join,
            role=self.role,
            labels=self.labels,
        )
        self._daemon, _ = launch(config)
        self.node = Node.attach(self.home)
        self.pids()
        return self

    @property
    def address(self):
        return self.node.info["address"]

    @property
    def cluster(self):
        return Cluster(self.node)

    def seen(self):
        """Return what it takes each member to be: name → state."""
        return {member.name: member.state for member in self.cluster.members()}

    def signal(self, number):
        """Send a signal to all of its processes, the daemon first."""
        signal_all(self.pids(), number, self._daemon.pid)

    def die(self):
        """Kill all of it at once; return when that was done, as time.monotonic() has it."""
        self.kill_everything()
        at = time.monotonic()
        self.node.close()
        self.node = None
        return at

    def close(self):
        self.signal(signal.SIGCONT)
        if self.node is not None:
            self.node.close()
            self.node = None
        if self._daemon is not None and self._daemon.poll() is None:
            self.kill_everything()
        until(lambda: all(gone(pid) for pid in self._all), 5, "processes of a node are left")


@contextlib.contextmanager
def cluster_of(count, folder, *, first=1, **options):
    """Start joined nodes, n1 at 127.0.0.1 and so on; none of their processes is left behind.

    Args:
        count: how many.
        folder: where their data folders are made.
        first: the last part of the first address.
        **options: of Place; each may be a function of the node's number.
    """
    places = []
    try:
        for number in range(first, first + count):
            own = {key: value(number) if callable(value) else value for key, value in options.items()}
            home = folder / f"n{number}"
            home.mkdir(mode=0o700, parents=True)
            places.append(Place(f"n{number}", f"127.0.0.{number}", home, **own))
            if len(places) > 1:
                shutil.copy(places[0].home / "cluster.key", home / "cluster.key")
            places[-1].start(places[0].address if len(places) > 1 else None)
        wait_until_whole(places)
        yield places
    finally:
        for place in places:
            place.close()


def wait_until_whole(places, seconds=20.0):
    """Wait until each node takes all of them to be alive."""
    names = dict.fromkeys((place.name for place in places), "alive")
    until(lambda: all(place.seen() == names for place in places), seconds, lambda: str([p.seen() for p in places]))
