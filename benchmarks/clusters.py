"""Nodes of a cluster on this host, for benchmarks: each at a loopback address and over a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dspex_actors.app import AppConfig, started_as
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.opening import set_place
from supervisors import Node
from supervisors.cluster.handle import Cluster
from supervisors.host import processes
from supervisors.wire.keys import KEY_FILE


def start(
    folder: Path,
    number: int,
    first: Node | None,
    *,
    net: str,
    role: str = "full",
    replicas: int | None = None,
    journal: str | None = None,
) -> Node:
    """Start a node, `node-NUMBER` at NET.NUMBER, that joins the first one.

    Args:
        folder: where its folder is made.
        number: from 1.
        first: the node to join; None: it is the first.
        net: the first three numbers of its address.
        role: full or worker.
        replicas: nodes that are to have each run.
        journal: address of the journal that all of them have; None: each its own.
    """
    place = folder / f"node-{number}"
    place.mkdir(mode=0o700)
    if journal is not None:
        set_place(place, journal)
    if first is not None:
        shutil.copy(first.data_dir / KEY_FILE, place / KEY_FILE)
    return Node.start(
        name=f"node-{number}",
        host=f"{net}.{number}",
        data_dir=place,
        home=HOME,
        app_config=AppConfig(workers=1, replicas=replicas).to_dict(),
        join=None if first is None else first.info["address"],
        role=role,
        **started_as(role, 1),
    )


@contextlib.contextmanager
def cluster(folder: Path, count: int, *, net: str, first: int = 1, replicas: int | None = None) -> Iterator[list[Node]]:
    """Give so many nodes, numbered from `first` on, that know each other."""
    nodes: list[Node] = []
    try:
        for number in range(first, first + count):
            nodes.append(start(folder, number, nodes[0] if nodes else None, net=net, replicas=replicas))
        while sum(member.takes_work for member in Cluster(nodes[0]).members()) < count:
            time.sleep(0.05)
        yield nodes
    finally:
        for node in nodes:
            node.close()


def kill(nodes: Iterable[Node]) -> None:
    """Kill every process of nodes, of all of them at once."""
    daemons = [node.info["pid"] for node in nodes]
    for pid in [pid for daemon in daemons for pid in (daemon, *processes.descendants(daemon))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
