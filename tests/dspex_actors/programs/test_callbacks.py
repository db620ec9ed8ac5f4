"""Callbacks hear what DSPy's hear; parameters are looked at and put back."""

import asyncio

import cloudpickle
import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.callbacks import ACTIVE_CALL_ID
from tests.dspex_actors.program_fakes import chat

WAYS = ("sync", "async")


class Canned(dspex.BaseLM):
    def forward(self, messages, **params):
        return chat(answer="A") if "`answer`" in messages[0]["content"] else "nothing that can be read"


def _start(what):
    def start(self, call_id, instance, inputs):
        parent = self.ids.get(ACTIVE_CALL_ID.get())
        self.rows.append((f"{what} start", type(instance).__name__, sorted(inputs), parent))
        self.ids[call_id] = what

    return start


def _end(what):
    def end(self, call_id, outputs, exception=None):
        said = type(exception).__name__ if exception is not None else type(outputs).__name__
        self.rows.append((f"{what} end", said, self.ids[call_id]))

    return end


class Notes(dspex.BaseCallback):
    """Writes down what it hears: what, of what, in which call."""

    def __init__(self):
        self.rows, self.ids = [], {}

    for _what in ("module", "lm", "adapter_format", "adapter_parse", "tool"):
        locals()[f"on_{_what}_start"], locals()[f"on_{_what}_end"] = _start(_what), _end(_what)


class Program(dspex.Module):
    def __init__(self):
        self.answer = dspex.Predict("question -> answer")

    def steps(self, question):
        from dspex_actors.steps import Ask, Tool

        yield Tool(look, {"q": question})
        return (yield Ask(self.answer, question=question))


def look(q: str) -> list[str]:
    """Look."""
    return [q]


def called(way, program, **inputs):
    return program(**inputs) if way == "sync" else asyncio.run(program.acall(**inputs))


HEARD = [
    ("module start", "Program", ["args", "kwargs"], None),
    ("tool start", "Tool", ["kwargs"], "module"),
    ("tool end", "list", "tool"),
    ("module start", "Predict", ["args", "kwargs"], "module"),
    ("adapter_format start", "ChatAdapter", ["demos", "inputs", "signature"], "module"),
    ("adapter_format end", "list", "adapter_format"),
    ("lm start", "Canned", ["kwargs", "messages", "prompt"], "module"),
    ("lm end", "LMReply", "lm"),
    ("adapter_parse start", "ChatAdapter", ["completion", "signature"], "module"),
    ("adapter_parse end", "dict", "adapter_parse"),
    ("module end", "Prediction", "module"),
    ("module end", "Prediction", "module"),
]


@pytest.mark.parametrize("way", WAYS)
def test_callbacks_of_the_settings_hear_of_every_call_and_who_made_it(way):
    notes = Notes()
    with dspex.context(lm=Canned(), callbacks=[notes]):
        called(way, Program(), question="Q")
    assert notes.rows == HEARD
    assert len(notes.rows) == len(HEARD), "outside of the context nobody hears"


@pytest.mark.parametrize("way", WAYS)
def test_a_program_and_an_lm_may_have_their_own_and_errors_are_told(way):
    lm, ours, theirs = Canned(), Notes(), Notes()
    program, lm.callbacks = dspex.Predict("question -> other", callbacks=[ours]), [theirs]
    adapter = dspex.ChatAdapter(use_json_adapter_fallback=False)
    with dspex.context(lm=lm, adapter=adapter), pytest.raises(dspex.AdapterParseError):
        called(way, program, question="Q")
    assert [row[:2] for row in ours.rows] == [("module start", "Predict"), ("module end", "AdapterParseError")]
    assert [row[:2] for row in theirs.rows] == [("lm start", "Canned"), ("lm end", "LMReply")]
    assert not cloudpickle.loads(cloudpickle.dumps(program)).callbacks, "they stay where they were given"


