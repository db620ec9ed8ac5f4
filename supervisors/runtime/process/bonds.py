"""The monitors and links of one process, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Protocol

from supervisors.runtime.process.calls import Calls
from supervisors.runtime.process.peers import Peers
from supervisors.terms.errors import CallTimeout, NoProcess, ServerExited
from supervisors.terms.reason import KILLED, NODEDOWN, NOPROC, ExitReason
from supervisors.terms.ref import Down, Ref
from supervisors.wire.messages import Link, Message, Unlink, Unwatch, Watch


class Owner(Protocol):
    """What bonds need of their process."""

    ref: Ref
    loop: asyncio.AbstractEventLoop
    peers: Peers
    calls: Calls

    def post(self, to: Ref, message: Message) -> None:
        """Send a message."""

    def down(self, number: int, ref: Ref | None, reason: ExitReason) -> None:
        """Put a Down into the mailbox."""

    def exit_signal(self, ref: Ref, reason: ExitReason) -> None:
        """Take an exit signal of a linked process."""

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back once everything that has arrived by now is delivered."""


class Bonds:
    """The monitors and links of a process."""

    def __init__(self, owner: Owner, ids: itertools.count[int]) -> None:
        """Begin with none."""
        self._owner, self._ids = owner, ids
        self._watchers: dict[Ref, set[int]] = {}
        self._monitors: dict[int, Ref | None] = {}
        self._down_hooks: dict[int, Callable[[Down], None]] = {}
        self._last_words: dict[Ref, ExitReason] = {}
        self._links: set[Ref] = set()

    def audience(self) -> set[Ref]:
        """Return the processes that are told when this one ends."""
        return {ref for ref, numbers in self._watchers.items() if numbers} | self._links

    @property
    def links(self) -> set[Ref]:
        """Return the processes that this one is linked to."""
        return set(self._links)

    # --- monitors -------------------------------------------------------------------------------------------

    def new_monitor(self) -> int:
        """Return the number of a monitor whose target is still being looked up."""
        number = next(self._ids)
        self._monitors[number] = None
        return number

    def monitor(self, target: Ref, number: int | None = None) -> int:
        """Watch a process. Down comes to the mailbox when it ends; at once, if it has ended."""
        number = self.new_monitor() if number is None else number
        if number not in self._monitors:
            return number  # taken back while its name was looked up
        self._monitors[number] = target
        try:
            self._owner.peers.watch(target)
        except NoProcess as error:
            self._owner.loop.call_soon(self.down, number, error.reason or NOPROC)
        else:
            self._owner.post(target, Watch(target.uid, number, self._owner.ref))
        return number

    async def watch_once(self, target: Ref, on_down: Callable[[Down], None]) -> int:
        """Watch a process once, and call `on_down` at its end. The watch is in force when this returns."""
        number = next(self._ids)
        self._monitors[number] = target
        self._down_hooks[number] = on_down
        watch = Watch(target.uid, number, self._owner.ref)
        try:
            with contextlib.suppress(CallTimeout):  # a frozen process does not answer; its pid is watched all the same
                await self._owner.calls.ask(target, number, watch, 1.0)
        except (NoProcess, ServerExited) as error:  # it ended before the watch was in force
            self.down(number, NODEDOWN if error.reason == NODEDOWN else NOPROC)
        except asyncio.CancelledError:
            self.demonitor(number)
            raise
        return number

    def demonitor(self, number: int) -> None:
        """Forget a monitor."""
        target = self._monitors.pop(number, None)
        self._down_hooks.pop(number, None)
        if target is not None:
            self._owner.post(target, Unwatch(target.uid, number, self._owner.ref))
            self._let_go(target)

    def down(self, number: int, reason: ExitReason) -> None:
        """Report the end that a monitor has seen, and forget the monitor."""
        if number not in self._monitors:
            return
        target = self._monitors.pop(number)
        hook = self._down_hooks.pop(number, None)
        if hook is not None:
            hook(Down(target, reason))
        else:
            self._owner.down(number, target, reason)

    def accepted(self, number: int) -> None:
        """Take note that a Watch was accepted: whatever its target dies of, it was there."""
        target = self._monitors.get(number)
        if target is not None:
            self._owner.peers.met(target)

    def unwatchable(self, number: int) -> None:
        """Take note that the Watch with this number was refused: its target had ended."""
        target = self._monitors.get(number)
        if target is not None:
            self.gone_before(target)

    def gone_before(self, target: Ref) -> None:
        """Take note that a process had ended before it took a Watch or a Link."""
        far, seen = target.host != self._owner.ref.host, self._owner.peers.sees(target)
        if target.outside:
            self._program_gone(target, NOPROC)
        elif far and not seen:
            self.tell_of(target, NOPROC)
        elif not far and seen:  # elsewhere the door of its node knows: it may be the node that is gone
            self._last_words.setdefault(target, NOPROC)

    def watched(self, message: Watch) -> None:
        """Add a watcher of this process."""
        watcher = message.watcher
        if watcher not in self._watchers:
            with contextlib.suppress(NoProcess):
                self._owner.peers.on_death(watcher, self._forget_watcher)
                self._watchers[watcher] = set()
        if watcher in self._watchers:
            self._watchers[watcher].add(message.id)
            self._owner.calls.answer(watcher, message.id, True, b"")

    def unwatched(self, message: Unwatch) -> None:
        """Remove a watcher of this process."""
        self._watchers.get(message.watcher, set()).discard(message.id)

    def _forget_watcher(self, watcher: Ref) -> None:
        self._watchers.pop(watcher, None)

    # --- links ----------------------------------------------------------------------------------------------

    def link(self, target: Ref) -> None:
        """Link this process and another. One that has ended sends its exit signal, noproc, at once."""
        if target in self._links or target == self._owner.ref:
            return
        self._links.add(target)
        try:
            self._owner.peers.watch(target)
        except NoProcess as error:
            self._owner.loop.call_soon(self.tell_of, target, error.reason or NOPROC)
        else:
            self._owner.post(target, Link(target.uid, self._owner.ref))

    def linked(self, sender: Ref) -> None:
        """Take the link that another process has made."""
        if sender in self._links:
            return
        self._links.add(sender)
        try:
            self._owner.peers.watch(sender)
        except NoProcess as error:
            # Its last words were sent before it went, so they are here or have just arrived.
            reason = NODEDOWN if error.reason == NODEDOWN else KILLED
            self._owner.settle(lambda: self.bury(sender, reason))

    def unlink(self, target: Ref) -> None:
        """Remove a link on both sides."""
        if target in self._links:
            self._links.discard(target)
            self._owner.post(target, Unlink(target.uid, self._owner.ref))
            self._let_go(target)

    def link_refused(self, uid: str) -> None:
        """Take note that nobody has taken the Link to the process `uid`."""
        for target in [ref for ref in self._links if ref.uid == uid]:
            self.gone_before(target)

    def unlinked(self, sender: Ref) -> None:
        """Take note that the other side has removed its link."""
        self._links.discard(sender)
        self._let_go(sender)

    # --- deaths ---------------------------------------------------------------------------------------------

    def is_ending(self, ref: Ref, reason: ExitReason) -> None:
        """Keep the last words of a process. They are passed on when it is gone, and its name and port are free."""
        far, seen = ref.host != self._owner.ref.host, self._owner.peers.sees(ref)
        if ref.outside:
            self._program_gone(ref, reason)
        elif far and not seen:
            self.tell_of(ref, reason)
        elif seen or ref in self._links:
            self._last_words[ref] = reason

    def _program_gone(self, ref: Ref, reason: ExitReason) -> None:
        """Report the end of a program outside: its door tells of it, there is no death of a process to see."""
        self._owner.peers.release(ref)
        self.tell_of(ref, reason)

    def _let_go(self, ref: Ref) -> None:
        """Keep no descriptor for a program outside that nothing here waits for: nobody would tell when it is gone."""
        if ref.outside and not self.needs(ref):
            self._owner.peers.release(ref)

    def bury(self, ref: Ref, reason: ExitReason = KILLED) -> None:
        """Report the end of a process whose messages have all been taken; `reason` is for one that gave none itself."""
        self.tell_of(ref, self._last_words.pop(ref, reason))

    def needs(self, ref: Ref) -> bool:
        """Return whether anything here waits for an answer or for the end of this process."""
        owner = self._owner
        bound = ref in self._links or ref in self._monitors.values()
        return bound or owner.calls.asks(ref) or owner.peers.awaited(ref)

    def tell_of(self, ref: Ref, reason: ExitReason) -> None:
        """Report the end of a process to everything here that waits for it."""
        self._owner.calls.ended(ref, reason)
        for number in [number for number, target in self._monitors.items() if target == ref]:
            self.down(number, reason)
        if ref in self._links:
            self._links.discard(ref)
            self._owner.exit_signal(ref, reason)
