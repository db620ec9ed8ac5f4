"""What the daemon does for the cluster before the node runs: it counts its starts, and asks whether it may join."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supervisors.cluster.membership import file
from supervisors.cluster.membership.asking import OtherVersion, ask_door
from supervisors.cluster.membership.messages import Member
from supervisors.cluster.membership.table import SAME_FOLDER, Known, row_of
from supervisors.terms.errors import CallTimeout, NodeDown, NotAllowed, SupervisorsError
from supervisors.wire import door_protocol as protocol
from supervisors.wire.frames import FrameCodec

#: How long the question may take, in seconds: the membership there may have to be started.
JOIN_SECONDS = 20.0
#: So many are asked whether a node may come back, each for so long. Whether its data folder was copied is asked again
#: after a pause, for longer than they take to see that a node is down.
OTHERS_ASKED, ASK_SECONDS, TWIN_PAUSE, TWIN_SECONDS = 3, 2.0, 0.5, 8.0


def begin_run(data_dir: Path, node: Mapping[str, Any]) -> None:
    """Count this run of a node, alone or not: its incarnation is on the disk before anything of it runs.

    Raises:
        SpecError, OSError: the folder's cluster.json cannot be used.
    """
    file.save(data_dir, file.load(data_dir).begun(node))


def port_of(data_dir: Path) -> int:
    """Return the port that a node's door had last, where others may know it; else 0.

    Raises:
        SpecError: the folder's cluster.json cannot be used.
    """
    kept = file.load(data_dir)
    return kept.port if kept.stays else 0


async def ask_to_join(data_dir: Path, key: bytes, where: str, node: Mapping[str, Any], log: Any) -> str | None:
    """Ask a node whether this one may join its cluster.

    Args:
        data_dir: of this node.
        key: the cluster key.
        where: "host:port" of the node that is asked.
        node: what is known of this one.
        log: of the daemon.

    Returns:
        `where`; None: nobody is there, and this node is in a cluster already, whose other members it looks for.

    Raises:
        SupervisorsError: why not; NodeDown where nobody answers, or it has another key; what `check_others` raises.
    """
    if where == node["address"]:
        raise NotAllowed("that is this node itself: give the address of a node of the cluster")
    kept = file.load(data_dir)
    me = file.own_member(node, kept)
    host, _, port = where.rpartition(":")
    try:
        about, _ = await ask_door(
            FrameCodec(key), (host, int(port)), protocol.JOIN, row_of(Known(me)), seconds=JOIN_SECONDS
        )
    except (NodeDown, CallTimeout) as error:
        # A node that is always started with --join comes back while that one is away, too; a wrong key is no such case.
        if not kept.members or (isinstance(error, NodeDown) and error.__cause__ is None):
            raise
        log.warning("the node that is to be joined is away: this one looks for the others", why=error.message)
        await check_others(data_dir, key, node)
        return None
    log.info("this node may join", node=about["name"], address=where)
    return where


async def check_others(data_dir: Path, key: bytes, node: Mapping[str, Any]) -> None:
    """Ask some of those who were there last whether this node may come back.

    It may not where the node of this folder is up at another address, or where they speak another version. One that
    was started again on another address was just now: it is waited until it is down for them.

    Args:
        data_dir: of this node.
        key: the cluster key.
        node: what is known of this one.

    Raises:
        NotAllowed: the data folder was copied.
        OtherVersion: another release runs there.
    """
    kept = file.load(data_dir)
    asked = random.sample(kept.members, min(OTHERS_ASKED, len(kept.members)))
    codec, row = FrameCodec(key), row_of(Known(file.own_member(node, kept)))
    until = time.monotonic() + TWIN_SECONDS
    while asked:
        told = await asyncio.gather(*(_twin(codec, member, row) for member in asked))
        why = next(filter(None, told), None)
        if why is None:
            return
        if time.monotonic() > until:
            raise NotAllowed(why)
        await asyncio.sleep(TWIN_PAUSE)


async def _twin(codec: FrameCodec, member: Member, row: list[Any]) -> str | None:
    try:
        await ask_door(codec, (member.host, member.port), protocol.JOIN, row, seconds=ASK_SECONDS)
    except OtherVersion as error:
        raise OtherVersion(f"cannot come back to {member.name} at {member.address}: {error.message}") from None
    except NotAllowed as error:
        return error.message if error.message.startswith(SAME_FOLDER) else None
    except SupervisorsError:
        pass  # it is away, or busy
    return None
