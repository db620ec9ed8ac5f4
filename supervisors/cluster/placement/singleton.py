"""What there is one of in a cluster."""

from __future__ import annotations

from typing import Any

from supervisors.cluster.leases.handle import AsyncLeases, Holding, LeaseEnded
from supervisors.genserver import GenServer, Stop
from supervisors.terms.awaitable import maybe_await

#: What the lease of a singleton is called; and for how long it lasts, in seconds.
ONE, TTL_SECONDS = "one:", 3.0


class Singleton(GenServer):
    """A server of which the cluster runs one; placed by `Placement(node).singleton(name, spec)`.

    A subclass overrides `begin` in the place of `init`, and writes and says under `self.epoch`, which
    `self.holding.check()` returns as long as this server is the one. It ends by itself when it is not any more;
    `handle_info` of a subclass calls this class's with what it does not know itself.
    """

    holding: Holding

    async def init(self, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Own the name, then begin."""
        self.holding = await AsyncLeases(self).acquire(ONE + name, TTL_SECONDS, self.ref)
        return await maybe_await(self.begin(*args, **(kwargs or {})))

    @property
    def epoch(self) -> int:
        """How many were the one before this, and it."""
        return self.holding.epoch

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        """Set the server up; may be async; as `init`."""

    def handle_info(self, message: Any) -> Any:
        """End when this server is not the one any more."""
        if isinstance(message, LeaseEnded) and (message.name, message.epoch) == (self.holding.name, self.epoch):
            raise Stop(("shutdown", f"another one may be the one by now: {message.why}"))
        return super().handle_info(message)
