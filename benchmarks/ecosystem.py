"""An inference ecosystem at work: how many inferences a second, known and unknown ones; what it adds to one; memory.

The LM is the server of these benchmarks: it answers at once. Callers are threads, and tasks of an event loop. One
caller takes turns between the program itself and the ecosystem: the difference is what the ecosystem adds.

    python -m benchmarks.ecosystem [--calls N] [--callers N] [--many N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import Sampler, Usage, home, mb, median, parser, run, server, table
from benchmarks.work import connected

Key = Callable[[int], str]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, calls=4000, callers=64, many=100_000, latency_ms=0.0).parse_args()
    if options.quick:
        options.calls, options.many = min(options.calls, 600), min(options.many, 3000)
    calls, callers = options.calls, options.callers
    with server(options.latency_ms) as there, home(), connected(there.url) as (system, program, _metric):
        with system.ecosystem(program, strict=True) as eco:
            rows = [_row(name, with_threads, eco, calls, callers, key) for name, key in _loads(calls)]
            rows += [_row(f"{name}, event loop", with_tasks, eco, calls, callers, key) for name, key in _loads(-calls)]
            table(
                f"{calls:,} inferences, {callers} callers, server at {options.latency_ms:g} ms",
                ["what", "inferences a second", "CPU ms each, all processes", "of it the coordinator's"],
                rows,
                "wanted: at least 700 a second that are not known, 1,500 that are",
            )
            table(
                "one caller, milliseconds (median)",
                ["the program", "through the ecosystem, not known", "known", "added to one that is not known"],
                [one_caller(program, eco, min(300, calls))],
                "wanted: at most 3 ms added",
            )
        with system.ecosystem(program, cache_bytes=4 << 20) as eco:
            table(
                f"memory over {options.many:,} inferences, a cache of 4 MB",
                ["after", "all processes together, MB", "coordinator", "cache", "client"],
                memory(eco, options.many, callers),
                "wanted: flat from the second row on",
            )


def _loads(calls: int) -> list[tuple[str, Key]]:
    return [
        ("not known", lambda number: f"ticket {calls} {number}"),
        ("known", lambda number: f"ticket {calls} {number}"),
    ]


def _row(name: str, way: Callable[..., None], eco: Any, calls: int, callers: int, key: Key) -> list[str]:
    eco.infer(ticket=f"warm {name}")
    pid = eco.members()["coordinator"].pid
    with Sampler([os.getpid()]) as usage:
        began = time.perf_counter()
        way(eco, calls, callers, key)
        seconds = time.perf_counter() - began
    return [
        name,
        f"{calls / seconds:,.0f}",
        f"{usage.cpu / calls * 1e3:.2f}",
        f"{_cpu_of(usage, pid) / calls * 1e3:.2f}",
    ]


def _cpu_of(usage: Usage, pid: int) -> float:
    return sum(seen.last - seen.first for (each, _), seen in usage.processes.items() if each == pid)


def with_threads(eco: Any, calls: int, callers: int, key: Key) -> None:
    """Have so many threads ask."""
    numbers = itertools.count()

    def ask() -> None:
        while (number := next(numbers)) < calls:
            eco.infer(ticket=key(number))

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def with_tasks(eco: Any, calls: int, callers: int, key: Key) -> None:
    """Have so many tasks of one event loop ask."""
    numbers = itertools.count()

    async def ask() -> None:
        while (number := next(numbers)) < calls:
            await eco.ainfer(ticket=key(number))

    async def all_of_them() -> None:
        await asyncio.gather(*(ask() for _ in range(callers)))

    asyncio.run(all_of_them())


def one_caller(program: Any, eco: Any, calls: int) -> list[str]:
    """Take turns; return the row of medians."""
    times: dict[str, list[float]] = {"program": [], "unknown": [], "known": []}
    for number in range(calls):
        for what, ask, ticket in (
            ("program", program, f"one {number}"),
            ("unknown", eco.infer, f"one {number}"),
            ("known", eco.infer, f"one {number}"),
        ):
            began = time.perf_counter()
            ask(ticket=ticket)
            times[what].append(time.perf_counter() - began)
    found = {what: median(values) * 1e3 for what, values in times.items()}
    values = [found["program"], found["unknown"], found["known"], found["unknown"] - found["program"]]
    return [f"{value:.2f}" for value in values]


def memory(eco: Any, many: int, callers: int) -> list[list[str]]:
    """Return memory after each of five parts."""
    rows = []
    pids = {role: ref.pid for role, ref in eco.members().items()}
    for part in range(1, 6):
        with_tasks(eco, many // 5, callers, lambda number, part=part: f"part {part} {number}")  # type: ignore[misc]
        with Sampler([os.getpid()], memory=True) as usage:
            pass
        sizes = {pid: seen.uss for (pid, _), seen in usage.processes.items()}
        alone = [mb(sizes.get(pid, 0)) for pid in (pids["coordinator"], pids["cache"], os.getpid())]
        rows.append([f"{many // 5 * part:,}", mb(usage.peak_pss), *alone])
    return rows


if __name__ == "__main__":
    run(main)
