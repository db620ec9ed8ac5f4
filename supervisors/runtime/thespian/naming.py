"""A supervisor's own name: it is registered before the first child is started, and again at every new registry."""

from __future__ import annotations

from collections.abc import Callable

from supervisors.terms.errors import AlreadyStarted, NoProcess, SupervisorsError
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via
from supervisors.wire.messages import Call, Message, Reply
from supervisors.wire.values import pack, unpack

#: Numbers of a supervisor's own calls: for its name, and for the server that a Via names.
ASK_NAME, ASK_RESOLVER = 0, 1


class Naming:
    """The name of one supervisor.

    Args:
        name: what it is to be called; None: nothing.
        ref: the supervisor.
        registry: of the node; None: there is none yet.
        post: sends a message to a process.
    """

    def __init__(
        self, name: str | Via | None, ref: Ref, registry: Ref | None, post: Callable[[Ref, Message], None]
    ) -> None:
        """Own no name yet."""
        self._name, self._ref, self._post = name, ref, post
        self.registry = registry
        #: Whether the name is the supervisor's, or it needs none.
        self.settled = name is None

    def moved(self, registry: Ref) -> None:
        """Take note of where the registry is now, and register there."""
        self.registry = registry
        if isinstance(self._name, str) or not self.settled:
            self.register()

    def register(self) -> None:
        """Ask for the name; the answer comes to `answered`. Without a registry: nothing, until there is one."""
        if self.registry is not None and isinstance(self._name, Via):
            self._ask(self.registry, ASK_RESOLVER, ("whereis", self._name.name))
        elif self.registry is not None and self._name is not None:
            self._ask(self.registry, ASK_NAME, ("register", self._name, self._ref))

    def _ask(self, server: Ref, number: int, request: object) -> None:
        self._post(server, Call(server.uid, number, self._ref, pack(request)))

    def answered(self, reply: Reply) -> SupervisorsError | None:
        """Take an answer; when `settled` is true after it, the name is the supervisor's.

        A later one (after a registry's restart) changes nothing.

        Returns:
            Why the supervisor cannot have its name, if that is what the answer says.
        """
        if self.settled:
            return None
        value = unpack(reply.value)
        if not reply.ok:
            return value  # type: ignore[no-any-return]
        if reply.id == ASK_RESOLVER and isinstance(self._name, Via):
            if value is None:
                return NoProcess(f"there is no registry {self._name.name!r} on this node", reason=NOPROC)
            self._ask(value, ASK_NAME, ("register_via", self._name.key, self._ref, self._name.value))
        elif value is None:
            self.settled = True
        else:
            return AlreadyStarted(f"the name {str(self._name)!r} is taken by {value}", ref=value)
        return None
