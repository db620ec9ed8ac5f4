"""`dspex key`: the key that makes hosts one cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dspex_actors.cli.joining import import_key_file
from dspex_actors.cli.output import console, json_option, print_json
from dspex_actors.cli.shell import DONE
from dspex_actors.foundation.home import default_data_dir
from supervisors.wire.keys import KEY_FILE, import_key, load_or_create_key


@click.group()
def key() -> None:
    """Show the cluster's key, or take over that of another host."""


@key.command()
@json_option
def show(as_json: bool) -> int:
    """Print the key of this host; one is made where there is none. Whoever has it can run code on every node."""
    folder = default_data_dir().absolute()
    text = load_or_create_key(folder).hex()
    if as_json:
        print_json({"key": text, "file": str(folder / KEY_FILE)})
    else:
        click.echo(text)
    return DONE


@key.command("import")
@click.argument("file", metavar="F", type=click.Path(dir_okay=False, allow_dash=True))
@json_option
def import_(file: str, as_json: bool) -> int:
    """Take the key in F (what `dspex key show` printed; - reads standard input) for the node of this host."""
    folder = default_data_dir().absolute()
    if file == "-":
        is_new = import_key(folder, sys.stdin.read(1024), "standard input")
    else:
        is_new = import_key_file(folder, Path(file))
    if as_json:
        print_json({"file": str(folder / KEY_FILE), "imported": is_new})
    else:
        console().print(
            f"[bold green]●[/] The key is in {folder / KEY_FILE}." if is_new else "The key is there already."
        )
    return DONE
