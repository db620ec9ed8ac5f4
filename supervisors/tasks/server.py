"""TaskServer: the process of a task. It runs one function, hands the result to whoever claims it, and ends.

A function that is `async def` runs on the server's loop; any other one runs in a thread beside it, so that the task
can be stopped whatever the function is doing.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from typing import Any

from supervisors.genserver import NO_REPLY, GenServer, Stop
from supervisors.system_server import SystemServer
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.carried import carried
from supervisors.terms.reason import SHUTDOWN, ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.wire import pickles as sealing

#: A result that nobody has claimed for so many seconds is dropped: whoever started the task is gone.
CLAIM_SECONDS = 60.0

CLAIM, RUN = "claim", "run"
_FINISH, _UNCLAIMED = "finish", "unclaimed"
_callers: ContextVar[tuple[Ref, ...]] = ContextVar("callers", default=())
_current: ContextVar[GenServer | None] = ContextVar("current", default=None)


def callers() -> tuple[Ref, ...]:
    """Return who started the task that this code runs in: its starter first, then the starter's own, and so on.

    Empty outside of tasks, and in a task that a program outside the node has started. (Elixir's `$callers`.)
    """
    return _callers.get()


def current() -> GenServer | None:
    """Return the server of the task that this code runs in; its calls are for `async def` functions only."""
    return _current.get()


class TaskServer(SystemServer):
    """A process that runs a function.

    Its `init` takes the sealed function (None: functions come one after the other, with each RUN), what was carried
    where it was started, the arguments, the mode ("claimed": the result waits for a CLAIM; "alone": nobody wants it),
    whose end ends the task (`follow`), and who started it.
    """

    WHAT = "a task"

    def init(
        self,
        function: bytes | None,
        load: bytes | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        mode: str = "claimed",
        follow: Ref | None = None,
        callers: tuple[Ref, ...] = (),
    ) -> None:
        """Open the function, and begin; `init` does not wait for it."""
        self._mode, self._started_by, self._followed = mode, callers, follow
        self._caller: Caller | None = None
        self._outcome: tuple[str, Any] | None = None
        if follow is not None:
            self.monitor(follow)
        if function is not None:
            carried.set(load)
            self.continue_with((sealing.loads(function), args, kwargs or {}))

    def handle_continue(self, value: Any) -> None:
        """Begin: the supervisor knows by now that the task has started, so the function may end the process at once."""
        self.spawn(self._once(*value))

    # --- running ----------------------------------------------------------------------------------------------------

    async def _run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
        _callers.set(self._started_by)
        _current.set(self)
        try:
            if inspect.iscoroutinefunction(function):
                return "ok", await function(*args, **kwargs)
            what, value = await asyncio.to_thread(_call, function, args, kwargs)
            return what, (await maybe_await(value))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # sys.exit() too: the task's end, with this reason
            return "raised", error

    async def _once(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._outcome = await self._run(function, args, kwargs)
        if self._mode == "alone" or self._caller is not None:
            self.send_after(0.0, _FINISH)
        else:
            self.send_after(CLAIM_SECONDS, _UNCLAIMED)

    async def _one_of_many(self, caller: Caller, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        what, value = await self._run(function, args, kwargs)
        if what == "ok":
            self.reply(caller, value)
        else:
            self._outcome = (what, value)
            self.send_after(0.0, _FINISH)

    # --- messages ---------------------------------------------------------------------------------------------------

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        """Take a claim, or a function to run. Whatever the function has raised goes on from here: it is the end."""
        match request:
            case "claim" if self._caller is None:
                self._caller = caller
                if self._outcome is not None:
                    self._finish()
            case ("run", bytes() as function, tuple() as args, dict() as kwargs):
                self.spawn(self._one_of_many(caller, sealing.loads(function), args, kwargs))
            case "claim":
                self.reply_error(caller, self.unknown(request, "its result is claimed already"))
            case _:
                self.reply_error(caller, self.unknown(request))
        return NO_REPLY

    async def handle_info(self, message: Any) -> None:
        """End: the function is done, nobody wants its result, or whom the task follows has ended."""
        match message:
            case "finish":
                self._finish()
            case "unclaimed" if self._caller is None:
                raise Stop("normal")
            case Down(ref=ref) if ref == self._followed:
                raise Stop(SHUTDOWN)
            case "unclaimed":
                pass
            case _:
                self.take_info(message)

    def _finish(self) -> None:
        assert self._outcome is not None
        what, value = self._outcome
        if what == "raised":
            # A coroutine's StopIteration and the like cannot be raised through a handler; everything else is as it was.
            raise value if isinstance(value, Exception) else Stop(ExitReason.crash(value))
        if self._caller is not None:
            self.reply(self._caller, value)
        raise Stop("normal")


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "ok", function(*args, **kwargs)
    except BaseException as error:  # a future cannot carry StopIteration, and sys.exit() would end the loop
        return "raised", error
