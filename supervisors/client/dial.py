"""Dialling the node of a data folder: its address and key are there, and those of last time where they are not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisors.client.door_client import DoorClient, KeyRefused, Watcher
from supervisors.client.home import HOME, Home
from supervisors.client.launch import node_runs, read_node_file
from supervisors.cluster.handle import where_else
from supervisors.host import processes
from supervisors.terms.errors import NodeDown
from supervisors.wire.clock import Clock
from supervisors.wire.keys import KEY_FILE, KeyFileError, load_key

#: How long a node that does not answer is tried again, how often, and how many refusals are no accident.
CONNECT_SECONDS, PAUSE_SECONDS, MAX_REFUSALS = 5.0, 0.1, 4
#: How long a node of another host has to answer.
OTHER_SECONDS = 2.0


@dataclass(frozen=True)
class Dialled:
    """A connection, and what it was made with."""

    client: DoorClient
    node: dict[str, Any]
    key: bytes


def dial(
    folder: Path,
    home: Home = HOME,
    last: Dialled | None = None,
    lost: Callable[[DoorClient, list[Watcher]], None] | None = None,
) -> Dialled:
    """Dial the node of a folder; a node that is being brought back is waited for.

    Args:
        folder: the data folder.
        home: for the words of messages.
        last: what was dialled before: used where the folder is gone from under a node that runs.
        lost: see DoorClient.

    Raises:
        NodeDown: no node answers; the message says why and what to do.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    refusals = 0
    while True:
        alive = True
        try:
            node, key = _read(folder, home, last)
            host, _, port = node["address"].rpartition(":")
            alive = _alive(node["pid"])
            return Dialled(DoorClient(host, int(port), key, Clock(node.get("clock")), lost=lost), node, key)
        except KeyRefused:
            refusals += 1
            if refusals >= MAX_REFUSALS:
                raise
        except _FolderError as error:
            # Its daemon writes again what is missing.
            if time.monotonic() > deadline or not node_runs(folder):
                raise NodeDown(f"{error.message}{where_else(folder)}") from None
        except NodeDown as error:
            if time.monotonic() > deadline or not alive:
                raise NodeDown(f"{error.message}; data folder {folder}: {home.repair}{where_else(folder)}") from None
        time.sleep(PAUSE_SECONDS)


def dial_other(address: str, folder: Path, lost: Callable[[DoorClient, list[Watcher]], None] | None = None) -> Dialled:
    """Dial another node of the cluster to which a folder's node belongs, with that one's key; once.

    Args:
        address: of its door, "host:port".
        folder: a data folder of this host.
        lost: see DoorClient.

    Raises:
        NodeDown: it does not answer, or has another key.
    """
    key = _read_key(folder)
    host, _, port = address.rpartition(":")
    client = DoorClient(host, int(port), key, timeout=OTHER_SECONDS, lost=lost)
    return Dialled(client, client.node, key)


class _FolderError(NodeDown):
    """The folder does not tell how to talk to its node."""


def _read(folder: Path, home: Home, last: Dialled | None) -> tuple[dict[str, Any], bytes]:
    try:
        return read_node_file(folder, home), _read_key(folder)
    except NodeDown as error:
        if last is not None and _alive(last.node["pid"]):
            return last.node, last.key
        raise _FolderError(error.message) from None


def _read_key(folder: Path) -> bytes:
    try:
        key = load_key(folder)
    except (KeyFileError, OSError) as error:
        raise NodeDown(str(error)) from None
    if key is None:
        raise NodeDown(f"{folder} has no {KEY_FILE}: copy the key of the node that runs there")
    return key


def _alive(pid: int) -> bool:
    # One that waits to be collected (in a container often for ever) is not alive.
    return not processes.has_ended(pid, 0)
