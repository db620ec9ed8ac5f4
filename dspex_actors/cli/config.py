"""`dspex config`: what is set, who says so, and setting it on the running node.

Where no node runs, what is shown is what one would be started with here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click
from rich.markup import escape
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.output import clock_text, console, grid, json_option, print_json, show, table
from dspex_actors.cli.shell import DONE, LazyGroup, say_note
from dspex_actors.config.core import Configuration, only
from dspex_actors.config.handle import NodeConfig
from dspex_actors.config.kept import kept_updates
from dspex_actors.config.layers import read_layers, value_from_text
from dspex_actors.config.paths import joined, shown
from dspex_actors.foundation.home import default_data_dir
from supervisors.client.launch import node_runs
from supervisors.errors import NodeDown

_HERE = "dspex_actors.cli.config"
_COLOURS = {"default": "dim", "update": "bold cyan"}


class _Source(Protocol):
    """Where settings are read."""

    def get(self, path: str) -> Any: ...

    def rows(self, prefix: str) -> list[dict[str, Any]]: ...


class _Running:
    """The running node's."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config

    def get(self, path: str) -> Any:
        return self._config.get(path)

    def rows(self, prefix: str) -> list[dict[str, Any]]:
        return [each._asdict() for each in self._config.explain_all(prefix)]


class _Here:
    """What a node would be started with here."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def get(self, path: str) -> Any:
        return self._configuration.get(path)

    def rows(self, prefix: str) -> list[dict[str, Any]]:
        return self._configuration.explain(prefix)


@contextmanager
def _source() -> Iterator[_Source]:
    folder = default_data_dir().absolute()
    if node_runs(folder):
        with attached() as node:
            yield _Running(NodeConfig(node))
    else:
        say_note(f"no node runs in {folder}: this is what one would be started with here")
        yield _Here(kept_updates(folder, Configuration(read_layers())))


@click.group(
    "config",
    cls=LazyGroup,
    lazy={
        "show": (f"{_HERE}:show_all", "all settings, or those of a section, and who says so"),
        "get": (f"{_HERE}:get", "the value of one"),
        "set": (f"{_HERE}:set_value", "set one on the running node"),
        "reset": (f"{_HERE}:reset", "take back what was set there"),
        "explain": (f"{_HERE}:explain", "what one means, and where its value comes from"),
    },
)
def config() -> None:
    """Show and set what the node is configured with."""


@click.command("show")
@click.argument("prefix", default="")
@json_option
def show_all(prefix: str, as_json: bool) -> int:
    """Show all settings, or those at or below PREFIX, and who says so."""
    with _source() as source:
        rows = source.rows(prefix)
    if as_json:
        print_json(rows)
        return DONE
    page = table("setting", "value", "unit", "from")
    for row in rows:
        style = _COLOURS.get(row["layer"], "green")
        page.add_row(
            Text(row["path"]),
            Text(_text(row["value"]), style="" if row["layer"] == "default" else style),
            Text(row["unit"] or "", style="dim"),
            Text(_origin(row), style=style),
        )
    show(page)
    return DONE


@click.command()
@click.argument("path")
@json_option
def get(path: str, as_json: bool) -> int:
    """Print what holds at PATH: a setting's value, or a section's settings as JSON."""
    with _source() as source:
        value = source.get(path)
    if as_json:
        print_json({"path": path, "value": value})
    else:
        click.echo(json.dumps(value, indent=2) if isinstance(value, dict) else _text(value))
    return DONE


@click.command("set")
@click.argument("path")
@click.argument("value")
@json_option
def set_value(path: str, value: str, as_json: bool) -> int:
    """Set PATH to VALUE on the running node, at once; `none` takes a limit away. It is kept when the node restarts."""
    folder = default_data_dir().absolute()
    if not node_runs(folder):
        raise NodeDown(_offered(path, value, f"no node runs in {folder}: start one with `dspex start`"))
    with attached() as node:
        handle = NodeConfig(node)
        place = handle.path(path)
        version = handle.update(joined(place), value_from_text(place, value))
        found = handle.get(joined(place))
    if as_json:
        print_json({"path": joined(place), "value": found, "version": version})
    else:
        console().print(
            f"[bold green]●[/] {escape(joined(place))} = [bold]{escape(_text(found))}[/] [dim](version {version})[/]"
        )
    return DONE


def _offered(path: str, value: str, why: str) -> str:
    """Return what to do where no node runs; what is not legal is refused before.

    Raises:
        ConfigError: it could not be set on a running node, either.
    """
    configuration = Configuration(read_layers())
    place = configuration.path(path)
    new = value_from_text(place, value)
    configuration.updated(joined(place), new, 0.0)
    if new is None:
        return f"{why}; in dspex.toml none is said by leaving {place[-1]} out of [{joined(place[:-1])}]"
    return f"{why}, or put `{place[-1]} = {json.dumps(new)}` under [{joined(place[:-1])}] in dspex.toml"


@click.command()
@click.argument("path")
@json_option
def reset(path: str, as_json: bool) -> int:
    """Take back what was set at or below PATH on the running node: file and variables hold again."""
    with attached() as node:
        handle = NodeConfig(node)
        version = handle.reset(path)
        value = handle.get(path)
    if as_json:
        print_json({"path": path, "value": value, "version": version})
    else:
        text = " is as it was" if isinstance(value, dict) else f" = [bold]{escape(_text(value))}[/]"
        console().print(f"[bold]○[/] {escape(path)}{text} [dim](version {version})[/]")
    return DONE


@click.command()
@click.argument("path")
@json_option
def explain(path: str, as_json: bool) -> int:
    """Say what the setting PATH means, what is legal, and where its value comes from."""
    with _source() as source:
        rows = source.rows(path)
    row = only(rows, path)
    if as_json:
        print_json(row)
        return DONE
    lines: list[tuple[str, Any]] = [
        ("  value", Text(f"{_text(row['value'])} {row['unit'] or ''}".strip(), style="bold"))
    ]
    lines.append(("  legal", row["bounds"]))
    for layer in row["layers"]:
        holds = layer is row["layers"][-1]
        where = f" ({layer['where']})" if layer["where"] else ""
        lines.append((f"  {layer['layer']}", Text(f"{_text(layer['value'])}{where}", style="bold" if holds else "dim")))
    if row["updated_at"] is not None:
        lines.append(("  updated", clock_text(row["updated_at"])))
    out = console()
    out.print(f"[bold]{escape(row['path'])}[/]: {row['description']}")
    out.print(grid(lines))
    return DONE


def _origin(row: dict[str, Any]) -> str:
    return row["layer"] if not row["where"] else f"{row['layer']}: {row['where']}"


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return value if isinstance(value, str) else shown(value)
