"""Which request gets which fault. Pure: the same seed and the same number always give the same fault.

What each kind does to a request:

======================  ==========================================================================
``rate_limit``          429 in the provider's own words, with a time to wait
``server_error``        500
``overloaded``          529 at Anthropic, 503 elsewhere
``hang``                nothing is ever answered; ends when the client goes away
``truncated``           200 with half of the body, or of the events, and the end of the connection
``garbage``             200 with a body that is not JSON
``reset``               the connection is reset (TCP RST) instead of an answer
``html``                502 with the page of a proxy in front of the provider
``stream_error``        half of a stream, then an event that tells of an overload; else as ``overloaded``
``stall``               half of a stream, and then nothing, until the client goes away; else as ``hang``
======================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from dspex_actors.embedded.guess import fraction

FaultKind = Literal[
    "rate_limit", "server_error", "overloaded", "hang", "truncated", "garbage", "reset", "html", "stream_error", "stall"
]


class FaultPlan:
    """Draws a fault, or none, for each request by its number."""

    def __init__(self, rates: Mapping[str, float], seed: int = 0) -> None:
        """Lay the kinds side by side on [0, 1), each as wide as its rate.

        Args:
            rates: kind to share of the requests; together at most 1.
            seed: another seed gives other requests the faults, at the same rates.
        """
        self._seed = seed
        self._bounds: list[tuple[float, FaultKind]] = []
        bound = 0.0
        for kind in sorted(rates):
            if rates[kind] > 0:
                bound += rates[kind]
                self._bounds.append((bound, cast("FaultKind", kind)))

    def fault(self, number: int) -> FaultKind | None:
        """Return the fault of the request of this number, or None."""
        if not self._bounds:
            return None
        at = fraction(self._seed, number, "fault")
        return next((kind for bound, kind in self._bounds if at < bound), None)
