"""Protected keys: limits, circuit and pool for all processes of a node, whoever dies."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import warm
from e2e_kit import until

import dspex_actors as dspex

#: Holds a place of the pool until it is killed.
HOLDS = """
import sys, time
import dspex_actors as dspex
from supervisors import Node
from dspex_actors.client.system import System, use
use(System(Node.attach(sys.argv[1]), None, own=False))
def hold():
    print("in", flush=True)
    time.sleep(60)
dspex.execute_protected(sys.argv[2], hold)
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_HOME", str(tmp_path_factory.mktemp("home")))
        with dspex.connect(workers=2) as system:
            yield system


def stats(system, key):
    return system.node.call("protection", "stats")[key]


def boom():
    raise ValueError("boom")


def test_the_value_comes_back_and_what_is_raised_is_raised(system):
    dspex.configure_protection("plain", pool=2)
    assert dspex.execute_protected("plain", lambda: 5) == 5
    assert dspex.execute_protected("plain", lambda: threading.current_thread().name, timeout=5.0) == "dspex-protected"
    with pytest.raises(ValueError, match="boom"):
        dspex.execute_protected("plain", boom)
    with pytest.raises(ValueError, match="boom"):
        dspex.execute_protected("plain", boom, timeout=5.0)

    async def both():
        async def later():
            return 6

        ways = (later, lambda: later(), lambda: 7)
        return [await dspex.aexecute_protected("plain", way) for way in ways]

    assert asyncio.run(both()) == [6, 6, 7]
    until(lambda: stats(system, "plain")["in_flight"] == 0)


def test_a_limit_holds_for_threads_programs_and_workers_together(system):
    dspex.configure_protection("limit", rate_limiter={"requests": (20, 1.0)})
    at = []

    class Asks(dspex.Module):
        async def aforward(self, ticket):
            await dspex.aexecute_protected("limit", lambda: None)
            return dspex.Prediction(team="billing", at=time.monotonic())

    def here():
        dspex.execute_protected("limit", lambda: at.append(time.monotonic()))

    with ThreadPoolExecutor(8) as threads:
        mine = [threads.submit(here) for _ in range(20)]
        rows = [{"ticket": str(n), "team": "billing"} for n in range(20)]
        result = dspex.evaluate(Asks(), rows, dspex.metrics.exact_match("team"), display_progress=False)
        for one in mine:
            one.result()
    at += [row.prediction.at for row in result.results]
    at.sort()
    assert (len(at), result.failed) == (40, 0)
    # Times are taken after the grant: a little late, and not equally.
    assert at[20] - at[0] > 0.8
    assert at[-1] - at[0] < 2.5


def test_the_circuit_opens_for_all_and_a_probe_closes_it(system):
    dspex.configure_protection("circuit", circuit_breaker={"failure_threshold": 3, "recovery_time": 0.3})
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"):
            dspex.execute_protected("circuit", boom)
    with pytest.raises(dspex.CircuitOpen, match="ValueError: boom") as caught:
        dspex.execute_protected("circuit", lambda: 1)
    assert 0 < caught.value.retry_after < 0.31
    until(lambda: stats(system, "circuit")["retry_after"] == 0)
    assert dspex.execute_protected("circuit", lambda: 1) == 1
    until(lambda: stats(system, "circuit")["circuit"] == "closed")
    until(lambda: system.events.query("circuit.closed", where={"circuit": "circuit"}))


def test_trip_says_what_counts(system):
    breaker = {"failure_threshold": 1, "recovery_time": 5.0, "trip": lambda error: isinstance(error, OSError)}
    dspex.configure_protection("trip", circuit_breaker=breaker)
    with pytest.raises(ValueError, match="boom"):
        dspex.execute_protected("trip", boom)
    assert dspex.execute_protected("trip", lambda: 1) == 1

    def away():
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        dspex.execute_protected("trip", away)
    until(lambda: stats(system, "trip")["circuit"] == "open")


