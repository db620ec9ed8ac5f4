"""`dspex.via`: a name under which a server is started and found as a service."""

from __future__ import annotations

from typing import Any

from dspex_actors.client.system import current_system
from dspex_actors.errors import ConfigError
from dspex_actors.services import names
from supervisors import Via


def via(namespace: str, name: str, **metadata: Any) -> Via:
    """Return a name under which a server is started and found as a service, and a target of calls to it.

        ChildSpec("search", Search, name=dspex.via("tools", "search", capabilities=["search"]))

    Each time the server is started it is entered anew. Where a node is connected its registry of services is started.

    Args:
        namespace: what kind it is.
        name: which one of these.
        **metadata: plain data, as `system.services.register` takes them.

    Raises:
        ConfigError: an argument is not usable.
    """
    try:
        system = current_system()
    except ConfigError:
        return names.via(namespace, name, **metadata)
    return system.services.via(namespace, name, **metadata)
