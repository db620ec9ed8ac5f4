"""What a call is told that has no turn under the limits: of which model, which limits, and what to do. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dspex_actors.errors import RateLimited
from dspex_actors.lm.deployment import Limits

_THEN = ": raise the limit, or the call's deadline"


def too_late(
    model: str, limits: Limits, learnt: float | None, seconds: float, retry_after: float | None, why: str = ""
) -> RateLimited:
    """Return the error of a call whose turn has not come.

    Args:
        model: who was to be asked.
        limits: those that hold.
        learnt: requests a second, as they were learnt; None: nothing was.
        seconds: that it has waited, or might have.
        retry_after: seconds after which its turn would be; None: nobody knows.
        why: nobody gives turns now; empty: somebody does.
    """
    names = [*limits.told, *(["learnt"] if learnt is not None else [])]
    under = with_values(names, limits, learnt) or "its limits"
    then = f": no node gives turns now, {why}" if why else _THEN
    return RateLimited(
        f"{model}: a turn under {under} did not come within {seconds:.1f} s{then}",
        retry_after=retry_after,
        retryable=True,
    )


def refused(model: str, limits: Limits, learnt: float | None, names: str, retry_after: float | None) -> RateLimited:
    """Return the error of a call that is refused.

    Args:
        model: who was to be asked.
        limits: those that hold.
        learnt: requests a second, as they were learnt.
        names: the limits that are in its way, with commas.
        retry_after: seconds after which it could be; infinite: never; None: nobody knows.
    """
    under = with_values(names.split(", "), limits, learnt)
    if retry_after == math.inf:
        return RateLimited(f"{model}: the request is larger than a limit ever lets through: {under}", retryable=False)
    when = "" if retry_after is None else f", and not before {retry_after:.1f} s"
    return RateLimited(
        f"{model}: a turn under {under} does not come in time{when}{_THEN}", retry_after=retry_after, retryable=True
    )


def with_values(names: Iterable[str], limits: Limits, learnt: float | None) -> str:
    """Return limits as people read them: `rpm=20, tpm=1000`; one of a user's or a tag's own has its name only."""
    known = {**limits.told, "learnt": learnt}
    return ", ".join(_with_value(name, known.get(name)) for name in names)


def _with_value(name: str, value: float | None) -> str:
    if value is None:
        return name
    return f"the learnt rate of {value:.3g} a second" if name == "learnt" else f"{name}={value:g}"
