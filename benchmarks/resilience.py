"""`kill -9` in the middle of an evaluation: how long until there are results again, and at what price.

Killed are a worker, the run's evaluator and the keeper of runs, each in a run of its own. Results are timed
by the clock that the evaluator stamps them with; "its first result" is, of a worker, the first of a call that
its successor made. The journal is looked at every 2 ms or so. Throughput is that of the 0.5 s before the
kill, of the 0.5 s after it, and of the time from then to the end of steady work.

    python -m benchmarks.resilience [--examples N] [--in-flight N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from benchmarks.common import Work, home, parser, run, server, table

VICTIMS = {"worker-1": "a worker of two", "evaluator": "the run's evaluator", "runs": "the keeper of runs (journal)"}
SPAN = 0.5


def rate(rows: list[Any], start: float, stop: float) -> float:
    """Return results per second between two moments."""
    return sum(1 for at, _, _ in rows if start <= at < stop) / max(1e-6, stop - start)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=8000, in_flight=256, latency_ms=100.0, after_ms=1500).parse_args()
    if options.quick:
        options.examples, options.after_ms = min(options.examples, 4000), 800
    table_rows = []
    with server(options.latency_ms) as there:
        for victim, what in VICTIMS.items():
            work = {"count": options.examples, "in_flight": options.in_flight, "after": options.after_ms / 1000}
            with home(), Work("resilience", url=there.url, victim=victim, **work) as child:
                there.stats(reset=True)
                child.tell()
                pid = child.hear()["pid"]
                in_flight = there.stats()["in_flight"]
                killed = time.time()
                os.kill(pid, signal.SIGKILL)
                child.tell()
                word = child.hear()
                asked = there.stats()["requests"]
            rows = sorted(word["rows"])
            started, ended = rows[0][0], rows[-1][0]
            after = [row for row in rows if row[0] > killed and (victim != "worker-1" or row[1] == victim)]
            # Of a worker, results that were sent before it died do not count: its calls take the latency.
            if victim == "worker-1":
                after = [row for row in after if row[0] - row[2] > killed - 0.005]
            table_rows.append(
                [
                    what,
                    "" if word["back"] is None else f"{word['back'] * 1000:.0f}",
                    "" if victim == "runs" else f"{(after[0][0] - killed) * 1000:.0f}" if after else "never",
                    "" if word["kept"] is None else f"{word['kept'] * 1000:.0f}",
                    f"{rate(rows, max(started, killed - SPAN), killed):,.0f}",
                    f"{rate(rows, killed, killed + SPAN):,.0f}",
                    f"{rate(rows, killed + SPAN, ended - 0.2):,.0f}",
                    str(in_flight),
                    f"{asked - options.examples}",
                    str(len(rows)),
                ]
            )
    table(
        f"kill -9: {options.examples:,} examples, {options.in_flight} in flight, {options.latency_ms:g} ms",
        [
            "killed",
            "new process after ms",
            "its first result after ms",
            "journal grows after ms",
            "results/s before",
            f"in the {SPAN:g} s after",
            "then",
            "in flight at the kill",
            "extra requests",
            "results",
        ],
        table_rows,
        f"the first result after a kill takes the server's {options.latency_ms:g} ms at least",
    )


if __name__ == "__main__":
    run(main)
