"""What optimisers have in common: they yield steps, and `compile` carries these out on the node's workers."""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypedDict, TypeVar

from dspex_actors.client.inputs import check_called
from dspex_actors.client.labels import check_given
from dspex_actors.client.money import check_prices
from dspex_actors.client.progress import RunProgress
from dspex_actors.client.shared import Shared
from dspex_actors.client.system import System
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.foundation.optimisation import Optimisation
from dspex_actors.programs.module import Module
from dspex_actors.programs.told import told
from dspex_actors.settings import check_tags, context, settings
from dspex_actors.teleprompt.book import is_carried, opened
from dspex_actors.teleprompt.carry import carry_out
from dspex_actors.teleprompt.given import note, noting
from dspex_actors.teleprompt.made_of import PLAIN
from dspex_actors.teleprompt.step_runs import How
from dspex_actors.teleprompt.steps import Candidate, Steps
from dspex_actors.teleprompt.trainset import (
    check_gives_something,
    check_inputs,
    check_labels,
    check_student,
    read_trainset,
    title,
)

Program = TypeVar("Program", bound=Module)


class Options(TypedDict, total=False):
    """How `compile` is carried out; every optimiser takes these beside its own arguments.

    Args:
        max_in_flight: examples at once in each of its runs, all workers together; None: as for `evaluate`.
        run_id: continue this optimisation: what is done is not done again. None: a new one.
        display_progress: a bar on standard error, if that is a terminal. True unless said.
        system: the connection; None: the one made last.
        force_resume: continue `run_id` also where its runs were others: "I know".
        budget: US dollars that all of it may cost; they are not passed. Or a mapping with some of `usd`, `calls` (LM
            calls) and `seconds` (under way). None: no limit.
        unknown_price: with a budget, "refuse" LMs whose price is not known, or "warn".
        tags: what it is for, name → text; its runs have them, and `optimisation`, its id.
    """

    max_in_flight: int | None
    run_id: str | None
    display_progress: bool
    system: System | None
    force_resume: bool
    budget: float | Mapping[str, float] | None
    unknown_price: str
    tags: Mapping[str, str] | None


