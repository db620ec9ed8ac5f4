"""Nodes of a cluster for end-to-end tests: each over a folder of its own, at its own loopback address, with one key."""

import contextlib
import shutil
import signal

import pytest
from e2e_kit import LMServer, gone, until
from signals_kit import signal_all

from dspex_actors.app import AppConfig, started_as
from dspex_actors.client.system import System, use
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.opening import open_reader, set_place
from supervisors import Node
from supervisors.cluster.handle import Cluster
from supervisors.host import processes


class Joined:
    """Nodes a, b, c and so on; the first is joined by all others.

    Args:
        folder: where their folders are made.
        count: how many are started at once.
        first: the last number of the address of the first one.
        net: the numbers before it.
        workers: how many each of them has.
        journal: address of the journal that all of them have; None: each its own.
    """

    def __init__(self, folder, count=2, *, first=1, workers=1, journal=None, net="127.0.0"):
        self.net = net
        self.folder, self.first, self.workers, self.journal = folder, first, workers, journal
        self.nodes, self._pids, self._systems = {}, {}, []
        for _ in range(count):
            self.start()
        self.until_all_see_all()

    def start(self, role="full", **options):
        """Start one more; return its name."""
        name = "abcdefghij"[len(self._pids)]
        place = self.folder / name
        place.mkdir(mode=0o700)
        self._pids[name] = set()
        if self.journal is not None:
            set_place(place, self.journal)
        join = None
        if self.nodes:
            one = next(iter(self.nodes.values()))
            shutil.copy(one.data_dir / "cluster.key", place / "cluster.key")
            join = one.info["address"]
        self._start(name, join, role, **options)
        return name

    def start_again(self, name):
        """Start one that was killed, over its folder; return when all see it."""
        self._start(name)
        for other in self.nodes:
            until(lambda other=other: name in self._sees(other), 60, lambda other=other: self._sees(other))

    def _start(self, name, join=None, role="full", **options):
        place = self.folder / name
        self.nodes[name] = Node.start(
            name=name,
            host=f"{self.net}.{self.first + list(self._pids).index(name)}",
            data_dir=place,
            home=HOME,
            **started_as(role, self.workers),
            role=role,
            app_config=AppConfig(workers=self.workers).to_dict(),
            join=join,
            **options,
        )
        self.note(name)

    def note(self, name):
        """Remember the processes of a node."""
        daemon = self.nodes[name].info["pid"]
        self._pids[name] |= {daemon, *processes.descendants(daemon)}
        return self._pids[name]

    def cluster(self, name="a"):
        return Cluster(self.nodes[name])

    def journal_of(self, name):
        return open_reader(self.folder / name)

    def uid(self, name):
        [uid] = {member.uid for member in self.cluster(next(iter(self.nodes))).members() if member.name == name}
        return uid

    def until_all_see_all(self):
        for name in self.nodes:
            until(lambda name=name: self._sees(name) == set(self.nodes), 20, lambda name=name: self._sees(name))

    def _sees(self, name):
        return {member.name for member in self.cluster(name).members() if member.takes_work}

    def system(self, lm, name="a"):
        self._systems.append(use(System(self.nodes[name], lm, own=False)))
        return self._systems[-1]

    def signal(self, name, number):
        """Send a signal to all processes of a node, its daemon first."""
        signal_all(self.note(name), number, self.nodes[name].info["pid"])

    def kill(self, name):
        self.signal(name, signal.SIGKILL)
        self.nodes.pop(name).close()

    def close(self):
        for name in list(self.nodes):
            with contextlib.suppress(ProcessLookupError):
                self.signal(name, signal.SIGCONT)
        for system in self._systems:
            system.close()
        for name in list(self.nodes):
            self.nodes[name].close()
        assert [pid for pids in self._pids.values() for pid in pids if not gone(pid)] == []


def nodes_of_module(count, *, first):
    """Return a fixture: nodes that all tests of a module have."""

    @pytest.fixture(scope="module")
    def joined(tmp_path_factory):
        with contextlib.closing(Joined(tmp_path_factory.mktemp("nodes"), count, first=first)) as nodes:
            yield nodes

    return joined


def server_of_module(*options):
    """Return a fixture: a stand-in LM that all tests of a module have."""

    @pytest.fixture(scope="module")
    def server():
        with contextlib.closing(LMServer(*options)) as one:
            yield one

    return server


def system_of_module():
    """Return a fixture: a connection to the first of the module's nodes, with the LM of its server."""

    @pytest.fixture(scope="module")
    def system(joined, server):
        return joined.system(server.lm())

    return system
