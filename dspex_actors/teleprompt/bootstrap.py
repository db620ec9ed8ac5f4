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
from collections.abc import Callable, Generator, Mapping
from typing import Any

from dspex_actors.client.money import money_settings
from dspex_actors.client.system import System, current_system
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole, whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.foundation.optimisation import Optimisation
from dspex_actors.programs.module import Module
from dspex_actors.runs.budget import check_budget
from dspex_actors.settings import DEFAULTS, check_tags, context, settings
from dspex_actors.teleprompt.book import is_carried
from dspex_actors.teleprompt.bootstrap_select import Bootstrapped, student_demos
from dspex_actors.teleprompt.labeled import LabeledFewShot
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.outcomes import bootstrapped
from dspex_actors.teleprompt.step_runs import How, start
from dspex_actors.teleprompt.steps import Bootstrap, Candidate, Steps
from dspex_actors.teleprompt.trainset import check_gives_something, check_student, checked_lm, read_trainset, title

#: What `max_errors=None` means, as in DSPy.
MAX_ERRORS = 10
_log = logging.getLogger(__name__)


class BootstrapFewShot(Optimizer):
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
    where the sequential algorithm stops. So many are under way as it comes to by what has passed so far; what has run
    ahead of it is given up, some 5 % at most. With `max_in_flight` of `compile` always so many are: faster where
    little passes, and up to so many in vain. The results are in the node's journal: a worker that dies in the middle
    changes nothing.

    Where it differs from DSPy: a program may be async; the demos taken out for an example are back for the
    next one even if the call raised; a metric that cannot take three arguments is refused at once.

    Args:
        metric: `metric(example, prediction, trace)` → a bool or number, what is true lets pass; sync or async. None:
            every prediction passes.
        metric_threshold: the metric's value must reach it. None and 0: none, so any value but 0 is true.
        teacher_settings: settings for the teacher's calls: `lm`, `adapter` and the like, as in `context`.
        max_bootstrapped_demos: examples that have to pass; demos of that kind per predictor.
        max_labeled_demos: demos per predictor, labelled ones included; the teacher's too.
        max_rounds: tries per example.
        max_errors: give up with the so-many-th error; every try that raises counts. None: 10.
        teacher_pool: `(min, max)` teachers, each of which tries one example at a time: so many as tries are still
            needed by what has passed so far. A teacher that dies (with the worker that it is in) is started again, and
            what it tried is asked again once. None: as many as `max_in_flight` of `compile` says.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    needs_metric = False
    #: What one that was pickled before there were pools has.
    teacher_pool: tuple[int, int] | None = None

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        metric_threshold: float | None = None,
        teacher_settings: Mapping[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
        teacher_pool: tuple[int, int] | None = None,
    ) -> None:
        """Check the settings."""
        self.metric = checked_metric(metric)
        self.metric_threshold = _threshold(metric_threshold)
        self.teacher_settings = checked_teacher_settings(teacher_settings)
        self.max_bootstrapped_demos = whole("max_bootstrapped_demos", max_bootstrapped_demos, 0)
        self.max_labeled_demos = whole("max_labeled_demos", max_labeled_demos, 0)
        self.max_rounds = whole("max_rounds", max_rounds, 0)
        self.max_errors = MAX_ERRORS if max_errors is None else whole("max_errors", max_errors, 0)
        self.teacher_pool = _checked_pool(teacher_pool)

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
        budget: float | None = None,
        unknown_price: str = "refuse",
        tags: Mapping[str, str] | None = None,
    ) -> Program:
        """Return a copy of the program with demos; the program itself stays as it is.

        Args:
            student: the program, not optimised before.
            teacher: a program with the same predictors; None: the student itself.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            max_in_flight: always so many examples at once, all workers together. None: as many as will be needed by
                what has passed so far; 64 at most, or 4 per demo if that is more. With a `teacher_pool` the smaller
                of the two holds.
            run_id: continue this run; a finished one answers from the journal.
            display_progress: a bar on standard error, if that is a terminal.
            system: the connection; None: the one made last.
            force_resume: continue `run_id` also where it was another run, or was cancelled: "I know".
            budget: US dollars that the run may cost, as of `evaluate`; so `unknown_price` and `tags`.
            unknown_price: with a budget, "refuse" LMs whose price is not known, or "warn".
            tags: what the run is for: name → text.

        Raises:
            ConfigError: program, teacher or trainset are not usable, or nothing is connected.
            RunFailed: `max_errors` was reached; it can be caught as the error that did it, too.
            RunInterrupted: the node went away; `run_id` continues it.
            BudgetExceeded: the budget is used up; `run_id` and a larger one continue it.
        """
        if is_carried():  # it is the optimisation of somebody else, its bootstrap a step
            steps = self._carried(student, trainset, teacher, max_in_flight)
            options: Options = {
                "display_progress": False,
                "max_in_flight": max_in_flight,
                "force_resume": force_resume,
                "system": system,
            }
            return self.carry(steps, student, read_trainset(trainset, student), options)
        money, tags = check_budget(budget, unknown_price), {**settings.tags, **check_tags(tags or {})}
        check_student(student)
        examples = read_trainset(trainset, student)
        program = student.reset_copy()
        master = self.teacher_for(student, teacher, examples)
        check_same_structure(program, master)
        found = Bootstrapped()
        step = self._step(master, examples, max_in_flight)
        if step is not None:
            with (
                (system or current_system()).holding(run_id) as at,
                context(**{"tags": tags} if tags else {}),
                Optimisation(self.name, title(student), len(examples), self.settings()) as told,
            ):
                money = money_settings(at.journal, run_id, money, budget)
                lm = None if system is not None else settings.lm
                how = How(at, run_id, lm=lm, force_resume=force_resume, tags=tags)
                run_id = start(how, step, run_id, money)
                found = self._collect(at, step, run_id, told, display_progress)
        return self._with_demos(program, examples, found)

    def planned(self, student: Any, **arguments: Any) -> Steps:
        """Return the steps that `compile` would have carried out; see `Optimizer.planned`."""
        check_student(student)
        examples, teacher = read_trainset(arguments["trainset"], student), arguments.get("teacher")
        check_same_structure(student.reset_copy(), self.teacher_for(student, teacher, examples))
        return self._carried(student, examples, teacher, arguments.get("max_in_flight"))

    def steps(
        self,
        student: Program,
        examples: list[Any],
        teacher: Module | None = None,
        *,
        max_in_flight: int | None = None,
        spare: int = 0,
    ) -> Generator[Any, Any, Program]:
        """Yield what `compile` does as steps of an optimisation (`teleprompt.steps`), and return what it returns.

        Args:
            student: the program, not optimised before.
            examples: in this order.
            teacher: a program with the same predictors; None: the student itself.
            max_in_flight: as of `compile`.
            spare: where that is None: so many examples may be asked in vain, besides 5 % of the others.
        """
        program = student.reset_copy()
        master = self.teacher_for(student, teacher, examples)
        check_same_structure(program, master)
        step = self._step(master, examples, max_in_flight, spare)
        return self._with_demos(program, examples, Bootstrapped() if step is None else (yield step))

    def _carried(
        self, student: Program, trainset: Any, teacher: Module | None, max_in_flight: int | None = None
    ) -> Generator[Any, Any, Program]:
        examples = read_trainset(trainset, student)
        program = yield from self.steps(student, examples, teacher, max_in_flight=max_in_flight)
        yield Candidate("bootstrapped", program, None)
        return program

    def expected(self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any) -> int:
        """Return how many candidates there are."""
        return 1

    def _step(
        self, teacher: Module, examples: list[Any], max_in_flight: int | None, spare: int = 0
    ) -> Bootstrap | None:
        """Return what is to do; None: nothing is."""
        if not (examples and self.max_bootstrapped_demos and self.max_rounds):
            return None
        return Bootstrap(
            teacher,
            examples,
            self.metric,
            self.max_bootstrapped_demos,
            self.max_rounds,
            self.max_errors,
            self.metric_threshold,
            self.teacher_settings,
            max_in_flight,
            self.teacher_pool,
            spare,
        )

    def _with_demos(self, program: Program, examples: list[Any], found: Bootstrapped) -> Program:
        predictors = dict(program.named_predictors())
        for name, demos in student_demos(predictors, examples, found, max_labeled_demos=self.max_labeled_demos).items():
            predictors[name].demos = demos
        program._compiled = True
        return program

    def teacher_for(self, student: Module, teacher: Module | None, examples: list[Any]) -> Module:
        """Return the copy that tries the examples, with labelled demos unless it is optimised already."""
        if teacher is not None:
            check_student(teacher, "teacher")
        master = (student if teacher is None else teacher).deepcopy()
        if self.max_labeled_demos and not master._compiled:
            master = LabeledFewShot(self.max_labeled_demos).compile(master, trainset=examples)
        return master

    def _collect(
        self, system: System, step: Bootstrap, run_id: str, told: Optimisation, display_progress: bool
    ) -> Bootstrapped:
        done = 0

        def tell(summary: dict[str, Any]) -> None:
            nonlocal done
            if summary["done"] > done:
                done = summary["done"]
                told.iteration(done, of=summary["total"], score=summary["score"])

        try:
            result = system.wait_run(run_id, tell, display_progress=display_progress, label="bootstrapping")
        except KeyboardInterrupt:
            system.pause(run_id, "interrupted by Ctrl-C")
            print(f"run {run_id} is paused; continue with compile(..., run_id={run_id!r})", file=sys.stderr)
            raise
        found = bootstrapped(step, result, run_id)
        told.score, told.cost = 100.0 * len(found.passed) / max(1, found.looked_at), result.cost
        _log.info(
            "%d of the first %d examples passed, %d errors (%s)",
            len(found.passed),
            found.looked_at,
            found.errors,
            run_id,
        )
        return found


