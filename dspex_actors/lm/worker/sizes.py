"""Whether a request fits its limits at all. Pure."""

from __future__ import annotations

from dspex_actors.errors import RateLimited
from dspex_actors.lm.deployment import Limits


def check_size(model: str, limits: Limits, tokens_in: int, tokens_out: int) -> None:
    """Refuse a request that no window ever lets through.

    Raises:
        RateLimited: it is final.
    """
    sizes = (
        ("tpm", limits.tpm, tokens_in + tokens_out, "minute"),
        ("itpm", limits.itpm, tokens_in, "minute"),
        ("otpm", limits.otpm, tokens_out, "minute"),
        ("tpd", limits.tpd, tokens_in + tokens_out, "day"),
    )
    for name, limit, size, unit in sizes:
        if limit is not None and size > limit:
            raise RateLimited(
                f"{model}: the request may take {size:,} tokens, and {name}={limit:g} lets that many through in no "
                f"{unit}: raise {name}, shorten the prompt or lower max_tokens",
                retryable=False,
            )
