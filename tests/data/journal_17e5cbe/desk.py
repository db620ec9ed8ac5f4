"""A user's script: a signature class, a program and a metric of its own; commit 17e5cbe made the journal with it."""

import contextlib
import threading
import time
from typing import Literal

from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors import Example


class Note(BaseModel):
    """What the desk remembers of a ticket."""

    team: str
    length: int


class Triage(dspex.Signature):
    """Sort a support ticket."""

    ticket: str = dspex.InputField()
    team: Literal["billing", "bugs", "accounts"] = dspex.OutputField(desc="who handles it")


class Desk(dspex.Module):
    """Sort a ticket, and write a note on it."""

    def __init__(self):
        """Make the predictor, with two demonstrations."""
        super().__init__()
        self.sort = dspex.Predict(Triage)
        self.sort.demos = [
            Example(ticket="I was charged twice", team="billing"),
            Example(ticket="The page crashes", team="bugs"),
        ]

    async def aforward(self, ticket):
        """Return team and note."""
        team = (await self.sort.acall(ticket=ticket.strip())).team
        return dspex.Prediction(team=team, note=Note(team=team, length=len(ticket)))


def same_team(example, prediction, trace=None):
    """Say whether the team is the right one."""
    if not isinstance(prediction, dspex.Prediction):
        raise TypeError(type(prediction).__name__)
    return example.team == prediction.team


def tickets(count):
    """Return so many tickets, in turn of the three teams."""
    texts = {
        "billing": "invoice {} was charged twice",
        "bugs": "page {} crashes with an error",
        "accounts": "user {} cannot log in",
    }
    teams = list(texts)
    return [
        Example(ticket=texts[teams[n % 3]].format(n), team=teams[n % 3]).with_inputs("ticket") for n in range(count)
    ]


def main():
    """Make the journal: runs that are finished, and two that are paused in the middle."""
    slow = {"latency_ms": 40}
    with dspex.connect(lm="embedded/nearest", workers=2, embedded=slow) as system:
        dspex.evaluate(Desk(), tickets(12), same_team, run_id="desk-finished", display_progress=False)
        run_id = system.start_run(
            "evaluate", Desk(), tickets(40), same_team, run_id="desk-paused", settings={"max_in_flight": 2}
        )
        pause_at(system, run_id, 10)
        optimizer = dspex.BootstrapFewShot(metric=same_team, max_bootstrapped_demos=6)
        optimizer.compile(Desk(), trainset=tickets(12), run_id="bootstrap-finished", display_progress=False)
        waiting = threading.Thread(target=pause_at, args=(system, "bootstrap-paused", 3))
        waiting.start()
        with contextlib.suppress(dspex.RunInterrupted):
            optimizer.compile(Desk(), trainset=tickets(12), max_in_flight=1, run_id="bootstrap-paused")
        waiting.join()
    sort = Desk().sort
    sort.save("predict.json")
    thinking = dspex.ChainOfThought("ticket -> team")
    thinking.predict.demos = [Example(ticket="I was charged twice", reasoning="It is about money.", team="billing")]
    thinking.save("chain_of_thought.json")


def pause_at(system, run_id, done):
    """Pause a run when it has so many results."""
    while not any(row["run_id"] == run_id and row["done"] >= done for row in system.runs()):
        time.sleep(0.01)
    system.pause(run_id)


if __name__ == "__main__":
    main()
