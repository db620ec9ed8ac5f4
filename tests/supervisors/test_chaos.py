"""Chaos: random `kill -9` over a three-level tree of 40 actors; after each calm moment the tree is what its spec says.

Once with kills alone, once with misuse mixed in: while processes are killed, a stranger throws values of every kind at
every public call.

SOAK_SECONDS: how long. CHAOS_SEED: repeats a run's choices. CHAOS_FILE: the figures go there.
"""

import contextlib
import json
import os
import random
import statistics
import time
from pathlib import Path

import psutil
import pytest
from misuse import VALUES, calls
from node_helpers import Counter
from tree_checks import WHOLE_SECONDS, Tree, root_of

from supervisors import ChildSpec, SupervisorSpec, errors
from supervisors.testing import wait_until

SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
STRATEGIES = ("one_for_one", "rest_for_one", "one_for_all")


def branch(name, depth):
    """Return the spec of a supervisor with three children: 1 + 3 + 9 + 27 actors from depth 0."""
    children = []
    for index in range(3):
        child = f"{name}.{index}"
        children.append(ChildSpec(child, branch(child, depth + 1) if depth < 2 else Counter, name=child))
    strategy = STRATEGIES[(depth + int(name[-1], 36)) % 3]
    # Kills come much faster than a sane system fails: what is tested is that nothing is lost, not when to give up.
    return SupervisorSpec(children, strategy=strategy, intensity=10**6, period=1.0)


#: Calls that succeed with some values, and change what the tree is.
ADDS = ("start_child id", "start_supervisor")
#: The values that do not take long to make, and to refuse.
QUICK = sorted(set(VALUES) - {"deep tuples", "deep lists", "via an endless key", "too large", "one block twenty times"})


class Chaos:
    def __init__(self, node, seed, misuse):
        self.node, self.random, self.misuse = node, random.Random(seed), misuse
        self.root = root_of(node)
        self.tree = Tree(node, self.root, branch("c0", 0), "c0")
        self.tree.start()

    def answers(self):
        """Every worker answers under its name, and it is the process that the name leads to."""
        for name, kind in self.tree.expected.items():
            if kind == "worker":
                assert self.node.call(name, "pid") == self.node.pid(name), name

    def storm(self):
        """Kill 1 to 10 processes of the tree, now and then the registry or the door, at once or in little steps."""
        number = self.random.choice((1, 1, 2, 3, 5, 10))
        for _ in range(number):
            pids = self.victims()
            if pids:
                self.tree.kill(self.random.choice(pids))
            if self.misuse:
                self.throw()
            if self.random.random() < 0.5:
                # Into the middle of restarts: this is no wait for anything.
                time.sleep(self.random.choice((0.001, 0.01, 0.05)))
        return number

    def throw(self):
        """Give one call of a stranger one value; an error of this library is the only other outcome than a result."""
        name = self.random.choice([each for each in self.tree.expected if self.tree.expected[each] == "supervisor"])
        with contextlib.suppress(errors.SupervisorsError):  # the door may have been killed a moment ago
            possible = calls(self.node, self.node.whereis(name) or self.root)
            what = self.random.choice([each for each in possible if each not in ADDS])
            possible[what](VALUES[self.random.choice(QUICK)]())

    def victims(self):
        root = psutil.Process(self.root.pid)
        found, pillars = [], []
        for child in root.children(recursive=True):
            try:
                (found if child.name().startswith("c0") else pillars).append(child.pid)
            except psutil.NoSuchProcess:
                continue
        # The root allows 20 restarts of registry, door and top within 10 s.
        return pillars if pillars and self.random.random() < 0.01 else found


# rows: 25, 26, 27, 30, 61
@pytest.mark.soak
@pytest.mark.parametrize("misuse", [False, True], ids=["kills", "kills and misuse"])
def test_random_kills_leave_the_tree_as_its_spec_says(node, rounds, misuse):
    chaos = Chaos(node, SEED, misuse)
    wait_until(chaos.tree.whole, chaos.tree.limit + 5.0)
    assert len(chaos.tree.expected) == 40
    kills, times, slow = 0, [], []
    for _ in rounds:
        kills += chaos.storm()
        calm = time.monotonic()
        try:
            wait_until(chaos.tree.whole, 20.0, 0.01)
        except AssertionError:
            pytest.fail(f"seed {SEED}: not whole 20 s after the last kill: {chaos.tree.why}")
        times.append(time.monotonic() - calm)
        if not chaos.tree.within_limit(times[-1]):
            slow.append((round(times[-1], 2), round(chaos.tree.limit, 2)))
        chaos.answers()
    figures = {
        "seed": SEED, "storms": len(times), "kills": kills, "slow": slow,
        "median": round(statistics.median(times), 3), "max": round(max(times), 3),
        "over_1_s": sum(seconds > WHOLE_SECONDS for seconds in times), "incarnation": node.status()["incarnation"],
    }  # fmt: skip
    print(figures)
    if "CHAOS_FILE" in os.environ:
        Path(os.environ["CHAOS_FILE"]).write_text(json.dumps(figures | {"times": times}))
    assert figures["incarnation"] == 0
    assert not slow, figures
    node.terminate_child(chaos.root, "c0")
    node.delete_child(chaos.root, "c0")
    wait_until(lambda: not [name for name in node.names() if name.startswith("c0")], 20.0)
