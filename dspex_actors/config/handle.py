"""`system.config`: the configuration of a node, as a program outside has it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from dspex_actors.config.actor import config_spec
from dspex_actors.config.core import only
from dspex_actors.config.messages import Changes, Explain, Get, Reset, Update
from dspex_actors.config.paths import Path, parse
from dspex_actors.config.sources import lm_of
from dspex_actors.errors import ConfigError, from_record
from dspex_actors.foundation.following import CONFIG, ConfigChanged
from dspex_actors.lm.lm import LM
from dspex_actors.observe.away import is_gone
from dspex_actors.observe.branch import ensure_from_program
from supervisors import Node
from supervisors.cluster.telling import Telling
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited

#: An actor that has just died is back in milliseconds; a question is asked again for so long, in seconds.
COME_BACK_SECONDS, PAUSE_SECONDS = 5.0, 0.02
#: A question of whether anything has changed is asked anew this often, in seconds.
WATCH_SECONDS = 30.0
_MISSING: Any = object()
_log = logging.getLogger("dspex_actors.config")

Handler = Callable[[ConfigChanged], Any]


class Explanation(NamedTuple):
    """Where the value of a setting comes from.

    Args:
        path: of the setting.
        value: what holds.
        layer: who says so: default, file, environment, command line or update.
        where: file and line, the variable's name, the option, or the version of the update; of a default nothing.
        description: what it means.
        unit: "s", "bytes", "a minute"; None: it has none.
        bounds: what is legal, in words.
        layers: what each layer says that says anything, lowest first: `layer`, `value`, `where`.
        updated_at: wall-clock seconds of the update; None: it was not updated.
    """

    path: str
    value: Any
    layer: str
    where: str
    description: str
    unit: str | None
    bounds: str
    layers: list[dict[str, Any]]
    updated_at: float | None


class NodeConfig:
    """The configuration of a node; `system.config`. Thread-safe. The actor that keeps it is started on first use."""

    def __init__(self, node: Node) -> None:
        """Use `system.config` instead."""
        self._node = node
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def get(self, path: str = "", default: Any = _MISSING) -> Any:
        """Return what holds at a path.

        Args:
            path: of a setting (`optimisation.copro.breadth`), or of a section; "" is all.
            default: what to return where there is no such path. None given: that is an error.

        Returns:
            A setting's value; a section's as nested dicts. Keys are in it as references (`env:NAME`) only.

        Raises:
            ConfigError: there is no such path; names the nearest one.
        """
        try:
            return self._ask(Get(_text(path)))
        except ConfigError:
            if default is _MISSING:
                raise
            self._ask(Get(""))  # that it cannot be read at all is no reason for a default
            return default

    def update(self, path: str, value: Any) -> int:
        """Set a setting, or several of a section at once. It holds when this returns, for all of the node.

        It stands above all layers, and is kept when the node is started anew; `reset` takes it away. Actors and
        programs that follow it are told.

        Args:
            path: of a setting or section.
            value: what is to hold; of a section nested dicts.

        Returns:
            The version of the configuration; it only grows.

        Raises:
            ConfigError: there is no such path, or the value is not legal together with the rest: nothing has changed.
        """
        return self._ask(Update(_text(path), _plain(path, value)))  # type: ignore[no-any-return]

    def reset(self, path: str) -> int:
        """Forget what was updated at or below a path, so that the layers below hold again; return the version.

        Raises:
            ConfigError: there is no such path.
        """
        return self._ask(Reset(_text(path)))  # type: ignore[no-any-return]

    def explain(self, path: str) -> Explanation:
        """Return where the value of a setting comes from, what it means and what is legal.

        Raises:
            ConfigError: there is no such setting.
        """
        return Explanation(**only(self._ask(Explain(_text(path))), path))

    def explain_all(self, prefix: str = "") -> list[Explanation]:
        """Return the same for each setting at or below a path.

        Raises:
            ConfigError: there is no such path.
        """
        return [Explanation(**each) for each in self._ask(Explain(_text(prefix)))]

    def path(self, text: str) -> Path:
        """Return the path that a text means, in its parts; an LM's name with a dot in it is one of them.

        Raises:
            ConfigError: there is nothing; names the nearest one.
        """
        return parse(text, self.get("lm"))

    def lm(self, name: str) -> LM:
        """Return the LM of a table `[lm.NAME]`, as it is now.

        Raises:
            ConfigError: there is none of this name.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"the name of an LM is invalid: got {name!r:.60}, expected a text")
        return lm_of(name, self._ask(Get(f'lm."{name}"')), "configuration")

    def subscribe(self, prefix: str, handler: Handler) -> Subscription:
        """Have a function called with a `ConfigChanged` for each change at or below a path from now on, in order.

        It is called in a thread of its own; one that is async, in the event loop in which this is called. What it
        raises is logged; after 10 failures in a row it is not called any more.

        Args:
            prefix: path of a setting or section; "" is all.
            handler: gets a `ConfigChanged` (`version, path, old, value`).

        Raises:
            ConfigError: there is no such path, or the handler is no function.
        """
        if not callable(handler):
            raise ConfigError(f"the handler is invalid: got {type(handler).__name__}, expected a function")
        version, _ = self._ask(Changes(_text(prefix), None))
        subscription = Subscription(self, prefix, handler, version)
        self._subscriptions.add(subscription)
        return subscription

    # --- from an event loop -----------------------------------------------------------------------------------------

    async def aget(self, path: str = "", default: Any = _MISSING) -> Any:
        """Do what `get` does, from an event loop."""
        return await asyncio.to_thread(self.get, path, default)

    async def aupdate(self, path: str, value: Any) -> int:
        """Do what `update` does, from an event loop."""
        return await asyncio.to_thread(self.update, path, value)

    async def areset(self, path: str) -> int:
        """Do what `reset` does, from an event loop."""
        return await asyncio.to_thread(self.reset, path)

    async def aexplain(self, path: str) -> Explanation:
        """Do what `explain` does, from an event loop."""
        return await asyncio.to_thread(self.explain, path)

    # --- inside -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in list(self._subscriptions):
            subscription.cancel()

    def _ask(self, request: Any, timeout: float = 10.0) -> Any:
        """Ask the actor; a request says the same when it is made twice, so one that died under it is asked again."""
        until = time.monotonic() + COME_BACK_SECONDS
        while True:
            try:
                kind, value = self._node.call(CONFIG, request, timeout)
            except (NoProcess, ServerExited, NodeDown) as error:
                if time.monotonic() > until or (isinstance(error, NodeDown) and is_gone(self._node)):
                    raise
                if isinstance(error, NoProcess):
                    ensure_from_program(self._node, config_spec())
                else:
                    time.sleep(PAUSE_SECONDS)
                continue
            if kind == "error":
                raise from_record(value)
            return value


