"""What dspex records by itself: the names, which are part of the interface, and the series that hot code adds to."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

from dspex_actors.foundation.telemetry.checks import TAG_CHARACTERS
from dspex_actors.foundation.telemetry.recorder import Series, recorder

#: Who waited for less than this many seconds under a limit has not waited.
WAITED_SECONDS = 0.001

T = TypeVar("T")


class LMRequests:
    """What the requests to one deployment come to: `lm.request.duration`, `.tokens`, `.cost`, `.errors`.

    Of those that are streamed `lm.request.time_to_first_chunk` besides. And what calls waited for their turn under its
    limits: `rate_limiter.waited`, `.rejected`.

    Args:
        model: its name, as the provider knows it.
        provider: whose it is.
        deployment: digest of the deployment.
    """

    __slots__ = ("_cost", "_duration", "_input", "_output", "_tags", "_waited")

    def __init__(self, model: str, provider: str, deployment: str) -> None:
        """Find the series."""
        tags = self._tags = {"model": model[:TAG_CHARACTERS], "provider": provider, "deployment": deployment[:16]}
        self._duration = recorder.histogram("lm.request.duration", **tags)
        self._input = recorder.counter("lm.request.tokens", kind="input", **tags)
        self._output = recorder.counter("lm.request.tokens", kind="output", **tags)
        self._cost = recorder.counter("lm.request.cost", **tags)
        self._waited = recorder.histogram("rate_limiter.waited", **tags)

    def ended(
        self,
        seconds: float,
        input_tokens: int,
        output_tokens: int,
        cost: float | None,
        *,
        answered: bool,
        error: BaseException | None,
    ) -> None:
        """Take in a request: what it used is paid, answered or not.

        Args:
            seconds: from sending to the end of the answer.
            input_tokens: that it used.
            output_tokens: that it used.
            cost: in USD; None: unknown.
            answered: whether it was.
            error: why not; None: it was given up.
        """
        self._duration.add(seconds)
        self._input.add(input_tokens)
        self._output.add(output_tokens)
        if cost is not None:  # what is free counts too: who reads sees of how many the price is known
            self._cost.add(cost)
        if not answered:
            why = "Cancelled" if error is None else type(error).__name__
            recorder.counter("lm.request.errors", error=why, **self._tags).add()

    def began(self, seconds: float) -> None:
        """Take in after how many seconds the first piece of a streamed reply came."""
        recorder.histogram("lm.request.time_to_first_chunk", **self._tags).add(seconds)

    async def turn(self, acquire: Awaitable[T]) -> T:
        """Wait for a call's turn under a limit; take in how long that took, or that it was refused."""
        began = time.monotonic()
        try:
            turn = await acquire
        except Exception:
            recorder.counter("rate_limiter.rejected", **self._tags).add()
            raise
        if (waited := time.monotonic() - began) >= WAITED_SECONDS:
            self._waited.add(waited)
        return turn


_modules: dict[str, tuple[Series, Series]] = {}


class ModuleRun:
    """A program that runs, as a `with`: `module.execution.duration`, `.success`, `.error`.

    Args:
        module: name of its class.
    """

    __slots__ = ("_began", "_module")

    def __init__(self, module: str) -> None:
        """Prepare it."""
        self._module = module

    def __enter__(self) -> None:
        """Begin."""
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: object, frames: object) -> None:
        """Take the time."""
        series = _modules.get(self._module)
        if series is None:
            tags = {"module": self._module[:TAG_CHARACTERS]}
            series = _modules[self._module] = (
                recorder.histogram("module.execution.duration", **tags),
                recorder.counter("module.execution.success", **tags),
            )
        series[0].add(time.perf_counter() - self._began)
        if kind is None:
            series[1].add()
        else:
            name = self._module[:TAG_CHARACTERS]
            recorder.counter("module.execution.error", module=name, error=kind.__name__[:TAG_CHARACTERS]).add()


def optimisation_stepped(optimiser: str, score: float | None) -> None:
    """Take in a step of an optimisation, and the score of what it came to: `optimisation.iteration`, `.score`."""
    recorder.counter("optimisation.iteration", optimiser=optimiser[:TAG_CHARACTERS]).add()
    if score is not None:
        recorder.histogram("optimisation.score", optimiser=optimiser[:TAG_CHARACTERS]).add(score)


def optimisation_ended(optimiser: str, seconds: float, *, failed: bool) -> None:
    """Take in the end of an optimisation: `optimisation.duration`, tagged with its outcome."""
    outcome = "failed" if failed else "completed"
    recorder.histogram("optimisation.duration", optimiser=optimiser[:TAG_CHARACTERS], outcome=outcome).add(seconds)


class RunProgress:
    """How far a run is: the counter `run.examples` by outcome, and the gauges `run.done`, `.total`, `.in_flight`.

    Args:
        run_id: of the run.
        kind: evaluate, bootstrap, ...
        done: how many examples had a result before.
    """

    def __init__(self, run_id: str, kind: str, done: int) -> None:
        """Find the series."""
        self._outcomes = tuple(
            recorder.counter("run.examples", kind=kind, outcome=outcome) for outcome in ("succeeded", "failed")
        )
        tags = {"run": run_id[:TAG_CHARACTERS]}
        self._done = recorder.gauge("run.done", **tags)
        self._total = recorder.gauge("run.total", **tags)
        self._in_flight = recorder.gauge("run.in_flight", **tags)
        self._count = done

    def settled(self, *, failed: bool) -> None:
        """Take in that an example has its result."""
        self._count += 1
        self._outcomes[failed].add()

    def is_at(self, total: int | None, in_flight: int) -> None:
        """Take in how many examples there are (None: not known) and are under way, and show how many are done."""
        self._done.add(self._count)
        self._in_flight.add(in_flight)
        if total is not None:
            self._total.add(total)


def cache_answered(tier: str, *, hits: int = 0, misses: int = 0) -> None:
    """Take in what a tier of a cache (memory, disk, semantic, ...) said: `cache.hits`, `cache.misses`."""
    for name, count in (("cache.hits", hits), ("cache.misses", misses)):
        if count:
            recorder.counter(name, tier=tier).add(count)


def events_dropped(count: int, why: str) -> None:
    """Take in that events were dropped: `events.dropped`, tagged with why."""
    recorder.counter("events.dropped", why=why).add(count)


def workflow_step_ended(workflow: str, step: str, state: str, seconds: float) -> None:
    """Take in what became of a step of a workflow: `workflow.step.duration`, tagged with its state."""
    tags = {"workflow": workflow[:TAG_CHARACTERS], "step": step[:TAG_CHARACTERS], "state": state}
    recorder.histogram("workflow.step.duration", **tags).add(seconds)


def fallback_used(name: str, used: str) -> None:
    """Take in that something else answered: `fallback.used`."""
    recorder.counter("fallback.used", fallback=name[:TAG_CHARACTERS], used=used[:TAG_CHARACTERS]).add()


def fallback_exhausted(name: str) -> None:
    """Take in that nothing answered: `fallback.exhausted`."""
    recorder.counter("fallback.exhausted", fallback=name[:TAG_CHARACTERS]).add()
