"""What workers have of a run that is not in the journal: asked for by an evaluator that begins, or ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from dspex_actors.journal.schema import Values, attempt_values
from dspex_actors.names import worker_name
from dspex_actors.runs import notes
from dspex_actors.runs.evaluator.rows import lost_attempts
from dspex_actors.runs.spec import INHERIT_SECONDS
from dspex_actors.runs.work import GetAsked, HandOver, Rest, Result
from supervisors import GenServer, Ref
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup
from supervisors.errors import CallTimeout, NodeDown, SupervisorsError

#: What was asked on another node, and not told, is waited for at most so long, in seconds, and asked again this often.
ASKED_SECONDS, AGAIN_SECONDS = 3.0, 0.2


async def rest_of(
    evaluator: GenServer,
    worker: Ref,
    run_id: str,
    epoch: int,
    calls: Literal["wait", "cancel", "leave"],
    seconds: float = INHERIT_SECONDS + 5.0,
) -> AsyncIterator[tuple[bytes, Result]]:
    """Give packed example and result of all that a worker has; nothing more of one that is gone or does not answer.

    Args:
        evaluator: who asks.
        worker: who is asked.
        run_id: the run.
        epoch: of the evaluator.
        calls: what the worker does about calls that are under way, see `HandOver`.
        seconds: how long it may take to answer.
    """
    more = True
    while more:
        try:
            rest = await evaluator.call(worker, HandOver(run_id, calls, epoch), timeout=seconds)
        except SupervisorsError:
            return
        if not isinstance(rest, Rest):
            evaluator.log.error("a worker is of another version: what it has is asked again", answer=repr(rest)[:200])
            return
        for payload, result in zip(rest.payloads, rest.results, strict=True):
            yield payload, result
        more = rest.more


async def lost_at(
    evaluator: GenServer, nodes: Mapping[str, Ref | None], run_id: str, told: notes.Told, tags: str | None
) -> list[Values]:
    """Return the rows of what was asked on other nodes and never told; of one that does not answer none is known.

    A worker that was just killed is waited for: it has left what it had asked to its successor.

    Args:
        evaluator: who asks.
        nodes: these, each with a worker, where one is known.
        run_id: the run.
        told: says of a request whether its end is known.
        tags: of the run.
    """

    async def ask(node: str, known: Ref | None) -> list[notes.Line]:
        with contextlib.suppress(TimeoutError, CallTimeout, NodeDown):
            async with asyncio.timeout(ASKED_SECONDS):
                while True:
                    try:
                        ref = known or await evaluator.call(MEMBERSHIP, Lookup(node, worker_name(1)))
                        lines = await evaluator.call(ref, GetAsked(run_id))
                    except (CallTimeout, NodeDown):
                        raise
                    except SupervisorsError:
                        known = None
                        await asyncio.sleep(AGAIN_SECONDS)
                        continue
                    return (
                        [notes.Line(*line) for line in lines if not told(*line[:3])] if isinstance(lines, list) else []
                    )
        return []

    found = [line for lines in await asyncio.gather(*(ask(*each) for each in nodes.items())) for line in lines]
    return [attempt_values(attempt) for attempt in lost_attempts(found, tags)]
