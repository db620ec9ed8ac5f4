"""The workers of a plan: who may work, how much more each takes, and which one is filled next. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.plan.windows import Seat, pick, prefetch, resettle, share


class Seats:
    """The seats of all workers, by name.

    Args:
        settings: of the run.
        looks_ahead: False: no worker gets more than its window.
    """

    def __init__(self, settings: PlanSettings, *, looks_ahead: bool) -> None:
        """Begin with no workers."""
        self._settings, self._looks_ahead = settings, looks_ahead
        self._seats: dict[Hashable, Seat] = {}
        self._targets: dict[Hashable, int] = {}
        self._joined = 0
        self._turn = 0
        self._unsettled = True
        #: How many examples may be in flight now, all workers together.
        self.limit = settings.max_in_flight
        #: How long examples take (a mean, in seconds); None: not known yet.
        self.latency: float | None = None

    def __iter__(self) -> Iterator[Seat]:
        """Give them in the order in which they joined."""
        return iter(self._seats.values())

    def get(self, worker: Hashable) -> Seat | None:
        """Return the seat of a worker; None: it is not here."""
        return self._seats.get(worker)

    def join(self, worker: Hashable, capabilities: Iterable[str], most: int | None) -> None:
        """Take in a worker; see `Seat`."""
        self._joined += 1
        self._seats[worker] = Seat(worker, frozenset(capabilities), most, order=self._joined)
        self.resplit()

    def leave(self, worker: Hashable) -> Seat | None:
        """Take out a worker, and return what it was; None: it was not here."""
        return self._seats.pop(worker, None)

    def is_fit(self, seat: Seat) -> bool:
        """Whether a worker has what is required."""
        return self._settings.requires <= seat.capabilities

    @property
    def has_any(self) -> bool:
        """Whether a worker is here that has what is required."""
        return any(map(self.is_fit, self))

    # --- windows ----------------------------------------------------------------------------------------------------

    def resplit(self) -> None:
        """Share the windows out among the workers that are here."""
        wants = {name: seat.most for name, seat in self._seats.items() if self.is_fit(seat)}
        self._targets = dict.fromkeys(self._seats, 0) | share(self.limit, wants)
        self._unsettled = True

    def follow(self, rule: StopRule) -> None:
        """Have as many examples in flight as it takes yet, within the limits."""
        most, least, wanted = self._settings.max_in_flight, self._settings.least_in_flight, rule.still_to_try
        limit = most if least is None or wanted is None else max(least, min(most, wanted))
        if limit != self.limit:
            self.limit = limit
            self.resplit()

    def released(self, seat: Seat) -> None:
        """Take note that a worker holds one example less."""
        seat.apart = seat.apart and bool(seat.held)
        if seat.ceiling != seat.window:
            self._unsettled = True

    def settle(self) -> None:
        """Move windows towards what they should be."""
        if self._unsettled:
            resettle(self._seats, self._targets, self._settings.max_in_flight)
            self._unsettled = any(
                seat.window != self._targets[name] or seat.ceiling != seat.window for name, seat in self._seats.items()
            )

    # --- who gets more ----------------------------------------------------------------------------------------------

    def _prefetch(self, window: int) -> int:
        if not self._looks_ahead:
            return 0
        if self._settings.prefetch is not None:
            return self._settings.prefetch
        return prefetch(window, self.latency)

    def _is_clearing(self, seat: Seat) -> bool:
        """Whether a worker, the one that joined last, gets nothing more until it is free for the suspects."""
        if any(one.apart for one in self):
            return False
        ready = [one for one in self if one.window > 0 and self.is_fit(one)]
        return bool(ready) and seat is max(ready, key=lambda one: one.order)

    def room(self, seat: Seat, *, suspects: bool) -> int:
        """Return how many examples more a worker takes.

        Args:
            seat: the worker.
            suspects: whether there are some that wait for a worker which holds nothing.
        """
        if seat.window <= 0 or seat.apart or not self.is_fit(seat) or (suspects and self._is_clearing(seat)):
            return 0
        if seat.ceiling > seat.window:
            # It is to shrink: nothing more until it holds no more than its window, or it never would.
            return 0
        return max(0, seat.window + self._prefetch(seat.window) - seat.load)

    def rooms(self, *, suspects: bool) -> list[int]:
        """Return `room` of each, in their order; asked with each batch of results, it is quick for a hundred of them.

        Args:
            suspects: as above.
        """
        if suspects:
            return [self.room(seat, suspects=True) for seat in self]
        requires = self._settings.requires
        takes: dict[int, int] = {}
        found = []
        for seat in self._seats.values():
            window = seat.window
            if window <= 0 or seat.apart or seat.ceiling > window or not requires <= seat.capabilities:
                found.append(0)
                continue
            if window not in takes:
                takes[window] = window + self._prefetch(window)
            found.append(max(0, takes[window] - len(seat.held) - len(seat.seconds)))
        return found

    def next(self, full: Collection[Hashable], *, suspects: bool) -> Seat | None:
        """Return the worker to fill next, None where nobody has room worth a chunk.

        Args:
            full: none of these.
            suspects: as above.
        """
        open_: list[tuple[int, Seat]] = []
        for room, seat in zip(self.rooms(suspects=suspects), self, strict=True):
            if not room or seat.worker in full:
                continue
            quarter = (seat.window + self._prefetch(seat.window)) // 4
            if room >= quarter or seat.load < seat.window:
                open_.append((room, seat))
        if not open_:
            return None
        seat = pick(open_, self._settings.strategy, self._turn)
        self._turn = seat.order
        return seat

    def spare(self, seat: Seat, place: Callable[[Hashable], Hashable]) -> Seat | None:
        """Return a worker that could begin at once with an example of another one; None: all have enough to do.

        Args:
            seat: the other one.
            place: says where a worker is; one at another place is taken first, and of those the one with most room.
        """
        best: tuple[bool, float, int] | None = None
        found = None
        for one in self:
            room = one.window - one.load
            if one is seat or room <= 0 or one.apart or one.ceiling > one.window or not self.is_fit(one):
                continue
            rank = (place(one.worker) != place(seat.worker), room / one.window, -one.order)
            if best is None or rank > best:
                best, found = rank, one
        return found

    def is_alone(self, seat: Seat) -> bool:
        """Whether no other worker is here that could do what this one does."""
        return not any(one is not seat and self.is_fit(one) and one.window for one in self)
