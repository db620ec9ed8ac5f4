"""What the run of an optimiser's step came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dspex_actors.client.result import EvaluationResult, Result
from dspex_actors.client.system import System
from dspex_actors.errors import AuthError, QuotaExhausted, RunFailed, failed_as, from_record
from dspex_actors.foundation.scores import METRIC_FAILED
from dspex_actors.runs.plan.hopeless import is_outage
from dspex_actors.teleprompt.bootstrap_select import Attempt, Bootstrapped, select
from dspex_actors.teleprompt.observed import observed
from dspex_actors.teleprompt.scoring import score_of
from dspex_actors.teleprompt.steps import ENOUGH, Ask, Bootstrap, Evaluate, Observe, Observed, Run, Scored

#: What an error has whose bootstrap met nothing but an outage.
_AWAY = "_is_outage"


def outcome(system: System, step: Run, run_id: str) -> Any:
    """Return what a run that has ended came to.

    Raises:
        RunFailed: it ended without a result, or the bootstrap reached its `max_errors`.
        RunInterrupted: it was paused.
    """
    result = system._ended(run_id)
    match step:
        case Evaluate():
            return _scored(result)
        case Observe():
            return observed(step, result.results)
        case Ask():
            rows = {one.index: one.prediction for one in result.results if one.error is None}
            return [rows.get(place) for place in range(len(step.rows))]
        case Bootstrap():
            return bootstrapped(step, result, run_id)


def _scored(result: EvaluationResult) -> Scored:
    rows: list[float] = []
    error, unscored = None, 0
    for one in result.results:  # once: they are read from the journal as they are gone through
        rows.append(0.0 if one.score is None else float(one.score))
        error = error or one.error
        unscored += _is_unscored(one.error)
    # Summed in the order of the examples, as DSPy does: the run's own sum is in that of the answers, and may be off by
    # a digit that decides.
    return Scored(score_of(rows) if rows else None, rows, result.failed, result.run_id, error, unscored)


def _is_unscored(error: Mapping[str, Any] | None) -> bool:
    """Tell whether it was the metric that failed."""
    return error is not None and METRIC_FAILED in str(error.get("message"))


class Tried:
    """Whether any example of an optimisation has a score; where none has, no candidate is better than another.

    Args:
        run_id: the optimisation.
    """

    def __init__(self, run_id: str | None) -> None:
        """Nothing was tried."""
        self._run_id, self._count, self._any, self._why = run_id, 0, False, ""
        self._unscored = 0

    def see(self, came: Any) -> None:
        """Take in what a step came to; of those that score nothing there is nothing to see."""
        match came:
            case Scored() if came.subscores:
                self._take(came.failed < len(came.subscores), came.error, came.unscored)
            case [Observed(), *_]:
                errors = [one.error for one in came if one.error is not None]
                self._take(len(errors) < len(came), errors[0] if errors else None, sum(map(_is_unscored, errors)))

    def failed(self, step: Run, error: Exception) -> None:
        """Take in what a step ended by that came to nothing."""
        if isinstance(step, Evaluate | Observe):
            self._count += 1
            self._why = self._why or str(error)
            self._unscored += len(step.examples) if METRIC_FAILED in str(error) else 0

    def _take(self, is_scored: bool, error: Mapping[str, Any] | None, unscored: int) -> None:
        self._count, self._any = self._count + 1, self._any or is_scored
        self._unscored += unscored
        if error is not None:
            self._why = self._why or f"{error.get('type')}: {error.get('message')}"

    def check_metric(self) -> None:
        """Refuse to go on with a metric that has failed for whatever it was asked: nothing could be compared, ever.

        Raises:
            RunFailed: it has, for `ENOUGH` examples, and none has a score.
        """
        if self._unscored >= ENOUGH and not self._any:
            self.check()

    def check(self) -> None:
        """Refuse an optimisation in which all examples failed.

        Raises:
            RunFailed: with the first one's error.
        """
        if self._count and not self._any:
            evaluations = f"each of {self._count:,} evaluations" if self._count > 1 else "the only evaluation"
            raise RunFailed(
                f"nothing could be compared: all examples of {evaluations} failed, the first with {self._why}",
                run_id=self._run_id,
            )


def bootstrapped(step: Bootstrap, result: EvaluationResult, run_id: str) -> Bootstrapped:
    """Return what a bootstrap's run came to.

    Raises:
        RunFailed: it reached `max_errors`; it can be caught as the error that did it, too.
    """
    errors: list[Mapping[str, Any]] = []
    found = select(
        _with_errors(_attempts(result.results, run_id), errors),
        max_bootstrapped_demos=step.max_bootstrapped_demos,
        max_errors=step.max_errors,
    )
    if found.fatal is not None:
        index, record = found.fatal
        counted = f"{found.errors} of {step.max_errors} errors" if step.max_errors else "an error"
        error = failed_as(
            record,
            f"the bootstrap gave up after {counted}; the last, of example {index:,}: "
            f"{record.get('type')}: {record.get('message')}",
            run_id,
        )
        if is_outage(errors):
            vars(error)[_AWAY] = True
        raise error from from_record(record)
    return found


def says_nothing(error: Exception) -> bool:
    """Tell whether a bootstrap failed by a key, an account, or who answers nobody: it says nothing of its examples."""
    return isinstance(error, AuthError | QuotaExhausted) or _AWAY in vars(error)


def _with_errors(attempts: Iterable[Attempt], errors: list[Mapping[str, Any]]) -> Iterator[Attempt]:
    """Give attempts, and keep of each nothing but its errors: what it has written may be large."""
    for attempt in attempts:
        errors.extend(attempt.errors)
        yield attempt


def _attempts(results: Iterable[Result], run_id: str) -> Iterator[Attempt]:
    for place, result in enumerate(results):
        if result.index != place:
            raise RunFailed(f"example {place:,} has no result in run {run_id}", run_id=run_id)
        prediction = result.prediction
        yield Attempt.from_fields(None if prediction is None else dict(prediction.items()), result.error)
