"""What protects a key: the checks of what users say. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.circuit import CircuitSettings

#: Asked with an error that was raised: does it count as a failure?
Trip = Callable[[Exception], bool]
#: What the name of a bucket begins with that every user has one of.
USER = "user:"
_POOL = ("max_concurrent", "size", "queue")


@dataclass(frozen=True, slots=True)
class Protection:
    """What protects a key.

    Args:
        circuit: when it opens; None: there is none.
        buckets: name → (limit, seconds).
        max_concurrent: calls at the same time; None: any number.
        queue: calls that wait at most; None: any number.
    """

    circuit: CircuitSettings | None = None
    buckets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_concurrent: int | None = None
    queue: int | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "circuit": None if self.circuit is None else self.circuit.to_dict(),
            "buckets": {name: list(pair) for name, pair in self.buckets.items()},
            "max_concurrent": self.max_concurrent,
            "queue": self.queue,
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Protection:
        """Rebuild it from `to_plain`'s data."""
        circuit = data["circuit"]
        return cls(
            None if circuit is None else CircuitSettings(**circuit),
            {name: (limit, seconds) for name, (limit, seconds) in data["buckets"].items()},
            data["max_concurrent"],
            data["queue"],
        )


def check_key(key: Any) -> str:
    """Return a key, or refuse it by a ConfigError."""
    if not isinstance(key, str) or not 1 <= len(key) <= 200:
        raise ConfigError(f"the key is invalid: got {key!r:.80}, expected a text of 1 to 200 characters")
    return key


def protection(circuit_breaker: Any, rate_limiter: Any, pool: Any) -> tuple[Protection, Trip | None]:
    """Return what protects a key, and what says which errors count.

    Args:
        circuit_breaker: a dict of circuit settings and `trip`; None: no circuit.
        rate_limiter: bucket → (limit, seconds); None: no limits.
        pool: max_concurrent, and queue; None: any number at once.

    Raises:
        ConfigError: one of them is not usable; says what was given and what is legal.
    """
    trip = None
    circuit = None
    if circuit_breaker is not None:
        given = circuit_breaker
        if isinstance(given, Mapping) and "trip" in given:
            trip = given["trip"]
            given = {name: value for name, value in given.items() if name != "trip"}
            if trip is not None and not callable(trip):
                raise ConfigError(
                    f"circuit_breaker: trip is invalid: got {trip!r:.80}, expected a function that takes an error and "
                    "says whether it counts"
                )
        circuit = CircuitSettings.from_dict(given, "circuit_breaker", over=CircuitSettings(failure_threshold=5))
    places, queue = _pool(pool)
    return Protection(circuit, _buckets(rate_limiter), places, queue), trip


def _buckets(given: Any) -> dict[str, tuple[float, float]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"rate_limiter is invalid: got {given!r:.80}, expected a dict of bucket to (limit, seconds), as in "
            "{'requests': (10, 1.0)}"
        )
    buckets = {}
    for name, pair in given.items():
        if not isinstance(name, str) or not name.removeprefix(USER) or len(name) > 100:
            raise ConfigError(f"rate_limiter is invalid: got {name!r:.80} as a bucket, expected a text")
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_positive, pair)):
            raise ConfigError(
                f"rate_limiter: {name} is invalid: got {pair!r:.80}, expected (limit, seconds), both numbers above 0"
            )
        buckets[name] = (float(pair[0]), float(pair[1]))
    return buckets


def _pool(given: Any) -> tuple[int | None, int | None]:
    if given is None:
        return None, None
    if is_whole(given, 1):
        return int(given), None
    if (
        not isinstance(given, Mapping)
        or not given
        or set(given) - set(_POOL)
        or {"max_concurrent", "size"} <= set(given)
    ):
        raise ConfigError(
            f"pool is invalid: got {given!r:.80}, expected a dict of max_concurrent (or size) and, where calls may not "
            "wait without end in number, queue"
        )
    places = given.get("max_concurrent", given.get("size"))
    if not is_whole(places, 1):
        raise ConfigError(f"pool: max_concurrent is invalid: got {places!r:.80}, expected a whole number of at least 1")
    queue = given.get("queue")
    if queue is not None and not is_whole(queue, 0):
        raise ConfigError(f"pool: queue is invalid: got {queue!r:.80}, expected a whole number of at least 0, or None")
    return int(places), queue


def check_costs(costs: Any) -> dict[str, float] | None:
    """Return what a call costs: bucket → amount; None: one of each bucket. Or refuse it by a ConfigError."""
    if costs is None:
        return None
    if not isinstance(costs, Mapping) or not all(isinstance(name, str) for name in costs):
        raise ConfigError(f"costs is invalid: got {costs!r:.80}, expected a dict of bucket to amount")
    for name, amount in costs.items():
        if not _is_positive(amount) and amount != 0:
            raise ConfigError(f"costs: {name} is invalid: got {amount!r:.80}, expected a number of at least 0")
    return {name: float(amount) for name, amount in costs.items()}


def check_timeout(timeout: Any) -> float | None:
    """Return seconds above 0, or None; or refuse it by a ConfigError."""
    if timeout is None:
        return None
    if not _is_positive(timeout):
        raise ConfigError(f"timeout is invalid: got {timeout!r:.80}, expected seconds above 0, or None")
    return float(timeout)


def check_user(user: Any) -> str | None:
    """Return a user, or refuse it by a ConfigError."""
    if user is not None and (not isinstance(user, str) or not 1 <= len(user) <= 200):
        raise ConfigError(f"user is invalid: got {user!r:.80}, expected a text of 1 to 200 characters, or None")
    return user


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
