"""`dspex start` and `dspex stop`."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dspex_actors.app import AppConfig, started_as
from dspex_actors.cli import processes
from dspex_actors.cli.as_it_was import as_it_was, check_as_it_runs, told_name
from dspex_actors.cli.joining import check_can_join, check_worker, labels_of, take_key
from dspex_actors.cli.output import console, grid, json_option, print_json
from dspex_actors.cli.replicas import as_kept, check_as_kept, check_standbys
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.config import Config, load_config
from dspex_actors.foundation.home import HOME, default_data_dir
from dspex_actors.journal.opening import choose_journal
from dspex_actors.journal.replicas import MOST_REPLICAS
from supervisors import Node
from supervisors.client.launch import is_stopping, launch, node_runs, read_node_file, stop_process
from supervisors.errors import NodeDown
from supervisors.host.node_config import ROLES, WORKER, NodeConfig

#: Another `dspex start` that was faster is waited for so long, in seconds.
OTHER_SECONDS = 150.0
STOP_SECONDS = 150.0


@click.command()
@click.option("--name", metavar="N", help="The node's name.  [default: this host's]")
@click.option("--host", metavar="ADDR", help="Address that everything of the node listens on.  [127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="P", help="Port of its door; 0 takes any free one.  [default: 0]"
)
@click.option("--join", metavar="HOST:PORT", help="Join the cluster of a node elsewhere; it needs the same key.")
@click.option(
    "--role", type=click.Choice(ROLES), metavar="R", help="full, or worker: it only runs what it is given.  [full]"
)
@click.option("--label", "labels", metavar="K=V", multiple=True, help="What the node is or has, as gpu=1; repeatable.")
@click.option("--no-labels", is_flag=True, help="It has no labels any more.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), metavar="N", help="HTTP workers.  [default: one per core, at least 2]"
)
@click.option(
    "--config", "config_file", type=click.Path(), metavar="F", help="The configuration.  [default: ./dspex.toml]"
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="P",
    help="Serve /metrics there, on 127.0.0.1.  [default: not]",
)
@click.option(
    "--journal",
    metavar="URL",
    help="Keep runs in a PostgreSQL server, postgresql://USER@HOST:PORT/DATABASE (its password in ~/.pgpass, or "
    "?password=env:NAME), from now on; or in a file again: sqlite.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, MOST_REPLICAS),
    metavar="N",
    help="How many nodes of a cluster have each run that begins here, where each keeps runs in a file: the others are "
    "its standbys. 1: only this one.  [default: as told before, else 2]",
)
@click.option("--foreground", is_flag=True, help="Stay here and show the log; Ctrl-C stops the node.")
@json_option
def start(
    name: str | None,
    host: str | None,
    port: int | None,
    join: str | None,
    role: str | None,
    labels: tuple[str, ...],
    no_labels: bool,
    workers: int | None,
    config_file: str | None,
    metrics_port: int | None,
    journal: str | None,
    replicas: int | None,
    foreground: bool,
    as_json: bool,
) -> int:
    """Start the node of this host; if it runs already, say so.

    A node of a cluster, or one with an address that other hosts reach, is started as it was the last time: what it is
    called, where it is, its role and labels, and whom it belongs to need not be told again.
    """
    config = load_config(config_file)
    folder = default_data_dir().absolute()
    take_key(folder)
    if join is not None:
        check_can_join(folder, join)
    given = {"name": name, "host": host, "port": port, "workers": workers}
    told = {f"node.{key}": (value, f"--{key}") for key, value in given.items() if value is not None}
    if metrics_port is not None:
        if not node_runs(folder):
            _check_free(metrics_port)
        told["infrastructure.telemetry.metrics_port"] = (metrics_port, "--metrics-port")
    app = AppConfig(
        workers=workers or config.node.workers,
        replicas=replicas,
        config_file=None if config_file is None else os.path.abspath(config_file),
        given=told,
    )
    node = _node_config(folder, config, app, told_name(folder, name or config.node.name, join), port, foreground)
    wanted = labels_of(labels) if labels or no_labels else None
    node, as_before = as_it_was(folder, replace(node, join=join), host or config.node.host, role, wanted)
    node = replace(node, **started_as(node.role, app.worker_count))
    if node.role == WORKER:
        check_worker(folder, {"--journal": journal, "--metrics-port": metrics_port, "--replicas": replicas}, join)
    check_standbys(folder, replicas, journal, join)
    if journal is not None:
        choose_journal(folder, journal, runs=node_runs(folder))
    if node.role != WORKER:
        as_before = ", ".join(filter(None, (as_before, as_kept(folder, replicas))))
    if foreground:
        return _stay(node, as_before)
    fresh = _launch_or_find(node)
    info = read_node_file(folder, HOME)
    if not fresh:
        said = {"name": name, "host": host, "port": port, "role": role, "labels": wanted}
        check_as_it_runs(info, node, [option for option, value in said.items() if value is not None])
        check_as_kept(folder, replicas)
    if as_json:
        row = {key: info[key] for key in ("name", "address", "pid", "data_dir", "version")}
        print_json(row | {"started": fresh, "as_before": as_before})
    else:
        _print_node("The node runs." if fresh else "The node runs already.", info, as_before if fresh else "")
    return DONE


def _check_free(port: int) -> None:
    """Refuse a port that something else listens on, before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise click.ClickException(
                f"--metrics-port {port} cannot be had ({error.strerror or error}): give another one"
            ) from None


