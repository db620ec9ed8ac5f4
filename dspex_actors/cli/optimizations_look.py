"""How optimisations look: a line of progress, a table of candidates, the difference of two programs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from dspex_actors.cli.output import REPORT_WIDTH, RUN_STYLES, clock_text, console, grid, printable, show, table
from dspex_actors.foundation.durations import duration_text
from dspex_actors.runs.optimisations import Found, OptimizationStatus

#: So many candidates are shown; so much of an instruction.
SHOWN, WORDS = 60, 60


def status_record(status: OptimizationStatus, candidates: Sequence[Found] | None = None) -> dict[str, Any]:
    """Return an optimisation as plain data: the keys of `dspex optimizations show --json`."""
    record = asdict(status)
    if candidates is not None:
        record["found"] = [candidate_record(one) for one in candidates]
    return record


def candidate_record(one: Found) -> dict[str, Any]:
    """Return a candidate as plain data."""
    return {
        "number": one.number,
        "name": one.name,
        "score": one.score,
        "whole": one.whole,
        "at": one.at,
        "program": one.state,
    }


def score_text(score: float | None) -> str:
    """Return a score as people say it."""
    return "–" if score is None else f"{score:.2f}"


def money_text(status: OptimizationStatus) -> str:
    """Return what an optimisation has cost, and may."""
    return f"${status.cost:,.4f}" + ("" if status.budget is None else f" of ${status.budget:,.2f}")


def progress_line(status: OptimizationStatus) -> str:
    """Return an optimisation in one line: candidates, best score, cost, how long it may take."""
    of = "" if status.expected is None else f"/{status.expected}"
    left = "" if status.remaining is None else f", about {duration_text(status.remaining)} left"
    return (
        f"{status.optimizer}: {status.candidates}{of} candidates, best {score_text(status.best_score)}, "
        f"{status.calls:,} calls, {money_text(status)}{left}"
    )


def show_status(status: OptimizationStatus, candidates: Sequence[Found]) -> None:
    """Print an optimisation: its figures, and its candidates, the best ones first."""
    of = "" if status.expected is None else f" of {status.expected}"
    stopped = f", {status.stopped} that could win no more" if status.stopped else ""
    rows: list[tuple[str, Any]] = [
        ("optimisation", Text(status.run_id, style="bold")),
        ("state", Text(status.state, style=RUN_STYLES[status.state])),
        ("optimizer", f"{status.optimizer} of {status.program}"),
        ("best", "–" if status.best is None else f"{score_text(status.best_score)} ({printable(status.best)})"),
        ("candidates", f"{status.candidates}{of}{stopped}"),
        ("runs", f"{status.runs}, {status.running} under way; {status.examples:,} of {status.of:,} examples"),
        ("cost", f"{money_text(status)}, {status.calls:,} calls"),
        ("time", duration_text(status.duration)),
    ]
    if status.remaining:
        rows.append(("left", f"about {duration_text(status.remaining)}"))
    if status.reason:
        rows.insert(2, ("why", printable(status.reason)))
    show(grid(rows), REPORT_WIDTH)
    if candidates:
        console().print()
        _show_candidates(candidates, status)


def _show_candidates(candidates: Sequence[Found], status: OptimizationStatus) -> None:
    ranked = sorted(candidates, key=lambda one: (-1.0 if one.score is None else one.score, -one.number), reverse=True)
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    made = table(("no.", right), ("score", right), "candidate", ("demos", right), "instructions")
    for one in ranked[:SHOWN]:
        style = "bold green" if one.whole and (one.name, one.score) == (status.best, status.best_score) else ""
        part = "" if one.whole else "*"
        made.add_row(
            str(one.number), Text(score_text(one.score) + part, style=style), printable(one.name),
            str(sum(len(state["demos"]) for state in predictors_in(one.state).values())),
            _first_words(one.state),
        )  # fmt: skip
    show(made)
    if len(ranked) > SHOWN:
        console().print(Text(f"and {len(ranked) - SHOWN} more: --json has all", style="dim"))
    if any(not one.whole for one in ranked):
        console().print(Text("* on a part of the examples", style="dim"))


def predictors_in(state: Any) -> dict[str, dict[str, Any]]:
    """Return the states of the predictors in a program's, each by its name; a bare one is "program"."""
    if not isinstance(state, dict):
        return {}
    if "signature" in state and "demos" in state:
        return {"program": state}
    return {name: one for name, one in state.items() if isinstance(one, dict) and "signature" in one and "demos" in one}


