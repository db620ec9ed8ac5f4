"""The membership of 100, 1,000 and 10,000 nodes in memory: the same code as in a node, on a clock of its own.

    python -m benchmarks.membership [--sizes 100,1000,10000] [--seconds 20] [--loss 0.05]

For each size: datagrams and bytes that a node sends per second; after one node in a hundred, ten at the most, has
vanished with its host, the seconds until the first of the others takes one to be down, and until all do; and how many
healthy nodes anybody took to be suspect, or down, while the given share of all datagrams got lost.
"""

from __future__ import annotations

import argparse
import statistics
import time

from supervisors.testing.membership import MembershipWorld

#: So many nodes die at the most, and are waited for at most so many seconds.
MOST, LONGEST = 10, 12.0


def measure(size: int, seconds: float, loss: float) -> list[str]:
    """Return a row of the table."""
    began = time.perf_counter()
    world = MembershipWorld(size, loss)
    world.run(2.0)
    world.sent = world.bytes = 0
    world.run(seconds)
    rate, volume = world.sent / size / seconds, world.bytes / size / seconds
    suspected = world.suspected
    dead = [f"n{number}" for number in range(0, size, max(100, size // MOST))]
    died = world.now
    for name in dead:
        world.kill(name)
    living = size - len(dead)
    while world.now < died + LONGEST and any(len(world.down_at[name]) < living for name in dead):
        world.run(0.5)
    found = list(world.down_at.items())
    seen = [world.down_at[name] for name in dead]
    first = [min(times.values()) - died for times in seen if times]
    last = [max(times.values()) - died for times in seen if len(times) >= living]
    return [
        f"{size:,}",
        f"{rate:.1f}",
        f"{volume:,.0f}",
        f"{statistics.median(first):.1f} / {max(first):.1f}",
        f"{statistics.median(last):.1f} / {max(last):.1f} ({len(last)} of {len(dead)})" if last else "not all",
        str(suspected),
        str(sum(len([at for at in times.values() if name not in dead or at < died]) for name, times in found)),
        f"{time.perf_counter() - began:.0f} s",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--loss", type=float, default=0.05)
    given = parser.parse_args()
    heads = ["nodes", "sent/node/s", "bytes/node/s", "first knows (median/max s)", "all know (median/max s)"]
    heads += [f"suspects at {given.loss:.0%} loss", "false deaths", "took"]
    print(" | ".join(heads))
    print(" | ".join("---" for _ in heads))
    for size in map(int, given.sizes.split(",")):
        print(" | ".join(measure(size, given.seconds, given.loss)), flush=True)


if __name__ == "__main__":
    main()
