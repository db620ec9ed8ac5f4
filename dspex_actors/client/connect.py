"""`connect`: how a program gets its connection to a dspex node.

The host's daemon is used if one runs; else a node of this program's own is started, which is gone when the program
ends. Either way runs are in a journal under DSPEX_HOME and can be listed and resumed later.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path
from typing import Any

from dspex_actors.app import AppConfig
from dspex_actors.client.own_node import start_node
from dspex_actors.client.system import System, use
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import HOME, default_data_dir
from dspex_actors.foundation.telemetry.recorder import check_switch
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.lm.prices import FILE_VARIABLE, told_prices
from dspex_actors.settings import check_lm
from supervisors import Node
from supervisors.errors import NodeDown, SupervisorsError


def connect(
    lm: BaseLM | str | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    embedded: dict[str, Any] | None = None,
) -> System:
    """Connect to the host's node, or start one of this program's own.

    1. If the daemon of `home` runs (`dspex start`), connect to it.
    2. Else start a node in a fresh interpreter, with its journal under `home`/embedded; it goes with this program.
    3. Make `lm` the LM of all programs that have none of their own, and the node the place where LM calls go.

    Args:
        lm: an LM (one of one's own too) or a model string; None: each program brings its own.
        home: data folder; None: DSPEX_HOME or ~/.dspex.
        workers: http workers of an own node; None: one per core, at least 2.
        embedded: settings of an own node's embedded LM (`EmbeddedConfig`): latency_ms, rpm, faults and so on.

    Raises:
        ConfigError: the LM or the data folder is not usable.
    """
    if isinstance(lm, str):
        lm = LM(lm)
    check_lm(lm)
    if os.environ.get(FILE_VARIABLE):
        told_prices()  # a price that is wrong is found before anything is paid
    check_switch()
    app = AppConfig(workers=workers, embedded=embedded or {})
    app.check()
    folder = Path(home) if home is not None else default_data_dir()
    try:
        if (folder / "node.json").exists():
            with contextlib.suppress(NodeDown):
                return use(System(Node.attach(folder, HOME), lm, own=False))
        own = folder / "embedded" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
        return use(System(start_node(own, app), lm, own=True))
    except SupervisorsError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(
            f"the data folder {folder} cannot be used: {error.strerror or error}; set DSPEX_HOME to another one"
        ) from None
