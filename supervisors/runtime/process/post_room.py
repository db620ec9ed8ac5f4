"""Where the messages of one sender wait for the lookup of a name, so that none overtakes another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol

from supervisors.runtime.process.futures import refuse, settle
from supervisors.terms.checks import Target
from supervisors.terms.errors import CallFailed, SupervisorsError
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via
from supervisors.wire.values import pack, packed

#: So many seconds a message to one process waits for the lookup of another target, which may mean the same process.
PATIENCE_SECONDS = 1.0

#: Told why a message cannot be sent.
Failed = Callable[[Exception], None]


class Directory(Protocol):
    """What is known of names."""

    def known(self, name: str) -> Ref | None:
        """Return the process of a name that need not be looked up."""

    async def resolve(self, target: Target) -> Ref:
        """Look a target up; raise a SupervisorsError where there is no such process."""


class _Letter:
    """A message that waits: for whom, how it is sent, and who is told that it cannot be."""

    __slots__ = ("failed", "send", "to")

    def __init__(self, to: _Lookup | Ref, send: Callable[[Ref], None], failed: Failed) -> None:
        self.to, self.send, self.failed = to, send, failed

    def go(self) -> None:
        """Send it, or tell that it cannot be sent."""
        ref, error = (self.to, None) if isinstance(self.to, Ref) else (self.to.ref, self.to.error)
        try:
            if ref is not None:
                self.send(ref)
        except Exception as problem:  # no descriptor for a connection, say: those behind it are not to blame
            error = problem
        if error is not None:
            self.failed(error)


class _Lookup:
    """A target that is being looked up. `late`: it has taken too long for others to wait; then the messages to it."""

    __slots__ = ("error", "late", "ref", "task", "timer")

    task: asyncio.Task[None]
    timer: asyncio.TimerHandle

    def __init__(self) -> None:
        self.ref: Ref | None = None
        self.error: Exception | None = None
        self.late: list[_Letter] | None = None


class PostRoom:
    """The messages of one sender that cannot go yet, in the order in which they were made.

    A target that is known goes out at once as long as nothing is looked up: the sender asks `known`, and uses `put`
    only when that is None. What was put goes when its target has been looked up and everything before it has gone. A
    lookup that takes longer than `PATIENCE_SECONDS` holds up nothing but the messages to its own target.

    Args:
        loop: where the sender runs.
        directory: looks targets up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Directory) -> None:
        """Begin with nothing."""
        self._loop, self._directory = loop, directory
        self._letters: deque[_Letter] = deque()
        self._lookups: dict[Hashable, _Lookup] = {}
        self._sorting = False
        self._emptied: list[Callable[[], None]] = []

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._letters) + sum(len(lookup.late or ()) for lookup in self._lookups.values())

    def known(self, target: Target) -> Ref | None:
        """Return the process of a target if a message to it may go at once."""
        if self._lookups:
            return None
        if isinstance(target, Ref):
            return target
        return self._directory.known(target) if isinstance(target, str) else None

    def put(self, target: Target, send: Callable[[Ref], None], failed: Failed = lambda error: None) -> None:
        """Send a message when it is its turn.

        Args:
            target: whom it is for.
            send: called with the process.
            failed: called with why there is none. Defaults to nothing: the message is dropped.
        """
        to = self._address(target)
        letter = _Letter(to, send, failed)
        if isinstance(to, _Lookup) and to.late is not None:
            to.late.append(letter)
        else:
            self._letters.append(letter)
            self._sort()

    async def reach(self, target: Target) -> Ref:
        """Return the process of a target when all that was put before has gone.

        Raises:
            SupervisorsError: there is none.
        """
        ref = self.known(target)
        if ref is not None:
            return ref
        found: asyncio.Future[Ref] = self._loop.create_future()
        self.put(target, partial(settle, found), partial(refuse, found))
        return await found

    def when_empty(self, callback: Callable[[], None], seconds: float) -> None:
        """Call back once: as soon as nothing waits any more, or after so many seconds."""
        if not self._lookups:
            callback()
            return

        def once() -> None:
            timer.cancel()
            if once in self._emptied:
                self._emptied.remove(once)
                callback()

        timer = self._loop.call_later(seconds, once)
        self._emptied.append(once)

    # --- lookups ----------------------------------------------------------------------------------------------------

    def _address(self, target: Target) -> _Lookup | Ref:
        if isinstance(target, Ref):
            return target
        key: Hashable = (target.name, pack(packed(target.key))) if isinstance(target, Via) else target
        lookup = self._lookups.get(key)  # first: what waits for it was sent before
        if lookup is None and isinstance(target, str) and (ref := self._directory.known(target)) is not None:
            return ref
        if lookup is None:
            lookup = self._lookups[key] = _Lookup()
            lookup.timer = self._loop.call_later(PATIENCE_SECONDS, self._is_late, lookup)
            lookup.task = self._loop.create_task(self._look_up(key, lookup, target))
        return lookup

    async def _look_up(self, key: Hashable, lookup: _Lookup, target: Target) -> None:
        try:
            lookup.ref = await self._directory.resolve(target)
        except SupervisorsError as error:
            lookup.error = error
        except Exception as error:
            lookup.error = CallFailed(f"{target!s} cannot be looked up: {error!r}")
        lookup.timer.cancel()
        for letter in lookup.late or ():
            letter.go()
        self._sort()
        del self._lookups[key]
        if not self._lookups:
            for callback in list(self._emptied):
                callback()

    def _is_late(self, lookup: _Lookup) -> None:
        lookup.late = [letter for letter in self._letters if letter.to is lookup]
        self._letters = deque(letter for letter in self._letters if letter.to is not lookup)
        self._sort()

    def _sort(self) -> None:
        """Send what can go: all before the first whose target is not known yet."""
        if self._sorting:
            return  # what is sent may put something: it comes last, in the run that is on
        self._sorting = True
        while self._letters:
            to = self._letters[0].to
            if isinstance(to, _Lookup) and to.ref is None and to.error is None:
                break
            self._letters.popleft().go()
        self._sorting = False
