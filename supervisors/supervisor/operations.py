"""The engine of a supervisor's state machine: one operation at a time, in the order in which they came.

An operation (a restart, a stop, a call that changes something) is a generator: it yields the keys of the children
it waits for, and is sent their events. Nothing ever blocks, and a shutdown closes it wherever it stands.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from supervisors.supervisor.children import Child, Children
from supervisors.supervisor.events import Answer, Effect, Event, SetTimer, Tell
from supervisors.terms.errors import ServerExited, StartError, SupervisorsError
from supervisors.terms.reason import SHUTDOWN, ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import SupervisorSpec

#: Yields the keys of the children whose events it waits for.
Operation = Generator[frozenset[int], Event, None]


class Machine:
    """What every operation works on, and the queue that they wait in. See `SupervisorCore` for the arguments."""

    def __init__(
        self,
        spec: SupervisorSpec,
        rng: random.Random | None = None,
        alive: Callable[[Ref], bool] = lambda ref: True,
    ) -> None:
        """Make one that has not started anything yet."""
        self.spec = spec
        self.dynamic = spec.strategy == "simple_one_for_one"
        self.children = Children(self.dynamic)
        self.stamps: tuple[float, ...] = ()
        self.finished = False
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._alive = alive
        self._now = 0.0
        self._out: list[Effect] = []
        self._queue: deque[tuple[Callable[[], Operation], Any]] = deque()
        self._operation: Operation | None = None
        self._caller: Any = None
        self._waiting: frozenset[int] = frozenset()
        self._ended: dict[int, ExitReason] = {}
        self._ending = False
        self._failure: StartError | None = None

    def _drain(self) -> list[Effect]:
        while self._operation is None and self._queue and not self.finished:
            make, self._caller = self._queue.popleft()
            self._operation = make()
            self._advance(None)
        out, self._out = self._out, []
        return out

    def _advance(self, event: Event | None) -> None:
        assert self._operation is not None
        try:
            self._waiting = next(self._operation) if event is None else self._operation.send(event)
        except StopIteration:
            self._operation, self._waiting = None, frozenset()

    def callers(self) -> list[Any]:
        """Return the callers that are not answered yet."""
        known = [self._caller, *(caller for _, caller in self._queue)]
        return [caller for caller in known if caller is not None]

    def _refuse(self, caller: Any) -> None:
        if caller is not None:
            error = ServerExited("the supervisor is shutting down", reason=SHUTDOWN)
            self._out.append(Answer(caller, error=error))

    def _refuse_queue(self) -> None:
        for _, caller in self._queue:
            self._refuse(caller)
        self._queue.clear()

    def _tell(self, kind: str, child: Child, reason: ExitReason | None = None, **extra: Any) -> None:
        spec = child.spec.with_defaults()
        about = {"restart": spec.restart, "shutdown": spec.shutdown, "type": spec.type, **extra}
        pid = child.ref.pid if child.ref is not None and kind != "start_error" else None
        self._out.append(Tell(kind, spec.id, pid, reason, about))

    def _timer(self, seconds: float, child: Child, what: str) -> None:
        self._out.append(SetTimer(seconds, child.key, child.generation, what))

    def _answer(self, caller: Any, value: Any = None, error: SupervisorsError | None = None) -> None:
        self._caller = None
        self._out.append(Answer(caller, value, error))
