"""The settings of a node, checked before anything is started.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import dataclass, field
from typing import Any

from supervisors.terms.checks import check_address, check_choice, check_flag, check_texts, is_text
from supervisors.terms.errors import SpecError

#: What a node does: everything, or only what it is given.
FULL, WORKER = ROLES = ("full", "worker")
#: How long the name of a node of a cluster may be, and how many bytes its labels: they go with each datagram.
MAX_NAME, MAX_LABELS = 64, 300
LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass
class NodeConfig:
    """What a daemon is started with.

    Args:
        name: the node's name.
        data_dir: its folder.
        host: the IPv4 address, or the name, that every process of the node binds to.
        port: the door's port; 0 picks a free one.
        app: `module:function`. The function is given `app_config` and the node's information (a dict), and returns the
            ChildSpecs that stand under the root.
        app_config: plain data for that function.
        preload: modules that are imported before the first fork: children start faster and share their memory.
        temporary: whether data_dir is removed at the end.
        level: the least log level that is written: debug, info, warning, error or critical.
        foreground: whether the daemon keeps the standard streams of its terminal.
        join: "host:port" of a node whose cluster this one joins; None: that which it belongs to, if any.
        role: `full`, or `worker`: one that only runs what it is given. Its app's children are started when somebody
            outside looks for their registered names.
        labels: what it is or has, for those who choose nodes (`{"gpu": "1"}`): up to 300 bytes in all.

    Raises:
        SpecError: a field has an illegal value. The message names the field, the value and what is legal.
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
    join: str | None = None
    role: str = "full"
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields, and replace a host's name by its address."""
        if not isinstance(self.name, str) or not self.name:
            raise SpecError(f"name={self.name!r}: expected a non-empty text")
        if len(self.name) > MAX_NAME:
            raise SpecError.of("name", self.name, f"at most {MAX_NAME} characters")
        if not isinstance(self.data_dir, str) or not (self.data_dir or self.temporary) or "\0" in self.data_dir:
            raise SpecError(f"data_dir={self.data_dir!r}: expected the path of a folder")
        self._check_app()
        check_choice("level", self.level, LEVELS)
        check_flag("temporary", self.temporary)
        check_flag("foreground", self.foreground)
        if not isinstance(self.port, int) or isinstance(self.port, bool) or not 0 <= self.port <= 65535:
            raise SpecError(f"port={self.port!r}: expected 0 (any free one) to 65535")
        try:
            address = ipaddress.IPv4Address(socket.gethostbyname(self.host))
        except (OSError, TypeError, ValueError):
            raise SpecError(f"host={self.host!r}: expected an IPv4 address of this host, or its name") from None
        if address.is_unspecified or address.is_multicast:
            raise SpecError(f"host={self.host!r}: expected the address of one interface, which others reach")
        self.host = str(address)
        self._check_cluster()

    def _check_cluster(self) -> None:
        check_choice("role", self.role, ROLES)
        labels = self.labels
        if not isinstance(labels, dict) or not all(is_text(part) for pair in labels.items() for part in pair):
            raise SpecError.of("labels", labels, "a dict of texts")
        if sum(len(part.encode()) for pair in labels.items() for part in pair) > MAX_LABELS:
            raise SpecError.of("labels", labels, f"at most {MAX_LABELS} bytes in all")
        if self.join is None:
            return
        host, _, port = check_address("join", self.join).rpartition(":")
        try:
            self.join = f"{socket.gethostbyname(host)}:{port}"
        except (OSError, ValueError):
            raise SpecError.of("join", self.join, "HOST:PORT with the name or IPv4 address of a host") from None

    def _check_app(self) -> None:
        module, _, function = self.app.partition(":") if isinstance(self.app, str) else ("", "", "")
        if self.app is not None and not (module and function):
            raise SpecError.of("app", self.app, "module:function, or None")
        self.preload = list(check_texts("preload", self.preload))
        try:
            if not isinstance(self.app_config, dict):
                raise TypeError
            json.dumps(self.app_config)
        except (TypeError, ValueError, RecursionError):
            raise SpecError.of("app_config", self.app_config, "a dict of plain data, as JSON has it") from None
