"""What a daemon is started with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


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

    def to_json(self) -> str:
        """Return it as text for the daemon's config file."""
        return json.dumps(asdict(self))
