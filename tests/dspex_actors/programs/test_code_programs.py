"""ProgramOfThought and CodeAct: what they ask, run and give, sync and async; what they refuse."""

import asyncio
import json
import sys
from typing import ClassVar, Literal

import cloudpickle
import pytest

import dspex_actors as dspex
from dspex_actors.programs.program_of_thought import code_of, run_code
from tests.dspex_actors.program_fakes import FakeLM, chat

WAYS = ("sync", "async")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it refuses to run code")


def call(way, program, *args, **inputs):
    return program(*args, **inputs) if way == "sync" else asyncio.run(program.acall(*args, **inputs))


def written(code, **more):
    return chat(reasoning="r", generated_code=code, **more)


ANSWER = chat(reasoning="r", answer="7")


def asked(lm, number):
    return lm.asked[number][0][-1]["content"]


def cube(x):
    """Give the third power."""
    return x**3


def area(width: int, height: Literal[2]) -> int:
    """Give the area."""
    import math

    return math.prod([width, height])


@pytest.mark.parametrize("way", WAYS)
def test_code_is_run_and_answered_from(way):
    lm = FakeLM(written("```python\nx = 3\nSUBMIT({'answer': x + 4})\n```"), ANSWER)
    with dspex.context(lm=lm, trace=[]):
        trace = dspex.settings.trace
        assert call(way, dspex.ProgramOfThought("question -> answer: int"), question="?").answer == 7
    assert "[[ ## question ## ]]\n?" in asked(lm, 0)
    assert '[[ ## code_output ## ]]\n{"output": {"answer": 7}}' in asked(lm, 1)
    assert "[[ ## final_generated_code ## ]]\nx = 3\nSUBMIT" in asked(lm, 1)
    assert [list(step[1]) for step in trace] == [["question"], ["question", "final_generated_code", "code_output"]]


@pytest.mark.parametrize("way", WAYS)
def test_code_that_fails_is_shown_with_its_error_and_written_again_in_the_same_session(way):
    lm = FakeLM(written("kept = 6\n1 / 0"), written("def f(:"), written("kept + 1"), ANSWER)
    with dspex.context(lm=lm):
        call(way, dspex.ProgramOfThought("question -> answer"), question="?")
    assert "[[ ## previous_code ## ]]\nkept = 6\n1 / 0" in asked(lm, 1)
    assert "[[ ## error ## ]]\nZeroDivisionError: division by zero (line 2)" in asked(lm, 1)
    assert "[[ ## error ## ]]\nSyntaxError: invalid syntax" in asked(lm, 2)
    assert "[[ ## code_output ## ]]\n7" in asked(lm, 3)


@pytest.mark.parametrize("way", WAYS)
def test_it_gives_up_after_max_iters(way):
    lm = FakeLM(written("1 / 0"))
    with dspex.context(lm=lm), pytest.raises(RuntimeError, match=r"no code ran, after 2 attempts; .*ZeroDivision"):
        call(way, dspex.ProgramOfThought("question -> answer", max_iters=2), question="?")
    assert len(lm.asked) == 2


class Brief(dspex.PythonInterpreter):
    """Waits long for all code but that which never ends."""

    def execute(self, code, variables=None):
        self.timeout = 0.5 if "while True" in code else 60.0
        return super().execute(code, variables)


def test_code_that_hangs_is_an_error_that_the_lm_sees():
    lm = FakeLM(written("while True: pass"), written("7"), ANSWER)
    pot = dspex.ProgramOfThought("question -> answer", interpreter_factory=Brief)
    with dspex.context(lm=lm):
        assert pot(question="?").answer == "7"
    assert "[[ ## error ## ]]\nthe code did not end within 0.5 s" in asked(lm, 1)


class Noted:
    """An interpreter that runs nothing."""

    tools: ClassVar = {}

    def __init__(self, *answers):
        self.answers, self.ran, self.ended = list(answers), [], 0

    def start(self):
        pass

    def execute(self, code, variables=None):
        self.ran.append(code)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shutdown(self):
        self.ended += 1


@pytest.mark.parametrize("way", WAYS)
def test_an_interpreter_is_made_for_each_call_and_ended_whatever_happens(way):
    made = []

    def factory():
        made.append(Noted("7") if len(made) < 2 else Noted(dspex.CodeInterpreterError("no more")))
        return made[-1]

    with dspex.context(
        lm=FakeLM(written("7"), ANSWER, written("7"), ANSWER, written("7")), interpreter_factory=factory
    ):
        pot = dspex.ProgramOfThought("question -> answer")
        call(way, pot, question="?")
        call(way, pot, question="?")
        with pytest.raises(dspex.CodeInterpreterError, match="no more"):
            call(way, pot, question="?")
    assert [(each.ran, each.ended) for each in made] == [(["7"], 1)] * 3


