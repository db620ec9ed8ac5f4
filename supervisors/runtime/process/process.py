"""A GenServer's process on one asyncio loop: what comes in, what goes out, monitors, timers and tasks.

It runs in the loop's thread and knows no Thespian: what it sends goes to an `Outlet`, what comes in is handed to
`deliver`. The other side is runtime/thespian/leaf.py. Its parts: life.py (init, handlers, the end), mailbox.py (what
waits), calls.py (questions and answers), bonds.py (monitors and links), inspection.py (how it looks from outside).
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import replace
from typing import Any, Protocol

from supervisors.host import processes
from supervisors.host.meters import Meter
from supervisors.runtime.process.bonds import Bonds
from supervisors.runtime.process.calls import Calls
from supervisors.runtime.process.futures import settle
from supervisors.runtime.process.life import Life
from supervisors.runtime.process.mailbox import Crash, Local, Mailbox
from supervisors.runtime.process.names import Names
from supervisors.runtime.process.peers import Peers
from supervisors.runtime.process.sender import Sender
from supervisors.terms.carried import carried
from supervisors.terms.checks import Target
from supervisors.terms.errors import CallFailed, CallTimeout, NoProcess
from supervisors.terms.reason import KILL, KILLED, NOPROC, ExitReason
from supervisors.terms.ref import Caller, Down, Ref, is_program
from supervisors.terms.spec import ChildSpec
from supervisors.terms.via import Via
from supervisors.wire import pickles as sealing
from supervisors.wire.envelope import pack_sent
from supervisors.wire.messages import (
    Abandon,
    Boot,
    Call,
    Cast,
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
from supervisors.wire.values import check_tree, open_value, pack, pack_message, unpack

#: How long the tasks that a server has spawned get to end when they are cancelled.
TASK_SECONDS = 1.0


class Outlet(Protocol):
    """The way out of a process."""

    def post(self, host: str, port: int, message: bytes) -> None:
        """Send an encoded message; from the loop's thread."""

    def flush(self) -> None:
        """Send now what was posted in this turn of the loop."""

    def acknowledge_late(self) -> None:
        """Tell senders that their messages have arrived when these are handled, at the end of a turn."""

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back in the loop once everything that has arrived by now is delivered."""

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back in the loop once everything that was posted by now has arrived, or cannot arrive."""

    def finish(self, orderly: bool) -> None:
        """Flush what was posted and end the process; one that ends `orderly` may do what it does at its end."""


class Lodger(Protocol):
    """Somebody who is reached at the mailbox of a process and is not that process."""

    def take(self, message: Message) -> None:
        """Take a message that is no answer."""


