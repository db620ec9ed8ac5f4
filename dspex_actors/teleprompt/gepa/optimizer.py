"""GEPA: instructions that an LM proposes in the light of what predictors did and of the metric's feedback.

optimizer = dspex.GEPA(metric=metric, auto="light", reflection_lm=dspex.LM("openai/gpt-4o"))
better = optimizer.compile(triage, trainset=trainset, valset=valset)
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Unpack

from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.codec import to_plain
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.files import replaced
from dspex_actors.lm.base import BaseLM
from dspex_actors.teleprompt.asking import asking
from dspex_actors.teleprompt.gepa.adapter import Adapter
from dspex_actors.teleprompt.gepa.ahead import foreseeing
from dspex_actors.teleprompt.gepa.instructions import InstructionProposer
from dspex_actors.teleprompt.gepa.kwargs import check_selection, check_selector, checked_kwargs
from dspex_actors.teleprompt.gepa.proposals import Foresees, Task
from dspex_actors.teleprompt.gepa.reflection import Scoring, takes
from dspex_actors.teleprompt.gepa.result import GEPAResult
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.steps import Step
from dspex_actors.teleprompt.trainset import checked_folder, checked_lm, checked_threads, make_folder, told_only

#: Candidates that a budget by name is made for.
AUTO = {"light": 6, "medium": 12, "heavy": 18}


class GEPA(Optimizer):
    """Improve instructions by reflection on single examples, and keep what is best for any of them.

    The engine is that of the `gepa` package (Agrawal et al. 2025, "GEPA: Reflective Prompt Evolution Can Outperform
    Reinforcement Learning"), as in DSPy 3.4: with the same seed and the same answers it takes the same candidates. A
    candidate of the Pareto front is tried on a few examples; the LM is shown what one of its predictors did there,
    with the metric's feedback, and proposes another instruction; if that is better on these examples, it is scored on
    the valset. Good candidates of one origin are merged.

    Each of these is a run of the node: killed at any moment, `compile(..., run_id=ID)` goes on with the same result.

    Args:
        metric: `metric(gold, pred, trace, pred_name, pred_trace)` → a score, or `ScoreWithFeedback(score=,
            feedback=)`, or a dict with both. It is called with two arguments to score an example, and with five for
            feedback on a predictor: `pred_trace` is then the one call of it. One that takes only (example,
            prediction, trace=None) will do; its feedback is that on the whole.
        auto: how much is tried: light, medium or heavy. Of `auto`, `max_full_evals` and `max_metric_calls` exactly one.
        max_full_evals: so often as many examples as trainset and valset have.
        max_metric_calls: so many examples are scored; what is begun then is finished.
        reflection_minibatch_size: examples that are reflected on at a time.
        candidate_selection_strategy: pareto, or current_best.
        reflection_lm: the LM that proposes; a strong one pays. None: the one that the program asks.
        skip_perfect_score: leave batches alone in which all is right.
        add_format_failure_as_feedback: reflect on answers that could not be read, too.
        instruction_proposer: an `InstructionProposer`, or a function of yours with the arguments `candidate`,
            `reflective_dataset` and `components_to_update` that returns new instructions by predictor. It is called
            in a worker, with `reflection_lm` as its LM.
        code_proposer: DSPy's for its Flex, which is not here: None.
        component_selector: whose instruction is changed next: round_robin, all, or a function of yours (as gepa's).
        use_merge: merge candidates.
        max_merge_invocations: at most so often.
        num_threads: accepted as DSPy accepts it; `max_in_flight` of `compile` says how much is done at once.
        failure_score: of an example that failed.
        perfect_score: the best that a score can be.
        log_dir: a folder that gets `candidates.json` at the end. What is needed to go on is in the journal.
        track_stats: have the program tell of all candidates: `detailed_results`, a `GEPAResult`.
        use_wandb, wandb_api_key, wandb_init_kwargs, use_mlflow: as gepa's.
        track_best_outputs: keep the best predictions; with `track_stats` only.
        warn_on_score_mismatch: say when the metric scores a predictor in another way than the whole.
        seed: of all chance.
        gepa_kwargs: further arguments of `gepa.optimize`.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        *,
        auto: str | None = None,
        max_full_evals: int | None = None,
        max_metric_calls: int | None = None,
        reflection_minibatch_size: int = 3,
        candidate_selection_strategy: str = "pareto",
        reflection_lm: BaseLM | None = None,
        skip_perfect_score: bool = True,
        add_format_failure_as_feedback: bool = False,
        instruction_proposer: Any = None,
        code_proposer: Any = None,
        component_selector: Any = "round_robin",
        use_merge: bool = True,
        max_merge_invocations: int | None = 5,
        num_threads: int | None = None,
        failure_score: float = 0.0,
        perfect_score: float = 1.0,
        log_dir: str | None = None,
        track_stats: bool = False,
        use_wandb: bool = False,
        wandb_api_key: str | None = None,
        wandb_init_kwargs: dict[str, Any] | None = None,
        track_best_outputs: bool = False,
        warn_on_score_mismatch: bool = True,
        use_mlflow: bool = False,
        seed: int | None = 0,
        gepa_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the settings."""
        if not callable(metric) or not (takes(metric, 5) or takes(metric, 2)):
            raise ConfigTypeError(
                f"metric is invalid: got {metric!r:.100}, expected metric(gold, pred, trace, pred_name, pred_trace)"
            )
        self.metric_fn = metric
        self.metric = metric if takes(metric, 2) else Scoring(metric)
        budgets = {"auto": auto, "max_full_evals": max_full_evals, "max_metric_calls": max_metric_calls}
        told = {name: value for name, value in budgets.items() if value is not None}
        if len(told) != 1:
            got = " and ".join(told) or "none of them"
            raise ConfigValueError(f"GEPA takes exactly one of auto, max_full_evals and max_metric_calls; got {got}")
        if auto is not None and (not isinstance(auto, str) or auto not in AUTO):
            raise ConfigValueError(f"auto is invalid: got {auto!r:.100}, expected one of {', '.join(AUTO)}")
        self.auto = auto
        self.max_full_evals = None if max_full_evals is None else whole("max_full_evals", max_full_evals, 1)
        self.max_metric_calls = None if max_metric_calls is None else whole("max_metric_calls", max_metric_calls, 1)
        self.reflection_minibatch_size = whole("reflection_minibatch_size", reflection_minibatch_size, 1)
        check_selection(candidate_selection_strategy)
        self.candidate_selection_strategy = candidate_selection_strategy
        self.reflection_lm = checked_lm("reflection_lm", reflection_lm)
        self.skip_perfect_score = bool(skip_perfect_score)
        self.add_format_failure_as_feedback = bool(add_format_failure_as_feedback)
        if instruction_proposer is not None and not callable(instruction_proposer):
            raise ConfigValueError(
                f"instruction_proposer is invalid: got {instruction_proposer!r:.100}, expected a function"
            )
        self.custom_instruction_proposer = instruction_proposer
        if code_proposer is not None:
            raise ConfigError("code_proposer is for programs with a Flex in them, which are not here; leave it out")
        check_selector(component_selector)
        self.component_selector = component_selector
        self.use_merge = bool(use_merge)
        self.max_merge_invocations = (
            None if max_merge_invocations is None else whole("max_merge_invocations", max_merge_invocations, 0)
        )
        self.num_threads = checked_threads(num_threads)
        self.failure_score = _finite("failure_score", failure_score)
        self.perfect_score = _finite("perfect_score", perfect_score)
        folder = checked_folder("log_dir", log_dir)
        self.log_dir = None if folder is None else str(folder)
        self.track_stats = bool(track_stats)
        self._tracking = {
            "use_wandb": use_wandb,
            "wandb_api_key": wandb_api_key,
            "wandb_init_kwargs": wandb_init_kwargs,
            "use_mlflow": use_mlflow,
        }
        if track_best_outputs and not track_stats:
            raise ConfigValueError("track_best_outputs needs track_stats=True: the outputs are in detailed_results")
        self.track_best_outputs = bool(track_best_outputs)
        self.warn_on_score_mismatch = bool(warn_on_score_mismatch)
        self.seed = 0 if seed is None else whole("seed", seed, 0)
        self.gepa_kwargs = checked_kwargs(gepa_kwargs)

    def auto_budget(
        self, num_preds: int, num_candidates: int, valset_size: int, minibatch_size: int = 35, full_eval_steps: int = 5
    ) -> int:
        """Return how many calls of the metric a budget by name is, as DSPy reckons it.

        Args:
            num_preds: predictors.
            num_candidates: candidates.
            valset_size: examples that candidates are scored on.
            minibatch_size: examples of a trial.
            full_eval_steps: trials from one full evaluation to the next.
        """
        trials = int(max(2 * (num_preds * 2) * math.log2(num_candidates), 1.5 * num_candidates))
        full = (trials + 1) // full_eval_steps + 1 + (1 if trials < full_eval_steps else 0)
        return valset_size + num_candidates * 5 + trials * minibatch_size + full * valset_size

    def compile(
        self,
        student: Program,
        *,
        trainset: Any,
        teacher: Any = None,
        valset: Any = None,
        **options: Unpack[Options],
    ) -> Program:
        """Return a copy of the program with the best instructions; the program itself stays as it is.

        Args:
            student: the program.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV; what is reflected on.
            teacher: None; GEPA has none.
            valset: what candidates are scored on; None: the trainset. Take as few as still are like your task, and
                leave the others to the trainset.
            **options: see `Options`.

        Returns:
            The program; with `track_stats` it has `detailed_results`.

        Raises:
            ConfigError: program, trainset or valset are not usable, or nothing is connected.
            RunFailed, RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        if teacher is not None:
            raise ConfigError("teacher: GEPA takes none; leave it out")
        examples = self.examples(student, trainset)
        scored_on = examples if valset is None else self.examples(student, valset, "valset")
        make_folder("log_dir", None if self.log_dir is None else Path(self.log_dir))
        program = self.carry(self._steps(student, examples, scored_on), student, examples, options, valset=scored_on)
        if self.log_dir is not None:
            with told_only("log_dir", self.log_dir):
                self._write(program)
        if not self.track_stats:
            vars(program).pop("detailed_results")
        return program

    def expected_examples(self, student: Any, trainset: int, valset: int | None = None) -> int:
        """Return how many examples it scores, more or less: what is begun then is finished."""
        named = trainset if valset is None and self.auto is not None else valset or 0
        return self._budget(student, trainset, named)

    def _budget(self, student: Any, trainset: int, valset: int) -> int:
        if self.auto is not None:
            return self.auto_budget(max(1, len(student.predictors())), AUTO[self.auto], valset)
        if self.max_full_evals is not None:
            return self.max_full_evals * (trainset + valset)
        return self.max_metric_calls or 0

    def _steps(self, student: Program, trainset: list[Example], valset: list[Example]) -> Generator[Step, Any, Program]:
        reflected = {id(example) for example in trainset}
        task = Task(
            student.deepcopy(),
            self.metric,  # type: ignore[arg-type]  # it was checked
            self.metric_fn,
            self.custom_instruction_proposer or InstructionProposer(),
            self.reflection_lm,
            self.failure_score,
            self.add_format_failure_as_feedback,
            self.warn_on_score_mismatch,
            frozenset(id(example) for example in valset if id(example) not in reflected),
            self._foresees(),
            is_watched=bool(self.gepa_kwargs.get("callbacks")),
        )
        # DSPy's arithmetic: without a valset the trainset counts once.
        calls = self._budget(student, len(trainset), 0 if valset is trainset and self.auto is None else len(valset))
        rng = random.Random(self.seed)  # noqa: S311 - has to be repeatable, not secret
        return asking(lambda ask: self._evolve(Adapter(task, ask, rng, calls), trainset, valset, calls))

    def _foresees(self) -> Foresees | None:
        if not isinstance(self.component_selector, str):
            return None  # a function of the user's is called as often as gepa calls it
        return Foresees(self.component_selector, self.perfect_score if self.skip_perfect_score else None)

    def _evolve(self, adapter: Adapter, trainset: list[Example], valset: list[Example], calls: int) -> Any:
        """Have the engine do its work; in its thread."""
        from dspex_actors.teleprompt.gepa.engine import optimize

        more = dict(self.gepa_kwargs)
        if more.get("sampling_strategy") is None:
            more["sampling_strategy"] = foreseeing(adapter.ahead, calls)
        found = optimize()(
            seed_candidate={name: one.signature.instructions for name, one in adapter.task.student.named_predictors()},
            trainset=trainset,
            valset=valset,
            adapter=adapter,
            candidate_selection_strategy=self.candidate_selection_strategy,
            skip_perfect_score=self.skip_perfect_score,
            reflection_minibatch_size=None if "batch_sampler" in more else self.reflection_minibatch_size,
            module_selector=self.component_selector,
            perfect_score=self.perfect_score,
            use_merge=self.use_merge,
            max_merge_invocations=self.max_merge_invocations,
            max_metric_calls=calls,
            logger=_Log(),
            callbacks=[adapter, *(more.pop("callbacks", None) or ())],
            track_best_outputs=self.track_best_outputs,
            raise_on_exception=True,
            seed=self.seed,
            **self._tracking,
            **more,
        )
        program = adapter.build_program(found.best_candidate)
        program.detailed_results = GEPAResult.of(found, adapter.build_program, self.log_dir)
        return program

    def _write(self, program: Any) -> None:
        folder = Path(str(self.log_dir))
        with replaced(folder / "candidates.json") as file:
            file.write(json.dumps(to_plain(program.detailed_results.to_dict()), indent=2, ensure_ascii=False) + "\n")


class _Log:
    """gepa's logger: what it says goes to the log `dspex_actors.gepa`."""

    def log(self, message: str) -> None:
        """Write a line."""
        logging.getLogger("dspex_actors.gepa").info("%s", message)


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigValueError(f"{name} is invalid: got {value!r:.100}, expected a finite number")
    return float(value)
