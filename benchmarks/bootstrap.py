"""BootstrapFewShot beside the plain algorithm: one example after the other, in one process.

Of the examples one in ten passes the metric; the demos of both must be the same, and are
compared. Both ask the same server.

    python -m benchmarks.bootstrap [--examples N] [--demos N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

import http.client
import random
import time
from typing import Any

import orjson

from benchmarks.common import TICKET, Server, home, parser, run, server, table
from benchmarks.work import connected

PASS_ONE_IN = 10
#: So many always in flight, for who would rather be quick than sparing.
AT_ONCE = 64


def sequential(there: Server, trainset: list[Any], demos: int) -> tuple[float, list[Any]]:
    """Bootstrap as DSPy's `BootstrapFewShot` does, over one kept connection; return seconds and the demos."""
    import dspex_actors as dspex

    adapter, signature = dspex.ChatAdapter(), dspex.Predict("ticket -> team").signature
    metric = dspex.metrics.exact_match("team")
    connection = http.client.HTTPConnection("127.0.0.1", there.port)
    headers = {"content-type": "application/json"}
    started = time.perf_counter()
    labelled = random.Random(0).sample(trainset, min(demos, len(trainset)))
    found: list[Any] = []
    for example in trainset:
        shown = [demo for demo in labelled if demo != example]
        inputs = dict(example.inputs().items())
        body = orjson.dumps({"model": "m", "messages": adapter.format(signature, shown, inputs)})
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = orjson.loads(connection.getresponse().read())
        fields = adapter.parse(signature, answer["choices"][0]["message"]["content"])
        if metric(example, dspex.Prediction(fields), []):
            found.append(dspex.Example({"augmented": True, **inputs, **fields}))
            if len(found) >= demos:
                break
    seconds = time.perf_counter() - started
    connection.close()
    return seconds, found


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=200, demos=16, latency_ms=100.0, rounds=3).parse_args()
    if options.quick:
        options.latency_ms, options.rounds = min(options.latency_ms, 20.0), 1
    import dspex_actors as dspex
    from dspex_actors.teleprompt import BootstrapFewShot

    trainset = [
        dspex.Example(ticket=TICKET.format(number), team="bugs").with_inputs("ticket")
        for number in range(1, options.examples + 1)
    ]
    rows: list[list[str]] = []
    with server(options.latency_ms, PASS_ONE_IN) as there:
        plain, expected = sequential(there, trainset, options.demos)
        asked = there.stats(reset=True)["requests"]
        rows.append(["the plain algorithm", f"{plain:.2f}", str(asked), "1", str(len(expected)), "", "1.0"])
        with home(), connected(there.url) as (_, program, metric):
            for number in range(2 * options.rounds):
                at_once = None if number < options.rounds else AT_ONCE
                there.stats(reset=True)
                optimizer = BootstrapFewShot(
                    metric=metric, max_bootstrapped_demos=options.demos, max_labeled_demos=options.demos
                )
                started = time.perf_counter()
                better = optimizer.compile(program, trainset=trainset, max_in_flight=at_once, display_progress=False)
                seconds = time.perf_counter() - started
                stats = there.stats()
                same = [dict(demo.items()) for demo in better.demos] == [dict(demo.items()) for demo in expected]
                rows.append(
                    [
                        ("ours" if number else "ours, the node's first run")
                        + ("" if at_once is None else f", max_in_flight={at_once}"),
                        f"{seconds:.2f}",
                        str(stats["requests"]),
                        str(stats["max_in_flight"]),
                        str(len(better.demos)),
                        "yes" if same else "NO",
                        f"{plain / seconds:.1f}",
                    ]
                )
    table(
        f"BootstrapFewShot: {options.examples} examples, one in {PASS_ONE_IN} passes, {options.demos} demos, "
        f"{options.latency_ms:g} ms",
        ["what", "seconds", "requests", "most in flight", "demos", "the same demos", "times faster"],
        rows,
    )


if __name__ == "__main__":
    run(main)
