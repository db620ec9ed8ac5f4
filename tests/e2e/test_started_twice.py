"""What a slow node has at the end of a run is started a second time elsewhere; each example has one result."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from cluster_kit_e2e import nodes_of_module, server_of_module, system_of_module
from e2e_kit import metric, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.names import run_name
from dspex_actors.workers.jobs import FOLDER, LARGE_BYTES

COUNT = 200


class Slow(dspex.Module):
    """Asks, and then stands still with one example, the second that it has in the process `slow`.

    Args:
        slow: a process id.
        folder: where it writes down what has come to pass; all go on when there is a file `on` in it.
        others: whether another process stands still with that example too.
    """

    def __init__(self, slow, folder, others):
        super().__init__()
        self.ask, self.slow, self.folder, self.others = triage(), slow, str(folder), others
        self.large = "x" * LARGE_BYTES

    async def aforward(self, ticket):
        answer = await self.ask.acall(ticket=ticket)
        folder = Path(self.folder)
        if os.getpid() == self.slow and (folder / "one").exists() and not (folder / "which").exists():
            (folder / "which").write_text(ticket)
        (folder / "one").touch() if os.getpid() == self.slow else None
        is_it = (folder / "which").exists() and (folder / "which").read_text() == ticket
        if is_it and (os.getpid() == self.slow or self.others):
            with (folder / "standing").open("a") as file:
                file.write(f"{os.getpid()}\n")
            try:
                while not (folder / "on").exists():  # noqa: ASYNC110 - the test is another process
                    await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                (folder / "cancelled").write_text(str(os.getpid()))
                raise
        return answer


joined, server, system = nodes_of_module(2, first=170), server_of_module("--latency-ms", "10"), system_of_module()


def begin(joined, system, folder, *, others, **settings):
    slow = until(lambda: joined.nodes["b"].whereis("worker-1")).pid
    run = system.start_run(
        "evaluate", Slow(slow, folder, others), tickets(COUNT), metric(), settings={"max_in_flight": 8, **settings}
    )
    return slow, run


def standing(folder):
    return (folder / "standing").read_text().split() if (folder / "standing").exists() else []


def check(result, server, before, known=COUNT + 1):
    assert [one.index for one in result.results] == list(range(COUNT))
    assert result.failed == 0
    # One was asked twice, nothing a third time; what a node had asked that never came back is not known.
    assert server.requests - before == COUNT + 1
    assert result.asked == known
    assert (result.hedged["examples"], result.hedged["asked"]) == (1, 1)
    assert sum(node["done"] for node in result.nodes.values()) == COUNT


@pytest.mark.soak
def test_the_first_answer_counts_and_the_other_start_is_cancelled(joined, system, server, tmp_path):
    before = server.requests
    slow, run = begin(joined, system, tmp_path, others=False)
    kept = joined.folder / "b" / FOLDER
    until(lambda: list(kept.glob("*.job")))  # the other workers of that node, and those that follow, read it there
    assert not (joined.folder / "a" / FOLDER).exists()
    result = system.wait_run(run)
    until(lambda: not list(kept.iterdir()))
    check(result, server, before)
    assert standing(tmp_path) == [str(slow)]
    assert until((tmp_path / "cancelled").exists)
    assert result.nodes["b"]["p50"] <= result.nodes["b"]["p95"] < 60.0


@pytest.mark.parametrize(
    "killed", ["worker", *(pytest.param(each, marks=pytest.mark.soak) for each in ("evaluator", "node"))]
)
def test_who_is_killed_while_an_example_is_under_way_twice_asks_nothing_a_third_time(
    joined, system, server, tmp_path, killed
):
    before = server.requests
    slow, run = begin(joined, system, tmp_path, others=True)
    until(lambda: len(standing(tmp_path)) == 2)
    if killed == "evaluator":
        os.kill(joined.nodes["a"].whereis(run_name(run)).pid, signal.SIGKILL)
    elif killed == "worker":
        killed_ref = joined.nodes["b"].whereis("worker-1")
        os.kill(slow, signal.SIGKILL)
        until(lambda: joined.nodes["b"].whereis("worker-1") not in (None, killed_ref))
        until(lambda: system._ask("progress", run)["note"].get("workers") == 2)
    else:
        joined.kill("b")
        until(lambda: system._ask("progress", run)["note"].get("workers") == 1)
    (tmp_path / "on").touch()
    result = system.wait_run(run)
    check(result, server, before, COUNT if killed == "node" else COUNT + 1)
    assert len(standing(tmp_path)) == 2
