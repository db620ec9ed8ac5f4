"""The processes beside an application's tree that run its callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from supervisors.host import processes
from supervisors.system_server import SystemServer
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.ports import engine_of
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller


class Closer(SystemServer):
    """Started before an application's tree and ended after it: its end is the application's `stop`."""

    def init(self, stop: Callable[[Any], Any] | None) -> None:
        """Keep the callback."""
        self._stop, self._state = stop, None

    def answer(self, request: Any, caller: Caller) -> None:
        """Take what `prep_stop` has returned."""
        match request:
            case ("prepared", state):
                self._state = state
            case _:
                raise self.unknown(request)

    async def terminate(self, reason: ExitReason) -> None:
        """Run the callback."""
        if self._stop is not None:
            await maybe_await(self._stop(self._state))


class Opener(SystemServer):
    """Started after an application's tree and ended before it: its end is the application's `prep_stop`."""

    def init(self, prep_stop: Callable[[], Any] | None) -> None:
        """Keep the callback."""
        self._prep_stop = prep_stop

    async def terminate(self, reason: ExitReason) -> None:
        """Run the callback, unless the tree has ended by itself."""
        parent = engine_of(self).boot.parent
        assert parent is not None
        others = {row.id: row.ref for row in await self.which_children(parent)}
        tree, closer = others.get("tree"), others.get("closer")
        if self._prep_stop is None or tree is None or processes.has_ended(tree.pid, tree.born):
            return
        state = await maybe_await(self._prep_stop())
        with contextlib.suppress(SupervisorsError):  # it may have been killed: then `stop` gets None
            if closer is not None:
                await self.call(closer, ("prepared", state))
