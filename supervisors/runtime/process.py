"""A GenServer's process, user side: mailbox, calls, monitors and timers on one asyncio loop.

It runs in the loop's thread and knows no Thespian: what it sends goes to an `Outlet`, what comes in is handed to
`deliver`. The other side is runtime/leaf_host.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from supervisors.errors import AlreadyStarted, CallFailed, CallTimeout, NoProcess, ServerExited, SupervisorsError
from supervisors.genserver import IGNORE, NO_REPLY, GenServer, Stop
from supervisors.reason import KILLED, NOPROC, NORMAL, Down, ExitReason, Ref
from supervisors.runtime import fate, sealing
from supervisors.runtime.messages import (
    Boot,
    BootResult,
    Call,
    Cast,
    ChildExited,
    Info,
    Message,
    RegistryIs,
    Reply,
    Unwatch,
    Watch,
    WatchedDown,
    encode,
)
from supervisors.runtime.messages import Stop as StopMessage
from supervisors.runtime.wire import pack, unpack
from supervisors.spec import ChildSpec

#: After a death is seen, its reason may still be on its way for this many seconds.
REASON_GRACE = 0.05
#: How long a lookup waits for a restarting registry.
REGISTRY_WAIT = 3.0


class Caller(NamedTuple):
    """Who waits for a reply."""

    ref: Ref
    id: int


class Outlet(Protocol):
    """The way out of a process."""

    def post(self, host: str, port: int, message: bytes) -> None:
        """Send an encoded message; from the loop's thread."""

    def finish(self) -> None:
        """Flush what was posted and end the process."""


class _Peer:
    """Another process whose death somebody here waits for."""

    __slots__ = ("ended", "fd", "on_death")

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.ended = False
        self.on_death: list[Callable[[Ref], None]] = []


