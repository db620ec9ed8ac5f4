"""What telemetry tells of LM requests, a row per model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Metrics = Mapping[str, list[dict[str, Any]]]


def by_model(found: Metrics) -> list[dict[str, Any]]:
    """Return a row per deployment, those with most requests first.

    Args:
        found: metrics whose names begin with `lm.request.` or `rate_limiter.`, as `system.telemetry.metrics` gives.

    Returns:
        Dicts of model (`provider/model`), deployment, requests, errors (name → count), given_up (by who asked: a
        reader that did not read on, a task that was cancelled), latency, waited and first_piece
        (each p50, p90, p99 in seconds, or None), input_tokens, output_tokens, cost (USD; None where no price is known).
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name, series in found.items():
        for each in series:
            tags = each["tags"]
            if not {"model", "provider", "deployment"} <= tags.keys():
                continue
            row = rows.setdefault((tags["provider"], tags["model"], tags["deployment"]), _empty(tags))
            _take(row, name, tags, each)
    return sorted(rows.values(), key=lambda row: (-row["requests"], row["model"]))


def _empty(tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "model": f"{tags['provider']}/{tags['model']}",
        "deployment": tags["deployment"],
        "requests": 0,
        "errors": {},
        "given_up": 0,
        "latency": None,
        "waited": None,
        "first_piece": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost": None,
    }


def _take(row: dict[str, Any], name: str, tags: Mapping[str, str], series: Mapping[str, Any]) -> None:
    match name:
        case "lm.request.duration":
            row["requests"] += series["count"]
            row["latency"] = _quantiles(series)
        case "lm.request.time_to_first_chunk":
            row["first_piece"] = _quantiles(series)
        case "rate_limiter.waited":
            row["waited"] = _quantiles(series)
        case "lm.request.tokens":
            row["input_tokens" if tags.get("kind") == "input" else "output_tokens"] += int(series["sum"])
        case "lm.request.cost":
            row["cost"] = (row["cost"] or 0.0) + series["sum"]
        case "lm.request.errors":
            error = tags.get("error", "?")
            if error == "Cancelled":
                row["given_up"] += int(series["sum"])
                return
            row["errors"][error] = row["errors"].get(error, 0) + int(series["sum"])


def _quantiles(series: Mapping[str, Any]) -> dict[str, float] | None:
    return {key: series[key] for key in ("p50", "p90", "p99")} if series["count"] else None
