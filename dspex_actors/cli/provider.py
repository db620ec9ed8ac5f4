"""`dspex provider serve`: the stand-in LM as a server."""

from __future__ import annotations

import click

from dspex_actors.cli.shell import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "serve": ("dspex_actors.cli.provider:serve", "serve until Ctrl-C, with the speed, limits and faults you choose")
    },
)
def provider() -> None:
    """Stand in for LM providers: OpenAI, Anthropic, Gemini and Cohere wire formats, without a key or a network."""


@click.command()
@click.option("--host", metavar="ADDR", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", default=0, help="0 takes any free one.", show_default=True
)
@click.option("--latency-ms", type=float, metavar="N", default=0.0, help="Time to an answer; its median with a sigma.")
@click.option(
    "--latency-sigma", type=float, metavar="N", default=0.0, help="Log-normal spread of it; 0: always the same."
)
@click.option(
    "--piece-delay",
    "piece_delay_ms",
    type=float,
    metavar="MS",
    default=0.0,
    help="Time between the pieces of a stream.",
)
@click.option("--rpm", type=float, metavar="N", help="Requests a minute that are answered; more get a 429.")
@click.option("--tpm", type=float, metavar="N", help="Tokens a minute.")
@click.option(
    "--burst-seconds",
    type=float,
    metavar="N",
    default=2.0,
    show_default=True,
    help="Seconds' worth that may come at once.",
)
@click.option(
    "--fault", "faults", multiple=True, metavar="KIND=RATE", help="Share of requests that fail so; repeatable."
)
@click.option(
    "--seed", type=int, metavar="N", default=0, show_default=True, help="Decides faults, latencies and guesses."
)
@click.option("--answer", metavar="TEXT", help="Answer everything with this text.")
@click.option("--at-once", type=click.IntRange(1), metavar="N", help="Requests it works on at a time; others wait.")
@click.option("--book", is_flag=True, help="Keep a row for each request, for GET /booked.")
@click.option(
    "--batch-seconds",
    type=float,
    metavar="N",
    default=0.0,
    help="How long a batch of requests takes (OpenAI, Anthropic).",
)
@click.option(
    "--batch-expired", type=float, metavar="RATE", default=0.0, help="Share of them that is not done in time."
)
@click.option("--batch-failed", type=float, metavar="RATE", default=0.0, help="Share of them that fails.")
@click.option(
    "--batch-answer-seconds", type=float, metavar="N", default=0.0, help="Time from taking a batch to telling its id."
)
def serve(
    host: str,
    port: int,
    latency_ms: float,
    latency_sigma: float,
    piece_delay_ms: float,
    rpm: float | None,
    tpm: float | None,
    burst_seconds: float,
    faults: tuple[str, ...],
    seed: int,
    answer: str | None,
    at_once: int | None,
    book: bool,
    batch_seconds: float,
    batch_expired: float,
    batch_failed: float,
    batch_answer_seconds: float,
) -> int:
    """Serve the stand-in LM: it prints a base address per wire format, and ends with Ctrl-C.

    Give one of the addresses to `dspex evaluate --base-url`, or to any SDK.
    """
    from dspex_actors.embedded.config import EmbeddedConfig
    from dspex_actors.embedded.run import parse_faults, run

    return run(
        EmbeddedConfig(
            host=host,
            port=port,
            latency_ms=latency_ms,
            latency_sigma=latency_sigma,
            piece_delay_ms=piece_delay_ms,
            rpm=rpm,
            tpm=tpm,
            burst_seconds=burst_seconds,
            faults=parse_faults(list(faults)),
            seed=seed,
            answer=answer,
            at_once=at_once,
            book=book,
            batch_seconds=batch_seconds,
            batch_expired=batch_expired,
            batch_failed=batch_failed,
            batch_answer_seconds=batch_answer_seconds,
        )
    )
