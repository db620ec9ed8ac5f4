"""Examples on their way to workers: in chunks by cast, again where one was not heard, and a second time elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

from dspex_actors.runs.evaluator.crew import Crew, Hand
from dspex_actors.runs.hedge import is_hedged
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stragglers import Sending, Stragglers
from dspex_actors.runs.plan.types import Chunk as Part
from dspex_actors.runs.plan.types import Fate
from dspex_actors.runs.spec import EXAMPLE_SECONDS
from dspex_actors.runs.work import Chunk, Drop, Result, SendAgain, Stands
from supervisors import GenServer


class Sender:
    """Sends a run's examples.

    Args:
        server: its evaluator.
        run_id: the run.
        epoch: of the evaluator.
        crew: those who get them.
        settings: of the run.
    """

    def __init__(self, server: GenServer, run_id: str, epoch: int, crew: Crew, settings: dict[str, Any]) -> None:
        """Begin with nothing sent."""
        self._server, self._run_id, self._epoch, self._crew = server, run_id, epoch, crew
        self._clock = asyncio.get_running_loop().time
        self._stragglers = Stragglers(settings.get("deadline", EXAMPLE_SECONDS)) if is_hedged(settings) else None

    def send(self, part: Part) -> None:
        """Send what the plan has decided."""
        if self._stragglers is not None and part.items:
            self._stragglers.given(part, self._clock())
        self._send(part)

    def _send(self, part: Part) -> None:
        hand = self._crew.hands.get(str(part.worker))
        if hand is not None:
            self._send_to(hand, hand.sitting.give(part), part)

    def _send_to(self, hand: Hand, number: int, part: Part) -> None:
        about = self._run_id, self._server.ref, self._epoch, hand.sitting.number, number, part.window
        indices, sends, payloads = ([item[place] for item in part.items] for place in range(3))
        self._server.cast(hand.ref, Chunk(*about, indices, sends, payloads))  # type: ignore[arg-type]

    def resend(self, hand: Hand, stands: Stands) -> None:
        """Say again what a worker has not heard, and have it say again what was not heard of it."""
        hand.sitting.taken(stands.taken)
        for number, part in hand.sitting.untaken:
            self._send_to(hand, number, part)
        if stands.sent > hand.sitting.batch:
            again = SendAgain(self._run_id, self._server.ref, hand.sitting.number, hand.sitting.batch + 1)
            self._server.cast(hand.ref, again)

    # --- a second time ----------------------------------------------------------------------------------------------

    @property
    def started_twice(self) -> int:
        """How many examples were started a second time."""
        return 0 if self._stragglers is None else self._stragglers.count

    def look(self, plan: RunPlan) -> None:
        """Start a second time what has been away for too long, at the end of the run."""
        if self._stragglers is not None:
            for part in self._stragglers.due(plan, self._clock()):
                self._send(part)

    def heard(self, result: Result) -> bool:
        """Take in that a sending has ended; return whether it was a second one, which alone decides nothing bad."""
        if self._stragglers is None:
            return False
        is_second = self._stragglers.is_second(result.index, result.send)
        self._stragglers.heard(result.index, result.send, self._clock(), good=result.error is None)
        return is_second

    def decided(self, plan: RunPlan, index: int, fate: Fate) -> None:
        """Take in what becomes of an example: one that has its result is dropped elsewhere, where it was started twice.

        One that is to be tried again is left to its second sending.
        """
        if self._stragglers is None:
            return
        if fate == "accept":
            for sending in self._stragglers.settled(index):
                self._drop(index, sending)
        elif fate == "again" and (second := self._stragglers.instead(index)) is not None:
            plan.goes_on(index, second.worker, second.send)

    def left(self, plan: RunPlan, worker: str) -> None:
        """Take in that a worker is gone; the plan knows it."""
        if self._stragglers is not None:
            for index, second in self._stragglers.left(worker):
                plan.goes_on(index, second.worker, second.send)

    def _drop(self, index: int, sending: Sending) -> None:
        hand = self._crew.hands.get(str(sending.worker))
        if hand is not None:
            self._server.cast(hand.ref, Drop(self._run_id, self._server.ref, index, sending.send))
