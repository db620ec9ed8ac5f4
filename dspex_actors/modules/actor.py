"""The module manager: gives the calls of modules to the http workers, and exchanges the programs that answer them.

A call is answered by the version that was current when it came in, whatever happens meanwhile: what its worker does not
finish, another one does with the same version. A version becomes the current one in one step: a worker has opened
it, it is on the disk, and then the next call gets it. Started by the first who asks for a module; what it knows is on
the disk before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dspex_actors.ecosystem.inference.dispatch import Dispatch
from dspex_actors.ecosystem.inference.inference import Asker, Inference
from dspex_actors.ecosystem.inference.messages import Answer, Exchange, Infer
from dspex_actors.ecosystem.inference.sessions import Sessions
from dspex_actors.errors import ConfigError, DeadlineExceeded, DspexError
from dspex_actors.foundation.events.outlet import emit
from dspex_actors.modules.core import Module, Table, Version
from dspex_actors.modules.counts import Counts
from dspex_actors.modules.events import ModuleChanged
from dspex_actors.modules.messages import Create, Look, Remove, RollBack, Update
from dspex_actors.modules.program import pack_call
from dspex_actors.modules.store import Store
from dspex_actors.names import MODULES
from dspex_actors.observe.reporting import report_from_actor, report_last
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import GetJob, Result
from dspex_actors.workers.serving import Served
from supervisors import NO_REPLY, Caller, ChildSpec, Down, GenServer

#: A worker has so many seconds to open a program before it answers calls.
OPEN_SECONDS = 60.0
#: What was counted is written down this often, in seconds.
COUNT_SECONDS = 1.0
#: A module's calls may take so long where nothing else is said, in seconds.
DEADLINE_SECONDS = 600.0
#: A worker that gives up so many seconds before the deadline has heeded it.
SLACK_SECONDS = 0.05


def modules_spec() -> ChildSpec:
    """Return the manager as a child of the observers' branch."""
    return ChildSpec(MODULES, ModuleManager, name=MODULES, shutdown=5.0)


class _Call(Inference):
    """A call of a module, or the opening of a version."""

    __slots__ = ("module", "opened", "seconds", "version")

    def __init__(self, number: int, payload: bytes, operation: bytes, began: float) -> None:
        super().__init__(number, "", payload, operation, began)
        self.module, self.version, self.seconds = "", 0, 0.0
        #: Of an opening: told of its end.
        self.opened: asyncio.Future[dict[str, Any] | None] | None = None


def _too_late(call: _Call) -> dict[str, Any]:
    what = f"the module did not answer within {call.seconds:g} s; it was at: {call.stage}"
    return DeadlineExceeded(what, retryable=False).to_record()


