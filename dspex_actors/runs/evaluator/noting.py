"""What is told of a run beside its results: how much is under way, and why it stands still.

Its workers know what its calls wait for; they are asked only while nothing ends.
"""

from __future__ import annotations

from typing import Any

from dspex_actors.runs.evaluator.crew import Crew
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.work import WhatFor
from supervisors import GenServer
from supervisors.cluster.membership.messages import CORDONED, DRAINING, Member
from supervisors.errors import SupervisorsError

#: How often others are told how the run is doing, in seconds.
NOTE_SECONDS = 0.25
#: A worker that does not answer within so many seconds knows nothing.
ANSWER_SECONDS = 1.0
#: So many nodes are named in a note.
MOST_NAMED = 5


class Noting:
    """The notes of one run.

    Args:
        server: its evaluator.
        run_id: the run.
    """

    def __init__(self, server: GenServer, run_id: str) -> None:
        """Begin with nothing told."""
        self._server, self._run_id = server, run_id
        self._last: dict[str, Any] | None = None
        self._done: int | None = None

    @property
    def goes_on(self) -> bool:
        """Whether nothing is known that the run waits for."""
        return self._last is not None and self._last["trouble"] is None

    async def news(self, plan: RunPlan, crew: Crew, trouble: str | None, twice: int = 0) -> dict[str, Any] | None:
        """Return what is to be told; None: it is what was told last.

        Args:
            plan: what there is to do.
            crew: those that have its examples.
            trouble: why results are not written down; None: they are.
            twice: how many examples were started a second time.
        """
        note: dict[str, Any] = {
            "in_flight": plan.outstanding,
            "waiting": plan.waiting,
            "workers": len(crew.hands),
            "trouble": trouble or await self._why(crew, plan.finished_examples),
        }
        if twice:
            note["hedged"] = twice
        if crew.lacking:
            note["lacking"] = dict(crew.lacking)
        if note == self._last:
            return None
        self._last = note
        return note

    async def _why(self, crew: Crew, done: int) -> str | None:
        """Return what the run waits for; None: it goes on, or nobody knows."""
        stands, self._done = done == self._done, done
        if not stands:
            return None
        for worker in [hand.ref for hand in crew.hands.values()]:
            try:
                answer = await self._server.call(worker, WhatFor(self._run_id), timeout=ANSWER_SECONDS)
            except SupervisorsError:
                continue
            if isinstance(answer, str):
                return answer
        return rest_of(crew.may_work())


def rest_of(members: list[Member]) -> str | None:
    """Return that all who may work for a run have been told to rest; None: one has not, or there is none.

    Args:
        members: the nodes that are up and may work for it.
    """
    states = sorted({member.state for member in members})
    if not members or not set(states) <= {CORDONED, DRAINING}:
        return None
    names = [member.name for member in members]
    which = ", ".join(sorted(names)[:MOST_NAMED]) + (" and more" if len(names) > MOST_NAMED else "")
    nodes = "the node" if len(names) == 1 else "all nodes"
    return f"{nodes} that may work for it: {' or '.join(states)} ({which}); `dspex uncordon NODE` has one work again"
