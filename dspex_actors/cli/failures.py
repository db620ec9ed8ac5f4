"""`dspex failures`: what died, when and why; works while no node runs, too."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.output import clock_text, console, json_option, print_json, show, table
from dspex_actors.cli.shell import DONE
from dspex_actors.foundation.durations import duration_text, moment
from dspex_actors.foundation.home import default_data_dir
from supervisors import Report

_ALL = 1_000_000


class Since(click.ParamType[float]):
    """A moment: so long ago (90s, 10m, 2h, 3d), or an ISO time; becomes seconds since 1970."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or say what is legal."""
        try:
            return moment(str(value), time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--limit", type=click.IntRange(1), metavar="N", default=50, show_default=True, help="The last so many.")
@click.option("--since", type=Since(), metavar="WHEN", help="Only since then: 90s, 10m, 2h, 3d ago, or a time.")
@click.option("--child", metavar="C", help="Only children with C in their id.")
@click.option("--traceback", "tracebacks", is_flag=True, help="With the traceback under each.")
@click.option("--history", is_flag=True, help="Per child: each of its lives, how long it was and how it ended.")
@click.option("--run", "run_id", metavar="RUN", help="Those of the node that a run belongs to.")
@json_option
def failures(
    limit: int,
    since: float | None,
    child: str | None,
    tracebacks: bool,
    history: bool,
    run_id: str | None,
    as_json: bool,
) -> int:
    """Show what supervisors reported: which child ended, why, and what they did not manage to start."""
    from supervisors.host.reports import read_reports

    every = read_reports(_folder(run_id) / "logs", _ALL)
    if history:
        return _show_lives(lives_of(every, since or 0.0, child), limit, tracebacks, as_json)
    wanted = [one for one in every if one.kind != "progress" and one.at >= (since or 0.0)]
    found = [one for one in wanted if child is None or child in str(one.id)][-limit:]
    if as_json:
        print_json([as_dict(one) for one in found])
        return DONE
    if not found:
        _nothing(since is not None or child is not None)
        return DONE
    if tracebacks:
        _show_tracebacks(found)
    else:
        _show_table(found)
    return DONE


def _folder(run_id: str | None) -> Path:
    from dspex_actors.cli.logs import folder_of_run

    return default_data_dir().absolute() if run_id is None else folder_of_run(run_id)


def _nothing(narrowed: bool) -> None:
    console().print("[green]●[/] nothing has failed" + (" of what you asked for" if narrowed else ""))


def as_dict(one: Report) -> dict[str, Any]:
    """Return a report as plain data; `restart`, `shutdown` and `type` are the child's."""
    reason = one.reason
    return {
        "at": one.at,
        "kind": one.kind,
        "supervisor": one.supervisor,
        "id": one.id,
        "pid": one.pid,
        "reason": None if reason is None else {"kind": reason.kind, "detail": reason.detail},
        **one.extra,
    }


def _style(kind: str) -> str:
    return "bold red" if kind == "reached_max_restart_intensity" else "yellow"


def _what(kind: str) -> str:
    return "gave up" if kind == "reached_max_restart_intensity" else kind.replace("child_", "").replace("_", " ")


def _show_table(found: list[Report]) -> None:
    shown = table(
        ("at", {"no_wrap": True}),
        ("what", {"no_wrap": True}),
        ("supervisor", {"overflow": "fold"}),
        ("child", {"overflow": "fold"}),
        ("pid", {"justify": "right", "no_wrap": True}),
        ("why", {"overflow": "fold"}),
    )
    for one in found:
        shown.add_row(
            clock_text(one.at),
            Text(_what(one.kind), style=_style(one.kind)),
            one.supervisor,
            Text(str(one.id or "–"), style="bold"),
            str(one.pid or "–"),
            Text(why(one)),
        )
    show(shown)
    if any(_traceback(one) for one in found):
        console().print("\n[dim]--traceback shows where; --history how long each had lived[/]")


def _show_tracebacks(found: list[Report]) -> None:
    out = console()
    for one in found:
        head = Text.assemble(
            (clock_text(one.at), "dim"),
            " ",
            (_what(one.kind), _style(one.kind)),
            " ",
            (str(one.id or "–"), "bold"),
            f" (pid {one.pid or '–'}, under {one.supervisor})  ",
            why(one),
        )
        out.print(head, soft_wrap=True)
        if text := _traceback(one):
            out.print(Text("  " + text.strip().replace("\n", "\n  "), style="dim red"), soft_wrap=True)


def _traceback(one: Report) -> str:
    detail = one.reason.detail if one.reason else None
    return str(detail.get("traceback") or "") if isinstance(detail, dict) else ""


def why(one: Report) -> str:
    """Return a report's reason in one line."""
    reason = one.reason
    if reason is None:
        return "–"
    detail = reason.detail
    if isinstance(detail, dict):
        text = f"{detail.get('type', reason.kind)}: {detail.get('message', '')}".rstrip(": ")
    else:
        text = reason.kind if detail is None else f"{reason.kind}: {detail}"
    if one.kind == "reached_max_restart_intensity" and "count" in one.extra:
        count, period = one.extra["count"], one.extra.get("period")
        text = f"{count} within {period:g} s, allowed {one.extra.get('intensity')}; last: {text}"
    return text


# --- history --------------------------------------------------------------------------------------------------------


def lives_of(reports: list[Report], since: float = 0.0, child: str | None = None) -> list[dict[str, Any]]:
    """Join the reports of each child: when each of its processes started, when and why it ended.

    Args:
        reports: all, oldest first.
        since: leave out lives that ended before, in seconds since 1970.
        child: only ids with this in them.

    Returns:
        Per child that has failed: supervisor, id, type, deaths, gave_up and lives, each a dict of pid, started,
        ended, lived (seconds), kind, reason, why and traceback. The oldest failure first.
    """
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    started: dict[int, float] = {}
    for one in reports:
        if one.kind == "progress":
            if one.pid is not None:
                started[one.pid] = one.at
            continue
        if one.at < since or (child is not None and child not in str(one.id)):
            continue
        about = found.setdefault(
            (one.supervisor, one.id),
            {
                "supervisor": one.supervisor,
                "id": one.id,
                "type": one.extra.get("type"),
                "deaths": 0,
                "gave_up": 0,
                "lives": [],
            },
        )
        if one.kind == "reached_max_restart_intensity":
            about["gave_up"] += 1
            continue
        about["deaths"] += one.kind == "child_terminated"
        began = started.pop(one.pid, None) if one.pid is not None else None
        about["lives"].append(
            {
                "pid": one.pid,
                "started": began,
                "ended": one.at,
                "lived": None if began is None else one.at - began,
                "kind": one.kind,
                "reason": None if one.reason is None else one.reason.kind,
                "why": why(one),
                "traceback": _traceback(one),
            }
        )
    return list(found.values())


def _show_lives(found: list[dict[str, Any]], limit: int, tracebacks: bool, as_json: bool) -> int:
    if as_json:
        print_json([about | {"lives": about["lives"][-limit:]} for about in found])
        return DONE
    if not found:
        _nothing(narrowed=False)
        return DONE
    out = console()
    for place, about in enumerate(found):
        if place:
            out.print()
        deaths = f"{about['deaths']} death{'' if about['deaths'] == 1 else 's'}"
        gave_up = "; its supervisor gave up" if about["gave_up"] else ""
        out.print(
            Text.assemble((str(about["id"] or "(a child)"), "bold"), f" under {about['supervisor']}: {deaths}{gave_up}")
        )
        shown = table(
            ("  ended", {"no_wrap": True}),
            ("pid", {"justify": "right", "no_wrap": True}),
            ("lived", {"justify": "right", "no_wrap": True}),
            ("why", {"overflow": "fold"}),
        )
        for life in about["lives"][-limit:]:
            text = life["why"] if life["kind"] == "child_terminated" else f"{_what(life['kind'])}: {life['why']}"
            if tracebacks and life["traceback"]:
                text += "\n" + life["traceback"].strip()
            shown.add_row(
                "  " + clock_text(life["ended"]), str(life["pid"] or "–"), duration_text(life["lived"], 0), Text(text)
            )
        out.print(shown)
        common = Counter(life["why"] for life in about["lives"]).most_common(1)
        if common and common[0][1] > 2:
            out.print(Text(f"  {common[0][1]} of {len(about['lives'])} times: {common[0][0]}", style="yellow"))
    return DONE
