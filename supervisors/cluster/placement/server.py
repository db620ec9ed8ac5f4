"""The placement of a node: it starts children on chosen nodes; one of all sees to it that each singleton runs.

Which singletons there are is a value in the store of leases; which placement looks after them is said by a lease.
Where a node dies, the leases of its singletons end, and they are started on another one with the next epoch. Each is a
temporary child of the branch `cluster` of its node: nobody but the placement starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import Any

from supervisors.cluster.leases.handle import AsyncLeases, Holding, LeaseEnded
from supervisors.cluster.leases.messages import LEASES, Get, LeaseChanged, Put, Read
from supervisors.cluster.leases.store import check_lease_name
from supervisors.cluster.membership.messages import CLUSTER, FULL, MEMBERSHIP, Lookup, Member, Members
from supervisors.cluster.placement.core import check_policy, choose
from supervisors.cluster.placement.singleton import ONE
from supervisors.genserver import NO_REPLY
from supervisors.system_server import SystemServer
from supervisors.terms.errors import (
    AlreadyStarted,
    LeaseHeld,
    NoProcess,
    NotAllowed,
    StartError,
    SupervisorsError,
    VersionConflict,
)
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire.values import pack, unpack

#: Its registered name, that of its lease, and of the value that says which singletons there are.
PLACEMENT, SINGLETONS = "placement", "singletons"
#: Whoever looks after singletons does so this often, and another one does when it has not for so long, in seconds.
LOOK_SECONDS, TTL_SECONDS = 0.7, 2.0
#: One that stands by is told when the lease ends; it looks by itself as well, this often.
STANDBY_SECONDS = 10.0
#: Of what is known of a node's speed, so much is how fast it answered last.
NEWEST = 0.3
START_SECONDS = 60.0


def placement_spec() -> ChildSpec:
    """Return it as a child of the branch `cluster`."""
    return ChildSpec(PLACEMENT, Placing, name=PLACEMENT)


class Placing(SystemServer):
    """The placement of a node."""

    WHAT = "the placement"

    async def init(self) -> None:
        """Stand by."""
        self._leases = AsyncLeases(self)
        self._loop = asyncio.get_running_loop()
        self._placed: dict[str, int] = {}
        self._took: dict[str, float] = {}
        self._last = ""
        self._numbers = itertools.count(1)
        self._holding: Holding | None = None
        self._changed = asyncio.Event()
        self._watched: Ref | None = None
        self.spawn(self._attend())

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request when its answer is there; others need not wait for it."""
        match request:
            case ("start", ChildSpec() as spec, policy, requires):
                check_policy(policy, requires)
                self.answer_later(caller, self._start(spec, policy, requires))
            case ("singleton", name, ChildSpec() as spec, policy, requires):
                check_policy(policy, requires)
                check_lease_name(name)
                self.answer_later(caller, self._declare(name, [pack(spec), policy, requires]))
            case ("remove", name):
                self.answer_later(caller, self._declare(check_lease_name(name), None))
            case _:
                raise self.unknown(request)
        return NO_REPLY

    def take_info(self, message: Any) -> None:
        """Stand by again."""
        match message:
            case LeaseEnded():
                if self._holding is not None and not self._holding.held:  # else it is held anew: that goes on
                    self._holding = None
                self._changed.set()
            case LeaseChanged():
                self._changed.set()
            case _:
                super().take_info(message)

    # --- children ---------------------------------------------------------------------------------------------------

    async def _start(self, spec: ChildSpec, policy: str, requires: dict[str, str] | None) -> tuple[str, Ref]:
        """Start a child on a node; return the node's name, and the child."""
        members: list[Member] = await self.call(MEMBERSHIP, Members())
        full = [member for member in members if member.role == FULL]
        name = choose(full, policy, requires, self._placed, self._last, self._took)
        if name is None:
            raise NotAllowed(
                f"no node can take the child {spec.id}: none that is alive has the labels {requires or {}}"
            )
        self._last = name
        self._placed[name] = self._placed.get(name, 0) + 1
        began = self._loop.time()
        branch = await self._branch(name)
        took = self._loop.time() - began
        self._took[name] = took if name not in self._took else (1 - NEWEST) * self._took[name] + NEWEST * took
        ref = await self.start_child(branch, spec)
        return name, ref[0] if isinstance(ref, tuple) else ref

    async def _branch(self, node: str) -> Ref:
        return await self.call(MEMBERSHIP, Lookup(node, CLUSTER), 5.0)  # type: ignore[no-any-return]

    # --- singletons -------------------------------------------------------------------------------------------------

    async def _declared(self) -> tuple[dict[str, Any], int]:
        value, version = await self.call(LEASES, Read(SINGLETONS), 10.0)
        return value or {}, version

    async def _declare(self, name: str, what: list[Any] | None) -> None:
        """Have a singleton, or (None) have it no more."""
        while True:
            singletons, version = await self._declared()
            if what is None:
                if singletons.pop(name, None) is None:
                    raise NoProcess(f"no singleton is called {name!r:.200}")
            else:
                singletons[name] = what
            try:
                await self.call(LEASES, Put(SINGLETONS, singletons, version), 10.0)
            except VersionConflict:
                continue
            break
        if what is None:
            lease = await self._leases.get(ONE + name)
            if lease.holder and isinstance(lease.value, Ref):
                await self.stop(lease.value, "shutdown", 10.0)

    async def _attend(self) -> None:
        while True:
            self._changed.clear()
            pause = LOOK_SECONDS
            try:
                if self._holding is None or not self._holding.held:
                    self._holding = await self._leases.acquire(PLACEMENT, TTL_SECONDS)
                await self._look_after()
            except LeaseHeld:  # another one looks after them
                with contextlib.suppress(SupervisorsError):
                    if not await self._is_told():
                        continue  # it may have ended before the end was watched for
                    pause = STANDBY_SECONDS
            except SupervisorsError as error:
                self.log.info("the singletons are not looked after now", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def _is_told(self) -> bool:
        """Whether the server of leases tells this one of the end of the lease; have it do so from now on."""
        leases = await self.whereis(LEASES)
        if leases is None or leases == self._watched:
            return leases is not None
        await self._leases.watch(PLACEMENT)
        self._watched = leases
        return False

    async def _look_after(self) -> None:
        singletons, _ = await self._declared()
        if not singletons:
            return
        await self._have_successors()
        for name, (data, policy, requires) in singletons.items():
            if (await self.call(LEASES, Get(ONE + name), 10.0)).holder:
                continue
            spec: ChildSpec = unpack(data)
            assert self._holding is not None
            self._holding.check()
            try:
                node, ref = await self._start(
                    replace(spec, id=f"{ONE}{name}:{self.ref.uid}-{next(self._numbers)}"), policy, requires
                )
                self.log.info("a singleton is started", singleton=name, node=node)
                if name not in (await self._declared())[0]:  # removed meanwhile, when there was nothing to end yet
                    await self.stop(ref, "shutdown", 10.0)
            except (StartError, NotAllowed, AlreadyStarted) as error:
                self.log.warning("a singleton does not start", singleton=name, error=str(error)[:300])

    async def _have_successors(self) -> None:
        """Have a placement run on every full node: one of them goes on when this one's node dies."""
        members: list[Member] = await self.call(MEMBERSHIP, Members())
        for member in members:
            if member.role != FULL or not member.is_up:
                continue
            try:
                await self.call(MEMBERSHIP, Lookup(member.uid, PLACEMENT), 5.0)
            except NoProcess:
                try:
                    await self.start_child(await self._branch(member.uid), placement_spec())
                except SupervisorsError as error:
                    self.log.info("no placement on a node yet", node=member.name, error=str(error))
            except SupervisorsError:
                continue
