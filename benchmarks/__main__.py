"""Run all benchmarks, one after the other: `python -m benchmarks [--quick] [NAME ...]`."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time

NAMES = (
    "idle_node",
    "one_prediction",
    "supervision",
    "events",
    "telemetry",
    "bootstrap",
    "optimisers",
    "scores",
    "agents",
    "resilience",
    "outage",
    "spending",
    "hostile_addresses",
    "evaluate_throughput",
    "evaluate_bare",
    "streaming",
    "ecosystem",
    "endless",
    "journals",
    "scale",
    "million",
    "cluster",
    "two_cores",
    "hundred_nodes",
)


def main() -> int:
    """Run them; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, for a look")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)}")
    options = parser.parse_args()
    failed = []
    started = time.monotonic()
    for name in options.names or NAMES:
        module = f"benchmarks.{name}"
        if importlib.util.find_spec(module) is None:
            print(f"{name}: there is no such benchmark")
            continue
        # A process each: what one leaves in memory is not measured by the next.
        command = [sys.executable, "-m", module, *(["--quick"] if options.quick else [])]
        process = subprocess.Popen(command)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            return 130
        if code:
            failed.append(name)
        print(flush=True)
    print(f"all in {time.monotonic() - started:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
