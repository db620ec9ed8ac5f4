"""What a script's program says when called, it says in a run; forked children of the script ask for themselves."""

import json
import os
import sys
import textwrap

import pytest
import warm
from e2e_kit import LMServer

ANSWER = """[[ ## person ## ]]
{"name": "Ada", "born": "1815-12-10"}

[[ ## share ## ]]
0.5

[[ ## reasoning ## ]]
because

[[ ## completed ## ]]"""

SCRIPT = '''
import asyncio, dataclasses, datetime, decimal, enum, json, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

import pydantic

import beside
import dspex_actors as dspex


class Person(pydantic.BaseModel):
    name: str
    born: datetime.date


@dataclasses.dataclass
class Ticket:
    text: str
    tags: set = dataclasses.field(default_factory=set)


class Kind(enum.Enum):
    SMALL = "small"


class Sort(dspex.Signature):
    """Sort tickets."""
    ticket: Ticket = dspex.InputField()
    kind: Kind = dspex.InputField()
    person: Person = dspex.OutputField()
    share: decimal.Decimal = dspex.OutputField()


class Base(dspex.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspex.Predict(Sort)

    def checked(self, ticket, kind):
        assert isinstance(ticket, Ticket) and kind is Kind.SMALL and ticket.tags == {"a"}, (ticket, kind)
        return self.ask(ticket=ticket, kind=kind)


class Plain(Base):
    def forward(self, ticket, kind):
        return self.checked(ticket, kind)


class Threads(Base):
    def forward(self, ticket, kind):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: self.checked(ticket, kind), range(2)))
        found = []
        thread = threading.Thread(target=lambda: found.append(self.checked(ticket, kind)))
        thread.start()
        thread.join()
        return found[0]


class Loops(Base):
    def forward(self, ticket, kind):
        return asyncio.run(self.ask.acall(ticket=ticket, kind=kind))


class Async(Base):
    async def aforward(self, ticket, kind):
        return await self.ask.acall(ticket=ticket, kind=kind)


def function(ticket, kind):
    import lazily  # beside the script, and imported nowhere else
    return dspex.Prediction(person=Person(name=lazily.NAME, born="1815-12-10"), share=decimal.Decimal("0.5"))


def typed(example, prediction, trace=None):
    return isinstance(prediction.person, Person) and prediction.person == example.person and example.kind is Kind.SMALL


def helped(example, prediction, trace=None):
    import lazily
    from package.inner import limit
    return lazily.same(example, prediction) * limit() * beside.FACTOR


def looped(example, prediction, trace=None):
    async def later():
        await asyncio.sleep(0)
        return prediction.share == decimal.Decimal("0.5")
    return asyncio.run(later())


async def awaited(example, prediction, trace=None):
    return prediction.share * 2 == 1


PROGRAMS = [Plain(), Threads(), Loops(), Async(), dspex.ChainOfThought(Sort), function]
METRICS = [typed, helped, looped, awaited, dspex.metrics.exact_match("person", "share")]


def differences(system):
    label = {"person": Person(name="Ada", born="1815-12-10"), "share": "0.50"}
    one = dspex.Example(ticket=Ticket("x", {"a"}), kind=Kind.SMALL, **label).with_inputs("ticket", "kind")
    cases = [(program, typed) for program in PROGRAMS] + [(PROGRAMS[0], metric) for metric in METRICS]
    for program, metric in cases:
        if program is PROGRAMS[3]:
            made = asyncio.run(program.acall(**one.inputs()))
        else:
            made = program(**one.inputs())
        score = metric(one, made)
        score = asyncio.run(score) if asyncio.iscoroutine(score) else score
        result = dspex.evaluate(program, [one] * 3, metric, display_progress=False)
        for row in result.results:
            if row.error or row.score != score or row.prediction.toDict() != made.toDict():
                yield [type(program).__name__, metric.__name__, row.error, row.score, score]
            elif type(row.prediction.person) is not Person or row.example.ticket != one.ticket:
                yield [type(program).__name__, repr(row.prediction), repr(row.example)]


def waits(example, prediction, trace=None):
    time.sleep(0.25)
    return 1


def children(count):
    """Fork children that ask, while this process asks too; give those whose answer was not their own."""
    asked = dspex.Predict("question -> answer")
    names = [f"c{number}.{turn}" for number in range(count) for turn in range(5)] + [f"p{turn}" for turn in range(20)]
    asked.demos = [dspex.Example(question=name, answer=name) for name in names]  # the embedded LM says the nearest
    asked(question="before")
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                good = all(asked(question=f"c{number}.{turn}").answer == f"c{number}.{turn}" for turn in range(5))
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                good = False
            os._exit(0 if good else 1)
        pids.append(pid)
    mine = [asked(question=f"p{turn}").answer for turn in range(20)]
    wrong = [pid for pid in pids if os.waitpid(pid, 0)[1] != 0]
    return wrong, mine == [f"p{turn}" for turn in range(20)]


if __name__ == "__main__":
    fixed = dspex.LM("openai/x", base_url=sys.argv[1])
    with dspex.connect(workers=2) as system:
        dspex.configure(lm=fixed, adapter=dspex.ChatAdapter(use_json_adapter_fallback=False))
        found = {"differences": list(differences(system))}
        began = time.monotonic()
        result = dspex.evaluate(function, [dspex.Example(ticket=1, kind=1).with_inputs("ticket", "kind")] * 64, waits,
                                max_in_flight=64, display_progress=False)
        found["waits"] = [result.score, time.monotonic() - began]
        dspex.configure(lm=dspex.LM("embedded/nearest"))
        found["children"] = children(4)
        print(json.dumps(found))
'''

BESIDE = {
    "script.py": SCRIPT,
    "beside.py": "FACTOR = 1\n",
    "lazily.py": """
        NAME = "Ada"
        def same(example, prediction):
            import deeper
            return deeper.name(example) == deeper.name(prediction)
    """,
    "deeper.py": "def name(of):\n    return of.person.name\n",
    "package/__init__.py": "",
    "package/inner.py": "from . import other\ndef limit():\n    return other.LIMIT\n",
    "package/other.py": "LIMIT = 1\n",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    for name, text in BESIDE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    fixed = LMServer("--answer", ANSWER)
    try:
        done = warm.run(
            [sys.executable, "script.py", fixed.url],
            cwd=folder,
            env={**os.environ, "DSPEX_HOME": str(folder / "home")},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        fixed.close()
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr


def test_evaluate_says_what_a_call_says(found):
    assert found[0]["differences"] == []


def test_metrics_that_wait_wait_side_by_side(found):
    score, seconds = found[0]["waits"]
    assert score == 100.0
    assert seconds < 7.5, "one after the other they take 16 s in all, 8 in each worker"


def test_forked_children_get_answers_of_their_own(found):
    wrong, own = found[0]["children"]
    assert (wrong, own) == ([], True), found[1][-2000:]