class Process:
    """One running GenServer."""

    def __init__(self, boot: Boot, ref: Ref, outlet: Outlet, loop: asyncio.AbstractEventLoop, log: Any) -> None:
        """Make it; `start` runs it."""
        self.boot, self.ref, self.name, self.log, self.loop = boot, ref, boot.name, log, loop
        self.node = boot.node
        self._outlet = outlet
        self._server: GenServer | None = None
        self._mailbox: deque[Any] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[bytes], Ref]] = {}
        self._open_callers: set[Caller] = set()
        self._watchers: dict[tuple[Ref, int], None] = {}
        self._monitors: dict[int, Ref] = {}
        self._peers: dict[Ref, _Peer] = {}
        self._names: dict[str, Ref] = {}
        self._registry = boot.registry
        self._registry_known = asyncio.Event()
        if boot.registry is not None:
            self._registry_known.set()
        self._down_hooks: dict[int, Callable[[Down], None]] = {}
        self._to_tell: tuple[Caller, Stop] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: register the name, run init, then take messages."""
        self._main_task = self.loop.create_task(self._main())

    async def _main(self) -> None:
        try:
            outcome = await self._init()
        except BaseException as error:
            record = error if isinstance(error, SupervisorsError) else None
            self._boot_result("failed", ExitReason.crash(error), record)
            self.log.error("init failed", error=repr(error))
            self._say_goodbye(ExitReason.crash(error))
            return
        self._boot_result(outcome, None, None)
        if outcome == "ignored":
            self._say_goodbye(NORMAL)
            return
        reason = await self._serve()
        await self._end(reason)

    async def _init(self) -> str:
        cls, args, kwargs = sealing.open_start(self.boot.start, self.boot.args, self.boot.kwargs)
        if self.name is not None:
            await self._register()
        server: GenServer = cls()
        server._process = self
        self._server = server
        return "ignored" if await _maybe(server.init(*args, **kwargs)) is IGNORE else "started"

    async def _register(self) -> None:
        taken = await self._ask_registry(("register", self.name, self.ref))
        if taken is not None:
            raise AlreadyStarted(f"the name {self.name!r} is taken by {taken}", ref=taken)

    def _boot_result(self, outcome: str, reason: ExitReason | None, error: SupervisorsError | None) -> None:
        parent = self.boot.parent
        if parent is not None:
            ref = self.ref if outcome == "started" else None
            self.post(parent, BootResult(parent.uid, self.boot.key, self.boot.generation, outcome, ref, reason, error))

    async def _serve(self) -> ExitReason:
        """Handle one message after the other until something ends the server."""
        while True:
            while self._mailbox:
                try:
                    await self._handle(self._mailbox.popleft())
                except Stop as stop:
                    return stop.reason
                except (Exception, asyncio.CancelledError) as error:
                    self.log.error("crashed", error=repr(error), exc_info=error)
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
            case Cast():
                await _maybe(server.handle_cast(unpack(message.message, trusted=True)))
            case Info():
                await _maybe(server.handle_info(unpack(message.message, trusted=True)))
            case StopMessage():
                raise Stop(message.reason)
            case _Local():
                await _maybe(server.handle_info(message.value))
            case _Crash():
                raise message.error

    async def _handle_call(self, server: GenServer, message: Call) -> None:
        caller = Caller(message.sender, message.id)
        try:
            value = await _maybe(server.handle_call(unpack(message.request, trusted=True), caller))
        except Stop as stop:
            self._to_tell = (caller, stop)
            raise
        except CallFailed as error:
            # No clause for this request: the server crashes, as in OTP; the caller learns why.
            self.reply_error(caller, error)
            raise
        if value is not NO_REPLY:
            self.reply(caller, value)

    async def _end(self, reason: ExitReason) -> None:
        self._ending = True
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        if self._server is not None:
            try:
                await _maybe(self._server.terminate(reason))
            except (Exception, asyncio.CancelledError) as error:
                self.log.error("terminate failed", exc_info=error)
                reason = ExitReason.crash(error)
        if self._to_tell is not None and self._to_tell[1].has_reply:
            self.reply(self._to_tell[0], self._to_tell[1].reply)
        self._say_goodbye(reason)

    def _say_goodbye(self, reason: ExitReason) -> None:
        self._ending = True
        waiting = {Caller(item.sender, item.id) for item in self._mailbox if isinstance(item, Call)} | self._open_callers
        for caller in waiting:
            self.reply_error(caller, ServerExited(f"the server ended during the call: {reason}", reason=reason))
        for watcher, number in self._watchers:
            self.post(watcher, WatchedDown(watcher.uid, number, self.ref, reason))
        if self.name is not None and self._registry is not None:
            self.post(self._registry, Cast(self._registry.uid, pack(("unregister", self.name, self.ref))))
        parent = self.boot.parent
        if parent is not None:
            self.post(parent, ChildExited(parent.uid, self.boot.key, self.boot.generation, reason))
        self._outlet.finish()

    # --- what comes in --------------------------------------------------------------------------------------------

    def deliver(self, messages: list[Message]) -> None:
        """Take messages in; those of the system at once, the user's in order."""
        for message in messages:
            if message.to != self.ref.uid or self._ending and isinstance(message, Call):  # type: ignore[union-attr]
                if isinstance(message, Call):
                    gone = NoProcess("the process that this call was for has ended", reason=NOPROC)
                    self._answer(Caller(message.sender, message.id), False, pack(gone))
                continue
            match message:
                case Reply():
                    waiting = self._pending.get(message.id)
                    if waiting is not None and not waiting[0].done():
                        if message.ok:
                            waiting[0].set_result(message.value)
                        else:
                            waiting[0].set_exception(unpack(message.value))
                case WatchedDown():
                    self._down(message.id, message.reason)
                case Watch():
                    self._watchers[message.watcher, message.id] = None
                    self._answer(Caller(message.watcher, message.id), True, b"")
                    self.on_death(message.watcher, self._forget_watcher)
                case Unwatch():
                    self._watchers.pop((message.watcher, message.id), None)
                case RegistryIs():
                    self._registry_moved(message.registry)
                case Call():
                    self._open_callers.add(Caller(message.sender, message.id))
                    self._put(message)
                case _:
                    self._put(message)

    def _put(self, item: Any) -> None:
        self._mailbox.append(item)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def unreachable(self, host: str, port: int) -> None:
        """Fail the calls to an address that nobody listens on."""
        for future, ref in self._pending.values():
            if (ref.host, ref.port) == (host, port) and not future.done():
                future.set_exception(NoProcess(f"nobody answers at {ref}", reason=NOPROC))

    def _forget_watcher(self, watcher: Ref) -> None:
        for key in [key for key in self._watchers if key[0] == watcher]:
            del self._watchers[key]

    # --- what goes out --------------------------------------------------------------------------------------------

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
        if caller in self._open_callers:
            self._open_callers.discard(caller)
            try:
                packed = pack(value)
            except Exception as error:
                self._answer(caller, False, pack(CallFailed(f"the reply cannot be sent: {error!r}")))
            else:
                self._answer(caller, True, packed)

    def reply_packed(self, caller: Caller, packed: bytes) -> None:
        """Answer a call with a value that is packed already."""
        if caller in self._open_callers:
            self._open_callers.discard(caller)
            self._answer(caller, True, packed)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer a call by an error."""
        if caller in self._open_callers:
            self._open_callers.discard(caller)
            record = error if isinstance(error, SupervisorsError) else CallFailed(f"{type(error).__name__}: {error}")
            self._answer(caller, False, pack(record))

    async def call(self, target: Ref | str, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask and wait for the reply."""
        packed = pack(request)
        return unpack(await self.call_name(target, packed, timeout), trusted=True)

    async def call_packed(self, ref: Ref, request: bytes, timeout: float | None) -> bytes:
        """Ask with a packed request; the reply is packed too.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
        """
        if ref == self.ref:
            raise CallFailed("a server cannot call itself: it would wait for its own handler")
        self._peer(ref)
        number = next(self._ids)
        return await self._ask(ref, number, Call(ref.uid, number, self.ref, request), timeout)

    async def _ask(self, ref: Ref, number: int, message: Message, timeout: float | None) -> bytes:
        future: asyncio.Future[bytes] = self.loop.create_future()
        self._pending[number] = (future, ref)
        timer = None if timeout is None else self.loop.call_later(timeout, _time_out, future, ref, timeout)
        try:
            self.post(ref, message)
            return await future
        except (NoProcess, ServerExited):
            for name in [name for name, known in self._names.items() if known == ref]:
                del self._names[name]
            raise
        finally:
            del self._pending[number]
            if timer is not None:
                timer.cancel()

    def cast(self, target: Ref | str, message: Any) -> None:
        """Send a cast; to a name, it is looked up on the way."""
        packed = pack(message)
        ref = self._names.get(target) if isinstance(target, str) else target
        if ref is not None:
            self.post(ref, Cast(ref.uid, packed))
        else:
            self._beside(self._cast_to_name(str(target), packed))

    async def _cast_to_name(self, name: str, packed: bytes) -> None:
        with contextlib.suppress(SupervisorsError):
            ref = await self.resolve(name)
            self.post(ref, Cast(ref.uid, packed))

    async def supervise(self, supervisor: Ref | str, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor."""
        sealed = sealing.seal(argument) if isinstance(argument, ChildSpec) else argument
        ref = await self.resolve(supervisor)
        return unpack(await self.call_packed(ref, pack((name, sealed)), None))

    async def call_name(self, target: Ref | str, request: bytes, timeout: float | None) -> bytes:
        """Ask with a packed request; a name that was just taken over is looked up once more."""
        ref = await self.resolve(target)
        try:
            return await self.call_packed(ref, request, timeout)
        except NoProcess:
            if isinstance(target, Ref) or self._names.get(target) not in (ref, None):
                raise
            self._names.pop(target, None)  # what we remembered has ended, and has not carried this call out
            successor = await self.resolve(target)
            if successor == ref:
                raise
            return await self.call_packed(successor, request, timeout)

    # --- names ----------------------------------------------------------------------------------------------------

    async def resolve(self, target: Ref | str) -> Ref:
        """Return the ref of a name.

        Raises:
            NoProcess: nobody is registered under it.
        """
        if isinstance(target, Ref):
            return target
        ref = await self.whereis(target)
        if ref is None:
            raise NoProcess(f"nobody is registered as {target!r}", reason=NOPROC)
        return ref

    async def whereis(self, name: str) -> Ref | None:
        """Return who is registered under a name, from memory if that process still lives."""
        known = self._names.get(name)
        if known is not None:
            return known
        ref = await self._ask_registry(("whereis", name))
        if ref is not None:
            try:
                self.on_death(ref, lambda dead: self._names.pop(name, None))
            except NoProcess:
                return None
            self._names[name] = ref
        return ref  # type: ignore[no-any-return]

    async def _ask_registry(self, request: Any) -> Any:
        give_up = self.loop.time() + REGISTRY_WAIT
        while True:
            try:
                async with asyncio.timeout_at(give_up):
                    await self._registry_known.wait()
                assert self._registry is not None
                left = max(give_up - self.loop.time(), 0.1)
                return unpack(await self.call_packed(self._registry, pack(request), left))
            except TimeoutError:
                raise NoProcess("the registry of this node does not answer", reason=NOPROC) from None
            except (NoProcess, ServerExited, CallTimeout):
                if self.loop.time() >= give_up:
                    raise
                self._registry_known.clear()  # its supervisor is restarting it; RegistryIs comes when it is there

    def _registry_moved(self, registry: Ref) -> None:
        if registry != self._registry:
            self._registry = registry
            if self.name is not None:
                self._beside(self._register())
        self._registry_known.set()

    # --- other processes' deaths ----------------------------------------------------------------------------------

    def _peer(self, ref: Ref) -> _Peer:
        peer = self._peers.get(ref)
        if peer is None:
            if ref.host != self.ref.host:
                return _Peer(None)
            try:
                fd = fate.open_pidfd(ref.pid, ref.born)
            except (ProcessLookupError, PermissionError):
                raise NoProcess(f"{ref} has ended", reason=NOPROC) from None
            if fd is not None and fate.has_ended(ref.pid, ref.born, fd):
                fate.close_pidfd(fd)
                raise NoProcess(f"{ref} has ended", reason=NOPROC)
            peer = self._peers[ref] = _Peer(fd)
            if fd is not None:
                self.loop.add_reader(fd, self._peer_ended, ref)
            else:
                self._beside(self._poll_peer(ref))
        if peer.ended:
            raise NoProcess(f"{ref} has ended", reason=NOPROC)
        return peer

    async def _poll_peer(self, ref: Ref) -> None:
        while not fate.has_ended(ref.pid, ref.born):
            await asyncio.sleep(0.5)
        self._peer_ended(ref)

    def on_death(self, ref: Ref, callback: Callable[[Ref], None]) -> None:
        """Call back once when a process of this host has ended.

        Raises:
            NoProcess: it has ended already.
        """
        self._peer(ref).on_death.append(callback)

    def _peer_ended(self, ref: Ref) -> None:
        peer = self._peers[ref]
        peer.ended = True
        if peer.fd is not None:
            self.loop.remove_reader(peer.fd)
            fate.close_pidfd(peer.fd)
            peer.fd = None
        for callback in peer.on_death:
            callback(ref)
        self.loop.call_later(REASON_GRACE, self._bury, ref)

    def _bury(self, ref: Ref) -> None:
        self._peers.pop(ref, None)
        for future, callee in self._pending.values():
            if callee == ref and not future.done():
                future.set_exception(ServerExited(f"{ref} was killed during the call", reason=KILLED))
        for number in [number for number, target in self._monitors.items() if target == ref]:
            self._down(number, KILLED)

    # --- monitors, timers, tasks ----------------------------------------------------------------------------------

    def monitor(self, target: Ref) -> int:
        """Watch a process; Down comes to handle_info."""
        number = next(self._ids)
        self._monitors[number] = target
        try:
            self._peer(target)
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
            self._peer(target)
            with contextlib.suppress(CallTimeout):  # a frozen process does not answer; its pid is watched all the same
                await self._ask(target, number, Watch(target.uid, number, self.ref), 1.0)
        except (NoProcess, ServerExited):
            self._down(number, NOPROC)  # it ended before the watch was in force
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

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver a message to handle_info later."""
        return self.loop.call_later(seconds, self._put, _Local(message))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task whose crash is the server's."""
        return self._beside(coroutine)

    def _beside(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._ending:
            self._put(_Crash(error))

    def stop_process(self, target: Ref, reason: ExitReason) -> None:
        """Ask another process to end."""
        self.post(target, StopMessage(target.uid, reason))


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


def _time_out(future: asyncio.Future[bytes], ref: Ref, seconds: float) -> None:
    if not future.done():
        future.set_exception(CallTimeout(f"no reply from {ref} within {seconds:g} s; it goes on, and its late reply is dropped"))
