"""`dspex.track_usage`: the tokens of all LM calls that are made inside a `with`, by LM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspex_actors.foundation.counts import as_dspys, summed_usage
from dspex_actors.settings import Calls, record_calls


class UsageTracker:
    """What was used, by LM (`provider/model`). Answers from a cache used nothing."""

    def __init__(self, calls: Calls) -> None:
        """Read a record, which fills as replies arrive."""
        self._calls = calls

    @property
    def usage_data(self) -> dict[str, list[dict[str, Any]]]:
        """The usage of each call, in the order in which the replies came."""
        found: dict[str, list[dict[str, Any]]] = {}
        for reply in self._asked():
            for name, counts in summed_usage([reply]).items():
                found.setdefault(name, []).append(as_dspys(counts))
        return found

    @property
    def cost(self) -> float | None:
        """US dollars of all calls; None: the price of one is not known."""
        costs = [reply.cost for reply in self._asked()]
        return None if None in costs else float(sum(costs))

    def get_total_tokens(self) -> dict[str, dict[str, Any]]:
        """Return for each LM `prompt_tokens`, `completion_tokens`, `total_tokens`, and what else its provider told."""
        return {name: as_dspys(counts) for name, counts in summed_usage(self._asked()).items()}

    def _asked(self) -> list[Any]:
        return [reply for reply in list(self._calls) if getattr(reply, "cached", None) is None]


@contextmanager
def track_usage() -> Iterator[UsageTracker]:
    """Add up what the LM calls inside the `with` use, as DSPy's; one inside another counts for both.

        with dspex.track_usage() as usage:
            program(question="...")
        usage.get_total_tokens()

    It sees this process: threads and tasks of programs too. What `evaluate` and optimisers use on workers stands in
    their results (`result.usage`, `result.cost`).
    """
    with record_calls() as calls:
        yield UsageTracker(calls)