class _Planned(BaseException):
    """The steps of an optimiser that are not to be carried out by it."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps


class _NoSteps(ConfigError):
    """An optimiser has nothing carried out."""


class Optimizer:
    """Base of optimisers that are made of steps.

    A subclass writes a generator of steps and has `carry` carry it out:

        class Best(Optimizer):
            def compile(self, student, *, trainset, **options):
                examples = self.examples(student, trainset)
                return self.carry(self.steps(student, examples), student, examples, options)

            def steps(self, student, examples):
                scored = yield Evaluate(student, examples, self.metric)
                ...
                return student

    The generator must yield the same steps whenever it is given the same results: that is how an optimisation goes on
    after a kill. See docs/design/optimisation.md.
    """

    #: Its runs are done by the workers of all nodes.
    supports_distributed = True
    #: Whether it can do nothing without a metric.
    needs_metric = True
    #: Whether it calls programs with examples, whose inputs have to be marked for that.
    needs_inputs = True

    metric: Callable[..., Any] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Have callbacks told of its `compile`, and what that is given be known to the optimisation."""
        super().__init_subclass__(**options)
        if "compile" in vars(cls):
            cls.compile = told("compile")(noting(cls.compile))  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep what it is made with: `configure` makes another one of it."""
        made = super().__new__(cls)
        vars(made)["_made_with"] = (args, kwargs)
        return made

    @property
    def name(self) -> str:
        """Return what it is called."""
        return type(self).__name__

    def compile(self, student: Any, *args: Any, **options: Any) -> Any:
        """Return a better program; each optimiser says what it takes.

        Raises:
            NotImplementedError: a subclass has none.
        """
        raise NotImplementedError(f"{self.name} has no compile")

    def configure(self, **settings: Any) -> Self:
        """Return an optimiser like this one with other settings; this one stays as it is.

        Args:
            **settings: arguments of its class, by name.

        Raises:
            ConfigError: it has no such setting, or the value is not usable.
        """
        args, kwargs = vars(self)["_made_with"]
        there = inspect.signature(type(self))
        open_ended = any(one.kind is one.VAR_KEYWORD for one in there.parameters.values())
        unknown = [] if open_ended else sorted(set(settings) - set(there.parameters))
        if unknown:
            names = ", ".join(there.parameters)
            raise ConfigError(f"{self.name} has no setting {unknown[0]}: there are {names}")
        bound = there.bind(*args, **kwargs).arguments
        beside = [
            bound.pop(name) for name, one in there.parameters.items() if one.kind is one.VAR_KEYWORD and name in bound
        ]
        return type(self)(**{**bound, **(beside[0] if beside else {}), **settings})

    def made_with(self, name: str) -> Any:
        """Return an argument that it was made with, as it has kept it; None: it was not said."""
        args, kwargs = vars(self)["_made_with"]
        return vars(self).get(name, inspect.signature(type(self)).bind(*args, **kwargs).arguments.get(name))

    def planned(self, student: Any, **arguments: Any) -> Steps:
        """Return the steps that `compile` would have carried out, for an optimiser that is made of others.

        Args:
            student: the program.
            **arguments: of `compile`.

        Raises:
            ConfigError: as `compile`; or it makes no steps.
        """
        twin = copy.copy(self)

        def hand_over(steps: Steps, *rest: Any, **more: Any) -> Any:
            raise _Planned(steps)

        vars(twin)["carry"] = hand_over
        # Callbacks hear of what is compiled, and that is who asks.
        compile_ = getattr(type(twin).compile, "__wrapped__", type(twin).compile)
        try:
            compile_(twin, student, **arguments)
        except _Planned as planned:
            return planned.steps
        raise _NoSteps(f"{self.name} makes no runs that another optimiser could carry out")

    def check(self, student: Any, **arguments: Any) -> None:
        """Have `compile` check what it is given, without anything done.

        A `compile` that is not of this package is not called: it may do, and pay, whatever it likes.

        Args:
            student: the program.
            **arguments: of `compile`.

        Raises:
            ConfigError: as `compile`.
        """
        if not type(self).compile.__module__.startswith(f"{__package__}."):
            return
        with contextlib.suppress(_NoSteps):
            self.planned(student, **arguments)

    def expected(
        self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any
    ) -> int | None:
        """Return how many candidates it will tell of; None: it cannot tell. From it follows when it may end.

        Args:
            student: the program.
            trainset: how many examples it has; None: not known.
            valset: how many examples it has; None: there is none.
            **arguments: further ones of `compile`.
        """
        return None

    def expected_examples(self, student: Any, trainset: int, valset: int | None = None) -> int | None:
        """Return how many examples it will do in all, where it cannot tell candidates; None: not known either.

        Args:
            student: the program.
            trainset: how many examples it has.
            valset: how many examples it has; None: there is none.
        """
        return None

    def lms(self) -> list[Any]:
        """Return the LMs that it asks beside the program's: those that are among its settings."""
        found = [getattr(self, name, None) for name in ("prompt_model", "task_model", "reflection_lm")]
        teachers = getattr(self, "teacher_settings", None)
        found.append(teachers.get("lm") if isinstance(teachers, Mapping) else None)
        return [lm for lm in found if lm is not None]

    def settings(self) -> dict[str, Any]:
        """Return its settings that are plain data; its events show them."""
        return {name: value for name, value in vars(self).items() if name[0] != "_" and isinstance(value, PLAIN)}

    def examples(self, student: Any, source: Any, what: str = "trainset") -> list[Example]:
        """Return the examples of a dataset, after a look at the program that they are for.

        Raises:
            ConfigError: the program is none, or has no predictors; the dataset is none, or is empty; no metric is set.
        """
        check_student(student)
        if self.metric is None and self.needs_metric:
            raise ConfigError(
                f"metric: {self.name} compares programs by it: give it metric(example, prediction, trace=None)"
            )
        if self.metric is not None:
            check_called(student, self.metric)
            check_gives_something(getattr(self, "metric_fn", self.metric))
        found = read_trainset(source, student, what)
        if not found:
            raise ConfigValueError(f"{what}: expected at least one example, got none")
        check_labels(self.metric, found, what)
        if self.needs_inputs:
            check_inputs(found, what)
        check_given(student, found)
        note(what, found)
        return found

    def carry(
        self,
        steps: Steps,
        student: Program,
        examples: Sequence[Example],
        options: Options,
        expected: int | None = None,
        valset: Sequence[Example] = (),
    ) -> Program:
        """Carry steps out.

        Args:
            steps: the optimiser.
            student: the program.
            examples: the trainset.
            options: of `compile`.
            expected: how many candidates there will be; None: what `expected` says.
            valset: further examples that its runs have in common. Those, and the trainset, are handed to the node once;
                what else a step asks with is handed over with its run.

        Raises:
            ConfigError: an option is not usable, or `run_id` belongs to another optimisation.
            RunFailed: a step failed, and the optimiser cannot go on without.
            RunInterrupted: the node went away, or the budget is used up (BudgetExceeded); `run_id` continues it.
        """
        check_options(options)
        tags = {**settings.tags, **check_tags(options.get("tags") or {})}
        with (
            opened(self, student, examples, options, lambda run_id: {**tags, "optimisation": run_id}, expected) as book,
            context(tags=book.tags),
            Optimisation(self.name, title(student), len(examples), self.settings()) as told,
            _Bar(self.name, shown=options.get("display_progress", True)) as bar,
        ):

            def tell(key: str, candidate: Candidate) -> None:
                book.tell(key, candidate)
                bar.candidate(candidate)
                told.iteration(bar.count, score=candidate.score)

            def watch(found: dict[str, Any]) -> None:
                book.spent(found)
                bar.watch(found)

            run_id = book.run_id
            lm = None if options.get("system") is not None else settings.lm
            # What it asks itself, and not before some of it is paid for.
            check_prices(book.system.node, None, None, book.limits.to_settings(), self.lms())
            how = How(
                book.system,
                run_id,
                lm=lm,
                max_in_flight=options.get("max_in_flight"),
                force_resume=options.get("force_resume", False) or book.is_known,
                forced_at=book.forced_at,
                budget=book.limits.usd,
                calls=book.limits.calls,
                unknown_price=book.limits.unknown_price,
                tags=book.tags,
                watch=watch,
                tell=tell,
                parent_id=run_id,
                check=book.check,
                at_once=lambda: book.at_once,
                shared=Shared([*examples, *valset], run_id),
            )
            try:
                program: Program = carry_out(steps, how)
            except KeyboardInterrupt:
                print(
                    f"optimisation {run_id} is paused; continue with compile(..., run_id={run_id!r})", file=sys.stderr
                )
                raise
            told.score, told.cost = bar.best, how.spent
            if not is_carried():
                book.keep_result(program)
            return program


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option of `compile` that there is not, as Python does.

    Raises:
        TypeError: there is none of this name.
    """
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"compile() got an unexpected keyword argument {unknown[0]!r}")


class _Bar:
    """What one sees of an optimisation: candidates, the best score, examples under way, cost."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self._name, self._progress = name, RunProgress(name) if shown else None
        self.count = 0
        self.best: float | None = None

    def __enter__(self) -> _Bar:
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(*error)

    def candidate(self, candidate: Candidate) -> None:
        self.count += 1
        score = candidate.score
        if candidate.whole and score is not None and (self.best is None or score > self.best):
            self.best = score

    def watch(self, found: dict[str, Any]) -> None:
        if self._progress is None:
            return
        best = "" if self.best is None else f", best {self.best:.2f}"
        label = f"{self._name}: {self.count} candidates{best}"
        self._progress.update(found | {"failed": 0}, {"trouble": found.get("trouble")}, label=label)
