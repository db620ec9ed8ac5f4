"""The connection of one program outside to the door of a node."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from supervisors.host import security_log
from supervisors.runtime.process.process import Process
from supervisors.terms.errors import CallFailed, NoProcess, SupervisorsError
from supervisors.terms.ref import Down, Ref
from supervisors.terms.showing import shown_error
from supervisors.terms.via import Via
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.frames import FrameError, FrameReader

#: A connection that has not shown the key within this many seconds is closed.
HANDSHAKE_SECONDS = 5.0

#: Requests that are carried out when they have sent.
_SENDS = (protocol.CAST, protocol.SEND, protocol.EXIT)

#: In the place of the operation of a request whose arguments cannot be opened.
_MALFORMED = "malformed"

Operation = Callable[..., Awaitable[Any]]


class Doorkeeper(Protocol):
    """What a connection needs of its door."""

    @property
    def process(self) -> Process:
        """The door's process."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What the door does for everybody."""

    def new_reader(self) -> FrameReader:
        """Return a reader for frames sealed for this door."""

    def seal(self, value: Any, dest: str) -> bytes:
        """Seal a value for a client."""

    def stranger(self, connection: Connection) -> None:
        """Count a connection that has not shown the key."""

    def no_stranger(self, connection: Connection) -> None:
        """Take it out of the count again."""


class _Question:
    """A call under way; it is cancelled as a task is."""

    __slots__ = ("_number", "_process")

    def __init__(self, process: Process, number: int) -> None:
        self._process, self._number = process, number

    def cancel(self) -> None:
        self._process.calls.give_up(self._number)


