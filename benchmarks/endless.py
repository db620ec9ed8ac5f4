"""A stream of inputs at work: results a second, and whether memory grows with their number.

The LM is the server of these benchmarks. Nothing is cached: each input is asked.

    python -m benchmarks.endless [--inputs N] [--latency-ms N] [--in-flight N] [--quick]
"""

from __future__ import annotations

import itertools
import os
import time

import dspex_actors as dspex
from benchmarks.common import TICKET, Sampler, home, mb, parser, run, server, table
from benchmarks.work import connected

#: Memory is looked at so many times.
LOOKS = 5


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, inputs=50_000, latency_ms=0.0, in_flight=1000).parse_args()
    count = min(options.inputs, 3000) if options.quick else options.inputs
    rows: list[list[str]] = []
    with server(options.latency_ms) as there, home(), connected(there.url) as (_system, program, _metric):
        inputs = ({"ticket": TICKET.format(number)} for number in itertools.count())
        every, at = count // LOOKS, time.monotonic()
        with dspex.stream_inference(program, inputs, max_in_flight=options.in_flight) as stream:
            for number, result in enumerate(itertools.islice(stream, count), 1):
                assert result.error is None
                if number % every == 0:
                    speed = every / (time.monotonic() - at)
                    with Sampler([os.getpid()], memory=True) as usage:
                        pass
                    rows.append([f"{number:,}", f"{speed:,.0f}", mb(usage.peak_pss)])
                    at = time.monotonic()
    table(
        f"{count:,} inputs, {options.in_flight} in flight, server at {options.latency_ms:g} ms",
        ["after", "results a second", "all processes together, MB"],
        rows,
        "wanted: memory flat from the second row on",
    )


if __name__ == "__main__":
    run(main)
