"""What an inference ecosystem is made of: checked, and turned into its five members."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex_actors.cache.core import STRATEGIES
from dspex_actors.ecosystem.inference.cache import CacheManager
from dspex_actors.ecosystem.inference.coordinator import InferenceCoordinator
from dspex_actors.ecosystem.inference.messages import CACHE, COORDINATOR, MONITOR, PROCESSOR, VALIDATOR
from dspex_actors.ecosystem.inference.monitor import PerformanceMonitor
from dspex_actors.ecosystem.inference.processor import OutputProcessor
from dspex_actors.ecosystem.inference.validator import InputValidator
from dspex_actors.ecosystem.member import Member
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import whole
from dspex_actors.runs.spec import Job

#: The kind of inference ecosystems.
INFERENCE = "inference"
#: One transformation: of a Prediction, or such a function with a name of its own.
Transformation = Callable[[Any], Any] | tuple[str, Callable[[Any], Any]]


def members_of(
    job: Job,
    rules: bytes,
    processing: bytes,
    alerts: bytes,
    *,
    program: str,
    seconds: float,
    strict: bool,
    cache_strategy: str,
    cache_bytes: int,
    cache_ttl: float,
) -> list[Member]:
    """Return the five members, in start order.

    Args:
        job: the program, as workers open it.
        rules: packed `InputRules`.
        processing: packed (output rules, transformations).
        alerts: packed list of alerts.
        program: digest of the program.
        seconds: deadline of an inference.
        strict: whether inputs that do not fit are refused.
        cache_strategy: lru or lfu.
        cache_bytes: what the cache may take.
        cache_ttl: seconds after which an answer is stale.
    """
    return [
        Member(VALIDATOR, InputValidator, (rules, strict)),
        Member(CACHE, CacheManager, (cache_strategy, cache_bytes, cache_ttl)),
        Member(PROCESSOR, OutputProcessor, (processing,)),
        Member(MONITOR, PerformanceMonitor, (alerts,)),
        Member(COORDINATOR, InferenceCoordinator, (job, strict, program, seconds)),
    ]


def check_cache(strategy: Any, ttl: Any, size: Any) -> tuple[str, float, int]:
    """Return strategy, seconds and bytes of a cache.

    Raises:
        ConfigError: one of them is not legal.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"cache_strategy is invalid: got {strategy!r:.100}, expected {' or '.join(STRATEGIES)}")
    if ttl is None:
        ttl = math.inf
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl >= 0:
        raise ConfigError(
            f"cache_ttl is invalid: got {ttl!r:.100}, expected seconds, 0 or more (None, or infinity: for ever)"
        )
    return strategy, float(ttl), whole("cache_bytes", size, 0)


def check_deadline(seconds: Any) -> float:
    """Return the deadline of an inference.

    Raises:
        ConfigError: it is no positive, finite number of seconds.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigError(f"the deadline is invalid: got {seconds!r:.100}, expected a positive number of seconds")
    return float(seconds)


def check_flag(name: str, value: Any) -> bool:
    """Return a flag.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is invalid: got {value!r:.100}, expected True or False")
    return value


def named(transformations: Iterable[Transformation]) -> list[tuple[str, Callable[[Any], Any]]]:
    """Return transformations with their names: a function's own where none is given.

    Raises:
        ConfigError: one is no function of one argument, or no pair of a name and such a function.
    """
    if (
        callable(transformations)
        or isinstance(transformations, str | Mapping)
        or not isinstance(transformations, Iterable)
    ):
        raise ConfigError(
            f"the transformations are invalid: got {transformations!r:.100}, expected a list of functions"
        )
    found = []
    for place, given in enumerate(transformations):
        if isinstance(given, tuple) and len(given) == 2:
            name, function = given
        else:
            name, function = getattr(given, "__name__", f"number {place}"), given
        if not isinstance(name, str) or not callable(function) or isinstance(function, type):
            raise ConfigError(
                f"the transformation {place} is invalid: got {given!r:.100}, expected a function of a Prediction, or "
                "(name, function)"
            )
        found.append((name, function))
    return found
