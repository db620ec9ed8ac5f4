"""No orphans, ever: `kill -9` of any process, at any moment; the tree is whole again or gone, its names are free."""

import asyncio
import contextlib
import random
import threading
import time
from pathlib import Path

import pytest
from node_helpers import Counter, kill_quietly
from tree_checks import Tree, flat, pillars

from supervisors import ChildSpec, Node, SupervisorSpec, errors
from supervisors.testing import assert_gone, processes_of, wait_until

IN_TREE = ("n0.first", "n0.inner", "n0.inner.deep", "n0.inner.gated", "n0.last", "n0")
OF_NODE = ("registry", "door")
PILLARS = ("root", "admin")
#: At which moment who is killed in the short tests: everybody at one, a pillar last. The soak kills all at all.
MOMENTS = {
    "rest": ("n0.inner", "registry", "admin"),
    "start": ("n0.first", "n0.inner.gated", "root"),
    "restart": ("n0.inner.deep", "n0.last", "door", "root"),
    "shutdown": ("n0", "n0.inner.gated", "admin"),
}


class Gated(Counter):
    """Its init and its terminate do not return while the gate in its folder is shut."""

    async def init(self, folder):
        super().init()
        self.folder = folder
        await self.gate("init")

    async def terminate(self, reason):
        await self.gate("end")

    async def gate(self, what):
        shut = Path(self.folder) / f"shut-{what}"
        while shut.exists():
            (Path(self.folder) / f"waiting-{what}").touch()
            await asyncio.sleep(0.002)


class Scene:
    """A node with a tree in which one child can be held in its init or its terminate."""

    def __init__(self, node, folder, strategy="rest_for_one"):
        self.node, self.folder = node, folder

        def child(name, start=Counter, **fields):
            return ChildSpec(name, start, name=name, **fields)

        inner = SupervisorSpec(
            [child("n0.inner.deep"), child("n0.inner.gated", Gated, args=(str(folder),), shutdown=30.0)],
            strategy=strategy, intensity=1000,
        )  # fmt: skip
        self.spec = SupervisorSpec(
            [child("n0.first"), child("n0.inner", inner), child("n0.last")], strategy="one_for_all", intensity=1000
        )
        self.set_up()

    def set_up(self):
        """Start the supervisor that restarts the tree's topmost one."""
        self.holder = self.node.start_supervisor(SupervisorSpec([], intensity=1000, name="holder"))
        self.tree = Tree(self.node, self.holder, self.spec, "n0")

    def shut(self, what):
        (self.folder / f"waiting-{what}").unlink(missing_ok=True)
        (self.folder / f"shut-{what}").touch()

    def held(self, what):
        wait_until((self.folder / f"waiting-{what}").exists)

    def open(self):
        for what in ("init", "end"):
            (self.folder / f"shut-{what}").unlink(missing_ok=True)

    def pid(self, who):
        """Return the pid of whom a test is about to kill; None when there is no such process at this moment."""
        if who in (*PILLARS, "daemon"):
            return pillars(self.node)[who]
        return next((row["pid"] for row in flat(self.node.tree()) if row["id"] == who), None) or self.shown(who)

    def shown(self, who):
        """Return the pid of a process that has not registered its name yet, by what ps shows."""
        for pid in processes_of(self.node):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == who[:15]:
                    return pid
        return None

    def begin(self, moment):
        """Bring the tree to a moment and hold it there; return the thread that waits for the end of it, if any."""
        if moment == "start":
            self.shut("init")
            thread = in_background(self.tree.start)
            self.held("init")
            return thread
        self.tree.start()
        if moment == "restart":
            self.shut("init")
            kill_quietly(self.node.pid("n0.inner.gated"))
            self.held("init")
        elif moment == "shutdown":
            self.shut("end")
            thread = in_background(self.node.terminate_child, self.holder, "n0")
            self.held("end")
            return thread
        return None

    def whole_or_gone(self):
        return self.tree.whole() or self.tree.gone()

    def clear(self):
        """Take the tree away, whatever is there of it."""
        self.open()
        with contextlib.suppress(errors.ChildNotFound):
            self.node.terminate_child(self.holder, "n0")
            self.node.delete_child(self.holder, "n0")
        wait_until(self.tree.gone, 20.0)


def in_background(function, *arguments):
    def run():
        with contextlib.suppress(errors.SupervisorsError):
            function(*arguments)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def kill_at(scene, who, moment):
    """Kill somebody at a moment; whoever belongs to the victim is gone within 1 s."""
    thread = scene.begin(moment)
    pid = scene.pid(who)
    if pid is None:
        assert moment in ("shutdown", "start"), f"{who} is not there at {moment}"
        scene.open()
    else:
        before = processes_of(scene.node)
        scene.tree.kill(pid)
        assert_gone([pid], 20.0)
        if who in PILLARS:
            assert_gone(before - {scene.node.info["pid"]}, 20.0)
        scene.open()
    return thread


