"""Who tells a node what a program measures: what is left of it when the connection is closed."""

import asyncio
import threading

from dspex_actors.foundation.telemetry.recorder import Recorder
from dspex_actors.observe.telemetry.messages import Await, Heard
from dspex_actors.observe.telemetry.push import ProgramPush


class Node:
    """A node whose telemetry hears everything."""

    async def acall(self, target, request, seconds):
        if isinstance(request, Await):
            await asyncio.Event().wait()  # nobody reads
        return Heard("epoch", 1.0, is_on=True)


def test_a_connection_that_is_closed_leaves_no_loop_open():
    recorder, others = Recorder(), set(threading.enumerate())
    push = ProgramPush(Node(), recorder)
    push.open()
    recorder.counter("a").add()
    loop = push._loop
    (thread,) = (one for one in set(threading.enumerate()) - others if one.name == "dspex-telemetry")
    push.close()
    thread.join(60)
    assert loop.is_closed()
    recorder.counter("a").add()  # heard by nobody, and no error
