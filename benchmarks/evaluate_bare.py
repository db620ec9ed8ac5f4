"""Evaluate with a budget told, beside two bare aiohttp loops on the same server: what everything else costs.

Ours is `evaluate` on a node of its own, with limits on requests and tokens that are never reached: every request is
paced, priced, counted and booked. The loops send the same bytes and look into the answer. Both run in turn, each round
in another order; quotients are those of a round, and figures medians of the rounds. CPU is that of all processes.

    python -m benchmarks.evaluate_bare [--quick] [--examples N] [--in-flight N] [--latency-ms N] [--rounds N]
                                       [--rpm N] [--tpm N]

Args of the command line:
    --rpm N, --tpm N   limits that the LM is told; 0: none, and ours runs without a budget.
"""

from __future__ import annotations

from typing import Any

from benchmarks.common import Done, home, measure, median, parser, run, server, table

OURS, BARE = "evaluate, whole node", "two bare aiohttp loops"


def main() -> None:
    """Measure and print."""
    options = parser(
        __doc__, examples=10_000, in_flight=512, latency_ms=100.0, rounds=3, rpm=600_000_000, tpm=600_000_000_000
    ).parse_args()
    if options.quick:
        options.examples, options.rounds = min(options.examples, 3000), 1
    count, in_flight = options.examples, options.in_flight
    limits = {name: value for name, value in (("rpm", options.rpm), ("tpm", options.tpm)) if value}
    runs: dict[str, list[Done]] = {OURS: [], BARE: []}
    with server(options.latency_ms) as there, home():
        half: dict[str, Any] = {"url": there.url, "count": count // 2, "in_flight": in_flight // 2, "client": "aiohttp"}
        todo: dict[str, list[tuple[str, dict[str, Any]]]] = {
            OURS: [("evaluate", {"url": there.url, "count": count, "in_flight": in_flight, "limits": limits})],
            BARE: [("bare", half)] * 2,
        }
        for number in range(options.rounds):
            for name in list(todo) if number % 2 == 0 else list(reversed(todo)):
                there.stats(reset=True)
                runs[name].append(measure(todo[name]))

    def speed(done: Done) -> float:
        return float(count / max(word["seconds"] for word in done.words))

    rows = []
    for name, done in runs.items():
        beside = list(zip(done, runs[BARE], strict=True))
        rows.append(
            [
                name,
                f"{median([speed(each) for each in done]):,.0f}",
                f"{median([each.usage.cpu for each in done]) / count * 1000:.3f}",
                f"{median([speed(each) / speed(bare) for each, bare in beside]):.2f}",
                f"{median([each.usage.cpu / bare.usage.cpu for each, bare in beside]):.2f}",
            ]
        )
    roles: dict[str, list[float]] = {}
    for each in runs[OURS]:
        for role, cpu in each.usage.cpu_by_role().items():
            roles.setdefault(role, []).append(cpu / count * 1000)
    split = ", ".join(f"{role} {median(cpu):.3f}" for role, cpu in roles.items() if median(cpu) >= 0.001)
    told = ", ".join(f"{name}={value:,}" for name, value in limits.items()) or "no limits"
    table(
        f"{count:,} examples, {in_flight} in flight, {options.latency_ms:g} ms, {told}, median of {options.rounds}",
        ["what", "predictions/s", "CPU ms per prediction", "speed ÷ bare", "CPU ÷ bare"],
        rows,
        f"ours, CPU ms per prediction: {split}",
    )


if __name__ == "__main__":
    run(main)
