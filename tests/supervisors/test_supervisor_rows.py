"""Rows of OTP's supervisor that need real processes."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from node_helpers import Counter, Init, Recorder, alive, kill, ready_again, until

from supervisors import ChildSpec, Extra, GenServer, SupervisorSpec, errors


class Listener(GenServer):
    """Has something for whoever starts it."""

    def init(self, port):
        return Extra({"port": port})

    async def handle_call(self, request, caller):
        return await self.start_child(*request) if isinstance(request, tuple) else os.getpid()


# rows: 17
def test_extra_goes_to_who_starts_the_child_and_to_nobody_else(node, supervise):
    top = supervise([ChildSpec("first", Listener, args=(1,), name="first")])
    ref, extra = node.start_child(top, ChildSpec("l", Listener, args=(80,)))
    assert extra == {"port": 80}
    assert node.call(ref, None) == ref.pid
    assert node.call(ref, (top, ChildSpec("by a server", Listener, args=(81,))))[1] == {"port": 81}
    node.terminate_child(top, "l")
    again, extra = node.restart_child(top, "l")
    assert (again != ref, extra) == (True, {"port": 80})
    pid = node.pid("first")
    kill(pid)
    assert ready_again(node, "first", pid)
    pool = supervise([ChildSpec("t", Listener)], strategy="simple_one_for_one")
    assert node.start_child(pool, (7,))[1] == {"port": 7}


# rows: 19
def test_a_restarted_child_begins_with_its_first_arguments(node, supervise):
    supervise([ChildSpec("c", Counter, args=(10,), name="c")])
    assert node.call("c", ("add", 5)) == 15
    pid = node.pid("c")
    kill(pid)
    ready_again(node, "c", pid)
    assert node.call("c", ("add", 0)) == 10


# rows: 14, 15, 18
def test_ignore_and_failure_of_real_children(node, supervise):
    top = supervise([ChildSpec("i", Init, args=("ignore",))])
    assert node.start_child(top, ChildSpec("j", Init, args=("ignore",), restart="temporary")) is None
    assert [(row.id, row.state) for row in node.which_children(top)] == [("i", "stopped")]
    with pytest.raises(errors.StartError):
        node.start_child(top, ChildSpec("k", Init, args=("die",)))
    assert node.count_children(top).specs == 1


# rows: 30
def test_a_restarted_supervisor_has_its_listed_children_only(node, supervise):
    supervise([ChildSpec("s", SupervisorSpec([ChildSpec("listed", Counter)], name="inner"))])
    node.start_child("inner", ChildSpec("added", Counter))
    old = node.pid("inner")
    kill(old)
    until(lambda: node.pid("inner") not in (None, old))
    until(lambda: [row.id for row in node.which_children("inner")] == ["listed"])


# rows: 31
def test_messages_that_are_none_of_its_business_change_nothing(node, supervise):
    top = supervise([ChildSpec("c", Counter, name="c")])
    node.cast(top, "sing")
    assert node.count_children(top).active == 1
    assert node.pid("c")


# rows: 42
def test_nested_intensities_multiply(node):
    inner = SupervisorSpec([ChildSpec("x", Counter, name="product")], intensity=1, period=60.0)
    top = node.start_supervisor(SupervisorSpec([ChildSpec("inner", inner)], intensity=1, period=60.0))
    monitor = node.monitor(top)
    for _ in range(3):  # (1 + 1) * (1 + 1) deaths, the last of which is fatal
        pid = node.pid("product")
        kill(pid)
        ready_again(node, "product", pid)
    kill(node.pid("product"))
    assert monitor.wait(20.0).reason.kind == "shutdown"


# rows: 39, 46, 47, 48
def test_calls_while_a_real_child_fails_to_come_back(node, supervise, tmp_path):
    class Slow(Counter):
        def init(self, path):
            if os.path.exists(path):
                time.sleep(0.05)
                raise ValueError("not now")
            super().init()

    kids = [ChildSpec("f", Slow, args=(str(tmp_path / "flag"),), name="f"), ChildSpec("after", Counter, name="after")]
    top = supervise(kids, strategy="rest_for_one", intensity=1000)
    after = node.pid("after")
    (tmp_path / "flag").touch()
    kill(node.pid("f"))
    wanted = [("after", "stopped"), ("f", "restarting")]
    until(lambda: [(row.id, row.state) for row in node.which_children(top)] == wanted)
    assert not alive(after)
    assert node.which_child(top, "f").state == "restarting"
    assert node.count_children(top).active == 0
    with pytest.raises(errors.AlreadyPresent):
        node.start_child(top, kids[0])
    for call in (node.restart_child, node.delete_child):
        with pytest.raises(errors.ChildRestarting):
            call(top, "f")
    node.terminate_child(top, "f")
    told = len(node.reports())
    assert node.which_child(top, "f").state == "stopped"
    (tmp_path / "flag").unlink()
    assert node.restart_child(top, "f")
    assert [each.kind for each in node.reports()[told:]] == ["progress"]
    (tmp_path / "flag").touch()
    kill(node.pid("f"))
    until(lambda: node.which_child(top, "f").state == "restarting")
    node.stop(top)
    assert node.whereis("f") is None


# rows: 52, 55, 58
def test_a_hundred_seconds_of_patience_are_shared_under_simple_one_for_one(node):
    template = ChildSpec("t", Counter, shutdown=0.5)
    top = node.start_supervisor(SupervisorSpec([template], "simple_one_for_one"))
    pids = [node.start_child(top, ()).pid for _ in range(40)]
    for pid in pids:
        kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    node.stop(top, timeout=60.0)
    assert 0.4 < time.monotonic() - began < 15.0  # the sum is 20
    assert not any(alive(pid) for pid in pids)


# rows: 59
def test_a_stop_that_the_caller_gives_up_on_goes_on(node):
    top = node.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="slow to go", shutdown=0.6)]))
    kill(node.pid("slow to go"), signal.SIGSTOP)
    monitor = node.monitor(top)
    with pytest.raises(errors.CallTimeout, match="goes on"):
        node.stop(top, timeout=0.1)
    assert monitor.wait(20.0).reason.kind == "normal"
    with pytest.raises(errors.NoProcess):
        node.stop(top)


# rows: 73, 81
def test_which_child_of_a_node(node, supervise):
    top = supervise([ChildSpec("a", Counter), ChildSpec("b", Counter)])
    assert node.which_child(top, "a") == node.which_children(top)[1]
    with pytest.raises(errors.ChildNotFound):
        node.which_child(top, "x")
    pool = supervise([ChildSpec("t", Counter)], strategy="simple_one_for_one")
    ref = node.start_child(pool, ())
    assert node.which_child(pool, ref).ref == ref
    assert [row.id for row in node.which_children(pool)] == [None]
    with pytest.raises(errors.NotAllowed):
        node.which_child(pool, "t")


# rows: 77
def test_a_slow_start_is_waited_for_and_reads_are_answered_meanwhile(node, supervise, tmp_path):
    import threading

    flag = str(tmp_path / "flag")

    class Sleeper(Counter):
        def init(self):
            while not Path(flag).exists():
                time.sleep(0.01)

    top = supervise([ChildSpec("a", Counter)])
    thread = threading.Thread(target=node.start_child, args=(top, ChildSpec("s", Sleeper)))
    thread.start()
    until(lambda: node.count_children(top).specs == 2)
    assert node.which_child(top, "s").state == "stopped"
    Path(flag).touch()
    thread.join(20)
    assert node.which_child(top, "s").state == "running"


# rows: 60, 78
@pytest.mark.soak
def test_a_flat_tree_of_sixty_killed_at_once_comes_back_whole(node, supervise):
    top = supervise([ChildSpec(f"c{n}", Counter) for n in range(60)])
    old = {row.pid for row in node.which_children(top)}
    assert len(old) == 60
    for pid in old:
        kill(pid)
    until(lambda: not ({row.pid for row in node.which_children(top)} & (old | {None})), 60.0, 0.02)
    assert all(row.restarts == 1 for row in node.which_children(top))


# rows: 87, 89, 91
@pytest.mark.parametrize(("rule", "ends"), [("any_significant", 1), ("all_significant", 2)])
def test_a_supervisor_that_is_done_with_its_work_ends(node, tmp_path, rule, ends):
    (tmp_path / "told").touch()
    kids = [ChildSpec(each, Counter, restart="transient", significant=True, name=f"{rule} {each}") for each in "ab"]
    rest = ChildSpec("z", Recorder, args=(str(tmp_path / "told"), "z"))
    top = node.start_supervisor(SupervisorSpec([*kids, rest], auto_shutdown=rule))
    monitor = node.monitor(top)
    for kid in kids[:ends]:
        node.stop(kid.name)
    assert monitor.wait(20.0).reason.kind == "shutdown"
    assert (tmp_path / "told").read_text().split("\n")[:2] == ["+z", "-z shutdown"]


def threads(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_supervisor_has_one_thread_whatever_it_does(node, supervise):
    inner = SupervisorSpec([ChildSpec("x", Counter, name="threads")], name="inner threads")
    top = supervise([ChildSpec("s", inner), ChildSpec("c", Counter)])
    pids = [top.pid, node.pid("inner threads"), node.tree()["pid"]]
    assert [threads(pid) for pid in pids] == [1, 1, 1]
    pid = node.pid("threads")
    kill(pid)
    ready_again(node, "threads", pid)
    node.start_child(top, ChildSpec("more", Counter))
    node.terminate_child(top, "more")
    assert [threads(pid) for pid in pids] == [1, 1, 1]


def test_an_idle_supervisor_uses_next_to_nothing(node, supervise):
    top = supervise([ChildSpec(f"c{n}", Counter) for n in range(5)])
    process = psutil.Process(top.pid)
    process.cpu_percent()
    assert process.cpu_percent(1.5) <= 2.0  # a look at its children's pids twice a second
