"""How one process sees the deaths of processes of other nodes: through the doors of these nodes.

A pidfd does not reach beyond its host. The door of the other node is on that host, and watches the process there. It is
asked over one connection for each node, in the way a program outside asks it (wire/door_protocol.py). A connection that
is lost is dialled again, and the door is asked again. Whether a node is down is decided by runtime/process/pulse.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from supervisors.runtime.process.pulse import BEAT_SECONDS, Pulse
from supervisors.terms.errors import NoProcess
from supervisors.terms.reason import KILLED, NODEDOWN, NOPROC, ExitReason
from supervisors.terms.ref import Ref
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.clock import Clock
from supervisors.wire.frames import FrameCodec, FrameError, FrameReader, Opener
from supervisors.wire.keys import own_key

#: Nothing is asked of a node that is down for this many seconds; after that a call, monitor or link tries it anew.
DOWN_SECONDS = 2.0
#: The death of a process that was dead before it was watched is reported after this many seconds: a call that was sent
#: to it is refused meanwhile, and its caller learns that it was not carried out.
REFUSAL_SECONDS = 0.1
#: After every so many beats, monitors that nobody here needs any more are taken back.
SWEEP_BEATS = 30

_HELLO, _BEAT, _FIRST = 1, 2, 3


class Needs(Protocol):
    """What is asked whether a process is still needed."""

    def needs(self, ref: Ref) -> bool:
        """Whether anything here waits for this process or its end."""


class Owner(Protocol):
    """What is needed of the process that watches."""

    loop: asyncio.AbstractEventLoop
    node: dict[str, Any]
    log: Any

    @property
    def bonds(self) -> Needs:
        """Its monitors and links."""


class Far:
    """The processes of other nodes whose end this process waits for.

    Args:
        owner: this process.
        ended: told that one of them has ended, and why.
        forgotten: told that one is not watched any more, because nobody needs it.
    """

    def __init__(
        self, owner: Owner, ended: Callable[[Ref, ExitReason], None], forgotten: Callable[[Ref], None]
    ) -> None:
        """Watch nobody yet."""
        self.owner, self.ended, self.forgotten = owner, ended, forgotten
        self.loop = owner.loop
        self.codec = FrameCodec(own_key(Path(owner.node["data_dir"])), Clock(owner.node.get("clock")))
        self._nodes: dict[tuple[str, int], FarNode] = {}
        self._down: dict[tuple[str, int], float] = {}

    def watch(self, ref: Ref) -> None:
        """Wait for the end of a process of another node.

        Raises:
            NoProcess: its node is down.
        """
        address, now = (ref.host, ref.door), self.loop.time()
        if self._down:
            self._down = {each: until for each, until in self._down.items() if until > now}
        if address in self._down:
            raise NoProcess(f"the node of {ref} is down", reason=NODEDOWN)
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = FarNode(self, *address)
        node.watch(ref)

    def left(self, address: tuple[str, int], down: bool) -> None:
        """Forget a node that is not watched any more. One that is down is not dialled again for `DOWN_SECONDS`."""
        del self._nodes[address]
        if down:
            self._down[address] = self.loop.time() + DOWN_SECONDS


class FarNode:
    """One other node, and the processes there that are watched."""

    def __init__(self, far: Far, host: str, port: int) -> None:
        """Dial its door."""
        self._far, self._host, self._port = far, host, port
        self._pulse = Pulse(far.loop.time())
        #: Whether the door has watched them over an earlier connection: then they were alive.
        self._watched: dict[Ref, bool] = {}
        self._idle: set[Ref] = set()
        self._numbers = itertools.count(_FIRST)
        self._asked: dict[int, Ref] = {}
        self._monitors: dict[int, Ref] = {}
        self._line: Line | None = None
        self._greeted = self._closed = False
        self._run: tuple[Any, Any] | None = None
        self._beats = 0
        self._redial: asyncio.TimerHandle | None = None
        self._dial()
        self._timer = far.loop.call_later(BEAT_SECONDS, self._beat)

    def watch(self, ref: Ref) -> None:
        """Have the door watch a process."""
        if ref not in self._watched:
            self._watched[ref] = False
            self._ask(ref)

    def _ask(self, ref: Ref) -> None:
        if self._line is not None and self._greeted:
            number = next(self._numbers)
            self._asked[number] = ref
            self._line.send(number, protocol.MONITOR, ref)

    # --- the connection ---------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        self._redial = None
        self._attempt = self._far.loop.create_task(self._connect())

    async def _connect(self) -> None:
        line = self._line = Line(self, self._far.codec, f"{self._host}:{self._port}")
        try:
            await self._far.loop.create_connection(lambda: line, self._host, self._port)
        except OSError as error:
            self.lost(line, isinstance(error, ConnectionRefusedError))

    def lost(self, line: Line, refused: bool = False) -> None:
        """Dial again, or give the node up."""
        if self._closed or line is not self._line:
            return
        self._line, self._greeted = None, False
        self._watched.update(dict.fromkeys(self._monitors.values(), True))
        self._asked.clear()
        self._monitors.clear()
        pause = self._pulse.lost(self._far.loop.time(), refused)
        if pause is None:
            self._is_down("its address refuses connections" if refused else self._silence())
        else:
            # Many may have lost the same door: they do not come back in one moment.
            self._redial = self._far.loop.call_later(pause * random.uniform(0.7, 1.3), self._dial)  # noqa: S311

    def heard(self, line: Line, message: Any) -> None:
        """Take one message of the door."""
        if self._closed or line is not self._line:
            return
        self._pulse.heard(self._far.loop.time())
        number, ok, *rest = message
        if ok == protocol.DOWN:
            monitor, down = rest
            ref = self._monitors.pop(monitor, None)
            if ref is not None:
                self._ended(ref, down.reason)
        elif number == _HELLO:
            self._hello(ok, rest[0])
        elif (ref := self._asked.pop(number, None)) is not None:
            self._answered(ref, ok, rest[0])

    def _hello(self, ok: bool, info: Any) -> None:
        if not ok:
            self._is_down(str(info))
            return
        run = info["uid"], info["incarnation"]
        if self._run not in (None, run):  # another run of the node: what was there before is gone
            for ref in [ref for ref, earlier in self._watched.items() if earlier]:
                self._ended(ref, NODEDOWN)
        self._run, self._greeted = run, True
        for ref in self._watched:
            self._ask(ref)

    def _answered(self, ref: Ref, ok: bool, value: Any) -> None:
        if ok:
            self._monitors[value[0]] = ref
            if ref not in self._watched:
                self._release(ref)
        elif isinstance(value, NoProcess):
            self._ended(ref, NOPROC)
        # What else went wrong there is nothing that a process has died of: the next beat asks again.

    def _beat(self) -> None:
        self._timer = self._far.loop.call_later(BEAT_SECONDS, self._beat)
        if not self._pulse.beat(self._far.loop.time()):
            self._is_down(self._silence())
            return
        self._beats += 1
        if self._beats % SWEEP_BEATS == 0:
            self._sweep()
        if self._line is not None and self._greeted:
            self._line.send(_BEAT, protocol.BEAT)
            asked = {*self._asked.values(), *self._monitors.values()}
            for ref in self._watched.keys() - asked:
                self._ask(ref)

    # --- ends -------------------------------------------------------------------------------------------------------

    def _ended(self, ref: Ref, reason: ExitReason) -> None:
        earlier = self._watched.pop(ref, None)
        if earlier is None:
            return
        if reason.kind != "noproc":
            self._far.ended(ref, reason)
        elif earlier:  # it ended while the door was away; its last words, if any, came from itself
            self._far.ended(ref, KILLED)
        else:
            self._far.loop.call_later(REFUSAL_SECONDS, self._far.ended, ref, NOPROC)

    def _sweep(self) -> None:
        """Forget processes that nobody has needed since the last look, and at last the node."""
        idle = {ref for ref in self._watched if not self._far.owner.bonds.needs(ref)}
        for ref in idle & self._idle:
            del self._watched[ref]
            self._release(ref)
            self._far.forgotten(ref)
        self._idle = idle
        if not self._watched:
            self._close(down=False)

    def _release(self, ref: Ref) -> None:
        for monitor in [monitor for monitor, watched in self._monitors.items() if watched == ref]:
            del self._monitors[monitor]
            if self._line is not None:
                self._line.send(next(self._numbers), protocol.DEMONITOR, monitor)

    def _silence(self) -> str:
        never = "it has not answered once: does it run there, with the same cluster key?"
        return never if self._run is None else "it does not answer any more"

    def _is_down(self, why: str) -> None:
        self._far.owner.log.warning("another node is down", address=f"{self._host}:{self._port}", why=why)
        self._close(down=True)
        for ref in list(self._watched):
            self._ended(ref, NODEDOWN)

    def _close(self, down: bool) -> None:
        self._closed = True
        self._timer.cancel()
        self._attempt.cancel()
        if self._redial is not None:
            self._redial.cancel()
        if self._line is not None:
            self._line.close()
        self._far.left((self._host, self._port), down)


class Line(asyncio.Protocol):
    """A connection to a door."""

    def __init__(self, node: FarNode, codec: FrameCodec, dest: str) -> None:
        """Be dialled."""
        self._node, self._codec, self._dest = node, codec, dest
        self._name = f"far-{os.urandom(8).hex()}"
        self._reader = FrameReader(Opener(codec, self._name))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.send(_HELLO, protocol.HELLO, wire.VERSION, self._name)

    def send(self, number: int, operation: str, *arguments: Any) -> None:
        """Send a request."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._codec.seal(wire.pack([number, operation, *arguments]), self._dest))

    def data_received(self, data: bytes) -> None:
        """Hand out what comes in."""
        try:
            messages = [wire.unpack(payload) for payload in self._reader.feed(data)]
        except (FrameError, ValueError):
            self.close()
            return
        self._dest = self._reader.peer or self._dest  # after the greeting all is sealed for this very door
        for message in messages:
            self._node.heard(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell."""
        self._node.lost(self)

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
