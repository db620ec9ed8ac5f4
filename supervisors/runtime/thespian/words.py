"""What a supervisor says: whether it has started, what its callers asked for, and its last words."""

from __future__ import annotations

from typing import Any

from supervisors.runtime.thespian.post import PostOffice
from supervisors.runtime.thespian.watchers import Watchers
from supervisors.terms.errors import CallFailed, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.wire.messages import Boot, BootResult, ChildExited, Ending, Message, Reply, encode
from supervisors.wire.values import pack, pack_value


class Words:
    """The sayings of one supervisor.

    Args:
        boot: what it was started with.
        ref: itself.
        office: sends.
        watchers: who is told of its end.
    """

    def __init__(self, boot: Boot, ref: Ref, office: PostOffice, watchers: Watchers) -> None:
        """Say nothing yet."""
        self._boot, self._ref, self._office, self._watchers = boot, ref, office, watchers

    def post(self, to: Ref, message: Message) -> None:
        """Send a message to a process."""
        self._office.send(to.host, to.port, [encode(message)])

    def answer(self, caller: Caller, value: Any) -> None:
        """Answer a call with a value or an error; with the reason where the value cannot be sent."""
        ok = not isinstance(value, SupervisorsError)
        try:
            packed = pack_value(value, "answer")
        except CallFailed as error:  # so many children, say, or a spec with an argument that is too large
            ok, packed = False, pack(error)
        self.post(caller.ref, Reply(caller.ref.uid, caller.id, ok, packed))

    def boot_result(
        self, outcome: str, reason: ExitReason | None = None, error: SupervisorsError | None = None
    ) -> None:
        """Tell the parent how the start went; of the root the daemon."""
        ref = self._ref if outcome == "started" else None
        boot, parent = self._boot, self._boot.parent
        if parent is not None:
            self.post(parent, BootResult(parent.uid, boot.key, boot.generation, outcome, ref, reason, error))
        elif boot.node.get("daemon"):
            host, port = boot.node["daemon"]
            self._office.send(host, port, [encode(BootResult("", 0, 0, outcome, ref, reason, error))])

    def farewell(self, reason: ExitReason) -> None:
        """Tell those who watch, and the parent, why it ends."""
        for watcher in self._watchers.everyone():
            self.post(watcher, Ending(watcher.uid, self._ref, reason))
        boot, parent = self._boot, self._boot.parent
        if parent is not None:
            self.post(parent, ChildExited(parent.uid, boot.key, boot.generation, reason))
