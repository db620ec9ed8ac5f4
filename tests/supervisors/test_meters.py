"""What processes count of themselves, and that it can be read while one is stuck."""

import os
import threading
import time

from node_helpers import Counter, until

from supervisors import ChildSpec, GenServer
from supervisors.host import meters


class Sleeper(GenServer):
    """Blocks its whole loop until a file is there."""

    def handle_call(self, request, caller):
        while not os.path.exists(request):
            time.sleep(0.01)
        return os.getpid()

    def handle_cast(self, message):
        """Only counted."""


def test_messages_taken_are_counted(node, supervise):
    supervise([ChildSpec("counted", Counter, name="counted")])
    for _ in range(25):
        node.call("counted", ("add", 1))
    found = node.stats()[node.pid("counted")]
    assert found.messages == 25
    assert found.mailbox == 0
    until(lambda: node.stats()[node.pid("counted")].busy == 0.0)


def test_a_process_that_is_stuck_in_a_handler_shows_what_waits_for_it(node, supervise, tmp_path):
    supervise([ChildSpec("stuck", Sleeper, name="stuck")])
    pid, flag = node.pid("stuck"), tmp_path / "go on"
    caller = threading.Thread(target=node.call, args=("stuck", str(flag), 30.0))
    caller.start()
    until(lambda: node.stats()[pid].busy > 0)
    for number in range(5):
        node.cast("stuck", number)
    until(lambda: node.stats()[pid].mailbox >= 1)
    flag.touch()
    caller.join()
    until(lambda: node.stats()[pid].messages == 6 and node.stats()[pid].mailbox == 0)


def test_supervisors_count_too(node, supervise):
    supervisor = supervise([])
    before = node.stats()[supervisor.pid].messages
    node.count_children(supervisor)
    assert node.stats()[supervisor.pid].messages > before


def test_a_restarted_process_counts_from_zero(node, supervise):
    supervise([ChildSpec("anew", Counter, name="anew")])
    old = node.pid("anew")
    node.call("anew", ("add", 1))
    os.kill(old, 9)
    pid = until(lambda: (now := node.pid("anew")) and now != old and now)
    assert node.stats()[pid].messages == 0
    assert old not in node.stats()


def test_without_shared_memory_a_meter_counts_for_itself():
    meter = meters.Meter()
    meter.begin(3)
    meter.end()
    assert meters.read([os.getpid()]) in ([], [(os.getpid(), 1, 3, 0.0)])
