"""Which http worker does which inference, and what becomes of those whose worker has died."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from dspex_actors.ecosystem.inference.inference import Inference
from dspex_actors.ecosystem.inference.lane import Lane
from dspex_actors.errors import DspexError, Overloaded
from dspex_actors.lm.node_backend import CALL_TRIES, COME_BACK_SECONDS
from dspex_actors.names import WORKERS, worker_name
from dspex_actors.workers.serving import GiveUp, Serve
from supervisors import GenServer, Ref
from supervisors.errors import SupervisorsError

#: So many inferences a worker has at a time; more wait here.
WINDOW = 256
#: A worker that is being restarted is looked for this often, in seconds.
LOOK_SECONDS = 0.02


class _Worker:
    def __init__(self, lane: Lane[Inference]) -> None:
        self.lane = lane
        self.doing: dict[int, Inference] = {}


class Dispatch:
    """Gives inferences to the worker that has the fewest.

    Args:
        server: the coordinator.
        failed: told of an inference that nobody does, with the error.
    """

    def __init__(self, server: GenServer, failed: Callable[[Inference, DspexError], None]) -> None:
        """Begin to look for the workers."""
        self._server, self._failed = server, failed
        self._loop = asyncio.get_running_loop()
        self._workers: dict[Ref, _Worker] = {}
        self._names: dict[str, Ref | None] = {}
        self._waiting: deque[Inference] = deque()
        self._lost = asyncio.Event()
        self._lost.set()
        #: Since when no worker is there.
        self._alone: float | None = self._loop.time()
        server.spawn(self._look())

    def put(self, inference: Inference) -> None:
        """Have an inference done."""
        inference.stage = "http worker"
        self._waiting.append(inference)
        self.pump()

    def done(self, worker: Ref, number: int) -> Inference | None:
        """Take note that a worker has done an inference; return it, None where it is over already."""
        there = self._workers.get(worker)
        return None if there is None else there.doing.pop(number, None)

    def drop(self, inference: Inference) -> None:
        """Nobody waits for an inference: have its worker give it up."""
        there = None if inference.at is None else self._workers.get(inference.at)
        if there is not None and there.doing.pop(inference.number, None) is not None:
            self._server.cast(inference.at, GiveUp(self._server.ref, [inference.number]))  # type: ignore[arg-type]
            self.pump()

    def down(self, ref: Ref) -> bool:
        """Give what a worker that has died was doing to another one; say whether it was a worker."""
        there = self._workers.pop(ref, None)
        if there is None:
            return False
        there.lane.close()
        self._names = {name: None if held == ref else held for name, held in self._names.items()}
        if not self._workers:
            self._alone = self._loop.time()
        self._lost.set()
        for inference in reversed(there.doing.values()):
            inference.at = None
            if inference.tries >= CALL_TRIES:
                self._failed(inference, Overloaded(f"{CALL_TRIES} workers in a row died during the inference"))
            else:
                self._waiting.appendleft(inference)
        self.pump()
        return True

    def stats(self) -> dict[str, Any]:
        """Return how many wait, and how many are under way where."""
        doing = {name: len(self._workers[ref].doing) for name, ref in self._names.items() if ref in self._workers}
        return {"waiting": len(self._waiting), "doing": doing}

    def pump(self) -> None:
        """Give out what waits, as far as the workers have room."""
        while self._waiting and self._workers:
            ref, worker = min(self._workers.items(), key=lambda item: len(item[1].doing))
            if len(worker.doing) >= WINDOW:
                return
            inference = self._waiting.popleft()
            if inference.is_over:
                continue
            inference.at = ref
            inference.tries += 1
            worker.doing[inference.number] = inference
            worker.lane.put(inference)

    def go(self) -> None:
        """Send the workers what they were given."""
        for worker in self._workers.values():
            worker.lane.go()

    def _send(self, ref: Ref, batch: list[Inference], arrived: Callable[[], None]) -> None:
        arrived()
        rows = [inference for inference in batch if not inference.is_over and inference.at == ref]
        if not rows:
            return
        now = self._loop.time()
        for row in rows:
            row.end = row.until()
        work = Serve(
            self._server.ref,
            [row.number for row in rows],
            [row.inputs for row in rows],
            [max(0.001, row.end - now) for row in rows],
            [row.operation for row in rows],
        )
        self._server.cast(ref, work)  # should it die before it has it, the monitor tells

    # --- finding them -----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Find the workers, and those that come back."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            while not self._names or None in self._names.values():
                with contextlib.suppress(SupervisorsError):  # their supervisor is being restarted
                    await self._look_once()
                self._give_up_waiting()
                await asyncio.sleep(LOOK_SECONDS)

    async def _look_once(self) -> None:
        if not self._names:
            rows = await self._server.which_children(WORKERS)
            self._names = {worker_name(number): None for number in range(1, len(rows) + 1)}
        for name, held in list(self._names.items()):
            ref = None if held is not None else await self._server.whereis(name)
            if ref is None or ref in self._workers:
                continue
            self._workers[ref] = _Worker(self._lane(ref))
            self._names[name] = ref
            self._alone = None
            self._server.monitor(ref)
            self.pump()
            self.go()

    def _lane(self, ref: Ref) -> Lane[Inference]:
        def going_on() -> int:
            there = self._workers.get(ref)
            return 0 if there is None else len(there.doing)

        return Lane(lambda batch, arrived: self._send(ref, batch, arrived), lambda inference: inference.size, going_on)

    def _give_up_waiting(self) -> None:
        if self._alone is not None and self._loop.time() - self._alone > COME_BACK_SECONDS:
            while self._waiting:
                self._failed(self._waiting.popleft(), Overloaded("no http worker is there; see `dspex status`"))
