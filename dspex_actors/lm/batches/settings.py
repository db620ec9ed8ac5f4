"""How a run goes through batches, as its settings have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Parts

#: Whose batches are known.
PROVIDERS = ("openai", "anthropic")
#: How a request may be billed: a batch has a price of its own.
_TIERS = (None, "auto", "default", "standard_only")
#: Examples at once where nothing is said; each of those that wait takes some 30 KB in its worker.
EXAMPLES = 10_000
#: Seconds that an example of such a run may take where nothing is said: a round takes up to a day.
EXAMPLE_SECONDS = 7 * 86_400.0
#: Legal numbers of seconds.
_RANGES = {"poll": (0.01, 3600.0), "gather": (0.01, 3600.0)}


class BatchSettings(NamedTuple):
    """How a run goes through batches.

    Args:
        poll: seconds between two looks at a batch.
        gather: a batch goes when no further request has come for so many seconds, or when it is full.
    """

    poll: float = 30.0
    gather: float = 5.0


def check_batch(batch: Any) -> dict[str, float] | None:
    """Return the setting of a run; None: it does not go through batches.

    Args:
        batch: True, False, or what is other than usual.

    Raises:
        ConfigError: it is something else.
    """
    if batch is None or batch is False:
        return None
    if batch is True:
        return BatchSettings()._asdict()
    if not isinstance(batch, Mapping) or not batch.keys() <= _RANGES.keys():
        raise ConfigError(
            f"batch is invalid: got {batch!r:.100}, expected True, False, or seconds as {{'poll': 30, 'gather': 5}}"
        )
    for name, value in batch.items():
        low, high = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ConfigError(f"batch[{name!r}] is invalid: got {value!r:.100}, expected {low:g} to {high:g} seconds")
    return BatchSettings(**{name: float(value) for name, value in batch.items()})._asdict()


def refuse_unfit(lms: Iterable[Any]) -> None:
    """Refuse LMs that cannot be asked in batches, their fallbacks too.

    Raises:
        ConfigError: names the LM, and what to do.
    """
    for lm in lms:
        if lm is None:
            continue
        if not isinstance(lm, LM):
            what = type(lm).__name__ if isinstance(lm, BaseLM) else repr(lm)[:60]
            raise ConfigError(
                f"batch is invalid with {what}: got an LM of your own, expected a dspex.LM, or batch=False"
            )
        for parts in _all_parts(lm._parts):
            refuse_parts(parts, parts.params)


def refuse_parts(parts: Parts, params: Mapping[str, Any]) -> None:
    """Refuse a call that cannot be made in a batch.

    Raises:
        ConfigError: says why, and what to do.
    """
    deployment = parts.deployment
    if deployment.provider not in PROVIDERS:
        raise ConfigError(
            f"batch is invalid with {deployment.model}: got an LM without batches, expected one of "
            f"{' or '.join(PROVIDERS)}, or batch=False"
        )
    if params.get("stream"):
        raise ConfigError(
            f"batch is invalid with {deployment.model}: got stream, expected whole replies, or batch=False"
        )
    if params.get("service_tier") not in _TIERS:
        raise ConfigError(
            f"batch is invalid with {deployment.model}: got service_tier={params['service_tier']!r:.50}, expected "
            "none: a batch has a price of its own; or batch=False"
        )


def _all_parts(parts: Parts) -> list[Parts]:
    return [parts, *(inner for other in parts.others for inner in _all_parts(other))]
