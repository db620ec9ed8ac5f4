"""What is done 100,000 times leaves nothing behind: calls, casts, monitors, timers and spawned tasks.

SOAK_SECONDS bounds each kind; a minute and a half is enough for all 100,000 on most machines.
"""

import asyncio
import gc

import psutil
import pytest

from supervisors import NO_REPLY, ChildSpec, GenServer, SupervisorSpec

#: So often, if the time allows it; and so often between two looks at the clock.
MOST, ONCE = 100_000, 2_000
#: So many bytes a time may stay: a transport knows each frame again for 330 s by 8 bytes (2 MiB a sender at most), and
#: a call is two each way. One forgotten object would be some 50, one forgotten entry of a dict about 100.
KEPT = 20
#: What the allocator keeps of the longest queue there was.
SLACK = 2_000_000


class Target(GenServer):
    """Answers, and counts casts."""

    def init(self):
        self.count = 0

    def handle_call(self, request, caller):
        return self.count if request == "count" else request

    def handle_cast(self, message):
        self.count += 1


class Doer(GenServer):
    """Does one thing over and over."""

    def init(self):
        self.fired = asyncio.Event()

    def handle_call(self, request, caller):
        kind, times, target = request
        self.spawn(self.answer(caller, kind, times, target))
        return NO_REPLY

    async def answer(self, caller, kind, times, target):
        await getattr(self, kind)(times, target)
        self.reply(caller, "done")

    def handle_info(self, message):
        self.fired.set()

    async def calls(self, times, target):
        for number in range(times):
            assert await self.call(target, number) == number

    async def casts(self, times, target):
        for number in range(times):
            self.cast(target, number)
            if number % 100 == 99:
                await self.call(target, "count")

    async def monitors(self, times, target):
        for number in range(times):
            self.demonitor(self.monitor(target))
            if number % 100 == 99:
                await self.call(target, "count")

    async def timers(self, times, target):
        for number in range(times):
            self.send_after(1000.0, "never").cancel()
            if number % 10 == 0:
                self.fired.clear()
                self.send_after(0.0, "now")
                await self.fired.wait()

    async def tasks(self, times, target):
        for _ in range(times):
            await self.spawn(asyncio.sleep(0))


def outside_calls(node, times, target):
    for number in range(times):
        assert node.call(target, number) == number


def outside_casts(node, times, target):
    for number in range(times):
        node.cast(target, number)
        if number % 100 == 99:
            node.call(target, "count")


def outside_monitors(node, times, target):
    for number in range(times):
        node.monitor(target).cancel()
        if number % 100 == 99:
            node.call(target, "count")


def outside_acalls(node, times, target):
    async def ask():
        for start in range(0, times, 50):
            await asyncio.gather(*(node.acall(target, number) for number in range(start, min(times, start + 50))))

    asyncio.run(ask())


INSIDE = ("calls", "casts", "monitors", "timers", "tasks")
OUTSIDE = {"calls": outside_calls, "casts": outside_casts, "monitors": outside_monitors, "acalls": outside_acalls}
CASES = [*(("inside", kind) for kind in INSIDE), *(("outside", kind) for kind in OUTSIDE)]


@pytest.mark.parametrize(("place", "kind"), CASES, ids=[f"{place}-{kind}" for place, kind in CASES])
@pytest.mark.soak
def test_what_is_done_often_leaves_nothing(node, place, kind, rounds):
    top = node.start_supervisor(
        SupervisorSpec([ChildSpec("target", Target, name="target"), ChildSpec("doer", Doer, name="doer")])
    )
    pids = {row["name"] or row["id"]: row["pid"] for row in node.tree()["children"] if row["type"] == "worker"}
    pids |= {"target": node.pid("target"), "doer": node.pid("doer"), "supervisor": top.pid}
    pids["program"] = psutil.Process().pid

    def do(count):
        if place == "inside":
            assert node.call("doer", (kind, count, "target"), timeout=300.0) == "done"
        else:
            OUTSIDE[kind](node, count, "target")
        node.call("target", "count")

    def memory():
        gc.collect()
        return {name: psutil.Process(pid).memory_full_info().uss for name, pid in pids.items()}

    def descriptors():
        return {name: psutil.Process(pid).num_fds() for name, pid in pids.items() if name != "program"}

    do(ONCE)  # what is made once is made now
    before, open_before = memory(), descriptors()
    times = 0
    for _ in zip(rounds, range(MOST // ONCE), strict=False):
        do(ONCE)
        times += ONCE
    grown = {name: now - before[name] for name, now in memory().items()}
    print(f"{place} {kind}: {times:,} times; grown by", {name: f"{more / 1000:.0f} kB" for name, more in grown.items()})
    assert all(more <= SLACK + KEPT * times for more in grown.values()), grown
    assert descriptors() == open_before
    node.stop(top)
