"""What an optimisation has tried, as its best program has it under DSPy's names `candidate_programs`, `trial_logs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self


class Candidates(Sequence[Mapping[str, Any]]):
    """What an optimiser has compared, the best first: dicts with `program`, `score`, and what the optimiser adds.

    It stays in the process that optimised: a copy of the program shares it, and a program that is sent or saved is sent
    without, since it would take all the others along.

    Args:
        found: the candidates.
    """

    def __init__(self, found: Iterable[Mapping[str, Any]] = ()) -> None:
        """Sort them: of equal scores the first stays first; those without one are last."""
        self._found = sorted(found, key=lambda one: -1.0 if one["score"] is None else one["score"], reverse=True)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        """Return one, or those of a slice."""
        return self._found[place]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel empty."""
        return (Candidates, ())

    def __repr__(self) -> str:
        """Show the scores."""
        return f"<{len(self)} candidates: {', '.join(str(one['score']) for one in self)}>"


class Logs(Mapping[int, dict[str, Any]]):
    """What was done in each trial, by its number (DSPy's `trial_logs`); it stays in its process, as `Candidates` do.

    Args:
        found: number → what was chosen and scored.
    """

    def __init__(self, found: Mapping[int, dict[str, Any]] | None = None) -> None:
        """Keep them."""
        self._found = dict(found or {})

    def __len__(self) -> int:
        """Return how many trials there are."""
        return len(self._found)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the numbers."""
        return iter(self._found)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return what was done in a trial."""
        return self._found[number]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel empty."""
        return (Logs, ())

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<logs of {len(self)} trials>"
