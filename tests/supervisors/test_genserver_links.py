"""Monitors, links and exit signals between servers."""

import pytest
from genserver_helpers import Probe
from node_helpers import alive, kill, until

from supervisors import ChildSpec, ExitReason


@pytest.fixture
def pair(node, supervise):
    supervise([ChildSpec(name, Probe, name=name, restart="temporary") for name in ("one", "two")])
    return node.whereis("one"), node.whereis("two")


@pytest.fixture
def trapping(node, supervise):
    supervise([ChildSpec("t", Probe, kwargs={"trap": True}, name="trapping", restart="temporary")])
    return node.whereis("trapping")


def seen(node, target):
    return [value for _, value in node.call(target, ("look",))]


# rows: X1
def test_a_monitor_of_the_dead_or_unknown_says_noproc_at_once_and_each_is_separate(node, pair):
    one, two = pair
    numbers = {node.call(one, ("watch", target)) for target in (two, two, "two", "nobody")}
    assert len(numbers) == 4
    until(lambda: seen(node, one) == [(None, "noproc")])
    until(lambda: node.get_status(two)["links"] == [])
    node.stop(two)
    until(lambda: seen(node, one)[1:] == [(two, "normal")] * 3)
    node.call(one, ("watch", two))
    until(lambda: seen(node, one)[4:] == [(two, "noproc")])


# rows: X1
@pytest.mark.parametrize("flush", [True, False])
def test_demonitor_with_flush_takes_back_a_down_that_waits(node, pair, flush):
    one, two = pair
    number = node.call(one, ("watch", two))
    taken_back = node.send_request(one, ("when_queued", 1, "unwatch", number, flush))
    node.stop(two)
    assert taken_back.receive_response(20.0) is None
    assert seen(node, one) == ([] if flush else [(two, "normal")])


# rows: X2
@pytest.mark.parametrize("who", [0, 1], ids=["the one that linked", "the other"])
def test_a_link_is_symmetric_and_idempotent(node, pair, who):
    one, two = pair
    node.call(one, ("bind", two, 3))
    until(lambda: node.get_status(two)["links"] == [one])
    assert node.get_status(one)["links"] == [two]
    survivor = node.monitor(pair[1 - who])
    node.cast(pair[who], ("answer",))  # crashes
    reason = survivor.wait(20.0).reason
    assert reason.kind == "error"
    assert "IndexError" in str(reason)


# rows: X2
def test_a_normal_end_does_not_spread_but_shutdown_does(node, supervise, pair):
    one, two = pair
    node.call(one, ("bind", two))
    node.stop(two, "normal")
    assert seen(node, one) == []
    supervise([ChildSpec("three", Probe, name="three", restart="temporary")])
    node.call(one, ("bind", node.whereis("three")))
    monitor = node.monitor(one)
    node.stop("three", ("shutdown", "why"))
    assert monitor.wait(20.0).reason == ExitReason("shutdown", "why")


# rows: X2
def test_an_exit_signal_ends_a_server_without_terminate_also_while_it_waits_in_a_handler(node, pair, tmp_path):
    one, two = pair
    path = tmp_path / "terminated"
    node.call(one, ("note", str(path)))
    node.call(one, ("bind", two))
    request = node.send_request(one, ("pause", 60))
    until(lambda: node.get_status(two)["links"] == [one])
    monitor = node.monitor(one)
    kill(two.pid)
    assert monitor.wait(20.0).reason.kind == "killed"
    assert not path.exists()
    with pytest.raises(Exception, match="killed"):
        request.receive_response(20.0)


# rows: X2
def test_a_server_that_traps_exits_gets_a_message_for_every_reason(node, pair, trapping):
    one, two = pair
    node.call(trapping, ("bind", one))
    node.call(trapping, ("bind", two))
    node.stop(one)
    kill(two.pid)
    until(lambda: len(seen(node, trapping)) == 2)
    assert set(seen(node, trapping)) == {("EXIT", one, ExitReason("normal")), ("EXIT", two, ExitReason("killed"))}
    node.call(trapping, ("bind", one))  # a dead one: at once
    until(lambda: seen(node, trapping)[2:] == [("EXIT", one, ExitReason("noproc"))])
    assert node.get_status(trapping)["links"] == []


# rows: X2
def test_after_unlink_no_exit_message_comes_not_even_one_that_waits(node, pair, trapping):
    one, two = pair
    node.call(trapping, ("bind", one))
    node.call(trapping, ("bind", two))
    until(lambda: node.get_status(one)["links"] == [trapping])
    node.call(one, ("unbind", trapping))  # the other side may undo it too
    until(lambda: node.get_status(trapping)["links"] == [two])
    unlink = node.send_request(trapping, ("when_queued", 1, "unbind", two))
    kill(one.pid)
    kill(two.pid)
    assert unlink.receive_response(20.0) is None
    assert seen(node, trapping) == []


# rows: X2
def test_a_link_to_a_dead_process_ends_one_that_does_not_trap(node, pair):
    one, two = pair
    node.stop(two)
    monitor = node.monitor(one)
    node.call(one, ("bind", two))
    assert monitor.wait(20.0).reason.kind == "noproc"


# rows: X2
def test_a_link_to_a_supervisor_tells_of_its_end_and_does_not_end_it(node, supervise, trapping, pair):
    one, _ = pair
    top = supervise([])
    node.call(one, ("bind", top))
    node.call(trapping, ("bind", top))
    kill(one.pid)
    assert node.which_children(top) == []
    node.stop(top, "shutdown")
    until(lambda: seen(node, trapping) == [("EXIT", top, ExitReason("shutdown"))])


# rows: X2, X3
def test_exit_signals_by_hand(node, pair, trapping):
    one, two = pair
    node.call(two, ("signal", one, "normal"))
    node.exit(trapping, "odd")
    assert node.call(one, ("pid",)) == one.pid  # normal does nothing
    [(what, sender, reason)] = until(lambda: seen(node, trapping))
    assert what == "EXIT"
    assert sender is not None
    assert reason.detail["message"] == "odd"
    monitor = node.monitor(one)
    node.call(two, ("signal", one, ("shutdown", 1)))
    assert monitor.wait(20.0).reason == ExitReason("shutdown", 1)


# rows: X3
def test_a_kill_cannot_be_trapped_and_is_seen_as_killed(node, pair, trapping):
    one, two = pair
    node.call(two, ("bind", trapping))
    until(lambda: node.get_status(trapping)["links"] == [two])
    watched, linked = node.monitor(trapping), node.monitor(two)
    busy = node.send_request(trapping, ("block", 60))
    node.call(one, ("signal", trapping, "kill"))
    assert watched.wait(20.0).reason.kind == "killed"
    assert linked.wait(20.0).reason.kind == "killed"
    with pytest.raises(Exception, match="killed"):
        busy.receive_response(20.0)
    assert not alive(trapping.pid)
    node.exit(one, "kill")
    until(lambda: not alive(one.pid))
    node.exit(one, "kill")  # twice is fine
