"""The actor `protection`: owns all protected keys of the node. Started by the first who configures one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.circuit_told import tell_change
from dspex_actors.names import PROTECTION
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.protection.core import Answer, Guard
from dspex_actors.protection.messages import Configure, Ended, Enter, Leave
from dspex_actors.protection.spec import Protection
from dspex_actors.protection.store import MOST, Store
from supervisors import NO_REPLY, Caller, ChildSpec, GenServer
from supervisors.host import processes


def protection_spec() -> ChildSpec:
    """Return the owner as a child of the observers' branch."""
    return ChildSpec(PROTECTION, ProtectionOwner, name=PROTECTION)


class ProtectionOwner(GenServer):
    """Says who may go. What it takes stands in `messages`; and the call "stats"."""

    #: It looks for processes that have died so often while somebody is in or waits, in seconds.
    look_seconds: ClassVar[float] = 0.25

    def init(self) -> None:
        """Go on where the one before has ended."""
        report_from_actor(self)
        self._store = Store(Path(self.node["data_dir"]) / "run")
        self._guards: dict[str, Guard] = {}
        #: Callers that wait for their turn: (key, call) → who is answered.
        self._callers: dict[tuple[str, str], Caller] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._looking = False
        self._could_write = True
        self._recover()

    def terminate(self, reason: Any) -> None:
        """Close the file."""
        self._store.close()

    # --- what is asked ----------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Let a call in, now or later, or refuse it; configure a key; show the state."""
        now = time.monotonic()
        match request:
            case Configure(key, plain):
                return self._configure(key, plain, now)
            case Enter():
                return self._enter(request, caller, now)
            case Leave(ended):
                return self._leave(ended, now)
            case "stats":
                return {key: guard.stats(now) for key, guard in self._guards.items()}
        self.log.error("the owner of protected keys does not know a request", request=repr(request)[:200])
        return "error", ConfigError(f"protection does not know the request {request!r:.200}").to_record()

    def _leave(self, ended: Iterable[Ended], now: float) -> bool:
        keys = set()
        for key, call, failed, reason in ended:
            guard = self._guards.get(key)
            if guard is None:
                continue
            keys.add(key)
            if guard.leave(call, now, failed=failed, reason=reason):
                self._write("leave", key, call)
                self._tell(guard)
        for key in keys:
            self._serve(self._guards[key])
        return True

    def handle_info(self, message: Any) -> None:
        """Let go of what processes held that have died."""
        if message != "look":
            return
        self._looking = False
        now = time.monotonic()
        for guard in self._guards.values():
            for holder in guard.holders:
                if _has_died(holder):
                    for call in guard.gone(holder, now):
                        self._write("leave", guard.key, call)
            self._serve(guard)
        self._look()

    def _configure(self, key: str, plain: dict[str, Any], now: float) -> bool:
        protection = Protection.from_plain(plain)
        guard = self._guards.get(key)
        if guard is None:
            guard = self._guards[key] = Guard(key, protection, now)
        else:
            guard.configure(protection, now)
        self._write("configure", key, plain)
        self._serve(guard)
        return True

    def _enter(self, request: Enter, caller: Caller, now: float) -> Any:
        guard = self._guards.get(request.key)
        if guard is None:
            known = ", ".join(sorted(self._guards)[:20]) or "none"
            error = ConfigError(
                f"the key {request.key!r:.80} is not protected: got no configuration of it, expected one of {known}; "
                "call dspex.configure_protection first"
            )
            return "error", error.to_record()
        self._leave(request.ended, now)
        until = math.inf if request.seconds is None else now + request.seconds
        answer = guard.enter(request.call, tuple(request.holder), request.costs, request.user, now, until)
        self._look()
        if answer is not None:
            reply = self._reply_of(guard, request.call, answer)
            self._tell(guard)
            return reply
        place = request.key, request.call
        self._callers[place] = caller
        self.when_given_up(caller, lambda: self._given_up(guard, *place))
        self._serve(guard)
        return NO_REPLY

    def _given_up(self, guard: Guard, key: str, call: str) -> None:
        if self._callers.pop((key, call), None) is not None:
            guard.leave(call, time.monotonic(), failed=None)
            self._serve(guard)

    def _serve(self, guard: Guard) -> None:
        """Answer whose turn it is, and come again when it is the next one's."""
        now = time.monotonic()
        answers, seconds = guard.serve(now)
        for call, answer in answers:
            reply = self._reply_of(guard, str(call), answer)
            caller = self._callers.pop((guard.key, str(call)), None)
            if caller is not None:
                self.reply(caller, reply)
        self._tell(guard)
        if (timer := self._timers.pop(guard.key, None)) is not None:
            timer.cancel()
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._timers[guard.key] = loop.call_later(max(0.001, seconds), self._serve, guard)

    def _reply_of(self, guard: Guard, call: str, answer: Answer) -> Any:
        if isinstance(answer, DspexError):
            return "error", answer.to_record()
        self._write("enter", guard.key, call, answer.holder, dict(answer.cost), answer.probe, answer.epoch)
        return ("in",)

    def _tell(self, guard: Guard) -> None:
        changes = guard.changes()
        for change in changes:
            tell_change(guard.key, change)
        if changes and guard.circuit is not None:
            self._write("circuit", guard.key, guard.circuit.kept())

    def _look(self) -> None:
        if not self._looking and any(guard.holders for guard in self._guards.values()):
            self._looking = True
            self.send_after(self.look_seconds, "look")

    # --- what is written --------------------------------------------------------------------------------------------

    def _write(self, *record: Any) -> None:
        try:
            self._store.add(*record)
            if self._store.changes > MOST:
                self._store.write([("all", key, guard.kept()) for key, guard in self._guards.items()])
            self._could_write = True
        except OSError as error:
            if self._could_write:
                self._could_write = False
                self.log.error(
                    "what protects keys cannot be written down: a successor would not know", error=str(error)
                )

    def _recover(self) -> None:
        now = time.monotonic()
        try:
            for record in self._store.read():
                self._again(record, now)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            # Of another version: better no limits for a moment than nobody who keeps them.
            self.log.error(
                "what protects keys cannot be read: it begins anew", error=f"{type(error).__name__}: {error}"
            )
            self._guards.clear()
        self._store.write([("all", key, guard.kept()) for key, guard in self._guards.items()])
        self._look()

    def _again(self, record: Any, now: float) -> None:
        """Do once more what the one before has done."""
        kind, key, *rest = record
        guard = self._guards.get(key)
        if kind == "all":
            guard = self._guards[key] = Guard(key, Protection.from_plain(rest[0]["protection"]), now)
            guard.restore(rest[0], now)
        elif kind == "configure":
            if guard is None:
                self._guards[key] = Guard(key, Protection.from_plain(rest[0]), now)
            else:
                guard.configure(Protection.from_plain(rest[0]), now)
        elif guard is None:
            return
        elif kind == "enter":
            call, holder, cost, probe, epoch = rest
            guard.again(call, tuple(holder), cost, probe, epoch, now)
        elif kind == "leave":
            guard.forget(rest[0], now)
        elif kind == "circuit" and guard.circuit is not None:
            guard.circuit.restore(rest[0])


def _has_died(holder: Any) -> bool:
    pid, ticks = holder
    return processes.has_ended(pid, ticks)
