"""A GenServer's process, user side: mailbox, calls, monitors and timers on one asyncio loop.

It runs in the loop's thread and knows no Thespian: what it sends goes to an `Outlet`, what comes in is handed to
`deliver`. The other side is runtime/leaf_host.py.
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from supervisors.errors import CallFailed, CallTimeout, NoProcess, ServerExited, SupervisorsError
from supervisors.genserver import IGNORE, NO_REPLY, Extra, GenServer, Stop
from supervisors.reason import KILLED, NOPROC, NORMAL, Down, ExitReason, Ref
from supervisors.runtime import sealing
from supervisors.runtime.messages import (
    Boot,
    BootResult,
    Call,
    Cast,
    ChildExited,
    Ending,
    Info,
    Message,
    RegistryIs,
    Reply,
    Unwatch,
    Watch,
    encode,
    open_parcel,
)
from supervisors.runtime.messages import Stop as StopMessage
from supervisors.runtime.meters import Meter
from supervisors.runtime.names import Names
from supervisors.runtime.peers import Peers
from supervisors.runtime.wire import pack, pack_value, unpack
from supervisors.spec import ChildSpec
from supervisors.via import Via

#: How long the tasks that a server has spawned get to end when they are cancelled.
TASK_SECONDS = 1.0


class Caller(NamedTuple):
    """Who waits for a reply."""

    ref: Ref
    id: int


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
        self._outlet = outlet
        self._server: GenServer | None = None
        self._mailbox: deque[Any] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[bytes], Ref]] = {}
        self._open_callers: set[Caller] = set()
        self._watchers: dict[Ref, set[int]] = {}
        self._monitors: dict[int, Ref] = {}
        self._down_hooks: dict[int, Callable[[Down], None]] = {}
        self._last_words: dict[Ref, ExitReason] = {}
        self._last_reply: tuple[Caller, Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._extra: bytes | None = None
        self.meter = Meter()
        self.peers = Peers(ref.host, loop, outlet.settle, self._bury)
        self.names = Names(boot.registry, self.call_packed, self.peers)

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: register the name, run init, then take messages."""
        self._main_task = self.loop.create_task(self._main())

    async def _main(self) -> None:
        try:
            outcome = await self._init()
        except BaseException as error:
            reason = _reason_of(error)
            self._boot_result("failed", reason, error if isinstance(error, SupervisorsError) else None)
            self.log.error("init failed", error=str(reason))
            self._say_goodbye(reason)
            return
        self._boot_result(outcome, None, None)
        if outcome == "ignored":
            self._say_goodbye(NORMAL)
            return
        await self._end(await self._serve())

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
        return "ignored" if outcome is IGNORE else "started"

    def _boot_result(self, outcome: str, reason: ExitReason | None, error: SupervisorsError | None) -> None:
        parent, boot = self.boot.parent, self.boot
        if parent is not None:
            ref = self.ref if outcome == "started" else None
            result = BootResult(parent.uid, boot.key, boot.generation, outcome, ref, reason, error, self._extra)
            self.post(parent, result)

    async def _serve(self) -> ExitReason:
        """Handle one message after the other until something ends the server."""
        while True:
            while self._mailbox:
                try:
                    message = self._mailbox.popleft()
                    self.meter.begin(len(self._mailbox))
                    await self._handle(message)
                    self.meter.end()
                except Stop as stop:
                    return stop.reason
                except BaseException as error:  # sys.exit() in a handler is a crash too
                    self.log.error("crashed", exc_info=error)
                    return ExitReason.crash(error)
            self._wake = self.loop.create_future()
            await self._wake
            self._wake = None

    async def _handle(self, message: Any) -> None:
        server = self._server
        assert server is not None
        match message:
            case Call():
                await self._handle_call(server, message)
            case Cast() | Info():
                try:
                    value = unpack(message.message, trusted=True)
                except Exception as error:
                    self.log.error("a message that cannot be opened here was dropped", error=repr(error))
                    return
                handle = server.handle_cast if isinstance(message, Cast) else server.handle_info
                await _maybe(handle(value))
            case StopMessage():
                raise Stop(message.reason)
            case _Local():
                await _maybe(server.handle_info(message.value))
            case _Crash():
                raise message.error

    async def _handle_call(self, server: GenServer, message: Call) -> None:
        caller = Caller(message.sender, message.id)
        try:
            request = unpack(message.request, trusted=True)
        except Exception as error:
            # The caller's mistake (a class that is not here, say), not the server's.
            self.reply_error(caller, CallFailed(f"the request cannot be opened here: {error!r}"))
            return
        try:
            value = await _maybe(server.handle_call(request, caller))
        except Stop as stop:
            if stop.has_reply:
                self._last_reply = (caller, stop.reply)
            raise
        if value is not NO_REPLY:
            self.reply(caller, value)

    async def _end(self, reason: ExitReason) -> None:
        self._ending = True
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

    def _say_goodbye(self, reason: ExitReason) -> None:
        self._ending = True
        watchers = {ref for ref, numbers in self._watchers.items() if numbers}
        for other in watchers | {caller.ref for caller in self._open_callers}:
            self.post(other, Ending(other.uid, self.ref, reason))
        registry, parent = self.names.registry, self.boot.parent
        if isinstance(self.name, str) and registry is not None:
            self.post(registry, Cast(registry.uid, pack(("unregister", self.name, self.ref))))
        if parent is not None:
            self.post(parent, ChildExited(parent.uid, self.boot.key, self.boot.generation, reason))
        self._outlet.finish()

    # --- what comes in --------------------------------------------------------------------------------------

    def deliver(self, messages: list[Message]) -> None:
        """Take messages in; those of the system at once, the user's in order."""
        for message in messages:
            if message.to != self.ref.uid or (self._ending and isinstance(message, Call)):
                if isinstance(message, Call):
                    gone = NoProcess("the process that this call was for has ended", reason=NOPROC)
                    self._answer(Caller(message.sender, message.id), False, pack(gone))
                continue
            match message:
                case Reply():
                    self._replied(message)
                case Ending():
                    self._is_ending(message.ref, message.reason)
                case Watch():
                    self._watched(message)
                case Unwatch():
                    self._watchers.get(message.watcher, set()).discard(message.id)
                case RegistryIs():
                    if self.names.moved(message.registry) and isinstance(self.name, str):
                        self.spawn(self.names.register(self.name, self.ref))
                case Call():
                    self._open_callers.add(Caller(message.sender, message.id))
                    self._put(message)
                case _:
                    self._put(message)

    def _put(self, item: Any) -> None:
        self._mailbox.append(item)
        self.meter.waiting(len(self._mailbox))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _replied(self, message: Reply) -> None:
        future, _ = self._pending.get(message.id, (None, None))
        if future is None or future.done():
            return  # nobody waits for it any more
        if message.ok:
            future.set_result(message.value)
        else:
            future.set_exception(unpack(message.value))

    def _watched(self, message: Watch) -> None:
        watcher = message.watcher
        if watcher not in self._watchers:
            with contextlib.suppress(NoProcess):
                self.peers.on_death(watcher, self._forget_watcher)
                self._watchers[watcher] = set()
        if watcher in self._watchers:
            self._watchers[watcher].add(message.id)
            self._answer(Caller(watcher, message.id), True, b"")

    def _forget_watcher(self, watcher: Ref) -> None:
        self._watchers.pop(watcher, None)

    def undelivered(self, parcel: bytes) -> None:
        """Fail the calls of a parcel that nobody took: they were not carried out."""
        for message in open_parcel(parcel):
            if isinstance(message, Call | Watch) and message.id in self._pending:
                future, ref = self._pending[message.id]
                if not future.done():
                    future.set_exception(NoProcess(f"nobody answers at {ref}", reason=NOPROC))

    # --- what goes out --------------------------------------------------------------------------------------

    def post(self, to: Ref, message: Message) -> None:
        """Send a message of the system."""
        if to == self.ref:
            self.loop.call_soon(self.deliver, [message])
        else:
            self._outlet.post(to.host, to.port, encode(message))

    def _answer(self, caller: Caller, ok: bool, value: bytes) -> None:
        self.post(caller.ref, Reply(caller.ref.uid, caller.id, ok, value))

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call, once."""
        if caller not in self._open_callers:
            return
        try:
            packed = pack_value(value, "reply")
        except CallFailed as error:
            self.reply_error(caller, error)
        else:
            self._open_callers.discard(caller)
            self._answer(caller, True, packed)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer a call by an error."""
        if caller in self._open_callers:
            self._open_callers.discard(caller)
            record = error if isinstance(error, SupervisorsError) else CallFailed(f"{type(error).__name__}: {error}")
            self._answer(caller, False, pack(record))

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
        """Ask with a packed request; the reply is packed too.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
        """
        if ref == self.ref:
            raise CallFailed("a server cannot call itself: it would wait for its own handler")
        number = next(self._ids)
        return await self._ask(ref, number, Call(ref.uid, number, self.ref, request), timeout)

    async def _ask(self, ref: Ref, number: int, message: Message, timeout: float | None) -> bytes:
        self.peers.watch(ref)
        future: asyncio.Future[bytes] = self.loop.create_future()
        self._pending[number] = (future, ref)
        timer = None if timeout is None else self.loop.call_later(timeout, _time_out, future, ref, timeout)
        try:
            self.post(ref, message)
            return await future
        finally:
            del self._pending[number]
            if timer is not None:
                timer.cancel()

    def cast(self, target: Ref | str | Via, message: Any) -> None:
        """Send a cast; to a name, it is looked up on the way."""
        packed = pack_value(message, "message")
        ref = self.names.known(target) if isinstance(target, str) else target
        if isinstance(ref, Ref):
            self.post(ref, Cast(ref.uid, packed))
        else:
            self.spawn(self._cast_to_name(target, packed))

    async def _cast_to_name(self, name: Ref | str | Via, packed: bytes) -> None:
        with contextlib.suppress(SupervisorsError):
            ref = await self.names.resolve(name)
            self.post(ref, Cast(ref.uid, packed))

    async def supervise(self, supervisor: Ref | str | Via, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor."""
        sealed = sealing.seal(argument) if isinstance(argument, ChildSpec) else argument
        ref = await self.names.resolve(supervisor)
        return unpack(await self.call_packed(ref, pack_value((name, sealed), "request"), None))

    def stop_process(self, target: Ref, reason: ExitReason) -> None:
        """Ask another process to end."""
        self.post(target, StopMessage(target.uid, reason))

    # --- monitors -------------------------------------------------------------------------------------------

    def monitor(self, target: Ref) -> int:
        """Watch a process; Down comes to handle_info."""
        number = next(self._ids)
        self._monitors[number] = target
        try:
            self.peers.watch(target)
        except NoProcess:
            self.loop.call_soon(self._down, number, NOPROC)
        else:
            self.post(target, Watch(target.uid, number, self.ref))
        return number

    async def watch_once(self, target: Ref, on_down: Callable[[Down], None]) -> int:
        """Watch a process for a caller outside; in force when this returns."""
        number = next(self._ids)
        self._monitors[number] = target
        self._down_hooks[number] = on_down
        try:
            with contextlib.suppress(CallTimeout):  # a frozen process does not answer; its pid is watched all the same
                await self._ask(target, number, Watch(target.uid, number, self.ref), 1.0)
        except (NoProcess, ServerExited):
            self._down(number, NOPROC)  # it ended before the watch was in force
        except asyncio.CancelledError:
            self.demonitor(number)
            raise
        return number

    def demonitor(self, number: int) -> None:
        """Forget a monitor."""
        target = self._monitors.pop(number, None)
        self._down_hooks.pop(number, None)
        if target is not None:
            self.post(target, Unwatch(target.uid, number, self.ref))

    def _down(self, number: int, reason: ExitReason) -> None:
        target = self._monitors.pop(number, None)
        if target is None:
            return
        hook = self._down_hooks.pop(number, None)
        if hook is not None:
            hook(Down(target, reason))
        else:
            self._put(_Local(Down(target, reason)))

    def _is_ending(self, ref: Ref, reason: ExitReason) -> None:
        if self.peers.sees(ref):
            self._last_words[ref] = reason  # told when it is gone, its name and port with it
        elif ref.host != self.ref.host:
            self._tell_of(ref, reason)

    def _bury(self, ref: Ref) -> None:
        """A process has ended, and what it had to say has been taken."""
        self._tell_of(ref, self._last_words.pop(ref, KILLED))

    def _tell_of(self, ref: Ref, reason: ExitReason) -> None:
        for future, callee in list(self._pending.values()):
            if callee == ref and not future.done():
                future.set_exception(ServerExited(f"{ref} ended during the call: {reason}", reason=reason))
        for number in [number for number, target in self._monitors.items() if target == ref]:
            self._down(number, reason)

    # --- timers, tasks --------------------------------------------------------------------------------------

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver a message to handle_info later."""
        return self.loop.call_later(seconds, self._put, _Local(message))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task whose crash is the server's."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._ending:
            self._put(_Crash(error))


class _Local:
    """A message from this process itself; its value was never bytes."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Crash:
    """A task that the server spawned has failed."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _reason_of(error: BaseException) -> ExitReason:
    return error.reason if isinstance(error, Stop) else ExitReason.crash(error)


def _time_out(future: asyncio.Future[bytes], ref: Ref, seconds: float) -> None:
    if not future.done():
        late = "it goes on, and its late reply is dropped"
        future.set_exception(CallTimeout(f"no reply from {ref} within {seconds:g} s; {late}"))
