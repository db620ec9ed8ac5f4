"""Who gets which examples of a run, and when: the decisions of the evaluator. Pure: no clock, no I/O, no
process.

The evaluator feeds it examples (as many as `wanted` says), tells it of workers that join and leave and of
results that come in, and sends what `take` returns. The plan keeps these promises:

* **In flight.** The windows of all workers together are at most `max_in_flight`; see `windows`.
* **Always something to do.** A worker is given more than its window: a bounded *prefetch* waits in its
queue, not
  yet asked, so that it starts the next call the moment one ends and a round trip to the evaluator costs no
  time. The prefetch is as many examples as the window gets through in half a second (`note_latency`), at most
  two windows. A worker is refilled when a quarter of its room is free, not for each single result.
* **Nothing is lost, nothing counts twice.** An example is waiting or held by one worker until its first
  result; later results of it are dropped. What a dead worker held goes back to the front.
* **One example cannot take the run down, nor another one with it.** What a dead worker held are suspects (see
  `suspects`); the other workers go on with the rest. One is given up (WorkerDied) when its worker died while it was
  alone there, on its last attempt.
* **Memory** is that of the examples waiting and held; a finished one leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import Chunk, Decision, Item, Lost, PlanSettings
from dspex_actors.runs.plan.waiting import Waiting
from dspex_actors.runs.plan.windows import Seat, next_in_turn, prefetch, resettle, roomiest, share

#: So many examples are read before it is known how large they are.
_LOOK = 64
_DROP, _AGAIN = Decision("drop"), Decision("again")


class RunPlan:
    """Decide who works on what.

    Args:
        settings: how the run is to be worked off.
        rule: when to stop early; the plan then looks no further ahead of its prefix than `max_in_flight`, so
            that no more calls than that can turn out to be needless.
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
        #: was given.
        self.stopped: str | None = None
        self._seats: dict[Hashable, Seat] = {}
        self._targets: dict[Hashable, int] = {}
        self._waiting = Waiting(settings)
        self._held_by: dict[int, Seat] = {}
        self._settled_but_held = 0
        self._bytes = 0
        self._next_index = 0
        self._source_ended = False
        self._joined = 0
        self._turn = 0
        self._latency: float | None = None
        self._unsettled = True
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
        if self.stopped is not None:
            return True
        return self._source_ended and not self.outstanding and not self.waiting

    @property
    def starved(self) -> bool:
        """Return whether examples wait and no worker that may have them is there."""
        return bool(self.waiting) and not any(self._eligible(seat) for seat in self._seats.values())

    def wanted(self) -> int:
        """Return how many examples to feed now; ask again after feeding those, until it says 0."""
        if self.stopped is not None or self._source_ended:
            return 0
        self._settle()
        wanted = sum(self._room(seat) for seat in self._seats.values()) - self._waiting.unsuspected
        if self.rule is not None:
            wanted = min(wanted, self.rule.prefix + self.settings.max_in_flight - self._next_index)
        if wanted <= 0:
            return 0
        live = len(self._held_by) + self.waiting
        if not live:
            # How large these examples are is not known yet.
            return min(wanted, _LOOK)
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
        self._latency = seconds

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
        self._joined += 1
        self._seats[worker] = Seat(worker, frozenset(capabilities), most, order=self._joined)
        self.resplit()
        return lost

    def worker_left(self, worker: Hashable, *, back_soon: bool = False) -> list[Lost]:
        """Put back to the front what a dead worker held; return the examples that are given up for it.

        Args:
            worker: its name.
            back_soon: its successor is on the way: the others do not get its window now, which they would have
                to give back again; `resplit` gives it to them should it not come.
        """
        seat = self._seats.pop(worker, None)
        if seat is None:
            return []
        if not back_soon:
            self.resplit()
        lost: list[Lost] = []
        back: list[Item] = []
        for item in seat.held.values():
            del self._held_by[item.index]
            if item.settled:
                self._settled_but_held -= 1
                continue
            item.deaths += 1
            if self.stopped is not None:
                self._bytes -= len(item.payload)
            elif item.attempt >= self.settings.max_attempts and len(seat.held) == 1:
                lost.append(Lost(item.index, item.attempt, item.payload, worker))
            else:
                item.attempt = min(item.attempt + 1, self.settings.max_attempts)
                back.append(item)
        self._waiting.put_suspects(back)
        for gone in lost:
            self._done(gone.index, gone.payload, success=False, error=True)
        return lost

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
        if item is None:
            return _DROP
        answers = seat is not None and send == item.sends
        if seat is not None and answers:
            self._release(seat, item)
        if item.settled or (error is not None and not answers):
            return _DROP
        if error is not None and seat is not None and self.stopped is None:
            if free:
                self._waiting.put_back(item, front=True)
                return _AGAIN
            if self.settings.failures == "retry" and not final and item.attempt < self.settings.max_attempts:
                item.attempt += 1
                item.avoid = seat.worker
                self._waiting.put_back(item, front=False)
                return _AGAIN
        item.settled = True
        self._waiting.forget(index)
        if seat is not None and not answers:
            # Its present holder works on it still, and has no room for another one until it answers.
            self._settled_but_held += 1
        self._done(index, item.payload, success=success and error is None, error=error is not None)
        return Decision("accept", item.attempt, item.payload)

    def take(self) -> list[Chunk]:
        """Return the chunks to send now, and with them the windows that have changed."""
        self._settle()
        chunks = self._take_suspects()
        full: set[Hashable] = set()
        # A fair part each: with few examples left, every worker gets some of them.
        fair = -(-self._waiting.unsuspected // max(1, sum(1 for seat in self._seats.values() if self._room(seat))))
        while self._waiting.unsuspected and (seat := self._pick(full)) is not None:
            items = self._fill(seat, fair)
            if items:
                chunks.append(self._chunk(seat, items))
            else:
                # All that waits should go elsewhere.
                full.add(seat.worker)
        chunks.extend(self._chunk(seat, []) for seat in self._seats.values() if seat.told != seat.window)
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
        if self.rule is not None and self.rule.verdict is not None:
            self.stop(self.rule.verdict)

    def _release(self, seat: Seat, item: Item) -> None:
        del self._held_by[item.index]
        del seat.held[item.index]
        if item.settled:
            self._settled_but_held -= 1
        seat.apart = seat.apart and bool(seat.held)
        if seat.ceiling != seat.window:
            self._unsettled = True

    def _settle(self) -> None:
        if self.stopped is None and self._unsettled:
            resettle(self._seats, self._targets, self.settings.max_in_flight)
            self._unsettled = any(
                seat.window != self._targets[name] or seat.ceiling != seat.window for name, seat in self._seats.items()
            )

    def resplit(self) -> None:
        """Share the windows out among the workers that are here."""
        wants = {name: seat.most for name, seat in self._seats.items() if self._eligible(seat)}
        self._targets = dict.fromkeys(self._seats, 0) | share(self.settings.max_in_flight, wants)
        self._unsettled = True

    def _eligible(self, seat: Seat) -> bool:
        return self.settings.strategy != "capability_aware" or self.settings.requires <= seat.capabilities

    def _prefetch(self, window: int) -> int:
        if self.rule is not None:
            return 0
        if self.settings.prefetch is not None:
            return self.settings.prefetch
        return prefetch(window, self._latency)

    def _take_suspects(self) -> list[Chunk]:
        """Give suspects to the workers that hold nothing."""
        chunks: list[Chunk] = []
        for seat in self._seats.values():
            if not self._waiting.has_suspects:
                break
            if seat.held or seat.window <= 0 or seat.ceiling > seat.window or not self._eligible(seat):
                continue
            items = self._waiting.take_suspects()
            for item in items:
                self._give(seat, item)
            if items:
                seat.apart = True
                chunks.append(self._chunk(seat, items))
        return chunks

    def _give(self, seat: Seat, item: Item) -> None:
        item.sends += 1
        seat.held[item.index] = item
        self._held_by[item.index] = seat

    def _is_clearing(self, seat: Seat) -> bool:
        """Whether a worker, the one that joined last, gets nothing more until it is free for the suspects."""
        if not self._waiting.has_suspects or any(one.apart for one in self._seats.values()):
            return False
        ready = [one for one in self._seats.values() if one.window > 0 and self._eligible(one)]
        return bool(ready) and seat is max(ready, key=lambda one: one.order)

    def _room(self, seat: Seat) -> int:
        if seat.window <= 0 or seat.apart or not self._eligible(seat) or self._is_clearing(seat):
            return 0
        if seat.ceiling > seat.window:
            # It is to shrink: nothing more until it holds no more than its window, or it never would.
            return 0
        return max(0, seat.window + self._prefetch(seat.window) - len(seat.held))

    def _pick(self, full: set[Hashable]) -> Seat | None:
        """Return the worker to fill next, None where nobody has room worth a chunk; none of `full`."""
        open_: list[tuple[int, Seat]] = []
        for seat in self._seats.values():
            room = self._room(seat)
            quarter = (seat.window + self._prefetch(seat.window)) // 4
            if room and seat.worker not in full and (room >= quarter or len(seat.held) < seat.window):
                open_.append((room, seat))
        if not open_:
            return None
        if self.settings.strategy != "round_robin":
            return roomiest(open_)
        seat = next_in_turn([seat for _, seat in open_], self._turn)
        self._turn = seat.order
        return seat

    def _fill(self, seat: Seat, fair: int) -> list[Item]:
        most = min(self._room(seat), self.settings.chunk_examples, fair)
        others = any(one is not seat and self._eligible(one) and one.window for one in self._seats.values())
        items = self._waiting.take(most, seat.worker if others else None)
        for item in items:
            self._give(seat, item)
        return items
