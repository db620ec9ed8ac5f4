"""What workers have of a run that is not in the journal: asked for by an evaluator that begins, or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from dspex_actors.runs.spec import INHERIT_SECONDS
from dspex_actors.runs.work import HandOver, Rest, Result
from supervisors import GenServer, Ref
from supervisors.errors import SupervisorsError


async def rest_of(
    evaluator: GenServer,
    worker: Ref,
    run_id: str,
    calls: Literal["wait", "cancel", "leave"],
    seconds: float = INHERIT_SECONDS + 5.0,
) -> AsyncIterator[tuple[bytes, Result]]:
    """Give packed example and result of all that a worker has; nothing more of one that is gone or does not answer.

    Args:
        evaluator: who asks.
        worker: who is asked.
        run_id: the run.
        calls: what the worker does about calls that are under way, see `HandOver`.
        seconds: how long it may take to answer.
    """
    more = True
    while more:
        try:
            rest = await evaluator.call(worker, HandOver(run_id, calls), timeout=seconds)
        except SupervisorsError:
            return
        if not isinstance(rest, Rest):
            evaluator.log.error("a worker is of another version: what it has is asked again", answer=repr(rest)[:200])
            return
        for payload, result in zip(rest.payloads, rest.results, strict=True):
            yield payload, result
        more = rest.more
