"""What each optimiser makes of one program: scores before and after on rows that it has not seen, and what it asked.

The program sorts the tickets of examples/data to teams; the embedded LM answers. That LM learns from demonstrations and
heeds instructions little, so what only words (COPRO, GEPA) gains less by it than by a large LM. `--data FILE` takes
another set: rows with `ticket` and `team`, with `text` and `label`, or with the fields that `--text` and `--label`
name. The first rows are learned from, the next ones scored on. `benchmarks.newsgroups` makes a file of a public set.

`--beside-dspy` has DSPy's optimisers do the same, over HTTP on the same LM: what is chosen has to be the same, and is
compared. PYTHON is one in which DSPy is; without it that is this one.

    python -m benchmarks.scores [--train N] [--held-out N] [--data FILE [--text F --label F]] [--only NAME] [--quick]
                                [--beside-dspy [PYTHON]]
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspex_actors as dspex
from benchmarks import scored
from benchmarks.common import console, home, parser, run, table
from dspex_actors.cli.lm_list import deployments
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError, DspexError

ROOT = Path(__file__).parents[1]
TICKETS = ROOT / "examples" / "data" / "tickets.jsonl"
TICKET_FIELDS, GENERAL_FIELDS = ("ticket", "team"), ("text", "label")
#: What DSPy has not, and how many threads its optimisers have.
OURS_ALONE, THREADS = ("DistributedBootstrap", "AdaptiveOptimizer"), 8


def read(path: Path, wanted: int, text: str = "", label: str = "") -> list[tuple[str, str]]:
    """Read the first `wanted` rows of a file as texts with their labels.

    Args:
        path: what `dspex.open_dataset` takes.
        wanted: so many rows; fewer are an error.
        text: name of the field with the text; without one, the first row says whether it is `ticket` or `text`.
        label: name of the field with the label, likewise `team` or `label`.

    Raises:
        ConfigError: there are fewer rows, one is without these fields, or all have one label.
    """
    rows = [dict(row) for row in open_dataset(path, limit=wanted)]
    usual = TICKET_FIELDS if set(TICKET_FIELDS) <= set(rows[0]) else GENERAL_FIELDS
    names = (text or usual[0], label or usual[1])
    found = [_pair(path, number, row, names) for number, row in enumerate(rows, 1)]
    if len(found) < wanted:
        raise ConfigError(
            f"{path.name} has {len(found)} of the {wanted} rows asked for; pass a smaller --train, --held-out"
        )
    if len({pair[1] for pair in found}) < 2:
        raise ConfigError(f"{path.name}: expected two labels or more, got only {found[0][1]!r} in {names[1]!r}")
    return found


def _pair(path: Path, number: int, row: dict[str, Any], names: tuple[str, str]) -> tuple[str, str]:
    for name in names:
        if name not in row:
            raise ConfigError(
                f"{path.name} row {number}: no field {name!r}, it has {', '.join(row)}; name yours by --text, --label"
            )
        if not isinstance(row[name], str) or not row[name].strip():
            raise ConfigError(f"{path.name} row {number}: expected a text in {name!r}, got {row[name]!r}")
    return row[names[0]], row[names[1]]


def _options() -> Any:
    made = parser(__doc__, train=200, held_out=249, data=str(TICKETS), text="", label="", only="")
    made.add_argument("--beside-dspy", nargs="?", const=sys.executable, metavar="PYTHON", help="a Python with DSPy")
    options = made.parse_args()
    if options.quick:
        options.train, options.held_out = 60, 60
    for name in ("train", "held_out"):
        if getattr(options, name) < 1:
            raise ConfigError(
                f"--{name.replace('_', '-')} is a number of rows, 1 or more; got {getattr(options, name)}"
            )
    if not _names(options):
        names = scored.optimisers(dspex, None, [], None)
        raise ConfigError(f"--only {options.only} is in the name of no optimiser; there are {', '.join(names)}")
    return options


def main() -> None:
    """Measure and print; what is not usable is told in one line, with status 2."""
    try:
        options = _options()
        pairs = read(Path(options.data), options.train + options.held_out, options.text, options.label)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if options.beside_dspy:
        try:
            console.print(f"beside DSPy {dspy_of(options.beside_dspy)}")
        except ConfigError as error:
            print(error, file=sys.stderr)
        else:
            beside(options, pairs)
            return
    measure(options, pairs)


def measure(options: Any, pairs: list[tuple[str, str]]) -> None:
    """Have each optimiser learn from the first `options.train` pairs, score it on the others, and print."""
    student, held_out = scored.program(dspex, pairs), scored.examples(dspex, pairs[options.train :])
    train = scored.examples(dspex, pairs[: options.train])
    found = []
    with home(), dspex.connect(lm="embedded/nearest", workers=2) as system:
        made = scored.optimisers(dspex, dspex.LM("embedded/nearest"), train, dspex.Embedder("embedded/nearest"))
        before = _score(student, held_out)
        for name in _names(options):
            asked, began = _asked(system), time.monotonic()
            try:
                better = scored.compiled(dspex, made[name](), student, train)
            except DspexError as error:
                console.print(f"{name}: {error}")
                continue
            seconds = time.monotonic() - began
            asked = _asked(system) - asked
            after = _score(better, held_out)
            console.print(f"{name}: {before} -> {after}, {asked} asked, {seconds:.1f} s")
            found.append([name, f"{before:.1f}", f"{after:.1f}", f"{asked:,}", f"{seconds:.1f}"])
    table(_title(options), ["optimiser", "before", "after", "calls", "seconds"], found)


def beside(options: Any, pairs: list[tuple[str, str]]) -> None:
    """Have ours and DSPy's do the same on one server, each with a cache that is empty at first, and print."""
    names = [name for name in _names(options) if name not in OURS_ALONE]
    held_out = scored.examples(dspex, pairs[options.train :])
    rows = []
    with embedded() as url:
        for theirs in _dspys(options, url, pairs, names):
            if "error" in theirs:
                console.print(f"{theirs['name']}: DSPy's ended with {theirs['error']}")
                continue
            lm = dspex.LM(scored.MODEL, base_url=url, temperature=0.0)
            with home(), dspex.connect(lm=lm, workers=2):
                embedder = dspex.Embedder(scored.MODEL, base_url=url)
                ours = scored.learned(dspex, theirs["name"], url, lm, embedder, pairs, options.train)
                ours["score"] = _score(ours["program"], held_out)
            rows.append([theirs["name"], *compared(ours, theirs)])
            console.print(", ".join(rows[-1]))
    columns = ["optimiser", "the same program", "candidates alike", "after: DSPy", "ours", "calls: DSPy", "ours"]
    table(_title(options), [*columns, "seconds: DSPy", "ours"], rows)


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return whether both chose the same, how many of our candidates DSPy has with the same score, and the figures."""
    plain = json.loads(json.dumps([ours["chosen"], ours["candidates"]]))
    alike = sum(one in theirs["candidates"] for one in plain[1])
    return [
        "yes" if plain[0] == theirs["chosen"] else "no",
        f"{alike} of {len(plain[1])}" if plain[1] else "",
        *(f"{one['score']:.1f}" for one in (theirs, ours)),
        *(f"{one['calls']:,}" for one in (theirs, ours)),
        *(f"{one['seconds']:.1f}" for one in (theirs, ours)),
    ]


def dspy_of(python: str) -> str:
    """Return the version of DSPy that a Python has.

    Raises:
        ConfigError: it has none, or cannot be run.
    """
    ask = "import dspy, optuna; print(dspy.__version__)"
    with contextlib.suppress(OSError):
        said = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
        if said.returncode == 0:
            return said.stdout.split()[-1]
    raise ConfigError(
        f"not compared with DSPy: {python} cannot import dspy and optuna; install 'dspy[optuna]==3.4.1' there, "
        "or name a Python that has them: --beside-dspy PYTHON"
    )


@contextlib.contextmanager
def embedded() -> Iterator[str]:
    """Serve the embedded LM in a process of its own inside the `with`; give its base URL in OpenAI's format."""
    command = [sys.executable, "-m", "dspex_actors.embedded"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield words[words.index("openai") + 1]
    finally:
        process.terminate()
        process.wait(20)


def _dspys(options: Any, url: str, pairs: list[tuple[str, str]], names: list[str]) -> Iterator[dict[str, Any]]:
    asked = json.dumps({"pairs": pairs, "train": options.train, "names": names})
    command = [options.beside_dspy, "-m", "benchmarks.scored", url, str(THREADS)]
    said = subprocess.run(command, input=asked, capture_output=True, text=True, cwd=ROOT, check=False)
    if said.returncode:
        sys.exit(f"DSPy's side ended with {(said.stderr.splitlines() or ['no word'])[-1]}")
    return map(json.loads, said.stdout.splitlines())


def _names(options: Any) -> list[str]:
    return [name for name in scored.optimisers(dspex, None, [], None) if options.only.lower() in name.lower()]


def _score(program: Any, held_out: list[Any]) -> float:
    return dspex.evaluate(program, held_out, scored.is_right, display_progress=False).score


def _title(options: Any) -> str:
    name = Path(options.data).name
    return f"{options.train} rows of {name} to learn from, {options.held_out} others to be scored on"


def _asked(system: dspex.System) -> int:
    """Count the answered calls; they are counted a moment after the answer, so until two looks see the same."""
    seen = -1
    while seen != (now := sum(int(row.get("answered", 0)) for row in deployments(system.node))):
        seen = now
        time.sleep(0.5)
    return seen


if __name__ == "__main__":
    run(main)
