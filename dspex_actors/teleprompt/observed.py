"""What a program did, example by example, read from the results of its run."""

from __future__ import annotations

from collections.abc import Iterable

from dspex_actors.client.result import Result
from dspex_actors.teleprompt.steps import Observe, Observed


def observed(step: Observe, results: Iterable[Result]) -> list[Observed]:
    """Return what each example of a step came to, in order; one without a result failed.

    Args:
        step: the step.
        results: of its run.
    """
    found = [Observed(step.failure_score) for _ in step.examples]
    for one in results:
        extra = one.extra
        unread = extra.get("unread")
        found[one.index] = Observed(
            step.failure_score if one.error is not None or one.score is None else float(one.score),
            one.prediction,
            extra.get("scores") or {},
            extra.get("feedback"),
            [(name, inputs, outputs) for name, inputs, outputs in extra.get("trace") or ()],
            None if unread is None else (unread[0], unread[1], unread[2]),
            one.error,
        )
    return found
