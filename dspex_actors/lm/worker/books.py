"""What one request is worth in the books: tokens and price as far as they are known. Pure."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import LMError
from dspex_actors.lm.attempts import Attempt
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


def attempt(
    n: int,
    at: float,
    provider: str,
    model: str,
    latency: float,
    *,
    wire: WireReply | None = None,
    error: LMError | None = None,
    usage: Usage,
    cost: float | None,
) -> Attempt:
    """Return the row of a request.

    Args:
        n: its number within the sending of its example.
        at: wall-clock seconds when it was sent.
        provider: who was asked.
        model: which model.
        latency: seconds until it ended.
        wire: the answer; None: there was none.
        error: what it failed with; without it and without an answer the request was cancelled.
        usage: what it used.
        cost: what it cost; None: unknown.
    """
    told: dict[str, Any] = {}
    if wire is not None:
        told = {"finish_reason": wire.finish_reason, "request_id": wire.request_id}
    elif error is not None:
        told = {"error": type(error).__name__, "status": error.status, "request_id": error.request_id}
    outcome = "answered" if wire is not None else "failed" if error is not None else "cancelled"
    return Attempt(n, at, provider, model, outcome, usage=usage.to_dict(), cost=cost, latency=latency, **told)
