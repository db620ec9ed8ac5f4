"""The connection of one program outside to the door of a node."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from supervisors.host import security_log
from supervisors.runtime.node.program import Program
from supervisors.runtime.process.calls import Answered
from supervisors.runtime.process.futures import settle
from supervisors.runtime.process.process import Process
from supervisors.terms.checks import Target, check_ref, check_target, check_text, check_timeout
from supervisors.terms.errors import CallFailed, SpecError, SupervisorsError
from supervisors.terms.reason import SHUTDOWN, ExitReason
from supervisors.terms.ref import Down, Ref
from supervisors.terms.showing import shown_error
from supervisors.terms.spec import ChildSpec, SupervisorSpec
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.frames import FrameError, FrameReader
from supervisors.wire.messages import Cast, Info

#: A connection that has not shown the key within this many seconds is closed.
HANDSHAKE_SECONDS = 5.0

#: A client that says goodbye waits so many seconds, at most, for what it has sent to arrive.
BYE_SECONDS = 3.0

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

    def about(self) -> dict[str, Any]:
        """Return what a client is told of the node."""

    def new_reader(self) -> FrameReader:
        """Return a reader for frames sealed for this door."""

    def seal(self, value: Any, dest: str) -> bytes:
        """Seal a value for a client."""

    def stranger(self, connection: Connection) -> None:
        """Count a connection that has not shown the key."""

    def no_stranger(self, connection: Connection) -> None:
        """Take it out of the count again."""


class _Question:
    """A question under way; it is cancelled as a task is."""

    __slots__ = ("_number", "_process")

    def __init__(self, process: Process, number: int) -> None:
        self._process, self._number = process, number

    def cancel(self) -> None:
        self._process.calls.give_up(self._number)


class _Claim(_Question):
    """The claim of a task that ends with whoever claims it."""

    __slots__ = ("_task",)

    def __init__(self, process: Process, number: int, task: Ref) -> None:
        super().__init__(process, number)
        self._task = task

    def cancel(self) -> None:
        super().cancel()
        self._process.stop_process(self._task, SHUTDOWN)


class Connection(asyncio.Protocol):
    """One client: its requests, and its monitors, which end with the connection."""

    def __init__(self, door: Doorkeeper) -> None:
        """Wait for its first frame."""
        self._door = door
        self._process = door.process
        self._reader = door.new_reader()
        self._dest: str | None = None
        self._closed = False
        self._tasks: dict[int, asyncio.Task[None] | _Question] = {}
        self._monitors: set[int] = set()
        self._program = Program(self._process)
        self._sender = self._program.sender
        #: What is sent when it comes, in its turn: no request of this client overtakes another.
        self._sends: dict[str, Callable[..., None]] = {
            protocol.CALL: self._call,
            protocol.SYSTEM: self._system,
            protocol.SUPERVISOR: self._supervisor,
            protocol.START_SUPERVISOR: self._start_supervisor,
            protocol.CLAIM: self._claim,
            protocol.CAST: self._cast,
            protocol.SEND: self._info,
            protocol.EXIT: self._exit,
        }
        self._own: dict[str, Operation] = {
            protocol.STOP: self._stop,
            protocol.MONITOR: self._monitor,
            protocol.DEMONITOR: self._demonitor,
            _MALFORMED: self._malformed,
            protocol.BYE: self._bye,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the time within which the client has to show the key."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._door.stranger(self)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.close)

    def close(self) -> None:
        """Drop the connection."""
        self._closed = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the requests that are under way, since nobody would read the answers, and its monitors.

        What the client has sent before it went is still sent on.
        """
        if exc is not None and not self._closed:
            self._take_rest()
        self._closed = True
        self._timer.cancel()
        self._door.no_stranger(self)
        for task in list(self._tasks.values()):
            task.cancel()
        self._tasks.clear()
        for monitor in self._monitors:
            self._process.demonitor(monitor)
        self._program.gone()

    def _take_rest(self) -> None:
        """Read what lies in the socket of a client that went without reading its answers; asyncio would drop it."""
        with contextlib.suppress(OSError):
            while not self._closed and (data := os.read(self._transport.get_extra_info("socket").fileno(), 1 << 18)):
                self.data_received(data)

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
                self._process.log.warning("a client sent what is no request: it is disconnected", error=str(error))
                self.close()
                return
        self._process.flush()  # a call goes through three processes: it waits for the next turn of no loop

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
        elif operation in self._sends:
            try:
                self._sends[operation](number, *arguments)
            except SupervisorsError as error:
                self._answer(number, False, error)
            except Exception as error:  # a malformed request must not take the door down
                self._failed(number, operation, error)
        else:
            self._tasks[number] = asyncio.get_running_loop().create_task(self._run(number, operation, arguments))

    # --- what is sent at once ---------------------------------------------------------------------------------------

    def _call(self, number: int, target: Target, request: bytes, timeout: float | None) -> None:
        check_target(target)
        timeout = check_timeout(timeout)
        self._ask(number, self._sender.begin_call(target, _bytes(request), timeout, self._answered(number)))

    def _system(self, number: int, target: Target, name: str, argument: bytes, timeout: float | None) -> None:
        check_target(target)
        timeout = check_timeout(timeout)
        check_text("name", name)
        question = self._sender.begin_system(target, name, _bytes(argument), timeout, self._answered(number))
        self._ask(number, question)

    def _supervisor(self, number: int, target: Target, name: str, argument: Any) -> None:
        check_target(target)
        answered, request = self._answered(number, wire.unpack), wire.pack((name, argument))
        self._ask(number, self._sender.begin_call(target, request, None, answered))

    def _start_supervisor(self, number: int, spec: SupervisorSpec) -> None:
        child = ChildSpec(f"{spec.name or 'supervisor'}-{os.urandom(4).hex()}", spec, restart="temporary")
        root = self._process.boot.parent
        assert root is not None
        self._supervisor(number, root, "start_child", child)

    def _claim(self, number: int, task: Ref, request: bytes, linked: bool) -> None:
        check_ref(task)
        question = self._sender.begin_call(task, _bytes(request), None, self._answered(number))
        self._tasks[number] = _Claim(self._process, question, task) if linked else _Question(self._process, question)

    def _cast(self, number: int, target: Target, message: bytes) -> None:
        check_target(target)
        self._sender.tell(target, Cast, _bytes(message))
        self._answer(number, True, None)

    def _info(self, number: int, target: Target, message: bytes) -> None:
        check_target(target)
        self._sender.tell(target, Info, _bytes(message))
        self._answer(number, True, None)

    def _exit(self, number: int, target: Target, reason: ExitReason) -> None:
        check_target(target)

        def reached(ref: Ref) -> None:
            self._process.exit(ref, reason)
            self._answer(number, True, None)

        self._sender.reach(target, reached, lambda error: self._answer(number, False, error))

    def _ask(self, number: int, question: int) -> None:
        self._tasks[number] = _Question(self._process, question)

    def _answered(self, number: int, opened: Callable[[bytes], Any] = lambda value: value) -> Answered:
        def answered(value: bytes, error: Exception | None) -> None:
            self._tasks.pop(number, None)
            if error is None:
                self._answer(number, True, opened(value))
            else:
                self._answer(number, False, error)

        return answered

    def _failed(self, number: int, operation: str, error: Exception) -> None:
        self._process.log.error("request failed", operation=operation, exc_info=error)
        self._answer(number, False, CallFailed(f"{operation}: {shown_error(error)}"))

    def _hello(self, number: int, arguments: list[Any]) -> None:
        match arguments:
            case [wire.VERSION, str(dest)]:
                self._dest = dest
                self._process.lodgers[self._program.ref.uid] = self._program
                self._answer(number, True, self._door.about())
            case [version, str(dest)]:
                self._dest = dest
                other = CallFailed(
                    f"the node there speaks version {wire.VERSION}, this program {version!r:.20}: "
                    "install one release for both, and start again what runs the older one"
                )
                host = (self._transport.get_extra_info("peername") or ("?",))[0]
                security_log.note("refused connection", host, f"it speaks version {version!r:.20}, not {wire.VERSION}")
                self._answer(number, False, other)
            case _:
                self.close()  # nobody to answer to

    # --- what takes a while -----------------------------------------------------------------------------------------

    async def _run(self, number: int, operation: str, arguments: list[Any]) -> None:
        try:
            value = await self._operation(operation)(*arguments)
        except SupervisorsError as error:
            self._answer(number, False, error)
        except Exception as error:  # a malformed request must not take the door down
            self._failed(number, operation, error)
        else:
            self._answer(number, True, value)
        finally:
            self._tasks.pop(number, None)

    def _operation(self, name: str) -> Operation:
        """Return what does an operation: this connection where it has to do with the connection, else the door."""
        run = self._own.get(name) or self._door.operations.get(name)
        if run is None:
            raise CallFailed(f"the door has no operation {name!r:.100}")
        return run

    async def _stop(self, target: Target, reason: ExitReason, timeout: float | None) -> None:
        check_target(target)
        await self._process.stop(await self._sender.room.reach(target), reason, timeout)

    async def _monitor(self, target: Target) -> tuple[int, Ref | None]:
        check_target(target)
        number: list[int] = []
        early: list[Down] = []

        def down(message: Down) -> None:
            if number:
                self._monitors.discard(number[0])
                self._send([protocol.UNASKED, protocol.DOWN, number[0], message])
            else:
                early.append(message)

        ref = await self._sender.room.reach(target)
        monitor = await self._process.watch_once(ref, down)
        number.append(monitor)
        if early:
            asyncio.get_running_loop().call_soon(down, early[0])
        else:
            self._monitors.add(monitor)
        return monitor, ref

    async def _demonitor(self, number: int) -> None:
        if number in self._monitors:
            self._monitors.discard(number)
            self._process.demonitor(number)

    async def _bye(self) -> None:
        """Return when all that this client has sent has arrived where it was for, or after a while."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        leave = partial(self._process.when_sent, partial(settle, sent, None))
        self._sender.room.when_empty(leave, BYE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sent, BYE_SECONDS)

    async def _malformed(self, why: str) -> None:
        raise CallFailed(why)

    def _answer(self, number: int, ok: bool, value: Any) -> None:
        if number == protocol.UNASKED:
            return
        try:
            self._send([number, ok, value])
        except Exception as error:  # too large, or of a shape that cannot be sent
            self._send([number, False, CallFailed(f"the answer cannot be sent: {error}")])

    def _send(self, value: Any) -> None:
        if not self._transport.is_closing() and self._dest is not None:
            self._transport.write(self._door.seal(value, self._dest))


def _bytes(value: Any) -> bytes:
    """Return a user's packed value.

    Raises:
        SpecError: it is not packed.
    """
    if not isinstance(value, bytes):
        raise SpecError.of("value", value, "packed bytes")
    return value


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
