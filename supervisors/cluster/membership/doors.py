"""What a membership asks at the doors of other nodes."""

from __future__ import annotations

import asyncio
from typing import Any

from supervisors.cluster.membership.asking import ask_door
from supervisors.cluster.membership.messages import MEMBERSHIP, Member
from supervisors.terms import errors
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.ref import Ref
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.frames import FrameCodec

#: How long a membership may take to answer, and a door that is only to be found, in seconds.
ASK_SECONDS, DIAL_SECONDS = 5.0, 1.0
#: One that is dialled because a probe has failed counts as gone when it has refused for so long, in seconds.
REFUSED_SECONDS = 0.3


class Doors:
    """The doors of other nodes.

    Args:
        codec: has the cluster key.
    """

    def __init__(self, codec: FrameCodec) -> None:
        """Ask nothing yet."""
        self._codec = codec

    async def ask(self, address: tuple[str, int], request: Any) -> Any:
        """Ask the membership behind a door.

        Raises:
            SupervisorsError: what it answers; NodeDown, CallTimeout where it does not.
        """
        packed = wire.pack_value(request, "request")
        _, answer = await ask_door(
            self._codec, address, protocol.CALL, MEMBERSHIP, packed, ASK_SECONDS, seconds=ASK_SECONDS + 1.0
        )
        return wire.open_value(answer, "answer")

    async def whereis(self, member: Member, name: str) -> Ref | None:
        """Return who is registered under a name there."""
        _, ref = await ask_door(self._codec, (member.host, member.port), protocol.WHEREIS, name)
        return ref if isinstance(ref, Ref) else None

    async def outcome(self, member: Member) -> str:
        """Say hello; return answered, refused (twice) or silent."""
        outcome = await self._outcome(member)
        if outcome == "refused":
            await asyncio.sleep(REFUSED_SECONDS)
            outcome = await self._outcome(member)
        return outcome

    async def _outcome(self, member: Member) -> str:
        try:
            await ask_door(self._codec, (member.host, member.port), seconds=DIAL_SECONDS)
        except errors.NodeDown as error:
            return "refused" if isinstance(error.__cause__, ConnectionRefusedError) else "silent"
        except (SupervisorsError, OSError):
            return "silent"
        return "answered"


async def unreachable(new: Member, me: Member) -> str | None:
    """Return why a node that asks to join could not be talked to, in one line; None: it can.

    Args:
        new: the node.
        me: this one.
    """
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            _, writer = await asyncio.open_connection(new.host, new.port)
    except (OSError, TimeoutError) as error:
        return (
            f"the node at {me.address} cannot reach {new.address}, where the new node says that it is "
            f"({str(error) or 'no answer'}): start it with the --host that others reach, and open its port"
        )
    writer.transport.abort()
    return None
