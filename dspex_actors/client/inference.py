"""`dspex.stream_inference`: endless inputs in, results out, in constant memory."""

from __future__ import annotations

import asyncio
import os
import uuid
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from dspex_actors.client.flow import Flow
from dspex_actors.client.inputs import (
    check_has_lm,
    check_program,
    code_of,
    dataset_inputs,
    plain_numbers,
)
from dspex_actors.client.result import Result
from dspex_actors.client.system import System, current_system
from dspex_actors.client.where import check_where
from dspex_actors.data.opening import open_dataset
from dspex_actors.dspy.program import as_lm, as_program
from dspex_actors.ecosystem.inference.plan import check_deadline, check_flag
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import whole
from dspex_actors.inference.feeder import Feeder
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.runs.evaluator.crew import labels_of
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.runs.spec import EXAMPLE_SECONDS, Job
from dspex_actors.settings import settings
from supervisors import ChildSpec

NO_LM = 'no LM is set: dspex.connect(lm="openai/gpt-4o-mini"), stream_inference(..., lm=...) or program.set_lm(...)'


def stream_inference(
    program: Any,
    inputs: Any,
    *,
    max_in_flight: int = 1000,
    buffer: int = 10_000,
    ordered: bool = True,
    requires: Mapping[str, str] | None = None,
    nodes: Sequence[str] | None = None,
    lm: BaseLM | None = None,
    max_attempts: int = 3,
    deadline: float = EXAMPLE_SECONDS,
    system: System | None = None,
) -> InferenceStream:
    """Have a program answer any number of inputs, on all workers of all nodes, and give the results as they come.

    The memory it takes does not depend on how many inputs there are: they are read only as far as results are taken.
    Nothing is written to the journal; for results that must survive this program, use `evaluate`. What a worker that
    dies had in hand is done by another one.

        for result in dspex.stream_inference(program, ({"ticket": line} for line in open("tickets.txt"))):
            print(result.index, result.prediction or result.error)

    Args:
        program: a Module, or any callable program.
        inputs: dicts or Examples, finite or not: an iterable, an async iterable, or a path to JSONL or CSV. It is read
            in a thread of its own; an async one in the loop of `async for`.
        max_in_flight: inputs that are asked at once, all workers together.
        buffer: inputs beyond those that may have been read, and whose results are not taken yet.
        ordered: results come in the order of the inputs; False: as they are ready.
        requires: labels that a node must have, as `{"gpu": "1"}`; None: any node.
        nodes: names of the nodes that may work for it; None: all.
        lm: for predictors that have none of their own; None: as for `evaluate`.
        max_attempts: attempts per input; one that waits for a limit on speed is none.
        deadline: seconds that one input may take.
        system: the connection; None: the one made last.

    Returns:
        An iterator, for `for` and for `async for`, of `Result` (index, example, prediction or error, attempts, latency,
        usage). `close()`, or the end of a `with` around it, gives up what is under way.

    Raises:
        ConfigError: an argument is not legal, or cannot be sent; no node fits; no LM is set. While it is iterated: an
            input is none.
        Overloaded: while it is iterated: no worker is there that fits, for 30 s.
        RunInterrupted: while it is iterated: the node is away, for 30 s.
        Exception: what `inputs` raises comes after the results of the inputs before it.
    """
    program = as_program(program)
    check_program(program)
    at = system or current_system()
    at._check_open()
    where = check_where(at.node, requires, nodes)
    numbers = plain_numbers({"max_in_flight": max_in_flight, "max_attempts": max_attempts})
    plan = PlanSettings(
        **numbers,
        strategy="capability_aware" if requires else "load_balanced",
        requires=labels_of(requires),
        prefetch=0,
    )
    room = whole("buffer", buffer, 0) + plan.max_in_flight
    seconds, in_order = check_deadline(deadline), check_flag("ordered", ordered)
    if not isinstance(inputs, str | os.PathLike | Iterable | AsyncIterable) or isinstance(inputs, Mapping | bytes):
        raise ConfigError(
            f"the inputs are invalid: got {inputs!r:.100}, expected an iterable of dicts or Examples, or a path"
        )
    lm = as_lm(lm or settings.around("lm") or at.lm or settings.lm)
    check_has_lm(program, lm, NO_LM)
    stream_id = f"stream:{uuid.uuid4().hex[:8]}"
    job = Job(
        stream_id,
        "infer",
        code_of(program, "program"),
        b"",
        lm.to_dict() if isinstance(lm, LM) else None,
        pack_surroundings(lm),
    )
    spec = ChildSpec(
        stream_id,
        Feeder,
        args=(job, plan, where.get("nodes"), seconds),
        restart="temporary",
        name=stream_id,
    )
    if isinstance(inputs, str | os.PathLike):
        inputs = open_dataset(inputs, input_names=dataset_inputs(inputs, program))
    return InferenceStream(Flow(at, spec, program, inputs, room, ordered=in_order))


class InferenceStream(Iterator[Result], AsyncIterator[Result]):
    """Results of a stream of inputs. Made by `stream_inference`; iterated by one thread or task at a time."""

    def __init__(self, flow: Flow) -> None:
        """Begin when the first result is asked for."""
        self._flow = flow
        # Whoever drops it without a word leaves no thread and no actor behind.
        self._end = weakref.finalize(self, flow.close)

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Result:
        """Return the next result."""
        self._flow.begin(None)
        found = self._flow.next()
        if found is None:
            raise StopIteration
        return found

    async def __anext__(self) -> Result:
        """Return the next result."""
        loop = asyncio.get_running_loop()
        self._flow.begin(loop)
        there = asyncio.Event()
        while True:
            there.clear()
            found, over = self._flow.look(lambda: loop.call_soon_threadsafe(there.set))
            if found is not None:
                return found
            if over:
                raise StopAsyncIteration
            await there.wait()

    def close(self) -> None:
        """Give up what is under way; results that were not taken are gone."""
        self._end()

    async def aclose(self) -> None:
        """Do what `close` does."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()
