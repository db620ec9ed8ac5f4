"""What gepa's engine will ask for next, asked together with what it asks for now.

The engine tries one candidate after the other, each on a few examples. Mostly nothing comes of it (all answers are
right, or the new instruction is no better), and then it is known beforehand who is tried next, and on what: a copy of
who draws candidates and examples says so. Where these are answered, so is what is proposed then, and what is tried with
it. What was foreseen wrongly was paid for in vain, so it is little: a small share of all that may be scored. The engine
is given the same as without, in the same order, and decides the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from dspex_actors.example import Example
from dspex_actors.teleprompt.steps import Observed

#: So much, in shares of the examples that are scored in all, may be ahead or in vain: examples and proposals.
SHARE = 0.04
#: So many tries are foreseen at most. With more, few are left for later by those that were foreseen wrongly: of 3 the
#: steps are half as many, of 2 or 8 mostly more than that.
MOST_TRIES = 3

Candidate = Mapping[str, str]
_Key = tuple[tuple[tuple[str, str], ...], int]


@dataclass(frozen=True, slots=True, eq=False)
class Try:
    """A candidate that is tried next, should no candidate be taken before.

    Args:
        candidate: this.
        batch: the examples that it is tried on.
        state: gepa's.
        place: of the candidate, in gepa's state.
    """

    candidate: Candidate
    batch: Sequence[Example]
    state: Any = None
    place: int = 0


class Ahead:
    """What is foreseen, and what is there of it. It lasts for one optimisation, as the examples do.

    Args:
        calls: so many examples are scored in all.
    """

    def __init__(self, calls: int) -> None:
        """Foresee nothing."""
        self._most = int(SHARE * calls)
        self._there: dict[_Key, Observed] = {}
        #: Proposals that are there: what was asked, and what came.
        self._proposed: list[tuple[Any, Any]] = []
        #: The next tries, and those of them that are to be asked for.
        self.tries: list[Try] = []
        self._wanted: list[Try] = []

    @property
    def room(self) -> int:
        """How much more may be asked ahead."""
        return self._most - len(self._there) - len(self._proposed)

    def foresee(self, tries: Iterable[Try]) -> None:
        """Take in which candidates are tried next on which examples, should no candidate be taken before."""
        self.tries = list(tries)
        self._wanted = list(self.tries)

    def want(self, one: Try) -> None:
        """Have a try asked for before all others: with a candidate that was proposed ahead."""
        self._wanted.insert(0, one)

    def take(self, candidate: Candidate, batch: Sequence[Example]) -> list[Observed | None]:
        """Return what is there for each example, which it is no more then; None: that has to be asked for."""
        return [self._there.pop(_key(candidate, example), None) for example in batch]

    def seen(self, one: Try) -> list[Observed] | None:
        """Return what is there of a try, which it still is then; None: it is not all there."""
        keys = [_key(one.candidate, example) for example in one.batch]
        if len(set(keys)) < len(keys) or not all(key in self._there for key in keys):
            return None
        return [self._there[key] for key in keys]

    def next(self) -> list[tuple[Candidate, Example]]:
        """Return what is to be asked now, so that it is there later; it has to be `put` then.

        Once for what was foreseen: what is evaluated then is made of what came of it, and every other time it is taken.
        """
        wanted, self._wanted = self._wanted, []
        found: dict[_Key, tuple[Candidate, Example]] = {}
        for one in wanted:
            new = {_key(one.candidate, example): (one.candidate, example) for example in one.batch}
            new = {key: one for key, one in new.items() if key not in self._there and key not in found}
            if len(found) + len(new) > self.room:
                break
            found |= new
        return list(found.values())

    def put(self, candidate: Candidate, example: Example, seen: Observed) -> None:
        """Keep what came of an example that was asked ahead."""
        self._there[_key(candidate, example)] = seen

    def keep_proposal(self, asked: Any, came: Any) -> None:
        """Keep what was proposed when it was asked ahead."""
        self._proposed.append((asked, came))

    def has_proposal(self, asked: Any) -> bool:
        """Whether what was proposed to the same question is there."""
        return any(before == asked for before, _ in self._proposed)

    def take_proposal(self, asked: Any) -> Any:
        """Return what was proposed to the same question, which is not there any more then; None: it has to be asked."""
        for place, (before, came) in enumerate(self._proposed):
            if before == asked:
                del self._proposed[place]
                return came
        return None


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
                    yield Try(task.parent_candidate, task.minibatch, state, task.parent_idx)

    return Foreseeing


def foreseeing(ahead: Ahead, calls: int) -> Any:
    """Return gepa's strategy of one candidate at a time, which tells what it will draw next.

    Args:
        ahead: is told.
        calls: so many examples are scored in all.
    """
    return _foreseeing()(ahead, calls)
