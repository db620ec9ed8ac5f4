"""kill -9 of each member of an inference ecosystem under load: every inference ends, and the next one is served."""

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from e2e_kit import Host, gone, run_script, until

import dspex_actors as dspex
from dspex_actors.ecosystem.inference.messages import ROLES
from dspex_actors.names import worker_name
from supervisors.testing.waiting import processes_of

#: Callers, and how long one inference may take, in seconds.
CALLERS, DEADLINE = 6, 20.0
#: What an inference may end with when a member is killed: an answer, or one of these.
CLEAN = (dspex.MemberAway, dspex.Overloaded, dspex.DeadlineExceeded)


def shout(prediction):
    return {"team": prediction.team.upper()}


async def sort(ticket: str):
    await asyncio.sleep(0.005)
    return dspex.Prediction(team=ticket)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    host = Host(tmp_path_factory.mktemp("home"), workers=2)
    try:
        host.start()
        with dspex.connect(home=host.home) as made:
            yield made
    finally:
        host.close()


class Load:
    """Callers that ask without end; `ended` has how each inference ended, and how long it took."""

    def __init__(self, eco):
        self.eco, self.ended, self.wrong = eco, [], []
        self._numbers, self._over = itertools.count(), threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        while not self._over.is_set():
            ticket = f"t{next(self._numbers) % 500}"
            began, error = time.monotonic(), None
            try:
                found = self.eco.infer(ticket=ticket)
                wanted = ticket if "processor" in found.skipped else ticket.upper()
                if found.team != wanted:
                    self.wrong.append((ticket, found))
            except CLEAN as caught:
                error = caught
            except BaseException as caught:
                self.wrong.append((ticket, repr(caught)))
            self.ended.append((time.monotonic() - began, error))

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE + 5)
            assert not thread.is_alive(), "a caller hangs"


def kill_often(system, eco, load, role, times):
    """Kill a member under load, each time once it is back and has done something."""
    name = worker_name(1) if role == "worker" else eco._place.at(role).name
    for _ in range(times):
        pid = until(lambda: system.node.pid(name))
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: gone(pid))
        done = len(load.ended)
        until(lambda pid=pid: system.node.pid(name) not in (None, pid), 20, f"{role} does not come back")
        # Some were under way then; now there is one that began after it was back.
        until(lambda done=done: len(load.ended) > done + CALLERS, DEADLINE, f"nothing is served without {role}")
        assert eco.infer(ticket=f"after {role}").team in ("AFTER " + role.upper(), f"after {role}")


def members_of(node):
    """Return the names of the processes of a node that are members of ecosystems, killed ones too."""
    names = []
    for pid in processes_of(node):
        with contextlib.suppress(OSError):  # it has just ended
            names.append(Path(f"/proc/{pid}/comm").read_text())
    return [name for name in names if name.startswith("ecosystem:")]


def check(system, times):
    eco = system.ecosystem(sort, transformations=[shout], deadline=DEADLINE)
    load = Load(eco)
    try:
        assert len(members_of(system.node)) == len(ROLES) + 1  # and the owner
        for role in (*ROLES, "worker"):
            kill_often(system, eco, load, role, times)
    finally:
        load.stop()
        eco.stop()
    assert not load.wrong
    assert max(seconds for seconds, _ in load.ended) < DEADLINE + 3
    failed = [error for _, error in load.ended if error is not None]
    # What a coordinator had under way is lost with it; nobody else's end costs a caller anything.
    assert len(failed) <= times * CALLERS, failed[:3]
    assert {type(error) for error in failed} <= {dspex.MemberAway}
    until(lambda: not members_of(system.node), what="members are left")


def test_every_inference_ends_when_a_member_is_killed(system):
    check(system, 1)


@pytest.mark.soak
def test_every_inference_ends_when_each_member_is_killed_20_times(system):
    check(system, 20)


def test_a_member_that_is_away_is_passed_over_and_the_answer_says_so(system):
    with system.ecosystem(sort, transformations=[shout]) as eco:
        for role in ("validator", "cache", "processor", "monitor"):
            assert eco.infer(ticket=f"{role} a").skipped == ()
            system.node.terminate_child(eco._place.name, role)
            found = eco.infer(ticket=f"{role} b")
            assert found.team == (f"{role} b" if role == "processor" else f"{role} b".upper())
            assert found.skipped == (() if role == "monitor" else (role,))
            assert eco.stats()[role] is None
            system.node.restart_child(eco._place.name, role)
            until(lambda role=role: eco.infer(ticket=f"{role} c").skipped == () or None)
            # What went out unprocessed was not kept: it comes processed now.
            assert eco.infer(ticket=f"{role} b").team == f"{role} b".upper()


def test_without_validator_or_coordinator_a_strict_one_fails_cleanly(system):
    with system.ecosystem(sort, strict=True) as eco:
        for role in ("validator", "coordinator"):
            system.node.terminate_child(eco._place.name, role)
            with pytest.raises(dspex.MemberAway) as caught:
                eco.within(0.5).infer(ticket="a")
            assert caught.value.role == role
            system.node.restart_child(eco._place.name, role)
            assert eco.infer(ticket="a").team == "a"


@pytest.mark.soak
def test_a_member_that_is_stuck_is_passed_over_too(system):
    with system.ecosystem(sort) as eco:
        pid = eco.members()["cache"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            assert eco.infer(ticket="a").skipped == ("cache",)
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: eco.infer(ticket="b").skipped == ())


def test_nothing_is_kept_of_inferences_that_have_ended(system):
    room = 40_000
    with system.ecosystem(sort, transformations=[shout], cache_bytes=room) as eco:

        async def many():
            await asyncio.gather(*(eco.ainfer(ticket=f"ticket {number}") for number in range(300)))

        asyncio.run(many())
        stats = until(lambda: (found := eco.stats())["cache"]["stored"] == 300 and found)
        assert stats["cache"]["bytes"] <= room
        assert stats["cache"]["evicted"] == 300 - stats["cache"]["entries"]
        assert stats["processor"]["active"] == 0
        state = system.node.get_state(eco._place.at("coordinator").name)
        for name in ("_under_way", "_by_key", "_asked", "_answered"):
            assert not state[name], name
        assert not eco._asking._waiting


SCRIPT = """
import sys
import dspex_actors as dspex
eco = dspex.connect(home=sys.argv[1]).find_ecosystem(("inference", "slow"))
print("ready", flush=True)
eco.infer(seconds=60.0)
"""


async def sleeping(seconds: float):
    await asyncio.sleep(seconds)


def test_a_program_that_is_killed_has_its_inferences_given_up(system):
    with system.ecosystem(sleeping, id="slow") as eco:
        program = run_script(SCRIPT, system.data_dir)
        assert program.stdout.readline() == "ready\n"
        until(lambda: sum(eco.stats()["coordinator"]["workers"]["doing"].values()) == 1)
        program.kill()
        program.wait()
        counts = until(lambda: (found := eco.stats()["coordinator"])["given_up"] == 1 and found)
        assert counts["under_way"] == 0
        until(lambda: sum(eco.stats()["coordinator"]["workers"]["doing"].values()) == 0)
