"""A cluster to do evil to: three nodes on hosts of their own, one journal, an LM that counts; and what must hold."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from functools import partial

import psutil
import psycopg
import pytest
from counted_kit import Counted
from e2e_kit import gone, metric, rows, tickets, triage, until
from hosts_kit import Place, wait_until_whole
from net_kit import Net
from postgres_kit import Server

from dspex_actors.client.system import System
from dspex_actors.errors import DspexError
from dspex_actors.journal.copying import content_of
from dspex_actors.journal.opening import open_reader, set_place
from dspex_actors.lm.control.client import client_name
from supervisors.errors import SupervisorsError

#: What has been done is over, and all is as it should be, within so many seconds: a deadline, not a figure.
WHOLE_SECONDS = 60.0
RPS = 60


class Watch:
    """Looks into the journals all the time: who has a run, under which epoch.

    Args:
        journal: what a world has its runs in.
        run: the run.
    """

    def __init__(self, journal, run):
        self._journal, self._run, self._end = journal, run, threading.Event()
        #: Epoch → its owners.
        self.owners = {}
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._end.wait(0.05):
            for claimed, owner in self._journal.owners(self._run):
                self.owners.setdefault(claimed, set()).add(owner)

    def close(self):
        self._end.set()
        self._thread.join(20)


class Postgres:
    """The journal of all nodes: a server outside of their hosts."""

    def __init__(self, net):
        self._net, self.server = net, Server()
        with (self.server.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {net.address(0)}/24 trust\n")

    def start(self):
        """Start the server, or start it again."""
        self.server.start("-c", f"listen_addresses=127.0.0.1,{self._net.address()}")

    def use(self, home):
        """Have a node of this data folder keep its runs there."""
        set_place(home, self.server.address.replace("127.0.0.1", self._net.address()))

    def owners(self, run):
        """Return epoch and owner of a run, as they are just now."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.server.address, connect_timeout=2) as db:
            return db.execute("SELECT claimed, owner FROM dspex.runs WHERE run_id = %s", [run]).fetchall()
        return []

    def row(self, run):
        """Return how many examples of a run are done, its state, owner and epoch."""
        return self.server.execute(f"SELECT done, state, owner, claimed FROM dspex.runs WHERE run_id = '{run}'")[0]

    def check(self, run, count):
        """Each example has one result, and epochs never go back in the log."""
        mine = f"FROM dspex.runs JOIN dspex.results r ON r.key >> 40 = number WHERE run_id = '{run}'"
        assert self.server.execute(f"SELECT count(*), count(r.error) {mine}") == [(count, 0)]
        entries = f"FROM dspex.log l JOIN dspex.runs ON l.run = number WHERE run_id = '{run}'"
        epochs = [epoch for (epoch,) in self.server.execute(f"SELECT l.epoch {entries} ORDER BY l.seq")]
        assert epochs == sorted(epochs)

    def remove(self):
        self.server.remove()


class Files:
    """A journal on each node, and standbys."""

    def __init__(self):
        self._homes = []

    def use(self, home):
        self._homes.append(home)

    def _ask(self, home, text, *values):
        try:
            with contextlib.closing(sqlite3.connect(f"file:{home}/journal.db?mode=ro", uri=True, timeout=5)) as db:
                return db.execute(text, values).fetchall()
        except sqlite3.Error:  # it is not there, or just being made
            return []

    def owners(self, run):
        return [
            found
            for home in self._homes
            for found in self._ask(home, "SELECT claimed, owner FROM runs WHERE run_id = ? AND claimed > 0", run)
        ]

    def row(self, run):
        """Return what the copy says that is furthest."""
        asked = "SELECT claimed, seq, done, state, owner FROM runs WHERE run_id = ?"
        found = [row for home in self._homes for row in self._ask(home, asked, run)]
        claimed, _, done, state, owner = max(found)
        return done, state, owner, claimed

    def check(self, run, count):
        """As for PostgreSQL, of each copy; and all copies are the same, with those that were away."""

        def copies():
            return [found for home in self._homes if (found := content_of(open_reader(home), run)) is not None]

        until(lambda: len(found := copies()) > 1 and found == found[:1] * len(found), WHOLE_SECONDS, "copies differ")
        for home in self._homes:
            if not self._ask(home, "SELECT 1 FROM runs WHERE run_id = ?", run):
                continue
            mine = "FROM runs JOIN results r ON r.key >> 40 = number WHERE run_id = ?"
            assert self._ask(home, f"SELECT count(*), count(r.error) {mine}", run) == [(count, 0)]
            entries = "FROM log l JOIN runs ON l.run = number WHERE run_id = ?"
            epochs = [epoch for (epoch,) in self._ask(home, f"SELECT l.epoch {entries} ORDER BY l.seq", run)]
            assert epochs == sorted(epochs)

    def start(self):
        pass

    def remove(self):
        pass


