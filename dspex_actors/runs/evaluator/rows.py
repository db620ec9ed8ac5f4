"""Results of workers as rows of the journal: what an example has cost with all its attempts, and when to give up."""

from __future__ import annotations

import time
from pathlib import Path

from dspex_actors.journal.records import AttemptRow
from dspex_actors.journal.schema import Values, attempt_values, result_values
from dspex_actors.lm.usage import Usage
from dspex_actors.runs import notes
from dspex_actors.runs.plan.bills import Bills
from dspex_actors.runs.plan.hopeless import HopelessRule
from dspex_actors.runs.work import Result


def paid(result: Result) -> list[Values]:
    """Return the requests of a result as they are written."""
    return [attempt_values(result.index, result.send, one) for one in result.attempts]


def lost_rows(data_dir: Path, run_id: str, *, ended_only: bool) -> list[AttemptRow]:
    """Return what was asked for a run as lost requests; the journal drops those of which it knows the end.

    Args:
        data_dir: the node's data folder.
        run_id: the run.
        ended_only: only by workers that have ended.
    """
    return [
        AttemptRow(
            index=line.example,
            send=line.send,
            n=line.n,
            at=line.at,
            provider=line.provider,
            model=line.model,
            outcome="lost",
            usage=Usage(input_total=line.tokens, estimated=True).to_dict(),
            cost=0.0 if line.provider == "embedded" else None,
        )
        for line in notes.left_behind(data_dir, run_id, ended_only=ended_only)
    ]


class Rows:
    """Makes the rows of one run.

    Args:
        node: the node's name, for who did it.
        failure_score: the score of a failed example; None: none.
        answered: whether an earlier part of the run has answers.
    """

    def __init__(self, node: str, failure_score: float | None, *, answered: bool) -> None:
        """Begin."""
        self.hopeless = HopelessRule(answered=answered)
        self._bills = Bills()
        self._node = node
        self._failure_score = failure_score

    def again(self, result: Result) -> None:
        """Take in an attempt after which the example is tried again."""
        self._bills.note(result.index, result.attempts)
        # What waited for a limit of our own alone has asked nobody, and says nothing of the provider.
        if result.again == "free" and result.attempts and result.error is not None:
            self.hopeless.waited(result.index, result.error)

    def settled(self, result: Result, payload: bytes, tries: int, worker: str) -> list[Values]:
        """Return the rows to write down now that an example has its result."""
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
            worker=f"{self._node}/{worker}",
            at=time.time(),
            finish_reason=result.finish_reason or bill.finish_reason,
            extra=result.extra,
        )
        rows: list[Values] = self.hopeless.observe(row, result.failure, result.error)
        return rows
