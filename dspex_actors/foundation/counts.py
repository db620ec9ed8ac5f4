"""Token counts of several replies, summed by LM and named as DSPy names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: DSPy's names of our counts.
_DSPYS = {"input_total": "prompt_tokens", "output_total": "completion_tokens"}


def as_dspys(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts as DSPy names them, with their total; those that it does not have keep our names."""
    own = {_DSPYS.get(name, name): count for name, count in counts.items()}
    own.setdefault("total_tokens", own.get("prompt_tokens", 0) + own.get("completion_tokens", 0))
    first = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: own.get(name, 0) for name in first} | own


def summed_usage(calls: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Sum the usage of LM replies by model.

    Args:
        calls: replies with `model` and `usage` (a mapping, or something with `to_dict`).

    Returns:
        `provider/model` (the model alone where no provider is told) → counts by name; counts that a reply did not
        report are left out.
    """
    total: dict[str, dict[str, Any]] = {}
    for reply in calls:
        usage = reply.usage.to_dict() if hasattr(reply.usage, "to_dict") else dict(reply.usage or {})
        counts = total.setdefault(_lm_name(reply), {})
        for name, count in usage.items():
            if isinstance(count, bool):
                counts[name] = counts.get(name, False) or count
            elif isinstance(count, int | float):
                counts[name] = counts.get(name, 0) + count
    return total


def _lm_name(reply: Any) -> str:
    provider, model = getattr(reply, "provider", ""), str(reply.model)
    # An LM of the user's own has no provider but the word for that.
    return model if provider in ("", "own") or model.startswith(f"{provider}/") else f"{provider}/{model}"
