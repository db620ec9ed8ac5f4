"""GenServer: a process with a mailbox, as in OTP.

A server handles one message at a time, in the order in which they came. Every handler may be `def` or `async def`.

::

    class Counter(GenServer):
        def init(self, value=0):
            self.value = value

        def handle_call(self, request, caller):
            match request:
                case ("add", n):
                    self.value += n
                    return self.value
                case "stop":
                    raise Stop("normal", reply="bye")
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from supervisors.terms.behaviour import Behaviour
from supervisors.terms.checks import (
    Target,
    check_child,
    check_name,
    check_ref,
    check_seconds,
    check_target,
    check_timeout,
)
from supervisors.terms.errors import CallFailed
from supervisors.terms.ports import Engine, supervise
from supervisors.terms.reason import ExitReason, exit_reason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.showing import sketched
from supervisors.terms.spec import ChildSpec
from supervisors.terms.via import Via
from supervisors.terms.views import ChildInfo
from supervisors.wire.pickles import seal_start
from supervisors.wire.values import with_extra


class _Marker:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


#: Returned by handle_call: the answer comes later, by `self.reply(caller, value)`.
NO_REPLY = _Marker("NO_REPLY")
#: Returned by init: there is nothing to do here, and that is no failure.
IGNORE = _Marker("IGNORE")
_NOTHING = _Marker("_NOTHING")


class Extra:
    """Returned by init: the server has started, and this is for whoever started it (OTP's `{ok, Pid, Info}`).

    `start_child` and `restart_child` then return `(ref, value)`; nobody else sees it, and it is not kept.

    Args:
        value: anything that can be sent: the port that a listener was given, say.
    """

    def __init__(self, value: Any) -> None:
        """Hold the value."""
        self.value = value


class Stop(Exception):
    """Raised in a handler: end the server.

    Args:
        reason: "normal", "shutdown", ("shutdown", info); anything else is an error reason.
        reply: in handle_call, the answer to the caller.
    """

    def __init__(self, reason: Any = "normal", reply: Any = _NOTHING) -> None:
        """Make it; without `reply` the caller sees the server's exit."""
        super().__init__(reason)
        self.reason = ExitReason.of(reason)
        self.reply = reply
        self.has_reply = reply is not _NOTHING


class GenServer(Behaviour):
    """Base class of servers: subclass it and override what you need.

    Attributes that a subclass sets are its own, but for the names below and `_supervisors_engine`.
    """

    _supervisors_engine: Engine

    # --- what a subclass overrides ----------------------------------------------------------------------------------

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Set the server up; may be async. Return None, IGNORE (not needed after all) or Extra.

        An exception is a failed start; so is `raise Stop(reason)`, which writes no crash report.
        """

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer a call: return the reply, or NO_REPLY and answer later with `self.reply(caller, ...)`."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_call and was asked {sketched(request, 200)}")

    def handle_cast(self, message: Any) -> Any:
        """Take a message that nobody waits on."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_cast and was sent {sketched(message, 200)}")

    def handle_info(self, message: Any) -> Any:
        """Take any other message: Down, a timer's, ("EXIT", ref, reason), "timeout". Default: log and drop it."""
        self.log.warning("message not understood", message=sketched(message, 200))

    def handle_continue(self, value: Any) -> Any:
        """Take what `self.continue_with(value)` has put before every message that waits."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_continue and was given {sketched(value, 200)}")

    def terminate(self, reason: ExitReason) -> Any:
        """Clean up; called before the server ends, but not after a failed init, an exit signal or a kill."""

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Return `status` as it may be seen in get_status and in crash reports: override it to hide secrets.

        Args:
            status: `state`, the attributes as a dict; in a crash report also `message` and `reason`.
        """
        return status

    # --- what a subclass calls --------------------------------------------------------------------------------------

    @property
    def ref(self) -> Ref:
        """The reference of this incarnation."""
        return self._supervisors_engine.ref

    @property
    def name(self) -> str | Via | None:
        """The name this server is registered under."""
        return self._supervisors_engine.name

    @property
    def node(self) -> Mapping[str, Any]:
        """What is known of the node that this server runs on; read-only.

        `name`, `address` ("host:port" of its door), `data_dir` and `logs` (its folders), `pid` and `uid` (of its
        daemon), `version`, `started_at` (seconds since the epoch), `incarnation` (how often it was brought back),
        `root` (its root supervisor: `Ref(**self.node["root"])`).
        """
        return MappingProxyType(self._supervisors_engine.node)

    @property
    def log(self) -> Any:
        """The log of this process: `self.log.info("what happened", about=1)`; debug, info, warning, error, critical."""
        return self._supervisors_engine.log

    async def call(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask another server and return its reply.

        Args:
            target: a Ref or a registered name.
            request: what its handle_call gets.
            timeout: seconds; None waits without end.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
            SpecError: `target` is no process, or `timeout` no number of seconds; nothing was sent.
        """
        check_target(target)
        timeout = check_timeout(timeout)
        return await self._supervisors_engine.call(target, request, timeout)

    def call_then(
        self,
        target: Target,
        request: Any,
        function: Callable[[Any, Exception | None], object],
        timeout: float | None = 5.0,
    ) -> None:
        """Ask another server and go on: `function(reply, error)` is called with its answer, between two messages.

        For a server that asks thousands of times a second: no task waits, and what `function` sends leaves at once. It
        must not wait for anything. What it raises ends the server, as what a handler raises does.

        Args:
            target: a Ref or a registered name.
            request: what its handle_call gets.
            function: called once: with the reply and None, or with None and the error that `call` would raise; never
                after this server has begun to end.
            timeout: seconds; None waits without end.

        Raises:
            CallFailed: the request cannot be sent.
            SpecError: `target` is no process, or `timeout` no number of seconds; nothing was sent.
        """
        check_target(target)
        self._supervisors_engine.call_then(target, request, function, check_timeout(timeout))

    def cast(self, target: Target, message: Any) -> None:
        """Send a message to a server's handle_cast and do not wait. If there is no such process, nothing happens."""
        check_target(target)
        self._supervisors_engine.cast(target, message)

    def send(self, target: Target, message: Any) -> None:
        """Send a message to a server's handle_info and do not wait. If there is no such process, nothing happens."""
        check_target(target)
        self._supervisors_engine.send(target, message)

    async def stop(self, target: Target, reason: Any = "normal", timeout: float | None = None) -> None:
        """End another server and return when it is gone; itself it ends by `raise Stop`.

        Raises:
            NoProcess, CallTimeout, CallFailed: as for `Node.stop`; CallFailed where the target is this server.
            SpecError: `timeout` is no number of seconds; nothing was stopped.
        """
        check_target(target)
        timeout = check_timeout(timeout)
        ref = await self._supervisors_engine.reach(target)
        if ref == self.ref:
            raise CallFailed("a server cannot stop itself by a call: it would wait for itself; raise Stop(reason)")
        await self._supervisors_engine.stop(ref, ExitReason.of(reason), timeout)

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call for which handle_call returned NO_REPLY; a second answer is dropped.

        `caller` can be sent to another server, which may answer in this one's place.
        """
        self._supervisors_engine.reply(caller, value)

    def when_given_up(self, caller: Caller, function: Callable[[], object]) -> None:
        """Call `function` as soon as a caller that has no answer yet waits for none any more.

        Its time was up, it was cancelled, or its program has ended: what is done for it can be left. At once if that
        is so already; never after the answer.
        """
        self._supervisors_engine.when_given_up(caller, function)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer such a call by raising `error` at the caller (sent as text unless it is one of this library's)."""
        self._supervisors_engine.reply_error(caller, error)

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver `message` to handle_info in so many seconds; `.cancel()` on what is returned takes it back."""
        return self._supervisors_engine.send_after(check_seconds("seconds", seconds), message)

    def continue_with(self, value: Any) -> None:
        """Have handle_continue take `value` next, before any message that waits; from init: before the first."""
        self._supervisors_engine.mailbox.put_first(value)

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Get "timeout" in handle_info if no message comes within so many seconds after this handler.

        Any message cancels it: arm it again in each handler that wants it. 0: at once, but messages that wait go
        first (and then it is cancelled). None: off. Questions from outside about the server (get_state, ...) do not
        cancel it, they begin it anew.

        Raises:
            SpecError: not a number of seconds.
        """
        seconds = check_timeout(seconds, "seconds")
        self._supervisors_engine.mailbox.idle = seconds

    def monitor(self, target: Target) -> int:
        """Get `Down(ref, reason)` in handle_info when `target` ends (at once, noproc, if it has).

        Each monitor is separate. Returns its number.
        """
        check_target(target)
        return self._supervisors_engine.monitor(target)

    def demonitor(self, monitor: int, flush: bool = False) -> None:
        """Forget a monitor; with `flush` also a Down of it that waits in the mailbox."""
        self._supervisors_engine.demonitor(monitor, flush)

    @property
    def trap_exit(self) -> bool:
        """Whether exit signals come as ("EXIT", ref, reason) to handle_info, instead of ending this server."""
        return self._supervisors_engine.trap_exit

    @trap_exit.setter
    def trap_exit(self, value: bool) -> None:
        self._supervisors_engine.trap_exit = bool(value)

    def link(self, target: Ref) -> None:
        """Link this server and another, both ways: when one ends abnormally, so does the other, unless it traps exits.

        Linking twice is linking once. A target that has ended gives the exit signal noproc at once.
        """
        check_ref(target)
        self._supervisors_engine.bonds.link(target)

    def unlink(self, target: Ref) -> None:
        """Undo a link, whoever made it; no exit message of it comes after this, not even one that waits."""
        check_ref(target)
        self._supervisors_engine.unlink(target)

    def exit(self, target: Ref, reason: Any) -> None:
        """Send an exit signal; "kill" cannot be trapped, and is seen as killed by others."""
        check_ref(target)
        self._supervisors_engine.exit(target, exit_reason(reason))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the handlers; its crash is the server's crash."""
        return self._supervisors_engine.spawn(coroutine)

    async def start_child(self, supervisor: Target, spec: ChildSpec | tuple[Any, ...] | list[Any]) -> Any:
        """Start a child under another supervisor; as `Node.start_child`. Never under one that waits for this server."""
        return with_extra(await supervise(self, supervisor, "start_child", seal_start(spec)))

    async def terminate_child(self, supervisor: Target, child: str | Ref) -> None:
        """Stop a child of another supervisor."""
        await supervise(self, supervisor, "terminate_child", check_child(child))

    async def delete_child(self, supervisor: Target, child: str) -> None:
        """Make another supervisor forget a child that is stopped."""
        await supervise(self, supervisor, "delete_child", check_child(child))

    async def which_children(self, supervisor: Target) -> list[ChildInfo]:
        """Return a row per child of a supervisor, newest first."""
        return await supervise(self, supervisor, "which_children", None)  # type: ignore[no-any-return]

    async def whereis(self, name: str | Via) -> Ref | None:
        """Return the process that is registered under a name, or None."""
        check_name(name, optional=False)
        return await self._supervisors_engine.names.whereis(name)
