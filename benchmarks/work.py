"""What the benchmarks' child processes do: `python -m benchmarks.work KIND ARGUMENTS`.

Each function here makes itself ready, says so, waits for the word, works, and says what came of it as
JSON. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import SIGNATURE, TICKET, default_sigint


def say(word: Any = None) -> None:
    """Give the parent a word."""
    print(json.dumps(word), flush=True)


def wait() -> None:
    """Wait for the parent's."""
    if not sys.stdin.readline():
        raise SystemExit(1)


# --- ours ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(url: str, limits: dict[str, Any] | None = None) -> Iterator[tuple[Any, Any, Any]]:
    """Connect to a node of this process's own, with an LM that is told such limits; give (system, program, metric)."""
    import dspex_actors as dspex

    # Answers are not kept: the loops beside us keep none, and the warm-up has asked some of the same.
    lm = dspex.LM("openai/m", base_url=url, **{"cache": False, **(limits or {})})
    with dspex.connect(lm=lm) as system:
        yield system, dspex.Predict(SIGNATURE), dspex.metrics.exact_match("team")


def examples(count: int, first: int = 0) -> list[Any]:
    """Return examples that are all alike but for their number."""
    return list(generated(count, first))


def generated(count: int, first: int = 0) -> Iterator[Any]:
    """Give the same one by one."""
    import dspex_actors as dspex

    for number in range(first, first + count):
        yield dspex.Example(ticket=TICKET.format(number), team="bugs").with_inputs("ticket")


def evaluate(
    url: str,
    count: int,
    in_flight: int,
    source: str = "list",
    warm_up: int = 300,
    sample: float = 0.0,
    telemetry: bool = True,
    limits: dict[str, Any] | None = None,
) -> None:
    """Evaluate `count` examples from a list, a generator or a JSON lines file; read the results once."""
    os.environ["DSPEX_TELEMETRY"] = "1" if telemetry else "0"
    import dspex_actors as dspex

    with connected(url, limits) as (system, program, metric):
        path = Path(system.data_dir) / "bench.jsonl"
        if source == "file":
            with path.open("w") as file:
                for number in range(count):
                    file.write(json.dumps({"ticket": TICKET.format(number), "team": "bugs"}) + "\n")
        if warm_up:
            dspex.evaluate(program, examples(warm_up), metric, max_in_flight=in_flight, display_progress=False)
            time.sleep(0.5)  # its evaluator ends
        devset = examples(count) if source == "list" else str(path) if source == "file" else None
        say()
        wait()
        started = time.perf_counter()
        result = dspex.evaluate(
            program,
            generated(count) if devset is None else devset,
            metric,
            max_in_flight=in_flight,
            display_progress=False,
            sample=sample,
        )
        seconds = time.perf_counter() - started
        points = system.journal.latency_percentiles(result.run_id, (0.5, 0.99)) or [0.0, 0.0]
        assert (result.succeeded, result.score) == (count, 100.0), result
        if source != "list":
            assert sum(1 for _ in result.results) == count
        say({"seconds": seconds, "p50": points[0], "p99": points[1]})
        wait()


def resilience(url: str, count: int, in_flight: int, victim: str, after: float) -> None:
    """Evaluate, and say when results came from whom; the parent kills the victim, whose pid it is told."""
    import dspex_actors as dspex
    from supervisors.errors import SupervisorsError

    with connected(url) as (system, program, metric):
        dspex.evaluate(program, examples(300), metric, max_in_flight=in_flight, display_progress=False)
        say()
        wait()
        run_id = system.start_run(
            "evaluate", program, examples(count), metric, settings={"max_in_flight": in_flight, "failures": "retry"}
        )
        name = f"run:{run_id}" if victim == "evaluator" else victim
        time.sleep(after)
        pid = system.node.pid(name)
        say({"pid": pid})
        wait()  # it is dead by now
        killed = time.perf_counter()
        back = kept = None
        row = system.journal.get_run(run_id)
        done = row.done if row is not None else 0
        while (back is None or kept is None) and time.perf_counter() - killed < 20:
            with contextlib.suppress(SupervisorsError):
                if back is None and system.node.pid(name) not in (None, pid):
                    back = time.perf_counter() - killed
            if kept is None and (row := system.journal.get_run(run_id)) is not None and row.done > done:
                kept = time.perf_counter() - killed
            time.sleep(0.002)
        result = system.wait_run(run_id)
        rows = [(row.at, row.worker.rpartition("/")[2], row.latency) for row in system.journal.iter_results(run_id)]
        assert result.succeeded == count, result
        say({"back": back, "kept": kept, "rows": rows})
        wait()