class Subscription(Telling):
    """A function that is told of changes; made by `subscribe`."""

    def __init__(self, config: NodeConfig, prefix: str, handler: Handler, version: int) -> None:
        """Begin after a version."""
        super().__init__(handler, f"the handler of {prefix!r}", _log, error=ConfigError)
        self._config, self._prefix, self._version = config, prefix, version
        self._start(f"dspex config {prefix}")

    def __repr__(self) -> str:
        """Show what it is told of, and whether it is."""
        return f"<Subscription to {self._prefix or 'all settings'}, {'active' if self.active else 'ended'}>"

    def _news(self) -> list[tuple[str, ConfigChanged]]:
        try:
            # Where the node was away and comes back, it knows what has changed meanwhile.
            self._version, changes = self._config._ask(Changes(self._prefix, self._version), WATCH_SECONDS)
        except CallTimeout:
            return []  # nothing has changed
        except ConfigError as error:
            _log.error("the subscription to %r of the configuration has ended: %s", self._prefix, error)
            self.cancel()
            return []
        return [(change.path, change) for change in (ConfigChanged(*each) for each in changes)]


def _text(path: Any) -> str:
    if not isinstance(path, str):
        raise ConfigError(
            f"the path is invalid: got {type(path).__name__}, expected a text such as 'optimisation.copro.breadth'"
        )
    return path


def _plain(path: str, value: Any) -> Any:
    """Return a value if it is plain data; anything else would be code that runs in the node."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(
            f"{path} is invalid: got {type(value).__name__}, expected plain data, as JSON has it"
        ) from None
