"""A program outside, as the processes of the node know it: an address of its own at the door."""

from __future__ import annotations

import os
from dataclasses import replace

from supervisors.runtime.process.process import Process
from supervisors.runtime.process.sender import Sender
from supervisors.terms.errors import CallFailed, NoProcess
from supervisors.terms.reason import NODEDOWN
from supervisors.terms.ref import PROGRAM, Ref
from supervisors.wire.messages import Call, Ending, Link, Message, System, Unlink, Unwatch, Watch
from supervisors.wire.values import pack


class Program:
    """A program that is connected to the door: what it sends, and who waits for its end.

    To the processes of the node it is `ref`. Replies to it are taken by the door's process, which knows whose they
    are. It can be monitored and linked to: it ends, for the reason nodedown, when its connection does. It takes no
    calls, casts or messages.

    Args:
        process: of the door.
    """

    def __init__(self, process: Process) -> None:
        """Give it an address."""
        self.ref = replace(process.ref, uid=PROGRAM + os.urandom(8).hex())
        self.sender = Sender(self.ref, process.loop, process.names, process.calls, process.post)
        self._process = process
        self._watchers: dict[Ref, set[int]] = {}
        self._links: set[Ref] = set()
        #: Those whose end is waited for, since they have watched the program or linked to it.
        self._seen: set[Ref] = set()

    def take(self, message: Message) -> None:
        """Take a message that is for the program, and is no answer."""
        match message:
            case Call() | System():
                refusal = CallFailed(f"{self.ref} is a program outside: it takes no calls")
                self._process.calls.answer(message.sender, message.id, False, pack(refusal))
            case Watch():
                if self._sees(message.watcher):
                    self._watchers.setdefault(message.watcher, set()).add(message.id)
                    self._process.calls.answer(message.watcher, message.id, True, b"")
            case Unwatch():
                numbers = self._watchers.get(message.watcher, set())
                numbers.discard(message.id)
                if not numbers:
                    self._watchers.pop(message.watcher, None)
            case Link():
                if self._sees(message.sender):
                    self._links.add(message.sender)
            case Unlink():
                self._links.discard(message.sender)
            case _:
                what = type(message).__name__.lower()
                self._process.log.warning(
                    "a program outside takes no messages: dropped", program=self.ref.uid, kind=what
                )

    def gone(self) -> None:
        """Tell those who watch the program that its connection has ended."""
        self._process.lodgers.pop(self.ref.uid, None)
        for other in {*self._watchers, *self._links}:
            self._process.post(other, Ending(other.uid, self.ref, NODEDOWN))
        for other in self._seen:
            self._process.peers.not_on_death(other, self._forget)

    def _sees(self, other: Ref) -> bool:
        """Whether another process lives; its end is seen from now on."""
        if other not in self._seen:
            try:
                self._process.peers.on_death(other, self._forget)
            except NoProcess:
                return False
            self._seen.add(other)
        return True

    def _forget(self, other: Ref) -> None:
        self._watchers.pop(other, None)
        self._links.discard(other)
        self._seen.discard(other)
