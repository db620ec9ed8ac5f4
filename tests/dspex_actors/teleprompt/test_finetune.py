"""BootstrapFinetune: which conversations it gathers, and what the files have."""

import copy
import json
import pickle
import random

import pytest
from optimised_in_memory import carried

import dspex_actors as dspex
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.teleprompt.finetune.data import Chat, FinetuneData
from dspex_actors.teleprompt.finetune.formats import FORMATS, line_of, text_of
from dspex_actors.teleprompt.steps import Candidate, Observe

ODD = "héllo \u2028 😀"
PICTURE = "data:image/png;base64,iVBORw0KGgo="


class Canned(dspex.BaseLM):
    """Answers by the question; the fourth cannot be read."""

    def __init__(self):
        super().__init__("canned")

    def forward(self, messages, **params):
        asked = messages[-1]["content"]
        asked = asked if isinstance(asked, str) else asked[0]["text"]
        if "q3" in asked:
            return "no"
        field = "hint" if "`[[ ## hint ## ]]`" in asked else "answer"
        said = ODD if "q1" in asked else "yes"
        return f"[[ ## {field} ## ]]\n{said}\n\n[[ ## completed ## ]]"


class Two(Module):
    """Two predictors, one after the other."""

    def __init__(self):
        self.look = dspex.Predict("question -> hint")
        self.say = dspex.Predict("question, hint -> answer")

    def forward(self, question):
        return self.say(question=question, hint=self.look(question=question).hint)


def questions(count=6):
    return [dspex.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(count)]


def is_yes(example, prediction, trace=None):
    assert trace is None or len(trace) == 2
    return prediction.answer == example.answer and trace is not None


def compiled(monkeypatch, program=None, train=None, teacher=None, **settings):
    optimizer = dspex.BootstrapFinetune(**settings)
    with dspex.context(lm=Canned()):
        return carried(
            (
                optimizer,
                lambda: optimizer.compile(program or Two(), trainset=train or questions(), teacher=teacher),
            ),
            monkeypatch,
        )


def asked(chat):
    return chat.messages[-2]["content"].splitlines()[1]


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """Have the metric called as a worker does: within the trace of the call."""
    import optimised_in_memory

    real = optimised_in_memory.observed

    def observed(step, example):
        metric = step.metric

        def within(example, predicted):
            with dspex.context(trace=[("predictor", {}, {})] * 2):
                return metric(example, predicted)

        return real(Observe(step.program, step.examples, within, step.traces, step.failure_score), example)

    monkeypatch.setattr(optimised_in_memory, "observed", observed)


def test_the_calls_of_what_the_metric_lets_pass_are_kept_in_an_order_that_is_always_the_same(monkeypatch):
    program = Two()
    found, steps = compiled(monkeypatch, program, metric=is_yes)
    data = found.finetune_data
    assert sorted((chat.predictor, asked(chat)) for chat in data) == sorted(
        (name, question) for name in ("look", "say") for question in ("q0", "q2", "q4", "q5")
    )
    assert [len(chat.messages) for chat in data] == [3] * 8
    assert {chat.messages[-1]["content"] for chat in data if chat.predictor == "say"} == {
        "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]\n"
    }
    assert data.chats == compiled(monkeypatch, Two(), metric=is_yes)[0].finetune_data.chats
    assert (found._compiled, program._compiled) == (True, False)
    assert [type(step) for step in steps] == [Observe]


def test_without_a_metric_all_are_kept_but_those_that_failed(monkeypatch):
    found, _ = compiled(monkeypatch)
    assert {asked(chat) for chat in found.finetune_data} == {"q0", "q1", "q2", "q4", "q5"}


def test_several_teachers_do_all_examples_with_their_demos_or_without(monkeypatch):
    teacher = Two()
    teacher.say.demos = [dspex.Example(question="a", hint="b", answer="c")]
    found, steps = compiled(monkeypatch, teacher=[teacher, Two()], metric=is_yes)
    assert sorted(len(chat.messages) for chat in found.finetune_data) == [3] * 12 + [5] * 4
    assert len(steps) == 2
    student = Two()
    student.say.demos = teacher.say.demos
    found, _ = compiled(monkeypatch, student, teacher=teacher, metric=is_yes, exclude_demos=True)
    assert {len(chat.messages) for chat in found.finetune_data} == {3}
    assert (found.say.demos, len(student.say.demos)) == ([], 1)


