"""PartitionSupervisor: n copies of one child, and keys that lead to them (partition_supervisor.ex).

A single busy server becomes n of them: each key belongs to one, so what belongs together stays in order. The spec
is an ordinary one_for_one supervisor's with the ids "0" to "n-1"; a call to `Via(name, key)` goes to the key's copy.
"""

from __future__ import annotations

from typing import Any

from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.events import Answer, Effect
from supervisors.supervisor.operations import Operation
from supervisors.supervisor.routing import partition_of
from supervisors.terms.checks import is_count
from supervisors.terms.errors import NotAllowed, SpecError, SupervisorsError
from supervisors.terms.partition import PartitionSupervisorSpec


class PartitionCore(SupervisorCore):
    """The state machine of a partition supervisor: a plain one's, with routing and resize."""

    def __init__(self, spec: PartitionSupervisorSpec, *args: Any, **kwargs: Any) -> None:
        """Make one that has not started anything yet; see `SupervisorCore` for the arguments."""
        super().__init__(spec, *args, **kwargs)
        self.total = self.partitions = len(spec.children)

    def call(self, caller: Any, name: str, argument: Any, now: float) -> list[Effect]:
        """Answer ("resolve", key), ("partitions", None) and ("resize", n), and what every supervisor answers."""
        self._now = now
        if self.finished or name not in ("resolve", "partitions", "resize", "register_via", "start_child"):
            return super().call(caller, name, argument, now)
        if name == "resize":
            self._queue.append((lambda: self._resize(caller, argument), caller))
        else:
            try:
                self._out.append(Answer(caller, self._read(name, argument)))
            except SupervisorsError as error:
                self._out.append(Answer(caller, error=error))
        return self._drain()

    def _read(self, name: str, argument: Any) -> Any:
        if name == "partitions":
            return self.partitions
        if name != "resolve":
            raise NotAllowed(f"a partition supervisor has no {name}: its children are its partitions, see resize")
        child = self.children.with_id(str(partition_of(argument, self.partitions)))
        return child.ref if child is not None and child.ready else None

    def _resize(self, caller: Any, count: Any) -> Operation:
        if not is_count(count) or count > self.total:
            error = SpecError.of("partitions", count, f"0 to {self.total}, as many as it was started with")
            self._answer(caller, error=error)
            return
        # No key leads to a copy that is about to stop, nor to one that is not up yet.
        before, self.partitions = self.partitions, min(count, self.partitions)
        for number in range(count, before):
            child = self.children.with_id(str(number))
            if child is not None:
                yield from self._stop([child])
        for number in range(before, count):
            child = self.children.with_id(str(number))
            failure = None if child is None or child.live else (yield from self._start(child))
            if failure is not None:
                self._answer(caller, error=failure)
                return
            self.partitions = number + 1
        self._answer(caller, count)