def _node_config(
    folder: Path,
    config: Config,
    app: AppConfig,
    name: str,
    port: int | None,
    foreground: bool,
) -> NodeConfig:
    node = config.node
    chosen = port if port is not None else node.port
    return NodeConfig(
        name=name,
        data_dir=str(folder),
        port=chosen or 0,
        app_config=app.to_dict(),
        foreground=foreground,
    )


def _print_node(title: str, info: dict[str, Any], as_before: str = "") -> None:
    out = console()
    out.print(f"[bold green]●[/] [bold]{title}[/]")
    rows = [
        ("  name", info["name"]),
        ("  address", info["address"]),
        ("  data folder", info["data_dir"]),
        ("  pid", str(info["pid"])),
    ]
    out.print(grid([*rows, *([("  as before", as_before)] if as_before else [])]))


def _launch_or_find(config: NodeConfig) -> bool:
    """Start the daemon, or wait until the one that was faster is up; return whether it is ours.

    One that is just being stopped is waited for.

    Raises:
        NodeDown: it did not come up.
    """
    folder = Path(config.data_dir)
    deadline = time.monotonic() + OTHER_SECONDS
    while True:
        if not node_runs(folder):
            try:
                launch(config, home=HOME)
            except NodeDown as error:
                # Somebody was faster, or only had a look at the lock; anything else is an error.
                if not str(error).startswith("a node runs in"):
                    # Which child it was that could not start says nothing to a person; what stopped it does.
                    raise NodeDown(re.sub(r"^child '[^']*' did not start: error: \w+: ", "", str(error))) from None
            else:
                return True
        if node_runs(folder):
            with contextlib.suppress(NodeDown):
                if not is_stopping(folder):
                    Node.attach(folder, HOME).close()
                    return False
        if time.monotonic() > deadline:
            raise NodeDown(f"another start of the node in {folder} does not come to an end; see {folder / 'logs'}")
        time.sleep(0.05)


def _stay(config: NodeConfig, as_before: str) -> int:
    """Run the node in the foreground: show its log, stop it at Ctrl-C, take it along when this process dies."""
    from dspex_actors.cli.logs import Lines, show_line

    folder = Path(config.data_dir)
    if node_runs(folder):
        raise NodeDown(f"a node runs in {folder} already: `dspex stop` stops it")
    lines = Lines(folder / "logs", from_end=True)
    lifeline_read, lifeline_write = os.pipe()
    try:
        process, _ = launch(config, lifeline_read, HOME)
    finally:
        os.close(lifeline_read)
    out = console()
    try:
        _print_node("The node runs; Ctrl-C stops it.", read_node_file(folder, HOME), as_before)
        while process.poll() is None:
            for line in lines.new():
                show_line(out, line)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
    except KeyboardInterrupt:
        out.print("stopping, children first …", style="yellow")
        stop_process(process.pid)
        process.wait(STOP_SECONDS)
    finally:
        os.close(lifeline_write)
    for line in lines.new():
        show_line(out, line)
    return DONE if process.returncode == 0 else FAILED


@click.command()
@click.option("--now", is_flag=True, help="Kill everything at once instead of stopping it in order.")
@json_option
def stop(now: bool, as_json: bool) -> int:
    """Stop the node: children first, in order; return when no process of it is left."""
    folder = default_data_dir().absolute()
    pid = processes.daemon_of(folder)
    if pid is None:
        raise NodeDown(_why_not(folder))
    info = read_node_file(folder, HOME)
    began = time.monotonic()
    count = len(processes.of_folder(folder))
    stop_process(pid, now)
    left = processes.wait_until_gone(folder, pid, STOP_SECONDS)
    if left:
        pids = ", ".join(map(str, left))
        raise click.ClickException(f"still there after {STOP_SECONDS:.0f} s: {pids}; `dspex stop --now` kills them")
    seconds = time.monotonic() - began
    if as_json:
        print_json({"name": info["name"], "stopped": count, "seconds": round(seconds, 3)})
    else:
        console().print(f"[bold]○ The node {info['name']} has stopped.[/] [dim]{count} processes in {seconds:.1f} s[/]")
    return DONE


def _why_not(folder: Path) -> str:
    if not (folder / "node.json").exists() and not processes.of_folder(folder):
        return f"no node runs in {folder}: start one with `dspex start`"
    return f"no node runs in {folder}, but one has left things behind: `dspex doctor --fix` clears up"
