"""`dspex trace`: what belongs together as a tree: how long each step took, what it took in and what it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.text import Text
from rich.tree import Tree

from dspex_actors.cli.events import fields_of, short
from dspex_actors.cli.output import clock_text, json_option, print_json, printable, show
from dspex_actors.cli.shell import DONE
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.durations import duration_text
from dspex_actors.foundation.home import default_data_dir

if TYPE_CHECKING:
    from dspex_actors.observe.events.tree import TraceNode

#: What a step took in or gave is shown with so many characters.
_SHOWN = 200
_STARTED, _COMPLETED = ".started", ".completed"
#: Fields that stand elsewhere in a line, or on lines of their own.
_PLACED = {"name", "module", "model", "duration", "error", "inputs", "outputs", "metadata", "breadcrumbs", "trace"}


@click.command()
@click.argument("correlation", metavar="CORRELATION")
@json_option
def trace(correlation: str, as_json: bool) -> int:
    """Show what belongs to a correlation id as a tree; also when no node runs.

    The correlation id is what `dspex.operation(...)` was given, or `op.correlation_id`; RUN/INDEX for an example of a
    run with `trace=True`.
    """
    from dspex_actors.observe.events.reader import EventReader, find_stores
    from dspex_actors.observe.events.tree import tree_of

    home = default_data_dir().absolute()
    found = tree_of(record for path in find_stores(home) for record in EventReader(path).correlated(correlation))
    if found is None:
        raise ConfigError(
            f"no events of {correlation!r} in {home}: `dspex events` lists what there is; a run's examples are "
            "recorded with evaluate(..., trace=True)"
        )
    if as_json:
        print_json(found.to_dict())
    else:
        show(picture(found))
    return DONE


def picture(root: TraceNode) -> Tree:
    """Return a tree of events for people: a step's start and end are one line."""
    top = _line(root)
    waiting = [(root, top)]
    while waiting:
        node, place = waiting.pop()
        end = _end_of(node)
        children = [child for child in node.children if child is not end]
        waiting.extend((child, _line(child, place)) for child in [*children, *(end.children if end else ())])
    return top


def _end_of(node: TraceNode) -> TraceNode | None:
    """Return the event of the end of what a node began."""
    kind = node.record.type
    if not kind.endswith(_STARTED):
        return None
    stem = kind.removesuffix(_STARTED)
    ends = (stem + _COMPLETED, f"{stem}.failed", f"{stem}.succeeded")
    return next((child for child in reversed(node.children) if child.record.type in ends), None)


def _line(node: TraceNode, under: Tree | None = None) -> Tree:
    from dspex_actors.foundation.events.record import to_dict

    end = _end_of(node)
    row, data = to_dict(node.record), dict(to_dict(node.record)["data"])
    ended = {} if end is None else to_dict(end.record)["data"]
    data |= {name: value for name, value in ended.items() if name not in data or value is not None}
    kind = row["type"].removesuffix(_STARTED)
    name = data.get("name") or data.get("module") or data.get("model") or ""
    text = Text.assemble((kind, "cyan"), " " if name else "", (printable(str(name)), "bold"))
    if isinstance(data.get("duration"), (int, float)):
        text.append(f"  {duration_text(data['duration'])}", style="green")
    elif end is None and row["type"].endswith(_STARTED):
        text.append("  not ended", style="yellow")
    text.append(f"  {row['actor'] or '–'}  {clock_text(row['at'])}", style="dim")
    rest = fields_of({key: value for key, value in data.items() if key not in _PLACED})
    if rest:
        text.append("  ")
        text.append_text(rest)
    place = Tree(text) if under is None else under.add(text)
    for label, value in _told(data):
        place.add(Text.assemble((f"{label}  ", "dim"), short(value, _SHOWN)))
    if data.get("error"):
        place.add(Text(short(_error(data["error"]), _SHOWN), style="red"))
    return place


def _told(data: dict[str, Any]) -> list[tuple[str, Any]]:
    rows = [("in", data.get("inputs") or data.get("metadata")), ("out", data.get("outputs"))]
    rows += [("·", f"{one.get('text')} {_extra(one.get('data'))}") for one in data.get("breadcrumbs") or ()]
    rows += [("·", f"{one.get('step')} {_extra(one.get('data'))}") for one in data.get("trace") or ()]
    return [(label, value) for label, value in rows if value]


def _extra(value: Any) -> str:
    return short(value) if value else ""


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return ": ".join(str(error[name]) for name in ("type", "message") if error.get(name))  # an interrupt says nothing
