"""A GenServer's life: init, one message after the other, the end with its last words, and the report of a crash."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from supervisors.genserver import IGNORE, NO_REPLY, Extra, GenServer, Stop
from supervisors.host.meters import Meter
from supervisors.runtime.process import inspection
from supervisors.runtime.process.mailbox import Continue, Crash, Local
from supervisors.runtime.process.names import Names
from supervisors.runtime.process.sender import Sender
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.carried import carried
from supervisors.terms.errors import CallFailed, SupervisorsError
from supervisors.terms.ports import ENGINE
from supervisors.terms.reason import KILLED, NORMAL, ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.showing import shown
from supervisors.terms.via import Via
from supervisors.wire import pickles as sealing
from supervisors.wire import pools
from supervisors.wire.envelope import open_sent
from supervisors.wire.messages import BootResult, Call, Cast, ChildExited, Ending, Info, Message, System
from supervisors.wire.messages import Stop as StopMessage
from supervisors.wire.values import open_value, pack, pack_value, unpack

#: After so many seconds of handlers that never wait, the loop gets a turn: replies, deaths and timers must come in.
TURN_SECONDS = 0.01

#: A server that has started waits at most so many seconds until its supervisor knows: what its init has sent to a
#: process that takes nothing in must not keep it.
HEARD_SECONDS = 1.0
#: A server that ends waits so many seconds for the lookups of names that it has sent something to.
LAST_WORDS_SECONDS = 5.0


class Owner(inspection.Inspected, Protocol):
    """What a life needs of its process."""

    loop: asyncio.AbstractEventLoop
    log: Any
    node: dict[str, Any]
    meter: Meter
    names: Names
    sender: Sender

    def post(self, to: Ref, message: Message) -> None:
        """Send a message of the system."""

    async def end_tasks(self) -> None:
        """Cancel the tasks that the server has spawned, and wait for them a little."""

    def flush(self) -> None:
        """Send now what was posted in this turn of the loop."""

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once everything that was posted by now has arrived, or cannot arrive."""

    def finish(self, orderly: bool) -> None:
        """Send what was posted and end the process."""


