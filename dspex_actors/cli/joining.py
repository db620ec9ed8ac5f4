"""What `dspex start` looks at where a node belongs to a cluster: its key, its name, whom it joins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import click

from dspex_actors.client.full import check_full
from dspex_actors.foundation.home import HOME, default_data_dir
from supervisors import Node
from supervisors.client.launch import node_runs, read_node_file
from supervisors.cluster.handle import Cluster, last_start
from supervisors.errors import NodeDown
from supervisors.wire.keys import KEY_FILE, KeyFileError, import_key

#: Names a file with the cluster's key: it is imported before a node is started.
KEY_VARIABLE = "DSPEX_CLUSTER_KEY_FILE"


def take_key(folder: Path) -> None:
    """Import the key that the environment names, if any.

    Raises:
        KeyFileError: there is none in the file, or the folder has another one.
    """
    file = os.environ.get(KEY_VARIABLE)
    if file:
        import_key_file(folder, Path(file))


def import_key_file(folder: Path, file: Path) -> bool:
    """Take the key in a file for a data folder; return whether that had none.

    Raises:
        KeyFileError: there is no key in it, or the folder has another one.
    """
    try:
        with file.open() as opened:
            text = opened.read(1024)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise KeyFileError(f"the key in {file} cannot be read: {what}") from None
    return import_key(folder, text, str(file))


def check_can_join(folder: Path, join: str) -> None:
    """Refuse to join where that cannot be, before anything is made.

    Raises:
        NodeDown: a node that is not in that cluster runs here.
        KeyFileError: this host has no key.
    """
    host, _, port = join.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.UsageError(f"--join {join} is no address: expected HOST:PORT, as `dspex nodes` shows it there")
    if node_runs(folder):
        with Node.attach(folder, HOME) as node:
            if join not in [member.address for member in Cluster(node).members()]:
                raise NodeDown(
                    f"a node runs in {folder} and is not in a cluster with {join}: `dspex stop` it, then join"
                )
    elif not (folder / KEY_FILE).exists():
        raise KeyFileError(
            f"{folder} has no {KEY_FILE}: `dspex key show > F` on a node of the cluster, then `dspex key import F` here"
        )


def check_worker(folder: Path, given: Mapping[str, object], join: str | None) -> None:
    """Refuse to start a node that only works with what it has not, or where nobody could give it work.

    Args:
        folder: its data folder.
        given: options that are for full nodes, and what was given for each; None: nothing.
        join: whom it is to join.

    Raises:
        UsageError: names the option, or says what is missing.
    """
    for option, value in given.items():
        if value is not None:
            raise click.UsageError(
                f"{option} is for full nodes: one with --role worker keeps no runs and shows nothing"
            )
    last = last_start(folder)
    if join is None and (last is None or not last.in_cluster):
        raise click.UsageError(
            "a node with --role worker is given its work by the full nodes of its cluster: join one, --join HOST:PORT"
        )


def check_here() -> None:
    """Refuse a command that is for full nodes where the node of this host only works.

    Raises:
        ConfigError: it does.
    """
    with contextlib.suppress(NodeDown):
        info = read_node_file(default_data_dir().absolute(), HOME)
        check_full(str(info.get("role")), str(info.get("name")))


def labels_of(given: tuple[str, ...]) -> dict[str, str]:
    """Return labels as a dict.

    Raises:
        UsageError: one has no value, or two.
    """
    labels: dict[str, str] = {}
    for each in given:
        key, _, value = each.partition("=")
        if not key or not value:
            raise click.UsageError(f"--label {each} is invalid: expected KEY=VALUE, as gpu=1")
        if labels.get(key, value) != value:
            raise click.UsageError(f"--label {key} is told twice: expected one value, got {labels[key]} and {value}")
        labels[key] = value
    return labels
