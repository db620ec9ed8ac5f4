"""What a GEPA optimisation has found, with DSPy's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from dspex_actors.programs.module import Module


@dataclass(frozen=True)
class GEPAResult:
    """All candidates of an optimisation: `detailed_results` of the program that it returned, with `track_stats=True`.

    It stays in the process that optimised: a program that is sent or saved goes without.

    Args:
        candidates: programs, the student first.
        parents: for each candidate the places of those that it was made of.
        val_aggregate_scores: for each candidate its mean score on the valset, 0 to 1 as the metric's.
        val_subscores: for each candidate the score of each example, by its place in the valset.
        per_val_instance_best_candidates: for each example which candidates did best.
        discovery_eval_counts: for each candidate how many calls of the metric had been made when it was found.
        best_outputs_valset: for each example (candidate, prediction) pairs of the best, with `track_best_outputs=True`.
        total_metric_calls: calls of the metric, examples scored.
        num_full_val_evals: evaluations of the whole valset.
        log_dir: where it was written to.
        seed: of its chance.
        val_aggregate_subscores: for each candidate the means of the metric's other scores by name.
        per_objective_best_candidates: for each of these names which candidates did best.
        objective_pareto_front: for each of these names the best mean.
    """

    is_noted = True

    candidates: list[Module]
    parents: list[list[int | None]]
    val_aggregate_scores: list[float]
    val_subscores: list[dict[Any, float]]
    per_val_instance_best_candidates: dict[Any, set[int]]
    discovery_eval_counts: list[int]
    best_outputs_valset: dict[Any, list[tuple[int, Any]]] | None = None
    total_metric_calls: int | None = None
    num_full_val_evals: int | None = None
    log_dir: str | None = None
    seed: int | None = None
    val_aggregate_subscores: list[dict[str, float]] | None = None
    per_objective_best_candidates: dict[str, set[int]] | None = None
    objective_pareto_front: dict[str, float] | None = None

    @classmethod
    def of(cls, found: Any, build: Callable[[Mapping[str, str]], Module], log_dir: str | None = None) -> GEPAResult:
        """Return what gepa found.

        Args:
            found: a `gepa.GEPAResult`.
            build: makes a program of a candidate.
            log_dir: where it is written to.
        """
        names = set(cls.__dataclass_fields__) - {"candidates", "log_dir"}
        values = {name: getattr(found, name) for name in names}
        return cls(candidates=[build(one) for one in found.candidates], log_dir=log_dir, **values)

    @property
    def best_idx(self) -> int:
        """Return the place of the best candidate: of equal ones the first."""
        scores = self.val_aggregate_scores
        return max(range(len(scores)), key=scores.__getitem__)

    @property
    def best_candidate(self) -> Module:
        """Return the best candidate."""
        return self.candidates[self.best_idx]

    @property
    def highest_score_achieved_per_val_task(self) -> dict[Any, float]:
        """Return the best score of each example of the valset, whichever candidate had it."""
        best = self.per_val_instance_best_candidates
        return {place: self.val_subscores[min(those)][place] for place, those in best.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: candidates as their instructions by predictor."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["candidates"] = [
            {name: predictor.signature.instructions for name, predictor in one.named_predictors()}
            for one in self.candidates
        ]
        values["per_val_instance_best_candidates"] = {
            place: sorted(those) for place, those in self.per_val_instance_best_candidates.items()
        }
        by_objective = self.per_objective_best_candidates
        values["per_objective_best_candidates"] = by_objective and {
            name: sorted(those) for name, those in by_objective.items()
        }
        return {**values, "best_idx": self.best_idx}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel empty."""
        return (_nothing, ())


def _nothing() -> None:
    return None
