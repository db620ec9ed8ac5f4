"""`system.services`: the services of a node, as a program outside has them."""
# ruff: noqa: ASYNC109 - `timeout` is as `health` names it

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from dspex_actors.config.handle import NodeConfig
from dspex_actors.config.schema import ServiceHealth
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.following import CONFIG
from dspex_actors.names import SERVICES
from dspex_actors.observe.away import is_gone
from dspex_actors.observe.branch import ensure_from_program
from dspex_actors.services.actor import services_spec
from dspex_actors.services.names import check_key, check_metadata, check_text, via
from supervisors import Node, Ref, Via
from supervisors.errors import AlreadyRegistered, CallFailed, CallTimeout, NodeDown, NoProcess, ServerExited

#: The registry that has just died is back in milliseconds; it is asked again for so long, in seconds.
COME_BACK_SECONDS, PAUSE_SECONDS = 5.0, 0.02
#: So many services are asked for their health at the same time.
ASKED_AT_ONCE = 32

OK, SLOW, UNHEALTHY, NOT_ANSWERING, DEAD, UNKNOWN = "ok", "slow", "unhealthy", "not answering", "dead", "unknown"


class Service(NamedTuple):
    """Somebody who does something on the node.

    Args:
        namespace: what kind it is.
        name: which one of these.
        ref: the process.
        metadata: plain data; `capabilities` is a list of what it can be asked for.
    """

    namespace: str
    name: str
    ref: Ref
    metadata: dict[str, Any]


class Health(NamedTuple):
    """How a service is.

    Args:
        namespace: of the service.
        name: of the service.
        ref: the process.
        metadata: of the service.
        state: "ok"; "slow": it answers, but late; "unhealthy": it says so itself; "not answering": it lives and does
            not answer in time; "dead"; "unknown": it was to be asked for its health, and does not know the question.
        latency: seconds until it answered; None: it did not.
        why: what it says itself, or what went wrong; None: nothing.
    """

    namespace: str
    name: str
    ref: Ref
    metadata: dict[str, Any]
    state: str
    latency: float | None
    why: str | None