@pytest.mark.parametrize("way", WAYS)
def test_an_interpreter_of_the_callers_is_used_and_left_to_the_caller(way):
    own = Noted("7", "7")
    with dspex.context(lm=FakeLM(written("7"), ANSWER)):
        call(way, dspex.ProgramOfThought("question -> answer"), own, question="?")
    with dspex.context(lm=FakeLM(chat(generated_code="7", finished=True), ANSWER)):
        call(way, dspex.CodeAct("question -> answer", [cube]), own, question="?")
    assert own.ended == 0
    assert own.ran[0] == "7"
    assert "def cube(x):" in own.ran[1]


@pytest.mark.parametrize("way", WAYS)
def test_code_act_runs_code_with_its_tools_until_it_is_finished(way):
    lm = FakeLM(
        chat(generated_code="```python\nx = cube(x=3)\nprint(x)\n```", finished=False),
        chat(generated_code="1 / 0", finished=False),
        chat(generated_code="size(x, 2)", finished=True),
        ANSWER,
    )
    act = dspex.CodeAct("question -> answer", [cube, dspex.Tool(area, name="size")])
    with dspex.context(lm=lm):
        found = call(way, act, question="?")
    assert (found.answer, found.reasoning) == ("7", "r")
    assert found.trajectory == {
        "generated_code_0": "x = cube(x=3)\nprint(x)",
        "code_output_0": '"27\\n"',
        "generated_code_1": "1 / 0",
        "observation_1": "The code has failed: ZeroDivisionError: division by zero (line 1)",
        "generated_code_2": "size(x, 2)",
        "code_output_2": "54",
    }
    assert "(1) cube, whose description is" in lm.asked[0][0][0]["content"]
    assert "[[ ## code_output_0 ## ]]" in asked(lm, 1)


def test_tools_are_there_again_after_code_that_was_stopped():
    lm = FakeLM(
        chat(generated_code="while True: pass", finished=False), chat(generated_code="cube(2)", finished=True), ANSWER
    )
    act = dspex.CodeAct("question -> answer", [cube], interpreter_factory=Brief)
    with dspex.context(lm=lm):
        found = act(question="?")
    assert "within 0.5 s" in found.trajectory["observation_0"]
    assert found.trajectory["code_output_1"] == "8"


def test_code_act_ends_after_max_iters_and_leaves_out_the_oldest_where_it_does_not_fit():
    class Narrow(FakeLM):
        def __call__(self, messages, **params):
            if "generated_code_0" in messages[-1]["content"] and "_2" in messages[-1]["content"]:
                raise dspex.ContextWindowExceeded("too long")
            return super().__call__(messages, **params)

    lm = Narrow(*[chat(generated_code=str(number), finished=False) for number in range(3)], ANSWER)
    with dspex.context(lm=lm):
        found = dspex.CodeAct("question -> answer", [], max_iters=9)(question="?", max_iters=3)
    assert found.answer == "7"
    assert list(found.trajectory) == ["generated_code_1", "code_output_1", "generated_code_2", "code_output_2"]


def test_programs_travel_with_their_tools():
    act = cloudpickle.loads(cloudpickle.dumps(dspex.CodeAct("question -> answer", [cube])))
    with dspex.context(lm=FakeLM(chat(generated_code="cube(3)", finished=True), ANSWER)):
        assert act.deepcopy()(question="?").trajectory["code_output_0"] == "27"
    assert [name for name, _ in act.named_predictors()] == ["codeact", "extractor.predict"]
    pot = cloudpickle.loads(cloudpickle.dumps(dspex.ProgramOfThought("question -> answer")))
    assert [name.partition(".")[0] for name, _ in pot.named_predictors()] == [
        "code_generate",
        "code_regenerate",
        "generate_output",
    ]


async def later(x: int) -> int:
    """Wait."""
    return x


class Callable_:  # noqa: N801
    """An object."""

    def __call__(self, x: int) -> int:
        return x


HEIGHT = 2


def kept(function):
    return function


@kept
def decorated(x: int) -> int:
    return x


def around():
    height = HEIGHT

    def inner(width: int) -> int:
        return width * height

    return inner


