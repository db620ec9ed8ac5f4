"""The Thespian actor that carries a supervisor: a thin shell around `SupervisorCore`.

It has no thread, so that it can fork its children (children.py). What happens to it becomes events of the core, and
the core's effects are carried out here.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thespian.actors import Actor, ActorExitRequest, ThespianWatch, WakeupMessage, WatchMessage

from supervisors.host import processes
from supervisors.host.log import open_log
from supervisors.host.meters import Meter
from supervisors.host.reports import Reporter
from supervisors.runtime.thespian.children import ChildProcess, Children
from supervisors.runtime.thespian.form import malformed
from supervisors.runtime.thespian.identity import own_ref
from supervisors.runtime.thespian.leaf import LeafHost
from supervisors.runtime.thespian.naming import Naming
from supervisors.runtime.thespian.post import PostOffice
from supervisors.runtime.thespian.timers import Timers
from supervisors.runtime.thespian.watchers import LINK, Watchers
from supervisors.runtime.thespian.words import Words
from supervisors.supervisor import events
from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.kinds import core_for
from supervisors.supervisor.root import RootCore
from supervisors.terms.errors import CallFailed, NoProcess, ServerExited
from supervisors.terms.reason import KILLED, NOPROC, SHUTDOWN, ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.spec import SupervisorSpec
from supervisors.terms.views import Report
from supervisors.wire.envelope import bare
from supervisors.wire.messages import (
    Boot,
    BootResult,
    Call,
    Cast,
    ChildExited,
    Info,
    Link,
    Message,
    RegistryIs,
    Reply,
    Stop,
    System,
    Unlink,
    Unwatch,
    Watch,
    open_parcel,
)
from supervisors.wire.values import unpack

#: The id of the registry among the root's children.
REGISTRY_ID = "registry"


class _CoreFailed(Exception):
    """The state machine has raised: nobody knows its state any more. The cause is what it raised."""


class SupervisorHost(Actor):  # type: ignore[misc]
    """Host of one supervisor."""

    def __init__(self) -> None:
        """Wait for Boot."""
        self._booted = False
        self._stopping_for: ExitReason | None = None
        self._ready = False
        self._over: ExitReason | None = None
        #: Calls that came after a death that has not been seen yet, or before the first start; see `_take`.
        self._late: list[Call] = []
        #: The uid of the registry if it is a child of this supervisor: it is not told where the registry is.
        self._registry_uid = ""

    def receiveMessage(self, message: Any, sender: Any) -> Any:  # noqa: N802 - Thespian's name
        """Take one message from Thespian."""
        try:
            if type(message) is bytes:
                self._take_parcel(message)
            elif isinstance(message, WatchMessage):
                self._children.bury_dead()
            elif isinstance(message, WakeupMessage):
                for tick in self._timers.due(message.payload):
                    self._tick(tick)
            elif isinstance(message, ActorExitRequest):
                os._exit(0)  # the children have asked the kernel to go with this process
            if self._late and self._naming.settled and not self._children.anyone_dead():
                self._take_late()
            if self._over is not None:
                self._end(self._over)
        except Exception as error:
            self._crash((error.__cause__ if isinstance(error, _CoreFailed) else None) or error)
        return ThespianWatch(self._notices())

    def _notices(self) -> list[int]:
        """Return the descriptors that become readable when a child ends."""
        return self._children.descriptors() if self._booted else []

    # --- what comes in ------------------------------------------------------------------------------------------

    def _take_parcel(self, data: bytes) -> None:
        try:
            items = open_parcel(data)
        except Exception as error:  # msgpack has errors of its own for each way in which bytes can be wrong
            if not self._booted:
                raise
            self._log.error("a parcel that cannot be opened was dropped", error=repr(error))
            return
        if not self._booted:
            (boot,) = items
            assert isinstance(boot, Boot)
            self._boot(boot)
            return
        for item in items:
            with self._its_own_fault(type(item).__name__):
                self._take(item)
        self._meter.took(len(items))

    @contextlib.contextmanager
    def _its_own_fault(self, what: str) -> Iterator[None]:
        """Log what goes wrong with one message or one effect: what else there is to do is not to blame."""
        try:
            yield
        except _CoreFailed:
            raise
        except Exception as error:
            self._log.error("a supervisor could not do one thing, and goes on", what=what, exc_info=error)

    def _take(self, message: Message) -> None:
        if trouble := malformed(message):
            self._log.error("a malformed message was dropped", trouble=trouble)
            return
        if message.to != self.ref.uid:
            if isinstance(message, Call | System):
                gone = NoProcess("the supervisor that this call was for has ended", reason=NOPROC)
                self._words.answer(Caller(message.sender, message.id), gone)
            return
        match message:
            case BootResult():
                self._child_booted(message)
            case ChildExited():
                if (process := self._children.get(message.key, message.generation)) is not None:
                    self._children.last_word(process, message.reason)
            case Call():
                if self._children.anyone_dead() or not self._naming.settled:
                    # Whoever asks may know of this death (stop has returned): it is seen first. Not here: the dead
                    # child's last word may still be in the mailbox behind this call. Or it has looked up the name,
                    # which is ours before we know that it is: the children come first.
                    self._late.append(message)
                else:
                    self._call(message)
            case Stop():
                self._stopping_for = self._stopping_for or message.reason
                self._decide(self.core.shutdown, message.reason)
            case Watch():
                self._watchers.add(message.watcher, message.id)
                self._words.post(message.watcher, Reply(message.watcher.uid, message.id, True, b""))
            case Unwatch():
                self._watchers.remove(message.watcher, message.id)
            case Link():
                self._watchers.add(message.sender, LINK)
            case Unlink():
                self._watchers.remove(message.sender, LINK)
            case System():
                what = f"a supervisor does not take {message.name}: which_children and count_children show what it has"
                self._words.answer(Caller(message.sender, message.id), CallFailed(what))
            case RegistryIs():
                self._registry_is(message.registry)
            case Reply():
                self._named(message)
            case Cast() | Info():
                self._log.warning("a supervisor takes no casts and no other messages: dropped")
            case _:
                self._log.debug("a message that is nothing to a supervisor was dropped", kind=type(message).__name__)

    def _take_late(self) -> None:
        late, self._late = self._late, []
        for message in late:
            with self._its_own_fault("Call"):
                self._call(message)

    def _call(self, message: Call) -> None:
        caller = Caller(message.sender, message.id)
        match _opened(message.request):
            case [str(name), argument]:
                self._decide(self.core.call, caller, name, argument)
            case _:
                what = "a supervisor takes administration calls only (start_child, which_children, ...)"
                self._words.answer(caller, CallFailed(what))

    def _boot(self, boot: Boot) -> None:
        self.boot = boot
        self.ref = own_ref(self._myRef, boot.to)
        self.label = str(boot.name or boot.id)
        processes.set_process_name(self.label)
        self._office = PostOffice(self._myRef, lambda parcel: None)
        self._meter = Meter()
        self._node = boot.node if boot.parent is not None else boot.node | {"root": asdict(self.ref)}
        self._log = open_log(boot.node["logs"], self.label, boot.node.get("level", "info"))
        self._reporter = Reporter(Path(boot.node["logs"]), self._log)
        self._watchers = Watchers(self.ref.host)
        self._words = Words(boot, self.ref, self._office, self._watchers)
        self._naming = Naming(boot.name, self.ref, boot.registry, self._words.post)
        self._timers = Timers(self.wakeupAfter, self._wanted)
        self._children = Children(self._myRef, self._office, self._timers, self._buried)
        self._booted = True  # from here on it can say what has befallen it
        assert isinstance(boot.start, SupervisorSpec)
        make: Callable[..., SupervisorCore] = RootCore if boot.parent is None else core_for
        self.core = make(boot.start, alive=lambda ref: not processes.has_ended(ref.pid, ref.born))
        if self._naming.settled:
            self._start()
        else:
            self._naming.register()

    # --- the name -----------------------------------------------------------------------------------------------

    def _named(self, reply: Reply) -> None:
        """Start the children once the name is ours."""
        before = self._naming.settled
        error = self._naming.answered(reply)
        if error is not None:
            self._words.boot_result("failed", ExitReason.crash(error), error)
            self._over = ExitReason.crash(error)
        elif self._naming.settled and not before:
            self._start()

    def _start(self) -> None:
        self._decide(self.core.start)

    def _registry_is(self, registry: Ref) -> None:
        self._naming.moved(registry)
        for process in self._children:
            if process.uid != self._registry_uid:
                # Also to those that are still starting: they may be waiting for it.
                self._children.send(process, RegistryIs(process.uid, registry))

    # --- children -----------------------------------------------------------------------------------------------

    def _child_booted(self, result: BootResult) -> None:
        key, generation = result.key, result.generation
        process = self._children.get(key, generation)
        if process is None or process.booted:
            return
        process.booted = True
        event: events.Event
        if result.outcome == "started" and result.ref is not None:
            if process.uid == self._registry_uid:
                self._registry_is(result.ref)
            event = events.Started(key, generation, result.ref, result.info)
        elif result.outcome == "ignored":
            event = events.Ignored(key, generation)
        else:
            event = events.StartFailed(key, generation, result.reason or ExitReason("error"), result.error)
        self._decide(self.core.event, event)

    def _buried(self, process: ChildProcess) -> None:
        reason = process.last_word or KILLED
        self._decide(self.core.event, events.Exited(process.key, process.generation, reason))

    # --- effects ------------------------------------------------------------------------------------------------

    def _decide(self, step: Callable[..., list[events.Effect]], *arguments: Any) -> None:
        """Have the core decide, and carry out what.

        Raises:
            _CoreFailed: the core has raised.
        """
        try:
            effects = step(*arguments, time.monotonic())
        except Exception as error:
            raise _CoreFailed from error
        # A child that is to be started does not wait until an end has been written down.
        for effect in sorted(effects, key=lambda effect: not isinstance(effect, events.Spawn)):
            with self._its_own_fault(type(effect).__name__):
                self._carry_out(effect)

    def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.Spawn():
                self._spawn(effect)
            case events.AskShutdown(key=key):
                self._ask_shutdown(key)
            case events.Kill(key=key, generation=generation):
                if (process := self._children.get(key, generation)) is not None:
                    self._children.kill(process)
            case events.SetTimer():
                self._timers.set(effect.seconds, events.Tick(effect.key, effect.generation, effect.what))
            case events.Answer(caller=caller, value=value, error=error):
                self._words.answer(caller, value if error is None else error)
            case events.Tell():
                self._tell(effect)
            case events.Ready():
                self._ready = True
                self._words.boot_result("started")
            case events.Finished():
                self._finish(effect)

    def _spawn(self, effect: events.Spawn) -> None:
        try:
            self._fork(effect)
        except Exception as error:  # no more processes, no memory, or arguments that are too large to be sent
            self._log.error("a child could not be started", child=effect.spec.id, exc_info=error)
            reason = ExitReason.crash(error)
            self._decide(self.core.event, events.StartFailed(effect.key, effect.generation, reason))
            if (process := self._children.get(effect.key, effect.generation)) is not None:
                self._children.kill(process)
            else:
                self._decide(self.core.event, events.Exited(effect.key, effect.generation, reason))

    def _fork(self, effect: events.Spawn) -> None:
        spec = effect.spec
        nested = isinstance(spec.start, SupervisorSpec)
        uid, registry = uuid.uuid4().hex[:16], self._naming.registry
        if self.boot.parent is None and spec.id == REGISTRY_ID:
            self._registry_uid, registry = uid, None
        boot = Boot(
            uid, effect.key, effect.generation, spec.id, spec.registers, spec.start, spec.args, spec.kwargs,
            self.ref, registry, self._node,
        )  # fmt: skip
        self._children.start(SupervisorHost if nested else LeafHost, boot)

    def _ask_shutdown(self, key: int) -> None:
        process = self._children.latest(key)
        if process is None:
            return
        try:
            self._children.send(process, Stop(process.uid, SHUTDOWN))
        except Exception as error:
            self._log.error("a child cannot be asked to end, and is killed", child_pid=process.pid, exc_info=error)
            self._children.kill(process)

    def _tell(self, effect: events.Tell) -> None:
        at = time.time()
        self._reporter.tell(Report(effect.kind, self.label, effect.id, effect.pid, effect.reason, at, effect.extra))

    def _finish(self, effect: events.Finished) -> None:
        reason = self._stopping_for or effect.reason
        if effect.error is not None and not self._ready:
            reason = effect.error.reason or ExitReason.crash(effect.error)
            self._words.boot_result("failed", reason, effect.error)
        self._over = reason

    # --- the end ------------------------------------------------------------------------------------------------

    def _end(self, reason: ExitReason) -> None:
        self._words.farewell(reason)
        self._office.drain_and_exit()

    def _crash(self, error: BaseException) -> None:
        """End here: a supervisor that does not know its own state must not go on. Its parent starts a fresh one.

        Its children end with it. Its last words are said all the same.
        """
        if not self._booted:
            os._exit(1)
        reason = ExitReason.crash(error)
        with contextlib.suppress(Exception):
            self._log.critical("supervisor crashed", exc_info=error)
        with contextlib.suppress(Exception):
            gone = ServerExited(f"the supervisor has crashed: {reason}", reason=reason)
            late = [Caller(call.sender, call.id) for call in self._late]
            for caller in (*self.core.callers(), *late):
                self._words.answer(caller, gone)
        with contextlib.suppress(Exception):
            self._words.farewell(reason)
        self._office.drain_and_exit()

    # --- small things -------------------------------------------------------------------------------------------

    def _wanted(self, tick: events.Tick) -> bool:
        return tick.what == "retry" or self._children.wants(tick)

    def _tick(self, tick: events.Tick) -> None:
        if not self._children.tick(tick):
            self._decide(self.core.event, tick)


def _opened(request: bytes) -> Any:
    """Return what a caller asks; None for what cannot be opened here, such as an object of a user's class."""
    with contextlib.suppress(Exception):
        return unpack(bare(request))
    return None
