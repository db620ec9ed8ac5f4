"""A spending limit over calls of unequal price: what is spent of it, by the server's own book, and how fast.

The server is the stand-in LM. Prompts differ in length and answers in tokens; nobody knows a price before the answer.
One run has no limit, one has a limit that it does not reach, one is stopped by it; and one is stopped while workers,
and the owner of the limit, are killed.

    python -m benchmarks.spending [--examples N] [--budget USD] [--in-flight N] [--quick]
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import home, parser, run, table

INPUT, OUTPUT = 0.6, 2.4
PRICES = f'["openai/x"]\ninput = {INPUT}\noutput = {OUTPUT}\n'
ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"


@contextlib.contextmanager
def provider(*options: str) -> Iterator[str]:
    """Give the address of a stand-in LM that books its requests."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dspex_actors.embedded", "--port", "0", "--book", "--answer", ANSWER, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield words[words.index("openai") + 1]
    finally:
        process.kill()
        process.wait()


def billed(url: str, since: int) -> tuple[int, float]:
    """Return how many requests the server has booked, and what those from the `since`-th on cost."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/booked", timeout=60) as answer:
        rows: list[dict[str, Any]] = json.load(answer)
    return len(rows), sum(row["input"] * INPUT + row["output"] * OUTPUT for row in rows[since:]) / 1e6


def examples(count: int, seed: int = 1) -> list[dict[str, str]]:
    """Return examples whose prices differ up to a hundredfold."""
    rng = random.Random(seed)
    lengths = [rng.choice((1, 1, 1, 5, 20, 200)) for _ in range(count)]
    return [{"ticket": f"ticket {place}" + " please" * n, "team": "billing"} for place, n in enumerate(lengths)]


class Killer:
    """Kills parts of a node, one after the other, inside the `with`.

    Args:
        node: the node.
        victims: beginnings of their ids; none: nobody is killed.
    """

    def __init__(self, node: Any, *victims: str) -> None:
        """Prepare it."""
        self._node, self._victims = node, victims
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        #: How many it has killed.
        self.killed = 0

    def _work(self) -> None:
        while self._victims and not self._stop.wait(1.0):
            victim = self._victims[self.killed % len(self._victims)]
            rows = [row for row in _rows(self._node.tree()) if str(row["id"]).startswith(victim) and row["pid"]]
            for row in rows[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGKILL)
                self.killed += 1

    def __enter__(self) -> Killer:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()


def _rows(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree["children"]:
        yield from _rows(child)


def measure(options: Any) -> None:
    """Run all of it and print the table."""
    import dspex_actors as dspex

    rows = []
    with home() as folder, provider("--latency-ms", "5") as url:
        (Path(folder) / "prices.toml").write_text(PRICES)
        os.environ["DSPEX_PRICES"] = str(Path(folder) / "prices.toml")
        lm = dspex.LM("openai/x", base_url=url, max_tokens=64, cache=False)
        devset = examples(options.examples)
        metric = dspex.metrics.exact_match("team")
        before = 0
        with dspex.connect(workers=2) as system:
            cases = (
                ("no limit", None, False),
                ("not reached", 1000.0, False),
                ("reached", options.budget, False),
                ("reached, parts are killed", options.budget, True),
            )
            for name, budget, kills in cases:
                began, state, done = time.perf_counter(), "finished", len(devset)
                killer = Killer(system.node, *(("worker-1", "spending") if kills else ()))
                try:
                    with killer:
                        dspex.evaluate(
                            dspex.Predict("ticket -> team"),
                            devset,
                            metric,
                            lm=lm,
                            budget=budget,
                            max_in_flight=options.in_flight,
                            display_progress=False,
                        )
                except dspex.BudgetExceeded as error:
                    row = system.journal.get_run(str(error.run_id))
                    state, done = "paused", row.done if row is not None else 0
                seconds = time.perf_counter() - began
                after, cost = billed(url, before)
                before = after
                rows.append(
                    [
                        name,
                        "-" if budget is None else f"${budget:,.2f}",
                        f"${cost:,.4f}",
                        "-" if budget is None or state == "finished" else f"{cost / budget:.1%}",
                        f"{done:,}",
                        state + (f" ({killer.killed} killed)" if kills else ""),
                        f"{done / seconds:,.0f}/s",
                    ]
                )
    table(
        f"limits of money: {options.examples:,} examples of unequal price, {options.in_flight} in flight",
        ["case", "limit", "server's book", "used", "examples", "run", "speed"],
        rows,
    )


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=10_000, budget=1.0, in_flight=64).parse_args()
    if options.quick:
        options.examples, options.budget = 1000, 0.1
    measure(options)


if __name__ == "__main__":
    run(main)
