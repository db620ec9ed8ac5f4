"""Asks a member's function for its vote: in a thread of its own, for a limited time."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

from supervisors.terms.awaitable import maybe_await
from supervisors.terms.errors import CallFailed

#: So many votes of a member go on at once at most: a function that hangs keeps its thread.
MOST_AT_ONCE = 8


class Voter:
    """The function of a member.

    Args:
        member: its name.
        function: gets a value; may be async.
    """

    def __init__(self, member: str, function: Callable[[Any], Any]) -> None:
        """Ask nothing yet."""
        self._member, self.function = member, function
        self._threads = 0

    async def ask(self, value: Any, seconds: float) -> bool | None:
        """Return what it says; None: it abstains.

        Raises:
            CallFailed: it fails, takes too long, or says something else.
        """
        try:
            async with asyncio.timeout(seconds):
                # In a thread: what it waits for must not keep the votes of others.
                is_async = inspect.iscoroutinefunction(self.function)
                said = await maybe_await(self.function(value) if is_async else await self._in_thread(value))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # it may call sys.exit(), which would end the votes of all
            why = f"{type(error).__name__}: {error!s:.200}"
        else:
            if said is None or isinstance(said, bool):
                return said
            why = f"it said {said!r:.100}, expected True, False or None"
        raise CallFailed(f"the vote of {self._member!r:.200} failed: {why}")

    async def _in_thread(self, value: Any) -> Any:
        # Not asyncio's threads: those that hang would be missing for others, and an exit would wait for them.
        if self._threads >= MOST_AT_ONCE:
            raise CallFailed(f"{self._threads} votes of it go on already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(said: Any, error: BaseException | None) -> None:
            self._threads -= 1
            if future.done():
                return  # its time was up
            if error is None:
                future.set_result(said)
            else:
                future.set_exception(error)

        def work() -> None:
            said = None
            failure: BaseException | None = None
            try:
                said = self.function(value)
            except StopIteration as error:  # no future takes it
                failure = RuntimeError(f"StopIteration: {error}")
            except BaseException as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, said, failure)

        self._threads += 1
        threading.Thread(target=work, name=f"vote of {self._member}"[:100], daemon=True).start()
        return await future
