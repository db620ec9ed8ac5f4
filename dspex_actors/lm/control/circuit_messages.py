"""What a deployment's client actor and the workers say to each other about its circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import Ref, message

#: What an LM says of its circuit: some of `CircuitSettings`, as plain data; None: nothing.
PlainSettings = dict[str, Any] | None


@message(130)
@dataclass(frozen=True, slots=True)
class CircuitTold:
    """How a worker's requests ended since the last time; sent where some failed. A cast to the client actor.

    Args:
        worker: the worker.
        settings: what its LMs say.
        epoch: of the circuit, as the worker knows it, in which they were sent.
        answered: how many were answered, in whatever way.
        failed: how many count as failures.
        in_row: how many failed after the last that was answered.
        reason: what the last failure said.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    settings: PlainSettings
    epoch: int
    answered: int
    failed: int
    in_row: int
    reason: str


@message(131)
@dataclass(frozen=True, slots=True)
class AskProbe:
    """A worker has a call for a circuit that was open: may it go? The reply is a `CircuitIs`.

    Args:
        worker: the worker.
        settings: as in `CircuitTold`.
        epoch: as the worker knows it: a client actor that has just been restarted knows of no failure.
        failures: as the worker knows them.
        reason: as the worker knows it.
        seconds: how long the call's request may take.
        was_answered: whether the deployment has ever answered the worker.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    settings: PlainSettings
    epoch: int
    failures: int
    reason: str
    seconds: float
    was_answered: bool


@message(132)
@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """What a probe came to. A cast to the client actor.

    Args:
        worker: who had it.
        probe: its number.
        outcome: "answered", "failed", or "given up": nobody will ever know.
        reason: what the failure said.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    probe: int
    outcome: str
    reason: str


@message(133)
@dataclass(frozen=True, slots=True)
class CircuitIs:
    """The state of a circuit. A cast to the workers whenever it changes, and the reply to `AskProbe`.

    Args:
        deployment: digest of the deployment.
        is_open: whether calls may not go.
        epoch: of the circuit.
        seconds: until it is worth to ask for a probe.
        failures: that led to it, in a row.
        reason: what the last failure said.
        was_answered: whether the deployment has ever answered.
        is_tested: whether a probe is under way: `seconds` is then how long it may take at most.
        probe: in a reply: the number of the probe that is granted; None: none.
    """

    VERSION: ClassVar[int] = 1

    deployment: str
    is_open: bool
    epoch: int
    seconds: float
    failures: int
    reason: str
    was_answered: bool
    is_tested: bool = False
    probe: int | None = None
