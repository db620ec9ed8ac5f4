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

from supervisors.reason import ExitReason, Ref

if TYPE_CHECKING:
    from supervisors.runtime.process import Caller, Process
    from supervisors.spec import ChildSpec
    from supervisors.via import Via
    from supervisors.views import ChildInfo


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
        """Set the server up; may be async. IGNORE: not needed after all. An exception: a failed start."""

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer a call: return the reply, or NO_REPLY and answer later with `self.reply(caller, ...)`."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_call and was asked {request!r:.200}")

    def handle_cast(self, message: Any) -> Any:
        """Take a message that nobody waits on."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_cast and was sent {message!r:.200}")

    def handle_info(self, message: Any) -> Any:
        """Take any other message: Down, a timer's, whatever. By default it is logged and dropped."""
        self._process.log.warning("message not understood", message=repr(message)[:200])

    def terminate(self, reason: ExitReason) -> Any:
        """Clean up; called before the server ends, but not after a failed init and not on a kill."""

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

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call for which handle_call returned NO_REPLY; a second answer is dropped."""
        self._process.reply(caller, value)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer such a call by raising `error` at the caller (sent as text unless it is one of this library's)."""
        self._process.reply_error(caller, error)

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver `message` to handle_info in so many seconds; `.cancel()` on what is returned takes it back."""
        return self._process.send_after(seconds, message)

    def monitor(self, target: Ref) -> int:
        """Get `Down(ref, reason)` in handle_info when `target` ends (at once if it has). Returns the monitor's id."""
        return self._process.monitor(target)

    def demonitor(self, monitor: int) -> None:
        """Forget a monitor."""
        self._process.demonitor(monitor)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the handlers; its crash is the server's crash."""
        return self._process.spawn(coroutine)

    async def start_child(self, supervisor: Ref | str | Via, spec: ChildSpec) -> Ref | None:
        """Start a child under another supervisor; as `Node.start_child`. Never under one that waits for this server."""
        return await self._process.supervise(supervisor, "start_child", spec)  # type: ignore[no-any-return]

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
