"""The engine of the `gepa` package, with what it lacks to be repeatable.

It is `gepa.optimize` itself, with another proposer of merges. gepa's own goes through the predictors' names as a set of
texts, whose order is another one in each process: where two parents are equally good, a repeated run would merge them
in another way. Ours numbers the predictors. And where all common ancestors of two candidates have the score 0 it merges
nothing; gepa's raises, which ends the optimisation.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any


class _Numbered:
    """gepa's state, with candidates whose components are numbers."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._names = list(state.program_candidates[0])
        self.program_candidates = [
            {place: candidate[name] for place, name in enumerate(self._names)} for candidate in state.program_candidates
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def named(self, candidate: dict[int, str]) -> dict[str, str]:
        return {name: candidate[place] for place, name in enumerate(self._names)}

    def cached_evaluate_full(self, candidate: dict[int, str], *rest: Any) -> Any:
        return self._state.cached_evaluate_full(self.named(candidate), *rest)


@cache
def optimize() -> Any:
    """Return `gepa.optimize` with our proposer of merges."""
    from gepa import api
    from gepa.proposer.merge import MergeProposer

    class Merges(MergeProposer):  # type: ignore[misc, type-arg, unused-ignore]
        def propose(self, state: Any) -> Any:
            numbered = _Numbered(state)
            try:
                proposal = super().propose(numbered)  # type: ignore[arg-type, unused-ignore]
            except ValueError as error:
                if "weights" not in str(error):
                    raise
                return None
            if proposal is not None:
                proposal.candidate = numbered.named(proposal.candidate)  # type: ignore[arg-type, unused-ignore]
            return proposal

    original = api.optimize
    copied = FunctionType(
        original.__code__,
        {**vars(api), "MergeProposer": Merges},
        original.__name__,
        original.__defaults__,
        original.__closure__,
    )
    copied.__kwdefaults__ = original.__kwdefaults__
    return copied
