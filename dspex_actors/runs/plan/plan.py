"""Who gets which examples of a run, and when: the decisions of the evaluator. Pure: no clock, no I/O, no process.

The evaluator feeds it examples (as many as `wanted` says), tells it of workers that join and leave and of results that
come in, and sends what `take` returns. The plan keeps these promises:

* **In flight.** The windows of all workers together are at most `max_in_flight`; see `windows`.
* **Always something to do.** A worker is given more than its window: a bounded *prefetch* waits in its queue, not yet
  asked, so that it starts the next call the moment one ends and a round trip to the evaluator costs no time. The
  prefetch is as many examples as the window gets through in half a second (`note_latency`), at most two windows. A
  worker is refilled when a quarter of its room is free, not for each single result.
* **Nothing is lost, nothing counts twice.** An example is waiting or held by one worker, and perhaps with a second one
  too, until its first result; later results of it are dropped. What a dead worker held goes back to the front.
* **One example cannot take the run down, nor another one with it.** What a dead worker held are suspects (see
  `suspects`); the other workers go on with the rest. One is given up (WorkerDied) when its worker died while it was
  alone there, on its last attempt, and nobody else has it.
* **Memory** is that of the examples waiting and held; a finished one leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from dspex_actors.lm.attempts import SECOND
from dspex_actors.runs.plan.seats import Seats
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import Chunk, Decision, Item, Lost, PlanSettings
from dspex_actors.runs.plan.waiting import Waiting
from dspex_actors.runs.plan.windows import Seat

#: So many examples are read before it is known how large they are.
_LOOK = 64
_DROP, _AGAIN = Decision("drop"), Decision("again")


class RunPlan:
    """Decide who works on what.

    Args:
        settings: how the run is to be worked off.
        rule: when to stop early; the plan then looks no further ahead of its prefix than `max_in_flight`, so
            that no more calls than that can turn out to be needless, and hardly any where it is to be sparing.
        failed: examples that failed in an earlier part of the run.
        sends: sendings are numbered on from here: those of an earlier evaluator have other numbers.
    """

    def __init__(
        self, settings: PlanSettings, *, rule: StopRule | None = None, failed: int = 0, sends: int = 0
    ) -> None:
        """Begin with no workers and no examples."""
        self.settings = settings
        self.rule = rule
        self.failed = failed
        self._sends = sends
        self.finished_examples = 0
        #: Why no more is sent, once that is so: "successes", "errors", "max_failures", "failure", or what `stop`
        #: was given: "budget" lets what is under way end.
        self.stopped: str | None = None
        self._seats = Seats(settings, looks_ahead=rule is None)
        self._waiting = Waiting(settings)
        self._held_by: dict[int, Seat] = {}
        #: Examples that a second worker has too, by index.
        self._seconds: dict[int, Seat] = {}
        self._settled_but_held = 0
        self._bytes = 0
        self._next_index = 0
        self._source_ended = False
        self._look_at_rule()

    @property
    def outstanding(self) -> int:
        """Return how many examples without a result workers hold."""
        return len(self._held_by) - self._settled_but_held

    @property
    def waiting(self) -> int:
        """Return how many examples wait for a worker."""
        return len(self._waiting)

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do: stopped, or the source has ended and all have a result."""
        if self.stopped is not None:  # one that goes on another time loses nothing of what is under way
            return not self.stopped.startswith("budget") or not self.outstanding
        return self._source_ended and not self.outstanding and not self.waiting

    @property
    def is_at_its_end(self) -> bool:
        """Return whether all that is left is with workers, and there is nothing more to give out."""
        return self.stopped is None and self._source_ended and not self.waiting and self.outstanding > 0

    @property
    def starved(self) -> bool:
        """Return whether examples wait and no worker that may have them is there."""
        return bool(self.waiting) and not self._seats.has_any

    def wanted(self) -> int:
        """Return how many examples to feed now; ask again after feeding those, until it says 0."""
        if self.stopped is not None or self._source_ended:
            return 0
        self._settle()
        wanted = sum(self._rooms()) - self._waiting.unsuspected
        if self.rule is not None:
            ahead = self.rule.room(self._next_index, self.settings.max_in_flight, self.settings.spare)
            # A worker that is to have fewer may hold more still: the others wait for that.
            wanted = min(wanted, ahead, self._seats.limit - self.outstanding - self.waiting)
        if wanted <= 0:
            return 0
        live = len(self._held_by) + self.waiting
        if not live:
            return min(wanted, _LOOK)  # how large these examples are is not known yet
        return max(0, min(wanted, (self.settings.memory_bytes - self._bytes) * live // max(1, self._bytes)))

    def feed(self, index: int, payload: bytes) -> None:
        """Take in the next example that has no result yet; indices ascend, gaps are those that are done."""
        if index < self._next_index:
            raise ValueError(f"examples come in ascending order: {index} after {self._next_index - 1}")
        self._next_index = index + 1
        if self.stopped is None:
            self._waiting.feed(Item(index, payload, sends=self._sends))
            self._bytes += len(payload)

    def source_ended(self) -> None:
        """Take note that there are no more examples."""
        self._source_ended = True

    def note_latency(self, seconds: float) -> None:
        """Take in how long examples take (a mean, in seconds); the prefetch follows it."""
        self._seats.latency = seconds

    def worker_joined(
        self, worker: Hashable, *, most: int | None = None, capabilities: Iterable[str] = ()
    ) -> list[Lost]:
        """Take in a worker; one of that name that is here already has died and been replaced.

        Args:
            worker: its name.
            most: the most calls it can have in flight; None: no limit of its own.
            capabilities: what it can do.

        Returns:
            As `worker_left` for the one it replaces.
        """
        lost = self.worker_left(worker)
        self._seats.join(worker, capabilities, most)
        return lost

    def worker_left(self, worker: Hashable, *, back_soon: bool = False, blameless: bool = False) -> list[Lost]:
        """Put back to the front what a dead worker held; return the examples that are given up for it.

        Args:
            worker: its name.
            back_soon: its successor is on the way: the others do not get its window now, which they would have
                to give back again; `resplit` gives it to them should it not come.
            blameless: it was not the worker that died, but all of its node: none of its examples is a suspect.
        """
        seat = self._seats.leave(worker)
        if seat is None:
            return []
        for index in seat.seconds:
            del self._seconds[index]
        if not back_soon:
            self.resplit()
        lost, back, innocent = list[Lost](), list[Item](), list[Item]()
        for item in seat.held.values():
            del self._held_by[item.index]
            if item.settled:
                self._settled_but_held -= 1
                continue
            if self.stopped is not None:
                self._bytes -= len(item.payload)
                continue
            item.deaths += not blameless
            if blameless or (self.settings.in_batches and item.deaths < self.settings.max_attempts):
                innocent.append(item)
            elif item.attempt >= self.settings.max_attempts and len(seat.held) == 1 and item.index not in self._seconds:
                lost.append(Lost(item.index, item.attempt, item.payload, worker))
            else:
                item.attempt = min(item.attempt + 1, self.settings.max_attempts)
                back.append(item)
        for item in reversed(innocent):
            self._waiting.put_back(item, front=True)
        self._waiting.put_suspects(back)
        for gone in lost:
            self._done(gone.index, gone.payload, success=False, error=True)
        return lost

    def held(self, worker: Hashable) -> list[tuple[int, int]]:
        """Return what a worker has without a result: index, and number of the sending."""
        seat = self._seats.get(worker)
        return [] if seat is None else [(item.index, item.sends) for item in seat.held.values() if not item.settled]

    def holds(self, worker: Hashable) -> bool:
        """Return whether a worker holds anything."""
        seat = self._seats.get(worker)
        return seat is not None and bool(seat.load)

    def worker_rests(self, worker: Hashable, *, rests: bool = True) -> None:
        """Give a worker nothing more, and have it give back what it has not begun; or let it work again.

        Args:
            worker: its name.
            rests: False: it may work again.
        """
        seat = self._seats.get(worker)
        if seat is not None and (seat.most == 0) != rests:
            seat.most = 0 if rests else None
            self.resplit()

    def result(
        self,
        index: int,
        send: int,
        *,
        error: str | None = None,
        success: bool = True,
        free: bool = False,
        final: bool = False,
    ) -> Decision:
        """Decide on a result.

        A good one counts wherever it comes from, a worker that was thought dead included: the first one
        wins. A failure counts only if it answers the last sending.

        Args:
            index: the example.
            send: the number of the sending it answers, as in the chunk.
            error: the error's type; None: it went well.
            success: whether it counts as a success for the stop rule.
            free: the failure is no attempt (a 429): back to the front as it was.
            final: another attempt would not mend the failure.
        """
        seat = self._held_by.get(index)
        item = self._waiting.returned(index) if seat is None else seat.held[index]
        if send & SECOND and (item is None or send != item.sends):
            self._second_over(index)
        if item is None:
            return _DROP
        answers = seat is not None and send == item.sends
        if seat is not None and answers:
            self._release(seat, item)
        if item.settled or (error is not None and not answers):
            return _DROP
        if error is not None and seat is not None and (self.stopped or "budget").startswith("budget"):
            tries = self.settings.failures == "retry" and not final and item.attempt < self.settings.max_attempts
            if free or tries:
                if not free:
                    item.attempt, item.avoid = item.attempt + 1, seat.worker
                if self.stopped is None:
                    self._waiting.put_back(item, front=free)
                else:  # it has no result, and is asked when the run goes on
                    self._bytes -= len(item.payload)
                return _AGAIN
        item.settled = True
        self._waiting.forget(index)
        if seat is not None and not answers:
            self._settled_but_held += 1  # its holder works on it still, and has no room until it answers
        self._done(index, item.payload, success=success and error is None, error=error is not None)
        return Decision("accept", item.attempt, item.payload)

    def start_twice(self, index: int, place: Callable[[Hashable], Hashable]) -> Chunk | None:
        """Return a chunk that starts an example at another worker too; None: it is no such example, or none has room.

        A good answer to it counts, and a failure does not.

        Args:
            index: an example that a worker has.
            place: says where a worker is; one at another place is taken first.
        """
        seat = self._held_by.get(index)
        if seat is None or (item := seat.held[index]).settled or item.deaths or seat.apart:
            return None
        found = self._seats.spare(seat, place)
        if found is None:
            return None
        found.seconds.add(index)
        self._seconds[index] = found
        found.told = found.window
        return Chunk(found.worker, found.window, ((index, item.sends | SECOND, item.payload),))

    def goes_on(self, index: int, worker: Hashable, send: int) -> None:
        """Take note that an example which came back is with this worker already, by its second start."""
        seat = self._seats.get(worker)
        item = self._waiting.withdraw(index) if seat is not None and self.stopped is None else None
        if seat is not None and item is not None:
            self._second_over(index)
            item.sends = send
            seat.held[index] = item
            self._held_by[index] = seat

    def put_off(self, index: int, send: int, why: str) -> None:
        """Take note that a worker could not do an example now: it has no result, and the run stops for this reason."""
        self.stop(why)
        seat = self._held_by.get(index)
        if seat is None or seat.held[index].sends != send:
            return
        item = seat.held[index]
        if not item.settled:
            self._bytes -= len(item.payload)
        self._release(seat, item)

    def take(self) -> list[Chunk]:
        """Return the chunks to send now, and with them the windows that have changed."""
        self._settle()
        chunks = self._take_suspects()
        full: set[Hashable] = set()
        # A fair part each: with few examples left, every worker gets some of them.
        fair = -(-self._waiting.unsuspected // max(1, sum(map(bool, self._rooms()))))
        while self._waiting.unsuspected and (seat := self._next(full)) is not None:
            items = self._fill(seat, fair)
            if items:
                chunks.append(self._chunk(seat, items))
            else:
                full.add(seat.worker)  # all that waits should go elsewhere
        chunks.extend(self._chunk(seat, []) for seat in self._seats if seat.told != seat.window)
        return chunks

    def stop(self, why: str) -> None:
        """Send nothing more; what waits is given up, what is held may still come in and is accepted."""
        if self.stopped is None:
            self.stopped = why
            self._bytes -= self._waiting.clear()

    def _chunk(self, seat: Seat, items: list[Item]) -> Chunk:
        seat.told = seat.window
        return Chunk(seat.worker, seat.window, tuple((item.index, item.sends, item.payload) for item in items))

    def _done(self, index: int, payload: bytes, *, success: bool, error: bool) -> None:
        self.finished_examples += 1
        self._bytes -= len(payload)
        if self.rule is not None:
            self.rule.observe(index, success=success, error=error)
            self._look_at_rule()
        if error:
            self.failed += 1
            if self.settings.failures == "stop":
                self.stop("failure")
            elif self.settings.max_failures is not None and self.failed > self.settings.max_failures:
                self.stop("max_failures")

    def _look_at_rule(self) -> None:
        if self.rule is not None:
            self._seats.follow(self.rule)
            if self.rule.verdict is not None:
                self.stop(self.rule.verdict)

    def _release(self, seat: Seat, item: Item) -> None:
        del self._held_by[item.index]
        del seat.held[item.index]
        if item.settled:
            self._settled_but_held -= 1
        self._seats.released(seat)

    def _second_over(self, index: int) -> None:
        """Take note that an example is not with a second worker any more, or with that one alone."""
        if (seat := self._seconds.pop(index, None)) is not None:
            seat.seconds.discard(index)
            self._seats.released(seat)

    def _settle(self) -> None:
        if self.stopped is None:
            self._seats.settle()

    def resplit(self) -> None:
        """Share the windows out among the workers that are here."""
        self._seats.resplit()

    def _take_suspects(self) -> list[Chunk]:
        """Give suspects to the workers that hold nothing."""
        chunks: list[Chunk] = []
        for seat in self._seats:
            if not self._waiting.has_suspects:
                break
            if seat.load or seat.window <= 0 or seat.ceiling > seat.window or not self._seats.is_fit(seat):
                continue
            items = self._waiting.take_suspects()
            for item in items:
                self._give(seat, item)
            if items:
                seat.apart = True
                chunks.append(self._chunk(seat, items))
        return chunks

    def _give(self, seat: Seat, item: Item) -> None:
        item.sends = (item.sends & ~SECOND) + 1
        seat.held[item.index] = item
        self._held_by[item.index] = seat

    def _rooms(self) -> list[int]:
        return self._seats.rooms(suspects=self._waiting.has_suspects)

    def _next(self, full: set[Hashable]) -> Seat | None:
        return self._seats.next(full, suspects=self._waiting.has_suspects)

    def _fill(self, seat: Seat, fair: int) -> list[Item]:
        most = min(self._seats.room(seat, suspects=self._waiting.has_suspects), self.settings.chunk_examples, fair)
        items = self._waiting.take(most, None if self._seats.is_alone(seat) else seat.worker)
        for item in items:
            self._give(seat, item)
        return items
