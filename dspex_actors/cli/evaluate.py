"""`dspex evaluate`: a program on a dataset."""

from __future__ import annotations

import time
from typing import Any, Literal

import click

from dspex_actors.cli import connection, preflight
from dspex_actors.cli.output import REPORT_WIDTH, json_option, print_json, show
from dspex_actors.cli.shell import DONE, FAILED, INTERRUPTED
from dspex_actors.cli.targets import choose_lm, load_metric, load_program
from dspex_actors.client.evaluate import evaluate as run_evaluation
from dspex_actors.client.inputs import check_has_lm, dataset_inputs
from dspex_actors.client.report import report
from dspex_actors.config import load_config
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError, RunFailed, RunInterrupted
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.index import as_it_is
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.summary import run_summary
from dspex_actors.names import check_run_id, run_command
from supervisors.client.launch import node_runs

force_option = click.option(
    "--force-resume",
    is_flag=True,
    help="Go on with the run of this id also where it was another one, was cancelled, or its dataset was edited.",
)
budget_option = click.option(
    "--budget", type=float, metavar="USD", help="Pause before the run, all of it, has cost more than so much."
)
_NO_LM = "no LM to ask: add --lm provider/model (embedded/nearest needs no key), or [lm.default] in dspex.toml"


@click.command()
@click.argument("program")
@click.argument("data")
@click.option(
    "--metric", required=True, metavar="M", help="exact_match:FIELD, contains:, f1:, numeric:, or pkg.mod:fn."
)
@click.option("--lm", metavar="L", help="A model string, or a name from dspex.toml.  [default: the one called default]")
@click.option("--base-url", metavar="URL", help="The LM's server.")
@click.option("--api-key", metavar="env:VAR", help="Where the key is; never the key.")
@click.option("--rpm", type=float, metavar="N", help="Requests a minute.")
@click.option("--tpm", type=float, metavar="N", help="Tokens a minute.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    metavar="N",
    help="Examples at once.  [default: 256; 10,000 with --batch]",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first so many examples.")
@click.option("--run-id", metavar="ID", help="Name the run, or continue the one of this name.")
@click.option("--skip-bad-lines", is_flag=True, help="Leave out lines that are not usable.")
@click.option(
    "--failures",
    type=click.Choice(["retry", "skip", "stop"]),
    default="retry",
    show_default=True,
    help="What to do with an example that failed.",
)
@click.option(
    "--max-attempts", type=click.IntRange(1), metavar="N", default=3, show_default=True, help="Attempts per example."
)
@click.option("--max-failures", type=click.IntRange(0), metavar="N", help="End the run when more have failed.")
@click.option(
    "--deadline",
    type=float,
    metavar="S",
    help="Seconds for one example.  [default: 3600; a week with --batch]",
)
@click.option("--no-hedge", is_flag=True, help="Start no example twice, however long it takes at the end.")
@click.option("--batch", is_flag=True, help="Through batches (OpenAI, Anthropic): half the price, up to a day a round.")
@click.option("--signature", metavar="S", help="Of a saved program that DSPy wrote, such as 'ticket -> team'.")
@click.option("--load", "state", metavar="F", help="Load a saved state into a program given as pkg.mod:object.")
@click.option(
    "--config", "config_file", type=click.Path(), metavar="F", help="The configuration.  [default: ./dspex.toml]"
)
@click.option("--tag", "tags", multiple=True, metavar="NAME=TEXT", help="What the run is for; for `dspex cost`.")
@budget_option
@click.option("--quiet", is_flag=True, help="No progress bar.")
@force_option
@json_option
def evaluate(
    program: str,
    data: str,
    metric: str,
    lm: str | None,
    base_url: str | None,
    api_key: str | None,
    rpm: float | None,
    tpm: float | None,
    max_in_flight: int | None,
    limit: int | None,
    run_id: str | None,
    skip_bad_lines: bool,
    failures: str,
    max_attempts: int,
    max_failures: int | None,
    deadline: float | None,
    no_hedge: bool,
    batch: bool,
    signature: str | None,
    state: str | None,
    config_file: str | None,
    tags: tuple[str, ...],
    budget: float | None,
    quiet: bool,
    force_resume: bool,
    as_json: bool,
) -> int:
    """Evaluate PROGRAM on DATA and print a report.

    PROGRAM is a saved program (JSON), or pkg.mod:object with the working folder importable. DATA is JSONL or CSV, also
    with .gz, with a column per field. Exit status 0 when no example failed, 1 otherwise. Ctrl-C pauses the run.
    """
    if run_id is not None:
        check_run_id(run_id)
    config = load_config(config_file)
    loaded = load_program(program, signature, state, own_lm=lm is None)
    scored = load_metric(metric)
    changes = {"base_url": base_url, "api_key": api_key, "rpm": rpm, "tpm": tpm}
    chosen = choose_lm(config, lm, changes)
    check_has_lm(loaded, chosen, _NO_LM)
    on_bad_line: Literal["stop", "skip"] = "skip" if skip_bad_lines else "stop"
    dataset = open_dataset(data, input_names=dataset_inputs(data, loaded), limit=limit, on_bad_line=on_bad_line)
    preflight.check_data(dataset, loaded, scored)
    if not connection.is_finished(run_id):
        daemon = node_runs(default_data_dir())
        preflight.check_lms(preflight.lms_of(loaded, chosen), keys=not daemon)
    seen: dict[str, Any] = {}
    with connection.for_run(run_id, config.node.workers) as system:
        try:
            result = run_evaluation(
                loaded,
                data,
                scored,
                lm=chosen,
                max_in_flight=max_in_flight,
                failures=failures,
                max_attempts=max_attempts,
                max_failures=max_failures,
                deadline=deadline,
                hedge=not no_hedge,
                batch=batch,
                tags=tags_of(tags),
                budget=budget,
                run_id=run_id,
                limit=limit,
                on_bad_line=on_bad_line,
                display_progress=not quiet,
                on_progress=seen.update,
                system=system,
                force_resume=force_resume,
            )
        except KeyboardInterrupt:
            if "run_id" in seen:
                show_interrupted(system.journal, seen["run_id"], as_json)
            return INTERRUPTED
        except RunInterrupted as error:
            if error.run_id is not None:
                show_interrupted(system.journal, error.run_id, as_json)
            raise
        except RunFailed as error:
            if error.run_id is not None:
                show_result(system.journal, error.run_id, as_json)
            raise
        show_result(system.journal, result.run_id, as_json)
    return DONE if result.failed == 0 else FAILED


def tags_of(given: tuple[str, ...]) -> dict[str, str]:
    """Return tags that were given as NAME=TEXT.

    Raises:
        ConfigError: one of them is none.
    """
    named = [tag.partition("=") for tag in given]
    for name, equals, text in named:
        if not (name and equals and text):
            raise ConfigError(f"--tag is invalid: got {name + equals + text!r}, expected NAME=TEXT, as in team=search")
    return {name: text for name, _, text in named}


def show_interrupted(reader: JournalReader, run_id: str, as_json: bool) -> None:
    """Print, where JSON is asked for, what there is of a run whose end was not seen, and how to go on."""
    row = reader.get_run(run_id)
    if row is not None and as_json:
        now = as_it_is(row, reader.path.parent)
        print_json(run_summary(now, time.time()) | {"resume": run_command("resume", run_id)})


def show_result(reader: JournalReader, run_id: str, as_json: bool) -> None:
    """Print a run's report, or its figures as JSON."""
    row = reader.get_run(run_id)
    if row is None:
        return
    if as_json:
        print_json(run_summary(row))
    else:
        show(report(reader, row), REPORT_WIDTH)
