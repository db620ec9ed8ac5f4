"""What the parts of this library ask of one another without knowing each other: three protocols.

`Outside` is a node as a program outside has it (`Node`), `Inside` a server as code in it has it (`GenServer`): handles
are made from one of the two. `Engine` is the process that runs a GenServer, as the server itself needs it.
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from supervisors.terms.checks import Target, check_target
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.terms.via import Via


class Connection(Protocol):
    """The connection that a request went over."""

    def abandon(self, future: Future[Any]) -> None:
        """Drop a request: its answer is not wanted any more."""


class Outside(Protocol):
    """A node, as a program outside has it."""

    data_dir: Path

    @property
    def info(self) -> dict[str, Any]:
        """Name, address, data folder, pid and version of the node."""

    def call(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask a server and return its reply."""

    def cast(self, target: Target, message: Any) -> None:
        """Send a message and do not wait."""

    def send_request(self, target: Target, request: Any) -> Any:
        """Ask a server and wait for the reply later, or not at all."""

    def stop(self, target: Target, reason: Any = "normal", timeout: float | None = None) -> None:
        """End a server, or a supervisor with its children first."""

    def whereis(self, name: str | Via) -> Ref | None:
        """Return who is registered under a name."""

    def supervise(self, supervisor: Target, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor."""

    def submit(self, operation: str, *arguments: Any) -> tuple[Connection, Future[Any]]:
        """Send the door a request; return the connection that it went over, and the future of its answer."""


class Inside(Protocol):
    """A server, as code that runs in it has it."""

    @property
    def ref(self) -> Ref:
        """The reference of this incarnation."""

    async def call(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask another server and return its reply."""

    def cast(self, target: Target, message: Any) -> None:
        """Send a message and do not wait."""

    async def stop(self, target: Target, reason: Any = "normal", timeout: float | None = None) -> None:
        """End another server, or a supervisor with its children first."""

    async def whereis(self, name: str | Via) -> Ref | None:
        """Return who is registered under a name."""

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the handlers; its crash is the server's crash."""

    def link(self, target: Ref) -> None:
        """Link this server and another, both ways."""

    def unlink(self, target: Ref) -> None:
        """Undo a link."""


# --- the engine -----------------------------------------------------------------------------------------------------


class EngineMailbox(Protocol):
    """Where an engine keeps what waits."""

    idle: float | None

    def put_first(self, value: Any) -> None:
        """Have handle_continue take `value` next."""


class EngineBonds(Protocol):
    """An engine's links."""

    def link(self, target: Ref) -> None:
        """Link the server and another."""


class EngineNames(Protocol):
    """How an engine finds who is registered."""

    async def resolve(self, target: Target) -> Ref:
        """Return the process that a target means; raise NoProcess where there is none."""

    async def whereis(self, name: str | Via) -> Ref | None:
        """Return who is registered under a name."""


class EnginePeers(Protocol):
    """How an engine sees the deaths of other processes of this host."""

    def on_death(self, ref: Ref, callback: Callable[[Ref], None]) -> None:
        """Call back when a process has ended; raise NoProcess if it has by now."""


class EngineBoot(Protocol):
    """What a process was started with."""

    @property
    def parent(self) -> Ref | None:
        """Its supervisor."""


class Engine(Protocol):
    """The process that runs a GenServer."""

    trap_exit: bool

    @property
    def ref(self) -> Ref:
        """The reference of this incarnation."""

    @property
    def name(self) -> str | Via | None:
        """The name that it is registered under."""

    @property
    def node(self) -> dict[str, Any]:
        """What is known of its node: name, address, data_dir, ..."""

    @property
    def log(self) -> Any:
        """The log of this process."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which the server runs."""

    @property
    def boot(self) -> EngineBoot:
        """What it was started with."""

    @property
    def mailbox(self) -> EngineMailbox:
        """What waits."""

    @property
    def bonds(self) -> EngineBonds:
        """Its links."""

    @property
    def names(self) -> EngineNames:
        """Who is registered."""

    @property
    def peers(self) -> EnginePeers:
        """Deaths of others."""

    async def call(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask and wait for the reply."""

    async def supervise(self, supervisor: Target, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor."""

    async def reach(self, target: Target) -> Ref:
        """Return the process of a target when everything that was sent before is on its way."""

    async def stop(self, target: Ref, reason: ExitReason, timeout: float | None) -> None:
        """End another process, and return when it is gone."""

    async def watch_once(self, target: Ref, on_down: Callable[[Down], None]) -> int:
        """Call back when a process ends; in force when this returns."""

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once everything that was posted by now has arrived where it was for, or cannot arrive."""

    def stop_process(self, target: Ref, reason: ExitReason) -> None:
        """Ask another process to end."""

    def call_then(
        self, target: Target, request: Any, function: Callable[[Any, Exception | None], object], timeout: float | None
    ) -> None:
        """Ask, and call `function(reply, error)` with the answer."""

    def cast(self, target: Target, message: Any) -> None:
        """Send a cast."""

    def send(self, target: Target, message: Any) -> None:
        """Send a message to handle_info."""

    def reply(self, caller: Caller, value: Any) -> None:
        """Answer a call, once."""

    def when_given_up(self, caller: Caller, tell: Callable[[], object]) -> None:
        """Call back when a caller waits no more."""

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer a call by an error."""

    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Deliver a message to handle_info later."""

    def monitor(self, target: Target) -> int:
        """Watch a process."""

    def demonitor(self, number: int, flush: bool = False) -> None:
        """Forget a monitor."""

    def unlink(self, target: Ref) -> None:
        """Undo a link."""

    def exit(self, target: Ref, reason: ExitReason) -> None:
        """Send an exit signal."""

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task whose crash is the server's."""


#: A server's engine is kept under this attribute, which a subclass does not take by accident.
ENGINE = "_supervisors_engine"


def engine_of(server: Any) -> Engine:
    """Return the engine of a GenServer: for the servers and handles of this library, and not for users."""
    engine: Engine = getattr(server, ENGINE)
    return engine


async def supervise(server: Inside, supervisor: Target, name: str, argument: Any) -> Any:
    """Make an administration call to a supervisor, as `server`.

    Raises:
        SpecError: `supervisor` is no process.
    """
    check_target(supervisor, "supervisor")
    return await engine_of(server).supervise(supervisor, name, argument)
