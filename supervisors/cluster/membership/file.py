"""cluster.json in the data folder: who this node is for others, and who was there when it ran last."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from supervisors.cluster.membership.messages import ALIVE, FULL, ROLES, Member
from supervisors.cluster.membership.table import Known, known_of, row_of
from supervisors.terms.errors import SpecError

CLUSTER_FILE = "cluster.json"
#: It is there from when a node leaves its cluster until what it had of that one's leases is given up.
LEFT_FILE = "cluster.left"
#: Where a node is that was told nothing.
USUAL_HOST = "127.0.0.1"
#: `seq` is kept in steps of this many: a membership that is started anew within one run of the node goes on behind it.
STEP = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """What a node knows of itself from one start to the next.

    Args:
        uid: of the data folder.
        incarnation: of the last run.
        run: which run of the node that was.
        seq: no larger one was used.
        state: alive or cordoned.
        name: that it had.
        host: that it was on.
        port: that its door had: it is taken again, so that others find it.
        role: full or worker.
        labels: that it had.
        members: the others.
    """

    uid: str
    incarnation: int = 0
    run: str = ""
    seq: int = 0
    state: str = ALIVE
    name: str = ""
    host: str = ""
    port: int = 0
    role: str = FULL
    labels: dict[str, str] = field(default_factory=dict)
    members: tuple[Member, ...] = ()

    def begun(self, node: Mapping[str, Any]) -> Kept:
        """Return what a membership of a node begins with."""
        # One run of a node from another: the daemon's, and how often it has brought the node back.
        run = f"{node['uid']} {node['incarnation']}"
        if run == self.run:
            return replace(self, seq=self.seq + STEP)
        host, _, port = node["address"].rpartition(":")
        return replace(
            self,
            run=run,
            incarnation=self.incarnation + 1,
            seq=0,
            name=node["name"],
            host=host,
            port=int(port),
            role=node.get("role", FULL),
            labels=dict(node.get("labels", {})),
        )

    @property
    def stays(self) -> bool:
        """Whether the node's next start is to be as its last one: others know it, or it is where they reach it."""
        return bool(self.members or self.host not in ("", USUAL_HOST))


def load(data_dir: Path) -> Kept:
    """Return what is kept in a data folder; where there is nothing, a new uid is made up, and not written.

    Raises:
        SpecError: the file is not what a node writes.
    """
    path = data_dir / CLUSTER_FILE
    try:
        data = json.loads(path.read_text())
        members = tuple(known_of(row).member for row in data.pop("members"))
        kept = Kept(**data, members=members)
        if not (isinstance(kept.uid, str) and kept.uid and isinstance(kept.incarnation, int)):
            raise ValueError("no uid")
        if not (isinstance(kept.host, str) and kept.role in ROLES and isinstance(kept.labels, dict)):
            raise ValueError("no start of a node")
    except FileNotFoundError:
        return Kept(uuid.uuid4().hex[:16])
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise SpecError(
            f"{path} cannot be used ({error}): expected what a node writes about its cluster; remove it, and join again"
        ) from None
    return kept


def is_member(data_dir: Path) -> bool:
    """Whether the node of a folder belongs to a cluster."""
    return bool(load(data_dir).members)


def save(data_dir: Path, kept: Kept) -> None:
    """Write it to the disk.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    data = {item.name: getattr(kept, item.name) for item in fields(kept) if item.name != "members"}
    data["members"] = [row_of(Known(member)) for member in kept.members]
    path = data_dir / CLUSTER_FILE
    draft = path.with_suffix(".new")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(json.dumps(data, indent=1))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def forget(data_dir: Path, kept: Kept) -> None:
    """Belong to no cluster any more, and have that known to what else of one is in the folder."""
    save(data_dir, replace(kept, members=()))
    (data_dir / LEFT_FILE).touch(mode=0o600)


def has_left(data_dir: Path) -> bool:
    """Whether the node of a folder has left a cluster since `settle` was called last."""
    return (data_dir / LEFT_FILE).exists()


def settle(data_dir: Path) -> None:
    """Take note that nothing of the cluster that was left counts any more."""
    (data_dir / LEFT_FILE).unlink(missing_ok=True)


def own_member(node: Mapping[str, Any], kept: Kept) -> Member:
    """Return the node itself, as a member.

    Args:
        node: what is known of it (`GenServer.node`).
        kept: what its folder says.
    """
    host, _, port = node["address"].rpartition(":")
    return Member(
        name=node["name"],
        uid=kept.uid,
        host=host,
        port=int(port),
        incarnation=kept.incarnation,
        role=node.get("role", FULL),
        labels=dict(node.get("labels", {})),
        version=node["version"],
        state=kept.state,
        seq=kept.seq,
    )
