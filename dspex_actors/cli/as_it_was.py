"""What `dspex start` need not be told again: a node that others know, or can reach, is started as it was."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dspex_actors.foundation.home import HOME
from supervisors.cluster.handle import last_start
from supervisors.errors import NodeDown
from supervisors.host.node_config import MAX_NAME, NodeConfig

#: The last four digits of a name tell apart the nodes of one host.
_DIGITS = 5


def told_name(folder: Path, told: str | None, join: str | None) -> str:
    """Return the name of a node: as told, else as it was, else that of its host.

    Several nodes of one host have data folders that are not the usual one: what joins from there is told apart by it.

    Args:
        folder: its data folder.
        told: the name that the command line, a variable or the configuration gives.
        join: whom it is to join.

    Raises:
        UsageError: the cluster knows it under another name.
    """
    last = last_start(folder)
    if last is not None and last.in_cluster and told not in (None, last.name):
        raise click.UsageError(
            f"name is invalid: got {told}, expected {last.name}, as the cluster knows this node: start it without a "
            f"name, or have it leave first with `dspex drain {last.name}`"
        )
    if told is not None or last is not None:
        return told or (last.name if last is not None else "")
    host = socket.gethostname().partition(".")[0]
    if join is None or folder == Path(HOME.default).expanduser():
        return host[:MAX_NAME]
    return f"{host[: MAX_NAME - _DIGITS]}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:4]}"


def as_it_was(
    folder: Path, config: NodeConfig, host: str | None, role: str | None, labels: dict[str, str] | None
) -> tuple[NodeConfig, str]:
    """Return what a node is started with, and in words what of it is so because it was so.

    Args:
        folder: its data folder.
        config: as a node that was never started is.
        host, role, labels: as told now; None: nothing was said.
    """
    last = last_start(folder)
    kept: list[str] = []
    if last is not None:
        if host is None:
            host = last.host
            kept.append(f"host {host}")
        if not config.port and last.port and host == last.host:
            kept.append(f"port {last.port}")
        if role is None and last.role != config.role:
            role = last.role
            kept.append(f"role {role}")
        if labels is None and last.labels:
            labels = last.labels
            kept.append(f"labels {_shown(labels)}")
    config = replace(
        config, host=host or config.host, role=role or config.role, labels=config.labels if labels is None else labels
    )
    return config, ", ".join(kept)


def check_as_it_runs(info: Mapping[str, Any], config: NodeConfig, told: Collection[str]) -> None:
    """Refuse to start a node that runs already as something else.

    Args:
        info: what the daemon wrote about the node that runs.
        config: what was to be started.
        told: the options that were given.

    Raises:
        NodeDown: names what is different.
    """
    host, _, port = str(info["address"]).rpartition(":")
    runs = {**info, "host": host, "port": int(port)}
    for option in ("name", "host", "port", "role", "labels"):
        new, old = getattr(config, option), runs.get(option)
        if option in told and new != old and (new or option != "port"):
            raise NodeDown(
                f"the node runs already, with {option} {_shown(old)}, not {_shown(new)}: `dspex stop` it first"
            )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in sorted(value.items())) or "none"
    return str(value)
