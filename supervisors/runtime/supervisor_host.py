"""The Thespian actor that carries a supervisor: a thin shell around `SupervisorCore`.

It has no thread, so that it can fork its children. Children's deaths are seen through their pidfds, which
Thespian's own loop watches; a child's last word always comes before its death is seen, because a child ends only
when its words have been taken.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from thespian.actors import Actor, ActorAddress, ActorExitRequest, ThespianWatch, WakeupMessage, WatchMessage

from supervisors import core
from supervisors.errors import AlreadyStarted, SupervisorsError
from supervisors.reason import KILLED, ExitReason, Ref
from supervisors.runtime import fate
from supervisors.runtime.identity import own_ref
from supervisors.runtime.leaf_host import LeafHost
from supervisors.runtime.log import REPORT_FILE, LineFile, open_log
from supervisors.runtime.messages import (
    Boot,
    BootResult,
    Call,
    ChildExited,
    Message,
    RegistryIs,
    Reply,
    Stop,
    Unwatch,
    Watch,
    WatchedDown,
    encode,
    open_parcel,
)
from supervisors.runtime.post import PostOffice
from supervisors.runtime.process import Caller
from supervisors.runtime.wire import pack, unpack
from supervisors.spec import SupervisorSpec

#: The id of the registry among the root's children.
REGISTRY_ID = "registry"
#: How often pids are polled where there are no pidfds, in seconds.
POLL_SECONDS = 0.5


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
        self._timers: list[tuple[float, int, core.Tick]] = []
        self._timer_ids = itertools.count()
        self._next_wake = float("inf")
        self._watchers: dict[tuple[Ref, int], None] = {}
        self._stopping_for: ExitReason | None = None
        self._ready = False

    def receiveMessage(self, message: Any, sender: Any) -> Any:  # noqa: N802, ARG002 - Thespian's name
        """Take one message from Thespian."""
        try:
            if type(message) is bytes:
                for item in open_parcel(message):
                    self._take(item)
            elif isinstance(message, WatchMessage):
                self._see_deaths(set(message.ready))
            elif isinstance(message, WakeupMessage):
                self._run_timers()
            elif isinstance(message, ActorExitRequest):
                os._exit(0)  # the children have asked the kernel to go with this process
        except Exception as error:
            # A supervisor that does not know its own state any more must not go on: its parent starts a fresh one.
            if self._booted:
                self._log.critical("supervisor crashed", exc_info=error)
                with contextlib.suppress(Exception):
                    self._farewell(ExitReason.crash(error))
            os._exit(1)
        return ThespianWatch([p.pidfd for p in self._processes.values() if p.pidfd is not None])

    # --- what comes in ------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        if isinstance(message, Boot):
            self._boot(message)
            return
        if message.to != self.ref.uid:
            if isinstance(message, Call):
                gone = SupervisorsError("the supervisor that this call was for has ended")
                self._post(message.sender, Reply(message.sender.uid, message.id, False, pack(gone)))
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
                name, argument = unpack(message.request)
                self._do(self.core.call(Caller(message.sender, message.id), name, argument, now))
            case Stop():
                self._stopping_for = self._stopping_for or message.reason
                self._do(self.core.shutdown(message.reason, now))
            case Watch():
                self._watchers[message.watcher, message.id] = None
                self._post(message.watcher, Reply(message.watcher.uid, message.id, True, b""))
            case Unwatch():
                self._watchers.pop((message.watcher, message.id), None)
            case RegistryIs():
                self._registry_is(message.registry)
            case Reply():
                self._registered(message)

    def _boot(self, boot: Boot) -> None:
        self.boot = boot
        self.ref = own_ref(self._myRef, boot.to)
        self.label = boot.name or boot.id
        fate.set_process_name(self.label)
        self._office = PostOffice(self._myRef, lambda host, port: None)
        self._log = open_log(boot.node["logs"], self.label, boot.node.get("level", "info"))
        self._reports = LineFile(Path(boot.node["logs"]) / REPORT_FILE)
        self._registry = boot.registry
        assert isinstance(boot.start, SupervisorSpec)
        self.core = core.SupervisorCore(boot.start)
        self._booted = True
        if boot.name is not None:
            self._register()
        else:
            self._do(self.core.start(time.monotonic()))

    # --- the registry -------------------------------------------------------------------------------------------

    def _register(self) -> None:
        if self._registry is not None:
            self._post(self._registry, Call(self._registry.uid, 0, self.ref, pack(("register", self.boot.name, self.ref))))

    def _registered(self, reply: Reply) -> None:
        """Go on once the name is ours; a later reply (after a registry's restart) changes nothing."""
        if self._ready or self.core.children or not reply.ok:
            return
        taken = unpack(reply.value)
        if taken is not None:
            error = AlreadyStarted(f"the name {self.boot.name!r} is taken by {taken}", ref=taken)
            self._boot_result("failed", ExitReason.crash(error), error)
            self._end(ExitReason.crash(error))
        self._do(self.core.start(time.monotonic()))

    def _registry_is(self, registry: Ref) -> None:
        self._registry = registry
        if self.boot.name is not None:
            self._register()
        for process in self._processes.values():
            if process.ref is not None and not process.is_registry:
                self._post(process.ref, RegistryIs(process.uid, registry))

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
            self._do(self.core.event(core.Started(key, generation, result.ref), now))
        elif result.outcome == "ignored":
            self._do(self.core.event(core.Ignored(key, generation), now))
        else:
            reason = result.reason or ExitReason("error")
            self._do(self.core.event(core.StartFailed(key, generation, reason, result.error), now))

    def _see_deaths(self, ready: set[int]) -> None:
        now = time.monotonic()
        for process in [p for p in self._processes.values() if p.pidfd in ready]:
            self._buried(process, now)

    def _buried(self, process: _ChildProcess, now: float) -> None:
        if self._processes.get(process.key) is process:
            del self._processes[process.key]
        if process.pidfd is not None:
            fate.close_pidfd(process.pidfd)
        reason = process.last_word or KILLED
        self._do(self.core.event(core.Exited(process.key, process.generation, reason), now))

    def _poll(self) -> None:
        """Look for dead children where there are no pidfds."""
        now = time.monotonic()
        known = {info.childProc.pid: info.childProc for info in getattr(self._myRef, "_child_procs", [])}
        for process in [p for p in self._processes.values() if p.pidfd is None]:
            handle = known.get(process.pid)
            if handle is None or not handle.is_alive():
                self._buried(process, now)

    # --- effects ------------------------------------------------------------------------------------------------

    def _do(self, effects: list[core.Effect]) -> None:
        for effect in effects:
            match effect:
                case core.Spawn():
                    self._spawn(effect)
                case core.AskShutdown(key=key):
                    self._ask_shutdown(self._processes.get(key))
                case core.Kill(key=key, generation=generation):
                    process = self._processes.get(key)
                    if process is not None and process.generation == generation:
                        fate.kill(process.pid, process.pidfd)
                case core.SetTimer():
                    self._set_timer(effect.seconds, core.Tick(effect.key, effect.generation, effect.what))
                case core.Answer(caller=caller):
                    self._answer(caller, effect)
                case core.Tell():
                    self._tell(effect)
                case core.Ready():
                    self._ready = True
                    self._boot_result("started", None, None)
                case core.Finished():
                    self._finish(effect)

    def _spawn(self, effect: core.Spawn) -> None:
        spec = effect.spec
        nested = isinstance(spec.start, SupervisorSpec)
        child = self.createActor(SupervisorHost if nested else LeafHost)
        pid = self._myRef._child_procs[-1].childProc.pid
        name = spec.name or (spec.start.name if isinstance(spec.start, SupervisorSpec) else None)
        uid = uuid.uuid4().hex[:16]
        is_registry = self.boot.parent is None and spec.id == REGISTRY_ID
        try:
            pidfd = fate.open_pidfd(pid, 0)
        except ProcessLookupError:
            pidfd = None
        self._processes[effect.key] = _ChildProcess(effect.key, effect.generation, uid, pid, pidfd, child, is_registry)
        if pidfd is None:
            self._set_timer(POLL_SECONDS, core.Tick(-1, 0, "poll"))
        boot = Boot(uid, effect.key, effect.generation, spec.id, name, spec.start, spec.args, spec.kwargs,
                    self.ref, None if is_registry else self._registry, self.boot.node)
        self._office.send_to_child(child, encode(boot))

    def _ask_shutdown(self, process: _ChildProcess | None) -> None:
        if process is not None:
            self._office.send_to_child(process.address, encode(Stop(process.uid, ExitReason("shutdown"))))

    def _answer(self, caller: Caller, effect: core.Answer) -> None:
        ok = effect.error is None
        self._post(caller.ref, Reply(caller.ref.uid, caller.id, ok, pack(effect.value if ok else effect.error)))

    def _tell(self, effect: core.Tell) -> None:
        reason = effect.reason
        line = {"kind": effect.kind, "supervisor": self.label, "id": effect.id, "pid": effect.pid, "at": time.time(),
                "reason": None if reason is None else [reason.kind, reason.detail], "extra": effect.extra}
        self._reports.write(orjson.dumps(line, default=repr).decode())
        fields = {"child": effect.id, "child_pid": effect.pid, "reason": str(reason) if reason else None, **effect.extra}
        match effect.kind:
            case "progress":
                self._log.info("progress", **fields)
            case "reached_max_restart_intensity":
                self._log.critical(
                    f"supervisor {self.label} gives up: child {effect.id} ended {effect.extra['count']} times within "
                    f"{effect.extra['period']:g} s, {effect.extra['intensity']} restarts are allowed", **fields)
            case _:
                self._log.error(effect.kind, **fields)

    def _finish(self, effect: core.Finished) -> None:
        reason = self._stopping_for or effect.reason
        if effect.error is not None and not self._ready:
            why = effect.error.reason or ExitReason.crash(effect.error)
            self._boot_result("failed", why, effect.error)
            reason = why
        self._end(reason)

    # --- the end ------------------------------------------------------------------------------------------------

    def _end(self, reason: ExitReason) -> None:
        self._farewell(reason)
        self._office.drain_and_exit()

    def _farewell(self, reason: ExitReason) -> None:
        for watcher, number in self._watchers:
            self._post(watcher, WatchedDown(watcher.uid, number, self.ref, reason))
        parent = self.boot.parent
        if parent is not None:
            self._post(parent, ChildExited(parent.uid, self.boot.key, self.boot.generation, reason))

    def _boot_result(self, outcome: str, reason: ExitReason | None, error: SupervisorsError | None) -> None:
        ref = self.ref if outcome == "started" else None
        parent = self.boot.parent
        if parent is not None:
            self._post(parent, BootResult(parent.uid, self.boot.key, self.boot.generation, outcome, ref, reason, error))
        elif self.boot.node.get("daemon"):
            host, port = self.boot.node["daemon"]
            self._office.send(host, port, [encode(BootResult("", 0, 0, outcome, ref, reason, error))])

    # --- small things -------------------------------------------------------------------------------------------

    def _post(self, to: Ref, message: Message) -> None:
        self._office.send(to.host, to.port, [encode(message)])

    def _set_timer(self, seconds: float, tick: core.Tick) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._timer_ids), tick))
        if due < self._next_wake:
            self._next_wake = due
            self.wakeupAfter(timedelta(seconds=seconds))

    def _run_timers(self) -> None:
        self._next_wake = float("inf")
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now + 0.001:
            _, _, tick = heapq.heappop(self._timers)
            if tick.what == "poll":
                self._poll()
                if any(p.pidfd is None for p in self._processes.values()):
                    self._set_timer(POLL_SECONDS, tick)
            else:
                self._do(self.core.event(tick, now))
        if self._timers and self._next_wake == float("inf"):
            self._next_wake = self._timers[0][0]
            self.wakeupAfter(timedelta(seconds=max(0.0, self._next_wake - now)))
