"""The processes beside an application's tree that run its callbacks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from supervisors.genserver import GenServer
from supervisors.host import processes as fate
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.reason import ExitReason


class Closer(GenServer):
    """Started before an application's tree and ended after it: its end is the application's `stop`."""

    def init(self, stop: Callable[[Any], Any] | None) -> None:
        """Keep the callback."""
        self._stop, self._state = stop, None

    def handle_call(self, request: Any, caller: Any) -> None:
        """Take what `prep_stop` has returned."""
        _, self._state = request

    async def terminate(self, reason: ExitReason) -> None:
        """Run the callback."""
        if self._stop is not None:
            await _maybe(self._stop(self._state))


class Opener(GenServer):
    """Started after an application's tree and ended before it: its end is the application's `prep_stop`."""

    def init(self, prep_stop: Callable[[], Any] | None) -> None:
        """Keep the callback."""
        self._prep_stop = prep_stop

    async def terminate(self, reason: ExitReason) -> None:
        """Run the callback, unless the tree has ended by itself."""
        assert self._process.boot.parent is not None
        others = {row.id: row.ref for row in await self.which_children(self._process.boot.parent)}
        tree, closer = others.get("tree"), others.get("closer")
        if self._prep_stop is None or tree is None or fate.has_ended(tree.pid, tree.born):
            return
        state = await _maybe(self._prep_stop())
        with contextlib.suppress(SupervisorsError):  # it may have been killed: then `stop` gets None
            if closer is not None:
                await self.call(closer, ("prepared", state))


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
