"""How an owner of limits begins that may follow another one in the cluster. Pure.

The value of the lease says what the last owner has left: in whose data folder it stands what it gave (only where that
is all that counts), or, where it ended in order, what it gave itself.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from dspex_actors.lm.control.budget import LATE_MOST
from dspex_actors.lm.control.desk import AHEAD_SECONDS

#: A turn that another node gives, whose answer was under way for longer, is given back: it may be over there.
FAR_SECONDS = 3.0
#: uid of the node in whose folder it stands, the clock when it was left, what was given.
Left = list[Any]


class Start(StrEnum):
    """What an owner takes to be used when it begins."""

    #: Nobody has owned it in this cluster: members that were alone say what they have given.
    ASK = "ask"
    #: The last one was on this node: what it has given is in the file here.
    GO_ON = "go on"
    #: The last one has said what it had given, at its end.
    FROM_WHAT_IS_LEFT = "from what is left"
    #: Nobody knows: all that may have been given was.
    AS_ALL_USED = "as all used"


def left_by(uid: str, at: float, kept: dict[str, Any] | None) -> Left:
    """Return what an owner leaves.

    Args:
        uid: of its node, where the file there has all that counts; "": nowhere.
        at: its clock.
        kept: what it has given, where it ends; None: it goes on, or does not know all.
    """
    return [uid, at, kept]


def start_after(left: Left | None, uid: str) -> Start:
    """Return how an owner begins.

    Args:
        left: by the one before; None: there was none.
        uid: of this node.
    """
    if left is None:
        return Start.ASK
    if left[2] is not None:
        return Start.FROM_WHAT_IS_LEFT
    return Start.GO_ON if left[0] and left[0] == uid else Start.AS_ALL_USED


def ahead_seconds() -> float:
    """Return for how many seconds after the end of a lease what was given under it may still be begun."""
    return AHEAD_SECONDS + LATE_MOST + FAR_SECONDS
