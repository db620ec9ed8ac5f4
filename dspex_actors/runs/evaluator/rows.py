"""Results of workers as rows of the journal: what an example has cost with all its attempts, and when to give up."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.foundation.telemetry.recorded import RunProgress
from dspex_actors.journal.schema import Values, attempt_values, result_values
from dspex_actors.lm.attempts import Attempt
from dspex_actors.lm.usage import Usage
from dspex_actors.runs import notes
from dspex_actors.runs.budget import BUDGET
from dspex_actors.runs.plan.bills import Bills
from dspex_actors.runs.plan.hopeless import HopelessRule
from dspex_actors.runs.work import Result


def lost_rows(
    data_dir: Path, run_id: str, *, ended_only: bool, told: notes.Told = notes.none_told, tags: str | None = None
) -> list[Attempt]:
    """Return what was asked for a run as lost requests; the journal drops those of which it knows the end.

    Args:
        data_dir: the node's data folder.
        run_id: the run.
        ended_only: only by workers that have ended.
        told: says of a request whether its end is known here.
        tags: of the run, as `tags_text` writes them: what a request had beside them is not known.
    """
    return lost_attempts(notes.left_behind(data_dir, run_id, ended_only=ended_only, told=told), tags)


def lost_attempts(lines: Iterable[notes.Line], tags: str | None) -> list[Attempt]:
    """Return what was written down as lost requests; `tags` are those of the run."""
    return [
        Attempt(
            index=line.example,
            send=line.send,
            n=line.n,
            at=line.at,
            provider=line.provider,
            model=line.model,
            outcome="lost",
            usage=Usage(input_total=line.tokens, estimated=True).to_json(),
            cost=0.0 if line.provider == "embedded" else None,
            tags=tags,
        )
        for line in lines
    ]


class Rows:
    """Makes the rows of one run.

    Args:
        failure_score: the score of a failed example; None: none.
        answered: whether an earlier part of the run has answers.
        first_send: the number that each example's first sending by this evaluator has.
        decides: something hangs on all of its results.
    """

    def __init__(self, failure_score: float | None, *, answered: bool, first_send: int, decides: bool = False) -> None:
        """Begin."""
        self.hopeless = HopelessRule(answered=answered, decides=decides)
        #: Who counts what has its result.
        self.progress: RunProgress
        self._bills = Bills()
        self._failure_score = failure_score
        self._first_send = first_send
        #: Examples of whose first sending the first request was told: nearly all that there is, at a bit for each.
        self._told = IndexSet()

    def paid(self, result: Result) -> list[Values]:
        """Return the requests of a result as they are written."""
        attempts = result.attempts
        if result.send == self._first_send and attempts and attempts[0].n == 1:
            self._told.add(result.index)
        return list(map(attempt_values, attempts))

    def was_told(self, index: int, send: int, n: int) -> bool:
        """Say of a request whether `paid` had it; False also where that is not remembered."""
        return n == 1 and send == self._first_send and index in self._told

    def again(self, result: Result) -> None:
        """Take in an attempt after which the example is tried again."""
        self._bills.note(result.index, result.attempts)
        # What waited for a limit of our own alone has asked nobody, and says nothing of the provider.
        if result.again == "free" and result.attempts and result.error is not None:
            self.hopeless.waited(result.index, result.error)

    def put_off(self, result: Result) -> str:
        """Take in an attempt that lacked the money for a request; return why the run is paused."""
        self.again(result)
        error = result.error or {}
        return BUDGET if error.get("run_id") else f"{BUDGET}: {error.get('message')}"

    def settled(self, result: Result, payload: bytes, tries: int, worker: str) -> list[Values]:
        """Return the rows to write down now that an example has its result."""
        self.progress.settled(failed=result.error is not None)
        bill = self._bills.settle(result.index, result.attempts)
        score = result.score
        if result.error is not None and score is None:
            score = self._failure_score
        row = result_values(
            index=result.index,
            example=payload,
            prediction=result.prediction,
            score=score,
            error=result.error,
            attempts=tries,
            latency=result.latency,
            usage=bill.usage,
            asked=bill.asked,
            cost=bill.cost,
            worker=worker,
            at=time.time(),
            finish_reason=result.finish_reason or bill.finish_reason,
            extra=result.extra,
            cached=result.cached,
        )
        rows: list[Values] = self.hopeless.observe(row, result.failure, result.error)
        return rows
