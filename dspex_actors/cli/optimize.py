"""`dspex optimize`: make a better program out of a program, examples and a metric."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import Any

import click

from dspex_actors.cli import connection, preflight
from dspex_actors.cli.evaluate import tags_of
from dspex_actors.cli.optimizations_look import progress_line, show_status, status_record
from dspex_actors.cli.output import console, json_option, print_json
from dspex_actors.cli.shell import DONE, FAILED, INTERRUPTED, say_error, say_note
from dspex_actors.cli.targets import choose_lm, load_metric, load_program
from dspex_actors.client.inputs import check_has_lm, dataset_inputs
from dspex_actors.client.optimisations import OptimizationHandle, row_of
from dspex_actors.config import load_config
from dspex_actors.data.opening import open_dataset
from dspex_actors.dspy.student import as_student, default_lm
from dspex_actors.errors import ConfigError, RunInterrupted
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.names import check_run_id
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.finetune.optimizer import BootstrapFinetune
from dspex_actors.teleprompt.limits import Limits
from dspex_actors.teleprompt.optimizer import Optimizer
from dspex_actors.teleprompt.registry import OPTIMIZERS, make_optimizer, optimizer_class, split_settings
from dspex_actors.teleprompt.taken import check_metric_taken
from dspex_actors.teleprompt.trainset import check_labels, read_trainset
from supervisors.client.launch import node_runs

#: The progress is looked at this often, in seconds.
LOOK_SECONDS = 0.5
#: What a value of `--set` may be in the words of dspex.toml.
_WORDS = {"none": None, "true": True, "false": False}
_NO_LM = "no LM to ask: add --lm provider/model (embedded/nearest needs no key), or [lm.default] in dspex.toml"


def limit_options(command: Any) -> Any:
    """Add what an optimisation may cost."""
    options = (
        click.option("--budget", type=float, metavar="USD", help="Pause before all of it has cost more than so much."),
        click.option("--max-calls", type=int, metavar="N", help="LM calls at most: paused when one more is needed."),
        click.option("--max-seconds", type=float, metavar="S", help="Pause after so many seconds under way."),
    )
    for option in reversed(options):
        command = option(command)
    return command


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="F",
    help="Save the best program there (JSON); of finetune the data (JSONL).",
)


@click.command()
@click.argument("program")
@click.argument("data")
@click.option("--optimizer", required=True, metavar="NAME", help=f"One of {', '.join(OPTIMIZERS)}.")
@click.option("--metric", metavar="M", help="exact_match:FIELD, contains:, f1:, numeric:, or pkg.mod:fn.")
@click.option("--valset", type=click.Path(), metavar="F", help="What candidates are scored on.  [default: DATA]")
@click.option("--skip-bad-lines", is_flag=True, help="Leave out lines that are not usable.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A setting of the optimiser, as breadth=5.")
@limit_options
@output_option
@click.option("--lm", metavar="L", help="A model string, or a name from dspex.toml.  [default: the one called default]")
@click.option("--prompt-lm", metavar="L", help="The LM that proposes, where the optimiser has one.  [default: --lm]")
@click.option("--base-url", metavar="URL", help="The LM's server.")
@click.option("--api-key", metavar="env:VAR", help="Where the key is; never the key.")
@click.option("--max-in-flight", type=click.IntRange(1), metavar="N", help="Examples at once, in each of its runs.")
@click.option("--run-id", metavar="ID", help="Name it, or go on with the one of this name.")
@click.option("--signature", metavar="S", help="Of a saved program that DSPy wrote, such as 'ticket -> team'.")
@click.option("--load", "state", metavar="F", help="Load a saved state into a program given as pkg.mod:object.")
@click.option(
    "--config", "config_file", type=click.Path(), metavar="F", help="The configuration.  [default: ./dspex.toml]"
)
@click.option("--tag", "tags", multiple=True, metavar="NAME=TEXT", help="What it is for; for `dspex cost`.")
@click.option("--force-resume", is_flag=True, help="Go on with the one of this id also where it was another one.")
@click.option("--detach", is_flag=True, help="Have the host's node do it, and return at once.")
@click.option("--quiet", is_flag=True, help="No progress line.")
@json_option
def optimize(
    program: str,
    data: str,
    optimizer: str,
    metric: str | None,
    valset: str | None,
    skip_bad_lines: bool,
    pairs: tuple[str, ...],
    budget: float | None,
    max_calls: int | None,
    max_seconds: float | None,
    output: str | None,
    lm: str | None,
    prompt_lm: str | None,
    base_url: str | None,
    api_key: str | None,
    max_in_flight: int | None,
    run_id: str | None,
    signature: str | None,
    state: str | None,
    config_file: str | None,
    tags: tuple[str, ...],
    force_resume: bool,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Optimise PROGRAM with the examples in DATA, and save the best one.

    PROGRAM is a saved program (JSON), or pkg.mod:object with the working folder importable. DATA is JSONL or CSV, also
    with .gz, with a column per field. The node does it: with `dspex start` before, it goes on when this terminal is
    gone. Ctrl-C pauses it; `dspex optimizations` lists, shows and resumes.
    """
    if run_id is not None:
        check_run_id(run_id)
    settings = given_settings(pairs)
    limits = {"usd": budget, "calls": max_calls, "seconds": max_seconds}
    Limits.of(limits)
    kind = optimizer_class(optimizer)
    check_output(output, kind.__name__)
    _check_metric(kind, metric)
    config = load_config(config_file)
    found = load_program(program, signature, state, own_lm=lm is None)
    loaded = as_student(found)
    if not isinstance(loaded, Module) or not loaded.predictors():
        raise ConfigError(f"program {program}: it has no predictors, so nothing can be optimised")
    scored = None if metric is None else load_metric(metric)
    chosen = choose_lm(config, lm, {"base_url": base_url, "api_key": api_key})
    if chosen is None and loaded is not found:
        chosen = default_lm()  # a program of DSPy's: what its file has configured
    check_has_lm(loaded, chosen, _NO_LM)
    prompt = _prompt_lm(kind, prompt_lm, config)
    settings |= prompt
    of_class, _ = split_settings(optimizer, settings)
    make_optimizer(optimizer, scored, of_class)  # refuses what cannot be made before anything starts
    train = _examples(data, loaded, "trainset", skip=skip_bad_lines)
    val = None if valset is None else _examples(valset, loaded, "valset", skip=skip_bad_lines)
    check_labels(scored, train, "trainset")
    daemon = node_runs(default_data_dir())
    if detach and not daemon:
        raise ConfigError("--detach needs the host's node: `dspex start` first")
    preflight.check_lms([*preflight.lms_of(loaded, chosen), *prompt.values()], keys=not daemon)
    with connection.for_run(run_id, config.node.workers) as system:
        configured = system.config.get("optimisation")
        of_class, of_compile = split_settings(optimizer, settings, configured)
        made = make_optimizer(optimizer, scored, of_class, configured)
        handle = system.start_optimization(
            made,
            loaded,
            train,
            valset=val,
            budget=limits,
            run_id=run_id,
            lm=chosen,
            max_in_flight=max_in_flight,
            tags=tags_of(tags),
            force_resume=force_resume,
            **of_compile,
        )
        if detach:
            return _tell_detached(handle, as_json)
        return follow(handle, output, quiet, as_json)


