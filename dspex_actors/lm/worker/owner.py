"""Where the owner of a deployment's limits is: a client actor of this node, or of another one of the cluster.

Whoever is asked first says who it is: the client actor of this node, or, for calls of a run that another node
coordinates, that of its coordinator's node; so a node that only works for others has none of its own. That a
coordinator is slow to answer changes nothing of this: a hundred nodes that each started a client actor, and a server of
leases, because their coordinator was busy, would keep it busy for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping

from dspex_actors.errors import Overloaded
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.control.client import client_name, client_spec
from dspex_actors.lm.control.messages import GetOwner, Leave, Owned
from dspex_actors.lm.control.starting import client_child
from dspex_actors.lm.deployment import Deployment
from supervisors import GenServer, Ref
from supervisors.cluster.membership.messages import WORKER
from supervisors.errors import CallTimeout, SupervisorsError

#: Where nobody owns the limits now, it is asked again after so many seconds.
AGAIN_SECONDS = 0.25
#: A coordinator has so many seconds to say who the owner is; it is asked again as long as it lives.
COORDINATOR_SECONDS = 10.0
#: On a node that only works the next coordinator is waited for so long, in seconds, where the one before is gone.
NEXT_SECONDS = 20.0


class Owner:
    """The owner of one deployment's limits, as a worker finds it.

    Args:
        worker: who asks.
        deployment: whose owner it is.
        coordinators: runs of other nodes that work here → their evaluators.
    """

    def __init__(self, worker: GenServer, deployment: Deployment, coordinators: Mapping[str, Ref]) -> None:
        """Look for nobody yet."""
        self._worker, self._deployment, self._coordinators = worker, deployment, coordinators
        self._name = client_name(deployment.digest)
        #: What is called: its name on this node, or its process on another.
        self.target: str | Ref = self._name
        #: Why nobody gives turns now; empty where somebody does.
        self.why = ""
        #: Whether it was told whose the limits are, by who was asked first.
        self._is_told = False
        #: Whether it is one that a coordinator knew, which has not ended.
        self._is_there = False
        #: The run of another node that it was asked for last.
        self._run: str | None = None

    @property
    def is_far(self) -> bool:
        """Whether it is on another node."""
        ref, mine = self.target, self._worker.ref
        return isinstance(ref, Ref) and (ref.host, ref.door) != (mine.host, mine.door)

    async def find(self) -> Ref | None:
        """Return the owner, or who knows it; it is started where it is not there. None: it was told, and is there.

        Raises:
            Overloaded: it does not start.
        """
        if self._is_told or self._is_there:
            return None
        found = await self._ask_coordinator()
        if found is not None:
            self.target, self._is_there = found, self._watch(found)
            return found
        ref = await client_child(self._worker, client_spec(self._deployment))
        self.target = self._name
        return ref

    async def find_anew(self) -> None:
        """Look for it where it was looked for first: who was asked does not answer."""
        self._forget()
        await self.find()

    async def heed(self, told: Owned, asked: str | Ref) -> bool:
        """Take in whose the limits are, from a process that was asked for turns; return whether another one is asked.

        Where nobody's are known some time passes.

        Args:
            told: what it has answered.
            asked: who was asked. A cast may have told the same meanwhile: then `target` is another one already.
        """
        if self.moved(told) or self.target != asked:
            return True
        await asyncio.sleep(AGAIN_SECONDS)
        with contextlib.suppress(Overloaded, SupervisorsError):
            await self.find_anew()
        return False

    def moved(self, told: Owned) -> bool:
        """Take in whose the limits are; return whether another process is to be asked."""
        self.why = told.why
        if told.owner is None or told.owner == self.target:
            return False
        if not self._is_told:  # who was asked first is not needed as long as the owner is there
            self._worker.cast(self.target, Leave(self._worker.ref))
        self._watch(told.owner)
        self.target, self._is_told = told.owner, True
        return True

    def was(self, ref: Ref | None) -> bool:
        """Whether this process was the owner; it is looked for anew then."""
        if ref is None or self.target != ref:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        self._is_told = self._is_there = False

    async def _ask_coordinator(self) -> Ref | None:
        """Return the owner that the present run's coordinator knows, where that is on another node; else None."""
        loop = asyncio.get_running_loop()
        gone_at: float | None = None
        while (run := self._far_run()) is not None:
            request = GetOwner(self._deployment.model, self._deployment.digest)
            try:
                found = await self._worker.call(self._coordinators[run], request, COORDINATOR_SECONDS)
                if isinstance(found, Ref):
                    return found
            except CallTimeout:
                gone_at = None  # it lives, and has much to do
            except SupervisorsError:
                gone_at = gone_at or loop.time()
                if self._worker.node["role"] != WORKER or loop.time() > gone_at + NEXT_SECONDS:
                    return None  # anybody knows the owner
            else:
                return None
            await asyncio.sleep(AGAIN_SECONDS * (1 + random.random()))  # noqa: S311 - no secret
        return None

    def _watch(self, ref: Ref) -> bool:
        try:
            self._worker.monitor(ref)
        except SupervisorsError:  # its node is down: the next call says so
            return False
        return True

    def _far_run(self) -> str | None:
        """Return the run of another node that the present call belongs to, or that it was asked for before."""
        ledger = current_ledger()
        if ledger is not None:
            self._run = ledger.run
        return self._run if self._run in self._coordinators else None
