"""The cache of LM answers: one request for many equal calls, a million entries, a run that was done before.

    python -m benchmarks.cache [--entries N] [--examples N] [--equal N] [--workers N] [--cold]

Figures, with what they are to be:

* 10,000 equal calls in flight over 4 workers: 1 request;
* lookups among 1,000,000 entries: at most 0.1 ms in memory and 1 ms on disk, memory within its bytes;
* the same evaluation again: no request, at least 5,000 examples a second (on 2 cores of its own);
* `--cold`: CPU of the node for each example that is asked, with the cache on and off: at most 5 % more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import dspex_actors as dspex
from dspex_actors.cache import store
from dspex_actors.cache.core import CacheCore
from supervisors.host import processes

ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"
#: What one entry of the lookups holds, about a short reply.
VALUE_BYTES = 300


@contextmanager
def server(*options: object):
    """Give a stand-in LM: its address, and a function that says how often it was asked."""
    command = [sys.executable, "-m", "dspex_actors.embedded", "--port", "0", "--answer", ANSWER, *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    words = process.stdout.readline().split()
    url = words[words.index("openai") + 1]

    def asked() -> int:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=20) as answer:
            return json.load(answer)["requests"]

    try:
        yield url, asked
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def row(name: str, value: str, wanted: str, *, is_well: bool) -> None:
    """Print one line of the table."""
    print(f"{name:<52}{value:>18}   {wanted:<16}{'ok' if is_well else 'MISSED'}", flush=True)


def equal_calls(count: int, workers: int) -> None:
    """Have one thing asked many times at once."""
    with server("--latency-ms", 1000) as (url, asked), dspex.connect(workers=workers):
        lm = dspex.LM("openai/x", base_url=url, deadline=120.0)

        async def all_of_them() -> list[dspex.Prediction]:
            return await asyncio.gather(*(lm.acall("the same") for _ in range(count)))

        began = time.perf_counter()
        replies = asyncio.run(all_of_them())
        seconds = time.perf_counter() - began
        requests = asked()
    row(f"{count:,} equal calls over {workers} workers: requests", f"{requests}", "1", is_well=requests == 1)
    free = sum(reply.cached is not None for reply in replies)
    row("  of them for nothing", f"{free:,}", f"{count - 1:,}", is_well=free == count - 1)
    print(f"  in {seconds:.2f} s, the server's second included")


def lookups(entries: int, folder: Path) -> None:
    """Look for answers among many."""
    names = [os.urandom(16) for _ in range(entries)]
    before = resource_bytes()
    budget = entries * (VALUE_BYTES + 500)
    memory: CacheCore[bytes] = CacheCore("lru", budget, ttl=float("inf"))
    for name in names:
        memory.put(name, bytes(VALUE_BYTES), VALUE_BYTES, 1.0)
    some = random.sample(names, min(entries, 20_000))
    micros = timed(lambda name: memory.get(name, 2.0), some)
    row(f"memory, {len(memory):,} entries: a lookup (p99)", f"{micros:.1f} µs", "<= 100 µs", is_well=micros <= 100)
    used = resource_bytes() - before
    row("  its bytes, as they are counted", f"{memory.counts.bytes / 2**20:,.0f} MiB", "", is_well=True)
    row(
        "  what the process grew by",
        f"{used / 2**20:,.0f} MiB",
        f"<= {budget / 2**20:,.0f} MiB",
        is_well=used <= budget,
    )
    memory.clear()
    writer = store.Writer(store.open_store(folder))
    began = time.perf_counter()
    for at in range(0, entries, 128):
        writer.put([store.row(name, os.urandom(VALUE_BYTES), 0, 1.0) for name in names[at : at + 128]])
    each = (time.perf_counter() - began) / entries
    reader = store.Reader(store.open_store(folder))
    micros = timed(reader.find, some)
    row(f"disk, {entries:,} entries: a lookup (p99)", f"{micros:.1f} µs", "<= 1,000 µs", is_well=micros <= 1000)
    micros = timed(reader.find, [os.urandom(16) for _ in some])
    row("  of what is not there (p99)", f"{micros:.1f} µs", "<= 1,000 µs", is_well=micros <= 1000)
    size = (folder / store.FILE).stat().st_size
    print(f"  written at {each * 1e6:.1f} µs each, {size / 2**20:,.0f} MiB")
    reader.close()
    writer.close()


def timed(function, arguments) -> float:
    """Return the 99th percentile of a call, in microseconds: the best of three rounds, others use the machine too."""
    rounds = []
    for at in range(3):
        seconds = []
        for argument in arguments[at::3]:
            began = time.perf_counter()
            function(argument)
            seconds.append(time.perf_counter() - began)
        rounds.append(statistics.quantiles(seconds, n=100)[98] * 1e6)
    return min(rounds)


def resource_bytes() -> int:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * resource.getpagesize()


def rows_of(count: int, kind: str = "") -> list[dict[str, str]]:
    """Return examples."""
    text = "my card was charged twice for one order, please give it back"
    return [{"ticket": f"{kind}{number} {text}", "team": "billing"} for number in range(count)]


def warm(examples: int, workers: int) -> None:
    """Do an evaluation a second time."""
    with server("--latency-ms", 5) as (url, asked), dspex.connect(workers=workers) as system:
        lm = dspex.LM("openai/x", base_url=url, temperature=0.0)
        rates, spent = [], []
        for number in range(4):
            before, used = asked(), cpu(system.node.info["pid"])
            began = time.perf_counter()
            dspex.evaluate(
                dspex.Predict("ticket -> team"),
                rows_of(examples),
                dspex.metrics.exact_match("team"),
                lm=lm,
                display_progress=False,
            )
            rates.append(examples / (time.perf_counter() - began))
            requests = asked() - before
            spent.append((cpu(system.node.info["pid"]) - used) / examples * 1e6)
            if number == 0:
                print(f"{examples:,} examples for the first time: {rates[0]:,.0f} examples/s, {requests:,} requests")
    print(f"CPU of the node per example, in µs: {spent[0]:,.0f}, again: {min(spent[1:]):,.0f}")
    row("again: requests", f"{requests}", "0", is_well=requests == 0)
    best = max(rates[1:])
    row("  examples/s (best of 3)", f"{best:,.0f}", ">= 5,000", is_well=best >= 5000)


def cold(examples: int, workers: int) -> None:
    """Compare what an example costs the node with the cache on and off; each time it has to be asked."""
    with server("--latency-ms", 5) as (url, _), dspex.connect(workers=workers) as system:
        spent: dict[bool, list[float]] = {True: [], False: []}
        for number in range(12):
            is_cached = number % 2 == 1
            lm = dspex.LM("openai/x", base_url=url, temperature=0.0, cache=is_cached)
            before = cpu(system.node.info["pid"])
            dspex.evaluate(
                dspex.Predict("ticket -> team"),
                rows_of(examples, f"{number}-"),
                dspex.metrics.exact_match("team"),
                lm=lm,
                display_progress=False,
            )
            if number > 1:
                spent[is_cached].append((cpu(system.node.info["pid"]) - before) / examples * 1e6)
    off, on = min(spent[False]), min(spent[True])
    for name, values in (("off", spent[False]), ("on", spent[True])):
        print(f"cache {name}: CPU of the node per example, in µs: " + ", ".join(f"{value:,.0f}" for value in values))
    row("examples that are asked: off / on (best of 5)", f"{off / on:.3f}", ">= 0.95", is_well=off / on >= 0.95)


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process and those below it have used."""
    ticks = 0
    for each in (pid, *processes.descendants(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--equal", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cold", action="store_true", help="compare runs that ask, with the cache and without")
    parser.add_argument("--only", choices=["equal", "lookups", "warm", "cold"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DSPEX_HOME"] = str(Path(folder) / "home")
        if given.only in (None, "equal"):
            equal_calls(given.equal, 4)
        if given.only in (None, "lookups"):
            lookups(given.entries, Path(folder) / "many")
        if given.only in (None, "warm"):
            warm(given.examples, given.workers)
        if given.cold or given.only == "cold":
            cold(given.examples // 3, given.workers)


if __name__ == "__main__":
    main()
