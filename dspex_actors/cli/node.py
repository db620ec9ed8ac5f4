"""`dspex start` and `dspex stop`."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import click

from dspex_actors.app import APP, PRELOAD, AppConfig
from dspex_actors.cli import processes
from dspex_actors.cli.output import console, grid, json_option, print_json
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.config import Config, load_config
from dspex_actors.foundation.home import HOME, default_data_dir
from supervisors import Node
from supervisors.client.launch import launch, node_runs, read_node_file, stop_process
from supervisors.errors import NodeDown
from supervisors.host.node_config import NodeConfig

#: Another `dspex start` that was faster is waited for so long, in seconds.
OTHER_SECONDS = 150.0
STOP_SECONDS = 150.0


@click.command()
@click.option("--name", metavar="N", help="The node's name.  [default: this host's]")
@click.option("--host", metavar="ADDR", help="Address that everything of the node listens on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="P", help="Port of its door; 0 takes any free one.  [default: 0]"
)
@click.option("--join", metavar="HOST:PORT", help="Join the cluster of a node elsewhere.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), metavar="N", help="HTTP workers.  [default: one per core, at least 2]"
)
@click.option(
    "--config", "config_file", type=click.Path(), metavar="F", help="The configuration.  [default: ./dspex.toml]"
)
@click.option("--foreground", is_flag=True, help="Stay here and show the log; Ctrl-C stops the node.")
@json_option
def start(
    name: str | None,
    host: str | None,
    port: int | None,
    join: str | None,
    workers: int | None,
    config_file: str | None,
    foreground: bool,
    as_json: bool,
) -> int:
    """Start the node of this host; if it runs already, say so."""
    if join is not None:
        raise click.UsageError(
            f"cannot join {join}: this version runs one node per host, joining hosts comes with clustering; "
            "start without --join"
        )
    config = load_config(config_file)
    folder = default_data_dir().absolute()
    node = _node_config(folder, config, name, host, port, workers, foreground)
    if foreground:
        return _stay(node)
    fresh = _launch_or_find(node)
    info = read_node_file(folder, HOME)
    if as_json:
        print_json({key: info[key] for key in ("name", "address", "pid", "data_dir", "version")} | {"started": fresh})
    else:
        _print_node("The node runs." if fresh else "The node runs already.", info)
    return DONE


def _node_config(
    folder: Path,
    config: Config,
    name: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    foreground: bool,
) -> NodeConfig:
    node = config.node
    chosen = port if port is not None else node.port
    return NodeConfig(
        name=name or node.name or socket.gethostname().partition(".")[0],
        data_dir=str(folder),
        host=host or node.host or "127.0.0.1",
        port=chosen or 0,
        app=APP,
        app_config=AppConfig(workers=workers or node.workers).to_dict(),
        preload=list(PRELOAD),
        foreground=foreground,
    )


def _print_node(title: str, info: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold green]●[/] [bold]{title}[/]")
    out.print(
        grid(
            [
                ("  name", info["name"]),
                ("  address", info["address"]),
                ("  data folder", info["data_dir"]),
                ("  pid", str(info["pid"])),
            ]
        )
    )


def _launch_or_find(config: NodeConfig) -> bool:
    """Start the daemon, or wait until the one that was faster is up; return whether it is ours.

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
                Node.attach(folder, HOME).close()
                return False
        if time.monotonic() > deadline:
            raise NodeDown(f"another start of the node in {folder} does not come to an end; see {folder / 'logs'}")
        time.sleep(0.05)


def _stay(config: NodeConfig) -> int:
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
        _print_node("The node runs; Ctrl-C stops it.", read_node_file(folder, HOME))
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
