"""What the membership understands, and what it tells its subscribers.

Any server of a node asks it by its registered name::

    members = await self.call(MEMBERSHIP, Members())
    await self.call(MEMBERSHIP, Subscribe(self.ref))      # handle_info gets NodeUp, NodeDown, NodeChanged
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from supervisors.terms.letters import message
from supervisors.terms.ref import Ref

#: The name that the membership of a node is registered under, and that of the branch under the root that it is in.
MEMBERSHIP, CLUSTER = "membership", "cluster"

#: What a member can be. The last two it says of itself.
ALIVE, SUSPECT, DOWN, DRAINING, CORDONED = STATES = ("alive", "suspect", "down", "draining", "cordoned")
#: What a member does: `full` takes part in everything, a `worker` only runs what it is given.
FULL, WORKER = ROLES = ("full", "worker")


@message(180)
@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster.

    Args:
        name: unique in the cluster.
        uid: of its data folder.
        host: its address.
        port: of its door.
        incarnation: rises at each start of the node, and whenever it comes back after the others took it to be down:
            what belonged to a smaller one is lost to it.
        role: full or worker.
        labels: what it is or has (`{"gpu": "1", "region": "eu"}`).
        version: of its program.
        state: alive, suspect, down, draining or cordoned.
        load: of its own telling: how busy it is, 0 to 1 and above.
        workers: of its own telling: how many examples it can have in work.
        work: of its own telling: how much it has in work.
        notes: of its own telling: what a person should know of it, in a few words each.
        seq: rises with whatever it says of itself within one incarnation.
        last_beat: how many seconds ago it was last heard of, when this was told; 0 for the node that tells.
    """

    VERSION: ClassVar[int] = 1
    name: str
    uid: str
    host: str
    port: int
    incarnation: int = 0
    role: str = FULL
    labels: dict[str, str] = field(default_factory=dict)
    version: str = ""
    state: str = ALIVE
    load: float = 0.0
    workers: int = 0
    work: int = 0
    notes: list[str] = field(default_factory=list)
    seq: int = 0
    last_beat: float = 0.0

    @property
    def address(self) -> str:
        """Return where its door is, "host:port"."""
        return f"{self.host}:{self.port}"

    @property
    def is_up(self) -> bool:
        """Whether it is not down: a suspect is up until the contrary is sure."""
        return self.state != DOWN

    @property
    def takes_work(self) -> bool:
        """Whether new work may be given to it: it is alive, and neither draining nor cordoned."""
        return self.state == ALIVE

    def fits(self, requires: dict[str, str] | None) -> bool:
        """Whether it has all these labels."""
        return all(self.labels.get(key) == value for key, value in (requires or {}).items())


# --- asked of the membership of one's own node ------------------------------------------------------------------------


@message(181)
@dataclass(frozen=True, slots=True)
class Members:
    """Who is there → list of Member, the node itself among them, those that are down too."""


@message(182)
@dataclass(frozen=True, slots=True)
class Subscribe:
    """Tell a process of each NodeUp, NodeDown and NodeChanged in handle_info, until it ends → list of Member, as now.

    Args:
        subscriber: a process of this node.
    """

    subscriber: Ref


@message(183)
@dataclass(frozen=True, slots=True)
class NodeUp:
    """A node has joined, or is back: then with a greater incarnation.

    Args:
        member: as it is now.
    """

    member: Member


@message(184)
@dataclass(frozen=True, slots=True)
class NodeDown:
    """A node has died, cannot be reached any more, or has left.

    Args:
        member: as it is now.
        why: "down", or "left" where it said good-bye.
    """

    member: Member
    why: str = DOWN


@message(185)
@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A member that is up is another than before: suspect or no more, draining, cordoned, of another load.

    Where it is this node itself and its incarnation has risen, the others took it to be down meanwhile: whatever it
    owned is not its own any more.

    Args:
        member: as it is now.
    """

    member: Member


@message(186)
@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a registered name of another node is → Ref; errors NoProcess and NodeDown.

    Args:
        node: name or uid of a member.
        name: what is registered there.
    """

    node: str
    name: str


@message(187)
@dataclass(frozen=True, slots=True)
class Tell:
    """Say something of this node to all others, by a cast, or by a call → state of this node; the last word counts.

    Whoever tells of `work` does so by calls: a node that is draining leaves when it is told of none left by one who has
    had that state for an answer before.

    Args:
        facts: of `load`, `workers`, `work` and `notes`, those that are new.
    """

    facts: dict[str, Any]


@message(188)
@dataclass(frozen=True, slots=True)
class Order:
    """Have a member change its state → Member, as it is then; errors NoProcess (no such member) and NodeDown.

    Args:
        node: name or uid of a member; this node's own too.
        state: draining, cordoned or alive.
    """

    node: str
    state: str


# --- between memberships ----------------------------------------------------------------------------------------------


@message(189)
@dataclass(frozen=True, slots=True)
class Exchange:
    """Compare what two memberships know → rows that the asked one knows better, and uids of what it wants to know.

    Of most members both know the same; so what is compared are marks, and rows go only where these differ. What is
    wanted comes in a second Exchange, without marks, which is answered by nothing.

    Args:
        marks: of all that is known: uid, status, incarnation, seq.
        rows: what a row is, supervisors/cluster/membership/table.py says.
    """

    VERSION: ClassVar[int] = 2

    marks: list[list[Any]]
    rows: list[list[Any]]


@message(190)
@dataclass(frozen=True, slots=True)
class Join:
    """Take a node in → rows as in Exchange; NotAllowed says why not.

    Args:
        row: the node.
        is_only_asked: nothing is done: only whether it may is answered.
    """

    row: list[Any]
    is_only_asked: bool = False


@message(191)
@dataclass(frozen=True, slots=True)
class Leave:
    """Have a member that is draining say good-bye and end, once it has nothing in work → None.

    Errors: NoProcess (no such member), NodeDown, NotAllowed (it has something in work, or is not draining).

    Args:
        node: name or uid of a member.
    """

    node: str


@message(192)
@dataclass(frozen=True, slots=True)
class Watch:
    """Wait for news, from outside → number of the last news, and list of Member; at once where there is some already.

    Args:
        since: number of the last news that is known; -1: none.
    """

    since: int
