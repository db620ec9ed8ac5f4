"""KNNFewShot: demos that are chosen for each call, from the examples nearest to its inputs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Self

from dspex_actors.example import Example
from dspex_actors.foundation.config_errors import ConfigTypeError
from dspex_actors.programs.carrying import acarry, carry
from dspex_actors.programs.knn import KNN
from dspex_actors.programs.module import Module
from dspex_actors.programs.steps import Ask, Steps
from dspex_actors.settings import context, settings
from dspex_actors.teleprompt.bootstrap import BootstrapFewShot, check_pair
from dspex_actors.teleprompt.bootstrap_select import Attempt, Step, passes, select, steps_of, student_demos
from dspex_actors.teleprompt.optimizer import Optimizer, Program
from dspex_actors.teleprompt.taken import check_as_it_runs


class KNNFewShot(Optimizer):
    """Give each call the demos that a bootstrap makes of the examples nearest to its inputs, as DSPy's `KNNFewShot`.

        optimizer = dspex.KNNFewShot(k=3, trainset=trainset, vectorizer=dspex.Embedder("openai/..."), metric=metric)
        better = optimizer.compile(dspex.ChainOfThought("question -> answer"))

    A call of the compiled program finds the `k` nearest examples (`dspex.KNN`), does with them what `BootstrapFewShot`
    does with a trainset, one after the other and where the program runs, and asks the program with these demos. So a
    call is up to k + 1 calls. With `max_bootstrapped_demos=0` the examples are demos as they are, and it is one.

    Args:
        k: examples per call.
        trainset: Examples with their inputs marked.
        vectorizer: as of `dspex.KNN`.
        **few_shot_bootstrap_args: of `BootstrapFewShot`: metric, max_bootstrapped_demos, ...

    Raises:
        ConfigError: one of them is not usable.
    """

    supports_distributed = False
    needs_metric = False

    def __init__(self, k: int, trainset: Iterable[Example], vectorizer: Any, **few_shot_bootstrap_args: Any) -> None:
        """Compute the vectors of the trainset."""
        self.few_shot_bootstrap_args = few_shot_bootstrap_args
        self._bootstrap = BootstrapFewShot(**few_shot_bootstrap_args)
        if isinstance(trainset, str | bytes | Mapping) or not isinstance(trainset, Iterable):
            raise ConfigTypeError(f"trainset is invalid: got {trainset!r:.80}, expected a list of Examples")
        self.KNN = KNN(k, trainset, vectorizer)
        self.trainset = self.KNN.trainset

    def configure(self, **settings: Any) -> Self:
        """Return one like this with other settings; where its examples stay, their vectors are not computed again.

        Args:
            **settings: arguments of its class, by name.

        Raises:
            ConfigError: one of them is not usable.
        """
        if {"k", "trainset", "vectorizer"} & set(settings):
            return super().configure(**settings)
        twin = copy.copy(self)
        twin.few_shot_bootstrap_args = {**self.few_shot_bootstrap_args, **settings}
        twin._bootstrap = self._bootstrap.configure(**settings)
        args, kwargs = vars(self)["_made_with"]
        vars(twin)["_made_with"] = (args, {**kwargs, **settings})
        return twin

    def compile(self, student: Program, *, teacher: Module | None = None) -> Program:
        """Return a copy of the program that chooses its demos for each call.

        Args:
            student: the program, not optimised before; it stays as it is. The copy has no LM of its own.
            teacher: a program with the same predictors that makes the demos; None: the student.

        Raises:
            ConfigError: they are not usable.
        """
        check_as_it_runs(type(self), student)
        check_pair(student, teacher)
        chosen = _Chosen(self.KNN, self._bootstrap, student.deepcopy(), teacher)
        program = student.reset_copy()
        # Both: of a program that has two ways, each is this one.
        vars(program).update(forward=chosen.forward, aforward=chosen.aforward)
        return program


class _Chosen:
    """What a compiled program does in the place of its own code."""

    def __init__(self, knn: KNN, bootstrap: BootstrapFewShot, student: Module, teacher: Module | None) -> None:
        self._knn, self._bootstrap = knn, bootstrap
        self._student, self._teacher = student, teacher

    def forward(self, **kwargs: Any) -> Any:
        return carry(self._steps(kwargs))

    async def aforward(self, **kwargs: Any) -> Any:
        return await acarry(self._steps(kwargs))

    def _steps(self, inputs: dict[str, Any]) -> Steps:
        examples = yield from self._knn.steps(**inputs)
        found = yield from self._bootstrapped(examples)
        program = self._student.reset_copy()
        demos = student_demos(
            dict(program.named_predictors()), examples, found, max_labeled_demos=self._bootstrap.max_labeled_demos
        )
        for name, predictor in program.named_predictors():
            predictor.demos = demos[name]
        return (yield Ask(program, **inputs))

    def _bootstrapped(self, examples: list[Example]) -> Steps:
        """Have the teacher try one example after the other, until enough have passed."""
        of = self._bootstrap
        attempts: list[Attempt] = []
        passed = errors = 0
        if of.max_bootstrapped_demos and of.max_rounds:
            master = of.teacher_for(self._student, self._teacher, examples)
            for example in examples:
                steps: list[Step] | None = None
                for number in range(of.max_rounds):
                    try:
                        steps = yield from self._round(master, example, number)
                    except Exception:
                        errors += 1
                        if errors >= of.max_errors:
                            raise
                    if steps is not None:
                        break
                attempts.append(Attempt(steps is not None, steps or ()))
                passed += steps is not None
                if passed >= of.max_bootstrapped_demos:
                    break
        return select(attempts, max_bootstrapped_demos=of.max_bootstrapped_demos, max_errors=of.max_errors)

    def _round(self, master: Module, example: Example, number: int) -> Steps:
        """Return the teacher's steps if the metric lets them pass; None if not."""
        of = self._bootstrap
        teacher = master.deepcopy()
        for predictor in teacher.predictors():
            predictor.demos = [demo for demo in predictor.demos if demo != example]
        trace: list[Any] = []
        with context(**{**of.teacher_settings, "trace": trace}):
            lm = settings.lm
            if number and callable(getattr(lm, "copy", None)):
                lm = lm.copy(rollout_id=number, temperature=1.0)
            with context(lm=lm):
                prediction = yield Ask(teacher, **dict(example.inputs().items()))
                value = True if of.metric is None else (yield Ask(of.metric, example, prediction, trace))
        return steps_of(teacher, trace) if passes(value, of.metric_threshold) else None
