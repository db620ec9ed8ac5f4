"""What the runs of an optimisation may cost, together: its budget is given out to them in parts. Pure."""

from __future__ import annotations


class Purse:
    """The budget of an optimisation.

    A run under way holds its part, which it does not pass; when it ends, what it has not spent is there for others. So
    the sum is not passed either.

    Args:
        budget: US dollars; None: no limit.
    """

    def __init__(self, budget: float | None) -> None:
        """Nothing is spent."""
        self.budget = budget
        self._spent: dict[str, float] = {}
        self._held: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """Return what the runs that are not under way have cost, USD."""
        return sum(cost for run, cost in self._spent.items() if run not in self._held)

    @property
    def left(self) -> float:
        """Return what nobody has spent or holds, USD; without a budget infinity."""
        return float("inf") if self.budget is None else self.budget - self.spent - sum(self._held.values())

    def hold(self, run: str, parts: int) -> float | None:
        """Give a run its part, and return what it may cost in all, what it has cost before included.

        Args:
            run: its id.
            parts: among so many runs what is left is divided, this one included.

        Returns:
            USD; None: there is no limit.
        """
        before = self._spent.get(run, 0.0)
        held = before + max(0.0, self.left) / max(1, parts)
        self._held[run] = before if self.budget is None else held
        return None if self.budget is None else held

    def keep(self, run: str, part: float) -> float:
        """Have a run that is under way already hold the part that it has, and return it.

        Args:
            run: its id.
            part: what it may cost in all, USD.
        """
        self._held[run] = part
        return part

    def ended(self, run: str, cost: float) -> None:
        """Take in that a run is not under way any more, and what it has cost in all, USD."""
        self._held.pop(run, None)
        self._spent[run] = cost
