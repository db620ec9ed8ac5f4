"""A GenServer's process, user side: its life, its messages, its handlers, on one asyncio loop.

It runs in the loop's thread and knows no Thespian: what it sends goes to an `Outlet`, what comes in is handed to
`deliver`. The other side is runtime/thespian/leaf.py. Its parts: mailbox.py (what waits), calls.py (questions and
answers), bonds.py (monitors and links), inspection.py (how it looks from outside).
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from supervisors.genserver import IGNORE, NO_REPLY, Extra, GenServer, Stop
from supervisors.host import processes as fate
from supervisors.host.meters import Meter
from supervisors.runtime.process import inspection
from supervisors.runtime.process.bonds import Bonds
from supervisors.runtime.process.calls import Calls
from supervisors.runtime.process.mailbox import Continue, Crash, Local, Mailbox
from supervisors.runtime.process.names import Names
from supervisors.runtime.process.peers import Peers
from supervisors.terms.errors import CallFailed, CallTimeout, NoProcess, SupervisorsError
from supervisors.terms.reason import KILL, KILLED, NOPROC, NORMAL, Caller, Down, ExitReason, Ref
from supervisors.terms.spec import ChildSpec
from supervisors.terms.via import Via
from supervisors.wire import pickles as sealing
from supervisors.wire.messages import (
    Abandon,
    Boot,
    BootResult,
    Call,
    Cast,
    ChildExited,
    Ending,
    Exit,
    Info,
    Link,
    Message,
    RegistryIs,
    Reply,
    System,
    Unlink,
    Unwatch,
    Watch,
    encode,
    open_parcel,
)
from supervisors.wire.messages import Stop as StopMessage
from supervisors.wire.values import pack, pack_value, unpack

#: How long the tasks that a server has spawned get to end when they are cancelled.
TASK_SECONDS = 1.0
#: After so many seconds of handlers that never wait, the loop gets a turn: replies, deaths and timers must come in.
TURN_SECONDS = 0.01


class Outlet(Protocol):
    """The way out of a process."""

    def post(self, host: str, port: int, message: bytes) -> None:
        """Send an encoded message; from the loop's thread."""

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back in the loop once everything that has arrived by now is delivered."""

    def finish(self) -> None:
        """Flush what was posted and end the process."""


class Process:
    """One running GenServer."""

    def __init__(self, boot: Boot, ref: Ref, outlet: Outlet, loop: asyncio.AbstractEventLoop, log: Any) -> None:
        """Make it; `start` runs it."""
        self.boot, self.ref, self.log, self.loop = boot, ref, log, loop
        self.name: str | Via | None = boot.name
        self.node = boot.node
        self.trap_exit = False
        self.serving = False
        self._outlet = outlet
        self._server: GenServer | None = None
        self._extra: bytes | None = None
        #: The message in hand, and who waits for its answer: for the crash report.
        self._current: tuple[Any, Caller | None] = (None, None)
        self._last_reply: tuple[Caller, Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = self._gone = self._reported = False
        self.meter = Meter()
        ids = itertools.count(1)
        self.mailbox = Mailbox(loop, self.meter.waiting)
        self.peers = Peers(ref.host, self, outlet.settle, lambda *end: self.bonds.bury(*end))  # noqa: PLW0108 - not there yet
        self.calls = Calls(ref, loop, ids, self.post, self.peers)
        self.bonds: Bonds = Bonds(self, ids)
        self.names = Names(boot.registry, self.call_packed, self.peers)

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: register the name, run init, then take messages."""
        self._main_task = self.loop.create_task(self._main())

    async def _main(self) -> None:
        try:
            outcome = await self._init()
        except BaseException as error:
            if not self._gone:  # an exit signal has ended it meanwhile
                self._init_failed(error)
            return
        self._boot_result(outcome, None, None)
        if outcome == "ignored":
            self._say_goodbye(NORMAL)
            return
        self.serving = True
        reason = await self._serve()
        if not self._gone:
            await self._end(reason)

    def _init_failed(self, error: BaseException) -> None:
        reason = _reason_of(error)
        self._boot_result("failed", reason, error if isinstance(error, SupervisorsError) else None)
        if not isinstance(error, Stop):  # who declines in order writes no crash report
            self.log.error("init failed", error=str(reason), exc_info=error)
        self._say_goodbye(reason)

    async def _init(self) -> str:
        cls, args, kwargs = sealing.open_start(self.boot.start, self.boot.args, self.boot.kwargs)
        if isinstance(self.name, Via):
            self.name = unpack(pack(self.name), trusted=True)  # its key may be a user's object
        if self.name is not None:
            await self.names.register(self.name, self.ref)
        server: GenServer = cls()
        server._process = self
        self._server = server
        outcome = await _maybe(server.init(*args, **kwargs))
        if isinstance(outcome, Extra):
            self._extra = pack_value(outcome.value, "Extra")
        elif outcome is not None and outcome is not IGNORE:
            got = f"{type(server).__name__}.init returned {outcome!r:.200}"
            raise TypeError(f"bad return value: {got}; expected None, IGNORE or Extra(...): keep state on self")
        return "ignored" if outcome is IGNORE else "started"

    def _boot_result(self, outcome: str, reason: ExitReason | None, error: SupervisorsError | None) -> None:
        parent, boot = self.boot.parent, self.boot
        if parent is not None:
            ref = self.ref if outcome == "started" else None
            self.post(
                parent, BootResult(parent.uid, boot.key, boot.generation, outcome, ref, reason, error, self._extra)
            )

    async def _serve(self) -> ExitReason:
        """Handle one message after the other until something ends the server."""
        turn = self.loop.time()
        while True:
            message = self.mailbox.next()
            if message is None:
                if await self.mailbox.wait():
                    turn = self.loop.time()
                    continue
                message = self.mailbox.next() or Local("timeout")  # what has come meanwhile goes first
            self.meter.begin(len(self.mailbox))
            try:
                await self._handle(message)
            except Stop as stop:
                return stop.reason
            except BaseException as error:  # sys.exit() in a handler is a crash too
                if self._gone:
                    return KILLED
                self._report_crash(ExitReason.crash(error), error)
                return ExitReason.crash(error)
            if self._gone:  # and the handler took no notice of it
                return KILLED
            self._current = (None, None)
            self.meter.end()
            if self.loop.time() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = self.loop.time()

    async def _handle(self, message: Any) -> None:
        server = self._server
        assert server is not None
        if isinstance(message, System):
            self._handle_system(server, message)
            return
        self.mailbox.idle = None
        match message:
            case Call():
                await self._handle_call(server, message)
            case Cast() | Info():
                try:
                    value = unpack(message.message, trusted=True)
                except Exception as error:
                    self.log.error("a message that cannot be opened here was dropped", error=repr(error))
                    return
                self._current = (value, None)
                handle = server.handle_cast if isinstance(message, Cast) else server.handle_info
                await _maybe(handle(value))
            case StopMessage():
                raise Stop(message.reason)
            case Local():
                self._current = (message.value, None)
                await _maybe(server.handle_info(message.value))
            case Continue():
                self._current = (("continue", message.value), None)
                await _maybe(server.handle_continue(message.value))
                await asyncio.sleep(0)  # a chain of them must not keep the loop from everything else
            case Crash():
                raise message.error

    async def _handle_call(self, server: GenServer, message: Call) -> None:
        caller = Caller(message.sender, message.id, self.ref)
        try:
            request = unpack(message.request, trusted=True)
        except Exception as error:
            # The caller's mistake (a class that is not here, say), not the server's.
            self.reply_error(caller, CallFailed(f"the request cannot be opened here: {error!r}"))
            return
        self._current = (request, caller)
        try:
            value = await _maybe(server.handle_call(request, caller))
        except Stop as stop:
            if stop.has_reply:
                self._last_reply = (caller, stop.reply)
            raise
        if value is not NO_REPLY:
            self.reply(caller, value)

    def _handle_system(self, server: GenServer, message: System) -> None:
        """Answer a question about the server itself; what is wrong with it is the asker's mistake."""
        caller = Caller(message.sender, message.id, self.ref)
        try:
            value = inspection.answer(self, server, message.name, unpack(message.argument, trusted=True))
        except Exception as error:
            self.reply_error(caller, error)
        else:
            self.reply(caller, value)

    async def _end(self, reason: ExitReason) -> None:
        self._ending = True
        if reason.abnormal and not self._reported:
            self._report_crash(reason, None)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TASK_SECONDS)
        assert self._server is not None
        try:
            await _maybe(self._server.terminate(reason))
        except BaseException as error:
            self.log.error("terminate failed", exc_info=error)
            reason = ExitReason.crash(error)
        if self._last_reply is not None:
            self.reply(*self._last_reply)
        self._say_goodbye(reason)

    def _report_crash(self, reason: ExitReason, error: BaseException | None) -> None:
        assert self._server is not None
        message, caller = self._current
        self.log.error("crashed", exc_info=error, **inspection.crash_report(self._server, message, caller, reason))
        self._reported = True

    def _say_goodbye(self, reason: ExitReason) -> None:
        self._ending = self._gone = True
        for other in self.bonds.audience() | self.calls.callers():
            self.post(other, Ending(other.uid, self.ref, reason))
        registry, parent = self.names.registry, self.boot.parent
        if isinstance(self.name, str) and registry is not None:
            self.post(registry, Cast(registry.uid, pack(("unregister", self.name, self.ref))))
        if parent is not None:
            self.post(parent, ChildExited(parent.uid, self.boot.key, self.boot.generation, reason))
        self._outlet.finish()

    def exit_signal(self, ref: Ref, reason: ExitReason) -> None:
        """Take the exit signal of a linked process, or one that was sent by hand."""
        if self._gone or (self._ending and reason != KILL):
            return
        if reason == KILL:
            self._die(KILLED)
        elif self.trap_exit:
            self.mailbox.exited(ref, reason)
        elif reason.kind != "normal":
            self._die(reason)

    def _die(self, reason: ExitReason) -> None:
        """End here and now, whatever a handler is waiting for; terminate is not called."""
        self.log.info("ended by an exit signal", reason=str(reason))
        self._say_goodbye(reason)
        self._main_task.cancel()

    # --- what comes in --------------------------------------------------------------------------------------

    def deliver(self, messages: list[Message]) -> None:
        """Take messages in; those of the system at once, the user's in order."""
        for message in messages:
            if message.to != self.ref.uid or (self._ending and isinstance(message, Call | System)):
                if isinstance(message, Call | System):
                    gone = NoProcess("the process that this call was for has ended", reason=NOPROC)
                    self.calls.answer(message.sender, message.id, False, pack(gone))
                continue
            match message:
                case Reply():
                    if message.ok:
                        self.bonds.accepted(message.id)
                    else:
                        self.bonds.unwatchable(message.id)
                    self.calls.replied(message)
                case Ending():
                    self.bonds.is_ending(message.ref, message.reason)
                case Watch():
                    self.bonds.watched(message)
                case Unwatch():
                    self.bonds.unwatched(message)
                case Link():
                    self.bonds.linked(message.sender)
                case Unlink():
                    self.bonds.unlinked(message.sender)
                case Exit():
                    self.exit_signal(message.sender, message.reason)
                case Abandon():
                    self.calls.abandoned(message)
                case RegistryIs():
                    if self.names.moved(message.registry) and isinstance(self.name, str):
                        self.spawn(self.names.register(self.name, self.ref))
                case Call() | System():
                    self.calls.opened(message)
                    self.mailbox.put(message)
                case _:
                    self.mailbox.put(message)

    def undelivered(self, parcel: bytes) -> None:
        """Fail the calls of a parcel that nobody took: they were not carried out."""
        for message in open_parcel(parcel):
            if isinstance(message, Call | System | Watch):
                self.bonds.unwatchable(message.id)
                self.calls.undelivered(message.id)
            elif isinstance(message, Link):
                self.bonds.link_refused(message.to)

    def down(self, number: int, ref: Ref | None, reason: ExitReason) -> None:
        """Have handle_info told what a monitor saw."""
        self.mailbox.down(number, ref, reason)

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back once everything that has arrived by now is delivered."""
        self._outlet.settle(callback)

    # --- what goes out --------------------------------------------------------------------------------------

    def post(self, to: Ref, message: Message) -> None:
        """Send a message of the system."""
        if to == self.ref:
            self.loop.call_soon(self.deliver, [message])
        else:
            self._outlet.post(to.host, to.port, encode(message))

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call, once."""
        self.calls.reply(caller, value)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer a call by an error."""
        self.calls.reply_error(caller, error)

    async def call(self, target: Ref | str | Via, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask and wait for the reply."""
        return unpack(await self.call_name(target, pack_value(request, "request"), timeout), trusted=True)

    async def call_name(self, target: Ref | str | Via, request: bytes, timeout: float | None) -> bytes:
        """Ask with a packed request; a name that was just taken over is looked up once more."""
        ref = await self.names.resolve(target)
        try:
            return await self.call_packed(ref, request, timeout)
        except NoProcess:
            if isinstance(target, Ref):
                raise
            self.names.forget(target, ref)  # it has ended, and has not carried this call out
            successor = await self.names.resolve(target)
            if successor == ref:
                raise
            return await self.call_packed(successor, request, timeout)

    async def call_packed(self, ref: Ref, request: bytes, timeout: float | None) -> bytes:
        """Ask with a packed request; the reply is packed too."""
        return await self.calls.call(ref, request, timeout)

    def cast(self, target: Ref | str | Via, message: Any) -> None:
        """Send a cast; to a name, it is looked up on the way."""
        self._send(target, Cast("", pack_value(message, "message")))

    def send(self, target: Ref | str | Via, message: Any) -> None:
        """Send a message to handle_info."""
        self._send(target, Info("", pack_value(message, "message")))

    def _send(self, target: Ref | str | Via, message: Cast | Info) -> None:
        ref = self.names.known(target) if isinstance(target, str) else target
        if isinstance(ref, Ref):
            self.post(ref, type(message)(ref.uid, message.message))
        else:
            self.spawn(self.send_packed(target, message))

    async def send_packed(self, target: Ref | str | Via, message: Cast | Info) -> None:
        """Send to a name; nobody there is fine too."""
        with contextlib.suppress(SupervisorsError):
            ref = await self.names.resolve(target)
            self.post(ref, type(message)(ref.uid, message.message))

    async def supervise(self, supervisor: Ref | str | Via, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor."""
        sealed = sealing.seal(argument) if isinstance(argument, ChildSpec) else argument
        ref = await self.names.resolve(supervisor)
        return unpack(await self.call_packed(ref, pack_value((name, sealed), "request"), None))

    async def stop(self, target: Ref, reason: ExitReason, timeout: float | None) -> None:
        """End another process, and return when it is gone.

        Raises:
            NoProcess: it had ended.
            CallTimeout: it takes longer than `timeout` seconds; the stop goes on.
        """
        gone: asyncio.Future[Down] = self.loop.create_future()
        watch = await self.watch_once(target, gone.set_result)
        if gone.done():
            raise NoProcess(f"{target} has ended", reason=gone.result().reason)
        self.stop_process(target, reason)
        try:
            async with asyncio.timeout(timeout):
                await gone
        except TimeoutError:
            raise CallTimeout(f"{target} has not ended within {timeout:g} s; its stop goes on") from None
        finally:
            self.demonitor(watch)

    def stop_process(self, target: Ref, reason: ExitReason) -> None:
        """Ask another process to end."""
        self.post(target, StopMessage(target.uid, reason))

    def exit(self, target: Ref, reason: ExitReason) -> None:
        """Send an exit signal. A kill on this host is the kernel's: it ends a process that takes no messages too."""
        if reason == KILL and target.host == self.ref.host:
            fate.kill_exactly(target.pid, target.born)
        else:
            self.post(target, Exit(target.uid, self.ref, reason))

    # --- monitors -------------------------------------------------------------------------------------------

    def monitor(self, target: Ref | str | Via) -> int:
        """Watch a process; Down comes to handle_info."""
        if isinstance(target, Ref):
            return self.bonds.monitor(target)
        number = self.bonds.new_monitor()
        self.spawn(self._monitor_name(target, number))
        return number

    async def _monitor_name(self, name: str | Via, number: int) -> None:
        try:
            self.bonds.monitor(await self.names.resolve(name), number)
        except SupervisorsError:
            self.bonds.down(number, NOPROC)

    async def watch_once(self, target: Ref, on_down: Callable[[Down], None]) -> int:
        """Watch a process for a caller outside; in force when this returns."""
        return await self.bonds.watch_once(target, on_down)

    def demonitor(self, number: int, flush: bool = False) -> None:
        """Forget a monitor; with `flush` also the Down that it has put into the mailbox."""
        self.bonds.demonitor(number)
        if flush:
            self.mailbox.drop(number)

    def unlink(self, target: Ref) -> None:
        """Undo a link; its exit message is taken out of the mailbox too."""
        self.bonds.unlink(target)
        self.mailbox.drop(target)

    # --- timers, tasks --------------------------------------------------------------------------------------

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver a message to handle_info later."""
        return self.loop.call_later(seconds, self.mailbox.put, Local(message))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task whose crash is the server's."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._ending:
            self.mailbox.put(Crash(error))


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _reason_of(error: BaseException) -> ExitReason:
    return error.reason if isinstance(error, Stop) else ExitReason.crash(error)