def test_files_are_written_whole_as_the_format_has_them_whatever_the_language(monkeypatch, tmp_path):
    data = compiled(monkeypatch)[0].finetune_data
    [path] = data.save(tmp_path / "data.jsonl")
    text = path.read_text(encoding="utf-8")
    assert "héllo" in text
    assert len(text.splitlines()) == len(data) == 10  # also where others see the end of a line
    assert [json.loads(line) for line in text.splitlines()] == list(data.lines())
    assert {line["messages"][0]["role"] for line in data.lines()} == {"system"}
    for name in FORMATS:
        assert len(data.save(tmp_path / "data.jsonl", name)) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["data.jsonl"]

    def broken(predictor=None, data_format=None):
        yield next(FinetuneData.lines(data))
        raise OSError("the disk is full")

    before = path.read_bytes()
    monkeypatch.setattr(data, "lines", broken)
    with pytest.raises(OSError, match="full"):
        data.save(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["data.jsonl"]


def test_without_multitask_there_is_a_file_for_each_predictor(monkeypatch, tmp_path):
    data = compiled(monkeypatch, metric=is_yes, multitask=False)[0].finetune_data
    paths = sorted(data.save(tmp_path / "data.jsonl"))
    assert [path.name for path in paths] == ["data.look.jsonl", "data.say.jsonl"]
    assert [len(path.read_text().splitlines()) for path in paths] == [4, 4]
    for name in ("look", "say"):  # as DSPy: each file is shuffled by itself
        expected = ["q0", "q2", "q4", "q5"]
        random.Random(0).shuffle(expected)
        assert [asked(chat) for chat in data if chat.predictor == name] == expected
    odd = FinetuneData([Chat(name, []) for name in ("d['a']", "d['a'", "self")], multitask=False)
    assert [path.name for path in odd.save(tmp_path / "x.jsonl")] == ["x.d_a.jsonl", "x.d_a_.jsonl", "x.self.jsonl"]


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi, "}, {"type": "text", "text": "you"}]},
    {"role": "assistant", "content": "Hi"},
]
SEEN = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE, "x": 1}}]}, TALK[2]]


def test_each_format_is_the_providers():
    assert line_of(TALK[::2], "openai") == {"messages": TALK[::2]}
    assert line_of(SEEN, "openai")["messages"][0]["content"] == [{"type": "image_url", "image_url": {"url": PICTURE}}]
    assert line_of(TALK, "anthropic") == {
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi, you"}, {"role": "assistant", "content": "Hi"}],
    }
    assert line_of(TALK, "gemini") == {
        "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi, you"}]}, {"role": "model", "parts": [{"text": "Hi"}]}],
    }
    assert [one["role"] for one in line_of(TALK, "cohere")["messages"]] == ["System", "User", "Chatbot"]
    for name in ("anthropic", "gemini", "cohere"):
        with pytest.raises(dspex.ConfigError, match=f"the format {name} takes texts only, got image_url: write it as"):
            line_of(SEEN, name)
    with pytest.raises(dspex.ConfigError, match="takes texts and images, got input_audio: leave that field out"):
        line_of([{"role": "user", "content": [{"type": "input_audio"}]}], "openai")


@pytest.mark.parametrize("text", ["a\u2028b\u2029c\x85d", "half \ud83d of one", "日本語\n\t\x00"])
def test_a_line_is_a_line_and_gives_back_what_was_said(text):
    line = text_of({"content": text})
    assert len(line.encode().decode().splitlines()) == 1
    assert json.loads(line) == {"content": text}