def with_default(width: int, height: int = HEIGHT) -> int:
    return width * height


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: dspex.ProgramOfThought("q, error -> answer"), "field 'error' of its own"),
        (lambda: dspex.ProgramOfThought("q -> answer", max_iters=0), "max_iters"),
        (lambda: dspex.ProgramOfThought("q -> answer", interpreter_factory=Noted()), "interpreter_factory is invalid"),
        (lambda: dspex.ProgramOfThought("q -> answer", interpreter_factory=None), "interpreter_factory is invalid"),
        (lambda: dspex.configure(interpreter_factory="deno"), "interpreter_factory is invalid"),
        (lambda: dspex.configure(interpreter_factory=dspex.PythonInterpreter()), "expected a function that makes an"),
        (lambda: dspex.ProgramOfThought("q -> answer")(interpreter=Noted(), q="?"), "goes first"),
        (lambda: dspex.ProgramOfThought("q -> answer")(Callable_(), q="?"), "interpreter is invalid"),
        (lambda: dspex.CodeAct("q, trajectory -> answer", []), "field 'trajectory' of its own"),
        (lambda: dspex.CodeAct("q -> answer", [Callable_()]), "takes plain functions"),
        (lambda: dspex.CodeAct("q -> answer", [later]), "takes plain functions"),
        (lambda: dspex.CodeAct("q -> answer", [len]), "cannot be given by name"),
        (lambda: dspex.CodeAct("q -> answer", [lambda x: x]), "expected a name of its own|source cannot be read"),
        (lambda: dspex.CodeAct("q -> answer", [cube, cube]), "name 'cube' is invalid"),
        (lambda: dspex.CodeAct("q -> answer", cube), "tools is invalid"),
        (lambda: dspex.CodeAct("q -> answer", [decorated]), "tool 'decorated' is invalid: it has the decorator @kept"),
        (lambda: dspex.CodeAct("q -> answer", [around()]), "tool 'inner' is invalid: it uses height of the function"),
        (lambda: dspex.CodeAct("q -> answer", [with_default]), "a default of it is made with HEIGHT"),
        (lambda: dspex.CodeAct("q -> answer: Callable_", [cube]), "the type of output 'answer' of .* is invalid"),
        (lambda: dspex.ProgramOfThought("q -> answer: Callable_"), "the type of output 'answer' of .* is invalid"),
    ],
)
def test_what_is_no_use_is_refused_before_a_call_is_paid(make, told):
    lm = FakeLM("never")
    with dspex.context(lm=lm), pytest.raises(dspex.ConfigError, match=told):
        make()
    assert lm.asked == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1 + 1", "1 + 1"),
        ("```python\n1 + 1\n```", "1 + 1"),
        ("Like this:\n```py\na\n\n\nb()\n```\nand that is it", "a\n\n\nb()"),
        ("```\nx = 1\n```", "x = 1\nx"),
        ("```python\nx = 1", "x = 1\nx"),
        ("x == 1", "x == 1"),
        ("def f():\n    x = 1", "def f():\n    x = 1"),
        ("a = 1\n---\nSo that", "a = 1\na"),
        ("x = f(a=1, b=2)", "x = f(a=1, b=2)\nx"),
        ("# --- part\n1", "# --- part\n1"),
        ('t = """\na = b"""', 't = """\na = b"""\nt'),  # the last line is of a text, and of a call
        ("f(\nx=1)", "f(\nx=1)"),
        ("x: int = 5", "x: int = 5\nx"),
        ("x: int", "x: int"),
        ("x = (\n    1,\n)", "x = (\n    1,\n)\nx"),
        ("```python\nt = " + '"""\n```\ninside\n```\n"""' + "\n```\nDone", 't = """\n```\ninside\n```\n"""\nt'),
        ("```\nx = = 1\n```\nno Python", "x = = 1"),
        ("", ""),
        (None, ""),
    ],
)
def test_code_is_found_in_what_the_lm_has_written(text, code):
    assert code_of(text) == code


def test_what_an_interpreter_gives_is_told_as_json():
    python = Noted("text", 3, dspex.FinalOutput({"a": ["ä"]}), "\ud800", {1, 2}, SyntaxError("no"), None)
    found = [run_code(python, "x") for _ in range(7)]
    assert [output for output, _ in found] == ['"text"', "3", '{"a": ["ä"]}', '"?"', None, None, "null"]
    assert [error for _, error in found if error] == [
        "its result cannot be told as JSON: Object of type set is not JSON serializable",
        "SyntaxError: no",
    ]
    assert run_code(python, " \n") == (None, "there is no code")
    assert json.loads(found[2][0]) == {"a": ["ä"]}


def test_a_host_that_runs_no_code_says_so_before_a_call_is_paid(monkeypatch):
    monkeypatch.setattr(dspex.PythonInterpreter, "_proven", set())
    with dspex.PythonInterpreter(require=[]):
        pass  # it tells nothing of what has to be protected
    monkeypatch.setattr(dspex.PythonInterpreter, "_without", ("namespaces", "Landlock", "seccomp"))
    for program in (dspex.ProgramOfThought("question -> answer"), dspex.CodeAct("question -> answer", [cube])):
        lm = FakeLM("never")
        with dspex.context(lm=lm), pytest.raises(dspex.CodeInterpreterError, match="code is not run: this host cannot"):
            program(question="?")
        assert lm.asked == []


def by_size(words: list, key=lambda word: len(word), more=tuple(n * n for n in range(3))) -> list:
    return sorted(words, key=key)


def test_tools_whose_source_does_not_run_say_so_before_a_call_is_paid(monkeypatch):
    monkeypatch.setattr(dspex.PythonInterpreter, "_proven", set())
    with dspex.PythonInterpreter():
        pass
    dspex.CodeAct("question -> answer", [by_size])  # names of a lambda's own are nobody else's
    act = dspex.CodeAct("question -> answer", [cube])
    act.sources.append("raise RuntimeError('not here')\n")
    for _ in range(2):
        lm = FakeLM("never")
        with (
            dspex.context(lm=lm),
            pytest.raises(dspex.CodeInterpreterError, match=r"comes first does not run.*not here"),
        ):
            act(question="?")
        assert lm.asked == []
