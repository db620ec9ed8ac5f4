"""What a handler that blocks its loop, or a receiver that is stuck, must not do to the rest."""

import asyncio
import logging
import os
import resource
import signal
import threading
import time

import pytest

from supervisors import ChildSpec, GenServer, SupervisorSpec
from supervisors.testing import wait_until


class Blocker(GenServer):
    """Blocks its loop for so many seconds, and says when it has handled what."""

    def init(self, path):
        self.path = path
        self.seen = []

    def handle_call(self, request, caller):
        return self.seen if request == "seen" else request

    def handle_cast(self, message):
        match message:
            case ("block", seconds):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    time.sleep(0.01)
            case ("log", seconds):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    logging.getLogger("library").warning("still at it")
            case ("thread", path):
                threading.Thread(target=lambda: self.cast(self.ref, ("touch", path)), daemon=True).start()
            case ("few descriptors", seconds):
                self.no_descriptors(seconds)
            case ("touch", path):
                path.touch()
            case ("tell", target, number):
                self.cast(target, number)
            case _:
                self.seen.append((message, time.monotonic()))

    def no_descriptors(self, seconds):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        self.spawn(self.restore(seconds, (soft, hard)))

    async def restore(self, seconds, limits):
        await asyncio.sleep(seconds)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def terminate(self, reason):
        self.path.write_text(str(reason))


@pytest.fixture
def top(node, tmp_path):
    """Run two of them."""
    children = [ChildSpec(name, Blocker, args=(tmp_path / name,), name=name) for name in ("a", "b")]
    ref = node.start_supervisor(SupervisorSpec(children))
    yield ref
    node.stop(ref)


# rows: bad input
def test_what_comes_while_a_handler_blocks_is_handled_as_soon_as_it_is_done(node, top, tmp_path):
    node.cast("a", ("block", 2.0))
    until = time.monotonic() + 2.0
    wait_until(lambda: time.monotonic() > until - 0.4, 5.0)  # the watchdog has looked by then
    node.cast("a", ("touch", tmp_path / "late"))
    wait_until((tmp_path / "late").exists)  # nobody wakes it


# rows: bad input
def test_a_stop_while_a_handler_blocks_lets_terminate_run(node, top, tmp_path):
    node.cast("a", ("block", 2.0))
    node.terminate_child(top, "a")
    assert (tmp_path / "a").read_text() == "shutdown"


# rows: bad input
@pytest.mark.soak
def test_a_handler_that_logs_for_long_comes_back(node, top):
    node.cast("a", ("log", 2.5))
    assert node.call("a", "back", timeout=20) == "back"


def test_a_thread_of_the_users_may_cast(node, top, tmp_path):
    node.call("a", "warm")
    node.cast("a", ("thread", tmp_path / "from a thread"))
    wait_until((tmp_path / "from a thread").exists)  # nobody wakes it


def test_a_frozen_receiver_does_not_keep_its_sender_from_others(node, top):
    frozen = node.whereis("b")
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        for number in range(1500):
            node.cast("a", ("tell", frozen, number))
            if number % 100 == 0:
                assert node.call("a", number, timeout=5) == number
        assert node.call("a", "free", timeout=5) == "free"
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    wait_until(lambda: len(node.call("b", "seen")) == 1500, 20.0, 0.1)
    assert [number for number, _ in node.call("b", "seen")] == list(range(1500))


def test_a_process_without_descriptors_is_deaf_for_that_time_only(node, top):
    node.call("a", "warm")
    node.cast("a", ("few descriptors", 1.0))
    # From a process that it has no connection with yet: it cannot accept that one.
    node.cast("b", ("tell", node.whereis("a"), "through b"))
    wait_until(lambda: any(message == "through b" for message, _ in node.call("a", "seen", timeout=10)), 60.0, 0.1)