def check_pair(student: Any, teacher: Any) -> None:
    """Refuse a student and a teacher (None: the student itself) that cannot learn from each other.

    Raises:
        ConfigError: one is no program; or as `check_same_structure`.
    """
    check_student(student)
    if teacher is not None:
        check_student(teacher, "teacher")
    check_same_structure(student.reset_copy(), (student if teacher is None else teacher).deepcopy())


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


def _checked_pool(pool: Any) -> tuple[int, int] | None:
    if pool is None:
        return None
    pair = list(pool) if isinstance(pool, list | tuple) else []
    if len(pair) != 2 or not all(is_whole(one, 1) for one in pair) or pair[0] > pair[1]:
        raise ConfigValueError(
            f"teacher_pool is invalid: got {pool!r:.100}, expected (min, max), 1 <= min <= max, or None"
        )
    return pair[0], pair[1]


def checked_metric(metric: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return a metric that is called with a trace, too.

    Raises:
        ConfigError: it is no function, or cannot be called so.
    """
    if metric is None:
        return None
    if not callable(metric):
        raise ConfigError(f"metric: expected a function metric(example, prediction, trace), got {metric!r}")
    check_gives_something(metric)
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
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ConfigValueError(f"metric_threshold: expected a number or None, got {value!r}")
    return float(value)


def checked_teacher_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of a teacher's calls.

    Raises:
        ConfigError: there is no such setting, or its LM is none.
    """
    legal = [name for name in DEFAULTS if name != "trace"]
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"teacher_settings: expected a dict of settings, got {type(given).__name__}")
    unknown = [str(name) for name in given or {} if name not in legal]
    if unknown:
        names = ", ".join(unknown)
        raise ConfigError(f"teacher_settings: {names} cannot be set; there are {', '.join(legal)}")
    checked_lm("teacher_settings['lm']", (given or {}).get("lm"))
    return dict(given or {})
