"""MIPROv2: instructions that an LM proposes and sets of demos, the best combination found by Bayesian optimisation.

optimizer = dspex.MIPROv2(metric=dspex.metrics.exact_match("team"), auto="light")
better = optimizer.compile(triage, trainset=trainset, valset=valset)
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Unpack

from dspex_actors.errors import RunFailed
from dspex_actors.example import Example
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.base import BaseLM
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity.canon import Noted
from dspex_actors.teleprompt.bootstrap import BootstrapFewShot, check_pair
from dspex_actors.teleprompt.candidates import Candidates, Logs
from dspex_actors.teleprompt.mipro.demo_sets import DemoSets
from dspex_actors.teleprompt.mipro.plan import AUTO, DEMOS_TO_SHOW, Plan, make_plan, split_at
from dspex_actors.teleprompt.mipro.proposals import Proposals
from dspex_actors.teleprompt.mipro.search import Found, Search
from dspex_actors.teleprompt.mipro.summary import summarise
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.scoring import Scores
from dspex_actors.teleprompt.steps import Together, spared
from dspex_actors.teleprompt.trainset import (
    checked_folder,
    checked_lm,
    checked_threads,
    make_folder,
    temperature,
    told_only,
)

#: What the best program has of the others, under DSPy's names.
_STATS = (
    "trial_logs", "score", "prompt_model_total_calls", "total_calls", "candidate_programs", "mb_candidate_programs",
)  # fmt: skip


class MIPROv2(Optimizer):
    """Have an LM propose instructions, bootstrap sets of demos, and search for the best combination.

    The algorithm and its numbers are DSPy 3.4's MIPROv2 (Opsahl-Ong et al. 2024, "Optimizing Instructions and
    Demonstrations for Multi-Stage Language Model Programs"):

    1. Sets of demos are bootstrapped from shuffles of the trainset.
    2. An LM sums up the dataset and describes the program; told of that, of a set of demos and of a tip, it proposes an
       instruction for each predictor and set.
    3. Combinations are tried: Optuna's TPE says which, each is scored on a minibatch of the valset. Every
       `minibatch_full_eval_steps` trials the combination that is best on average is scored on all of it. The best of
       those wins; the program as it is takes part.

    With the same seed and the same answers it chooses what DSPy chooses. What differs: sets of demos, proposals and
    the summary are made at once; the first trials, which chance decides, are scored at once; an example is not asked
    for again that the same combination was scored on; a proposal that cannot be read is left out instead of ending
    everything.

    Args:
        metric: `metric(example, prediction, trace=None)`; in a bootstrap it is given a trace.
        prompt_model: the LM that proposes; None: the one of the settings.
        task_model: the LM of predictors that have none; None: the one of the settings.
        teacher_settings: settings of the calls in bootstraps, as of `BootstrapFewShot`.
        max_bootstrapped_demos, max_labeled_demos: demos of a set, as of `BootstrapFewShot`; both 0: only instructions
            are searched for.
        auto: "light", "medium" or "heavy" decide candidates, trials and valset; None: `num_candidates` and
            `num_trials` do.
        num_candidates: instructions, and sets of demos, for each predictor.
        num_threads: accepted as DSPy accepts it; the node's workers do the work (`max_in_flight` of `compile`).
        max_errors: a bootstrap gives up with the so-many-th error; None: 10. In scoring a failed example counts 0.
        seed: of all chance.
        init_temperature: the temperature of proposals.
        verbose: accepted as DSPy accepts it; every question is in the journal.
        track_stats: have the best program tell of the others: `candidate_programs`, `mb_candidate_programs`,
            `trial_logs`, `score`, `total_calls`.
        log_dir: a folder for the state of every program that was scored (`evaluated_programs/program_7.json`).
        metric_threshold: what the metric's value must reach in a bootstrap; None: any true value.
        trials_in_flight: trials that are proposed without knowing of each other's scores, and carried out together,
            up to the next whole evaluation. With 1 the choices are DSPy's.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        prompt_model: BaseLM | None = None,
        task_model: BaseLM | None = None,
        teacher_settings: Mapping[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 4,
        auto: str | None = "light",
        num_candidates: int | None = None,
        num_threads: int | None = None,
        max_errors: int | None = None,
        seed: int = 9,
        init_temperature: float = 1.0,
        verbose: bool = False,
        track_stats: bool = True,
        log_dir: str | os.PathLike[str] | None = None,
        metric_threshold: float | None = None,
        trials_in_flight: int = 1,
    ) -> None:
        """Check the settings."""
        if auto is not None and (not isinstance(auto, str) or auto not in AUTO):
            raise ConfigValueError(f"auto is invalid: got {auto!r:.100}, expected one of {', '.join(AUTO)}, or None")
        self.metric = metric
        self.prompt_model = checked_lm("prompt_model", prompt_model)
        self.task_model = checked_lm("task_model", task_model)
        self.max_bootstrapped_demos, self.max_labeled_demos = max_bootstrapped_demos, max_labeled_demos
        self.auto = auto
        self.num_candidates = None if num_candidates is None else whole("num_candidates", num_candidates, 1)
        self.num_threads, self.max_errors = checked_threads(num_threads), max_errors
        self.seed = whole("seed", seed, 0)
        self.init_temperature = temperature("init_temperature", init_temperature)
        self.verbose, self.track_stats = bool(verbose), bool(track_stats)
        self.log_dir = checked_folder("log_dir", log_dir)
        self.metric_threshold = metric_threshold
        self.trials_in_flight = whole("trials_in_flight", trials_in_flight, 1)
        self.teacher_settings = teacher_settings
        self._bootstrap(max_bootstrapped_demos, max_labeled_demos)  # refuses what is not legal

    def compile(
        self,
        student: Program,
        *,
        trainset: Any,
        teacher: Module | None = None,
        valset: Any = None,
        num_trials: int | None = None,
        max_bootstrapped_demos: int | None = None,
        max_labeled_demos: int | None = None,
        seed: int | None = None,
        minibatch: bool = True,
        minibatch_size: int = 35,
        minibatch_full_eval_steps: int = 5,
        program_aware_proposer: bool = True,
        data_aware_proposer: bool = True,
        view_data_batch_size: int = 10,
        tip_aware_proposer: bool = True,
        fewshot_aware_proposer: bool = True,
        requires_permission_to_run: bool | None = None,
        provide_traceback: bool | None = None,
        **options: Unpack[Options],
    ) -> Program:
        """Return a copy of the program with the best combination; the program itself stays as it is.

        Args:
            student: the program, not optimised before.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            teacher: who tries examples in bootstraps, a program with the same predictors; None: the student itself.
            valset: what is scored on; None: the last 80 % of the trainset, 1,000 examples at most, which bootstraps
                and proposals then do not see.
            num_trials: combinations to try, without `auto`.
            max_bootstrapped_demos, max_labeled_demos, seed: instead of those of the optimiser; a seed of 0 is its own,
                as in DSPy.
            minibatch: score trials on a part of the valset; with `auto` its size decides (more than 50 examples).
            minibatch_size: examples of such a part.
            minibatch_full_eval_steps: trials between two evaluations on all examples.
            program_aware_proposer, data_aware_proposer, tip_aware_proposer, fewshot_aware_proposer: what who proposes
                is told of: the program's code, a summary of the data, a tip, demos.
            view_data_batch_size: examples that are looked at at once for the summary.
            requires_permission_to_run: None or False, as in DSPy; nothing is asked.
            provide_traceback: accepted as DSPy accepts it; errors are in the journal.
            **options: see `Options`.

        Returns:
            The program, with what `track_stats` says.

        Raises:
            ConfigError: program, teacher, trainset, valset or numbers are not usable, or nothing is connected.
            RunFailed: the program could not be evaluated, or no proposal could be read and there are no demos either.
            RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        if requires_permission_to_run:
            raise ConfigValueError(
                "requires_permission_to_run is invalid: got True, expected None: nothing is asked any more"
            )
        examples = self.examples(student, trainset)
        check_pair(student, teacher)
        if valset is None:
            cut = split_at(len(examples))
            examples, scored_on = examples[:cut], examples[cut:]
        else:
            scored_on = self.examples(student, valset, "valset")
        most = self.max_bootstrapped_demos if max_bootstrapped_demos is None else max_bootstrapped_demos
        labeled = self.max_labeled_demos if max_labeled_demos is None else max_labeled_demos
        zero_shot = not most and not labeled
        bootstrap = self._bootstrap(DEMOS_TO_SHOW if zero_shot else most, 0 if zero_shot else labeled)
        plan = make_plan(
            auto=self.auto,
            num_candidates=self.num_candidates,
            num_trials=None if num_trials is None else whole("num_trials", num_trials, 1),
            predictors=len(student.predictors()),
            zero_shot=zero_shot,
            val_count=len(scored_on),
            minibatch=minibatch,
            minibatch_size=whole("minibatch_size", minibatch_size, 1),
            full_every=whole("minibatch_full_eval_steps", minibatch_full_eval_steps, 1),
        )
        seed = whole("seed", 0 if seed is None else seed, 0) or self.seed
        part = whole("view_data_batch_size", view_data_batch_size, 1)
        told = {
            "program_aware": program_aware_proposer,
            "data_aware": data_aware_proposer,
            "tip_aware": tip_aware_proposer,
            "demos_aware": fewshot_aware_proposer,
        }
        make_folder("log_dir", self.log_dir)
        steps = self._steps(
            student, teacher, examples, scored_on, plan, bootstrap, seed, part, told, zero_shot=zero_shot
        )
        program = self.carry(steps, student, examples, options, plan.told, valset=scored_on)
        if self.log_dir is not None:
            with told_only("log_dir", self.log_dir):
                _write(self.log_dir, program)
        if self.log_dir is not None and not self.track_stats:
            for name in _STATS:
                vars(program).pop(name, None)
        return program

    def expected(
        self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any
    ) -> int | None:
        """Return how many candidates there are, if the examples are known."""
        if trainset is None:
            return None
        demos = [
            getattr(self, name) if arguments.get(name) is None else arguments[name]
            for name in ("max_bootstrapped_demos", "max_labeled_demos")
        ]
        return make_plan(
            auto=self.auto,
            num_candidates=self.num_candidates,
            num_trials=arguments.get("num_trials"),
            predictors=len(student.predictors()),
            zero_shot=not any(demos),
            val_count=trainset - split_at(trainset) if valset is None else valset,
            minibatch=arguments.get("minibatch", True),
            minibatch_size=arguments.get("minibatch_size", 35),
            full_every=arguments.get("minibatch_full_eval_steps", 5),
        ).told

    def _steps(
        self,
        student: Program,
        teacher: Module | None,
        examples: list[Example],
        scored_on: list[Example],
        plan: Plan,
        bootstrap: BootstrapFewShot,
        seed: int,
        part: int,
        told: Mapping[str, bool],
        *,
        zero_shot: bool,
    ) -> Generator[Any, Any, Program]:
        rng = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
        if plan.val_size is not None:
            scored_on = rng.sample(scored_on, min(plan.val_size, len(scored_on)))
        student = student.deepcopy()
        sets = DemoSets(rng, examples, plan.demo_sets, bootstrap, spared(len(scored_on)))
        proposals = Proposals(
            rng, student, plan.instructions, plan.demo_sets, temperature=self.init_temperature, **told
        )
        scores = Scores(scored_on, self.metric, self.task_model)  # type: ignore[arg-type]  # it was checked
        everything = range(len(scored_on))
        demos, summary, _ = yield Together(
            [
                sets.steps(student, teacher),
                summarise(examples, part, self.prompt_model) if told["data_aware"] else _nothing(),
                scores.of([(student, everything)], may_fail=False),
            ]
        )
        instructions = yield from proposals.steps(demos, summary, self.prompt_model)
        if zero_shot and plan.instructions > 1 and all(len(found) == 1 for found in instructions):
            raise RunFailed("MIPROv2: no proposal could be read; give a prompt_model that keeps to the form")
        search = Search(
            plan,
            student,
            instructions,
            None if zero_shot else demos,
            scores,
            seed=seed,
            rng=rng,
            in_flight=self.trials_in_flight,
        )
        found: Found = yield from search.steps()
        if self.track_stats or self.log_dir is not None:
            self._attach(found, len(proposals.drawn))
        return found.program  # type: ignore[return-value]  # it is a copy of the student

    def _attach(self, found: Found, proposed: int) -> None:
        """Have the best program tell of the others, under DSPy's names."""
        stats = (
            Logs(found.logs),
            Noted(found.score),
            proposed,
            found.evaluated,
            Candidates(one for one in found.tried if one["full_eval"]),
            Candidates(one for one in found.tried if not one["full_eval"]),
        )
        vars(found.program).update(zip(_STATS, stats, strict=True))

    def _bootstrap(self, demos: int, labeled: int) -> BootstrapFewShot:
        given = (
            dict(self.teacher_settings or {}) if isinstance(self.teacher_settings, Mapping) else self.teacher_settings
        )
        if self.task_model is not None and isinstance(given, dict):
            given.setdefault("lm", self.task_model)
        return BootstrapFewShot(self.metric, self.metric_threshold, given, demos, labeled, 1, self.max_errors)


def _nothing() -> Generator[Any, Any, None]:
    return
    yield


def _write(folder: Path, program: Module) -> None:
    """Write the state of every program that was scored, as DSPy names the files."""
    there = folder / "evaluated_programs"
    there.mkdir(parents=True, exist_ok=True)
    for number, log in vars(program).get("trial_logs", {}).items():
        kind = "full_eval" if "full_eval_program" in log else "mb"
        # Of a combination that was chosen before, and is scored on all now, DSPy says so.
        note = "" if "0_predictor_instruction" in log else "_full_eval"
        path = there / ("program_-1.json" if number == 1 else f"program_{number}{note}.json")
        log[f"{kind}_program"].save(path)
        log[f"{kind}_program_path"] = str(path)
