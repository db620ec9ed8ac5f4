"""The controller of a node's applications: it starts, watches and stops them.

It starts and stops them, one after the other, and watches them; when one ends that should not have,
it has the daemon stop the node. What runs is kept in the node's folder too, so that a controller that was killed knows,
when it is back, what has ended meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from supervisors.application.application import PREFIX, has_callbacks
from supervisors.genserver import NO_REPLY
from supervisors.system_server import SystemServer
from supervisors.terms.errors import (
    AlreadyStarted,
    ChildNotFound,
    NoProcess,
    ServerExited,
    StartError,
    SupervisorsError,
)
from supervisors.terms.ports import engine_of
from supervisors.terms.reason import NOPROC, SHUTDOWN, ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.terms.spec import ChildSpec

FILE = "applications.json"


@dataclass
class _Running:
    """An application that runs.

    Args:
        name: its name.
        type: temporary, transient or permanent.
        dependencies: names of the applications that it needs.
        ref: its topmost process.
        tree: its tree, the end of which is its own; the same process if it has no callbacks. None: it ended before it
            was seen.
        left: those of the two whose end has not been seen yet.
    """

    name: str
    type: str
    dependencies: tuple[str, ...]
    ref: Ref
    tree: Ref | None
    left: set[Ref]


class ApplicationController(SystemServer):
    """Starts, watches and stops the applications of a node.

    Requests: ("start", (name, type, dependencies), ChildSpec) → Ref; ("stop", name); ("which",) → rows.
    """

    WHAT = "the application controller"

    def init(self) -> None:
        """Take up what ran when an earlier controller was killed."""
        self._running: dict[str, _Running] = {}
        self._one_at_a_time = asyncio.Lock()
        root = engine_of(self).boot.parent
        assert root is not None
        self._root = root
        self._file = Path(self.node["data_dir"]) / "run" / FILE
        self._take_up()

    def _take_up(self) -> None:
        """Watch what the file says. What has ended meanwhile gives Down(noproc), which counts as abnormal."""
        try:
            known = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return
        if known["root"] != self._root.uid:
            return  # of a node that fell, and its applications with it
        for row in known["applications"]:
            ref, tree = Ref(**row["ref"]), row["tree"] and Ref(**row["tree"])
            left = {Ref(**each) for each in row["left"]}
            self._watch(_Running(row["name"], row["type"], tuple(row["dependencies"]), ref, tree, left))

    def answer(self, request: Any, caller: Caller) -> Any:
        """Begin what is asked; the reply comes when it is done."""
        match request:
            case ("start", (str(name), str(kind), needs), ChildSpec() as spec):
                self.spawn(self._answer(caller, self._start(name, kind, tuple(needs), spec)))
                return NO_REPLY
            case ("stop", str(name)):
                self.spawn(self._answer(caller, self._stop(name)))
                return NO_REPLY
            case ("which",):
                return [(each.name, each.type, each.dependencies, each.ref) for each in self._running.values()]
        raise self.unknown(request)

    async def _answer(self, caller: Any, work: Coroutine[Any, Any, Any]) -> None:
        try:
            async with self._one_at_a_time:
                value = await work
        except SupervisorsError as error:
            self.reply_error(caller, error)
        except Exception as error:  # a full disk, say; the applications run on
            self.log.error("a request could not be carried out", exc_info=error)
            self.reply_error(caller, error)
        else:
            self.reply(caller, value)
        finally:
            work.close()

    # --- starting and stopping --------------------------------------------------------------------------------------

    async def _start(self, name: str, kind: str, needs: tuple[str, ...], spec: ChildSpec) -> Ref:
        if name in self._running:
            raise AlreadyStarted(f"application {name!r} runs already", id=name, ref=self._running[name].ref)
        missing = [need for need in needs if need not in self._running]
        if missing:
            what = f"needs {', '.join(map(repr, missing))}, which must be started before it"
            raise StartError(f"application {name!r} {what}: use ensure_all_started, or start them first", id=name)
        with contextlib.suppress(ChildNotFound):  # one that has ended, and of which the root has not heard yet
            await self.terminate_child(self._root, spec.id)
        ref: Ref | None = await self.start_child(self._root, spec)
        if ref is None:
            raise StartError(f"application {name!r} did not start: its tree chose not to", id=name)
        tree = await self._tree_of(ref, spec)
        self._watch(_Running(name, kind, needs, ref, tree, {ref, tree or ref}))
        self._keep()
        self.log.info("application started", application=name, type=kind)
        if tree is None:
            self._has_ended(name, kind, NOPROC)
        return ref

    async def _tree_of(self, ref: Ref, spec: ChildSpec) -> Ref | None:
        """Return the tree's process; None if it has ended already."""
        if not has_callbacks(spec):
            return ref
        with contextlib.suppress(NoProcess, ServerExited):
            return next((row.ref for row in await self.which_children(ref) if row.id == "tree"), None)
        return None

    def _watch(self, running: _Running) -> None:
        self._running[running.name] = running
        for each in running.left:
            self.monitor(each)

    async def _stop(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is None:
            raise NoProcess(f"application {name!r} does not run", id=name)
        self._keep()
        gone: asyncio.Future[Down] = asyncio.get_running_loop().create_future()
        await engine_of(self).watch_once(running.ref, gone.set_result)
        if not gone.done():
            engine_of(self).stop_process(running.ref, SHUTDOWN)
            await gone
        with contextlib.suppress(ChildNotFound):  # the root has to have heard of it before the name is started again
            await self.terminate_child(self._root, PREFIX + name)

    # --- ends that nobody asked for ---------------------------------------------------------------------------------

    def take_info(self, message: Any) -> None:
        """See a process of an application end."""
        if not isinstance(message, Down):
            super().take_info(message)
            return
        for each in [each for each in self._running.values() if message.ref in each.left]:
            if message.ref == each.tree:
                # Its reason alone counts: what is above it ends by `shutdown`, and may be seen to end before it.
                self._has_ended(each.name, each.type, message.reason)
            each.left.discard(message.ref)
            if not each.left:
                del self._running[each.name]
            self._keep()

    def _has_ended(self, name: str, kind: str, reason: ExitReason) -> None:
        self.log.error("application ended", application=name, type=kind, reason=str(reason))
        if kind == "permanent" or (kind == "transient" and reason.abnormal):
            self.log.critical(f"the node stops: its {kind} application {name} has ended ({reason})")
            os.kill(self.node["pid"], signal.SIGTERM)

    def _keep(self) -> None:
        temporary = self._file.with_suffix(".tmp")
        rows = [asdict(each) | {"left": [asdict(ref) for ref in each.left]} for each in self._running.values()]
        temporary.write_text(json.dumps({"root": self._root.uid, "applications": rows}))
        temporary.replace(self._file)
