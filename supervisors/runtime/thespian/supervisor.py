"""The Thespian actor that carries a supervisor: a thin shell around `SupervisorCore`.

It has no thread, so that it can fork its children. Children's deaths are seen through their pidfds, which
Thespian's own loop watches; a child's last word always comes before its death is seen, because a child ends only
when its words have been taken.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from thespian.actors import Actor, ActorAddress, ActorExitRequest, ThespianWatch, WakeupMessage, WatchMessage

from supervisors.host import processes as fate
from supervisors.host.deaths import Deaths
from supervisors.host.log import REPORT_FILE, LineFile, open_log
from supervisors.host.meters import Meter
from supervisors.runtime.thespian import forking
from supervisors.runtime.thespian.identity import own_ref
from supervisors.runtime.thespian.leaf import LeafHost
from supervisors.runtime.thespian.post import PostOffice
from supervisors.runtime.thespian.timers import Timers
from supervisors.supervisor import events
from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.kinds import core_for
from supervisors.supervisor.root import RootCore
from supervisors.terms.errors import AlreadyStarted, CallFailed, NoProcess, SupervisorsError
from supervisors.terms.reason import KILLED, NOPROC, SHUTDOWN, ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.spec import SupervisorSpec
from supervisors.terms.via import Via
from supervisors.wire.messages import (
    Boot,
    BootResult,
    Call,
    Cast,
    ChildExited,
    Ending,
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
    encode,
    open_parcel,
    parcel,
)
from supervisors.wire.values import pack, unpack

#: The id of the registry among the root's children.
REGISTRY_ID = "registry"
#: Numbers of a supervisor's own calls: for its name, and for the server that a Via names.
ASK_NAME, ASK_RESOLVER = 0, 1
#: How often a supervisor looks after its children's pids by itself, in seconds: for a notice that was missed, and
#: where there are no pidfds.
POLL_SECONDS = 0.5
#: What such a look finds dead has this long for its last word to be handed over, in seconds.
WORD_SECONDS = 0.05
#: Dead watchers are cleared away when there are so many of them.
SWEEP_AT = 256


@dataclass
class _ChildProcess:
    key: int
    generation: int
    uid: str
    pid: int
    pidfd: int | None
    address: ActorAddress
    is_registry: bool
    ref: Ref | None = None
    last_word: ExitReason | None = None


class SupervisorHost(Actor):  # type: ignore[misc]
    """Host of one supervisor."""

    def __init__(self) -> None:
        """Wait for Boot."""
        self._booted = False
        self._processes: dict[int, _ChildProcess] = {}
        self._by_pidfd: dict[int, _ChildProcess] = {}
        self._deaths = Deaths()
        self._timers = Timers(self.wakeupAfter, self._wanted)
        self._polling = False
        self._watchers: dict[tuple[Ref, int], None] = {}
        self._stopping_for: ExitReason | None = None
        self._started = self._ready = False
        self._over: ExitReason | None = None
        #: Calls that came after a death that has not been seen yet; see `_take`.
        self._late: list[Call] = []

    def receiveMessage(self, message: Any, sender: Any) -> Any:  # noqa: N802 - Thespian's name
        """Take one message from Thespian."""
        try:
            if type(message) is bytes:
                items = open_parcel(message)
                for item in items:
                    self._take(item)
                self._meter.took(len(items))
            elif isinstance(message, WatchMessage):
                self._see_deaths()
            elif isinstance(message, WakeupMessage):
                for tick in self._timers.due(message.payload):
                    self._tick(tick, time.monotonic())
            elif isinstance(message, ActorExitRequest):
                os._exit(0)  # the children have asked the kernel to go with this process
            if self._late and not self._deaths.ready():
                self._take_late()
            if self._over is not None:
                self._end(self._over)
        except Exception as error:
            # A supervisor that does not know its own state any more must not go on: its parent starts a fresh one.
            if self._booted:
                self._log.critical("supervisor crashed", exc_info=error)
                with contextlib.suppress(Exception):
                    self._farewell(ExitReason.crash(error))
            os._exit(1)
        return ThespianWatch(self._notices())

    def _notices(self) -> list[int]:
        """Return the descriptors that become readable when a child ends."""
        return self._deaths.descriptors()

    # --- what comes in ------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        if isinstance(message, Boot):
            self._boot(message)
            return
        if message.to != self.ref.uid:
            if isinstance(message, Call | System):
                gone = NoProcess("the supervisor that this call was for has ended", reason=NOPROC)
                self._answer(Caller(message.sender, message.id), gone)
            return
        now = time.monotonic()
        match message:
            case BootResult():
                self._child_booted(message, now)
            case ChildExited():
                process = self._processes.get(message.key)
                if process is not None and process.generation == message.generation:
                    process.last_word = message.reason
            case Call():
                if self._deaths.ready():
                    # Whoever asks may know of this death (stop has returned): it is seen first. Not here: the dead
                    # child's last word may still be in the mailbox behind this call.
                    self._late.append(message)
                else:
                    self._call(message, now)
            case Stop():
                self._stopping_for = self._stopping_for or message.reason
                self._do(self.core.shutdown(message.reason, now))
            case Watch():
                self._watched(message)
            case Unwatch():
                self._watchers.pop((message.watcher, message.id), None)
            case Link():
                # A supervisor traps exits and ignores those of strangers: it only has to tell of its own end.
                self._watchers[message.sender, 0] = None
            case Unlink():
                self._watchers.pop((message.sender, 0), None)
            case System():
                what = f"a supervisor does not take {message.name}: which_children and count_children show what it has"
                self._answer(Caller(message.sender, message.id), CallFailed(what))
            case RegistryIs():
                self._registry_is(message.registry)
            case Reply():
                self._registered(message)
            case Cast() | Info():
                self._log.warning("a supervisor takes no casts and no other messages: dropped")

    def _take_late(self) -> None:
        late, self._late = self._late, []
        for message in late:
            self._call(message, time.monotonic())

    def _call(self, message: Call, now: float) -> None:
        caller = Caller(message.sender, message.id)
        try:
            name, argument = unpack(message.request)
        except (ValueError, TypeError):
            what = "a supervisor takes administration calls only (start_child, which_children, ...)"
            self._answer(caller, CallFailed(what))
        else:
            self._do(self.core.call(caller, name, argument, now))

    def _watched(self, message: Watch) -> None:
        if len(self._watchers) >= SWEEP_AT:
            for watcher in {watcher for watcher, _ in self._watchers}:
                if watcher.host == self.ref.host and fate.has_ended(watcher.pid, watcher.born):
                    self._watchers = {key: None for key in self._watchers if key[0] != watcher}
        self._watchers[message.watcher, message.id] = None
        self._post(message.watcher, Reply(message.watcher.uid, message.id, True, b""))

    def _boot(self, boot: Boot) -> None:
        self.boot = boot
        self.ref = own_ref(self._myRef, boot.to)
        self.label = str(boot.name or boot.id)
        fate.set_process_name(self.label)
        self._office = PostOffice(self._myRef, lambda parcel: None)
        self._meter = Meter()
        self._log = open_log(boot.node["logs"], self.label, boot.node.get("level", "info"))
        self._reports = LineFile(Path(boot.node["logs"]) / REPORT_FILE)
        self._registry = boot.registry
        assert isinstance(boot.start, SupervisorSpec)
        make: Callable[..., SupervisorCore] = RootCore if boot.parent is None else core_for
        self.core = make(boot.start, alive=lambda ref: not fate.has_ended(ref.pid, ref.born))
        self._booted = True
        if boot.name is not None:
            self._register()
        else:
            self._start()

    # --- the registry -------------------------------------------------------------------------------------------

    def _register(self) -> None:
        name = self.boot.name
        if self._registry is not None and isinstance(name, Via):
            self._ask(self._registry, ASK_RESOLVER, ("whereis", name.name))
        elif self._registry is not None:
            self._ask(self._registry, ASK_NAME, ("register", name, self.ref))

    def _ask(self, server: Ref, number: int, request: Any) -> None:
        self._post(server, Call(server.uid, number, self.ref, pack(request)))

    def _registered(self, reply: Reply) -> None:
        """Go on once the name is ours; a later reply (after a registry's restart) changes nothing."""
        name, value = self.boot.name, unpack(reply.value)
        if self._started:
            return
        if not reply.ok:
            self._nameless(value)
        elif reply.id == ASK_RESOLVER and isinstance(name, Via):
            if value is None:
                self._nameless(NoProcess(f"there is no registry {name.name!r} on this node", reason=NOPROC))
            else:
                self._ask(value, ASK_NAME, ("register_via", name.key, self.ref, name.value))
        elif value is None:
            self._start()
        else:
            self._nameless(AlreadyStarted(f"the name {str(name)!r} is taken by {value}", ref=value))

    def _nameless(self, error: SupervisorsError) -> None:
        self._boot_result("failed", ExitReason.crash(error), error)
        self._over = ExitReason.crash(error)

    def _start(self) -> None:
        self._started = True
        self._do(self.core.start(time.monotonic()))

    def _registry_is(self, registry: Ref) -> None:
        self._registry = registry
        if isinstance(self.boot.name, str) or (self.boot.name is not None and not self._started):
            self._register()
        for process in self._processes.values():
            if not process.is_registry:
                # Also to those that are still starting: they may be waiting for it.
                self._office.send_to_child(process.address, encode(RegistryIs(process.uid, registry)))

    # --- children -----------------------------------------------------------------------------------------------

    def _child_booted(self, result: BootResult, now: float) -> None:
        process = self._processes.get(result.key)
        if process is None or process.generation != result.generation:
            return
        key, generation = result.key, result.generation
        if result.outcome == "started" and result.ref is not None:
            process.ref = result.ref
            if process.is_registry:
                self._registry_is(result.ref)
            self._do(self.core.event(events.Started(key, generation, result.ref, result.info), now))
        elif result.outcome == "ignored":
            self._do(self.core.event(events.Ignored(key, generation), now))
        else:
            reason = result.reason or ExitReason("error")
            self._do(self.core.event(events.StartFailed(key, generation, reason, result.error), now))

    def _see_deaths(self) -> None:
        now = time.monotonic()
        for process in [self._by_pidfd[pidfd] for pidfd in self._deaths.ready()]:
            self._buried(process, now)

    def _buried(self, process: _ChildProcess, now: float) -> None:
        if self._processes.get(process.key) is process:
            del self._processes[process.key]
        if process.pidfd is not None:
            del self._by_pidfd[process.pidfd]
            self._deaths.remove(process.pidfd)
            fate.close_pidfd(process.pidfd)
        forking.forget_actor(self._myRef, process.pid)
        self._office.forget_child(process.address)
        reason = process.last_word or KILLED
        self._do(self.core.event(events.Exited(process.key, process.generation, reason), now))

    def _poll(self) -> None:
        """Look for children that are dead and of whose death nothing was heard."""
        known = {info.childProc.pid: info.childProc for info in getattr(self._myRef, "_child_procs", [])}
        for process in list(self._processes.values()):
            if process.pidfd is not None:
                ended = fate.has_ended(process.pid, 0, process.pidfd)
            else:
                handle = known.get(process.pid)
                ended = handle is None or not handle.is_alive()
            if ended:
                self._timers.set(WORD_SECONDS, events.Tick(process.key, process.generation, "missed"))

    def _missed(self, tick: events.Tick, now: float) -> None:
        process = self._processes.get(tick.key)
        if process is not None and process.generation == tick.generation:
            self._buried(process, now)

    def _begin_polling(self) -> None:
        if not self._polling:
            self._polling = True
            self._timers.set(POLL_SECONDS, events.Tick(-1, 0, "poll"))

    # --- effects ------------------------------------------------------------------------------------------------

    def _do(self, effects: list[events.Effect]) -> None:
        # A child that is to be started does not wait until an end has been written down.
        for effect in sorted(effects, key=lambda effect: not isinstance(effect, events.Spawn)):
            match effect:
                case events.Spawn():
                    self._spawn(effect)
                case events.AskShutdown(key=key):
                    self._ask_shutdown(self._processes.get(key))
                case events.Kill(key=key, generation=generation):
                    process = self._processes.get(key)
                    if process is not None and process.generation == generation:
                        fate.kill(process.pid, process.pidfd)
                case events.SetTimer():
                    self._timers.set(effect.seconds, events.Tick(effect.key, effect.generation, effect.what))
                case events.Answer(caller=caller, value=value, error=error):
                    self._answer(caller, value if error is None else error)
                case events.Tell():
                    self._tell(effect)
                case events.Ready():
                    self._ready = True
                    self._boot_result("started", None, None)
                case events.Finished():
                    self._finish(effect)

    def _spawn(self, effect: events.Spawn) -> None:
        try:
            self._fork(effect)
        except Exception as error:  # no more processes, no memory, or arguments that are too large to be sent
            self._log.error("a child could not be started", child=effect.spec.id, exc_info=error)
            now, reason = time.monotonic(), ExitReason.crash(error)
            self._do(self.core.event(events.StartFailed(effect.key, effect.generation, reason), now))
            process = self._processes.get(effect.key)
            if process is not None and process.generation == effect.generation:
                fate.kill(process.pid, process.pidfd)
            else:
                self._do(self.core.event(events.Exited(effect.key, effect.generation, reason), now))

    def _fork(self, effect: events.Spawn) -> None:
        spec = effect.spec
        nested = isinstance(spec.start, SupervisorSpec)
        name = spec.name or (spec.start.name if isinstance(spec.start, SupervisorSpec) else None)
        uid = uuid.uuid4().hex[:16]
        is_registry = self.boot.parent is None and spec.id == REGISTRY_ID
        boot = Boot(
            uid, effect.key, effect.generation, spec.id, name, spec.start, spec.args, spec.kwargs,
            self.ref, None if is_registry else self._registry, self.boot.node,
        )  # fmt: skip
        host = SupervisorHost if nested else LeafHost
        child, pid = forking.create_actor(self._myRef, host, parcel([encode(boot)]))
        process = self._processes[effect.key] = _ChildProcess(
            effect.key, effect.generation, uid, pid, None, child, is_registry
        )
        with contextlib.suppress(OSError):  # no more descriptors: then its death is seen by looking after it
            # Not collected before we look: even if it has died already, its pid is still its own.
            process.pidfd = fate.open_pidfd(pid, 0)
            if process.pidfd is not None:
                self._by_pidfd[process.pidfd] = process
                self._deaths.add(process.pidfd)
        self._begin_polling()

    def _ask_shutdown(self, process: _ChildProcess | None) -> None:
        if process is not None:
            self._office.send_to_child(process.address, encode(Stop(process.uid, SHUTDOWN)))

    def _answer(self, caller: Caller, value: Any) -> None:
        ok = not isinstance(value, SupervisorsError)
        self._post(caller.ref, Reply(caller.ref.uid, caller.id, ok, pack(value)))

    def _tell(self, effect: events.Tell) -> None:
        reason = effect.reason
        line = {
            "kind": effect.kind,
            "supervisor": self.label,
            "id": effect.id,
            "pid": effect.pid,
            "at": time.time(),
            "reason": None if reason is None else [reason.kind, reason.detail],
            "extra": effect.extra,
        }
        self._reports.write(orjson.dumps(line, default=repr).decode())
        fields = {
            "report": effect.kind,
            "child": effect.id,
            "child_pid": effect.pid,
            "reason": str(reason) if reason else None,
            **effect.extra,
        }
        match effect.kind:
            case "progress":
                self._log.info("progress", **fields)
            case "reached_max_restart_intensity":
                self._log.critical(
                    f"supervisor {self.label} gives up: child {effect.id} ended {effect.extra['count']} times within "
                    f"{effect.extra['period']:g} s, {effect.extra['intensity']} restarts are allowed; "
                    f"the last reason: {reason}",
                    **fields,
                )
            case _:
                self._log.error(effect.kind, **fields)

    def _finish(self, effect: events.Finished) -> None:
        reason = self._stopping_for or effect.reason
        if effect.error is not None and not self._ready:
            reason = effect.error.reason or ExitReason.crash(effect.error)
            self._boot_result("failed", reason, effect.error)
        self._over = reason

    # --- the end ------------------------------------------------------------------------------------------------

    def _end(self, reason: ExitReason) -> None:
        self._farewell(reason)
        self._office.drain_and_exit()

    def _farewell(self, reason: ExitReason) -> None:
        for watcher in {watcher for watcher, _ in self._watchers}:
            self._post(watcher, Ending(watcher.uid, self.ref, reason))
        parent = self.boot.parent
        if parent is not None:
            self._post(parent, ChildExited(parent.uid, self.boot.key, self.boot.generation, reason))

    def _boot_result(self, outcome: str, reason: ExitReason | None, error: SupervisorsError | None) -> None:
        ref = self.ref if outcome == "started" else None
        parent = self.boot.parent
        if parent is not None:
            self._post(
                parent,
                BootResult(parent.uid, self.boot.key, self.boot.generation, outcome, ref, reason, error),
            )
        elif self.boot.node.get("daemon"):
            host, port = self.boot.node["daemon"]
            self._office.send(host, port, [encode(BootResult("", 0, 0, outcome, ref, reason, error))])

    # --- small things -------------------------------------------------------------------------------------------

    def _post(self, to: Ref, message: Message) -> None:
        self._office.send(to.host, to.port, [encode(message)])

    def _wanted(self, tick: events.Tick) -> bool:
        process = self._processes.get(tick.key)
        mine = process is not None and process.generation == tick.generation
        return tick.what in ("retry", "poll") or mine

    def _tick(self, tick: events.Tick, now: float) -> None:
        if tick.what == "poll":
            self._polling = False
            self._poll()
            if self._processes:
                self._begin_polling()
        elif tick.what == "missed":
            self._missed(tick, now)
        else:
            self._do(self.core.event(tick, now))
