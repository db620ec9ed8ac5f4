"""`dspex lm test`: one small call, to see whether key, address and model are right before a long run."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.lm_stats import dollars
from dspex_actors.cli.output import console, grid, json_option, print_json, printable, show
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.client.connect import connect
from dspex_actors.errors import LMError
from dspex_actors.foundation.durations import duration_text
from dspex_actors.lm.lm import LM

PROMPT = "Answer with the single word: pong"
#: Room for models that think before they say a word.
MAX_TOKENS = 1024


@click.command()
@click.argument("model")
@click.option("--base-url", metavar="URL", help="The server, as the provider's own SDK writes it.")
@click.option("--api-key", metavar="env:NAME", help="Reference to the key, never the key itself.")
@click.option("--model-type", metavar="TYPE", default="chat", show_default=True, help="chat or responses.")
@click.option("--prompt", metavar="TEXT", default=PROMPT, help="What is asked.", show_default=True)
@click.option("--timeout", type=click.FloatRange(0.1), metavar="S", default=30.0, show_default=True, help="Seconds.")
@json_option
def test(
    model: str,
    base_url: str | None,
    api_key: str | None,
    model_type: str,
    prompt: str,
    timeout: float,
    as_json: bool,
) -> int:
    """Ask MODEL for a word, streamed: says how fast it begins and ends, what it used and cost.

    The call is real, and paid. No cache answers it. Exit status 1: there was no answer within the timeout.
    """
    lm = LM(
        model,
        base_url=base_url,
        api_key=api_key,
        model_type=model_type,
        timeout=timeout,
        deadline=timeout,
        cache=False,
        max_tokens=MAX_TOKENS,
    )
    with connect(lm=lm):
        told, error = _asked(lm, prompt)
    if as_json:
        print_json(told)
    elif error is not None:
        console(err=True).print(Text.assemble((f"{model}: ", "bold"), (printable(error), "red")))
    else:
        show(_page(told))
    return FAILED if error is not None else DONE


def _asked(lm: LM, prompt: str) -> tuple[dict[str, Any], str | None]:
    began = time.monotonic()
    first: float | None = None
    try:
        with lm.stream(prompt) as stream:
            for _ in stream:
                first = time.monotonic() - began if first is None else first
            reply = stream.reply
    except LMError as error:
        told = f"{type(error).__name__}: {error}"
        return {"model": lm.model, "answered": False, "error": type(error).__name__, "message": str(error)}, told
    seconds = time.monotonic() - began
    assert reply is not None  # a stream that has ended without an error has one
    return {
        "model": lm.model,
        "answered": True,
        "text": reply.text,
        "answered_by": reply.model,
        "seconds": seconds,
        "first_piece": seconds if first is None else first,
        "usage": reply.usage.to_dict(),
        "cost": reply.cost,
        "finish_reason": reply.finish_reason,
        "asked": reply.asked,
    }, None


def _page(told: dict[str, Any]) -> Any:
    usage = told["usage"]
    guessed = " (estimated)" if usage["estimated"] else ""
    return grid(
        [
            (told["model"], Text(printable(told["text"].strip()[:200]) or "(no text)", style="green")),
            ("answered by", printable(told["answered_by"])),
            ("first piece", f"{told['first_piece'] * 1000:.0f} ms"),
            ("whole answer", duration_text(told["seconds"])),
            ("tokens", f"{usage['input_total']:,} in, {usage['output_total']:,} out{guessed}"),
            ("cost", "no price is known" if told["cost"] is None else dollars(told["cost"])),
        ]
    )
