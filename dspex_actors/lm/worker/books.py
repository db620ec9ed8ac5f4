"""What one request is worth in the books: tokens and price as far as they are known. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.errors import LMError
from dspex_actors.lm.attempts import Attempt, Ledger, book_outside, tags_text
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.prices import cost
from dspex_actors.lm.usage import Usage, prompt_tokens
from dspex_actors.lm.wire.exchange import WireReply

_NOTHING = Usage()


def failed_usage(error: LMError | None, messages: list[dict[str, Any]]) -> Usage:
    """Return what a request without an answer used, as far as anybody can tell.

    What the provider told with its error holds. A refusal (an HTTP status of an error) is not billed, and neither is
    what never reached the server. Of all else, a timeout, a connection that broke, an answer that cannot be read or was
    not waited for, the prompt at least is guessed.

    Args:
        error: what it failed with; None: it was given up.
        messages: what was asked.
    """
    if error is not None and error.usage is not None:
        return Usage.from_dict(error.usage)
    if error is not None and (not error.was_sent or (error.status or 0) >= 300):
        return _NOTHING
    return Usage(input_total=prompt_tokens(messages), estimated=True)


def price(deployment: Deployment, usage: Usage, told: str | None, tier: str | None, *, listed: bool) -> float | None:
    """Return the price of what was used, by the model that answered (None: nobody said which); None: unknown.

    Args:
        deployment: who was asked.
        usage: what was used.
        told: the model that answered.
        tier: how it is billed.
        listed: whether list prices hold: another server than the provider's own has its own.
    """
    provider, model = deployment.provider, deployment.model_name
    found = cost(usage, provider, told or model, tier=tier, listed=listed)
    if found is None and told is not None and told != model:
        found = cost(usage, provider, model, tier=tier, listed=listed)
    return found


def price_of_failure(deployment: Deployment, usage: Usage, tier: str | None, *, listed: bool) -> float | None:
    """Return the price of a request without an answer: that of guessed tokens is unknown."""
    if usage.estimated and deployment.provider != "embedded":
        return None
    return price(deployment, usage, None, tier, listed=listed) if usage.total else 0.0


def book(
    ledger: Ledger | None,
    n: int,
    at: float,
    provider: str,
    model: str,
    latency: float,
    *,
    wire: WireReply | None,
    error: LMError | None,
    usage: Usage,
    cost: float | None,
    user: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Enter how a request ended.

    Args:
        ledger: the book of its example; None: it belongs to no run.
        n: its number within the sending of its example.
        at: wall-clock seconds when it was sent.
        provider: who was asked.
        model: which model.
        latency: seconds until it ended.
        wire: the answer; None: there was none.
        error: what it failed with; without it and without an answer the request was cancelled.
        usage: what it used.
        cost: what it cost; None: unknown.
        user: for whom it was.
        tags: what it was for.
    """
    outcome, name, status, reason, request_id = "cancelled", None, None, None, None
    if wire is not None:
        outcome, reason, request_id = "answered", wire.finish_reason, wire.request_id
    elif error is not None:
        outcome, name, status, request_id = "failed", type(error).__name__, error.status, error.request_id
    index, send, enter = (0, 0, book_outside) if ledger is None else (ledger.index, ledger.send, ledger.book)
    enter(
        Attempt(
            index, send, n, at, provider, model, outcome,
            name, status, cost, latency, reason, request_id, usage.to_json(), user, tags_text(tags),
        )
    )  # fmt: skip