class ModuleManager(GenServer):
    """Serves modules. What it takes stands in `messages`; calls are `Exchange`s, whose keys are the modules' ids."""

    def init(self) -> None:
        """Have the modules again that are on the disk."""
        self._store = Store(Path(self.node["data_dir"]))
        self._table = Table()
        for module in self._store.modules():
            self._table.take(module)
        self._counts = {place: Counts.from_plain(plain) for place, plain in self._store.counts().items()}
        self._dirty: set[tuple[str, int]] = set()
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._under_way: dict[Asker, _Call] = {}
        self._sessions = Sessions(self, self._gone, lambda: len(self._under_way))
        self._workers = Dispatch(self, self._fail)
        self._events = report_from_actor(self)

    async def terminate(self, reason: Any) -> None:
        """Write down what was counted last."""
        self._write_counts()
        self._store.close()
        await report_last()

    # --- messages ---------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Take calls in; change modules; tell workers what to do about calls."""
        match request:
            case Exchange():
                self._sessions.wait(request.session, caller)
                self._take(request)
                return NO_REPLY
            case GetJob():
                return Job("modules", "module", b"", b"", None, {"path": str(self._store.path)})
            case Create() | Update():
                self.spawn(self._answer(caller, lambda: self._exchange(request)))
                return NO_REPLY
            case RollBack() | Remove() | Look():
                try:
                    return "ok", self._said(request)
                except DspexError as error:
                    return "error", error.to_record()
        self.log.error("the module manager does not know a request", request=repr(request)[:200])
        return "error", ConfigError(f"modules do not know the request {request!r:.200}").to_record()

    def handle_cast(self, message: Any) -> None:
        """Take calls in; go on with what workers have done."""
        match message:
            case Exchange():
                self._take(message)
            case Served(worker, results):
                for result in results:
                    call = self._workers.done(worker, result.index)
                    if isinstance(call, _Call) and not call.is_over:
                        self._done(call, result)
                self._workers.pump()
                self._go()
            case _:
                self.log.error("the module manager does not know a message", message=repr(message)[:200])

    def handle_info(self, message: Any) -> None:
        """Go on without a worker that has died; write down what was counted."""
        if isinstance(message, Down) and message.ref is not None:
            self._workers.down(message.ref)
            self._go()
        elif message == "count":
            self._write_counts()

    def _go(self) -> None:
        self._workers.go()
        self._sessions.go()

    # --- calls ------------------------------------------------------------------------------------------------------

    def _take(self, request: Exchange) -> None:
        for number in request.given_up:
            self._leave((request.session, number))
        for row in request.asked:
            self._begin((request.session, row.number), row)
        self._go()

    def _begin(self, asker: Asker, row: Infer) -> None:
        try:
            module = self._table.get(row.key)
        except ConfigError as error:
            self._sessions.answer(asker, Answer(error=error.to_record()))
            return
        version = module.now
        payload = pack_call(
            version.program, version.around, f"module:{module.id}", module.about.get("protection"), row.inputs
        )
        seconds = min(row.seconds, module.about.get("deadline", DEADLINE_SECONDS))
        call = self._new(payload, row.operation, asker, seconds)
        call.module, call.version = module.id, version.number
        self._under_way[asker] = call
        self._workers.put(call)

    def _new(self, payload: bytes, operation: bytes, asker: Asker, seconds: float) -> _Call:
        now = self._loop.time()
        call = _Call(next(self._numbers), payload, operation, now)
        call.seconds = seconds
        call.askers[asker] = now + seconds, self._loop.call_later(seconds, self._late, call)
        return call

    def _late(self, call: _Call) -> None:
        self._workers.drop(call)
        self._end(call, _too_late(call))
        self._go()

    def _done(self, call: _Call, result: Result) -> None:
        call.at = None
        call.book(result)
        # A worker heeds the deadline too, and may be a moment before us.
        is_late = result.failure == "DeadlineExceeded" and self._loop.time() > call.until() - SLACK_SECONDS
        self._end(call, _too_late(call) if is_late else result.error)

    def _fail(self, inference: Inference, error: DspexError) -> None:
        if isinstance(inference, _Call) and not inference.is_over:
            self._end(inference, error.to_record())
            self._sessions.go()

    def _end(self, call: _Call, error: dict[str, Any] | None) -> None:
        """A call has its answer; a version is open, or cannot be."""
        [(asker, (_, timer))] = call.askers.items()
        timer.cancel()
        call.is_over = True
        if call.opened is not None:
            if not call.opened.done():
                call.opened.set_result(error)
            return
        del self._under_way[asker]
        self._count(call, None if error is None else str(error["type"]))
        answer = Answer(
            prediction=call.prediction if error is None else None,
            error=error,
            usage=call.usage,
            cost=call.cost,
            asked=call.requests,
            version=call.version,
        )
        self._sessions.answer(asker, answer)

    def _leave(self, asker: Asker) -> None:
        """Nobody waits for a call any more."""
        call = self._under_way.pop(asker, None)
        if call is not None:
            call.askers[asker][1].cancel()
            call.is_over = True
            self._workers.drop(call)

    def _gone(self, session: str) -> None:
        """A program has ended, or its connection has."""
        for asker in [asker for asker in self._under_way if asker[0] == session]:
            self._leave(asker)
        self._go()

    # --- modules ----------------------------------------------------------------------------------------------------

    async def _answer(self, caller: Caller, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            answer: tuple[str, Any] = ("ok", await work())
        except DspexError as error:
            answer = ("error", error.to_record())
        except Exception as error:
            self.log.exception("a request failed")  # its sender's trouble: what is served stays
            what = f"nothing was changed: {type(error).__name__}: {error}; see `dspex logs`"
            answer = ("error", ConfigError(what).to_record())
        self.reply(caller, answer)

    async def _exchange(self, order: Create | Update) -> int | str:
        """Let a program answer from now on, once it is open and written down."""
        if (done := self._known(order)) is not None:
            return done
        digests = program, around = self._write(lambda: self._store.stage(order.program, order.around))
        try:
            await self._open(program, around)
            if (done := self._known(order)) is not None:  # meanwhile: it was told twice
                return done
            note = order.note if isinstance(order, Update) else ""
            made = Version(0, program, around, None, time.time(), note)
            if isinstance(order, Create):
                after = self._table.created(order.id, made, order.about, order.token)
                self._change(None, after, "created", "")
                return order.id
            before = self._table.get(order.id)
            busy = {call.version for call in self._under_way.values() if call.module == order.id}
            self._change(before, self._table.updated(order.id, made, order.token, busy), "updated", order.note)
            return self._table.get(order.id).current
        finally:
            self._store.unstage(digests)

    def _known(self, order: Create | Update) -> int | str | None:
        """Return what an order has come to that was carried out before; refuse one that cannot be."""
        module = self._table.modules.get(order.id)
        if module is not None and (done := module.done(order.token)) is not None:
            return order.id if isinstance(order, Create) else done
        if isinstance(order, Create):
            if module is not None:
                self._table.created(order.id, module.now, {}, order.token)  # refuses
            return None
        about = self._table.get(order.id).about
        lacking = [name for name in order.inputs if name not in about["inputs"]]
        if lacking and not about["is_open"]:
            raise ConfigError(
                f"the program is invalid: it needs {', '.join(lacking)}, which who calls the module {order.id!r:.80} "
                f"does not give; its inputs are {', '.join(about['inputs']) or 'none'}; create another module"
            )
        return None

    async def _open(self, program: str, around: str) -> None:
        """Have a worker open a version before it answers anybody.

        Raises:
            DspexError: it cannot be opened, or no worker is there.
        """
        call = self._new(pack_call(program, around, "", None, None), b"", ("", 0), OPEN_SECONDS)
        call.opened = self._loop.create_future()
        self._workers.put(call)
        self._workers.go()
        error = await call.opened
        if error is not None:
            raise ConfigError(f"nothing was changed: {error['message']}")

    def _said(self, request: RollBack | Remove | Look) -> Any:
        match request:
            case RollBack(id_, number, token):
                before = self._table.get(id_)
                if (done := before.done(token)) is not None:
                    return done
                after = self._table.rolled_back(id_, number, token)
                self._change(before, after, "rolled_back", "")
                return after.current
            case Remove(id_):
                module = self._table.modules.get(id_)
                if module is None:
                    return False
                self._write(lambda: self._store.remove(module))
                self._table.drop(id_)
                self._counts = {place: found for place, found in self._counts.items() if place[0] != id_}
                emit(ModuleChanged(module=id_, what="removed", number=None, before=module.current))
                return True
            case Look("list"):
                return [self._about(module) for _, module in sorted(self._table.modules.items())]
            case Look("versions", id_):
                return self._versions(self._table.get(id_))
            case Look("metrics", id_):
                return self._metrics(self._table.get(id_))
            case Look("around", id_):
                return self._store.blob(self._table.get(id_).now.around)
        raise ConfigError(f"modules do not know the request {request!r:.200}")

    def _change(self, before: Module | None, after: Module, what: str, note: str) -> None:
        self._write(lambda: self._store.write(before, after))
        self._table.take(after)
        was = None if before is None else before.current
        for number in () if before is None else before.versions.keys() - after.versions.keys():
            self._counts.pop((after.id, number), None)
        emit(ModuleChanged(module=after.id, what=what, number=after.current, before=was, note=note))

    def _write(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            raise ConfigError(f"nothing was changed: {self._store.path} cannot be written: {error}") from None

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _about(self, module: Module) -> dict[str, Any]:
        about = module.about
        return {
            "id": module.id,
            "version": module.current,
            "versions": len(module.versions),
            "description": about.get("description", ""),
            "inputs": list(about["inputs"]),
            "calls": sum(found.calls for place, found in self._counts.items() if place[0] == module.id),
        }

    def _versions(self, module: Module) -> list[dict[str, Any]]:
        return [
            {
                "version": each.number,
                "current": each.number == module.current,
                "digest": each.program,
                "at": each.at,
                "followed": each.followed,
                "note": each.note,
            }
            for each in module.versions.values()
        ]

    def _metrics(self, module: Module) -> dict[str, Any]:
        doing: dict[int, int] = {}
        for call in self._under_way.values():
            if call.module == module.id:
                doing[call.version] = doing.get(call.version, 0) + 1
        every = Counts()
        versions = {}
        for number in module.versions:
            found = self._counts.get((module.id, number), Counts())
            every.merge(found)
            versions[number] = {**found.figures(), "under_way": doing.get(number, 0)}
        about = {"id": module.id, "version": module.current, "under_way": sum(doing.values())}
        return {**about, **every.figures(), "versions": versions}

    def _count(self, call: _Call, error: str | None) -> None:
        place = call.module, call.version
        module = self._table.modules.get(call.module)
        if module is None or call.version not in module.versions:
            return
        counts = self._counts.setdefault(place, Counts())
        counts.add(self._loop.time() - call.began, time.time(), error, call.usage, call.cost, call.requests)
        if not self._dirty:
            self.send_after(COUNT_SECONDS, "count")
        self._dirty.add(place)

    def _write_counts(self) -> None:
        dirty, self._dirty = self._dirty, set()
        try:
            self._store.count(
                (*place, found.to_plain()) for place in dirty if (found := self._counts.get(place)) is not None
            )
        except OSError as error:  # a full disk: they are told all the same, and written with the next ones
            self.log.error("what is counted of modules cannot be written", error=str(error))
