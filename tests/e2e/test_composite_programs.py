"""Programs made of programs, on a node's workers: evaluated, traced, journalled; tools that misbehave end nothing."""

import asyncio
import json
import re
import threading

import pytest

import dspex_actors as dspex
from dspex_actors.steps import Ask, Parallel, Tool
from supervisors.testing import wait_until

COUNT = 4


class Canned(dspex.BaseLM):
    """Writes each output field that it is asked for."""

    def forward(self, messages, **params):
        system, asked = messages[0]["content"], messages[-1]["content"]
        is_first = {**self.kwargs, **params}.get("rollout_id") == 0
        fields = re.findall(
            r"^\d+\. `(\w+)`", system.partition("output fields:")[2].partition("Every exchange")[0], re.M
        )
        seen = re.findall(r"\[\[ ## observation_\d+ ## \]\]", asked)
        tools = re.findall(r"^ *\(\d+\) (\w+)[,.]", system, re.M)
        said = {
            "next_tool_name": tools[min(len(seen), len(tools) - 1)] if tools else "",
            "next_tool_args": json.dumps({} if len(seen) >= len(tools) - 1 else {"q": "x"}),
            "sub_questions": '["who", "where"]',
            "generated_code": "print(2)",
            "finished": "True",
            "advice": '{"self": "be better"}',
            "answer": "bad" if is_first else "good",
        }
        return "\n\n".join(f"[[ ## {name} ## ]]\n{said.get(name, name)}" for name in fields)


def lookup(q: str) -> str:
    """Look it up."""
    return f"found {q}"


async def alookup(q: str) -> dict[str, list[str]]:
    """Look it up, later."""
    await asyncio.sleep(0)
    return {"found": [q]}


def reward(inputs, prediction):
    return 1.0 if prediction.answer == "good" else 0.0


def vectors(texts):
    return [[text.count("1"), text.count("2")] for text in texts]


def think():
    return dspex.ChainOfThought("question -> answer")


class Compared(dspex.Module):
    def __init__(self):
        self.think, self.compare = think(), dspex.MultiChainComparison("question -> answer", M=2)

    def steps(self, question):
        attempts = [Ask(self.think, question=question, config={"rollout_id": number}) for number in (1, 2)]
        return (yield Ask(self.compare, (yield Parallel(attempts)), question=question))


class Voted(dspex.Module):
    def __init__(self):
        self.think = think()

    def forward(self, question):
        return dspex.majority(self.think(question=question, config={"n": 3}))


class Threads(dspex.Module):
    def __init__(self):
        self.think = think()

    def forward(self, question):
        found = dspex.Parallel(num_threads=3)([(self.think, {"question": question})] * 3)
        return found[0]


class Toolbox(dspex.Module):
    def __init__(self):
        self.think = think()

    def steps(self, question):
        yield Parallel([Tool(lookup, {"q": question}), Tool(alookup, {"q": question})])
        return (yield Ask(self.think, question=question))


DEVSET = [dspex.Example(question=f"{number}", answer="good").with_inputs("question") for number in range(COUNT)]

