"""The node's root: a supervisor that restarts what the whole node leans on also while something else starts slowly.

A supervisor does one thing at a time, as OTP's: an exit waits until the start of another child is over, which may take
a minute. Were that so for the node's own registry and door too, no name could be looked up and nobody could come in
meanwhile, and the slow start itself could wait for the name that it wants to register. So their restarts run aside.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from supervisors.supervisor.children import Child
from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.events import Effect, Event, Exited
from supervisors.supervisor.intensity import add_restart
from supervisors.supervisor.operations import Operation
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import SupervisorSpec

#: Ids of the children whose restarts wait for nothing.
URGENT = frozenset({"registry", "door"})


class RootCore(SupervisorCore):
    """A one_for_one supervisor whose urgent children are restarted beside what is under way."""

    def __init__(
        self,
        spec: SupervisorSpec,
        rng: random.Random | None = None,
        alive: Callable[[Ref], bool] = lambda ref: True,
    ) -> None:
        """Make one that has not started anything yet; the arguments are SupervisorCore's."""
        super().__init__(spec, rng, alive)
        #: key → the restart that runs aside.
        self._aside: dict[int, Operation] = {}

    def event(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened to a child."""
        aside = self._aside
        child = self.children.get(event.key)
        if self.finished or child is None or child.generation != event.generation:
            return super().event(event, now)
        if self._ending or event.key in self._waiting:
            # Whatever else is done with this child, a stop above all, comes before its restart.
            for key in list(aside) if self._ending else [event.key]:
                if key in aside:
                    aside.pop(key).close()
            return super().event(event, now)
        if event.key in aside:
            self._now = now
            self._go_on(child, event)
            return self._drain()
        if isinstance(event, Exited) and child.spec.id in URGENT and self._operation is not None:
            self._now = now
            if self._may_restart():
                self._ended[child.key] = event.reason
                aside[child.key] = self._on_exit(child)
                self._go_on(child, None)
                return self._drain()
        return super().event(event, now)

    def shutdown(self, reason: ExitReason, now: float) -> list[Effect]:
        """Stop all children and end; a restart aside is given up too."""
        if not self.finished and not self._ending:
            while self._aside:
                self._aside.popitem()[1].close()
        return super().shutdown(reason, now)

    def _may_restart(self) -> bool:
        # The restart that is one too many ends the supervisor: that is no business to be done aside.
        return add_restart(self.stamps, self._now, self.spec.intensity, self.spec.period)[1]

    def _go_on(self, child: Child, event: Event | None) -> None:
        operation = self._aside[child.key]
        while True:
            try:
                if event is None:
                    next(operation)
                else:
                    operation.send(event)
                return
            except StopIteration:
                del self._aside[child.key]
            if child.state != "restarting" or not self._may_restart():
                return
            # It failed, and would be tried again behind what is under way; that attempt finds it running by then.
            operation = self._aside[child.key] = self._retry(child, child.generation)
            event = None
