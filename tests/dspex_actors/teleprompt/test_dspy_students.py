"""DSPy's own programs, optimised by our optimisers: what DSPy's choose for them. Needs DSPy; else nothing runs."""

import optimised_kit
import pytest
from optimised_in_memory import carried, done
from optimised_kit import CHOICES, GEPA, MIPRO, SIMBA, Scripted

import dspex_actors as dspex
from dspex_actors.dspy.student import as_student, handed_back
from dspex_actors.errors import AdapterParseError
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.runs.spec import dump_code, load_code
from dspex_actors.teleprompt.mipro.code import call_of, code_of

dspy = pytest.importorskip("dspy")


class Two(dspy.Module):
    """Two predictors, one after the other."""

    def __init__(self):
        super().__init__()
        self.look = dspy.Predict(dspy.Signature("question -> hint", "Give a hint."))
        self.say = dspy.Predict(dspy.Signature("question, hint -> answer", "Answer with it."))

    def forward(self, question):
        return self.say(question=question, hint=self.look(question=question).hint)


class One(dspy.Module):
    """One predictor."""

    def __init__(self):
        super().__init__()
        self.say = dspy.Predict(dspy.Signature("question -> answer", "Answer it."))

    def forward(self, question):
        return self.say(question=question)


PROGRAMS = {"One": One, "Two": Two}


@pytest.fixture
def lm():
    with dspex.context(lm=Scripted()) as scripted:
        yield scripted


def shown(program):
    return [
        [one.signature.instructions, [[demo["question"], "augmented" in demo.keys()] for demo in one.demos]]  # noqa: SIM118
        for one in program.predictors()
    ]


CASES = [("mipro", name) for name in MIPRO] + [("simba", name) for name in SIMBA] + [("gepa", name) for name in GEPA]


@pytest.mark.parametrize(("what", "case"), CASES)
def test_what_is_chosen_for_a_program_of_dspys_is_what_dspy_chooses(what, case, lm, monkeypatch):
    told = {"mipro": MIPRO, "simba": SIMBA, "gepa": GEPA}[what][case]
    program = PROGRAMS[told["program"]]()
    student, before = as_student(program), shown(program)
    monkeypatch.setattr(optimised_kit, "PROGRAMS", {type(program).__name__: lambda: student})
    found, _ = carried(getattr(optimised_kit, what)(told if what == "gepa" else case), monkeypatch)
    better = handed_back(found, program)
    assert type(better) is type(program)
    assert shown(better) == CHOICES[what][case]["chosen"]
    assert (shown(program), shown(student)) == (before, before)


def test_an_lm_that_writes_instructions_is_shown_the_code_of_dspys_program():
    student = as_student(Two())
    code = code_of(student)
    assert "class Two(dspy.Module)" in code
    assert "self.say(question=question, hint=" in code
    assert "DSPyStudent" not in code
    assert [call_of(one) for one in student.predictors()] == [
        "Predict(question) -> hint",
        "Predict(question, hint) -> answer",
    ]
    assert code_of(as_student(dspy.ChainOfThought("question -> answer"))).count("class ") == 0


def test_what_stands_for_a_signature_has_its_words_types_and_rules_and_gives_them_back():
    class Sort(dspy.Signature):
        """Sort it."""

        text: str = dspy.InputField(desc="what came")
        pages: list[int] = dspy.InputField(default=[1])
        urgency: int = dspy.OutputField(desc="5 is now", ge=1, le=5)

    program = dspy.Predict(Sort, temperature=0.5)
    program.demos = [dspy.Example(text="a", urgency=1), {"text": "b", "urgency": 2}]
    student = as_student(program)
    (path, part) = student.named_predictors()[0]
    assert (path, part.config, part.signature.instructions) == ("self", {"temperature": 0.5}, "Sort it.")
    assert [field.annotation for field in part.signature.fields.values()] == [str, list[int], int]
    assert part.signature.dump_state()["fields"] == Sort.dump_state()["fields"]
    assert part.demos == [dspex.Example(text="a", urgency=1), {"text": "b", "urgency": 2}]
    assert handed_back(student, program).signature is Sort
    part.signature = part.signature.with_instructions("Now.").with_updated_fields("urgency", prefix="So:", desc="high")
    made = handed_back(student, program).signature
    assert (made.instructions, made.fields["urgency"].metadata) == ("Now.", Sort.fields["urgency"].metadata)
    assert made.fields["urgency"].json_schema_extra["prefix"] == "So:"
    assert Sort.instructions == "Sort it."
    part.signature = part.signature.delete("urgency")
    with pytest.raises(dspex.ConfigError, match="cannot get those of"):
        handed_back(student, program)


