"""A node's part in groups that decide together: it keeps the votes of this node's members, and makes proposals.

Who is a member is said by leases, so that a member whose node has died is none any more when its lease ends. A decision
counts when it is in the store of leases: the minority's side of a cut decides nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from supervisors.cluster.consensus.core import UNDECIDED, Tally, check_threshold
from supervisors.cluster.consensus.voting import Voter
from supervisors.cluster.leases.handle import AsyncLeases, Holding, LeaseEnded
from supervisors.cluster.leases.messages import LEASES, Get, Put
from supervisors.genserver import NO_REPLY
from supervisors.system_server import SystemServer
from supervisors.terms.checks import check_seconds
from supervisors.terms.errors import CallTimeout, NoMajority, NoProcess, ServerExited, SupervisorsError
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire.values import open_value

#: The name that it is registered under on each node.
CONSENSUS = "consensus"
#: What the leases of members, and the last decisions of groups, are called.
MEMBER, DECIDED = "vote:", "decided:"
#: A member whose node has died counts for so long, in seconds.
TTL_SECONDS = 3.0
#: A member whose lease was lost is tried to be brought back this often, in seconds.
AGAIN_SECONDS = 1.0


def consensus_spec() -> ChildSpec:
    """Return it as a child of the branch `cluster`, behind the server of leases."""
    return ChildSpec(CONSENSUS, Consensus, name=CONSENSUS)


class Consensus(SystemServer):
    """The members of this node, of all groups."""

    WHAT = "the server of votes"

    def init(self) -> None:
        """Begin without members."""
        self._numbers = itertools.count(1)
        self._votes: dict[str, tuple[Voter, Holding]] = {}
        #: Members that are to be back in their groups.
        self._away: set[str] = set()
        self._leases = AsyncLeases(self)

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request when its answer is there; others need not wait for it."""
        match request:
            case ("join", str(group), bytes(vote)):
                self.answer_later(caller, self._join(group, vote))
            case ("leave", str(member)):
                self.answer_later(caller, self._leave(member))
            case ("members", str(group)):
                self.answer_later(caller, self._members(group))
            case ("propose", str(group), threshold, bytes(value), timeout):
                check_threshold(threshold)
                seconds = check_seconds("timeout", timeout)
                self.answer_later(caller, self._propose(group, threshold, value, seconds))
            case ("vote", str(member), bytes(value), timeout):
                self.answer_later(caller, self._vote(member, value, check_seconds("timeout", timeout)))
            case _:
                raise self.unknown(request)
        return NO_REPLY

    def take_info(self, message: Any) -> None:
        """Have a member back in its group whose lease was lost."""
        match message:
            case LeaseEnded(name):
                if (entry := self._votes.pop(name, None)) is not None:
                    self._away.add(name)
                    self.spawn(self._rejoin(name, entry[0].function))
            case _:
                super().take_info(message)

    async def _join(self, group: str, vote: bytes) -> str:
        member = f"{MEMBER}{group}:{self.ref.uid}-{next(self._numbers)}"
        await self._hold(member, open_value(vote, "vote"))
        return member

    async def _hold(self, member: str, vote: Callable[[Any], Any]) -> None:
        holding = await self._leases.acquire(member, TTL_SECONDS, self.ref, wait=TTL_SECONDS * 2)
        self._votes[member] = Voter(member, vote), holding

    async def _rejoin(self, member: str, vote: Callable[[Any], Any]) -> None:
        while member in self._away:
            try:
                await self._hold(member, vote)
            except SupervisorsError as error:
                self.log.info("a member of a group is not back yet", member=member, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if member not in self._away:  # it was told to leave meanwhile
                await self._votes.pop(member)[1].release()
            self._away.discard(member)

    async def _leave(self, member: str) -> None:
        entry = self._votes.pop(member, None)
        if entry is not None:
            await entry[1].release()
        elif member in self._away:
            self._away.discard(member)
        else:
            raise NoProcess(f"no member {member!r:.200} votes on this node")

    async def _members(self, group: str) -> list[tuple[str, Ref]]:
        """Return the members of a group, and the servers that have their votes."""
        held = await self.call(LEASES, ("held", f"{MEMBER}{group}:"), 10.0)
        names = [name for name in held if name.rpartition(":")[0] == MEMBER + group]  # not those of "GROUP:more"
        leases = await asyncio.gather(*(self.call(LEASES, Get(name), 10.0) for name in names))
        return [(lease.name, lease.value) for lease in leases if lease.holder and isinstance(lease.value, Ref)]

    async def _vote(self, member: str, value: bytes, seconds: float) -> bool | None:
        entry = self._votes.get(member)
        if entry is None:
            raise NoProcess(f"no member {member!r:.200} votes on this node")
        return await entry[0].ask(open_value(value, "value"), seconds)

    async def _propose(self, group: str, threshold: float, value: bytes, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                members = await self._members(group)
                if not members:
                    return UNDECIDED
                verdict = await self._collect(members, threshold, value, seconds)
                if verdict != UNDECIDED:
                    await self.call(LEASES, Put(f"{DECIDED}{group}", [verdict, value[:1000]]), None)
                return verdict
        except (TimeoutError, NoMajority, NoProcess, ServerExited, CallTimeout):
            return UNDECIDED

    async def _collect(self, members: list[tuple[str, Ref]], threshold: float, value: bytes, seconds: float) -> str:
        tally = Tally([name for name, _ in members], threshold)
        asked = {self.spawn(self._asked(name, ref, value, seconds)) for name, ref in members}
        try:
            while asked and tally.verdict == UNDECIDED:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for name, said in (task.result() for task in done):
                    if said is not None:
                        tally.vote(name, said)
            return tally.verdict
        finally:
            for task in asked:
                task.cancel()

    async def _asked(self, name: str, ref: Ref, value: bytes, seconds: float) -> tuple[str, bool | None]:
        """Return what a member says; None: it abstains, or fails."""
        try:
            if ref == self.ref:
                return name, await self._vote(name, value, seconds)
            said = await self.call(ref, ("vote", name, value, seconds), None)
            return name, said if isinstance(said, bool) else None
        except Exception as error:
            self.log.info("a member has not voted", member=name, error=f"{type(error).__name__}: {error}"[:300])
            return name, None
