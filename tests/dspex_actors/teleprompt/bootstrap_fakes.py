"""An LM whose answers follow from every byte it is asked, a program that asks it, and a node in-process."""

import asyncio
import hashlib
import json
import random
from contextlib import nullcontext
from types import SimpleNamespace

from dspex_actors import Module, Predict
from dspex_actors.client.result import make_result
from dspex_actors.data.fields import pack_example
from dspex_actors.errors import InvalidRequest
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.spec import Job, dump_code
from dspex_actors.workers.runner import make_runner, run_example

MODEL = LM("embedded/nearest")


class FakeBackend:
    """Answers with numbers that depend on messages and parameters, so on every demo in them."""

    def __init__(self, errors=0.0, answer=None):
        self.errors, self.answer = errors, answer
        self.asked = []

    def complete(self, request):
        lm, messages, params = LM.from_dict(request.lm.settings), request.messages, request.params
        self.asked.append((lm, messages, params))
        digest = hashlib.sha256(json.dumps([messages, params], sort_keys=True).encode()).digest()
        if digest[0] < 256 * self.errors:
            raise InvalidRequest("the fake LM refuses this")
        number = self.answer(messages, params) if self.answer else digest[1]
        sections = (f"[[ ## {name} ## ]]\n{number}" for name in ("hint", "answer"))
        return LMReply("\n\n".join(sections) + "\n\n[[ ## completed ## ]]")

    async def acomplete(self, request):
        await asyncio.sleep(0)  # others get their turn
        return self.complete(request)


class Chain(Module):
    """Asks its first predictor as often as the question is long, modulo 4."""

    def __init__(self):
        self.first = Predict("question -> hint")
        self.second = Predict("question, hint -> answer")

    def forward(self, question):
        hint = "none"
        for turn in range(len(question) % 4):
            hint = self.first(question=f"{question} {turn}").hint
        return self.second(question=question, hint=hint)


class FakeSystem:
    """Runs a run in this process: many examples at once, results in any order, more than needed."""

    def __init__(self, seed=0):
        self.rng = random.Random(seed)
        self.started = []
        self.rows = []

    #: Empty: there is no such file.
    journal = JournalReader("nowhere/journal.db")

    def holding(self, run_id):
        return nullcontext(self)

    def start_run(self, kind, program, devset, metric, *, lm=None, settings, run_id=None, **rest):
        settings = json.loads(json.dumps(settings))
        self.started.append((kind, settings))
        job = Job("run", kind, dump_code(program), dump_code(metric), (lm or MODEL).to_dict(), settings)
        runner = make_runner(job)
        payloads = [pack_example(example) for example in devset]

        async def run():
            return await asyncio.gather(*(run_example(runner, payload) for payload in payloads))

        rows = list(enumerate(asyncio.run(run())))
        rule = StopRule(**settings["rule"])
        for index, row in self.rng.sample(rows, len(rows)):
            rule.observe(index, success=row.success, error=row.error is not None)
        kept = len(rows) if rule.verdict is None else min(len(rows), rule.prefix + self.rng.randrange(4))
        self.rows = [
            ResultRow(index=index, example=payloads[index], prediction=row.prediction, score=row.score, error=row.error)
            for index, row in rows[:kept]
        ]
        return run_id or "run"

    def wait_run(self, run_id, on_progress=None, display_progress=False, label=""):
        return SimpleNamespace(results=[make_result(row, trusted=True) for row in self.rows], cost=None)
