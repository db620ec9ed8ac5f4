"""BootstrapFewShot: a teacher's successful runs become the student's demos.

    optimizer = dspex.BootstrapFewShot(metric=dspex.metrics.exact_match("team"), max_bootstrapped_demos=16)
    better = optimizer.compile(triage, trainset=trainset)
    better.save("triage.json")

The demos are those that DSPy's sequential algorithm picks; the calls are made many at a time, by the node's
workers.
"""

from __future__ import annotations

import inspect
import logging
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dspex_actors.client.result import Result
from dspex_actors.client.system import System, current_system
from dspex_actors.errors import ConfigError, RunFailed, failed_as, from_record
from dspex_actors.foundation.checks import whole
from dspex_actors.programs.module import Module
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.snapshot import pack_settings
from dspex_actors.settings import DEFAULTS, settings
from dspex_actors.teleprompt.bootstrap_select import Attempt, Bootstrapped, select, student_demos
from dspex_actors.teleprompt.labeled import LabeledFewShot
from dspex_actors.teleprompt.trainset import read_trainset

Program = TypeVar("Program", bound=Module)

#: What `max_errors=None` means, as in DSPy.
MAX_ERRORS = 10
#: Examples in flight: at least so many, and so many per demo that is wanted.
IN_FLIGHT, IN_FLIGHT_PER_DEMO = 64, 4
_log = logging.getLogger(__name__)


class BootstrapFewShot:
    """Compose demos for a program: runs of a teacher that the metric let pass, and labelled examples.

    `compile` does this (the algorithm and its numbers are DSPy 3.4's `BootstrapFewShot`):

    1. The student is a copy of the program without demos and without an LM of its own.
    2. The teacher is a copy of the one given, else of the program. Unless it is optimised already or
       `max_labeled_demos` is 0, its demos are replaced by labelled ones (`LabeledFewShot`), and its own LM
       goes.
    3. The teacher tries one example after the other, without those of its demos that are equal to it. When
       `metric(example, prediction, trace)` lets the prediction pass, every predictor's call becomes a demo;
       of several calls of one predictor, one does. An example that did not pass has `max_rounds` tries in
       all, from the second on at temperature 1.
    4. That ends with `max_bootstrapped_demos` examples that passed. The student's predictors get their demos,
       and labelled examples, drawn from those that did not pass, up to `max_labeled_demos`.

    In step 3 many examples are under way at a time, but what counts is taken in input order and only up to
    where the sequential algorithm stops; what runs ahead of it, at most `max_in_flight` examples, is given
    up. The results are in the node's journal: a worker that dies in the middle changes nothing.

    Where it differs from DSPy: a program may be async; the demos taken out for an example are back for the
    next one even if the call raised; a metric that cannot take three arguments is refused at once.

    Args:
        metric: `metric(example, prediction, trace)` → what is true lets pass; sync or async. None: every
            prediction passes.
        metric_threshold: the metric's value must reach it. None and 0: none, so any value but 0 is true.
        teacher_settings: settings for the teacher's calls: `lm`, `adapter` and the like, as in `context`.
        max_bootstrapped_demos: examples that have to pass; demos of that kind per predictor.
        max_labeled_demos: demos per predictor, labelled ones included; the teacher's too.
        max_rounds: tries per example.
        max_errors: give up with the so-many-th error; every try that raises counts. None: 10.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        metric_threshold: float | None = None,
        teacher_settings: Mapping[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
    ) -> None:
        """Check the settings."""
        self.metric = _metric(metric)
        self.metric_threshold = _threshold(metric_threshold)
        self.teacher_settings = _teacher_settings(teacher_settings)
        self.max_bootstrapped_demos = whole("max_bootstrapped_demos", max_bootstrapped_demos, 0)
        self.max_labeled_demos = whole("max_labeled_demos", max_labeled_demos, 0)
        self.max_rounds = whole("max_rounds", max_rounds, 0)
        self.max_errors = MAX_ERRORS if max_errors is None else whole("max_errors", max_errors, 0)

    def compile(
        self,
        student: Program,
        *,
        teacher: Module | None = None,
        trainset: Any,
        max_in_flight: int | None = None,
        run_id: str | None = None,
        display_progress: bool = True,
        system: System | None = None,
        force_resume: bool = False,
    ) -> Program:
        """Return a copy of the program with demos; the program itself stays as it is.

        Args:
            student: the program, not optimised before.
            teacher: a program with the same predictors; None: the student itself.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            max_in_flight: examples at once, all workers together. None: 64, or 4 per demo if that is more.
            run_id: continue this run; a finished one answers from the journal.
            display_progress: a bar on standard error, if that is a terminal.
            system: the connection; None: the one made last.
            force_resume: continue `run_id` also where it was another run, or was cancelled: "I know".

        Raises:
            ConfigError: program, teacher or trainset are not usable, or nothing is connected.
            RunFailed: `max_errors` was reached; it can be caught as the error that did it, too.
            RunInterrupted: the node went away; `run_id` continues it.
        """
        if not isinstance(student, Module):
            raise ConfigError(f"student: expected a program (dspex.Module), got {type(student).__name__}")
        examples = read_trainset(trainset, student)
        program = student.reset_copy()
        master = self._teacher(student, teacher, examples)
        check_same_structure(program, master)
        found = Bootstrapped()
        if examples and self.max_bootstrapped_demos and self.max_rounds:
            if max_in_flight is None:
                max_in_flight = max(IN_FLIGHT, IN_FLIGHT_PER_DEMO * self.max_bootstrapped_demos)
            with (system or current_system()).holding(run_id) as at:
                how = {"run_id": run_id, "force_resume": force_resume}
                run_id = self._start(at, master, examples, max_in_flight, how, explicit=system is not None)
                found = self._collect(at, run_id, display_progress)
        predictors = dict(program.named_predictors())
        for name, demos in student_demos(predictors, examples, found, max_labeled_demos=self.max_labeled_demos).items():
            predictors[name].demos = demos
        program._compiled = True
        return program

    def _teacher(self, student: Module, teacher: Module | None, examples: list[Any]) -> Module:
        if teacher is not None and not isinstance(teacher, Module):
            raise ConfigError(f"teacher: expected a program (dspex.Module), got {type(teacher).__name__}")
        master = (student if teacher is None else teacher).deepcopy()
        if self.max_labeled_demos and not master._compiled:
            master = LabeledFewShot(self.max_labeled_demos).compile(master, trainset=examples)
        return master

    def _start(
        self,
        system: System,
        teacher: Module,
        examples: list[Any],
        max_in_flight: int,
        how: dict[str, Any],
        *,
        explicit: bool,
    ) -> str:
        # An exception of the program or the metric is final: trying again is what rounds are for.
        plan: dict[str, Any] = {"max_in_flight": max_in_flight, "failures": "skip"}
        PlanSettings(**plan)
        own = {name: value for name, value in self.teacher_settings.items() if name != "lm"}
        return system.start_run(
            "bootstrap",
            teacher,
            examples,
            self.metric or every_prediction,
            lm=self.teacher_settings.get("lm") or (None if explicit else settings.lm),
            packed={"teacher_settings": own},
            **how,
            settings={
                **plan,
                "rule": {"successes": self.max_bootstrapped_demos, "max_errors": self.max_errors},
                "max_rounds": self.max_rounds,
                "metric_threshold": self.metric_threshold,
                "teacher_settings": pack_settings(own),
            },
        )

    def _collect(self, system: System, run_id: str, display_progress: bool) -> Bootstrapped:
        try:
            result = system.wait_run(run_id, display_progress=display_progress, label="bootstrapping")
        except KeyboardInterrupt:
            system.pause(run_id, "interrupted by Ctrl-C")
            print(f"run {run_id} is paused; continue with compile(..., run_id={run_id!r})", file=sys.stderr)
            raise
        found = select(
            _attempts(result.results, run_id),
            max_bootstrapped_demos=self.max_bootstrapped_demos,
            max_errors=self.max_errors,
        )
        if found.fatal is not None:
            index, record = found.fatal
            counted = f"{found.errors} of {self.max_errors} errors" if self.max_errors else "an error"
            raise failed_as(
                record,
                f"the bootstrap gave up after {counted}; the last, of example {index:,}: "
                f"{record.get('type')}: {record.get('message')}",
                run_id,
            ) from from_record(record)
        _log.info(
            "%d of the first %d examples passed, %d errors (%s)",
            len(found.passed),
            found.looked_at,
            found.errors,
            run_id,
        )
        return found


def every_prediction(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Let every prediction pass: the metric of a bootstrap that has none."""
    return True