class Life:
    """The life of the server of one process."""

    def __init__(self, process: Owner) -> None:
        """Prepare it; `start` begins it."""
        self._process = process
        #: Whether init has returned and messages are taken.
        self.serving = False
        #: Whether the server takes no more messages, and whether its last words are said.
        self.ending = self.gone = False
        self._server: GenServer | None = None
        self._extra: bytes | None = None
        #: The message in hand, and who waits for its answer: for the crash report.
        self._current: tuple[Any, Caller | None] = (None, None)
        self._last_reply: tuple[Caller, Any] | None = None
        self._reported = False

    def start(self) -> None:
        """Begin: register the name, run init, then take messages."""
        self._task = self._process.loop.create_task(self._main())

    async def _main(self) -> None:
        try:
            outcome = await self._init()
        except BaseException as error:
            if not self.gone:  # an exit signal has ended it meanwhile
                self._init_failed(error)
            return
        self._boot_result(outcome, None, None)
        if outcome == "ignored":
            self._leave(NORMAL)
            return
        await self._known_to_run()
        self.serving = True
        reason = await self._serve()
        if not self.gone:
            await self._end(reason)

    async def _known_to_run(self) -> None:
        """Wait until the supervisor has heard of the start: the first message may end the process without a word."""
        heard = asyncio.Event()
        self._process.when_sent(heard.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS):
                await heard.wait()

    # --- init -----------------------------------------------------------------------------------------------

    async def _init(self) -> str:
        process = self._process
        cls, args, kwargs = sealing.open_start(process.boot.start, process.boot.args, process.boot.kwargs)
        if pools.has_come_by_value(cls):
            pools.teach_pools()
        if isinstance(process.name, Via):
            process.name = unpack(pack(process.name), trusted=True)  # its key may be a user's object
        if process.name is not None:
            await process.names.register(process.name, process.ref)
        server: GenServer = cls()
        setattr(server, ENGINE, process)
        self._server = server
        outcome = await maybe_await(server.init(*args, **kwargs))
        if isinstance(outcome, Extra):
            self._extra = pack_value(outcome.value, "Extra")
        elif outcome is not None and outcome is not IGNORE:
            got = f"{type(server).__name__}.init returned {shown(outcome, 200)}"
            raise TypeError(f"bad return value: {got}; expected None, IGNORE or Extra(...): keep state on self")
        return "ignored" if outcome is IGNORE else "started"

    def _init_failed(self, error: BaseException) -> None:
        reason = error.reason if isinstance(error, Stop) else ExitReason.crash(error)
        self._boot_result("failed", reason, error if isinstance(error, SupervisorsError) else None)
        if not isinstance(error, Stop):  # who declines in order writes no crash report
            self._process.log.error("init failed", error=str(reason), exc_info=error)
        self._leave(reason)

    def _boot_result(self, outcome: str, reason: ExitReason | None, error: SupervisorsError | None) -> None:
        boot = self._process.boot
        if boot.parent is not None:
            ref = self._process.ref if outcome == "started" else None
            result = BootResult(boot.parent.uid, boot.key, boot.generation, outcome, ref, reason, error, self._extra)
            self._process.post(boot.parent, result)

    # --- one message after the other ------------------------------------------------------------------------

    async def _serve(self) -> ExitReason:
        """Handle one message after the other until something ends the server."""
        mailbox, meter, loop = self._process.mailbox, self._process.meter, self._process.loop
        turn = loop.time()
        while True:
            message = mailbox.next()
            if message is None:
                self._process.flush()  # whoever waits for a reply does not wait for the loop's next turn
                if await mailbox.wait():
                    turn = loop.time()
                    continue
                message = mailbox.next() or Local("timeout")  # what has come meanwhile goes first
            meter.begin(len(mailbox))
            try:
                await self._handle(message)
            except Stop as stop:
                return stop.reason
            except BaseException as error:  # sys.exit() in a handler is a crash too
                if self.gone:
                    return KILLED
                self._report_crash(ExitReason.crash(error), error)
                return ExitReason.crash(error)
            if self.gone:  # and the handler took no notice of it
                return KILLED
            self._current = (None, None)
            meter.end()
            if loop.time() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = loop.time()

    async def _handle(self, message: Any) -> None:
        server = self._server
        assert server is not None
        if isinstance(message, System):
            self._handle_system(server, message)
            return
        self._process.mailbox.idle = None
        match message:
            case Call():
                await self._handle_call(server, message)
            case Cast() | Info():
                try:
                    value, load = open_sent(message.message, "message")
                except CallFailed as error:
                    self._process.log.error("a message that cannot be opened here was dropped", error=error.message)
                    return
                self._current = (value, None)
                carried.set(load)
                handle = server.handle_cast if isinstance(message, Cast) else server.handle_info
                await maybe_await(handle(value))
            case StopMessage():
                raise Stop(message.reason)
            case Local():
                self._current = (message.value, None)
                carried.set(message.load)
                await maybe_await(server.handle_info(message.value))
            case Continue():
                self._current = (("continue", message.value), None)
                carried.set(message.load)
                await maybe_await(server.handle_continue(message.value))
                await asyncio.sleep(0)  # a chain of them must not keep the loop from everything else
            case Crash():
                raise message.error

    async def _handle_call(self, server: GenServer, message: Call) -> None:
        caller = Caller(message.sender, message.id, self._process.ref)
        try:
            request, load = open_sent(message.request, "request")
        except CallFailed as error:  # the caller's mistake (a class that is not here, say), not the server's
            self._process.calls.reply_error(caller, error)
            return
        self._current = (request, caller)
        carried.set(load)
        try:
            value = await maybe_await(server.handle_call(request, caller))
        except Stop as stop:
            if stop.has_reply:
                self._last_reply = (caller, stop.reply)
            raise
        if value is not NO_REPLY:
            self._process.calls.reply(caller, value)

    def _handle_system(self, server: GenServer, message: System) -> None:
        """Answer a question about the server itself; what is wrong with it is the asker's mistake."""
        calls = self._process.calls
        caller = Caller(message.sender, message.id, self._process.ref)
        try:
            argument = open_value(message.argument, "argument")
            value = inspection.answer(self._process, server, message.name, argument)
        except Exception as error:
            calls.reply_error(caller, error)
        else:
            calls.reply(caller, value)

    # --- the end --------------------------------------------------------------------------------------------

    async def _end(self, reason: ExitReason) -> None:
        self.ending = True
        carried.set(None)  # what terminate sends is of no message
        if reason.abnormal and not self._reported:
            self._report_crash(reason, None)
        await self._process.end_tasks()
        assert self._server is not None
        try:
            await maybe_await(self._server.terminate(reason))
        except BaseException as error:
            self._process.log.error("terminate failed", exc_info=error)
            reason = ExitReason.crash(error)
        if self._last_reply is not None:
            self._process.calls.reply(*self._last_reply)
        self._leave(reason)

    def cut(self, reason: ExitReason) -> None:
        """End here and now, whatever a handler is waiting for; terminate is not called."""
        self._process.log.info("ended by an exit signal", reason=str(reason))
        self._leave(reason)
        self._task.cancel()

    def _report_crash(self, reason: ExitReason, error: BaseException | None) -> None:
        assert self._server is not None
        message, caller = self._current
        whole = self._process.node.get("level") == "debug"  # then a user has asked for it
        report = inspection.crash_report(self._server, message, caller, reason, whole)
        self._process.log.error("crashed", exc_info=error, **report)
        self._reported = True

    def _leave(self, reason: ExitReason) -> None:
        """End the process when what the server has sent is on its way."""
        self.ending = self.gone = True
        self._process.sender.room.when_empty(lambda: self._say_goodbye(reason), LAST_WORDS_SECONDS)

    def _say_goodbye(self, reason: ExitReason) -> None:
        process = self._process
        process.flush()  # the reply, or that init has returned, does not wait for what the server does at its end
        for other in process.bonds.audience() | process.calls.callers():
            process.post(other, Ending(other.uid, process.ref, reason))
        registry, boot = process.names.registry, process.boot
        if isinstance(process.name, str) and registry is not None:
            process.post(registry, Cast(registry.uid, pack(("unregister", process.name, process.ref))))
        if boot.parent is not None:
            process.post(boot.parent, ChildExited(boot.parent.uid, boot.key, boot.generation, reason))
        # Let go, or its finalizers would not run.
        self._server, self._current, self._last_reply = None, (None, None), None
        process.finish(reason != KILLED)
