"""Which process: Ref, its address; Caller, who waits for a reply; Down, what a monitor says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from supervisors.terms.reason import ExitReason

#: What the uids of programs outside begin with.
PROGRAM = "program-"


def is_program(uid: object) -> bool:
    """Whether this is the uid of a program outside; it may be anything, since strangers make references too."""
    return isinstance(uid, str) and uid.startswith(PROGRAM)


@dataclass(frozen=True)
class Ref:
    """The address of one incarnation of a process; a restarted process has another.

    Args:
        host: the address that its node listens on.
        port: the port of its mailbox.
        pid: process id on that host.
        born: start time of that pid in clock ticks, so that a reused pid is not mistaken for it.
        uid: random, 16 hex digits; a reused port is not mistaken for it either. That of a program outside begins with
            `PROGRAM`; its host, port, pid and born are those of the door that it is connected to.
        door: the port of its node's door, at the same host; 0: not known. It is not part of what a process is.
    """

    host: str
    port: int
    pid: int
    born: int
    uid: str
    door: int = field(default=0, compare=False)

    @property
    def outside(self) -> bool:
        """Whether it is a program outside: it has a connection to the door, and no process of its own on the node."""
        return is_program(self.uid)

    def __str__(self) -> str:
        """Return it as people write it."""
        if self.outside:
            return f"<{self.uid} at {self.host}:{self.door}>"
        return f"<{self.host}:{self.port} pid {self.pid}>"


class Caller(NamedTuple):
    """Who waits for a reply, and from whom; plain data, so that another process may be asked to give it.

    Args:
        ref: the process that waits.
        id: the number of its call.
        server: the process that was called.
    """

    ref: Ref
    id: int
    server: Ref | None = None


@dataclass(frozen=True)
class Down:
    """A monitored process ended."""

    ref: Ref | None
    reason: ExitReason
