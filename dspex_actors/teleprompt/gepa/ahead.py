"""What gepa's engine will ask for next, asked together with what it asks for now.

The engine tries one candidate after the other, each on a few examples. Mostly nothing comes of it (all answers are
right, or the new instruction is no better), and then it is known beforehand who is tried next, and on what: a copy of
who draws candidates and examples says so. What was foreseen wrongly was paid for in vain, so it is little: of all that
the engine was given, a small share. The engine is given the same as without, in the same order, and decides the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from dspex_actors.example import Example
from dspex_actors.teleprompt.steps import Observed

#: So many examples, in shares of those that the engine was given, may be ahead or in vain.
SHARE = 0.04
#: So many tries are foreseen at most.
MOST_TRIES = 8

Candidate = Mapping[str, str]
_Key = tuple[tuple[tuple[str, str], ...], int]


class Ahead:
    """What is foreseen, and what is there of it. It lasts for one optimisation, as the examples do."""

    def __init__(self) -> None:
        """Foresee nothing."""
        self._there: dict[_Key, Observed] = {}
        self._foreseen: list[tuple[Candidate, Sequence[Example]]] = []
        self._given = 0

    def foresee(self, tries: Iterable[tuple[Candidate, Sequence[Example]]]) -> None:
        """Take in which candidates are tried next on which examples, should no candidate be taken before."""
        self._foreseen = list(tries)

    def given(self, count: int) -> None:
        """Take in that the engine is given so many examples."""
        self._given += count

    def take(self, candidate: Candidate, batch: Sequence[Example]) -> list[Observed | None]:
        """Return what is there for each example, which it is no more then; None: that has to be asked for."""
        self.given(len(batch))
        return [self._there.pop(_key(candidate, example), None) for example in batch]

    def next(self) -> list[tuple[Candidate, Example]]:
        """Return what is to be asked now, so that it is there later; it has to be `put` then.

        Once for what was foreseen: what is evaluated then is made of what came of it, and every other time it is taken.
        """
        foreseen, self._foreseen = self._foreseen, []
        room = int(SHARE * self._given) - len(self._there)
        found: dict[_Key, tuple[Candidate, Example]] = {}
        for candidate, batch in foreseen:
            new = {_key(candidate, example): (candidate, example) for example in batch}
            new = {key: one for key, one in new.items() if key not in self._there and key not in found}
            if len(found) + len(new) > room:
                break
            found |= new
        return list(found.values())

    def put(self, candidate: Candidate, example: Example, seen: Observed) -> None:
        """Keep what came of an example that was asked ahead."""
        self._there[_key(candidate, example)] = seen


def _key(candidate: Candidate, example: Example) -> _Key:
    return tuple(sorted(candidate.items())), id(example)


class _Later:
    """gepa's state as it is some tries later, should nothing come of them."""

    def __init__(self, state: Any, tries: int) -> None:
        self._state, self.i = state, state.i + tries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


@cache
def _foreseeing() -> Any:
    from gepa.strategies import candidate_selector as selectors
    from gepa.strategies.batch_sampler import EpochShuffledBatchSampler
    from gepa.strategies.proposal_sampling import SingleMutationSampling

    class Foreseeing(SingleMutationSampling):  # type: ignore[misc, unused-ignore]
        def __init__(self, ahead: Ahead, calls: int) -> None:
            self._ahead, self._calls = ahead, calls

        def sample_tasks(self, state: Any, candidate_selector: Any, batch_sampler: Any, trainset: Any) -> Any:
            """Draw a candidate and examples as gepa does; then say which would be the next."""
            tasks = super().sample_tasks(state, candidate_selector, batch_sampler, trainset)
            # What a user's own classes would draw is not to be known: it may be drawn once only.
            known = type(candidate_selector) in vars(selectors).values()
            if known and type(batch_sampler) is EpochShuffledBatchSampler:
                drawn = (state, *deepcopy((candidate_selector, batch_sampler)), trainset)
                left = self._calls - state.total_num_evals - sum(len(task.minibatch) for task in tasks)
                self._ahead.foresee(self._next(left, *drawn))
            return tasks

        def _next(self, left: int, state: Any, *rest: Any) -> Any:
            for tries in range(1, MOST_TRIES + 1):
                if left <= 0:
                    return  # the budget of examples ends it before
                for task in super().sample_tasks(_Later(state, tries), *rest):  # type: ignore[arg-type, unused-ignore]
                    left -= len(task.minibatch)
                    yield task.parent_candidate, task.minibatch

    return Foreseeing


def foreseeing(ahead: Ahead, calls: int) -> Any:
    """Return gepa's strategy of one candidate at a time, which tells what it will draw next.

    Args:
        ahead: is told.
        calls: so many examples are scored in all.
    """
    return _foreseeing()(ahead, calls)