def test_a_timeout_covers_the_wait_and_counts_and_the_place_is_free_when_the_thread_has_ended(system):
    dspex.configure_protection("slow", pool=1, circuit_breaker={"failure_threshold": 2, "recovery_time": 60.0})
    go = threading.Event()
    with pytest.raises(dspex.DeadlineExceeded, match=r"not done within timeout=0\.2 s"):
        dspex.execute_protected("slow", go.wait, timeout=0.2)
    with pytest.raises((dspex.DeadlineExceeded, dspex.RateLimited)):
        dspex.execute_protected("slow", lambda: 1, timeout=0.2)
    go.set()
    assert dspex.execute_protected("slow", lambda: 1, timeout=10.0) == 1

    async def cancelled():
        async def for_ever():
            await asyncio.Event().wait()

        with pytest.raises(dspex.DeadlineExceeded):
            await dspex.aexecute_protected("slow", for_ever, timeout=0.2)

    asyncio.run(cancelled())
    until(lambda: stats(system, "slow")["in_flight"] == 0)


def test_a_killed_program_gives_its_place_back(system):
    dspex.configure_protection("killed", pool=1)
    command = [sys.executable, "-c", HOLDS, str(system.data_dir), "killed"]
    with warm.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "in\n"
        waiting = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            one = threads.submit(dspex.execute_protected, "killed", waiting.set)
            until(lambda: stats(system, "killed")["waiting"] == 1)
            assert not waiting.is_set()
            holder.send_signal(signal.SIGKILL)
            one.result(60)
    assert waiting.is_set()


@pytest.mark.soak
def test_a_killed_owner_is_waited_for_and_gives_nothing_twice(system):
    dspex.configure_protection("owner", rate_limiter={"requests": (30, 3.0)}, pool=50)
    at, stop = [], threading.Event()
    go = threading.Event()
    dspex.configure_protection("held", pool=1)
    with ThreadPoolExecutor(9) as threads:
        held = threads.submit(dspex.execute_protected, "held", go.wait)
        until(lambda: stats(system, "held")["in_flight"] == 1)

        def work():
            while not stop.is_set():
                dspex.execute_protected("owner", lambda: at.append(time.monotonic()))

        working = [threads.submit(work) for _ in range(8)]
        for _ in range(3):
            until(lambda: len(at) > 5)
            os.kill(system.node.pid("protection"), signal.SIGKILL)
            time.sleep(0.6)  # the kills are spread over the window
        until(lambda: len(at) > 62)
        assert stats(system, "held") == {
            "in_flight": 1, "waiting": 0, "free": {"pool": 0}, "circuit": None, "retry_after": 0.0
        }  # fmt: skip
        stop.set()
        for one in working:
            one.result(60)
        go.set()
        assert held.result(60)
    # Who was let in by an owner that died before it could say so hears it late. A second burst came at once.
    assert all(b - a > 2.0 for a, b in zip(at, at[30:], strict=False)), "more than the limit within a window"
    until(lambda: stats(system, "held")["in_flight"] == 0)


def test_what_is_not_usable_is_refused(system):
    with pytest.raises(
        dspex.ConfigError, match=r"the key 'nobody' is not protected.* call dspex\.configure_protection first"
    ):
        dspex.execute_protected("nobody", lambda: 1)
    dspex.configure_protection("refused", rate_limiter={"requests": (1, 1.0)})
    for settings, words in (
        ({"fn": 5}, "fn is invalid: got 5"),
        ({"timeout": 0}, "timeout is invalid"),
        ({"costs": {"tokens": 1}}, "costs is invalid: got the bucket 'tokens', expected requests"),
        ({"user": 5}, "user is invalid"),
        ({"costs": {"requests": 2}}, "needs more than requests lets through at all"),
    ):
        with pytest.raises(dspex.DspexError, match=words):
            dspex.execute_protected("refused", **{"fn": lambda: 1, **settings})

    async def later(): ...

    dspex.configure_protection("refused")
    for fn in (later, lambda: later()):
        with pytest.raises(dspex.ConfigError, match="await aexecute_protected"):
            dspex.execute_protected("refused", fn)
