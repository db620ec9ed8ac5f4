"""Whether a real tree is what its spec says: every actor runs, every name leads to its process, nothing is left."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import psutil

from supervisors import ChildSpec, Ref, errors
from supervisors.host import processes
from supervisors.testing import processes_of

#: Within this long a tree is whole again or gone; or within three times what its start took, where that is more: a
#: busy machine is slow at both.
WHOLE_SECONDS, STARTS = 1.0, 3.0


def root_of(node):
    return Ref(**json.loads((Path(node.data_dir) / "node.json").read_text())["root"])


def actors(spec, name):
    """Return id → type of everything in a tree whose ids are its names."""
    found = {name: "supervisor"}
    for child in spec.children:
        found |= actors(child.start, child.id) if child.type == "supervisor" else {child.id: "worker"}
    return found


def flat(row):
    return [row, *(each for child in row["children"] for each in flat(child))]


def pillars(node):
    """Return the pids of daemon, admin and root."""
    root = node.tree()["pid"]
    admin = psutil.Process(root).ppid()
    return {"daemon": node.info["pid"], "admin": admin, "root": root}


class Tree:
    """A tree, as a permanent child of a supervisor; all its ids are names and begin with its own."""

    def __init__(self, node, parent, spec, name):
        self.node, self.parent, self.spec, self.name = node, parent, ChildSpec(name, spec, name=name), name
        self.expected = actors(spec, name)
        self.why = ""
        #: (pid, born) of those killed since the tree was last known to be whole: their supervisor may not know yet.
        self.killed = set()
        self.limit = WHOLE_SECONDS

    def start(self):
        began = time.monotonic()
        self.node.start_child(self.parent, self.spec)
        self.limit = max(WHOLE_SECONDS, STARTS * (time.monotonic() - began))

    def within_limit(self, seconds):
        """Whether a recovery was fast enough; one that was not by the clock is compared with a start at this moment."""
        if seconds > self.limit:
            self.node.terminate_child(self.parent, self.name)
            began = time.monotonic()
            self.node.restart_child(self.parent, self.name)
            self.limit = max(WHOLE_SECONDS, STARTS * (time.monotonic() - began))
        return seconds <= self.limit

    def kill(self, pid):
        """Kill a process; the tree is not whole while it is still shown."""
        with contextlib.suppress(ProcessLookupError):
            self.killed.add((pid, processes.born(pid)))
            os.kill(pid, signal.SIGKILL)

    def whole(self):
        self.why = self._difference()
        if not self.why:
            self.killed.clear()
        return not self.why

    def _difference(self):
        try:
            rows, refs, pids = flat(self.node.tree()), self._refs(), pillars(self.node)
        except (errors.SupervisorsError, psutil.NoSuchProcess) as error:
            return f"the node does not answer: {error}"
        shown = {row["id"]: row["type"] for row in rows if row["id"].startswith(self.name)}
        if shown != self.expected:
            return f"tree: {sorted(set(self.expected.items()) ^ set(shown.items()))}"
        if wrong := [(row["id"], row["state"]) for row in rows if row["state"] != "running"]:
            return f"states: {wrong}"
        of_tree = {row["id"]: row["pid"] for row in rows if row["id"] in shown}
        if dead := [name for name, ref in refs.items() if (ref.pid, ref.born) in self.killed]:
            return f"killed, and still shown: {dead}"
        names = {name: ref.pid for name, ref in refs.items()}
        if names != of_tree:
            return f"names: {set(names.items()) ^ set(of_tree.items())}"
        known = {*pids.values(), *(row["pid"] for row in rows)}
        if orphans := processes_of(self.node) - known:
            return f"orphans: {orphans}"
        return ""

    def _refs(self):
        return {name: ref for name, ref in self.node.names().items() if name.startswith(self.name)}

    def gone(self):
        """Whether nothing of it is left: no row, no name, no process."""
        try:
            rows, names, pids = flat(self.node.tree()), self._refs(), pillars(self.node)
        except (errors.SupervisorsError, psutil.NoSuchProcess) as error:
            self.why = f"the node does not answer: {error}"
            return False
        live = [row["id"] for row in rows if row["id"].startswith(self.name) and row["pid"]]
        orphans = processes_of(self.node) - {*pids.values(), *(row["pid"] for row in rows)}
        self.why = f"rows {live}, names {names}, orphans {orphans}"
        return not live and not names and not orphans
