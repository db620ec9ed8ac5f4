"""How an actor hears of settings: it follows paths, and is told what holds there whenever that changes.

::

    def init(self):
        self.max_age = 7 * 86_400.0                    # the default, until it is told something else
        follow(self, "infrastructure.events")

    def handle_info(self, message):
        match message:
            case ConfigChanged("infrastructure.events.max_age", value):
                self.max_age = value

Nobody is asked: the actor begins with the defaults, and the configuration tells it what is different as soon as it can;
it is started only where something is different. Who follows what is in files of the node's folder, so that a
configuration actor that comes later, or comes back, knows it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from dspex_actors.foundation.files import write_whole
from supervisors import GenServer, Ref, message
from supervisors.host import processes

#: The registered name of the node's configuration actor.
CONFIG = "config"
_FOLDER = "followers"


@message(70)
@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """A setting that a process follows has another value. It comes to handle_info.

    After a crash of the configuration actor it may come again: it says what holds, not what to do.

    Args:
        path: of the setting.
        value: what holds now.
        old: what held before; where it is told what differs from the default, the default.
        version: of the configuration; it only grows.
    """

    VERSION: ClassVar[int] = 1

    path: str
    value: Any
    old: Any
    version: int


@message(71)
@dataclass(frozen=True, slots=True)
class Follow:
    """A process follows paths. A cast to the configuration actor, which tells it what differs from the defaults.

    Args:
        ref: who.
        prefixes: paths of settings or sections.
    """

    VERSION: ClassVar[int] = 1

    ref: Ref
    prefixes: list[str]


def follow(server: GenServer, *prefixes: str) -> None:
    """Have a server told, by `ConfigChanged`, what holds at or below these paths; call it in `init`.

    Args:
        server: who is told.
        *prefixes: paths of settings or sections, such as "infrastructure.events".
    """
    folder = _folder(server.node["data_dir"])
    # A process that comes again under its name takes the place of the one before.
    file = folder / f"{quote(str(server.name or server.ref.uid), safe='')[:150]}.json"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(file, json.dumps({"ref": asdict(server.ref), "prefixes": prefixes}).encode())
    except OSError as error:  # a full disk: what it does matters more than that it hears of a later change
        server.log.error("a configuration that is started later will not know who follows it", error=str(error))
    server.cast(CONFIG, Follow(server.ref, list(prefixes)))


def followers(data_dir: str | Path) -> Iterator[Follow]:
    """Give those who follow something on a node, as far as they live; forget the others.

    Args:
        data_dir: the node's folder.
    """
    for file in sorted(_folder(data_dir).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(file.read_text())
            ref = Ref(**found["ref"])
            if processes.has_ended(ref.pid, ref.born):
                file.unlink()
            else:
                yield Follow(ref, [str(prefix) for prefix in found["prefixes"]])


def _folder(data_dir: str | Path) -> Path:
    return Path(data_dir) / "run" / _FOLDER
