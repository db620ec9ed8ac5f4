"""Which LM to ask when one cannot answer. Pure.

The order is the one that was given. Another model is asked when this one is away, too slow, out of quota or refuses
the key, or when the prompt does not fit its window; not when the request itself is wrong or was blocked: it would be
so there too, and a blocked prompt is not passed around.
"""

from __future__ import annotations

from dspex_actors.errors import ContentBlocked, ContextWindowExceeded, InvalidRequest, LMError
from dspex_actors.lm.lm import LM


def candidates(lm: LM) -> list[LM]:
    """Return the LM's fallbacks as LMs; one that is given as a model string takes over parameters and times.

    Fallbacks of fallbacks are not followed.
    """
    return [
        LM(other, timeout=lm.timeout, deadline=lm.deadline, cache=lm.cache, **lm.kwargs)
        if isinstance(other, str)
        else other
        for other in lm.fallbacks
    ]


def worth_another(error: LMError) -> bool:
    """Whether another model may answer what failed with `error`."""
    if isinstance(error, ContextWindowExceeded):
        return True
    return not isinstance(error, InvalidRequest | ContentBlocked)
