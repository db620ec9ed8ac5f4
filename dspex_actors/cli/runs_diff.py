"""`dspex runs diff`: what is another outcome in one run than in another."""

from __future__ import annotations

import click
from rich.text import Text

from dspex_actors.cli.finding import find
from dspex_actors.cli.output import REPORT_WIDTH, grid, json_option, print_json, show, table
from dspex_actors.cli.shell import DONE
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.foundation.noise import Paired
from dspex_actors.journal.difference import LISTED, Difference, compare, difference_record
from dspex_actors.journal.index import Found, all_runs
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import OPTIMISE, WORKFLOW
from dspex_actors.journal.summary import cost_of, score_of
from dspex_actors.names import optimization_command


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("other_id", metavar="[OTHER]", required=False)
@json_option
def diff(run_id: str, other_id: str | None, as_json: bool) -> int:
    """Compare two runs: what they are, their figures, whether it is noise, and the examples whose score is another one.

    OTHER is the later one. It may be left out: RUN is compared with the one before it on the same dataset then.
    """
    first, second = (find(run_id), find(other_id)) if other_id is not None else (_before(run_id), find(run_id))
    for one in (first, second):
        if one.row.spec.kind == WORKFLOW:
            raise ConfigError(f"run {one.row.run_id} is a workflow: it has no examples to compare")
        if one.row.spec.kind == OPTIMISE:
            compares = optimization_command("diff", one.row.run_id)
            raise ConfigError(f"run {one.row.run_id} is an optimisation: `{compares} 1 best` compares its candidates")
    ones, others = (one.reader.iter_results(one.row.run_id) for one in (first, second))
    found = compare(first.row, ones, second.row, others)
    if as_json:
        print_json(difference_record(first.row, second.row, found))
    else:
        _show(first.row, second.row, found)
    return DONE


def _before(run_id: str) -> Found:
    row = find(run_id).row
    for found in all_runs(default_data_dir().absolute())[0]:
        other = found.row
        same = (other.spec.kind, other.spec.dataset_digest) == (row.spec.kind, row.spec.dataset_digest)
        if same and other.created_at < row.created_at:
            return found
    raise ConfigError(f"no run before {run_id} is on the same dataset: name the other one (`dspex runs` lists them)")


def _show(one: RunRow, other: RunRow, found: Difference) -> None:
    figures = table(("", {"style": "dim"}), (one.run_id, {"justify": "right"}), (other.run_id, {"justify": "right"}))
    for name, values in (
        ("score", [_text(score_of(row), "{:.2f}") for row in (one, other)]),
        ("examples", [f"{row.done:,}" for row in (one, other)]),
        ("failed", [f"{row.failed:,}" for row in (one, other)]),
        ("cost", [_text(cost_of(row), "${:,.4f}") for row in (one, other)]),
    ):
        figures.add_row(name, *values)
    show(figures, REPORT_WIDTH)
    rows = [
        ("another", Text("; ".join(found.parts) or "nothing that is known")),
        ("examples", Text(f"{found.better:,} better, {found.worse:,} worse, {found.same:,} the same")),
    ]
    rows.append(("noise", Text(_noise(found.test()))))
    if found.only_first or found.only_second:
        rows.append(("without", Text(f"{found.only_first:,} only in the first, {found.only_second:,} in the second")))
    show(grid(rows), REPORT_WIDTH)  # type: ignore[arg-type]
    if found.changed:
        count = found.better + found.worse
        title = "Other scores" if count <= LISTED else f"Other scores, the first {LISTED} of {count:,}"
        right = {"justify": "right"}
        changed = table(("example", right), (one.run_id, right), (other.run_id, right), title=title)
        for index, first, second in found.changed:
            changed.add_row(f"{index:,}", _text(first, "{:g}"), _text(second, "{:g}"))
        show(changed, REPORT_WIDTH)


def _noise(test: Paired) -> str:
    """Say whether chance explains the difference, and what the mean of all examples would change by."""
    if not test.better + test.worse:
        return "nothing differs"
    mean = f"{100 * test.mean:+.2f}"
    if test.low is not None and test.high is not None:
        mean += f" (95 %: {100 * test.low:+.2f} to {100 * test.high:+.2f})"
    told = "chance explains it" if test.is_noise else "more than chance"
    return f"{told}: p = {test.p:.3g}, {mean} on {test.n:,} examples"


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
