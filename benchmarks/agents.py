"""ReAct over many questions with a slow tool: all at once on a node's workers, beside one after the other.

The LM is a class of the benchmark that answers after some time; so does the tool. Every fiftieth call of the tool in
the last row never returns: it is given up after the timeout, and the agent goes on.

    python -m benchmarks.agents [--questions N] [--sequential N] [--lm-ms N] [--tool-ms N] [--in-flight N] [--quick]
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import dspex_actors as dspex
from benchmarks.common import home, parser, run, table

#: Seconds after which a tool is given up.
TIMEOUT = 2.0


class Agents(dspex.BaseLM):
    """Thinks once, looks something up, finishes, answers.

    Args:
        seconds: to an answer.
    """

    def __init__(self, seconds: float) -> None:
        """Take the time."""
        super().__init__("agents")
        self.seconds = seconds

    async def aforward(self, messages: list[dict[str, Any]], **params: Any) -> str:
        """Answer."""
        await asyncio.sleep(self.seconds)
        return self._said(messages)

    def _said(self, messages: list[dict[str, Any]]) -> str:
        asked = messages[-1]["content"]
        if "`next_thought`" not in messages[0]["content"]:
            return "[[ ## reasoning ## ]]\nfound\n\n[[ ## answer ## ]]\nyes"
        tool, args = ("finish", {}) if "observation_0" in asked else ("look_up", {"query": asked.split()[5]})
        return (
            f"[[ ## next_thought ## ]]\nI look.\n\n[[ ## next_tool_name ## ]]\n{tool}\n\n"
            f"[[ ## next_tool_args ## ]]\n{json.dumps(args)}"
        )


class Lookup:
    """The tool: blocking, as most are.

    Args:
        seconds: to an answer.
        hangs_every: with so many calls one that never returns; 0: none.
    """

    def __init__(self, seconds: float, hangs_every: int = 0) -> None:
        """Take the settings."""
        self.seconds, self.hangs_every = seconds, hangs_every

    def look_up(self, query: str) -> str:
        """Look something up."""
        if self.hangs_every and int(query) % self.hangs_every == 0:
            threading.Event().wait()
        time.sleep(self.seconds)
        return f"about {query}"


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, questions=1000, sequential=30, lm_ms=50, tool_ms=200, in_flight=256).parse_args()
    if options.quick:
        options.questions, options.sequential = min(options.questions, 200), min(options.sequential, 10)
    lm = Agents(options.lm_ms / 1000)
    with home(), dspex.connect(lm=lm) as system:
        alone = _one_by_one(lm, options)
        rows = [["one after the other", f"{options.sequential:,}", f"{alone:.1f}", "1", "0", "0"]]
        for name, hangs in (("on the node's workers", 0), ("every fiftieth tool hangs", 50)):
            rows.append([name, *_at_once(system, lm, options, hangs, alone)])
    table(
        f"ReAct, {options.questions:,} questions: 3 LM calls of {options.lm_ms} ms, and a tool of {options.tool_ms} ms",
        ["what", "questions", "questions a second", "times as fast", "failed", "given up"],
        rows,
        f"wanted: at least 20 times as fast; a tool that hangs is given up after {TIMEOUT:g} s, no worker dies",
    )


def _agent(options: Any, hangs_every: int = 0) -> dspex.ReAct:
    tool = Lookup(options.tool_ms / 1000, hangs_every)
    return dspex.ReAct("question -> answer", [tool.look_up], tool_timeout=TIMEOUT if hangs_every else None)


def _one_by_one(lm: Any, options: Any) -> float:
    agent = _agent(options)
    started = time.perf_counter()
    with dspex.context(lm=lm):
        for number in range(options.sequential):
            agent(question=str(number))
    return float(options.sequential / (time.perf_counter() - started))


def _at_once(system: Any, lm: Any, options: Any, hangs_every: int, alone: float) -> list[str]:
    devset = [
        dspex.Example(question=str(number), answer="yes").with_inputs("question") for number in range(options.questions)
    ]
    metric = dspex.metrics.exact_match("answer")
    started = time.perf_counter()
    result = dspex.evaluate(
        _agent(options, hangs_every), devset, metric, lm=lm, system=system, max_in_flight=options.in_flight,
        display_progress=False,
    )  # fmt: skip
    rate = options.questions / (time.perf_counter() - started)
    given_up = sum("TimeoutError" in each.prediction.trajectory["observation_0"] for each in result.results)
    return [f"{options.questions:,}", f"{rate:.1f}", f"{rate / alone:.0f}", str(result.failed), str(given_up)]


if __name__ == "__main__":
    run(main)
