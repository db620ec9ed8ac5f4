"""Which examples of a run are recorded in full: all, none, or a share of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from dspex_actors.errors import ConfigError


def recording(trace: Any, sample: Any) -> dict[str, Any]:
    """Return the settings of a run for what it records; none where it records nothing.

    Args:
        trace: record every example.
        sample: the share of those that are recorded, from 0.0 to 1.0.

    Raises:
        ConfigError: one of them is something else.
    """
    if not isinstance(trace, bool):
        raise ConfigError(f"trace is invalid: got {trace!r:.100}, expected True or False")
    if isinstance(sample, bool) or not isinstance(sample, (int, float)) or not 0 <= sample <= 1:
        raise ConfigError(f"sample is invalid: got {sample!r:.100}, expected a share from 0.0 to 1.0")
    if trace:
        return {"trace": True}
    return {"sample": float(sample)} if sample else {}


def recorded(run_id: str, options: dict[str, Any]) -> Callable[[int], bool]:
    """Return what says of an example, by its index, whether it is recorded: the same at every try, in every worker.

    Args:
        run_id: the run.
        options: of its job. `trace`: true for all. `sample`: the share of those that are, from 0.0 to 1.0.
    """
    share = 1.0 if options.get("trace") else float(options.get("sample") or 0.0)
    if share <= 0.0 or share >= 1.0:
        return lambda index: share >= 1.0
    most = int(share * 2**64)

    def is_in_sample(index: int) -> bool:
        digest = hashlib.blake2b(f"{run_id}/{index}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < most

    return is_in_sample
