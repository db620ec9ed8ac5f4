"""What the embedded LM's server is to be like: its speed, its limits, its faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp
from statistics import NormalDist
from typing import get_args

from dspex_actors.embedded.faults import FaultKind
from dspex_actors.embedded.guess import fraction
from dspex_actors.errors import ConfigError

KINDS: tuple[str, ...] = get_args(FaultKind)


@dataclass(frozen=True)
class EmbeddedConfig:
    """Settings of one server; every one has a default that makes it fast, unlimited and faultless.

    Attributes:
        host: address to listen on. Loopback: the server has no business on a network.
        port: 0 takes any free one.
        latency_ms: time from a request to its answer; the median of it with a sigma.
        latency_sigma: spread of the log-normal latency; 0 makes it fixed. 0.5 is about a real provider's.
        piece_delay_ms: time from one event of a streamed answer to the next.
        rpm: requests a minute that are answered, over all wire formats together; None: no limit.
        tpm: tokens a minute, input and output together; None: no limit.
        burst_seconds: how many seconds' worth of rpm and tpm may come at once.
        faults: share of the requests, 0 to 1, that get each kind of fault.
        seed: decides which requests get a fault, their latencies, and the learner's guesses.
        answer: answer everything with this text, for measuring what is not the learner.
        at_once: requests that are worked on at the same time, as by a local model; others wait. None: any number.
        book: keep a row for each request, for `GET /booked`: what a client says it has asked can be compared.
        require_key: the only API key that is let in; None lets everybody in, key or no key.
        batch_seconds: how long a batch takes; its requests are answered one after the other.
        batch_expired: share of the requests in batches, 0 to 1, that are not answered in time.
        batch_failed: share of them that fail.
        batch_answer_seconds: time from taking a batch in to telling its id.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency_ms: float = 0.0
    latency_sigma: float = 0.0
    piece_delay_ms: float = 0.0
    rpm: float | None = None
    tpm: float | None = None
    burst_seconds: float = 2.0
    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    answer: str | None = None
    at_once: int | None = None
    book: bool = False
    require_key: str | None = field(default=None, repr=False)
    batch_seconds: float = 0.0
    batch_expired: float = 0.0
    batch_failed: float = 0.0
    batch_answer_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: names the setting, what is legal and what was given.
        """
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be 0 (any free one) to 65535, got {self.port}")
        for name in ("latency_ms", "latency_sigma", "piece_delay_ms", "batch_seconds", "batch_answer_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("rpm", "tpm", "burst_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be more than 0, got {value}")
        for name in ("batch_expired", "batch_failed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if self.at_once is not None and self.at_once < 1:
            raise ConfigError(f"at_once must be 1 or more, got {self.at_once}")
        for kind, rate in self.faults.items():
            if kind not in KINDS:
                raise ConfigError(f"fault must be one of {', '.join(KINDS)}; got {kind!r}")
            if not 0 <= rate <= 1:
                raise ConfigError(f"the rate of fault {kind} must be 0 to 1, got {rate}")
        # The sum of a few decimal fractions may be a hair above 1.
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ConfigError(f"the rates of all faults together must be at most 1, got {sum(self.faults.values())}")

    def latency(self, number: int) -> float:
        """Return the seconds that the request of this number waits for its answer."""
        seconds = self.latency_ms / 1000
        if not self.latency_sigma or not seconds:
            return seconds
        at = fraction(self.seed, number, "latency") or 1e-12
        return seconds * exp(self.latency_sigma * NormalDist().inv_cdf(at))