class Connection(asyncio.Protocol):
    """One client: its requests, and its monitors and leases, which end with the connection."""

    def __init__(self, door: Doorkeeper) -> None:
        """Wait for its first frame."""
        self._door = door
        self._reader = door.new_reader()
        self._dest: str | None = None
        self._tasks: dict[int, asyncio.Task[None] | _Question] = {}
        #: Requests that have not sent yet what they send. No call overtakes them.
        self._ahead: set[int] = set()
        self._monitors: set[int] = set()
        self._lenders: list[Ref | str | Via] = []
        self._own: dict[str, Operation] = {
            protocol.MONITOR: self._monitor,
            protocol.DEMONITOR: self._demonitor,
            protocol.LEASE: self._lease,
            _MALFORMED: self._malformed,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the time within which the client has to show the key."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._door.stranger(self)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.close)

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the requests that are under way, since nobody would read the answers, and its monitors and leases."""
        self._timer.cancel()
        self._door.no_stranger(self)
        for task in self._tasks.values():
            task.cancel()
        for monitor in self._monitors:
            self._door.process.demonitor(monitor)
        for lender in self._lenders:
            self._door.process.cast(lender, ("gone", self._dest))

    def data_received(self, data: bytes) -> None:
        """Take in bytes. A peer without the key is disconnected at its first header."""
        try:
            payloads = self._reader.feed(data)
        except FrameError as error:
            host = (self._transport.get_extra_info("peername") or ("?",))[0]
            security_log.note("refused connection", host, f"{type(error).__name__}: {error}")
            self.close()
            return
        if self._reader.authenticated:
            self._timer.cancel()
            self._door.no_stranger(self)
        for payload in payloads:
            try:
                self._request(*_parts(payload))
            except ValueError as error:
                # It has the key, so this is a client's mistake, and with no number there is nothing to answer to.
                self._door.process.log.warning("a client sent what is no request: it is disconnected", error=str(error))
                self.close()
                return
        self._door.process.flush()  # a call goes through three processes: it waits for the next turn of no loop

    def _request(self, number: int, operation: str, arguments: list[Any]) -> None:
        if operation == protocol.HELLO:
            self._hello(number, arguments)
        elif self._dest is None:
            self.close()
        elif operation == protocol.BEAT:
            self._answer(number, True, None)
        elif operation == protocol.CANCEL:
            for cancelled in arguments:
                task = self._tasks.pop(cancelled, None) if isinstance(cancelled, int) else None
                if task is not None:
                    task.cancel()
                    self._ahead.discard(cancelled)
        elif operation != protocol.CALL or self._ahead or not self._call(number, arguments):
            self._ahead.add(number)
            self._tasks[number] = asyncio.get_running_loop().create_task(self._run(number, operation, arguments))

    def _call(self, number: int, arguments: list[Any]) -> bool:
        """Make a call without a task of its own; False: that cannot be, its target has to be looked up first, say."""
        match arguments:
            case [str() | Ref() as target, bytes(request), (None | int() | float()) as timeout]:
                process = self._door.process
                ref = target if isinstance(target, Ref) else process.names.known(target)
            case _:
                return False
        if ref is None:
            return False

        def answered(value: bytes, error: Exception | None) -> None:
            del self._tasks[number]
            if isinstance(error, NoProcess) and isinstance(target, str):
                # It has ended, and has not carried this call out: its successor may.
                process.names.forget(target, ref)
                again = self._run(number, protocol.CALL, arguments)
                self._tasks[number] = asyncio.get_running_loop().create_task(again)
            elif error is None:
                self._answer(number, True, value)
            else:
                self._answer(number, False, error)

        try:
            self._tasks[number] = _Question(process, process.calls.begin_call(ref, request, timeout, answered))
        except NoProcess:
            return False
        return True

    def _hello(self, number: int, arguments: list[Any]) -> None:
        match arguments:
            case [wire.VERSION, str(dest)]:
                self._dest = dest
                self._answer(number, True, self._door.process.node)
            case [version, str(dest)]:
                self._dest = dest
                other = CallFailed(f"this node speaks version {wire.VERSION}, the client {version!r:.20}")
                self._answer(number, False, other)
            case _:
                self.close()  # nobody to answer to

    async def _run(self, number: int, operation: str, arguments: list[Any]) -> None:
        if operation not in _SENDS:  # it sends before it waits, and what it waits for may take long
            self._ahead.discard(number)
        try:
            value = await self._operation(operation)(*arguments)
        except SupervisorsError as error:
            self._answer(number, False, error)
        except Exception as error:  # a malformed request must not take the door down
            self._door.process.log.error("request failed", operation=operation, exc_info=error)
            self._answer(number, False, CallFailed(f"{operation}: {error!r}"))
        else:
            self._answer(number, True, value)
        finally:
            self._ahead.discard(number)
            self._tasks.pop(number, None)

    def _operation(self, name: str) -> Operation:
        """Return what does an operation: this connection where it has to do with the connection, else the door."""
        run = self._own.get(name) or self._door.operations.get(name)
        if run is None:
            raise CallFailed(f"the door has no operation {name!r:.100}")
        return run

    async def _lease(self, target: Ref | str | Via, request: bytes, timeout: float | None) -> bytes:
        """Pass on the call of a borrower. The lender (a pool) is told when this connection ends."""
        if target not in self._lenders:
            self._lenders.append(target)
        lease = wire.pack(("lease", self._dest, request))
        reply: bytes = await self._door.process.call_name(target, lease, timeout)
        return reply

    async def _monitor(self, target: Ref | str | Via) -> tuple[int, Ref | None]:
        process = self._door.process
        number: list[int] = []
        early: list[Down] = []

        def down(message: Down) -> None:
            if number:
                self._monitors.discard(number[0])
                self._send([protocol.UNASKED, protocol.DOWN, number[0], message])
            else:
                early.append(message)

        try:
            ref = await process.names.resolve(target)
        except NoProcess as error:
            raise NoProcess(error.message, reason=error.reason) from None
        monitor = await process.watch_once(ref, down)
        number.append(monitor)
        if early:
            asyncio.get_running_loop().call_soon(down, early[0])
        else:
            self._monitors.add(monitor)
        return monitor, ref

    async def _demonitor(self, number: int) -> None:
        if number in self._monitors:
            self._monitors.discard(number)
            self._door.process.demonitor(number)

    async def _malformed(self, why: str) -> None:
        raise CallFailed(why)

    def _answer(self, number: int, ok: bool, value: Any) -> None:
        try:
            self._send([number, ok, value])
        except Exception as error:  # too large, or of a shape that cannot be sent
            self._send([number, False, CallFailed(f"the answer cannot be sent: {error}")])

    def _send(self, value: Any) -> None:
        if not self._transport.is_closing() and self._dest is not None:
            self._transport.write(self._door.seal(value, self._dest))


def _parts(payload: bytes) -> tuple[int, str, list[Any]]:
    """Return number, operation and arguments of a request.

    Raises:
        ValueError: it is none.
    """
    try:
        match wire.unpack(payload):
            case [int(number), str(operation), *arguments]:
                return number, operation, arguments
    except Exception as error:  # bytes that are no value at all: msgpack has errors of its own for each way
        why = f"bytes that cannot be unpacked: {shown_error(error, 200)}"
        if (asked := wire.number_of(payload)) is None:
            raise ValueError(why) from error
        return asked, _MALFORMED, [why]
    raise ValueError("expected [number, operation, *arguments]")