def follow(handle: OptimizationHandle, output: str | None, quiet: bool, as_json: bool) -> int:
    """Wait for an optimisation, show how it stands, save the best program; Ctrl-C pauses it."""
    try:
        _watch(handle, quiet or as_json)
        error = None
        best = handle.wait()
    except KeyboardInterrupt:
        handle.pause("interrupted by Ctrl-C")
        say_note(f"optimisation {handle.run_id} is paused; go on with `dspex optimizations resume {handle.run_id}`")
        if as_json:
            print_json(status_record(handle.status()))
        return INTERRUPTED
    except RunInterrupted as interrupted:
        error, best = interrupted, handle.best()
    saved = None if output is None or best is None else save(best, output)
    status = handle.status()
    if as_json:
        print_json(status_record(status, handle.candidates()) | {"saved": saved})
    else:
        show_status(status, handle.candidates())
        if saved is not None:
            what = "data to fine-tune with" if is_data(output) else "best program"
            say_note(f"the {what}{'' if error is None else ' so far'} is in {saved}")
    if error is not None:
        say_error(f"{error.message}; on the command line: `dspex optimizations resume {handle.run_id}`")
        return FAILED
    return DONE


def save(best: Any, output: str) -> str:
    """Save the best program, or the data of one that has them; return where."""
    if is_data(output):
        return ", ".join(str(path) for path in best.finetune_data.save(output))
    best.save(output)
    return output


