"""Modules that are exchanged under load: calls that were lost, or had half of a program; what calls and swaps take.

python -m benchmarks.modules [--swaps N] [--callers N] [--seconds N] [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import dspex_actors as dspex
from benchmarks.common import home, parser, run, table


class Part(dspex.Module):
    """Says a word."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def aforward(self) -> dspex.Prediction:
        await asyncio.sleep(0)
        return dspex.Prediction(word=self.word)


class Pair(dspex.Module):
    """Says it twice: two words, where half of it was exchanged."""

    def __init__(self, word: str) -> None:
        self.first, self.second = Part(word), Part(word)

    async def aforward(self, text: str) -> dspex.Prediction:
        first, second = await self.first.acall(), await self.second.acall()
        return dspex.Prediction(first=first.word, second=second.word, text=text)


class Load:
    """Callers that ask one after the other, in an event loop of their own."""

    def __init__(self, ask: Callable[[str], Awaitable[Any]], callers: int) -> None:
        self._ask, self._callers = ask, callers
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.wrong = self.lost = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._call(caller) for caller in range(self._callers)))

    async def _call(self, caller: int) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            text = f"{caller}:{number}"
            began = time.perf_counter()
            try:
                found = await self._ask(text)
            except dspex.DspexError:
                self.lost += 1
                continue
            self.seconds.append(time.perf_counter() - began)
            self.wrong += not (found.text == text and found.first == found.second)


def row(name: str, load: Load, took: float, swaps: Sequence[float] = ()) -> list[str]:
    """Return a row of the table."""
    found = sorted(load.seconds)
    points = [found[int(len(found) * point)] * 1000 for point in (0.5, 0.99)]
    swapped = f"{statistics.median(swaps) * 1000:.1f}" if swaps else ""
    figures = [f"{len(found) / took:,.0f}", *(f"{point:.1f}" for point in points), swapped]
    return [name, *figures, f"{load.lost:,}", f"{load.wrong:,}"]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, swaps=1000, callers=32, seconds=5.0).parse_args()
    if options.quick:
        options.swaps, options.seconds = min(options.swaps, 50), min(options.seconds, 1.0)
    with home() as folder, dspex.connect(home=folder) as system:
        with system.ecosystem(Pair("1"), cache_bytes=0) as eco:
            with Load(lambda text: eco.ainfer(text=text), options.callers) as load:
                time.sleep(options.seconds)
            rows = [row("an ecosystem, for comparison", load, options.seconds)]
        modules = system.modules
        modules.create({"program": Pair("1"), "id": "m"})
        with Load(lambda text: modules.aexecute("m", text=text), options.callers) as load:
            time.sleep(options.seconds)
        rows.append(row("a module", load, options.seconds))
        swaps = []
        with Load(lambda text: modules.aexecute("m", text=text), options.callers) as load:
            began = time.perf_counter()
            for number in range(options.swaps):
                at = time.perf_counter()
                modules.update_module("m", Pair(str(number)))
                swaps.append(time.perf_counter() - at)
            took = time.perf_counter() - began
        rows.append(row(f"a module, exchanged {options.swaps:,} times", load, took, swaps))
    table(
        f"{options.callers} callers, a program that asks nobody",
        ["what", "calls a second", "p50 ms", "p99 ms", "a swap, ms", "lost", "of two halves"],
        rows,
        "wanted: nothing lost, nothing of two halves",
    )


if __name__ == "__main__":
    run(main)
