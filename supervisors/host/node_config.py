"""What a daemon is started with.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import asdict, dataclass, field
from typing import Any

from supervisors.terms.errors import SpecError


@dataclass
class NodeConfig:
    """What a daemon is started with.

    Args:
        name: the node's name.
        data_dir: its folder.
        host: address that everything binds to.
        port: the door's port; 0 picks a free one.
        app: `module:function` that returns the ChildSpecs under root, given `app_config` and the incarnation.
        app_config: plain data for it.
        preload: modules to import before anything is forked, so that children start fast and share memory.
        temporary: remove data_dir at the end.
        level: least log level.
        foreground: keep the terminal's standard streams.

    Raises:
        SpecError: a field that cannot be; names it, its value and what is legal.
    """

    name: str
    data_dir: str
    host: str = "127.0.0.1"
    port: int = 0
    app: str | None = None
    app_config: dict[str, Any] = field(default_factory=dict)
    preload: list[str] = field(default_factory=list)
    temporary: bool = False
    level: str = "info"
    foreground: bool = False

    def __post_init__(self) -> None:
        """Refuse what no daemon could start with; a host's name becomes its address."""
        if not isinstance(self.name, str) or not self.name:
            raise SpecError(f"name={self.name!r}: expected a non-empty text")
        if not isinstance(self.port, int) or isinstance(self.port, bool) or not 0 <= self.port <= 65535:
            raise SpecError(f"port={self.port!r}: expected 0 (any free one) to 65535")
        try:
            address = ipaddress.IPv4Address(socket.gethostbyname(self.host))
        except (OSError, TypeError, ValueError):
            raise SpecError(f"host={self.host!r}: expected an IPv4 address of this host, or its name") from None
        if address.is_unspecified or address.is_multicast:
            raise SpecError(f"host={self.host!r}: expected the address of one interface, which others reach")
        self.host = str(address)

    def to_json(self) -> str:
        """Return it as text for the daemon's config file."""
        return json.dumps(asdict(self))
