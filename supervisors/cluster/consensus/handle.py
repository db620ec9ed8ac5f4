"""Groups that decide together, for a program outside: `ConsensusGroup(node, "deploy")`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from supervisors.cluster.consensus.core import check_threshold
from supervisors.cluster.consensus.server import CONSENSUS, consensus_spec
from supervisors.cluster.leases.outside import ensure_outside
from supervisors.cluster.leases.store import check_lease_name
from supervisors.terms.checks import check_function, check_seconds
from supervisors.terms.ports import Outside
from supervisors.wire.values import pack_value

#: How long joining and leaving may take, in seconds.
ASK_SECONDS = 15.0


class ConsensusGroup:
    """A group whose members decide on proposals, each by a function of its own. Thread-safe.

    Args:
        node: one of the cluster, or a node alone.
        name: of the group, the same wherever it is used.
        threshold: which part of all members must say yes; each proposal has that of its proposer.

    Raises:
        SpecError: name or threshold is none.
    """

    def __init__(self, node: Outside, name: str, threshold: float = 0.6) -> None:
        """Ask nothing yet."""
        check_threshold(threshold)
        self._node, self.name, self.threshold = node, check_lease_name(name), threshold

    def __repr__(self) -> str:
        """Return it as it is made."""
        return f"ConsensusGroup({self.name!r}, threshold={self.threshold:g})"

    def join(self, vote: Callable[[Any], Any]) -> str:
        """Have a function vote for a new member of the group; return the member's name.

        The function goes to the node by value and votes there until `leave`, also when this program has ended; where
        the node dies, or its server of votes, the member is none any more within seconds: join again.

        Args:
            vote: gets the proposed value and returns True or False, or None where the member abstains; may be async.
                An exception, or anything else that is returned, is no vote; nor is what takes longer than the proposal.

        Raises:
            NoMajority: the cluster's store of leases gives no answer.
        """
        check_function("vote", vote)
        return str(self._ask(("join", self.name, pack_value(vote, "vote")), ASK_SECONDS))

    def leave(self, member: str) -> None:
        """End a member that has joined through this node.

        Raises:
            NoProcess: there is none.
        """
        self._ask(("leave", member), ASK_SECONDS)

    def members(self) -> list[str]:
        """Return the names of all members, on all nodes."""
        return sorted(name for name, _ in self._ask(("members", self.name), ASK_SECONDS))

    def propose_and_decide(self, value: Any, timeout: float = 10.0) -> str:
        """Have the members vote on a value.

        Args:
            value: what can be sent.
            timeout: seconds.

        Returns:
            "accepted": at least `threshold` of all members have said yes, and the cluster has it on its disks.
            "rejected": so many have said no that it cannot be accepted any more.
            "undecided": the time was up, nobody is in the group, or no majority of the cluster can be reached.
        """
        seconds = check_seconds("timeout", timeout)
        request = ("propose", self.name, self.threshold, pack_value(value, "value"), seconds)
        return str(self._ask(request, seconds + 5.0))

    async def ajoin(self, vote: Callable[[Any], Any]) -> str:
        """As `join`."""
        return await asyncio.to_thread(self.join, vote)

    async def aleave(self, member: str) -> None:
        """As `leave`."""
        await asyncio.to_thread(self.leave, member)

    async def amembers(self) -> list[str]:
        """As `members`."""
        return await asyncio.to_thread(self.members)

    async def apropose_and_decide(self, value: Any, timeout: float = 10.0) -> str:  # noqa: ASYNC109
        """As `propose_and_decide`."""
        return await asyncio.to_thread(self.propose_and_decide, value, timeout)

    def _ask(self, request: Any, timeout: float) -> Any:
        ensure_outside(self._node, consensus_spec())
        return self._node.call(CONSENSUS, request, timeout)


class Consensus:
    """The groups of a cluster: `system.consensus`."""

    def __init__(self, node: Outside) -> None:
        """Ask nothing yet."""
        self._node = node

    def group(self, name: str, threshold: float = 0.6) -> ConsensusGroup:
        """Return a group; it exists wherever somebody joins it.

        Args:
            name: of the group.
            threshold: which part of all members must say yes, up to 1.
        """
        return ConsensusGroup(self._node, name, threshold)