def idle(url: str) -> None:
    """Connect, make one call so that all that is started on first use is there, and rest."""
    with connected(url) as (_, program, _metric):
        program(ticket="one")
        time.sleep(1.0)
        say()
        wait()
        time.sleep(2.0)
        say({})
        wait()


# --- what ours is compared with -----------------------------------------------------------------------------


def rendered() -> Callable[[str], dict[str, Any]]:
    """Return a function from a ticket to the very payload that our adapter makes, at the least cost."""
    import dspex_actors as dspex

    messages = dspex.ChatAdapter().format(dspex.Predict(SIGNATURE).signature, [], {"ticket": "<ticket>"})
    system, user = messages[0]["content"], messages[-1]["content"]

    def payload(ticket: str) -> dict[str, Any]:
        return {
            "model": "m",
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": user.replace("<ticket>", ticket)},
            ],
        }

    return payload


def bare(url: str, count: int, in_flight: int, client: str) -> None:
    """Ask `count` times over one client in one event loop, `in_flight` tasks at a time, and read the answers."""
    asyncio.run(_bare(url + "/chat/completions", count, in_flight, client))


async def _bare(url: str, count: int, in_flight: int, client: str) -> None:
    import orjson

    payload = rendered()
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    async with contextlib.AsyncExitStack() as stack:
        if client == "aiohttp":
            import aiohttp

            session = await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight))
            )

            async def post(body: bytes) -> bytes:
                async with session.post(url, data=body, headers=headers) as response:
                    return await response.read()
        else:
            import httpx
            from httpx_aiohttp import AiohttpTransport

            transport = AiohttpTransport(limits=httpx.Limits(max_connections=in_flight))
            asker = await stack.enter_async_context(httpx.AsyncClient(transport=transport, timeout=60.0))

            async def post(body: bytes) -> bytes:
                return (await asker.post(url, content=body, headers=headers)).content

        latencies: list[float] = []

        async def lane(numbers: Iterator[int]) -> None:
            for number in numbers:
                started = time.perf_counter()
                answer = orjson.loads(await post(orjson.dumps(payload(TICKET.format(number)))))
                assert "bugs" in answer["choices"][0]["message"]["content"]
                latencies.append(time.perf_counter() - started)

        async def ask(times: int) -> None:
            numbers = iter(range(times))
            await asyncio.gather(*(lane(numbers) for _ in range(min(in_flight, times))))

        await ask(min(300, count))
        latencies.clear()
        say()
        await asyncio.to_thread(wait)
        started = time.perf_counter()
        await ask(count)
        say({"seconds": time.perf_counter() - started, "latencies": latencies})
        await asyncio.to_thread(wait)


def limits(url: str, count: int, in_flight: int, limits: dict[str, Any], model: str, sizes: list[int]) -> None:
    """Evaluate `count` examples under a provider's limits, with prompts that are longer by so many words in turn."""
    import dspex_actors as dspex

    lm = dspex.LM(model, base_url=url, max_tokens=32, cache=False, **limits)
    with dspex.connect(lm=lm):
        program, metric = dspex.Predict(SIGNATURE), dspex.metrics.exact_match("team")
        work = examples(count)
        for number, example in enumerate(work):
            example["ticket"] += " word" * sizes[number % len(sizes)]
        say()
        wait()
        started = time.perf_counter()
        result = dspex.evaluate(program, work, metric, max_in_flight=in_flight, display_progress=False)
        say({"seconds": time.perf_counter() - started, "done": result.succeeded})
        wait()


def main() -> None:
    """Do what the command line says."""
    default_sigint()
    kinds = {"evaluate": evaluate, "resilience": resilience, "idle": idle, "bare": bare, "limits": limits}
    try:
        kinds[sys.argv[1]](**json.loads(sys.argv[2]))
    except (KeyboardInterrupt, BrokenPipeError):
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