class Process:
    """One running GenServer."""

    def __init__(self, boot: Boot, ref: Ref, outlet: Outlet, loop: asyncio.AbstractEventLoop, log: Any) -> None:
        """Make it; `start` runs it."""
        self.boot, self.ref, self.log, self.loop = boot, ref, log, loop
        self.name: str | Via | None = boot.name
        self.node = boot.node
        self.trap_exit = False
        self._outlet = outlet
        self._tasks: set[asyncio.Task[Any]] = set()
        self.meter = Meter()
        ids = itertools.count(1)
        self.mailbox = Mailbox(loop, self.meter.waiting)
        self.peers = Peers(ref.host, self, outlet.settle, lambda *end: self.bonds.bury(*end))  # noqa: PLW0108 - not there yet
        self.calls = Calls(ref, loop, ids, self.post, self.peers)
        self.bonds: Bonds = Bonds(self, ids)
        self.names = Names(boot.registry, self.calls.call, self.peers)
        #: What this process sends goes through here, each in its turn.
        self.sender = Sender(ref, loop, self.names, self.calls, self.post)
        #: Those that are reached at this process's mailbox beside itself, by uid; a door has them.
        self.lodgers: dict[str, Lodger] = {}
        self.life = Life(self)
        self._thread = threading.get_ident()

    def start(self) -> None:
        """Begin the server's life: register the name, run init, then take messages."""
        self.life.start()

    def flush(self) -> None:
        """Send now what was posted in this turn of the loop."""
        self._outlet.flush()

    def acknowledge_late(self) -> None:
        """Answer first and acknowledge then; for a process that runs no user code."""
        self._outlet.acknowledge_late()

    def finish(self, orderly: bool) -> None:
        """Send what was posted and end the process."""
        self._outlet.finish(orderly)

    # --- exit signals ---------------------------------------------------------------------------------------

    def exit_signal(self, ref: Ref, reason: ExitReason) -> None:
        """Take the exit signal of a linked process, or one that was sent by hand."""
        if self.life.gone or (self.life.ending and reason != KILL):
            return
        if reason == KILL:
            self.life.cut(KILLED)
        elif self.trap_exit:
            self.mailbox.exited(ref, reason)
        elif reason.kind != "normal":
            self.life.cut(reason)

    # --- what comes in --------------------------------------------------------------------------------------

    def deliver(self, messages: list[Message]) -> None:
        """Take messages in: those of the system are dealt with at once, the user's go to the mailbox in order."""
        for message in messages:
            if message.to != self.ref.uid and not self._is_for_lodger(message):
                continue
            if self.life.ending and isinstance(message, Call | System):
                self._refuse(message)
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
                        self.spawn(self.names.register_again(self.name, self.ref))
                case Call() | System():
                    self.calls.opened(message)
                    self.mailbox.put(message)
                case _:
                    self.mailbox.put(message)

    def _is_for_lodger(self, message: Message) -> bool:
        """Hand out a message that is for another than this process; True: it is an answer, and taken as its own."""
        lodger = self.lodgers.get(message.to)
        if lodger is None:
            self._refuse(message)
        elif isinstance(message, Reply | Ending):
            return True
        else:
            lodger.take(message)
        return False

    def _refuse(self, message: Message) -> None:
        """Tell the sender of a message that it was for a process that has ended."""
        gone = NoProcess("the process that this was for has ended", reason=NOPROC)
        match message:
            case Call() | System():
                self.calls.answer(message.sender, message.id, False, pack(gone))
            case Watch() if is_program(message.to):  # else the watcher sees it: a program has no process id of its own
                self.calls.answer(message.watcher, message.id, False, pack(gone))
            case Link() if is_program(message.to):
                ref = replace(self.ref, uid=message.to)
                self.post(message.sender, Ending(message.sender.uid, ref, NOPROC))

    def undelivered(self, parcel: bytes) -> None:
        """Fail the calls of a parcel that nobody has taken: they were not carried out."""
        for message in open_parcel(parcel):
            if isinstance(message, Call | System | Watch):
                self.bonds.unwatchable(message.id)
                self.calls.undelivered(message.id)
            elif isinstance(message, Link):
                self.bonds.link_refused(message.to)

    def down(self, number: int, ref: Ref | None, reason: ExitReason) -> None:
        """Put what a monitor has seen into the mailbox, for handle_info."""
        self.mailbox.down(number, ref, reason)

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back once everything that has arrived by now is delivered."""
        self._outlet.settle(callback)

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once everything that was posted by now has arrived where it was for, or cannot arrive."""
        self._outlet.when_sent(callback)

    # --- what goes out --------------------------------------------------------------------------------------

    def post(self, to: Ref, message: Message) -> None:
        """Send a message of the system."""
        if to.port == self.ref.port and to.host == self.ref.host:
            self.loop.call_soon(self.deliver, [message])
        else:
            self._outlet.post(to.host, to.port, encode(message))

    def _in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do it now; from another thread than the server's: in the loop, after what that thread did before."""
        if threading.get_ident() == self._thread:
            function(*arguments)
        else:
            self.loop.call_soon_threadsafe(function, *arguments)

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call, once."""
        self._in_loop(self.calls.reply, caller, value)

    def when_given_up(self, caller: Caller, tell: Callable[[], object]) -> None:
        """Call back when a caller waits no more."""
        self._in_loop(self.calls.when_given_up, caller, tell)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer a call by an error."""
        self._in_loop(self.calls.reply_error, caller, error)

    async def call(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask and wait for the reply."""
        return open_value(await self.sender.call(target, pack_sent(request, "request"), timeout), "reply")

    def call_then(
        self, target: Target, request: Any, function: Callable[[Any, Exception | None], object], timeout: float | None
    ) -> None:
        """Ask, and call `function(reply, error)` with the answer; what it raises is the server's crash."""
        context = copy_context()

        def answered(value: bytes, error: Exception | None) -> None:
            reply = None
            if self.life.ending:
                return
            try:
                try:
                    reply = open_value(value, "reply") if error is None else None
                except CallFailed as broken:
                    error = broken
                context.run(function, reply, error)
            except BaseException as crash:  # SystemExit too, as in a handler
                self.mailbox.put(Crash(crash))

        self.sender.begin_call(target, pack_sent(request, "request"), timeout, answered)

    def cast(self, target: Target, message: Any) -> None:
        """Send a cast, in its turn; from any thread."""
        self._in_loop(self.sender.tell, target, Cast, pack_sent(message, "message"))

    def send(self, target: Target, message: Any) -> None:
        """Send a message to handle_info, in its turn; from any thread."""
        self._in_loop(self.sender.tell, target, Info, pack_sent(message, "message"))

    async def supervise(self, supervisor: Target, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor."""
        check_tree(argument, f"argument of {name}")
        sealed = sealing.seal(argument) if isinstance(argument, ChildSpec) else argument
        return unpack(await self.sender.call(supervisor, pack_message((name, sealed), "request"), None))

    async def reach(self, target: Target) -> Ref:
        """Return the process of a target when everything that was sent before is on its way.

        Raises:
            NoProcess: there is none.
        """
        return await self.sender.room.reach(target)

    async def stop(self, target: Ref, reason: ExitReason, timeout: float | None) -> None:
        """End another process, and return when it is gone.

        Raises:
            NoProcess: it had ended.
            CallTimeout: it takes longer than `timeout` seconds; the stop goes on.
        """
        gone: asyncio.Future[Down] = self.loop.create_future()
        watch = await self.watch_once(target, lambda down: settle(gone, down))
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
        if reason == KILL and target.host == self.ref.host and not target.outside:
            processes.kill_exactly(target.pid, target.born)
        else:
            self._in_loop(self.sender.reach, target, lambda ref: self.post(ref, Exit(ref.uid, self.ref, reason)))

    # --- monitors -------------------------------------------------------------------------------------------

    def monitor(self, target: Target) -> int:
        """Watch a process; Down comes to handle_info."""
        number = self.bonds.new_monitor()
        self._in_loop(
            self.sender.reach,
            target,
            lambda ref: self.bonds.monitor(ref, number),
            lambda error: self.bonds.down(number, NOPROC),
        )
        return number

    async def watch_once(self, target: Ref, on_down: Callable[[Down], None]) -> int:
        """Watch a process once, for a caller that is no server. The watch is in force when this returns."""
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
        return self.loop.call_later(seconds, self.mailbox.put, Local(message, load=carried.get()))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task whose crash is the server's."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.life.ending:
            self.mailbox.put(Crash(error))

    async def end_tasks(self) -> None:
        """Cancel the tasks that the server has spawned, and wait for them a little."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TASK_SECONDS)