#: Name → the program, and how many calls it makes for an example.
PROGRAMS = {
    "ReAct": (dspex.ReAct("question -> answer", [lookup, alookup]), 4),
    "BestOfN": (dspex.BestOfN(think(), 3, reward, 1.0), 2),
    "Refine": (dspex.Refine(dspex.Predict("question -> answer"), 3, reward, 1.0), 3),
    "Compared": (Compared(), 3),
    "Voted": (Voted(), 3),
    "Threads": (Threads(), 3),
    "Toolbox": (Toolbox(), 1),
    "EnsembledProgram": (dspex.Ensemble(reduce_fn=dspex.majority).compile([think(), Voted()]), 4),
    "Predict": (
        dspex.KNNFewShot(2, DEVSET, vectors, metric=dspex.metrics.exact_match("answer")).compile(
            dspex.Predict("question -> answer")
        ),
        3,
    ),
    "MultiHopQA": (dspex.MultiHopQA(), 4),
    "ProgramOfThought": (dspex.ProgramOfThought("question -> answer"), 2),
    "CodeAct": (dspex.CodeAct("question -> answer", [lookup]), 2),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    home = tmp_path_factory.mktemp("composite") / "home"
    with dspex.connect(lm=Canned(), home=home, workers=2) as connection:
        yield connection


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_made_of_programs_is_evaluated_and_traced(system, name):
    program, calls = PROGRAMS[name]
    result = dspex.evaluate(
        program, DEVSET, dspex.metrics.exact_match("answer"), trace=True, display_progress=False, system=system
    )
    assert (result.score, result.failed, len(result.errors)) == (100.0, 0, 0)
    assert [len(each.prediction.items()) > 0 for each in result.results] == [True] * COUNT
    assert result.asked == calls * COUNT

    def names():
        tree = system.events.trace_tree(f"{result.run_id}/0")
        return [] if tree is None else told(tree)

    # The worker's events reach the node's store a moment after the answer.
    wait_until(lambda: any(each.startswith(name) for each in names()), 30)
    if name == "ReAct":  # a start and an end each
        wait_until(lambda: names().count("lookup") == names().count("alookup") == 2, 30)
        assert result.results[0].prediction.trajectory["observation_1"] == {"found": ["x"]}
    if name == "MultiHopQA":
        ids = [hop["correlation_id"] for hop in result.results[0].prediction.hops]
        trees = [wait_until(lambda each=each: system.events.trace_tree(each), 30) for each in ids]
        assert [told(tree)[0] for tree in trees] == ["hop 1", "hop 2"]


def told(tree):
    """Return the names in a tree of events."""
    event = tree.event
    name = getattr(event, "module", None) or getattr(event, "name", None) or event.kind
    return [name, *(each for child in tree.children for each in told(child))]


def hangs(q: str) -> str:
    """Never answer."""
    threading.Event().wait()
    return q


async def hangs_too(q: str) -> str:
    """Never answer, and take no notice of being cancelled."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


def leaves(q: str) -> str:
    """Leave."""
    raise SystemExit(q)


def test_tools_that_hang_or_leave_end_no_worker(system):
    late = told_by(system, [hangs, hangs_too], tool_timeout=0.2)
    assert late == [
        "Execution error in hangs: TimeoutError: hangs has not answered within 0.2 s",
        "Execution error in hangs_too: TimeoutError: hangs_too has not answered within 0.2 s",
    ]
    assert told_by(system, [leaves, lookup]) == ["Execution error in leaves: SystemExit: x", "found x"]


#: Code that means no good, by the number of its example.
HARM = (
    "while True: pass",
    "import os\nwhile True: os.fork()",
    "import os\nos.kill(os.getppid(), 9)",
    "def f():\n    x = []\n    while True: x.append(bytearray(1 << 20))\nf()",
)


class Harmful(Canned):
    """Writes code that means no good; what it is told of it is its answer."""

    def forward(self, messages, **params):
        asked = messages[-1]["content"]
        if "[[ ## trajectory ## ]]" in asked and "`[[ ## generated_code ## ]]`" not in asked:
            return f"[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\n{asked}"
        number = int(re.search(r"\[\[ ## question ## \]\]\n(\d)", asked)[1])
        return f"[[ ## generated_code ## ]]\n{HARM[number]}\n\n[[ ## finished ## ]]\nTrue"


class Brief:
    """Makes interpreters of little patience and memory; an object, which travels."""

    def __call__(self):
        return dspex.PythonInterpreter(timeout=2, memory=128 << 20)


@pytest.mark.soak
def test_code_that_means_no_good_ends_no_worker(system):
    act = dspex.CodeAct("question -> answer", [lookup], interpreter_factory=Brief())
    result = dspex.evaluate(
        act, DEVSET, lambda example, prediction, trace=None: True, lm=Harmful(), display_progress=False, system=system
    )
    assert (result.score, result.failed) == (100.0, 0)
    assert {each.attempts for each in result.results} == {1}, "no worker has died"
    told = [each.prediction.trajectory["observation_0"] for each in result.results]
    for text, expected in zip(told, ("within 2 s", "PermissionError", "PermissionError", "MemoryError"), strict=True):
        # On a busy machine the time may be over before the harm is done.
        assert expected in text or "within 2 s" in text


def told_by(system, tools, **how):
    """Return what an agent's tools have given, of the first example."""
    agent = dspex.ReAct("question -> answer", tools, **how)
    result = dspex.evaluate(agent, DEVSET, dspex.metrics.exact_match("answer"), display_progress=False, system=system)
    assert (result.score, result.failed) == (100.0, 0)
    assert {each.attempts for each in result.results} == {1}
    trajectory = result.results[0].prediction.trajectory
    return [trajectory[f"observation_{number}"] for number in range(len(tools))]