def test_a_program_is_made_with_callbacks_of_its_own():
    class Bare(dspex.Module):
        def forward(self, question):
            return question

    class Inside(Bare):
        def __init__(self, callbacks=None):
            super().__init__(callbacks)
            self.inner = dspex.Predict("question -> answer", callbacks=callbacks)

    for program, heard in ((Bare([one := Notes()]), one), (Bare(callbacks=[two := Notes()]), two)):
        assert program("Q") == "Q"
        assert [row[:2] for row in heard.rows] == [("module start", "Bare"), ("module end", "str")]
    inside = Inside(callbacks=[three := Notes()])
    with dspex.context(lm=Canned()):
        inside.inner(question="Q")
    assert [row[:2] for row in three.rows] == [("module start", "Predict"), ("module end", "Prediction")]
    assert inside.inner.config == {}, "no parameter of its calls"
    assert not Bare().callbacks
    with pytest.raises(ConfigError, match="callbacks is invalid: got 'notes', expected a list"):
        Bare(callbacks="notes")


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_may_have_its_own(way):
    notes = Notes()
    adapter = dspex.ChatAdapter(callbacks=[notes])
    with dspex.context(lm=Canned(), adapter=adapter):
        called(way, dspex.Predict("question -> answer"), question="Q")
    assert [row[0] for row in notes.rows] == [
        "adapter_format start", "adapter_format end", "adapter_parse start", "adapter_parse end",
    ]  # fmt: skip
    assert not cloudpickle.loads(cloudpickle.dumps(adapter)).callbacks, "they stay where they were given"
    with pytest.raises(ConfigError, match="callbacks is invalid"):
        dspex.JSONAdapter(callbacks=3)


def test_what_a_callback_raises_is_logged_and_changes_nothing(caplog):
    class Fails(dspex.BaseCallback):
        def on_module_start(self, call_id, instance, inputs):
            raise OSError("no route")

    notes = Notes()
    with dspex.context(lm=Canned(), callbacks=[Fails(), object(), notes]):
        assert Program()(question="Q").answer == "A"
    assert notes.rows == HEARD
    assert "callback Fails failed" in caplog.text


def test_callbacks_stay_in_their_process_and_are_a_list():
    with dspex.context(callbacks=[Notes()], user="ada"):
        assert dspex.settings.snapshot() == {"user": "ada"}
    with pytest.raises(ConfigError, match="callbacks is invalid: got 'notes', expected a list"):
        dspex.configure(callbacks="notes")


def test_parameters_are_looked_at_changed_and_put_back():
    program = Program()
    before = program.get_parameters()
    assert before == {"answer": {"instructions": "From `question` work out `answer`.", "demos": [], "config": {}}}
    demo = dspex.Example(question="q", answer="a")
    assert program.update_parameters({"answer": {"instructions": "Be brief.", "demos": [demo]}}) is program
    assert program.configure(temperature=1.0, max_tokens=9).answer.config == {"temperature": 1.0, "max_tokens": 9}
    assert program.get_parameters() == {
        "answer": {"instructions": "Be brief.", "demos": [demo], "config": {"temperature": 1.0, "max_tokens": 9}}
    }
    twin = Program().update_parameters(program.get_parameters())
    assert twin.get_parameters() == program.get_parameters()
    twin.answer.config["temperature"] = 0.0
    assert program.answer.config["temperature"] == 1.0
    program.set_lm(Canned())
    program.reset()
    assert (program.answer.demos, program.answer.lm, program.answer.signature.instructions) == ([], None, "Be brief.")
    assert program.update_parameters(before).get_parameters() == before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"other": {}}, "there is no predictor 'other'; there are answer"),
        ({"answer": {"signature": 1}}, "answer has no parameter 'signature'; it has instructions, demos, config"),
        ({"answer": {"demos": "none"}}, "demos of answer is invalid: got 'none', expected a list"),
        ({"answer": {"demos": [5]}}, "demos of answer is invalid: got 5 in it, expected Examples or dicts"),
        ({"answer": {"instructions": "x", "config": 1}}, "config of answer is invalid: got 1, expected a dict"),
        ({"answer": 1}, "parameters of answer are invalid: got 1"),
        (1, "parameters are invalid: got 1, expected a dict by predictor path"),
    ],
)
def test_parameters_of_another_program_change_nothing(values, words):
    program = Program()
    before = program.get_parameters()
    with pytest.raises(ConfigError, match=words):
        program.update_parameters(values)
    assert program.get_parameters() == before
