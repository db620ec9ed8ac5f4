"""`--replicas` of `dspex start`: what cannot be, what it was the last time, and what `dspex status` says of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.opening import place_of
from dspex_actors.journal.replicas import REPLICAS, check_enough, kept_replicas, too_few
from supervisors import Node
from supervisors.cluster.handle import Cluster, others_of, own_uid
from supervisors.cluster.membership.messages import FULL, Member
from supervisors.errors import NodeDown, SupervisorsError


def check_standbys(folder: Path, replicas: int | None, journal: str | None, join: str | None) -> None:
    """Refuse standbys of runs where there can be none, or not so many.

    Args:
        folder: the node's data folder.
        replicas: how many nodes are to have a run; None: nothing was said.
        journal: where the journal is to be from now on; None: where it is.
        join: whom the node is to join.

    Raises:
        ConfigError: the journal is in a PostgreSQL server; or the cluster, as far as it is known, has fewer full nodes.
    """
    if (replicas or 1) == 1:
        return
    if journal != "sqlite" if journal else place_of(folder) is not None:
        raise ConfigError(
            f"replicas is invalid: got {replicas}, expected 1: runs are in a PostgreSQL server, which all nodes have; "
            "give none, or start with --journal sqlite"
        )
    members = _members(folder, join)
    if members:
        me = own_uid(folder)
        check_enough(replicas or 1, 1 + sum(member.role == FULL and member.uid != me for member in members))


def _members(folder: Path, join: str | None) -> list[Member]:
    """Return who is in the cluster, those that are down among them; nobody where that is not known."""
    if join is not None:
        try:
            with Node.attach(folder, HOME, at=join) as node:
                return Cluster(node).members()
        except SupervisorsError:
            pass  # what is wrong there is told by whoever joins
    return others_of(folder)


def as_kept(folder: Path, replicas: int | None) -> str:
    """Return in words what is so because it was told at an earlier start."""
    kept = kept_replicas(folder) if replicas is None and place_of(folder) is None else None
    return "" if kept is None else f"replicas {kept}"


def check_as_kept(folder: Path, replicas: int | None) -> None:
    """Refuse to start a node that runs already with another number.

    Raises:
        NodeDown: it does.
    """
    runs = kept_replicas(folder) or REPLICAS
    if replicas not in (None, runs) and place_of(folder) is None:
        raise NodeDown(f"the node runs already, with replicas {runs}, not {replicas}: `dspex stop` it first")


def notes_here(node: Node, name: str) -> list[str]:
    """Return what people should know of a node, as its cluster is told; of one alone, too."""
    try:
        members = Cluster(node).members()
    except SupervisorsError:
        return []  # it is just being brought back
    found = [note for member in members if member.name == name for note in member.notes]
    if not found and len(members) == 1:
        with contextlib.suppress(ConfigError):  # the next start says it
            if place_of(node.data_dir) is None:
                return too_few(kept_replicas(node.data_dir), 1)
    return found
