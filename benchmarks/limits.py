"""What a provider's limits cost: told, learnt, and remembered; and how much of two limits at once is used.

The server refuses by its own book: requests in fixed windows of a second, or requests and tokens in windows of some
seconds that begin with its first request. Extra requests are those that it refused.

    python -m benchmarks.limits [--examples N] [--rate N] [--latency-ms N] [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any

from benchmarks.common import Work, end, home, parser, run, table


def server(*options: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server of limits; return it and its address."""
    command = [sys.executable, "-m", "benchmarks.limited_server", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


def book(url: str) -> dict[str, Any]:
    """Return the server's book, and have it begin a new one."""
    with urllib.request.urlopen(url + "/book", timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def measure(url: str, **work: Any) -> dict[str, Any]:
    """Have a program evaluate; return the server's book of it, with `seconds` and `done`."""
    with Work("limits", url=f"{url}/v1", **work) as child:
        book(url)
        child.tell()
        done = child.hear()
        return book(url) | done


def windows(count: int, rate: int, latency_ms: float) -> None:
    """A limit in fixed windows of a second: told, learnt, remembered."""
    rows = []
    for in_flight in (64, 256):
        process, url = server("--per-second", str(rate), "--latency-ms", str(latency_ms))
        try:
            with home():
                for how in ("told", "not told", "remembered"):
                    told = how == "told"
                    found = measure(
                        url, count=count, in_flight=in_flight, limits={"rps": rate} if told else {},
                        model="openai/told" if told else "openai/learnt", sizes=[0],
                    )  # fmt: skip
                    share = 100 * found["refused"] / count
                    rows.append([how, str(in_flight), f"{found['done']} of {count}", f"{found['seconds']:.1f}",
                                 str(found["refused"]), f"{share:.1f}", str(found["most"])])  # fmt: skip
        finally:
            end(process)
    table(
        f"a limit of {rate} requests a second in fixed windows, answers after {latency_ms:g} ms",
        ["the limit is", "in flight", "answered", "seconds", "refused", "% of the examples", "most in a window"],
        rows,
        "told: rps. remembered: the run after the one before it, on another node",
    )


def mixed(count: int, latency_ms: float) -> None:
    """Requests and tokens per minute at the same time, with prompts of mixed sizes."""
    rpm, tpm = 900, 60_000
    process, url = server("--seconds", "60", "--latency-ms", str(latency_ms))
    try:
        with home():
            found = measure(
                url, count=count, in_flight=256, limits={"rpm": rpm, "tpm": tpm}, model="openai/mixed",
                sizes=[0, 10, 250, 40, 3, 90],
            )  # fmt: skip
    finally:
        end(process)
    used = 100 * found["all_tokens"] / (tpm / 60 * found["span"])
    rows = [
        [
            "requests",
            str(rpm),
            f"{found['requests']:.0f}",
            f"{100 * found['admitted'] / (rpm / 60 * found['span']):.1f}",
        ],
        ["tokens", str(tpm), f"{found['tokens']:.0f}", f"{used:.1f}"],
    ]
    table(
        f"two limits at once: {found['done']} examples of mixed sizes in {found['seconds']:.0f} s",
        ["a minute", "limit", "most in any 60 s", "% used, of all the time"],
        rows,
    )


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, examples=400, rate=20, latency_ms=100.0).parse_args()
    windows(options.examples if not options.quick else 200, options.rate, options.latency_ms)
    mixed(400 if options.quick else 1000, options.latency_ms)


if __name__ == "__main__":
    run(main)
