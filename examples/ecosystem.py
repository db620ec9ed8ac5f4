"""An inference ecosystem that serves one program to many callers: validated, cached, transformed, measured.

Forty callers ask about eight tickets, at the same time. Each ticket costs one LM call; who comes with the same one
waits for that. Then a member is killed, and the next caller is served all the same.

    python examples/ecosystem.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from typing import Literal

import dspex_actors as dspex


class Triage(dspex.Signature):
    """Sort a support ticket."""

    ticket: str = dspex.InputField()
    urgency: int = dspex.InputField(ge=1, le=5, default=3)
    team: Literal["billing", "bugs", "accounts"] = dspex.OutputField(desc="who handles it")


EXAMPLES = {"I was charged twice": "billing", "The app crashes at start": "bugs", "I cannot log in": "accounts"}


def with_queue(prediction: dspex.Prediction) -> dict[str, str]:
    """Say where a ticket goes."""
    return {"queue": f"{prediction.team}@support.example"}


async def forty_callers(eco: dspex.InferenceEcosystem) -> list[dspex.Prediction]:
    """Ask about eight tickets, five times each."""
    return await asyncio.gather(*(eco.ainfer(ticket=f"I cannot log in to account {n % 8}") for n in range(40)))


def main() -> None:
    """Serve, ask, break something, ask again."""
    program = dspex.Predict(Triage)
    program.demos = [dspex.Example(ticket=ticket, team=team) for ticket, team in EXAMPLES.items()]
    with (
        tempfile.TemporaryDirectory() as home,
        dspex.connect(lm="embedded/nearest", home=home) as system,
        system.ecosystem(
            program,
            strict=True,
            transformations=[with_queue],
            alerts=[dspex.Alert("latency.p99", above=2.0, action="log")],
        ) as eco,
    ):
        one = eco.infer(ticket="I was charged twice")
        print(f"one ticket goes to {one.queue}")

        found = asyncio.run(forty_callers(eco))
        asked = sum(each.inference.asked for each in found)
        print(f"{len(found)} callers, {asked} LM calls")

        try:
            eco.infer(tickets="misspelt", urgency="very")
        except dspex.InvalidInputs as error:
            for finding in error.findings:
                print(f"refused: {finding['message']}")

        os.kill(eco.members()["processor"].pid, signal.SIGKILL)
        one = eco.infer(ticket="The app crashes at start")
        print(f"the processor was killed: the team is {one.team}, passed over: {', '.join(one.skipped) or 'nobody'}")
        print(f"cache: {eco.stats()['cache']['entries']} answers")


if __name__ == "__main__":
    main()
