"""Ten times the examples: is it ten times the time, and the same memory?

Each size runs on a fresh node, from a JSON lines file and from a generator, with results read once at the
end; the small one runs before and after the large one, and its mean counts. Memory is the peak over the
whole run.

    python -m benchmarks.scale [--small N] [--times N] [--in-flight N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

from benchmarks.common import Done, home, mb, measure, parser, run, server, table


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, small=10_000, times=10, in_flight=256, latency_ms=0.0).parse_args()
    if options.quick:
        options.small = min(options.small, 2000)
    small, large = options.small, options.small * options.times
    rows: list[list[str]] = []
    with server(options.latency_ms) as there:

        def evaluate(source: str, count: int) -> Done:
            work = {"url": there.url, "count": count, "in_flight": options.in_flight, "source": source}
            with home():
                return measure([("evaluate", work)], memory=True)

        for source in ("file", "generator"):
            first, most, last = evaluate(source, small), evaluate(source, large), evaluate(source, small)
            few = [first, last]
            time_few = sum(done.words[0]["seconds"] for done in few) / 2
            time_most = most.words[0]["seconds"]
            name = {"file": "JSON lines", "generator": "a generator"}[source]
            pss = [max(done.usage.peak_pss for done in few), most.usage.peak_pss]
            rows.append(
                [
                    f"{name}: seconds (ratio should be {options.times})",
                    f"{time_few:.2f}",
                    f"{time_most:.2f}",
                    f"{time_most / time_few:.2f}",
                ]
            )
            rows.append([f"{name}: all processes together, PSS MB", *_pair(*pss)])
            for what in ("rss", "uss"):
                mosts = most.usage.peak_by_role(what)
                fews = [done.usage.peak_by_role(what) for done in few]
                for role in ("client", "workers", "evaluator", "runs (journal)", "door"):
                    values = (max(found.get(role, 0) for found in fews), mosts.get(role, 0))
                    if all(values) and (what == "uss" or role in ("client", "evaluator")):
                        rows.append([f"{name}: largest of {role}, {what.upper()} MB", *_pair(*values)])
                if what == "rss":
                    values = (max(max(found.values()) for found in fews), max(mosts.values()))
                    rows.append([f"{name}: largest process, RSS MB", *_pair(*values)])
    table(
        f"{small:,} and {large:,} examples, {options.in_flight} in flight, server at {options.latency_ms:g} ms",
        ["what", f"{small:,}", f"{large:,}", "ratio"],
        rows,
        "memory at its peak; its ratio must be ≤ 1.10",
    )


def _pair(few: int, many: int) -> list[str]:
    return [mb(few), mb(many), f"{many / max(1, few):.2f}"]


if __name__ == "__main__":
    run(main)
