"""What `evaluate` returns: the figures of a run, and its results, read as they are asked for."""

from __future__ import annotations

import csv
import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dspex_actors.data.fields import unpack_example
from dspex_actors.errors import RunFailed
from dspex_actors.foundation.codec import Objects, json_text, unpack
from dspex_actors.journal.queries import PAGE
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunRow
from dspex_actors.journal.scores import named_scores, score_interval
from dspex_actors.journal.summary import (
    cost_of,
    duration_of,
    mean_of,
    result_record,
    row_score,
    run_summary,
    score_of,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dspex_actors.example import Example, Prediction

_CSV_COLUMNS = (
    "index", "inputs", "labels", "prediction", "score", "error", "attempts", "latency", "usage", "finish_reason",
    "cached",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one example.

    Args:
        index: its place in the dataset, from 0.
        example: the example, with its inputs marked.
        prediction: what the program returned; None where it failed.
        score: what the metric said; where the example failed, the run's `failure_score`. None: it has no score.
        error: the error's type, message and details; None where it succeeded.
        attempts: how often it was tried.
        latency: seconds of the last attempt.
        usage: tokens by kind.
        finish_reason: why the last answer ended: stop, length and so on; None: not told.
        extra: what there is beside the prediction: `scores`, `feedback`, `trace`.
        cached: the cache that its answers came from: memory, disk or semantic; None: an LM was asked.
    """

    index: int
    example: Example
    prediction: Prediction | None
    score: float | None
    error: dict[str, Any] | None
    attempts: int
    latency: float | None
    usage: dict[str, Any] | None
    finish_reason: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    cached: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Return all scores by name, of a metric that returns several; else none."""
        return self.extra.get("scores") or {}

    @property
    def feedback(self) -> str | None:
        """Return what the metric said about it; None: nothing."""
        return self.extra.get("feedback")


class Results(Sequence[Result]):
    """The results of a run in input order, read from the journal a page at a time.

    Args:
        reader: the journal.
        run: the run.
        count: how many there are.
        trusted: load pickled field values; for one's own journal.
        failed_only: only those with an error.
    """

    def __init__(
        self,
        reader: JournalReader,
        run: RunRow,
        count: int,
        *,
        trusted: bool = False,
        failed_only: bool = False,
    ) -> None:
        """Remember where to read."""
        self._reader, self._run, self._run_id, self._count = reader, run, run.run_id, count
        self._trusted, self._failed_only = trusted, failed_only
        # Where the pages begin that have been passed: position in this sequence -> index in the dataset.
        self._page_starts = [0]
        self._page: tuple[int, list[ResultRow]] | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def __iter__(self) -> Iterator[Result]:
        """Give the results, a page in memory at a time."""
        rows = self._reader.iter_results(self._run_id, failed_only=self._failed_only, limit=self._count)
        return (make_result(row, self._run, trusted=self._trusted) for row in rows)

    @overload
    def __getitem__(self, place: int) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> list[Result]: ...
    def __getitem__(self, place: int | slice) -> Result | list[Result]:
        """Return the result at a place, or those of a slice as a list."""
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(self._count))]
        at = place + self._count if place < 0 else place
        if not 0 <= at < self._count:
            raise IndexError(f"there are {self._count:,} results; got place {place}")
        rows = self._page_of(at // PAGE)
        if at % PAGE >= len(rows):
            raise IndexError(f"the journal has fewer than {at + 1:,} results of run {self._run_id}")
        return make_result(rows[at % PAGE], self._run, trusted=self._trusted)

    def __repr__(self) -> str:
        """Return how many there are."""
        return f"<{self._count:,} {'errors' if self._failed_only else 'results'} of {self._run_id}>"

    def _page_of(self, number: int) -> list[ResultRow]:
        if self._page is not None and self._page[0] == number:
            return self._page[1]
        first = min(number, len(self._page_starts) - 1)
        for at in range(first, number + 1):
            # Mostly place and index are the same; a run that is not finished may have gaps, found by going
            # forward.
            rows = self._reader.results(self._run_id, self._page_starts[at], PAGE, failed_only=self._failed_only)
            if at + 1 == len(self._page_starts) and rows:
                self._page_starts.append(rows[-1].index + 1)
            if not rows:
                break
        self._page = (number, rows)
        return rows


class EvaluationResult:
    """The outcome of an evaluation.

    Args:
        reader: the journal that has the run.
        row: the run as it was when it ended.
        trusted: load pickled field values from the journal; for one's own journal.
    """

    def __init__(self, reader: JournalReader, row: RunRow, *, trusted: bool = False) -> None:
        """Take the figures from `row`; the results stay in the journal."""
        self._reader, self._row, self._trusted = reader, row, trusted

    @classmethod
    def of(cls, reader: JournalReader, run_id: str, *, trusted: bool = False) -> EvaluationResult:
        """Return the outcome of a run in a journal.

        Raises:
            RunFailed: the journal has no such run.
        """
        row = reader.get_run(run_id)
        if row is None:
            raise RunFailed(f"there is no run {run_id!r} in {reader.path}", run_id=run_id)
        return cls(reader, row, trusted=trusted)

    @property
    def run_id(self) -> str:
        """Return the run's id."""
        return self._row.run_id

    @property
    def state(self) -> str:
        """Return running, paused, finished, failed or cancelled."""
        return self._row.state

    @property
    def score(self) -> float | None:
        """Return the mean score times 100 with two decimals; None when nothing has a score."""
        return score_of(self._row)

    @property
    def mean(self) -> float | None:
        """Return the mean score, unrounded; None when nothing has a score."""
        return mean_of(self._row)

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Return what the score lies between, by a bootstrap over the examples; None of fewer than two scores.

        Args:
            confidence: how sure, above 0 and below 1.
        """
        return score_interval(self._reader, self._row, confidence)

    @property
    def scores(self) -> dict[str, float]:
        """Return the mean of each score that has a name, times 100, of a metric that returns several; else none."""
        return named_scores(self._reader, self._row)

    @property
    def n(self) -> int:
        """Return the number of examples with a result, failed ones included."""
        return self._row.done

    @property
    def succeeded(self) -> int:
        """Return the number of examples that did not fail."""
        return self._row.succeeded

    @property
    def failed(self) -> int:
        """Return the number of examples that failed for good."""
        return self._row.failed

    @property
    def asked(self) -> int:
        """Return the number of LM calls made."""
        return self._row.asked

    @property
    def usage(self) -> dict[str, Any]:
        """Return tokens by kind."""
        return dict(self._row.usage)

    @property
    def cost(self) -> float | None:
        """Return the price; None where a price is unknown."""
        return cost_of(self._row)

    @property
    def duration(self) -> float:
        """Return the seconds the run was running, pauses left out."""
        return duration_of(self._row)

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return what each node has done of it, by name; the keys are those of `JournalReader.by_node`."""
        return self._reader.by_node(self.run_id)

    @property
    def hedged(self) -> dict[str, Any]:
        """Return what was started a second time at the end; the keys are those of `JournalReader.hedged`."""
        return self._reader.hedged(self.run_id)

    @property
    def results(self) -> Results:
        """Return the results in input order, read as they are asked for."""
        return Results(self._reader, self._row, self.n, trusted=self._trusted)

    @property
    def errors(self) -> Results:
        """Return the results that have an error, in input order, read as they are asked for."""
        return Results(self._reader, self._row, self.failed, trusted=self._trusted, failed_only=True)

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain data, with the keys of `dspex runs show --json`."""
        return run_summary(self._row)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """Write the figures and all results as one JSON document.

        Args:
            path: where to; then one result is in memory at a time. None: return the text.
        """
        parts = self._json_parts()
        if path is None:
            return "".join(parts)
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(parts)
        return None

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a line per result; inputs, labels, prediction, error and usage are JSON text in it."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(_CSV_COLUMNS)
            for row in self._reader.iter_results(self.run_id):
                record = result_record(row, self._row)
                out.writerow(_cell(record[name]) for name in _CSV_COLUMNS)

    def table(self) -> RenderableType:
        """Return the report for people; `rich.print` shows it."""
        from dspex_actors.client.report import report  # rich is loaded only by those who look

        return report(self._reader, self._row)

    def __repr__(self) -> str:
        """Return the run, its score and counts."""
        score = "no score" if self.score is None else f"score {self.score:.2f}"
        state = "" if self.state == "finished" else f", {self.state}"
        return f"<EvaluationResult {self.run_id}: {score}, {self.n:,} examples, {self.failed:,} failed{state}>"

    def _repr_html_(self) -> str:
        cells = {
            "score": self.score,
            "examples": f"{self.n:,}",
            "failed": f"{self.failed:,}",
            "cost": self.cost,
        }
        shown = {name: "–" if value is None else value for name, value in cells.items()}
        rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in shown.items())
        return f"<table><caption>{html.escape(self.run_id)} ({self.state})</caption>{rows}</table>"

    def _json_parts(self) -> Iterator[str]:
        yield json_text(self.summary())[:-1] + ',"results":['
        for place, row in enumerate(self._reader.iter_results(self.run_id)):
            yield (",\n" if place else "\n") + json_text(result_record(row, self._row))
        yield "\n]}\n"


def make_result(row: ResultRow, run: RunRow | None = None, *, trusted: bool = False) -> Result:
    """Return the result in a journal's row.

    Args:
        row: the row.
        run: its run, whose `failure_score` a failed example has.
        trusted: load pickled field values.
    """
    from dspex_actors.example import Example, Prediction

    objects: Objects = "try" if trusted else "show"
    inputs, labels = unpack_example(row.example, objects=objects) if row.example else ({}, {})
    fields = None if row.prediction is None else unpack(row.prediction, objects=objects)
    return Result(
        index=row.index,
        example=Example(inputs | labels).with_inputs(*inputs),
        prediction=None if fields is None else Prediction(**fields),
        score=row_score(row, run),
        error=row.error,
        attempts=row.attempts,
        latency=row.latency,
        usage=row.usage,
        finish_reason=row.finish_reason,
        extra={} if row.extra is None else unpack(row.extra, objects=objects),
        cached=row.cached,
    )


def _cell(value: Any) -> Any:
    return json_text(value) if isinstance(value, (dict, list)) else value
