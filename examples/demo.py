"""The main job, once, for real: evaluate a program, kill a worker in the middle, improve the program, evaluate again.

    make demo            (or: python examples/demo.py)

Everything is real - processes, HTTP, SQLite, SIGKILL - but the language model: that is the embedded one, which has
no weights and answers like the examples in its prompt.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table

import dspex_actors as dspex
from dspex_actors.cli.look import show_tree
from dspex_actors.data.opening import open_dataset
from supervisors.host.processes import descendants

TICKETS = Path(__file__).parent / "data" / "tickets.jsonl"
TRAINING = 200
TEAMS = Literal["billing", "bugs", "accounts", "integrations", "sales", "privacy"]
console = Console(highlight=False)


class Triage(dspex.Signature):
    """Decide which team handles a support ticket."""

    ticket: str = dspex.InputField()
    team: TEAMS = dspex.OutputField(desc="the team that handles it")


def main() -> int:
    """Run the demo; return 0 when everything it promises was seen."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dspex-demo-") as home:
        os.environ["DSPEX_HOME"] = home
        examples = [dspex.Example(**row).with_inputs("ticket") for row in open_dataset(TICKETS)]
        train, held_out = examples[:TRAINING], examples[TRAINING:]
        metric = dspex.metrics.exact_match("team")
        with dspex.connect(
            lm="embedded/nearest", workers=2, embedded={"latency_ms": 120, "latency_sigma": 0.4}
        ) as system:
            daemon = system.node.info["pid"]
            step("A node: its supervision tree, one process each")
            show_tree(console, system.node.tree(), {})

            step(f"Evaluate without demonstrations on {len(held_out)} held-out tickets")
            triage = dspex.Predict(Triage)
            killer = Killer(system, after=60)
            before = dspex.evaluate(triage, held_out, metric, max_in_flight=24, on_progress=killer.look)
            console.print(before.table())
            console.print(killer.story(before))

            step(f"Bootstrap demonstrations from {TRAINING} training tickets")
            optimiser = dspex.BootstrapFewShot(metric=metric, max_bootstrapped_demos=16, max_labeled_demos=TRAINING)
            better = optimiser.compile(triage, trainset=train)
            found = sum(bool(demo.get("augmented")) for demo in better.demos)
            console.print(
                f"{found} demonstrations that the program answered well itself, "
                f"{len(better.demos) - found} labelled ones"
            )

            step("Evaluate again, with demonstrations")
            after = dspex.evaluate(better, held_out, metric, max_in_flight=24)
            console.print(after.table())
            console.print(scores(before, after))
            processes = [daemon, *descendants(daemon)]
        left = [pid for pid in processes if alive(pid)]
    step("Stop")
    told = f"[red]still there: {left}[/]" if left else "[green]none is left[/]"
    console.print(f"the node had {len(processes)} processes: {told}")
    console.print(f"[dim]{time.monotonic() - started:.1f} s in all[/]")
    complete = before.n == after.n == len(held_out) and not before.failed and not after.failed
    return 0 if complete and killer.seen and better_score(before, after) and not left else 1


def step(title: str) -> None:
    """Begin a chapter."""
    console.print()
    console.print(Rule(f"[bold cyan]{title}", align="left", style="cyan"))


class Killer:
    """Kills an http worker once a run has so many results, and sees it come back."""

    def __init__(self, system: dspex.System, after: int) -> None:
        self._system = system
        self._after = after
        self._thread: threading.Thread | None = None
        self.victim = self.successor = 0
        self.done = 0
        self.seconds = 0.0

    @property
    def seen(self) -> bool:
        """Whether the worker was killed and is back."""
        if self._thread is not None:
            self._thread.join(10.0)
        return bool(self.successor)

    def look(self, summary: dict[str, Any]) -> None:
        """Take a run's progress."""
        if self._thread is None and summary["done"] >= self._after:
            self.done = summary["done"]
            self._thread = threading.Thread(target=self._strike, daemon=True)
            self._thread.start()

    def _strike(self) -> None:
        node = self._system.node
        self.victim = node.pid("worker-1") or 0
        monitor = node.monitor("worker-1")
        killed = time.monotonic()
        os.kill(self.victim, signal.SIGKILL)
        monitor.wait(5.0)
        self.successor = wait_for(lambda: node.pid("worker-1"), lambda pid: pid not in (None, self.victim)) or 0
        self.seconds = time.monotonic() - killed

    def story(self, result: dspex.EvaluationResult) -> Panel:
        """Tell what happened."""
        again = sum(one.attempts > 1 for one in result.results)
        lines = (
            [
                f"[red]kill -9[/] of worker-1 (pid {self.victim}) after {self.done} results",
                f"[green]its supervisor started it again[/] as pid {self.successor}, "
                f"ready after {self.seconds * 1000:.0f} ms",
                f"{again} examples that it had in hand went out again; "
                f"[green]all {result.n} results are there[/], {result.failed} failed",
            ]
            if self.seen
            else ["[red]the worker was not killed, or did not come back[/]"]
        )
        return Panel("\n".join(lines), title="a worker dies", title_align="left", border_style="yellow", expand=False)


def wait_for(look: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 10.0) -> Any:
    """Look until what is seen is good; None when the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = look()
        if good(value):
            return value
        time.sleep(0.002)
    return None


def better_score(before: dspex.EvaluationResult, after: dspex.EvaluationResult) -> bool:
    """Whether the improved program is better."""
    return before.score is not None and after.score is not None and after.score > before.score


def scores(before: dspex.EvaluationResult, after: dspex.EvaluationResult) -> Table:
    """Put the two scores side by side."""
    table = Table(title="held-out tickets sorted to the right team", title_style="bold", title_justify="left")
    for name in ("program", "score", "examples", "tokens in", "tokens out"):
        table.add_column(name, justify="left" if name == "program" else "right")
    for name, result in (("without demonstrations", before), ("with them", after)):
        usage = result.usage
        table.add_row(
            name,
            f"{result.score:.1f} %",
            str(result.n),
            f"{usage['input_total']:,}",
            f"{usage['output_total']:,}",
        )
    return table


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