def _first_words(state: Any) -> Text:
    texts = [" ".join(str(one["signature"]["instructions"]).split()) for one in predictors_in(state).values()]
    text = printable(" | ".join(texts))
    return Text(text if len(text) <= WORDS else text[: WORDS - 1] + "…", style="dim")


def differences(old: Any, new: Any) -> dict[str, dict[str, Any]]:
    """Return what is other in the second of two programs' states, by predictor. Pure.

    Returns:
        For each predictor that differs: `instructions` (lines of a diff), `fields` (what of each field was, and is),
        `demos_gone` and `demos_new`; what does not differ is left out.
    """
    before, after = predictors_in(old), predictors_in(new)
    found = {}
    for name in dict.fromkeys([*before, *after]):
        change = _change(before.get(name), after.get(name))
        if change:
            found[name] = change
    return found


def _change(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    empty: dict[str, Any] = {"signature": {"instructions": "", "fields": []}, "demos": []}
    old, new = old or empty, new or empty
    change: dict[str, Any] = {}
    was, is_ = old["signature"], new["signature"]
    if was["instructions"] != is_["instructions"]:
        lines = difflib.unified_diff(
            was["instructions"].splitlines(), is_["instructions"].splitlines(), lineterm="", n=2
        )
        change["instructions"] = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    fields = [
        {"field": place, "was": one, "is": other}
        for place, (one, other) in enumerate(zip(was["fields"], is_["fields"], strict=False))
        if one != other
    ]
    if fields:
        change["fields"] = fields
    gone, fresh = _only_in(old["demos"], new["demos"]), _only_in(new["demos"], old["demos"])
    return change | ({"demos_gone": gone} if gone else {}) | ({"demos_new": fresh} if fresh else {})


def _only_in(these: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    left = list(others)
    found = []
    for one in these:
        if one in left:
            left.remove(one)
        else:
            found.append(one)
    return found


def show_differences(first: Found, second: Found, found: dict[str, dict[str, Any]]) -> None:
    """Print how two candidates differ."""
    out = console()
    for sign, one in (("-", first), ("+", second)):
        out.print(Text(f"{sign} no. {one.number}: {printable(one.name)}, {score_text(one.score)}", style="bold"))
    if not found:
        out.print("the same instructions and demos")
    for name, change in found.items():
        out.print(Text(f"\n{printable(name)}", style="cyan"))
        for line in change.get("instructions", ()):
            _print_line(printable(line))
        for field in change.get("fields", ()):
            for key in ("prefix", "description"):
                was, is_ = field["was"].get(key), field["is"].get(key)
                if was != is_:
                    _print_line(f"-{key} of field {field['field'] + 1}: {printable(str(was))}")
                    _print_line(f"+{key} of field {field['field'] + 1}: {printable(str(is_))}")
        for sign, key in (("-", "demos_gone"), ("+", "demos_new")):
            for demo in change.get(key, ()):
                _print_line(f"{sign}demo {_demo_text(demo)}")


def _demo_text(demo: Any) -> str:
    pairs = demo.items() if isinstance(demo, dict) else ()
    told = ", ".join(f"{name}: {' '.join(str(value).split())[:80]}" for name, value in pairs if name != "augmented")
    return printable(told)


def _print_line(line: str) -> None:
    style = {"-": "red", "+": "green"}.get(line[:1], "")
    console().print(Text(line, style=style), soft_wrap=True)


def show_list(found: Sequence[OptimizationStatus]) -> None:
    """Print optimisations, one in a line."""
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    made = table(
        ("optimisation", {"no_wrap": True}),
        ("state", {"no_wrap": True}),
        "optimizer",
        ("candidates", right),
        ("best", right),
        ("cost", right),
        ("time", right),
        ("left", right),
        ("began", {"no_wrap": True}),
    )
    for one in found:
        of = "" if one.expected is None else f"/{one.expected}"
        made.add_row(
            Text(one.run_id, style="bold"), Text(one.state, style=RUN_STYLES[one.state]), one.optimizer,
            f"{one.candidates}{of}", score_text(one.best_score), money_text(one), duration_text(one.duration),
            "–" if not one.remaining else duration_text(one.remaining), clock_text(one.created_at),
        )  # fmt: skip
    show(made)
