"""The feeder of a stream of inferences: gives a program's inputs to workers, and their answers back to the program.

What an evaluator is to a run, without a journal: who has which input is decided by the same plan, the workers are found
by the same crew. It keeps an answer until the program has acknowledged it. If it dies, the program starts another one
and gives it again what has no answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from dspex_actors.inference.messages import Answered, Exchange, Given
from dspex_actors.names import WORKERS
from dspex_actors.runs.evaluator.crew import Crew, Hand
from dspex_actors.runs.plan.bills import Bills
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.types import Chunk as Part
from dspex_actors.runs.plan.types import Lost, PlanSettings
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import GetJob, Result, Stands
from dspex_actors.workers.serving import Lacks, Serve, Served
from supervisors import NO_REPLY, Caller, Down, GenServer, Stop
from supervisors.cluster.membership.messages import NodeChanged, NodeDown, NodeUp
from supervisors.errors import SupervisorsError

#: A program of which nothing is heard for so many seconds is gone.
SILENT_SECONDS = 60.0
#: Workers are waited for at the start for at most so many seconds, so that the first one does not get everything.
GATHER_SECONDS = 0.5
#: The window of a worker that died is kept for its successor for so many seconds.
BACK_SECONDS = 1.0
#: An input that had to wait for a limit on speed longer than it may, and asked nobody, is tried again so much later.
REFUSED_SECONDS = 1.0
#: A worker that has inputs and of which nothing is heard for so many seconds is asked whether it has them.
ASK_SECONDS = 5.0
#: What becomes of an input that its worker does not have: it goes out again.
_LOST = {"type": "Lost", "message": "it was lost between two nodes"}
#: A reply has about so many bytes of answers at most, and so many answers.
MOST_BYTES, MOST_ANSWERS = 4 << 20, 512


class Feeder(GenServer):
    """One stream.

    Args:
        job: the program, as workers open it.
        settings: of the plan.
        nodes: names of the nodes that may work for it; None: all.
        seconds: how long one input may take.
    """

    def init(self, job: Job, settings: PlanSettings, nodes: list[str] | None, seconds: float) -> None:
        """Look for workers."""
        self._job, self._seconds = job, seconds
        self._plan = RunPlan(settings)
        self._nodes = nodes
        self._crew: Crew
        self._bills = Bills()
        self._loop = asyncio.get_running_loop()
        self._inputs: deque[tuple[int, bytes]] = deque()
        self._last = -1
        #: Answers that the program has not acknowledged, and the number of the first of them.
        self._out: deque[Answered] = deque()
        self._first = 1
        self._waiting: tuple[Caller, int, asyncio.TimerHandle] | None = None
        self._heard = self._loop.time()
        self._gathered = False
        #: When a worker was last heard, or asked.
        self._heard_of: dict[str, float] = {}
        self.spawn(self._gather())
        self.send_after(SILENT_SECONDS, "look")

    async def _gather(self) -> None:
        workers = len(await self.which_children(WORKERS))
        self._crew = Crew(self, self, self._job.run_id, workers, self._nodes)
        await self._crew.gather(GATHER_SECONDS)
        self._gathered = True
        self.send_after(ASK_SECONDS, "ask")
        self._pump()

    # --- the program ------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Take in inputs and give answers; tell a worker what the program is."""
        match request:
            case GetJob():
                return self._job
            case Exchange():
                return self._exchange(request, caller)
        self.log.error("a feeder does not know a request", request=repr(request)[:200])
        return None

    def _exchange(self, request: Exchange, caller: Caller) -> Any:
        self._heard = self._loop.time()
        while self._out and self._first <= request.got:
            self._out.popleft()
            self._first += 1
        for number, payload in zip(request.numbers, request.payloads, strict=True):
            if number > self._last:  # else it is here already: the reply to an earlier request was lost
                self._last = number
                self._inputs.append((number, payload))
        self._pump()
        if self._waiting is not None:  # the program asks anew: it has given the earlier request up
            self._answer()
        if self._out or request.seconds <= 0:
            return self._given()
        timer = self._loop.call_later(request.seconds, self._answer)
        self._waiting = caller, request.got, timer
        return NO_REPLY

    def _answer(self) -> None:
        if self._waiting is not None:
            caller, _, timer = self._waiting
            self._waiting = None
            timer.cancel()
            self.reply(caller, self._given())

    def _given(self) -> Given:
        size = 0
        answers: list[Answered] = []
        for answer in self._out:
            size += len(answer.prediction or b"") + 200
            if answers and (size > MOST_BYTES or len(answers) >= MOST_ANSWERS):
                break
            answers.append(answer)
        note = None
        if self._gathered and not self._plan.outstanding and (self._inputs or self._plan.waiting):
            needs = ", ".join(sorted(self._plan.settings.requires))
            note = f"no worker is there that fits {needs}" if needs and self._crew.hands else "no worker is there"
        return Given(self._first, answers, len(self._crew.hands) if self._gathered else 0, note)

    # --- work out ---------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        if self._gathered:
            while self._inputs and (wanted := self._plan.wanted()) > 0:
                for _ in range(min(wanted, len(self._inputs))):
                    self._plan.feed(*self._inputs.popleft())
            for part in self._plan.take():
                self._send(part)
        if self._out:
            self._answer()

    def _send(self, part: Part) -> None:
        hand = self._crew.hands.get(str(part.worker))
        if hand is not None and part.items:
            # The number says which sending an answer is for: an input that goes out again is another inference.
            numbers = [_number(index, send) for index, send, _ in part.items]
            payloads = [payload for _, _, payload in part.items]
            count = len(numbers)
            self.cast(hand.ref, Serve(self.ref, numbers, payloads, [self._seconds] * count, [b""] * count))

    # --- workers ----------------------------------------------------------------------------------------------------

    def joined(self, hand: Hand) -> None:
        """Take in a worker that the crew has found."""
        self._lost(self._plan.worker_joined(hand.name, capabilities=hand.capabilities))
        self._pump()

    def left(self, name: str, *, back_soon: bool, blameless: bool) -> None:
        """Take note that a worker is gone."""
        self._lost(self._plan.worker_left(name, back_soon=back_soon, blameless=blameless))
        if back_soon:
            self.send_after(BACK_SECONDS, "resplit")
        self.send_after(0.0, "pump")

    def rests(self, name: str, *, rests: bool) -> None:
        """Give a worker nothing more, or let it work again."""
        self._plan.worker_rests(name, rests=rests)
        self._pump()

    def holds(self, name: str) -> bool:
        """Whether a worker has inputs without an answer."""
        return self._plan.holds(name)

    def resend(self, hand: Hand, stands: Stands) -> None:
        """Say nothing again: workers know no sittings of a stream, and are asked for what they lack."""

    def handle_info(self, message: Any) -> None:
        """Take in what the crew has to know, and look whether the program is still there."""
        match message:
            case "look":
                left = self._heard + SILENT_SECONDS - self._loop.time()
                if left <= 0:
                    raise Stop("normal")
                self.send_after(left, "look")
            case "ask":
                self._ask_silent()
            case ("lacks", str(worker), list(numbers)):
                for number in numbers:
                    self._result(worker, Result(*_place(number), error=_LOST, again="free"))
            case "resplit":
                self._plan.resplit()
            case ("late", str(worker), Result() as result):
                self._result(worker, result)
            case Down():
                self._crew.down(message)
            case NodeUp() | NodeDown() | NodeChanged():
                self._crew.hear(message)
        self._pump()

    def _ask_silent(self) -> None:
        """Ask workers that have something and were not heard for a while whether they have it: a cast may be lost."""
        now = self._loop.time()
        for hand in self._crew.hands.values():
            if self._plan.holds(hand.name) and now - self._heard_of.setdefault(hand.name, now) >= ASK_SECONDS:
                self._heard_of[hand.name] = now
                self.spawn(self._ask(hand))
        self.send_after(ASK_SECONDS, "ask")

    async def _ask(self, hand: Hand) -> None:
        numbers = [_number(*place) for place in self._plan.held(hand.name)]
        try:
            lacking = await self.call(hand.ref, Lacks(self.ref, numbers), timeout=SILENT_SECONDS)
        except SupervisorsError:
            return  # its end is told otherwise
        if lacking and self._crew.hands.get(hand.name) is hand:
            # Behind what it has sent before, which is here and perhaps not handled yet.
            self.send_after(0.0, ("lacks", hand.name, lacking))

    # --- results in -------------------------------------------------------------------------------------------------

    def handle_cast(self, message: Any) -> None:
        """Take in results."""
        if not isinstance(message, Served):
            self.log.error("a feeder does not know a message", message=repr(message)[:200])
            return
        worker = next((hand.name for hand in self._crew.hands.values() if hand.ref == message.worker), "")
        self._heard_of[worker] = self._loop.time()
        for result in message.results:
            result.index, result.send = _place(result.index)
            if result.again == "free" and not result.attempts:
                self.send_after(REFUSED_SECONDS, ("late", worker, result))
            else:
                self._result(worker, result)
        self._pump()

    def _result(self, worker: str, result: Result) -> None:
        error = result.error
        if error is None and result.latency is not None:
            self._plan.note_latency(result.latency)
        elsewhere = bool(worker) and self._crew.lacks(worker, result)
        decision = self._plan.result(
            result.index,
            result.send,
            error=None if error is None else str(error.get("type")),
            free=result.again == "free" or elsewhere,
            final=error is not None and result.again == "no",
        )
        if decision.fate == "again":
            self._bills.note(result.index, result.attempts)
        elif decision.fate == "accept":
            bill = self._bills.settle(result.index, result.attempts)
            self._out.append(
                Answered(
                    result.index,
                    result.prediction,
                    error,
                    decision.attempts,
                    result.latency,
                    bill.usage,
                    bill.cost,
                    result.finish_reason or bill.finish_reason,
                    result.cached,
                )
            )

    def _lost(self, lost: list[Lost]) -> None:
        for item in lost:
            bill = self._bills.settle(item.index, [])
            self._out.append(
                Answered(item.index, None, item.error, item.attempts, None, bill.usage, bill.cost, bill.finish_reason)
            )


def _number(index: int, send: int) -> int:
    """Return the number under which a worker knows one sending of an input."""
    return index << 16 | send & 0xFFFF


def _place(number: int) -> tuple[int, int]:
    """Return index and sending of a number."""
    return number >> 16, number & 0xFFFF
