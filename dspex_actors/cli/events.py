"""`dspex events`: what happened; works while no node runs, too."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dspex_actors.cli.failures import Since
from dspex_actors.cli.output import clock_text, console, json_option, print_json, printable
from dspex_actors.cli.shell import DONE
from dspex_actors.foundation.durations import duration_text
from dspex_actors.foundation.home import default_data_dir

_FOLLOW_SECONDS = 0.2
#: So many events are shown at once where they are followed; where more have come, the older ones are left out.
_PAGE, _MOST = 500, 10_000
#: A field is shown with so many characters.
_FIELD = 80
_STYLES = {"failed": "red", "opened": "red", "terminated": "red", "degraded": "yellow", "dropped": "yellow"}


class Where(click.ParamType[tuple[str, Any]]):
    """`field=value`: a number, true, false or null means that and the text; anything else the text."""

    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Read it, or say what is legal; a number that no event can be asked for by is a text."""
        field, equals, text = str(value).partition("=")
        if not field or not equals:
            self.fail(f"{value!r}: expected field=value, such as tool_name=search or usage.total_tokens=12", param, ctx)
        from dspex_actors.observe.events.where import is_value

        try:
            found = json.loads(text)
        except ValueError:
            return field, text
        return field, [found, text] if is_value(found) else text


@click.command()
@click.option("--type", "types", multiple=True, metavar="T", help="Only of this type; several: of any of them.")
@click.option("--where", multiple=True, type=Where(), help="Only whose field is so: tool_name=search, error=null.")
@click.option("--correlation", metavar="C", help="Only what belongs to this correlation id.")
@click.option("--since", type=Since(), metavar="WHEN", help="Only since then: 90s, 10m, 2h, 3d ago, or a time.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=50, show_default=True, help="The last so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@json_option
def events(
    types: tuple[str, ...],
    where: tuple[tuple[str, Any], ...],
    correlation: str | None,
    since: float | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> int:
    """Show what happened on this host's nodes, oldest first; also when no node runs."""
    from dspex_actors.foundation.events.record import to_dict
    from dspex_actors.observe.events.reader import EventReader, find_stores

    if len(dict(where)) < len(where):
        raise click.UsageError("--where has one field twice: an event has one value of it")
    home = default_data_dir().absolute()
    asked: dict[str, Any] = {"types": types or None, "correlation_id": correlation, "where": dict(where) or None}
    # Where each store is before it is read: what comes meanwhile is shown by who follows.
    at = {path: EventReader(path).last() for path in find_stores(home)}
    found = [record for path in at for record in EventReader(path).query(**asked, since=since, limit=limit)]
    last = [to_dict(record) for record in sorted(found, key=lambda record: (record.at, record.id))[-limit:]]
    if as_json and not follow:
        print_json(last)
        return DONE
    out = console()
    if not last and not follow:
        narrowed = " of what you asked for" if types or where or correlation or since else ""
        out.print(f"[dim]no events{narrowed} in {home}[/]", soft_wrap=True)
    seen = {row["id"] for row in last}
    for row in last:
        _say(out, row, as_json)
    while follow:
        for row in _new(home, at, asked):
            if row["id"] not in seen:
                _say(out, row, as_json)
        seen.clear()
        time.sleep(_FOLLOW_SECONDS)
    return DONE


def _new(home: Path, at: dict[Path, int], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what has come since `at`, which is moved on."""
    from dspex_actors.foundation.events.record import to_dict
    from dspex_actors.observe.events.reader import EventReader, find_stores

    rows: list[dict[str, Any]] = []
    names = None if asked["types"] is None else list(asked["types"])
    for path in find_stores(home):
        records, at[path], _ = EventReader(path).after(
            at.get(path, 0), names, _PAGE, _MOST, asked["correlation_id"], asked["where"]
        )
        rows += map(to_dict, records)
    return sorted(rows, key=lambda row: (row["at"], row["id"]))


def _say(out: Console, row: dict[str, Any], as_json: bool) -> None:
    # Followed, there is no one document: a line each.
    if as_json:
        print_json(row)
    else:
        out.print(line_of(row), soft_wrap=True)


def line_of(row: dict[str, Any]) -> Text:
    """Return an event as one line for people."""
    style = next((style for word, style in _STYLES.items() if word in row["type"]), "green")
    if row["data"].get("error"):
        style = "red"
    text = Text.assemble(
        (clock_text(row["at"]), "dim"),
        " ",
        (printable(row["type"]).ljust(26), style),
        " ",
        (printable(row["actor"] or "–").ljust(16), "cyan"),
        " ",
        fields_of(row["data"]),
    )
    if row["correlation_id"] is not None and row["correlation_id"] != row["id"]:
        text.append(f"  {row['correlation_id']}", style="dim")
    return text


def fields_of(data: dict[str, Any]) -> Text:
    """Return an event's own fields as `name=value`, shortened; what says nothing is left out."""
    text = Text()
    for name, value in data.items():
        if value is None or value in ({}, [], ""):
            continue
        shown = duration_text(value) if name == "duration" and isinstance(value, float) else short(value)
        text.append("  " if text else "")
        text.append(f"{printable(name)}=", style="dim")
        text.append(shown)
    return text


def short(value: Any, most: int = _FIELD) -> str:
    """Return a value in at most so many characters, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = printable(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"
