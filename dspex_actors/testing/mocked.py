"""`with_mocked_service`: a fake in the place of a service, for one test."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dspex_actors.client.inputs import code_of
from dspex_actors.client.system import System, current_system
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.runs.spec import load_code
from dspex_actors.services.names import check_key
from supervisors import NO_REPLY, ChildSpec, GenServer, Node, Ref, SupervisorSpec
from supervisors.errors import AlreadyRegistered, CallFailed, NoProcess, SupervisorsError

#: What a `MockedService` asks its actor.
_CALLS = "dspex.testing.calls"


class FakeService(GenServer):
    """Answers calls as a fake says. Argument: the fake, pickled."""

    async def init(self, code: bytes) -> None:
        """Open the fake."""
        self._fake = load_code(code)
        self._calls: list[Any] = []

    async def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer by the fake, and remember what was asked; what it raises is the caller's."""
        if request == _CALLS:
            return self._calls
        self._calls.append(request)
        try:
            answer = self._answer(request)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            self.reply_error(caller, CallFailed(f"the fake raised {type(error).__name__}: {error}"))
            return NO_REPLY

    def handle_cast(self, message: Any) -> None:
        """Remember what was sent."""
        self._calls.append(message)

    def _answer(self, request: Any) -> Any:
        fake = self._fake
        if isinstance(fake, Mapping):
            return fake[request]
        if not hasattr(fake, "handle_call"):
            name, *arguments = request if isinstance(request, tuple) else (request,)
            method = getattr(fake, name, None) if isinstance(name, str) else None
            if callable(method) and not inspect.isroutine(fake):
                return method(*arguments)
            return fake(request)
        return fake.handle_call(request, None)


class MockedService:
    """A fake that stands in the place of a service.

    Args:
        node: the connection.
        ref: its process.
        is_ours: whether it is one that remembers what it was asked.
    """

    def __init__(self, node: Node, ref: Ref, is_ours: bool) -> None:
        """Made by `with_mocked_service`."""
        self._node, self.ref, self._is_ours = node, ref, is_ours

    @property
    def calls(self) -> list[Any]:
        """What it was asked so far, in order.

        Raises:
            ConfigError: the fake is a server of one's own, which has to remember that itself.
        """
        if not self._is_ours:
            raise ConfigError("a server of one's own remembers its calls itself: ask it")
        return list(self._node.call(self.ref, _CALLS))


@contextmanager
def with_mocked_service(
    service: tuple[str, str], fake: Any, *, metadata: Mapping[str, Any] | None = None, system: System | None = None
) -> Iterator[MockedService]:
    """Put a fake in the place of a service of the node; afterwards, whatever happened, the real one is back.

    It is a process of the node, and gets what is asked for under the service's name from now on. Who has looked the
    real one up before goes on asking that. The registries of other nodes are not touched.

    Args:
        service: namespace and name; there need not be a real one.
        fake: a function of the request; an object, whose method is called for the request "name" or ("name", ...); a
            dict, request → reply; or a GenServer class. It goes to the node by value. What a fake raises the caller
            gets as a CallFailed; the fake lives on.
        metadata: of the entry; None: those of the real one.
        system: the connection; None: the current one.

    Yields:
        The fake: `.ref`, and `.calls`, what it was asked.

    Raises:
        ConfigError: an argument is not usable, or the fake cannot be sent or started.
    """
    if not isinstance(service, tuple) or len(service) != 2:
        raise ConfigError(f"the service is invalid: got {service!r:.80}, expected (namespace, name)")
    key = check_key(*service)
    at = current_system() if system is None else system
    is_server = isinstance(fake, type) and issubclass(fake, GenServer)
    if isinstance(fake, type) and not is_server:
        raise ConfigError(f"the fake is invalid: got the class {fake.__name__}, expected an object of it")
    spec = (
        ChildSpec("fake", fake, restart="temporary")
        if is_server
        else ChildSpec("fake", FakeService, args=(code_of(fake, "fake"),), restart="temporary")
    )
    top, ref = _start(at.node, spec)
    before = None
    try:
        before = next((one for one in at.services.find(namespace=key[0]) if one.name == key[1]), None)
        at.services.unregister(*key)
        at.services.register(*key, ref, (before.metadata if before else {}) if metadata is None else metadata)
        yield MockedService(at.node, ref, not is_server)
    finally:
        with contextlib.suppress(SupervisorsError, DspexError):  # the node is gone, and its registry with it
            if at.services.lookup(*key) == ref:
                at.services.unregister(*key)
        if before is not None:
            with contextlib.suppress(AlreadyRegistered, NoProcess):  # it has ended, or is back by itself
                at.services.register(*key, before.ref, before.metadata)
        with contextlib.suppress(SupervisorsError):
            at.node.stop(top)


def _start(node: Node, spec: ChildSpec) -> tuple[Ref, Ref]:
    try:
        top = node.start_supervisor(SupervisorSpec((spec,)))
        ref = node.which_children(top)[0].ref
    except SupervisorsError as error:
        raise ConfigError(f"the fake cannot be started: {error}") from None
    if ref is None:
        raise ConfigError("the fake cannot be started: its init returned IGNORE")
    return top, ref
