"""What is under way of a stream of inferences in the program: inputs that wait, and results that were not taken."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any

from dspex_actors.client.inputs import with_inputs
from dspex_actors.client.result import Result
from dspex_actors.client.system import System
from dspex_actors.data.fields import pack_example, unpack_example
from dspex_actors.errors import ConfigError, DspexError, Overloaded, RunInterrupted
from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.branches import branch_spec
from dspex_actors.foundation.codec import unpack
from dspex_actors.inference.messages import Answered, Exchange
from dspex_actors.journal.schema import from_json
from dspex_actors.names import EVALUATORS
from supervisors import ChildSpec, Ref
from supervisors.errors import AlreadyStarted, NoProcess, SupervisorsError
from supervisors.first_use import ensure_branch_outside

#: So long one request waits for an answer, in seconds.
POLL_SECONDS = 5.0
#: What the reply to one may take beyond that.
SLACK_SECONDS = 10.0
#: At most so many inputs, and about so many bytes of them, go in one request.
MOST_INPUTS, MOST_BYTES = 512, 4 << 20
#: A node that is away, or being restarted, is waited for so long, and tried this often.
AWAY_SECONDS, PAUSE_SECONDS = 30.0, 0.2
#: For so long an input may find no worker that fits, in seconds.
ALONE_SECONDS = 30.0


class Flow:
    """What is under way of a stream, for its three sides: who reads inputs, who talks to the feeder, who takes results.

    Args:
        system: the connection.
        spec: of the feeder.
        program: says which fields of an input it takes.
        inputs: where they come from.
        room: how many inputs may have been read whose results are not taken.
        ordered: results are taken in the order of the inputs.
    """

    def __init__(self, system: System, spec: ChildSpec, program: Any, inputs: Any, room: int, *, ordered: bool) -> None:
        """Begin nothing yet."""
        self._node, self._spec, self._program, self._inputs = system.node, spec, program, inputs
        self._room, self._ordered = room, ordered
        self._changed = threading.Condition()
        #: Inputs without a result by number, in order; those of them that were not sent; results that were not taken.
        self._open: dict[int, bytes] = {}
        self._unsent: deque[int] = deque()
        self._ready: dict[int, tuple[bytes, Answered]] = {}
        self._read = self._taken = 0
        self._all_read = self._closed = self._begun = False
        self._error: BaseException | None = None
        #: Why the feeder or the node do nothing: nothing more comes, whatever is read.
        self._fatal: BaseException | None = None
        self._wake: Callable[[], object] | None = None
        #: Who reads inputs in the loop of who takes results.
        self._reading: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start to read and to send, once."""
        if self._begun:
            return
        self._begun = True
        if isinstance(self._inputs, AsyncIterable) and loop is not None:
            self._reading = loop, loop.create_task(self._read_async(self._inputs))
        else:
            threading.Thread(target=self._read_all, name=f"{self._spec.id} inputs", daemon=True).start()
        threading.Thread(target=self._talk, name=self._spec.id, daemon=True).start()

    def close(self) -> None:
        """Have everything end."""
        with self._changed:
            self._closed = True
            self._tell()
        if self._reading is not None:
            loop, task = self._reading
            with contextlib.suppress(RuntimeError):  # the loop is over, and the task with it
                loop.call_soon_threadsafe(task.cancel)
        if self._begun:
            self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(SupervisorsError):
            self._node.stop(self._spec.id, timeout=5.0)

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    # --- inputs -----------------------------------------------------------------------------------------------------

    def _read_all(self) -> None:
        error: BaseException | None = None
        try:
            if isinstance(self._inputs, AsyncIterable):
                asyncio.run(self._read_async(self._inputs))
                return
            for item in self._inputs:
                if not self._put(item):
                    break
        except BaseException as raised:
            error = raised
        self._no_more(error)

    async def _read_async(self, inputs: AsyncIterable[Any]) -> None:
        error: BaseException | None = None
        try:
            async for item in inputs:
                if not self._has_room() and not await asyncio.to_thread(self._wait_for_room):
                    break
                if not self._put(item):
                    break
        except BaseException as raised:
            error = raised
        self._no_more(error)

    def _has_room(self) -> bool:
        return len(self._open) + len(self._ready) < self._room and not self._closed

    def _wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room())
            return not self._closed

    def _put(self, item: Any) -> bool:
        """Take in an input, as soon as there is room; False: nothing more is wanted."""
        try:
            payload = pack_example(with_inputs([item], self._program)[0])
        except DspexError as error:
            raise ConfigError(f"input {self._read}: {error.message}") from None
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room())
            if self._closed:
                return False
            self._open[self._read] = payload
            self._unsent.append(self._read)
            self._read += 1
            self._tell()
        return True

    def _no_more(self, error: BaseException | None) -> None:
        with self._changed:
            self._all_read, self._error = True, error
            self._tell()

    # --- the feeder -------------------------------------------------------------------------------------------------

    def _talk(self) -> None:
        try:
            self._exchange_all()
        except BaseException as error:
            with self._changed:
                self._fatal = error
                self._tell()
        self._stop()

    def _exchange_all(self) -> None:
        feeder, got, away, alone = self._start(), 0, 0.0, 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._open or self._is_over, timeout=POLL_SECONDS)
                if self._closed or self._is_over:
                    break
                numbers, payloads = self._next_inputs()
            try:
                wait = 0.0 if not self._open else POLL_SECONDS
                given = self._node.call(feeder, Exchange(numbers, payloads, got, wait), timeout=wait + SLACK_SECONDS)
            except SupervisorsError as error:
                away = away or time.monotonic()
                if time.monotonic() - away > AWAY_SECONDS:
                    raise RunInterrupted(
                        f"{len(self._open):,} inputs have no answer: the node is away ({error})", run_id=None
                    ) from None
                with self._changed:  # it may not have had them
                    self._unsent = deque(sorted({*numbers, *self._unsent} & self._open.keys()))
                time.sleep(PAUSE_SECONDS)
                with contextlib.suppress(SupervisorsError):
                    feeder, before = self._start(), feeder
                    if feeder != before:
                        got = 0
                        with self._changed:
                            self._unsent = deque(self._open)
                continue
            away = 0.0
            alone = 0.0 if given.note is None else alone or time.monotonic()
            if alone and time.monotonic() - alone > ALONE_SECONDS:
                raise Overloaded(f"{len(self._open):,} inputs have no answer: {given.note}; see `dspex nodes`")
            got = self._take_in(given.first, given.answers, got)

    @property
    def _is_over(self) -> bool:
        return self._all_read and not self._open

    def _start(self) -> Ref:
        """Return the feeder, started if need be."""
        found: Ref | None = self._node.whereis(self._spec.id)
        if found is None:
            ensure_branch_outside(self._node, branch_spec(EVALUATORS))
            try:
                found = self._node.start_child(EVALUATORS, self._spec)
            except AlreadyStarted as error:
                found = error.ref
        if found is None:
            raise NoProcess(f"{self._spec.id} did not start")
        return found

    def _next_inputs(self) -> tuple[list[int], list[bytes]]:
        numbers: list[int] = []
        payloads: list[bytes] = []
        size = 0
        while self._unsent and len(numbers) < MOST_INPUTS and size < MOST_BYTES:
            number = self._unsent.popleft()
            numbers.append(number)
            payloads.append(self._open[number])
            size += len(payloads[-1])
        return numbers, payloads

    def _take_in(self, first: int, answers: list[Answered], got: int) -> int:
        with self._changed:
            for number, answer in enumerate(answers, first):
                if number <= got:
                    continue
                got = number
                payload = self._open.pop(answer.number, None)
                if payload is not None:  # else a feeder before this one has given its answer
                    self._ready[answer.number] = payload, answer
            if answers:
                self._tell()
        return got

    # --- results ----------------------------------------------------------------------------------------------------

    def next(self) -> Result | None:
        """Return the next result, None after the last; wait for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_next() or self._nothing_comes())
        return self.look(None)[0]

    def look(self, wake: Callable[[], object] | None) -> tuple[Result | None, bool]:
        """Return the next result if it is here, and whether nothing more comes.

        Args:
            wake: called as soon as looking again may find more.
        """
        with self._changed:
            if not self._has_next():
                over = self._nothing_comes()
                self._wake = None if over else wake
                error, self._error = (self._fatal or self._error, None) if over else (None, self._error)
                if error is not None and not self._closed:
                    self._fatal = None
                    raise error
                return None, over
            number = self._taken if self._ordered else next(iter(self._ready))
            payload, answer = self._ready.pop(number)
            self._taken += 1
            self._wake = None
            self._changed.notify_all()
        return _result(payload, answer), False

    def _has_next(self) -> bool:
        return self._taken in self._ready if self._ordered else bool(self._ready)

    def _nothing_comes(self) -> bool:
        return self._closed or self._fatal is not None or self._is_over


def _result(payload: bytes, answer: Answered) -> Result:
    inputs, labels = unpack_example(payload, objects="try")
    fields = None if answer.prediction is None else unpack(answer.prediction, objects="try")
    return Result(
        index=answer.number,
        example=Example(inputs | labels).with_inputs(*inputs),
        prediction=None if fields is None else Prediction(**fields),
        score=None,
        error=answer.error,
        attempts=answer.attempts,
        latency=answer.latency,
        usage=from_json(answer.usage),
        finish_reason=answer.finish_reason,
        extra={"cost": answer.cost},
        cached=answer.cached,
    )