def test_candidates_are_told_apart_and_travel(lm):
    student = as_student(Two())
    other = student.deepcopy()
    other.parts["say"].demos = [dspex.Example(question="q", hint="h", answer="yes")]
    assert student.parts["say"].demos == []
    assert program_identity(student).digest != program_identity(other).digest
    assert program_identity(student).digest == program_identity(as_student(Two())).digest
    there = load_code(dump_code(other))
    assert program_identity(there).digest == program_identity(other).digest
    trace = []
    with dspex.context(trace=trace):
        there(question="q1")
    assert [(one is there.parts["look"], one is there.parts["say"]) for one, *_ in trace] == [
        (True, False),
        (False, True),
    ]
    assert there.module.say.demos == []


def test_demos_that_change_between_calls_are_those_of_the_next_call():
    seen = []

    class Counting(dspex.BaseLM):
        def forward(self, messages, **params):
            seen.append(len(messages))
            return "[[ ## answer ## ]]\nyes"

    student = as_student(One())
    with dspex.context(lm=Counting()):
        student(question="a")
        student.parts["say"].demos = [dspex.Example(question="q", answer="yes")]
        student(question="a")
        student.parts["say"].demos.append(dspex.Example(question="r", answer="no"))
        student(question="a")
    assert seen == [2, 4, 6]


def test_parameters_that_change_between_calls_are_those_of_the_next_call():
    seen = []

    class Noting(dspex.BaseLM):
        def forward(self, messages, **params):
            seen.append(params.get("temperature"))
            return "[[ ## answer ## ]]\nyes"

    student = as_student(One())
    with dspex.context(lm=Noting()):
        student(question="a")
        student.parts["say"].config["temperature"] = 0.25
        student(question="a")
    assert seen[1] == 0.25 != seen[0]


def test_an_answer_that_cannot_be_read_is_told_as_ours_with_whose_it_was():
    class Silent(dspex.BaseLM):
        def forward(self, messages, **params):
            return "nothing of it"

    student = as_student(Two())
    with dspex.context(lm=Silent()), pytest.raises(AdapterParseError) as caught:
        student(question="a")
    assert caught.value.signature is student.parts["look"].signature
    assert caught.value.completion == "nothing of it"


def test_a_predictors_own_lm_is_asked_and_is_its_own_again_in_the_end():
    class Theirs(dspy.BaseLM):
        def __init__(self, text):
            super().__init__(model=text, cache=False)

        def forward(self, prompt=None, messages=None, **kwargs):
            from types import SimpleNamespace

            message = SimpleNamespace(content=f"[[ ## answer ## ]]\n{self.model}", role="assistant")
            choice = SimpleNamespace(index=0, finish_reason="stop", message=message)
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            return SimpleNamespace(choices=[choice], usage=usage, model=self.model)

    program = One()
    program.say.lm = Theirs("its own")
    student = as_student(program)
    with dspex.context(lm=Scripted()):
        assert student(question="a").answer == "its own"
        assert handed_back(student, program).say.lm is program.say.lm
        again = student.reset_copy()
        assert again(question="a").answer != "its own"
    assert handed_back(again, program).say.lm is None
    assert program.say.lm is not None


def test_data_to_fine_tune_with_are_in_dspys_words_and_can_be_written_where_its_program_has_them(lm, tmp_path):
    program, train = Two(), [dspex.Example(question=f"q{place}").with_inputs("question") for place in range(3)]
    optimizer = dspex.BootstrapFinetune(multitask=False)
    steps = optimizer.planned(as_student(program), trainset=train)
    steps.send([done(step) for step in next(steps).items])
    with pytest.raises(StopIteration) as over:
        next(steps)
    data = handed_back(over.value.value, program).finetune_data
    assert [path.name for path in data.save(tmp_path / "data.jsonl")] == ["data.look.jsonl", "data.say.jsonl"]
    chat = next(chat for chat in data if chat.predictor == "look")
    question = chat.messages[1]["content"].splitlines()[1]
    hint = chat.messages[2]["content"].splitlines()[1]
    asked = {"question": question}
    expected = dspy.ChatAdapter().format_finetune_data(program.look.signature, [], asked, {"hint": hint})
    assert chat.messages == expected["messages"]
    with pytest.raises(dspex.ConfigError, match="adapter: expected none for a program of DSPy's"):
        dspex.BootstrapFinetune(adapter=dspex.ChatAdapter()).planned(as_student(program), trainset=train)