def test_images_are_kept_where_the_format_has_a_place_and_refused_before_anything_is_paid_where_not(monkeypatch):
    class Looking(Module):
        def __init__(self):
            self.say = dspex.Predict(dspex.Signature("question, picture: dspex.Image -> answer"))

        def forward(self, question, picture):
            return self.say(question=question, picture=picture)

    train = [
        dspex.Example(question="q0", picture=dspex.Image(PICTURE), answer="yes").with_inputs("question", "picture")
    ]
    found, _ = compiled(monkeypatch, Looking(), train)
    [line] = found.finetune_data.lines()
    kinds = [part["type"] for part in line["messages"][1]["content"]]
    assert kinds.count("image_url") == 1
    assert PICTURE in json.dumps(line)
    for name in ("anthropic", "gemini", "cohere"):
        with pytest.raises(dspex.ConfigError, match="texts only, got the field 'picture' of say: leave it out"):
            compiled(monkeypatch, Looking(), train, data_format=name)


def test_nothing_to_write_is_an_error_that_says_why_and_what_to_do(monkeypatch):
    with pytest.raises(
        dspex.RunFailed, match=r"none of 6 examples passed \(1 failed, .*AdapterParseError.*\); give a te"
    ):
        compiled(monkeypatch, metric=lambda example, prediction, trace=None: 0.0 * len(prediction))
    with pytest.raises(dspex.RunFailed, match=r"a larger LM\)$"):
        compiled(monkeypatch, train=[questions()[3]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_kwargs": {"epochs": 3}}, "expected None: nothing is trained here"),
        ({"multitask": 1}, "multitask is invalid: got 1, expected True or False"),
        ({"adapter": "chat"}, "adapter is invalid: got 'chat', expected one such as dspex.ChatAdapter"),
        ({"data_format": "chat"}, "data_format is invalid: got 'chat', expected one of openai, anthropic"),
        ({"num_threads": 0}, "num_threads is invalid"),
        ({"metric": lambda example: True}, "cannot be; add `trace=None`"),
        ({"teacher": []}, "got an empty list"),
        (
            {"teacher": dspex.Predict("question -> answer")},
            r"predictors \(look: question -> hint; say: question, hint -> answer\), got self: question -> answer: give",
        ),
        ({"teacher": 3}, "teacher: expected a program"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(settings, words, monkeypatch):
    with pytest.raises(dspex.ConfigError, match=words) as caught:
        compiled(monkeypatch, **settings)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_none_of_such_a_file_is_refused(tmp_path):
    for path in ("data.json", 3, b"data.jsonl", tmp_path):
        with pytest.raises(dspex.ConfigError, match=r"path is invalid: got .* expected a name that ends in .jsonl"):
            FinetuneData().save(path)
    with pytest.raises(dspex.ConfigError, match="cannot write to"):
        FinetuneData().save(tmp_path / "none" / "data.jsonl")


def test_the_data_travel_with_the_program_and_are_a_part_of_what_it_is(monkeypatch):
    found, _ = compiled(monkeypatch)
    assert copy.deepcopy(found).finetune_data is found.finetune_data
    other = found.deepcopy()
    other.finetune_data = FinetuneData(found.finetune_data[:1])
    assert program_identity(found).digest == program_identity(found.deepcopy()).digest
    assert program_identity(found).digest != program_identity(other).digest
    assert pickle.loads(pickle.dumps(found.finetune_data)).chats == found.finetune_data.chats


def test_each_line_has_the_turns_and_the_answers_of_dspys_chat_adapter():
    dspy = pytest.importorskip("dspy")
    demo, inputs, outputs = {"question": "a", "answer": "b"}, {"question": "q ü"}, {"answer": "c"}
    ours, theirs = (
        made.ChatAdapter().format_finetune_data(made.Signature("question -> answer"), [demo], inputs, outputs)
        for made in (dspex, dspy)
    )
    told = [
        [(one["role"], one["role"] == "assistant" and one["content"]) for one in made["messages"]]
        for made in (ours, theirs)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 5


def test_what_it_tells_is_a_candidate(monkeypatch):
    optimizer = dspex.BootstrapFinetune()
    steps = optimizer.planned(Two(), trainset=questions(2))
    together = next(steps)
    with dspex.context(lm=Canned()):
        from optimised_in_memory import done

        told = steps.send([done(step) for step in together.items])
    assert isinstance(told, Candidate)
    assert told.name == "4 conversations of 2 examples"
    assert told.program.finetune_data.multitask is True
