"""The cache in front of the sessions of one worker: an answer that is known, or is just being asked for, is not asked
for again.

A call looks in memory, then claims its key and looks on disk; both take microseconds and no message. Who has the claim
asks, and keeps the answer. Who comes meanwhile waits: in this process for the one who asks, and one for all of them for
a process that has the claim. A failure is no answer: who waits next asks, but for refusals that would be the same for
everybody, which all of them are told.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_actors.cache.core import CacheCore
from dspex_actors.cache.flight import Flight
from dspex_actors.cache.place import Place, place_of
from dspex_actors.cache.store import Found, tenant_number
from dspex_actors.foundation.cache_settings import CacheSettings, cache_folder, in_force
from dspex_actors.foundation.telemetry.recorder import recorder
from dspex_actors.lm.answer_key import answer_key
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker.kept import holds_key, is_refusal, packed, pieces_of, refusal, refused, revived
from dspex_actors.lm.worker.waiting import Waiting
from dspex_actors.settings import settings as program_settings

if TYPE_CHECKING:
    from dspex_actors.lm.worker.likeness import Likeness

#: Whether another process still has a claim is looked at after so many seconds, then less and less often.
LOOK_FIRST, LOOK_LAST = 0.01, 0.1
#: Settings that are in use at the same time.
_MOST_PLANS = 64
#: Who clears the cache waits at most so long for what is to be written.
_CLEAR_SECONDS = 0.5
TIERS = ("memory", "disk", "semantic")

Ask = Callable[[LMRequest], Awaitable[LMReply]]
Note = Callable[[LMRequest, str, float | None], None]


class _Plan:
    """What the settings of one program come to in this worker."""

    __slots__ = ("is_disk", "is_memory", "likeness", "number", "place", "tenant", "tenant_name", "ttl")

    def __init__(self, settings: CacheSettings, place: Place, number: int) -> None:
        self.tenant_name, self.tenant = settings.tenant, tenant_number(settings.tenant)
        self.is_memory, self.is_disk = settings.memory, settings.disk
        self.ttl = settings.ttl
        self.place = place
        self.likeness: Likeness | None = None
        if settings.semantic is not None:
            from dspex_actors.lm.worker.likeness import Likeness  # numpy is loaded where it is needed

            whose = self.tenant_name, self.tenant
            self.likeness = Likeness(settings.semantic, place if settings.disk else None, whose)
        #: Answers of one folder are not shown to who uses another.
        self.number = b"" if not number else b"%d:" % number


class _Call:
    """A call that memory had no answer to."""

    __slots__ = ("began", "is_claimed", "key", "name", "place", "plan", "request", "ttl")

    def __init__(
        self, request: LMRequest, plan: _Plan, key: bytes, name: bytes, ttl: float | None, began: float
    ) -> None:
        self.request, self.plan, self.key, self.name = request, plan, key, name
        self.ttl, self.began = ttl, began
        #: Of the disk tier; None: it is off, or cannot be used now.
        self.place = plan.place if plan.is_disk and plan.place.ready() else None
        self.is_claimed = False

    def free(self) -> None:
        """Leave the claim, if there is one."""
        if self.is_claimed and self.place is not None:
            self.is_claimed = False
            self.place.free(self.key)


class AnswerCache:
    """The cached answers of one worker; used by its loop only.

    Args:
        data_dir: the node's data folder.
        workers: of the node: each has its share of the memory.
    """

    def __init__(self, data_dir: Path, workers: int = 1) -> None:
        """Begin with nothing opened."""
        self._data_dir, self._workers = data_dir, max(1, workers)
        self._memory: CacheCore[bytes] = CacheCore("lru", 0, ttl=math.inf)
        self._plans: dict[int, _Plan | None] = {}
        self._told: list[Any] = []
        self._numbers: dict[Path, int] = {}
        self._flights: dict[bytes, Flight] = {}
        self._epochs: dict[bytes, bytes] = {}
        self._hits = {tier: recorder.counter("cache.hits", tier=tier) for tier in TIERS}
        self._misses = recorder.counter("cache.misses", tier="memory")
        #: Takes note of what an answer that was kept had cost: the call, the model, USD or None.
        self.note: Note = lambda request, model, saved: None
        #: Calls by what has answered them: a tier, another call that was under way, or the LM.
        self.counts = dict.fromkeys((*TIERS, "waited", "asked"), 0)

    # --- settings ---------------------------------------------------------------------------------------------------

    def _plan(self) -> _Plan | None:
        told = program_settings.around("cache")
        number = id(told)
        if number in self._plans:
            return self._plans[number]
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
            self._told.clear()
        self._told.append(told)  # an id is nobody else's while it lives
        plan = self._plans[number] = self._made(told)
        return plan

    def _made(self, told: Any) -> _Plan | None:
        settings = in_force(told)
        if settings is None:
            return None
        folder = cache_folder(self._data_dir, settings)
        place = place_of(folder)
        place.limit = settings.disk_bytes
        self._memory.max_bytes = settings.memory_bytes // self._workers
        self._memory.max_entries = max(1.0, settings.memory_entries / self._workers)
        return _Plan(settings, place, self._numbers.setdefault(folder, len(self._numbers)))

    # --- calls ------------------------------------------------------------------------------------------------------

    async def complete(self, request: LMRequest, ask: Ask) -> LMReply:
        """Answer a call: with what is kept, with what another one has just asked for, or by asking.

        Args:
            request: the call.
            ask: asks.

        Raises:
            LMError: as `ask`; or no answer came in the time that the call has.
        """
        began = time.perf_counter()
        plan = self._plan()
        key = None if plan is None else _key(request, plan)
        if plan is None or key is None:
            return await ask(request)
        ttl = plan.ttl if request.lm.options.cache_ttl is None else request.lm.options.cache_ttl
        name = plan.number + key
        if plan.is_memory and (kept := self._in_memory(plan, name, ttl)) is not None:
            return self._hit(request, kept, "memory", began)
        call = _Call(request, plan, key, name, ttl, began)
        flight = self._flights.get(name)
        if flight is None:
            if call.place is not None:
                call.is_claimed = call.place.claim(key)
                if (kept := self._on_disk(call)) is not None:
                    call.free()
                    return self._hit(request, kept, "disk", began)
            flight = self._flights[name] = Flight()
        else:
            joined = await self._join(call, flight)
            if joined is not None:
                return self._hit(request, joined, "memory", began)
        return await self._lead(call, flight, ask)

    async def _lead(self, call: _Call, flight: Flight, ask: Ask) -> LMReply:
        """Get the answer for all that wait here."""
        try:
            if call.place is not None and not call.is_claimed:
                kept = await self._elsewhere(call, call.place)
                if kept is not None:
                    self._landed(call, flight, kept)
                    return self._hit(call.request, kept, "disk", call.began)
            likeness, asked = call.plan.likeness, None
            if likeness is not None and (asked := await likeness.asked(call.request)) is not None:
                kept = self._like(call, await likeness.nearest(asked))
                if kept is not None:
                    call.free()
                    self._landed(call, flight, kept)
                    return self._hit(call.request, kept, "semantic", call.began)
            self.counts["asked"] += 1
            self._misses.add()
            reply = await self._asked(call, flight, ask)
        except BaseException as error:
            self._failed(call, flight, error)
            raise
        if (kept := self._keep(call, reply)) is None:
            self._next(call, flight)
            return reply
        self._landed(call, flight, kept)
        if likeness is not None and asked is not None:
            likeness.keep(asked, call.key)
        return reply

    async def _asked(self, call: _Call, flight: Flight, ask: Ask) -> LMReply:
        """Ask; if it is a stream that its reader does not read on, nobody else waits for it."""
        sink = call.request.sink
        if sink is None:
            return await ask(call.request)
        sink.stalled = lambda: self._next(call, flight)
        try:
            return await ask(call.request)
        finally:
            sink.stalled = None

    async def _join(self, call: _Call, flight: Flight) -> bytes | None:
        """Wait for a call of this process; None: it has failed, and this one has to lead."""
        self.counts["waited"] += 1
        with Waiting(call.request) as waiting:
            try:
                kept = await flight.join(waiting.left())
            except BaseException as error:
                if flight.is_left and self._flights.get(call.name) is flight:
                    del self._flights[call.name]
                if isinstance(error, TimeoutError):
                    raise waiting.late() from None
                raise
        if kept is not None and is_refusal(kept):
            raise refusal(kept)
        return kept

    async def _elsewhere(self, call: _Call, place: Place) -> bytes | None:
        """Wait for a process that has the claim; None: it has no answer, and the claim is ours."""
        since, pause = time.time(), LOOK_FIRST
        with Waiting(call.request) as waiting:
            while not place.claim(call.key):
                left = waiting.left()
                if left <= 0:
                    raise waiting.late()
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 1.3, LOOK_LAST)
        call.is_claimed = True
        found = place.find(call.key)
        if found is not None and is_refusal(found.value) and found.made >= since:
            call.free()
            raise refusal(found.value)
        kept = self._on_disk(call)
        if kept is not None:
            call.free()
        return kept

    def _failed(self, call: _Call, flight: Flight, error: BaseException) -> None:
        """Let the next one ask; a refusal that everybody would get is told to all."""
        told = refused(error)
        if told is not None:
            self._landed(call, flight, told)
            if call.is_claimed and call.place is not None:
                call.place.put(call.key, told, call.plan.tenant, is_claimed=True)
            return
        self._next(call, flight)

    def _next(self, call: _Call, flight: Flight) -> None:
        """Let the next one ask: there is no answer that it could have."""
        call.free()
        if not flight.hand_on() and self._flights.get(call.name) is flight:
            del self._flights[call.name]

    def _landed(self, call: _Call, flight: Flight, kept: bytes) -> None:
        if self._flights.get(call.name) is flight:
            del self._flights[call.name]
        flight.land(kept)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def _in_memory(self, plan: _Plan, name: bytes, ttl: float | None) -> bytes | None:
        entry = self._memory.get(name, time.time(), math.inf if ttl is None else ttl)
        if entry is None:
            return None
        if plan.is_disk and (epoch := plan.place.epoch()) != self._epochs.get(plan.number, epoch):
            self._epochs[plan.number] = epoch
            self._memory.clear()  # somebody has taken answers back: what is still good is on disk
            return None
        return entry.value

    def _on_disk(self, call: _Call) -> bytes | None:
        found = None if call.place is None else call.place.find(call.key)
        if found is None or is_refusal(found.value):
            return None
        if call.ttl is not None and time.time() - found.made >= call.ttl:
            return None
        self._remember(call, found)
        if found.is_due and call.place is not None:
            call.place.touch(call.key)
        return found.value

    def _like(self, call: _Call, key: bytes | None) -> bytes | None:
        """Return the answer to nearly the same question, which is kept under a key."""
        if key is None:
            return None
        name = call.plan.number + key
        kept = self._in_memory(call.plan, name, call.ttl) if call.plan.is_memory else None
        if kept is None and call.place is not None:
            found = call.place.find(key)
            if found is not None and not is_refusal(found.value):
                is_old = call.ttl is not None and time.time() - found.made >= call.ttl
                kept = None if is_old else found.value
        return kept

    def _remember(self, call: _Call, found: Found) -> None:
        plan = call.plan
        if not plan.is_memory:
            return
        if plan.is_disk and plan.number not in self._epochs:
            self._epochs[plan.number] = plan.place.epoch()
        self._memory.put(call.name, found.value, len(found.value), found.made)

    def _keep(self, call: _Call, reply: LMReply) -> bytes | None:
        """Keep an answer in all tiers; return its bytes; None: it has none (half a surrogate pair, a huge number)."""
        try:
            kept = packed(reply)
        except (TypeError, ValueError, OverflowError):
            return None
        if holds_key(reply, kept):  # a server that repeats the key: nobody else is shown it
            call.free()
            return kept
        self._remember(call, Found(kept, time.time(), is_due=False))
        if call.place is not None:
            call.place.put(call.key, kept, call.plan.tenant, is_claimed=call.is_claimed)
            call.is_claimed = False
        return kept

    def _hit(self, request: LMRequest, kept: bytes, tier: str, began: float) -> LMReply:
        """Return a reply that is kept: it is no request, and costs nothing."""
        reply, saved = revived(kept, tier, time.perf_counter() - began)
        self.counts[tier] += 1
        self._hits[tier].add()
        self.note(request, reply.model, saved)
        if request.sink is not None:
            request.sink.put(pieces_of(reply))
        return reply

    def forget(self, request: LMRequest) -> None:
        """Take the answer to a call back: it is of no use, as its program has found out."""
        plan = self._plan()
        key = None if plan is None or not request.lm.options.cache else _key(request, plan)
        if plan is None or key is None:
            return
        self._memory.discard(plan.number + key)
        if plan.is_disk and plan.place.ready():
            plan.place.forget(key)

    def stats(self) -> dict[str, int]:
        """Return the counts of this worker, and what its memory holds."""
        memory = self._memory.counts
        held = {"entries": memory.entries, "bytes": memory.bytes, "evicted": memory.evicted}
        return {**self.counts, **held, "max_bytes": self._memory.max_bytes}

    def clear(self) -> dict[str, int]:
        """Forget what is in memory, and have what waits written: whoever clears the disk finds it there."""
        self._memory.clear()
        self.close(_CLEAR_SECONDS)
        return self.stats()

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits to be written; wait for it at most so long."""
        for folder in self._numbers:
            place_of(folder).flush(seconds)


def _key(request: LMRequest, plan: _Plan) -> bytes | None:
    try:
        return answer_key(request.lm, request.messages, request.params if request.given else None, plan.tenant_name)
    except (TypeError, ValueError, RecursionError):
        return None  # it is no plain data: nobody can say whether it is the same
