"""Who tells the node's actors what happens in this process: the one thing that its `init`, or `connect`, calls."""

from __future__ import annotations

from dspex_actors.observe.events.program_sender import ProgramSender
from dspex_actors.observe.events.sending import ActorSender
from dspex_actors.observe.telemetry import push
from dspex_actors.observe.telemetry.otel import open_otel
from supervisors import GenServer, Node


def report_from_actor(server: GenServer, *, measures: bool = True) -> ActorSender:
    """Have what happens in an actor's process told to the node, until the process ends; called in its `init`.

    Args:
        server: the actor.
        measures: whether also what is counted and measured; a node where nobody reads it starts no actor for it.

    Returns:
        What sends its events.
    """
    if measures:
        push.from_actor(server)
    open_otel()
    return ActorSender(server)


async def report_last() -> None:
    """Tell the node what is new in this actor's process, which is about to end; takes a second at most."""
    await push.last_word()


class ProgramReporting:
    """What tells a node of this program; closed where the connection is.

    Args:
        node: the connection.
    """

    def __init__(self, node: Node) -> None:
        """Begin."""
        self.events = ProgramSender(node)
        self.telemetry = push.ProgramPush(node)
        self.telemetry.open()
        open_otel()

    def close(self) -> None:
        """Tell the rest, and end."""
        self.events.close()
        self.telemetry.close()


def report_from_program(node: Node) -> ProgramReporting:
    """Have what happens in this program told to a node."""
    return ProgramReporting(node)