def is_data(output: str | None) -> bool:
    """Whether a file is one of data, and not of a program."""
    return output is not None and output.endswith(".jsonl")


def check_output(output: str | None, optimizer: str) -> None:
    """Refuse a file that could not be written when all is paid.

    Args:
        output: the file; None: there is none.
        optimizer: the name of its class.

    Raises:
        ConfigError: says what is wrong with it.
    """
    if output is None:
        return
    path = Path(output)
    ending = ".jsonl" if optimizer == BootstrapFinetune.__name__ else ".json"
    if path.suffix != ending:
        raise ConfigError(
            f"--output is invalid: got {output!r:.100}, expected a name that ends in {ending}, for {optimizer}"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output is invalid: there is no folder {path.absolute().parent}")


def _watch(handle: OptimizationHandle, quiet: bool) -> None:
    """Show a line of progress until it ends."""
    err = console(err=True)
    if quiet or not err.is_terminal:
        return
    with err.status("") as line:
        while (status := handle.status()).state == "running":
            line.update(progress_line(status))
            time.sleep(LOOK_SECONDS)


def _tell_detached(handle: OptimizationHandle, as_json: bool) -> int:
    if as_json:
        print_json(status_record(handle.status()))
    else:
        say_note(f"optimisation {handle.run_id} is under way; `dspex optimizations show {handle.run_id}` shows it")
    return DONE


def _examples(path: str, program: Any, what: str, *, skip: bool) -> list[Any]:
    """Return the examples of a file; lines that are not usable are told, and left out if that is meant."""
    if not skip:
        return read_trainset(path, program, what)
    opened = open_dataset(path, input_names=dataset_inputs(path, program), on_bad_line="skip")
    found = read_trainset(opened, program, what)
    if opened.skipped.count:
        lines = ", ".join(f"{line:,}" for line, _ in opened.skipped.first)
        count = opened.skipped.count
        say_note(f"{what}: {count:,} line{' is' if count == 1 else 's are'} left out ({lines})")
    return found


def _check_metric(kind: type[Optimizer], metric: str | None) -> None:
    if metric is None and kind.needs_metric:
        raise ConfigError(f"metric: {kind.__name__} compares programs by it: add --metric M, as exact_match:FIELD")
    check_metric_taken(kind, metric)


def given_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return what `--set` says, by name: values as Python has them, or as dspex.toml does; else they are texts.

    Raises:
        ConfigError: one has no name, or no value.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise ConfigError(f"--set is invalid: got {pair!r:.100}, expected NAME=VALUE, as in breadth=5")
        try:
            found[name.strip()] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name.strip()] = _WORDS.get(text.strip().lower(), text)
    return found


def _prompt_lm(kind: type[Optimizer], name: str | None, config: Any) -> dict[str, Any]:
    """Return the LM that proposes as the setting that the optimiser has for it."""
    if name is None:
        return {}
    import inspect

    there = inspect.signature(kind).parameters
    for setting in ("prompt_model", "reflection_lm"):
        if setting in there:
            return {setting: config.lm(name)}
    raise ConfigError(f"--prompt-lm: {kind.__name__} asks no LM for proposals")


def handle_of(system: Any, run_id: str) -> OptimizationHandle:
    """Return the handle of an optimisation of a node."""
    row_of(system.journal, run_id)
    return OptimizationHandle(system, run_id)
