"""The processor: what becomes of a prediction before it goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from dspex_actors.ecosystem.inference.base import InferenceMember
from dspex_actors.ecosystem.inference.messages import Process, Processed
from dspex_actors.ecosystem.inference.rules import OutputCheck
from dspex_actors.errors import DspexError, TransformationFailed
from dspex_actors.example import Prediction
from dspex_actors.foundation.bridge import in_thread, is_async
from dspex_actors.foundation.codec import CodecError, pack, unpack
from dspex_actors.foundation.linger import Linger
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.runs.spec import load_code
from dspex_actors.workers.calling import maybe
from dspex_actors.workers.runner import error_record
from dspex_actors.workers.serving import GiveUp
from supervisors import Caller, Down, Ref, carried

Transformation = Callable[[Prediction], Any]


class OutputProcessor(InferenceMember):
    """Applies transformations in order, then checks the outputs against the signature.

    It is asked where there are transformations: other outputs were checked by the worker, which has them opened.

    Argument: packed (`OutputCheck`, list of (name, transformation)).
    """

    def init(self, code: bytes) -> None:
        """Open the code."""
        check, transformations = load_code(code)
        self._check: OutputCheck = check
        self._transformations: list[tuple[str, Transformation]] = transformations
        self._tasks: dict[tuple[Ref, int], asyncio.Task[Any]] = {}
        self._watched: set[Ref] = set()
        self._done: dict[Ref, list[tuple[int, bytes | None, dict[str, Any] | None]]] = {}
        self._linger = Linger()
        self._counts = {"processed": 0, "failed": 0}
        self._events = report_from_actor(self)

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Show the counts."""
        match request:
            case "stats":
                return {**self._counts, "active": len(self._tasks)}
        return super().handle_call(request, caller)

    def handle_cast(self, message: Any) -> None:
        """Take a batch, or give up what nobody waits for."""
        match message:
            case Process():
                self._take(message)
            case GiveUp(coordinator, numbers):
                for number in numbers:
                    task = self._tasks.get((coordinator, number))
                    if task is not None:
                        task.cancel()
            case _:
                super().handle_cast(message)

    def handle_info(self, message: Any) -> None:
        """Give up what a coordinator that has died had asked for."""
        if isinstance(message, Down) and message.ref is not None:
            self._watched.discard(message.ref)
            for (coordinator, _), task in list(self._tasks.items()):
                if coordinator == message.ref:
                    task.cancel()

    def _take(self, work: Process) -> None:
        coordinator = work.coordinator
        if coordinator not in self._watched:
            self._watched.add(coordinator)
            self.monitor(coordinator)
        for number, packed, operation in zip(work.numbers, work.predictions, work.operations, strict=True):
            task = self.spawn(self._transform(coordinator, number, packed, operation))
            self._tasks[coordinator, number] = task
            # Not in the coroutine: one that is given up before it has begun runs none of it.
            task.add_done_callback(lambda _, at=(coordinator, number): self._tasks.pop(at))  # type: ignore[misc]

    async def _transform(self, coordinator: Ref, number: int, packed: bytes, operation: bytes) -> None:
        carried.set(operation or None)
        made, record = None, None
        try:
            fields, stages = _opened(packed), []
            for name, transformation in self._transformations:
                fields = await _transformed(name, transformation, fields)
                stages.append((name, fields))
            self._check(fields)
            made = _packed(stages)
        except asyncio.CancelledError:
            if self._is_given_up():
                raise
            record = DspexError("a transformation was cancelled from inside").to_record()
        except BaseException as error:  # SystemExit too: a user's function ends no processor
            record = error_record(error)
        self._finish(coordinator, number, made, record)

    @staticmethod
    def _is_given_up() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _finish(self, coordinator: Ref, number: int, made: bytes | None, record: dict[str, Any] | None) -> None:
        self._counts["processed" if record is None else "failed"] += 1
        done = self._done.setdefault(coordinator, [])
        if not done:
            loop = asyncio.get_running_loop()
            wait = self._linger.wait(loop.time(), len(self._tasks) - 1)
            if wait:
                loop.call_later(wait, self._tell, coordinator)
            else:
                loop.call_soon(self._tell, coordinator)  # with what else is done in this turn of the loop
        done.append((number, made, record))

    def _tell(self, coordinator: Ref) -> None:
        self._linger.went(asyncio.get_running_loop().time())
        numbers, predictions, errors = map(list, zip(*self._done.pop(coordinator), strict=True))
        self.cast(coordinator, Processed(self.ref, numbers, predictions, errors))


def _opened(packed: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = unpack(packed, objects="load")
    return fields


def _packed(stages: list[tuple[str, dict[str, Any]]]) -> bytes:
    """Return the fields after the last of some transformations as bytes.

    Raises:
        TransformationFailed: they cannot be sent; it names the first one after which they cannot.
    """
    try:
        return pack(stages[-1][1])
    except CodecError:
        for name, fields in stages:
            for key, value in fields.items():
                try:
                    pack(value)
                except CodecError as error:
                    raise TransformationFailed(
                        f"the transformation {name!r} is invalid: its field {key!r} cannot be sent: {error.message}",
                        transformation=name,
                    ) from None
        raise


async def _transformed(name: str, transformation: Transformation, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields after one transformation.

    Raises:
        TransformationFailed: it raised, or returned something else than a prediction or a dict; it is named.
    """
    given = Prediction(fields)
    try:
        if is_async(transformation):
            made = await transformation(given)
        else:
            made = await maybe(await in_thread(lambda: transformation(given), brief=True))
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        record = error_record(error)
        raise TransformationFailed(
            f"the transformation {name!r} failed: {record['type']}: {record['message']}", transformation=name
        ) from error
    if isinstance(made, Prediction):
        return dict(made.items())
    if isinstance(made, Mapping) and all(isinstance(key, str) for key in made):
        return {**fields, **made}
    raise TransformationFailed(
        f"the transformation {name!r} is invalid: it returned {made!r:.80}, expected the Prediction, or a dict of the "
        "fields that change",
        transformation=name,
    )
