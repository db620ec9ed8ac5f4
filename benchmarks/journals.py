"""What it costs to write results down, in a file and in a PostgreSQL server: batches as evaluators bring them.

`python -m benchmarks.journals [--quick] [--postgres postgresql://USER@HOST/DATABASE]`. What it writes is removed.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import TICKET, console, parser, run

#: Batches as they come at 2,000 examples a second.
BATCH = 300
RUN = "benchmark-of-journals"


def batch(first: int) -> tuple[list[Any], list[Any]]:
    from dspex_actors.journal.records import ResultRow
    from dspex_actors.journal.schema import attempt_values, values_of_result
    from dspex_actors.lm.attempts import Attempt

    usage = '{"input_total":100,"output_total":10,"cache_read":0}'
    sent = {"send": 1, "n": 1, "at": 9.0, "provider": "openai", "model": "m", "outcome": "answered", "cost": 0.001}
    results, attempts = [], []
    for index in range(first, first + BATCH):
        example = TICKET.format(index).encode()
        row = ResultRow(index=index, example=example, prediction=b"bugs", score=1.0, latency=0.1, worker="n/w", at=1.0)
        results.append(values_of_result(row))
        attempts.append(attempt_values(Attempt(index, usage=usage, latency=0.1, **sent)))
    return results, attempts


def measure(journal: Any, count: int) -> list[str]:
    from dspex_actors.journal.records import RunSpec
    from dspex_actors.journal.store import Batch

    journal.delete_run(RUN)
    journal.create_run(RunSpec(run_id=RUN, program=bytes(20_000)), state="paused")
    journal.next_epoch(RUN)
    memory, quarters, this = psutil.Process(), [], 0.0
    early, cpu = 0, 0.0
    for number in range(1, count // BATCH + 1):
        rows = batch(number * BATCH)
        began, used = time.perf_counter(), time.process_time()
        journal.append(RUN, 0, Batch(1, number), *rows)
        this += time.perf_counter() - began
        cpu += time.process_time() - used
        if number == 10_000 // BATCH:
            early = memory.memory_info().rss
        if number % (count // BATCH // 4) == 0:
            quarters.append(this)
            this = 0.0
    late = memory.memory_info().rss
    done = journal.get_run(RUN).done
    journal.delete_run(RUN)
    wall = sum(quarters) / done * 1e6
    per_quarter = " ".join(f"{one / done * 4e6:.0f}" for one in quarters[:4])
    return [f"{done:,}", f"{cpu / done * 1e6:.1f}", f"{wall:.1f}", per_quarter, f"{late / max(early, 1):.2f}"]


def main() -> None:
    from rich.table import Table

    from dspex_actors.journal.postgres.writer import PostgresJournal
    from dspex_actors.journal.writer import Journal

    options = parser(__doc__, postgres=os.environ.get("DSPEX_BENCHMARK_POSTGRES", "")).parse_args()
    count = 24_000 if options.quick else 120_000
    page = Table(
        "journal", "examples", "CPU µs", "wall µs", "by quarter", "memory, end / 10,000th", title="per example"
    )
    with tempfile.TemporaryDirectory() as folder:
        with Journal(Path(folder) / "journal.db") as journal:
            page.add_row("SQLite", *measure(journal, count))
        if options.postgres:
            with PostgresJournal(options.postgres, owner="benchmark", folder=Path(folder)) as far:
                page.add_row("PostgreSQL", *measure(far, count))
    console.print(page)


if __name__ == "__main__":
    run(main)
