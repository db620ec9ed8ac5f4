"""Asking an actor of the node that may have died just now: it is asked again, and started where it is not there."""

from __future__ import annotations

import time

from dspex_actors.errors import ConfigError, DeadlineExceeded, Overloaded
from dspex_actors.observe.away import is_gone
from dspex_actors.observe.branch import ensure_from_program
from supervisors import ChildSpec, Node
from supervisors.errors import CallFailed, CallTimeout, NodeDown, SupervisorsError

#: An actor that has just died is back in milliseconds; it is asked again for so long, in seconds.
COME_BACK_SECONDS, PAUSE_SECONDS = 10.0, 0.02


class Trying:
    """Decides whether it is worth to ask again, and has the actor started.

    Args:
        node: where it is.
        spec: of the actor, an observer; its id is its registered name.
        until: when nobody waits any more, in seconds of the monotonic clock.
    """

    def __init__(self, node: Node, spec: ChildSpec, until: float) -> None:
        """Begin."""
        self._node, self._spec, self._until = node, spec, until
        self._since: float | None = None

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(PAUSE_SECONDS, round(self._until - time.monotonic(), 2))

    def again(self, error: SupervisorsError) -> None:
        """Return where asking again is worth it.

        Raises:
            DeadlineExceeded, Overloaded, ConfigError: it is not.
        """
        now = time.monotonic()
        if isinstance(error, CallTimeout) or now >= self._until:
            raise DeadlineExceeded(f"{self._spec.id} did not answer in time: {error}", retryable=False) from None
        if isinstance(error, CallFailed):
            raise ConfigError(f"it cannot be sent to {self._spec.id}: {error}") from None
        self._since = self._since or now
        if now - self._since > COME_BACK_SECONDS or (isinstance(error, NodeDown) and is_gone(self._node)):
            raise Overloaded(f"the node does not answer: {error}; see `dspex status`, or connect again") from None

    def bring_back(self) -> None:
        """Have it started where it is not there."""
        time.sleep(PAUSE_SECONDS)
        try:
            if self._node.whereis(self._spec.id) is None:
                ensure_from_program(self._node, self._spec)
        except SupervisorsError as error:
            self.again(error)
