"""The store of events with a million of them: how fast it is written and read, and that it stays within its bound.

Twice: in a store that has room for all, for the times of queries; and in one with the default bound, for its size.
Fails where a query by correlation id takes more than 5 ms, or the store is larger than it may be.

    python -m benchmarks.events [--events 1000000]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import console, mb, parser, table
from dspex_actors.foundation.events.record import Record
from dspex_actors.observe.events.reader import SCAN_ROWS, EventReader
from dspex_actors.observe.events.store import MAX_BYTES, EventStore
from dspex_actors.observe.events.tree import tree_of

BATCH = 1000
#: Events of one correlation id.
TRACE = 8
#: A query by correlation id takes at most so many milliseconds.
CORRELATION_MS = 5.0
TOOLS = ("search", "calculator", "calendar", "mail")


def record(number: int, began: float) -> Record:
    """Return an event as programs make them: 8 belong together, one of four tools, some text."""
    trace, step = divmod(number, TRACE)
    data = {"tool_name": TOOLS[number % 4], "milliseconds": number % 97, "run": number // 100_000, "text": "x" * 100}
    return Record(
        id=f"{number:027}",
        type=("module.execution.started", "lm.request", "tool.used", "module.execution.completed")[step % 4],
        version=1,
        at=began + number / 1000,
        correlation_id=f"{trace:027}",
        parent_id=f"{number - step:027}" if step else None,
        node="node",
        actor="worker-1",
        data=json.dumps(data),
    )


def fill(path: Path, count: int, max_bytes: int) -> tuple[float, int]:
    """Write so many events; return the seconds, and the largest size there was, in bytes."""
    began = time.time() - count / 1000
    store, largest, seconds = EventStore(path, max_bytes), 0, 0.0
    for first in range(0, count, BATCH):
        records = [record(number, began) for number in range(first, min(first + BATCH, count))]
        started = time.perf_counter()
        store.write(records)
        seconds += time.perf_counter() - started
        largest = max(largest, size_of(path))
    store.close()
    return seconds, largest


def size_of(path: Path) -> int:
    """Return the bytes of the store and its log."""
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def milliseconds(question: Callable[[], Any], times: int = 20) -> dict[str, float]:
    """Ask several times; return the median and the longest, in ms."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        question()
        took.append((time.perf_counter() - started) * 1000)
    return {"median": round(statistics.median(took), 2), "longest": round(max(took), 2)}


def questions(path: Path, count: int) -> dict[str, dict[str, float]]:
    """Return the times of queries by what is asked."""
    reader = EventReader(path)
    middle = f"{count // TRACE // 2:027}"
    rare = {"tool_name": "search", "milliseconds": 13, "run": -1}
    search = {"tool_name": "search"}
    return {
        "correlation id": milliseconds(lambda: reader.query(correlation_id=middle)),
        "tree of a correlation id": milliseconds(lambda: tree_of(reader.correlated(middle))),
        "correlation id and field": milliseconds(lambda: reader.query(correlation_id=middle, where=search)),
        "type, newest 100": milliseconds(lambda: reader.query("lm.request", limit=100)),
        "field, newest 100": milliseconds(lambda: reader.query(where=search, limit=100)),
        f"field that none of the newest {SCAN_ROWS:,} has": milliseconds(lambda: reader.query(where=rare), 5),
    }


def main() -> int:
    """Measure, print, and say whether it is as promised."""
    options = parser(__doc__, events=1_000_000).parse_args()
    count = 50_000 if options.quick else options.events
    with tempfile.TemporaryDirectory() as folder:
        path, bounded = Path(folder) / "all.db", Path(folder) / "bounded.db"
        seconds, size = fill(path, count, max(MAX_BYTES, count * 1500))
        times = questions(path, count)
        _, largest = fill(bounded, count, MAX_BYTES)
        kept = sum(1 for _ in EventReader(bounded).everything())
    title = f"{count:,} events: {seconds / count * 1e6:.0f} µs and {size / count:.0f} bytes each"
    rows = [[name, f"{took['median']:.2f}", f"{took['longest']:.2f}"] for name, took in times.items()]
    table(title, ["query by", "median, ms", "longest, ms"], rows)
    console.print(f"bound {mb(MAX_BYTES)} MB: {mb(largest)} MB at most, the newest {kept:,} kept")
    return 0 if times["correlation id"]["median"] <= CORRELATION_MS and largest <= MAX_BYTES and kept else 1


if __name__ == "__main__":
    sys.exit(main())