def check_same_structure(student: Module, teacher: Module) -> None:
    """Refuse a pair that cannot learn from each other.

    Raises:
        ConfigError: the student is optimised already, or the predictors have other names or signatures.
    """
    if student._compiled:
        raise ConfigError(
            "the student is optimised already: compile the program it was made from, or give it as teacher"
        )
    ours, theirs = dict(student.named_predictors()), dict(teacher.named_predictors())
    if list(ours) != list(theirs):
        raise ConfigError(
            f"student and teacher need the same predictors: the student has {', '.join(ours) or 'none'}; "
            f"the teacher has {', '.join(theirs) or 'none'}"
        )
    for name, predictor in ours.items():
        if predictor is theirs[name]:
            raise ConfigError(f"predictor {name} cannot be copied: student and teacher would share it")
        if not predictor.signature.equals(theirs[name].signature):
            raise ConfigError(
                f"predictor {name} has another signature in the teacher: {theirs[name].signature!r}; "
                f"the student's is {predictor.signature!r}"
            )


def _attempts(results: Iterable[Result], run_id: str) -> Iterator[Attempt]:
    for place, result in enumerate(results):
        if result.index != place:
            raise RunFailed(f"example {place:,} has no result in run {run_id}", run_id=run_id)
        prediction = result.prediction
        yield Attempt.from_fields(None if prediction is None else dict(prediction.items()), result.error)


def _metric(metric: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if metric is None:
        return None
    if not callable(metric):
        raise ConfigError(f"metric: expected a function metric(example, prediction, trace), got {metric!r}")
    try:
        signature = inspect.signature(metric)
    except ValueError:
        return metric  # written in C: it does not tell
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise ConfigError(
            f"metric: it is called as metric(example, prediction, trace), and {signature} cannot be; add `trace=None`"
        ) from None
    return metric


def _threshold(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ConfigError(f"metric_threshold: expected a number or None, got {value!r}")
    return float(value)


def _teacher_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    legal = [name for name in DEFAULTS if name != "trace"]
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"teacher_settings: expected a dict of settings, got {type(given).__name__}")
    unknown = [str(name) for name in given or {} if name not in legal]
    if unknown:
        names = ", ".join(unknown)
        raise ConfigError(f"teacher_settings: {names} cannot be set; there are {', '.join(legal)}")
    return dict(given or {})
