"""``python -m dspex_actors.embedded``: serve the embedded LM."""

from __future__ import annotations

import argparse
import sys

from dspex_actors.embedded.config import KINDS, EmbeddedConfig
from dspex_actors.embedded.run import MISUSED, parse_faults, run
from dspex_actors.errors import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, serve, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dspex_actors.embedded", description="Serve the embedded LM.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes any free one")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time to an answer; its median with a sigma")
    parser.add_argument("--latency-sigma", type=float, default=0.0, help="log-normal spread; 0: fixed latency")
    parser.add_argument("--piece-delay", type=float, default=0.0, help="milliseconds between the pieces of a stream")
    parser.add_argument("--rpm", type=float, help="requests a minute")
    parser.add_argument("--tpm", type=float, help="tokens a minute")
    parser.add_argument("--burst-seconds", type=float, default=2.0, help="seconds' worth that may come at once")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND=RATE",
        help=f"repeatable; kinds: {', '.join(KINDS)}",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides faults, latencies and guesses")
    parser.add_argument("--answer", help="answer everything with this text")
    parser.add_argument("--at-once", type=int, help="requests that are worked on at the same time; others wait")
    parser.add_argument("--book", action="store_true", help="keep a row for each request, for GET /booked")
    parser.add_argument("--batch-seconds", type=float, default=0.0, help="how long a batch of requests takes")
    parser.add_argument("--batch-expired", type=float, default=0.0, help="share of them that is not done in time")
    parser.add_argument("--batch-failed", type=float, default=0.0, help="share of them that fails")
    parser.add_argument("--batch-answer-seconds", type=float, default=0.0, help="time from taking a batch to its id")
    given = parser.parse_args(arguments)
    try:
        config = EmbeddedConfig(
            host=given.host,
            port=given.port,
            latency_ms=given.latency_ms,
            latency_sigma=given.latency_sigma,
            piece_delay_ms=given.piece_delay,
            rpm=given.rpm,
            tpm=given.tpm,
            burst_seconds=given.burst_seconds,
            faults=parse_faults(given.fault),
            seed=given.seed,
            answer=given.answer,
            at_once=given.at_once,
            book=given.book,
            batch_seconds=given.batch_seconds,
            batch_expired=given.batch_expired,
            batch_failed=given.batch_failed,
            batch_answer_seconds=given.batch_answer_seconds,
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISUSED
    return run(config)


if __name__ == "__main__":
    sys.exit(main())
