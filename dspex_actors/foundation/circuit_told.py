"""What the owner of a circuit tells of it: events `circuit.*`, and the gauge `circuit.state`."""

from __future__ import annotations

from typing import Any

from dspex_actors.foundation.circuit import Change
from dspex_actors.foundation.events.kinds import CircuitClosed, CircuitOpened, CircuitTesting
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.telemetry.recorder import recorder

#: What `circuit.state` is.
CIRCUIT_STATES = {"closed": 0, "half_open": 1, "open": 2}


def tell_change(name: str, change: Change, **tags: Any) -> None:
    """Tell that a circuit is in another state.

    Args:
        name: what it is called: an LM's model string, or the key of what is protected.
        change: the state, and why.
        **tags: more tags of the gauge.
    """
    recorder.gauge("circuit.state", circuit=name, **tags).add(CIRCUIT_STATES[change.state])
    if not wanted():
        return
    if change.state == "open":
        emit(
            CircuitOpened(circuit=name, failures=change.failures, seconds=change.seconds, reason=change.reason or None)
        )
    elif change.state == "half_open":
        emit(CircuitTesting(circuit=name))
    else:
        emit(CircuitClosed(circuit=name))
