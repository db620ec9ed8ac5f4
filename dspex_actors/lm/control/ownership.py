"""Whose a deployment's limits are in a cluster: one client actor's at a time, by the lease `lm:DEPLOYMENT`.

A node alone owns its limits, and asks nobody. In a cluster the client actor that has the lease gives turns, for the
workers of all nodes; every other one tells its workers who that is, and follows it. What is given is given by the
owner's own clock, under a lease that is held by it: so no two give at one time, and the minority's side of a cut gives
nothing once its leases are over. How an owner begins that follows another one is in `tenure`, which is pure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dspex_actors.foundation.together import Together
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.memory import clock
from dspex_actors.lm.control.messages import HandOver, Owned
from dspex_actors.lm.control.tenure import Left, Start, ahead_seconds, left_by, start_after
from dspex_actors.lm.control.written import Written
from supervisors import Down, GenServer, Ref
from supervisors.cluster.handle import AsyncCluster, own_uid
from supervisors.cluster.leases.handle import AsyncLeases, Holding, LeaseEnded
from supervisors.cluster.membership.messages import MEMBERSHIP, Member
from supervisors.errors import CallTimeout, LeaseHeld, LeaseLost, NoMajority, SupervisorsError

#: What the lease of a deployment is called; for how long it is given, in seconds.
LIMITS, TTL_SECONDS = "lm:", 10.0
#: A lease that somebody has so long after its holder was said to have ended is renewed, in seconds.
GONE_SECONDS = TTL_SECONDS + 2.0
#: Who does not own looks this often, in seconds, whether somebody does.
LOOK_SECONDS = 1.0
#: Members are asked what they have given while they were alone; who does not answer in so many seconds may have.
ASK_SECONDS = 2.0
#: What an owner leaves to the next one is small, or left out.
MOST_LEFT = 32_768
#: So long a client actor that ends tries to leave it, in seconds.
LEAVE_SECONDS = 2.0


class Ownership:
    """Whether a client actor owns its deployment's limits.

    Args:
        server: the client actor.
        name: its registered name on each node.
        deployment: digest of the deployment.
        budget: what an owner gives from.
        changed: called when it owns them, when another one does, and when it does not any more.
    """

    def __init__(
        self, server: GenServer, name: str, deployment: str, budget: Budget, changed: Callable[[], None]
    ) -> None:
        """Own them, as a node alone does."""
        self._server, self._name, self._deployment, self._budget = server, name, deployment, budget
        self._changed = changed
        self._together = Together(server.node["data_dir"])
        self._is_alone, self._has_given = True, False
        self._holding: Holding | None = None
        #: What the lease says of how this owner begins; and that more of days is being written down.
        self._left: Left | None = None
        self._is_writing = False
        self._owner: Ref | None = None
        self._why = ""
        # Who owned them and is said to have ended: its lease goes on for a while. If it goes on for longer, somebody
        # renews it: its node was only taken for dead.
        self._gone: Ref | None = None
        self._gone_until = 0.0
        self._look = asyncio.Event()

    async def open(self) -> None:
        """Find out whether this node is alone."""
        if await self._server.whereis(MEMBERSHIP) is not None:
            self._join()

    @property
    def owns(self) -> bool:
        """Whether this process may give now."""
        if self._is_alone:
            if not self._together:
                self._has_given = True
                return True
            self._join()
        return self._holding is not None and self._holding.held

    def elsewhere(self) -> Owned:
        """Return who gives, for who asks this process and should not."""
        owner = None if self._owner == self._server.ref else self._owner
        return Owned(self._deployment, owner, self._why)

    def stats(self) -> dict[str, Any]:
        """Return what a person should know of it; nothing of a node alone."""
        if self._is_alone:
            return {}
        owner = "here" if self.owns else None if self._owner is None else f"{self._owner.host}:{self._owner.door}"
        return {"owner": owner, "waits_for": "" if owner else self._why}

    def keep_days(self, wanted: Mapping[str, float], now: float, wall: float) -> None:
        """Have more of limits of days written down where it is needed; what is given waits for that.

        Args:
            wanted: bucket → what those who wait want.
            now: seconds of `clock`.
            wall: seconds since the epoch.
        """
        if self._holding is None or self._is_writing:
            return
        told = self._budget.to_write(wanted, now, wall)
        if told is not None:
            self._is_writing = True
            self._server.spawn(self._write(self._holding, told))

    async def _write(self, holding: Holding, told: dict[str, list[Any]]) -> None:
        try:
            await holding.set_value([self._server.ref, self._left, told])
            self._budget.has_written(told, clock(), time.time())
        except SupervisorsError as error:  # who waits asks again
            self._server.log.info("a limit of a day is not written down yet", why=error.message)
        finally:
            self._is_writing = False

    def hear(self, message: Any) -> None:
        """Take in what comes to handle_info: the end of the lease, or of a process that was followed."""
        if isinstance(message, Down) and message.ref == self._owner:
            self._gone, self._gone_until = message.ref, clock() + GONE_SECONDS
            self._is(None, "its owner has ended; the next one begins when the lease is over")
            self._look.set()
        elif isinstance(message, LeaseEnded):
            self._look.set()

    def hand_over(self, request: HandOver) -> list[Any] | None:
        """Give nothing more as a node alone, and return what was given."""
        has_given, self._has_given = self._has_given, False
        if self._is_alone:
            self._join()
        return [clock(), self._budget.kept()] if has_given else None

    async def close(self) -> None:
        """Let go: who follows needs not wait, where all that was used is known."""
        holding, self._holding = self._holding, None
        if holding is None or not holding.held:
            return
        left: Left = left_by("", clock(), self._budget.kept() if self._budget.is_sure(clock()) else None)
        if len(json.dumps(left)) > MOST_LEFT:
            left = left_by("", 0.0, None)
        with contextlib.suppress(SupervisorsError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await holding.set_value([None, left, _days_of(holding)])
                await holding.release()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        self._is_alone = False
        self._why = "the cluster is being asked who owns it"
        self._server.spawn(self._keep())

    async def _keep(self) -> None:
        """Own the limits, or know who does, as long as this process lives."""
        leases = AsyncLeases(self._server)
        while True:
            self._look.clear()
            try:
                await self._find(leases)
            except (LeaseLost, LeaseHeld):
                continue
            except SupervisorsError as error:
                self._is(None, f"nobody can say who owns it: {error.message}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self.owns else LOOK_SECONDS):
                    await self._look.wait()
            if self._holding is not None and not self._holding.held:
                self._holding = None
                self._is(None, "its lease has ended")

    async def _find(self, leases: AsyncLeases) -> None:
        from supervisors.cluster.branch import ensure_leases

        await ensure_leases(self._server)  # a node that only works has none until then
        name = LIMITS + self._deployment
        lease = await leases.get(name)
        if lease.holder and lease.holder != leases.holder:
            owner = lease.value[0] if lease.value else None
            if isinstance(owner, Ref) and (owner != self._gone or clock() > self._gone_until):
                self._is(owner)
            elif isinstance(owner, Ref):
                self._is(None, "its owner has ended; the next one begins when the lease is over")
            else:
                self._is(None, "another node is about to own it")
            return
        holding = await leases.acquire(name, TTL_SECONDS)
        try:
            await self._begin(holding)
        except BaseException:
            await holding.release()
            raise

    async def _begin(self, holding: Holding) -> None:
        """Begin to give, as far as it is known what was given before."""
        uid = own_uid(Path(self._server.node["data_dir"]))
        left: Left | None = None if holding.value is None else holding.value[1]
        start = start_after(left, uid)
        if start == Start.ASK and not await self._gather():
            start = Start.AS_ALL_USED
        if start == Start.AS_ALL_USED:
            # What the one before gave for the next moments may still be begun.
            await asyncio.sleep(ahead_seconds())
            self._budget.use_all(clock())
        elif start == Start.FROM_WHAT_IS_LEFT and left is not None:
            self._budget.restore(left[2], clock() - left[1])
        self._left = left_by(uid if self._budget.is_sure(clock()) else "", 0.0, None)
        days = _days_of(holding)
        self._budget.write_down(Written(days, clock(), time.time(), as_used=start == Start.AS_ALL_USED))
        await holding.set_value([self._server.ref, self._left, days])
        holding.check()
        self._holding, self._has_given = holding, False
        self._is(self._server.ref)

    async def _gather(self) -> bool:
        """Take over what other members have given while they were alone; return whether that is all known."""
        cluster = AsyncCluster(self._server)
        me = own_uid(Path(self._server.node["data_dir"]))
        members = [member for member in await cluster.members() if member.is_up and member.uid != me]
        return all(await asyncio.gather(*(self._take_over(cluster, member) for member in members)))

    async def _take_over(self, cluster: AsyncCluster, member: Member) -> bool:
        try:
            other = await cluster.lookup(member.uid, self._name)
            kept = await self._server.call(other, HandOver(self._deployment), timeout=ASK_SECONDS)
        except (CallTimeout, NoMajority):
            return False
        except SupervisorsError:
            return True  # nobody is there: nothing was asked lately
        if kept is not None:
            self._budget.restore(kept[1], clock() - kept[0])
        return True

    def _is(self, owner: Ref | None, why: str = "") -> None:
        before = self._owner, self._why
        self._owner, self._why = owner, why
        if (owner, why) == before:
            return
        if owner is not None and owner != self._server.ref:
            with contextlib.suppress(SupervisorsError):
                self._server.monitor(owner)
        self._changed()


def _days_of(holding: Holding) -> dict[str, list[Any]]:
    """Return what the lease has written down of limits of days."""
    return {} if holding.value is None else holding.value[2]