def check_kill(scene, who, moment):
    """Kill somebody of the tree: it is whole again or gone in time, and its names are free."""
    thread = kill_at(scene, who, moment)
    began = time.monotonic()
    try:
        wait_until(scene.whole_or_gone, 20.0, 0.01)
    except AssertionError:
        pytest.fail(f"{who} killed at {moment}: {scene.tree.why}")
    seconds = time.monotonic() - began
    assert seconds <= scene.tree.limit, f"{who} killed at {moment}: {seconds:.2f} s"
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive(), f"{who} killed at {moment}: the call hangs"
    if moment in ("rest", "restart"):
        wait_until(scene.tree.whole, scene.tree.limit)
    scene.clear()
    scene.tree.start()  # under the same names
    assert scene.tree.whole(), f"{who} killed at {moment}: {scene.tree.why}"
    scene.clear()


def check_pillar_kill(scene, who, moment):
    """Kill a pillar: all goes, and the node comes back with free names."""
    thread = kill_at(scene, who, moment)
    wait_until(scene.tree.gone, pause=0.02)
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive(), f"{who} killed at {moment}: the call hangs"
    scene.set_up()
    scene.tree.start()
    assert scene.tree.whole(), f"{who} killed at {moment}: {scene.tree.why}"
    scene.clear()


@pytest.fixture
def scene(tmp_path):
    folder = tmp_path / "gate"
    folder.mkdir()
    (tmp_path / "node").mkdir(mode=0o700)
    with Node.start(data_dir=tmp_path / "node") as node:
        yield Scene(node, folder)


# rows: 21, 25, 61, X3
@pytest.mark.timeout(180)
@pytest.mark.parametrize("moment", MOMENTS)
def test_whoever_is_killed_the_tree_is_whole_or_gone_and_its_names_are_free(scene, moment):
    for who in MOMENTS[moment][:-1]:
        check_kill(scene, who, moment)


# rows: 61, X3
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "moment", ["rest", *(pytest.param(moment, marks=pytest.mark.soak) for moment in list(MOMENTS)[1:])]
)
def test_whichever_pillar_is_killed_all_goes_and_the_node_comes_back_with_free_names(scene, moment):
    check_pillar_kill(scene, MOMENTS[moment][-1], moment)
    thread = scene.begin(moment)
    pids = processes_of(scene.node)
    kill_quietly(scene.node.info["pid"])
    assert_gone(pids, 20.0)
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive(), "the daemon killed: the call hangs"
    with Node.start(data_dir=scene.node.data_dir) as again:
        assert not [name for name in again.names() if name.startswith("n0")]


HELD_FORKS = """
import os, pathlib, time

folder = pathlib.Path(__file__).parent

def hold():
    if (folder / "hold").exists():
        (folder / f"forked-{os.getpid()}").touch()
    while (folder / "hold").exists():
        time.sleep(0.005)

os.register_at_fork(after_in_child=hold)
"""


# rows: 61, X3
def test_who_was_just_forked_when_all_of_its_node_was_killed_ends_too(tmp_path, monkeypatch):
    (tmp_path / "held_forks.py").write_text(HELD_FORKS)
    (tmp_path / "node").mkdir(mode=0o700)
    monkeypatch.syspath_prepend(tmp_path)
    with Node.start(data_dir=tmp_path / "node", preload=["held_forks"]) as node:
        before = processes_of(node)
        (tmp_path / "hold").touch()
        in_background(node.start_supervisor, SupervisorSpec([], name="late"))
        wait_until(lambda: list(tmp_path.glob("forked-*")), 20.0)
        (late,) = processes_of(node) - before
        kill_quietly(node.info["pid"])
        assert_gone(before, 20.0)  # nobody is left who could end it
        (tmp_path / "hold").unlink()
        assert_gone({late}, 20.0)
    with Node.start(data_dir=tmp_path / "node"):
        pass


# rows: 21, 25, 61, X3
@pytest.mark.soak
def test_anybody_killed_at_any_moment(scene, rounds):
    everything = [(who, moment) for who in (*IN_TREE, *OF_NODE, *PILLARS) for moment in MOMENTS]
    while True:
        random.shuffle(everything)
        for who, moment in everything:
            if next(rounds, None) is None:
                return
            (check_pillar_kill if who in PILLARS else check_kill)(scene, who, moment)
