"""What telemetry costs an evaluation: with it, without it, and with one example of a hundred recorded in full.

The three run in turn, each round in another order, each with a node of its own; figures are medians of the rounds, and
quotients those of the rounds' own. Then what recording costs a process, without anything around it.

    python -m benchmarks.telemetry [--quick] [--examples N] [--in-flight N] [--latency-ms N] [--rounds N]
"""

from __future__ import annotations

import random
import time
from typing import Any

from benchmarks.common import Done, home, measure, median, parser, run, server, table
from dspex_actors.foundation.telemetry.recorded import LMRequests, ModuleRun
from dspex_actors.foundation.telemetry.recorder import recorder

OFF, ON, SAMPLED = "off (DSPEX_TELEMETRY=0)", "on (the default)", "on, sample=0.01"
VARIANTS: dict[str, dict[str, Any]] = {OFF: {"telemetry": False}, ON: {}, SAMPLED: {"sample": 0.01}}


def in_process(values: int = 20_000) -> float:
    """Return the microseconds of CPU that an example's records take, telling about them included."""
    requests = LMRequests("model", "provider", "deployment")
    drawn = random.Random(1)
    seconds = [drawn.lognormvariate(-1, 0.5) for _ in range(values)]
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for each in seconds:
            with ModuleRun("Predict"):
                pass
            requests.ended(each, 200, 12, 0.0001, answered=True, error=None)
        recorder.take()
        best = min(best, time.process_time() - began)
    return best / values * 1e6


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=6000, in_flight=256, latency_ms=20.0, rounds=5).parse_args()
    if options.quick:
        options.examples, options.rounds = min(options.examples, 2000), 1
    count = options.examples
    runs: dict[str, list[Done]] = {name: [] for name in VARIANTS}
    with server(options.latency_ms) as there, home():
        common = {"url": there.url, "count": count, "in_flight": options.in_flight}
        for number in range(options.rounds):
            names = list(VARIANTS)
            for name in names[number % 3 :] + names[: number % 3]:
                runs[name].append(measure([("evaluate", common | VARIANTS[name])]))
    rows = []
    for name, done in runs.items():
        speed = [count / each.words[0]["seconds"] for each in done]
        cpu = [each.usage.cpu / count * 1000 for each in done]
        beside = [
            (each.words[0]["seconds"], each.usage.cpu, off.words[0]["seconds"], off.usage.cpu)
            for each, off in zip(done, runs[OFF], strict=True)
        ]
        rows.append(
            [
                name,
                f"{median(speed):,.0f}",
                f"{median(cpu):.3f}",
                f"{median([off / own for own, _, off, _ in beside]):.3f}",
                f"{median([own / off for _, own, _, off in beside]):.3f}",
            ]
        )
    table(
        f"{count:,} examples, {options.in_flight} in flight, {options.latency_ms:g} ms, median of {options.rounds}",
        ["telemetry", "predictions/s", "CPU ms per prediction", "speed ÷ off", "CPU ÷ off"],
        rows,
        f"in a worker, an example's records take {in_process():.2f} µs",
    )


if __name__ == "__main__":
    run(main)
