"""The processes of a supervisor's children: they are forked, watched, and buried here.

A child's death is seen through its pidfd, which Thespian's loop watches; where there is none, or the notice was lost,
by looking after the pid. A child ends only when its last word has been taken, so that comes before its death is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from thespian.actors import ActorAddress

from supervisors.host import processes
from supervisors.host.deaths import Deaths
from supervisors.runtime.thespian import forking
from supervisors.runtime.thespian.post import PostOffice
from supervisors.runtime.thespian.timers import Timers
from supervisors.supervisor.events import Tick
from supervisors.terms.reason import ExitReason
from supervisors.wire.messages import Boot, Message, encode, parcel

#: How often a supervisor looks after its children's pids by itself, in seconds.
POLL_SECONDS = 0.5
#: What such a look finds dead has this long for its last word to be handed over, in seconds.
WORD_SECONDS = 0.05
#: A child without a pidfd that is about to end is looked after this often, in seconds.
LOOK_SECONDS = 0.01
#: Timers of this file; any other is the core's.
POLL, MISSED, LOOK = "poll", "missed", "look"


@dataclass
class ChildProcess:
    """One child's process. `key` and `generation` are the core's names for the child and for this life of it.

    `booted`: whether it has said how its start went.
    """

    key: int
    generation: int
    uid: str
    pid: int
    handle: forking.Child
    pidfd: int | None
    address: ActorAddress
    booted: bool = False
    last_word: ExitReason | None = None


class Children:
    """The processes of one supervisor's children.

    Args:
        manager: Thespian's manager of the supervisor.
        office: sends to them.
        timers: of the supervisor; `tick` has to be called with those of this file.
        buried: told of a child that has ended; it is forgotten here by then.
    """

    def __init__(
        self, manager: Any, office: PostOffice, timers: Timers, buried: Callable[[ChildProcess], None]
    ) -> None:
        """Have none."""
        self._manager, self._office, self._timers, self._on_burial = manager, office, timers, buried
        self._processes: dict[int, ChildProcess] = {}
        self._by_pidfd: dict[int, ChildProcess] = {}
        self._deaths = Deaths()
        self._polling = False

    def __iter__(self) -> Iterator[ChildProcess]:
        """Go through those that run."""
        return iter(list(self._processes.values()))

    def get(self, key: int, generation: int) -> ChildProcess | None:
        """Return the process of one life of a child; None: it is over."""
        process = self._processes.get(key)
        return process if process is not None and process.generation == generation else None

    def latest(self, key: int) -> ChildProcess | None:
        """Return the process of a child, whichever life it is."""
        return self._processes.get(key)

    # --- the beginning ------------------------------------------------------------------------------------------

    def start(self, host: type, boot: Boot) -> None:
        """Fork a child.

        Args:
            host: the actor that carries it.
            boot: its first message, which it finds in its mailbox.

        Raises:
            OSError: there is no process to be had.
            Exception: whatever keeps `boot` from being sent.
        """
        address, handle = forking.create_actor(self._manager, host, parcel([encode(boot)]))
        process = ChildProcess(boot.key, boot.generation, boot.to, handle.pid, handle, None, address)
        self._processes[boot.key] = process
        self._watch(process)
        self._begin_polling()

    def _watch(self, process: ChildProcess) -> None:
        """Have its death seen at once; with no descriptor left for that it is seen by looking after the child."""
        # Not collected before we look: even if it has died already, its pid is still its own.
        pidfd = processes.open_pidfd(process.pid, 0)
        if pidfd is None:
            return
        try:
            self._deaths.add(pidfd)
        except OSError:
            processes.close_pidfd(pidfd)
        else:
            process.pidfd = pidfd
            self._by_pidfd[pidfd] = process

    def send(self, process: ChildProcess, message: Message) -> None:
        """Send to a child, which may be starting still."""
        self._office.send_to_child(process.address, encode(message))

    # --- the end ------------------------------------------------------------------------------------------------

    def kill(self, process: ChildProcess) -> None:
        """End a child at once; its death will be seen like any other."""
        processes.kill(process.pid, process.pidfd)
        self._ends_soon(process)

    def last_word(self, process: ChildProcess, reason: ExitReason) -> None:
        """Take a child's last word."""
        process.last_word = reason
        self._ends_soon(process)

    def _ends_soon(self, process: ChildProcess) -> None:
        if process.pidfd is None:
            self._timers.set(LOOK_SECONDS, Tick(process.key, process.generation, LOOK))

    def descriptors(self) -> list[int]:
        """Return the descriptors that become readable when a child ends."""
        return self._deaths.descriptors()

    def anyone_dead(self) -> bool:
        """Whether a child has ended and has not been buried."""
        return bool(self._deaths.ready())

    def bury_dead(self) -> None:
        """Bury those whose pidfds say that they have ended."""
        for process in [self._by_pidfd[pidfd] for pidfd in self._deaths.ready()]:
            self._bury(process)

    def _bury(self, process: ChildProcess) -> None:
        if self._processes.get(process.key) is process:
            del self._processes[process.key]
        if process.pidfd is not None:
            del self._by_pidfd[process.pidfd]
            self._deaths.remove(process.pidfd)
            processes.close_pidfd(process.pidfd)
        forking.forget_actor(self._manager, process.pid)
        self._office.forget_child(process.address)
        self._on_burial(process)

    # --- looking after them -------------------------------------------------------------------------------------

    def _begin_polling(self) -> None:
        if not self._polling:
            self._polling = True
            self._timers.set(POLL_SECONDS, Tick(-1, 0, POLL))

    def wants(self, tick: Tick) -> bool:
        """Whether a tick about a child still means something."""
        return tick.what == POLL or self.get(tick.key, tick.generation) is not None

    def tick(self, tick: Tick) -> bool:
        """Look after the children, or bury one that was found dead; return whether the tick was for that."""
        if tick.what == POLL:
            self._polling = False
            self._look()
            if self._processes:
                self._begin_polling()
            return True
        if tick.what == MISSED:
            if (process := self.get(tick.key, tick.generation)) is not None:
                self._bury(process)
            return True
        if tick.what == LOOK:
            if (process := self.get(tick.key, tick.generation)) is not None:
                if self._has_ended(process):
                    self._bury(process)
                else:
                    self._ends_soon(process)
            return True
        return False

    def _look(self) -> None:
        """Find those that are dead and of whose death nothing was heard."""
        for process in self:
            if self._has_ended(process):
                self._timers.set(WORD_SECONDS, Tick(process.key, process.generation, MISSED))

    def _has_ended(self, process: ChildProcess) -> bool:
        if process.pidfd is not None:
            return processes.has_ended(process.pid, 0, process.pidfd)
        return not process.handle.is_alive()
