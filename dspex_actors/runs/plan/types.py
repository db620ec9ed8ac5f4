"""What goes into a run's plan and what comes out of it; the decisions are in `plan`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole

Failures = Literal["retry", "skip", "stop"]
Strategy = Literal["round_robin", "load_balanced", "capability_aware"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How a run is to be worked off.

    Args:
        max_in_flight: LM-calling examples at once, all workers together.
        failures: what to do with an example that failed: `retry` elsewhere, `skip` it, `stop` the run. What
            a dead worker held is tried again whatever this says.
        max_attempts: attempts per example, deaths of its worker included.
        max_failures: stop when more than so many have failed for good; None: never.
        strategy: round_robin: one worker after the other; load_balanced: the one with most room;
            capability_aware: the same, and of those with room first the ones that can do least beside it.
        requires: capabilities that a worker must have, as `name=text`.
        prefetch: examples waiting in a worker's queue beyond its window; None: see above.
        chunk_examples: most examples in one chunk.
        chunk_bytes: most bytes in one chunk; a larger example travels alone.
        memory_bytes: most bytes of examples waiting and held, about; with examples so large that this is
            reached, fewer than `max_in_flight` are under way.
        least_in_flight: with a rule that stops the run early: from so many up to `max_in_flight` at once, by how many
            it takes yet (`StopRule.still_to_try`); None: always `max_in_flight`.
        spare: with such a rule: give out hardly anything that could turn out to be needless, and besides so many
            examples (`StopRule.room`); None: always as many as may be in flight.
        in_batches: examples wait for batches, for up to a day: what a dead worker held goes on at once, all of it, and
            is apart from the others only once its worker has died `max_attempts` times.
    """

    max_in_flight: int = 256
    failures: Failures = "retry"
    max_attempts: int = 3
    max_failures: int | None = None
    strategy: Strategy = "load_balanced"
    requires: frozenset[str] = frozenset()
    prefetch: int | None = None
    chunk_examples: int = 256
    chunk_bytes: int = 256 * 1024
    memory_bytes: int = 128 << 20
    least_in_flight: int | None = None
    spare: int | None = None
    in_batches: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        for name in ("max_in_flight", "max_attempts", "chunk_examples", "chunk_bytes", "memory_bytes"):
            if not is_whole(getattr(self, name), 1):
                raise ConfigError(f"{name} is a whole number, 1 or more; got {getattr(self, name)!r}")
        for name in ("max_failures", "prefetch", "spare"):
            if (value := getattr(self, name)) is not None and not is_whole(value, 0):
                raise ConfigError(f"{name} is a whole number, 0 or more, or None; got {value!r}")
        if (least := self.least_in_flight) is not None and not (is_whole(least, 1) and least <= self.max_in_flight):
            raise ConfigError(f"least_in_flight is a whole number from 1 to max_in_flight, or None; got {least!r}")
        if self.failures not in ("retry", "skip", "stop"):
            raise ConfigError(f"failures is 'retry', 'skip' or 'stop'; got {self.failures!r}")
        if self.strategy not in ("round_robin", "load_balanced", "capability_aware"):
            known = "'round_robin', 'load_balanced' or 'capability_aware'"
            raise ConfigError(f"strategy is {known}; got {self.strategy!r}")


@dataclass(slots=True)
class Item:
    """An example on its way.

    Args:
        index: its place in the dataset.
        payload: the packed example.
        attempt: what the next (or present) sending is for `max_attempts`, from 1.
        sends: how often it was sent; the number that tells a late answer from the one waited for.
        deaths: how often its worker died.
        avoid: the worker where it failed last.
        settled: it has its result; a worker that still holds it need not answer.
    """

    index: int
    payload: bytes
    attempt: int = 1
    sends: int = 0
    deaths: int = 0
    avoid: Hashable | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """What to send to a worker: its window from now on, and examples, possibly none (a new window only).

    Each of `items` is (index, number of the sending, packed example); the worker answers with the first two.
    """

    worker: Hashable
    window: int
    items: tuple[tuple[int, int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """An example given up because its worker died on its last attempt."""

    index: int
    attempts: int
    payload: bytes
    worker: Hashable

    @property
    def error(self) -> dict[str, Any]:
        """Return the error record for the journal."""
        died = f"{self.attempts} workers in turn" if self.attempts > 1 else "a worker"
        return {"type": "WorkerDied", "message": f"{died} died on this example; the last was {self.worker}"}


#: What becomes of a result: write it down; the example will be tried again; or it is known already.
Fate = Literal["accept", "again", "drop"]


class Decision(NamedTuple):
    """What to do with a result; for an accepted one also the example and how many attempts it took."""

    fate: Fate
    attempts: int = 0
    payload: bytes = b""
