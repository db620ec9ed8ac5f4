"""The report on a run for people."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dspex_actors.client.workflow_report import workflow_advice, workflow_parts
from dspex_actors.foundation.durations import duration_text
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ErrorGroup, RunRow
from dspex_actors.journal.sameness import WORKFLOW
from dspex_actors.journal.scores import named_scores, score_interval
from dspex_actors.journal.summary import duration_of, score_of
from dspex_actors.names import run_command

_STYLES = {"finished": "green", "running": "cyan", "paused": "yellow", "failed": "red", "cancelled": "yellow"}
#: So many nodes are shown.
_MOST_NODES = 12
_POINTS = (0.5, 0.95, 0.99)


def report(reader: JournalReader, row: RunRow, now: float | None = None) -> RenderableType:
    """Return the report: score, counts, speed, tokens, cost, errors by type, and what to do next.

    Of a workflow: its steps.

    Args:
        reader: the journal that has the run.
        row: the run.
        now: wall-clock seconds, for a run that is running.
    """
    if row.spec.kind == WORKFLOW:
        parts = workflow_parts(row, reader.steps(row.run_id), now)
    else:
        groups = reader.error_groups(row.run_id) if row.failed else []
        nodes = reader.by_node(row.run_id) if len(row.nodes) > 1 else {}
        latencies = reader.latency_percentiles(row.run_id, _POINTS)
        scores = (score_interval(reader, row), named_scores(reader, row))
        parts = [_figures(row, latencies, nodes, reader.hedged(row.run_id), now, scores)]
        if groups:
            parts += [Text(), _errors(groups)]
    advice = advice_for(row)
    if advice:
        parts += [Text(), Text(advice, style="yellow")]
    style = _STYLES[row.state]
    title = Text.assemble((row.run_id, "bold"), " ", (row.state, style))
    return Panel(Group(*parts), title=title, title_align="left", border_style=style, padding=(1, 2))


def advice_for(row: RunRow) -> str | None:
    """Return what to do about a run that did not end well, in one or two sentences; None for a good one."""
    if row.spec.kind == WORKFLOW:
        return workflow_advice(row)
    why = f" ({row.reason})" if row.reason else ""
    if row.state == "paused":
        budget = row.spec.settings.get("budget")
        more = f" --budget {2 * budget:g}" if row.reason == "budget" and budget else ""
        left = "" if row.spec.total is None else f" The {row.spec.total - row.done:,} examples left are asked then."
        return f"Paused{why}. Go on with: {run_command('resume', row.run_id)}{more}.{left}"
    if row.state in ("failed", "cancelled"):
        return f"{row.state.capitalize()}{why}. Its results so far: {run_command('export', row.run_id)}"
    return None


def _figures(
    row: RunRow,
    latencies: list[float] | None,
    nodes: dict[str, dict[str, Any]],
    hedged: dict[str, Any],
    now: float | None,
    scores: tuple[tuple[float, float] | None, dict[str, float]],
) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column()
    score = score_of(row)
    shown = "– (nothing has a score)" if score is None else f"{score:.2f}"
    between, by_name = scores
    around = f"  (95 %: {between[0]:.2f} to {between[1]:.2f})" if between else ""
    table.add_row("score", Text.assemble((shown, "bold" if score is not None else "dim"), (around, "dim")))
    for name, mean in by_name.items():
        table.add_row(Text(f"  {name}"), f"{mean:.2f}")
    if row.spec.metric_name:
        table.add_row("metric", Text(row.spec.metric_name))
    of = "" if row.spec.total in (None, row.done) else f" of {row.spec.total:,}"
    table.add_row("examples", f"{row.done:,}{of}")
    table.add_row("failed", Text(f"{row.failed:,}", style="red" if row.failed else ""))
    seconds = duration_of(row, now)
    rate = f"  ({row.done / seconds:,.1f} examples/s)" if seconds > 0 and row.done else ""
    table.add_row("time", duration_text(seconds) + rate)
    if latencies is not None:
        named = zip(("p50", "p95", "p99"), latencies, strict=True)
        table.add_row("latency", "   ".join(f"{name} {duration_text(value)}" for name, value in named))
    table.add_row("LM calls", f"{row.asked:,}")
    table.add_row("tokens", _tokens(row.usage))
    budget = row.spec.settings.get("budget")
    if row.unpriced or row.cost or budget:
        table.add_row("cost", _cost(row) + ("" if budget is None else f"  of a budget of ${budget:,.2f}"))
    if hedged["examples"]:
        table.add_row("twice", _hedged(hedged))
    for place, (name, did) in enumerate(list(nodes.items())[:_MOST_NODES]):
        table.add_row("" if place else "nodes", Text(_node(name, did)))
    if len(nodes) > _MOST_NODES:
        table.add_row("", f"and {len(nodes) - _MOST_NODES:,} more nodes")
    return table


def _node(name: str, did: dict[str, Any]) -> str:
    parts = [f"{name}  {did['done']:,} examples"]
    if did["failed"]:
        parts.append(f"{did['failed']:,} failed")
    if did["p50"] is not None:
        parts.append(f"p50 {duration_text(did['p50'])}  p95 {duration_text(did['p95'])}")
    if did["cost"]:
        parts.append(f"${did['cost']:,.4f}")
    return "  ".join(parts)


def _hedged(hedged: dict[str, Any]) -> str:
    """Say what second starts of the last examples have cost."""
    cost = "an unknown price" if hedged["cost"] is None else f"${hedged['cost']:,.4f}"
    return f"{hedged['examples']:,} examples, started again elsewhere: {hedged['asked']:,} of the LM calls, {cost}"


def _errors(groups: list[ErrorGroup]) -> Table:
    table = Table(title="Errors", title_justify="left", title_style="bold red", box=None, padding=(0, 2, 0, 0))
    table.add_column("type")
    table.add_column("count", justify="right")
    table.add_column("first at", justify="right")
    table.add_column("first message", overflow="fold")
    for group in groups:
        # Text, not markup: a message may hold square brackets.
        message = " ".join(group.first_message.split())
        short = message if len(message) <= 200 else message[:199] + "…"
        table.add_row(Text(group.type), f"{group.count:,}", f"{group.first_index:,}", Text(short))
    return table


def _cost(row: RunRow) -> str:
    """Say the price, or what is known of it: of a request that broke off, or of another server's model, none is."""
    if not row.unpriced:
        return f"${row.cost:,.4f}"
    if not row.cost:
        return "unknown (no LM call has a known price)"
    have = "has" if row.unpriced == 1 else "have"
    return f"at least ${row.cost:,.4f} ({row.unpriced:,} of the LM calls {have} no known price)"


def _tokens(usage: dict[str, Any]) -> str:
    """Say the tokens in and out, and of these the kinds that there are any of."""
    if not usage:
        return "–"
    shares = [
        f"{usage[name]:,} {words}"
        for name, words in (
            ("cache_read", "from cache"),
            ("cache_write", "to cache"),
            ("reasoning", "reasoning"),
            ("audio", "audio"),
        )
        if usage.get(name)
    ]
    of_these = f"  (of these {', '.join(shares)})" if shares else ""
    return f"{usage.get('input_total', 0):,} in   {usage.get('output_total', 0):,} out{of_these}"
