"""Evaluate many examples: predictions per second and CPU for each, beside bare HTTP loops.

Ours does all there is to do: dataset, prompts, parsing, metric, journal, supervision; CPU is that of all
its processes together, the program that calls `evaluate` and the run's own evaluator included. The loops
send the same bytes and look into the answer. They run in turn with ours, each round in another order;
figures are medians of the rounds.

    python -m benchmarks.evaluate_throughput [--quick] [--examples N] [--in-flight N]
                                             [--latency-ms N] [--rounds N]
"""

from __future__ import annotations

from typing import Any

from benchmarks.common import Done, home, measure, median, parser, percentile, run, server, table

OURS = "ours: evaluate, whole node"


def contenders(url: str, count: int, in_flight: int) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return what is compared: by name, the work of each child process."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {
        OURS: [("evaluate", {"url": url, "count": count, "in_flight": in_flight})]
    }
    for parts in (1, 2):
        for client, name in (("httpx", "httpx over aiohttp"), ("aiohttp", "aiohttp")):
            share = {"url": url, "count": count // parts, "in_flight": in_flight // parts, "client": client}
            found[f"bare {name}, {parts} process{'es' if parts > 1 else ''}"] = [("bare", share)] * parts
    return found


def latencies(done: Done) -> tuple[float, float]:
    """Return p50 and p99, seconds."""
    if "p50" in done.words[0]:
        return done.words[0]["p50"], done.words[0]["p99"]
    every = [latency for word in done.words for latency in word["latencies"]]
    return percentile(every, 0.5), percentile(every, 0.99)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=10_000, in_flight=512, latency_ms=100.0, rounds=2).parse_args()
    if options.quick:
        options.examples, options.rounds = min(options.examples, 3000), 1
    count, in_flight = options.examples, options.in_flight
    runs: dict[str, list[Done]] = {}
    most: dict[str, int] = {}
    with server(options.latency_ms) as there, home():
        todo = contenders(there.url, count, in_flight)
        for number in range(options.rounds):
            for name in list(todo) if number % 2 == 0 else list(reversed(todo)):
                there.stats(reset=True)
                runs.setdefault(name, []).append(measure(todo[name]))
                most[name] = max(most.get(name, 0), there.stats()["max_in_flight"])

    def rate(done: Done) -> float:
        # A list of examples is all there when the word is given: the call's own time is what a user waits.
        return count / max(word["seconds"] for word in done.words)

    ours_rate = median([rate(done) for done in runs[OURS]])
    ours_cpu = median([done.usage.cpu for done in runs[OURS]])
    rows = []
    for name in todo:
        speed, cpu = median([rate(done) for done in runs[name]]), median([done.usage.cpu for done in runs[name]])
        points = [latencies(done) for done in runs[name]]
        rows.append(
            [
                name,
                str(max(done.usage.peak_count for done in runs[name])),
                f"{speed:,.0f}",
                f"{cpu / count * 1000:.3f}",
                f"{median([p50 for p50, _ in points]) * 1000:.0f}",
                f"{median([p99 for _, p99 in points]) * 1000:.0f}",
                str(most[name]),
                f"{speed / ours_rate:.2f}",
                f"{cpu / ours_cpu:.2f}",
            ]
        )
    columns = ["what", "processes", "predictions/s", "CPU ms per prediction", "p50 ms", "p99 ms", "most in flight"]
    roles: dict[str, list[float]] = {}
    for done in runs[OURS]:
        for role, cpu in done.usage.cpu_by_role().items():
            roles.setdefault(role, []).append(cpu / count * 1000)
    split = ", ".join(f"{role} {median(cpu):.3f}" for role, cpu in roles.items() if median(cpu) >= 0.001)
    table(
        f"{count:,} examples, {in_flight} in flight, {options.latency_ms:g} ms, median of {options.rounds}",
        [*columns, "speed ÷ ours", "CPU ÷ ours"],
        rows,
        f"ours, CPU ms per prediction: {split}",
    )


if __name__ == "__main__":
    run(main)