class NodeServices:
    """The services of a node; `system.services`. Thread-safe. Their registry is started on first use."""

    def __init__(self, node: Node) -> None:
        """Use `system.services` instead."""
        self._node = node
        self._config = NodeConfig(node)

    def register(self, namespace: str, name: str, ref: Ref | str, metadata: Mapping[str, Any] | None = None) -> Ref:
        """Enter a service; its entry goes with its process.

        A server that is started by a supervisor has its entry again after each restart where its ChildSpec's `name` is
        `dspex.via(namespace, name)`.

        Args:
            namespace: what kind it is: "tools", "retrievers".
            name: which one of these.
            ref: the process, or its registered name.
            metadata: plain data. `capabilities`: a list of what it can be asked for. `health=True`: it answers the
                call "health" by True, by False, or by a dict with `ok` and `why`.

        Returns:
            The process.

        Raises:
            ConfigError: an argument is not usable.
            AlreadyRegistered: somebody has this name (`.ref`), maybe this process itself.
            NoProcess: the process has ended.
        """
        key = check_key(namespace, name)
        found = self._node.whereis(ref) if isinstance(ref, str) and ref else ref
        if isinstance(ref, str) and found is None:
            raise NoProcess(f"no process is registered as {ref!r:.100} on this node")
        if not isinstance(found, Ref):
            raise ConfigError(
                f"the ref of {namespace}/{name} is invalid: got {type(ref).__name__}, "
                "expected a Ref or a registered name"
            )
        return self._ask(("register", key, found, check_metadata(key, metadata)))  # type: ignore[no-any-return]

    def unregister(self, namespace: str, name: str) -> None:
        """Remove an entry, if it is there; the process goes on.

        Raises:
            ConfigError: an argument is not usable.
        """
        key = check_key(namespace, name)
        for ref, _ in self._ask(("lookup", key)):
            self._ask(("unregister", key, ref))

    def lookup(self, namespace: str, name: str) -> Ref | None:
        """Return the process of a service; None: there is none, or it has ended.

        Raises:
            ConfigError: an argument is not usable.
        """
        return self._ask(("entry", *check_key(namespace, name)))  # type: ignore[no-any-return]

    def find(self, capability: str | None = None, namespace: str | None = None) -> list[Service]:
        """Return the services that can do something, in order of their names.

        Args:
            capability: what stands in the list `capabilities` of their metadata; None: anything.
            namespace: of one kind only; None: of all.

        Raises:
            ConfigError: an argument is not usable.
        """
        for what, given in (("capability", capability), ("namespace", namespace)):
            if given is not None:
                check_text(what, given)
        rows = [Service(*row) for row in self._ask(("entries", namespace))]
        return [row for row in rows if capability is None or capability in _capabilities(row.metadata)]

    def health(
        self, namespace: str | None = None, timeout: float | None = None, slow: float | None = None
    ) -> list[Health]:
        """Ask all services how they are, many at a time.

        Each process is asked whether it is there, between two of its messages; one whose metadata have `health=True`
        is called with "health" besides.

        Args:
            namespace: of one kind only; None: of all.
            timeout: seconds; one that answers later does not answer. None: as `infrastructure.services.timeout`.
            slow: seconds; one that answers later is slow. None: as `infrastructure.services.slow`.

        Raises:
            ConfigError: an argument is not usable.
        """
        limits = self._limits()
        timeout = limits["timeout"] if timeout is None else timeout
        slow = limits["slow"] if slow is None else slow
        for what, seconds in (("timeout", timeout), ("slow", slow)):
            if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds <= 3600:
                raise ConfigError(f"{what} is invalid: got {seconds!r:.40}, expected seconds, above 0, at most 3600")
        services = self.find(namespace=namespace)
        if not services:
            return []
        with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(services))) as threads:
            return list(threads.map(lambda service: self._health(service, timeout, slow), services))

    def via(self, namespace: str, name: str, **metadata: Any) -> Via:
        """Return a name for a ChildSpec, or a target of calls: the service under it; see `dspex.via`."""
        name_of = via(namespace, name, **metadata)
        self._ask(("count",))  # the registry is there before somebody starts under the name
        return name_of

    # --- from an event loop -----------------------------------------------------------------------------------------

    async def aregister(
        self, namespace: str, name: str, ref: Ref | str, metadata: Mapping[str, Any] | None = None
    ) -> Ref:
        """Do what `register` does, from an event loop."""
        return await asyncio.to_thread(self.register, namespace, name, ref, metadata)

    async def aunregister(self, namespace: str, name: str) -> None:
        """Do what `unregister` does, from an event loop."""
        await asyncio.to_thread(self.unregister, namespace, name)

    async def alookup(self, namespace: str, name: str) -> Ref | None:
        """Do what `lookup` does, from an event loop."""
        return await asyncio.to_thread(self.lookup, namespace, name)

    async def afind(self, capability: str | None = None, namespace: str | None = None) -> list[Service]:
        """Do what `find` does, from an event loop."""
        return await asyncio.to_thread(self.find, capability, namespace)

    async def ahealth(
        self,
        namespace: str | None = None,
        timeout: float | None = None,
        slow: float | None = None,
    ) -> list[Health]:
        """Do what `health` does, from an event loop."""
        return await asyncio.to_thread(self.health, namespace, timeout, slow)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _ask(self, request: Any) -> Any:
        until = time.monotonic() + COME_BACK_SECONDS
        refusals, is_again = 0, False
        while True:
            try:
                return self._node.call(SERVICES, request, 10.0)
            except AlreadyRegistered as error:
                if is_again and error.ref == request[2]:  # what died with the first answer was written down
                    return error.ref
                raise
            except NoProcess:
                # It may be the registry that is not there, or the process that is to be entered.
                refusals += self._node.whereis(SERVICES) is not None
                if time.monotonic() > until or (request[0] == "register" and refusals > 1):
                    raise
                ensure_from_program(self._node, services_spec())
            except (ServerExited, NodeDown) as error:
                if time.monotonic() > until or (isinstance(error, NodeDown) and is_gone(self._node)):
                    raise
                is_again = True
                time.sleep(PAUSE_SECONDS)

    def _limits(self) -> dict[str, float]:
        """Return what is slow, and what is no answer; nothing is started to learn it."""
        if self._node.whereis(CONFIG) is None:
            return ServiceHealth().model_dump()
        return self._config.get("infrastructure.services")  # type: ignore[no-any-return]

    def _health(self, service: Service, timeout: float, slow: float) -> Health:
        began = time.monotonic()
        state, why = OK, None
        try:
            self._node.ping(service.ref, timeout)
            if service.metadata.get("health") is True:
                left = max(0.001, began + timeout - time.monotonic())
                state, why = _judged(self._node.call(service.ref, "health", left))
        except (NoProcess, ServerExited) as error:
            return Health(*service, DEAD, None, str(error))
        except (CallTimeout, NodeDown) as error:
            return Health(*service, NOT_ANSWERING, None, str(error))
        except CallFailed as error:
            state, why = UNKNOWN, str(error)
        latency = time.monotonic() - began
        if state == OK and latency > slow:
            state, why = SLOW, f"it took {latency:.2f} s, expected at most {slow:g} s"
        return Health(*service, state, latency, why)


def _judged(answer: Any) -> tuple[str, str | None]:
    """Return the state that an answer to "health" means, and why."""
    why = None
    if isinstance(answer, Mapping):
        why = None if answer.get("why") is None else str(answer["why"])
        answer = answer.get("ok", UNKNOWN)
    if answer is True:
        return OK, why
    if answer is False:
        return UNHEALTHY, why
    return UNKNOWN, f"it answers {answer!r:.100}, expected True, False or a dict with ok"


def _capabilities(metadata: Mapping[str, Any]) -> list[Any]:
    found = metadata.get("capabilities", ())
    return list(found) if isinstance(found, (list, tuple)) else [found]
