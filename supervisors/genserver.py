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
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from supervisors.terms.checks import check_timeout
from supervisors.terms.errors import CallFailed
from supervisors.terms.reason import ExitReason, exit_reason
from supervisors.terms.ref import Caller, Ref

if TYPE_CHECKING:
    from supervisors.groups.handle import AsyncGroupsHandle
    from supervisors.pool.handle import AsyncPool
    from supervisors.registry.handle import AsyncRegistryHandle
    from supervisors.runtime.process.process import Process
    from supervisors.tasks.inside import ServerTasks
    from supervisors.terms.spec import ChildSpec
    from supervisors.terms.via import Via
    from supervisors.terms.views import ChildInfo


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


class GenServer:
    """Base class of servers: subclass it and override what you need."""

    _process: Process

    # --- what a subclass overrides ----------------------------------------------------------------------------------

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Set the server up; may be async. Return None, IGNORE (not needed after all) or Extra.

        An exception is a failed start; so is `raise Stop(reason)`, which writes no crash report.
        """

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer a call: return the reply, or NO_REPLY and answer later with `self.reply(caller, ...)`."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_call and was asked {request!r:.200}")

    def handle_cast(self, message: Any) -> Any:
        """Take a message that nobody waits on."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_cast and was sent {message!r:.200}")

    def handle_info(self, message: Any) -> Any:
        """Take any other message: Down, a timer's, ("EXIT", ref, reason), "timeout". Default: log and drop it."""
        self._process.log.warning("message not understood", message=repr(message)[:200])

    def handle_continue(self, value: Any) -> Any:
        """Take what `self.continue_with(value)` has put before every message that waits."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_continue and was given {value!r:.200}")

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
        return self._process.ref

    @property
    def name(self) -> str | Via | None:
        """The name this server is registered under."""
        return self._process.name

    async def call(self, target: Ref | str | Via, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask another server and return its reply.

        Args:
            target: a Ref or a registered name.
            request: what its handle_call gets.
            timeout: seconds; None waits without end.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
        """
        return await self._process.call(target, request, timeout)

    def cast(self, target: Ref | str | Via, message: Any) -> None:
        """Send a message and do not wait; to nobody is fine too."""
        self._process.cast(target, message)

    def send(self, target: Ref | str | Via, message: Any) -> None:
        """Send a message to another server's handle_info; to nobody is fine too."""
        self._process.send(target, message)

    async def stop(self, target: Ref | str | Via, reason: Any = "normal", timeout: float | None = None) -> None:
        """End another server and return when it is gone; itself it ends by `raise Stop`.

        Raises:
            NoProcess, CallTimeout, CallFailed: as for `Node.stop`; CallFailed where the target is this server.
            SpecError: `timeout` is no number of seconds; nothing was stopped.
        """
        check_timeout(timeout)
        ref = await self._process.names.resolve(target)
        if ref == self.ref:
            raise CallFailed("a server cannot stop itself by a call: it would wait for itself; raise Stop(reason)")
        await self._process.stop(ref, ExitReason.of(reason), timeout)

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call for which handle_call returned NO_REPLY; a second answer is dropped.

        `caller` can be sent to another server, which may answer in this one's place.
        """
        self._process.reply(caller, value)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer such a call by raising `error` at the caller (sent as text unless it is one of this library's)."""
        self._process.reply_error(caller, error)

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver `message` to handle_info in so many seconds; `.cancel()` on what is returned takes it back."""
        return self._process.send_after(seconds, message)

    def continue_with(self, value: Any) -> None:
        """Have handle_continue take `value` next, before any message that waits; from init: before the first."""
        self._process.mailbox.put_first(value)

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Get "timeout" in handle_info if no message comes within so many seconds after this handler.

        Any message cancels it: arm it again in each handler that wants it. 0: at once, but messages that wait go
        first (and then it is cancelled). None: off. Questions from outside about the server (get_state, ...) do not
        cancel it, they begin it anew.

        Raises:
            SpecError: not a number of seconds.
        """
        check_timeout(seconds)
        self._process.mailbox.idle = seconds

    def monitor(self, target: Ref | str | Via) -> int:
        """Get `Down(ref, reason)` in handle_info when `target` ends (at once, noproc, if it has).

        Each monitor is separate. Returns its number.
        """
        return self._process.monitor(target)

    def demonitor(self, monitor: int, flush: bool = False) -> None:
        """Forget a monitor; with `flush` also a Down of it that waits in the mailbox."""
        self._process.demonitor(monitor, flush)

    @property
    def trap_exit(self) -> bool:
        """Whether exit signals come as ("EXIT", ref, reason) to handle_info, instead of ending this server."""
        return self._process.trap_exit

    @trap_exit.setter
    def trap_exit(self, value: bool) -> None:
        self._process.trap_exit = bool(value)

    def link(self, target: Ref) -> None:
        """Link this server and another, both ways: when one ends abnormally, so does the other, unless it traps exits.

        Linking twice is linking once. A target that has ended gives the exit signal noproc at once.
        """
        self._process.bonds.link(target)

    def unlink(self, target: Ref) -> None:
        """Undo a link, whoever made it; no exit message of it comes after this, not even one that waits."""
        self._process.unlink(target)

    def exit(self, target: Ref, reason: Any) -> None:
        """Send an exit signal; "kill" cannot be trapped, and is seen as killed by others."""
        self._process.exit(target, exit_reason(reason))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the handlers; its crash is the server's crash."""
        return self._process.spawn(coroutine)

    async def start_child(self, supervisor: Ref | str | Via, spec: ChildSpec) -> Any:
        """Start a child under another supervisor; as `Node.start_child`. Never under one that waits for this server."""
        from supervisors.wire.values import unpack

        started = await self._process.supervise(supervisor, "start_child", spec)
        return (started[0], unpack(started[1], trusted=True)) if isinstance(started, tuple) else started

    async def terminate_child(self, supervisor: Ref | str | Via, child: str | Ref) -> None:
        """Stop a child of another supervisor."""
        await self._process.supervise(supervisor, "terminate_child", child)

    async def delete_child(self, supervisor: Ref | str | Via, child: str) -> None:
        """Make another supervisor forget a child that is stopped."""
        await self._process.supervise(supervisor, "delete_child", child)

    async def which_children(self, supervisor: Ref | str) -> list[ChildInfo]:
        """Return a row per child of a supervisor, newest first."""
        return await self._process.supervise(supervisor, "which_children", None)  # type: ignore[no-any-return]

    async def whereis(self, name: str | Via) -> Ref | None:
        """Return who is registered under a name."""
        return await self._process.names.whereis(name)

    def tasks(self, supervisor: Ref | str | Via) -> ServerTasks:
        """Return a task supervisor as this server sees it: async_, async_nolink, start_child, async_stream."""
        from supervisors.tasks.inside import ServerTasks

        return ServerTasks(self, supervisor)

    def registry(self, name: Ref | str | Via) -> AsyncRegistryHandle:
        """Return the methods of a registry: `await self.registry("reg").register(key)`."""
        from supervisors.registry.handle import AsyncRegistryHandle

        return AsyncRegistryHandle(self, name)

    def groups(self, name: Ref | str | Via) -> AsyncGroupsHandle:
        """Return the methods of process groups: `await self.groups("pg").join(group)`."""
        from supervisors.groups.handle import AsyncGroupsHandle

        return AsyncGroupsHandle(self, name)

    def pool(self, name: Ref | str | Via) -> AsyncPool:
        """Return the methods of a pool: `await self.pool("db").transaction(request)`."""
        from supervisors.pool.handle import AsyncPool

        return AsyncPool(self, name)
