"""Whether a run is still its evaluator's, and examples still a worker's: asked by one that stood still."""

from __future__ import annotations

from collections.abc import Callable

from dspex_actors.foundation.ownership import Ownership
from dspex_actors.runs.evaluator.crew import Crew
from dspex_actors.runs.evaluator.writer import Writer
from dspex_actors.runs.work import StillMine
from supervisors import Caller, GenServer


def owning(server: GenServer, writer: Writer, kept: Callable[[], object]) -> Ownership:
    """Return whether the run is surely this evaluator's; the journal is asked where that is not sure.

    Args:
        server: the evaluator.
        writer: its way to the journal, which has no answer for one whose run goes on elsewhere.
        kept: called when it is known to be its own.
    """
    mine = Ownership(server.spawn, writer.is_ours, kept=kept)
    mine.watch()
    return mine


async def tell_worker(server: GenServer, mine: Ownership, crew: Crew, caller: Caller, request: StillMine) -> None:
    """Tell a worker whether what it was given is still its own; an evaluator that has lost its run tells nobody."""
    mine.is_sure()
    await mine.settled()
    hand = crew.hands.get(request.worker)
    server.reply(caller, hand is not None and hand.sitting.number == request.sitting)