class World:
    """The cluster.

    Args:
        folder: where data folders are made.
        names: of its nodes; the first one is joined by the others.
        standbys: each node has its own journal, and runs have copies; else all have one.
        environ: variables that the first node is started with.
    """

    def __init__(self, folder, names=("n1", "n2", "n3"), *, standbys=False, environ=None):
        self._environ = environ or {}
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self.folder = folder
            self.numbers = dict(zip(names, range(11, 99), strict=False))
            self.net = self._with(Net(*self.numbers.values()))
            self.journal = Files() if standbys else Postgres(self.net)
            self._stack.callback(self.journal.remove)
            self.journal.start()
            self.lm = self._with(Counted(0.05, self.net.address()))
            self.places = {}
            for name, number in self.numbers.items():
                home = folder / name
                home.mkdir(mode=0o700, exist_ok=True)
                self.journal.use(home)
                place = self.places[name] = Place(name, self.net.address(number), home)
                self._stack.callback(self._remove, place)
                if len(self.places) > 1:
                    shutil.copy(self.first.home / "cluster.key", home / "cluster.key")
                self.start(name, join=self.first.address if len(self.places) > 1 else None)
            wait_until_whole(list(self.places.values()), WHOLE_SECONDS)
            undo.pop_all()

    def _with(self, one):
        self._stack.callback(one.close)
        return one

    @property
    def first(self):
        return next(iter(self.places.values()))

    def start(self, name, join=None):
        """Start a node on its host, or start it again."""
        with self.net.inside(self.numbers[name]), pytest.MonkeyPatch.context() as patch:
            for variable, value in self._environ.items() if self.places[name] is self.first else ():
                patch.setenv(variable, value)
            self.places[name].start(join)

    @staticmethod
    def _remove(place):
        place.signal(signal.SIGCONT)
        place.kill_everything()
        until(lambda: all(gone(pid) for pid in place._all), WHOLE_SECONDS, "processes of a node are left")

    def system(self, name):
        return System(self.places[name].node, self.lm.lm(rps=RPS), own=False)

    def close(self):
        self.net.rules()
        self._stack.close()
        left = mentioned(self.folder)
        assert not left, left


class Run:
    """A run that a node coordinates while evil is done.

    Args:
        world: the cluster.
        at: the node that it is begun on.
        count: how many examples it has.
    """

    def __init__(self, world, at, count=500):
        self.world, self.count, self.first = world, count, len(world.lm.asked())
        system = world.system(at)
        settings = {"max_in_flight": 16, "deadline": 120.0}
        self.id = system.start_run("evaluate", triage(), tickets(count), metric(), settings=settings)
        self.began = time.monotonic()
        self.watch = Watch(world.journal, self.id)
        until(lambda: self.done > count / 10, WHOLE_SECONDS, "the run does not begin")

    @property
    def row(self):
        return self.world.journal.row(self.id)

    @property
    def done(self):
        return self.row[0]

    def check(self):
        """What must hold of the run: it ends, with one result for each example, and so on."""
        try:
            until(lambda: self._state() not in ("running", None), 2 * WHOLE_SECONDS, self._why)
        finally:
            self.watch.close()
        done, state, _, _ = self.row
        assert (state, done) == ("finished", self.count)
        self.world.journal.check(self.id, self.count)
        # Two coordinators with one epoch would be two owners.
        assert {epoch: owners for epoch, owners in self.watch.owners.items() if len(owners) > 1} == {}
        # As the provider counts; what was sent in time may come a second late.
        for seconds in (1, 2, 5):
            assert self.world.lm.most_in(seconds, self.first) <= RPS * (seconds + 1), seconds
        asked = len(self.world.lm.asked()) - self.first
        return {"asked twice": asked - self.count, "epochs": len(self.watch.owners)}

    def _why(self):
        """Return what each node says of the run, and of its LM's limits."""
        said = [str(self.row)]
        for name, place in self.world.places.items():
            asked = partial(self.world.system(name)._ask, "progress", self.id)
            limits = partial(place.node.call, client_name(self.world.lm.lm(rps=RPS).deployment), "stats")
            for what, ask in (("run", asked), ("limits", limits)):
                try:
                    said.append(f"{name} {what}: {ask()}")
                except (DspexError, SupervisorsError) as error:
                    said.append(f"{name} {what}: {error}")
        return "\n".join(said)

    def _state(self):
        with contextlib.suppress(psycopg.Error, ValueError):
            return self.row[1]
        return None


def mentioned(folder):
    """Return the processes that have something to do with a folder: pid → command line."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            told = [words, *process.environ().values()]
            if process.pid != os.getpid() and any(str(folder) in text for text in told) and not gone(process.pid):
                found[process.pid] = words
    return found


def check_whole(world):
    """All nodes see all, their trees are what their specs say, and nothing runs beside them."""
    wait_until_whole(list(world.places.values()), WHOLE_SECONDS)
    for place in world.places.values():
        until(lambda place=place: is_whole(place), WHOLE_SECONDS, lambda place=place: json.dumps(place.node.tree()))
        until(lambda place=place: not strays(place), WHOLE_SECONDS, lambda place=place: strays(place))


def is_whole(place):
    with contextlib.suppress(SupervisorsError):
        return all(row["state"] == "running" or row["at_rest"] for row in rows(place.node.tree()))
    return False


def strays(place):
    """Return processes of a node that its daemon does not know."""
    known = set(place.pids())
    return {pid: words for pid, words in mentioned(place.home).items() if pid not in known}
