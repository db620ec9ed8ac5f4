"""What a process remembers of its LM calls, what they used, and who hears of evaluations and compiles."""

import asyncio
import gc
import io
import weakref

import cloudpickle
import pytest

import dspex_actors as dspex
from dspex_actors.foundation.callbacks import ACTIVE_CALL_ID
from dspex_actors.lm import history
from dspex_actors.lm.history import HISTORY
from dspex_actors.lm.usage import Usage
from dspex_actors.programs.told import told
from dspex_actors.teleprompt.optimizer import Optimizer


class Canned(dspex.BaseLM):
    def __init__(self, name="canned", cached=None, cost=0.5):
        super().__init__(name, temperature=0.5)
        self.cached, self.cost = cached, cost

    def forward(self, messages, **params):
        return dspex.LMReply(
            "[[ ## a ## ]]\nyes", Usage(input_total=7, output_total=3), self.cost, self.model, cached=self.cached
        )


class Two(dspex.Module):
    def __init__(self):
        self.first, self.second = dspex.Predict("q -> a"), dspex.Predict("q -> a")

    def forward(self, q):
        return self.second(q=self.first(q=q).a)


@pytest.fixture(autouse=True)
def no_history():
    HISTORY.clear()
    yield
    HISTORY.clear()


def printed(show, *args):
    out = io.StringIO()
    show(*args, file=out)
    return out.getvalue()


def test_the_last_calls_are_shown_as_dspys():
    with dspex.context(lm=Canned()):
        Two()(q="why?")
    text = printed(dspex.inspect_history)
    assert "\nSystem message:\n\nYou" in text
    assert "User message:\n\n[[ ## q ## ]]\nyes" in text
    assert "Response:\n\n[[ ## a ## ]]\nyes" in text
    assert "\x1b" not in text
    assert text.count("Response:") == 1
    assert printed(dspex.inspect_history, 5).count("Response:") == 2


def test_it_is_printed_in_colours(capsys):
    with dspex.context(lm=Canned()):
        dspex.Predict("q -> a")(q="why?")
    dspex.inspect_history()
    assert "\x1b[31mResponse:\x1b[0m" in capsys.readouterr().out


def test_each_lm_and_each_program_knows_its_own():
    one, other, two, predict = Canned("one"), Canned("other"), Two(), dspex.Predict("q -> a")
    with dspex.context(lm=one):
        two(q="1")
        asyncio.run(predict.acall(q="2"))
    with dspex.context(lm=other):
        predict(q="3")
    assert [entry["model"] for entry in HISTORY.last(9)] == ["one"] * 3 + ["other"]
    assert printed(one.inspect_history, 9).count("Response:") == 3
    assert printed(two.inspect_history, 9).count("Response:") == 2
    assert printed(two.first.inspect_history, 9).count("Response:") == 1
    assert printed(predict.inspect_history, 9).count("Response:") == 2
    assert printed(dspex.Predict("q -> a").inspect_history) == ""
    assert [len(program.history) for program in (one, two, two.first, predict)] == [3, 2, 1, 2]
    assert one.history[-1]["outputs"] == ["[[ ## a ## ]]\nyes"]
    two.history = one.history = "of one's own"
    assert two.deepcopy().history == one.copy().history == "of one's own"


def test_an_entry_has_dspys_keys():
    lm = Canned()
    lm("Hello?", top_p=0.5)
    [entry] = HISTORY.of_lm(lm)
    assert entry["prompt"] == "Hello?"
    assert entry["outputs"] == ["[[ ## a ## ]]\nyes"]
    assert entry["kwargs"] == {"temperature": 0.5, "top_p": 0.5}
    assert entry["usage"]["total_tokens"] == 10
    assert {"messages", "response", "cost", "timestamp", "uuid", "model", "response_model", "model_type"} <= set(entry)


def test_what_is_kept_is_bounded(monkeypatch):
    lm = Canned()
    with dspex.context(max_history_size=3):
        for number in range(10):
            lm(f"number {number}")
    assert [entry["prompt"] for entry in HISTORY.last(9)] == ["number 7", "number 8", "number 9"]
    monkeypatch.setattr(history, "MOST_CHARACTERS", 10_000)
    lm([{"role": "user", "content": [{"type": "text", "text": "x" * 9_000}]}])
    assert len(HISTORY.last(9)) == 4
    lm("y" * 5_000)
    assert [entry["prompt"] for entry in HISTORY.last(9)] == ["y" * 5_000]
    lm("z" * 20_000)
    assert HISTORY.last(9) == []
    with dspex.context(disable_history=True):
        lm("not this")
    assert HISTORY.last(9) == []


def test_a_program_that_is_gone_is_forgotten():
    with dspex.context(lm=Canned()):
        program = Two()
        program(q="why?")
    gone = weakref.ref(program)
    assert id(program) in (known := set(HISTORY._modules))
    key = id(program)
    del program
    gc.collect()
    assert gone() is None
    assert HISTORY._modules.keys() == known - {key}  # the trace of the process still has the predictors


def test_parts_that_are_no_text_are_named_with_their_size():
    content = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 5000}}]
    Canned()([{"role": "user", "content": content}])
    text = printed(dspex.inspect_history)
    assert "Look:\n<image_url: 5," in text
    assert len(text) < 500


@pytest.mark.parametrize("n", [0, -1, True, "1", None])
def test_a_number_that_is_none_is_refused(n):
    with pytest.raises(dspex.ConfigError, match="n is invalid"):
        dspex.inspect_history(n)


@pytest.mark.parametrize("setting", [{"max_history_size": 0}, {"max_history_size": "many"}])
def test_a_setting_that_is_none_is_refused(setting):
    with pytest.raises(dspex.ConfigError, match="max_history_size is invalid"), dspex.context(**setting):
        pass


def test_usage_is_added_up_by_lm_and_outer_trackers_have_all_of_it():
    with dspex.track_usage() as outer:
        with dspex.context(lm=Canned("one")), dspex.track_usage() as inner:
            Two()(q="why?")
        Canned("other", cost=None)("hello")
        Canned("one", cached="memory")("hello")
    counts = {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20}
    assert inner.get_total_tokens()["one"].items() >= counts.items()
    assert (inner.cost, outer.cost) == (1.0, None)
    assert {name: each["total_tokens"] for name, each in outer.get_total_tokens().items()} == {"one": 20, "other": 10}
    assert [each["total_tokens"] for each in outer.usage_data["one"]] == [10, 10]
    with dspex.track_usage() as empty:
        pass
    assert (empty.get_total_tokens(), empty.usage_data, empty.cost) == ({}, {}, 0.0)


def test_usage_of_tasks_and_threads_of_programs_is_seen():
    async def ask():
        predict = dspex.Predict("q -> a")
        await asyncio.gather(*(predict.acall(q=str(number)) for number in range(5)))

    with dspex.context(lm=Canned(), track_usage=True):
        with dspex.track_usage() as usage:
            asyncio.run(ask())
        with dspex.track_usage() as in_threads:
            dspex.Predict("q -> a").batch([dspex.Example(q=str(number)).with_inputs("q") for number in range(4)])
    assert usage.get_total_tokens()["canned"]["total_tokens"] == 50
    assert in_threads.get_total_tokens()["canned"]["total_tokens"] == 40


class Hears(dspex.BaseCallback):
    def __init__(self):
        self.heard = []

    def on_evaluate_start(self, call_id, instance, inputs):
        self.heard.append(("evaluate", type(instance).__name__, sorted(inputs)))

    def on_evaluate_end(self, call_id, outputs, exception=None):
        self.heard.append(("evaluated", outputs, exception))

    def on_compile_start(self, call_id, instance, inputs):
        self.heard.append(("compile", type(instance).__name__, sorted(inputs)))

    def on_compile_end(self, call_id, outputs, exception=None):
        self.heard.append(("compiled", outputs, exception))


class Same(Optimizer):
    def compile(self, student, *, trainset, **options):
        """Compile."""
        if not trainset:
            raise dspex.ConfigError("no examples")
        return student


class More(Same):
    def compile(self, student, *, trainset, **options):
        return super().compile(student, trainset=trainset, **options)


def test_callbacks_hear_of_a_compile_once():
    hears, student = Hears(), Two()
    with dspex.context(callbacks=[hears]):
        assert More().compile(student, trainset=[1]) is student
        with pytest.raises(dspex.ConfigError):
            Same().compile(student, trainset=[])
    told_ = hears.heard
    assert told_[0] == ("compile", "More", ["student", "trainset"])
    assert told_[1] == ("compiled", student, None)
    assert told_[2][:2] == ("compile", "Same")
    assert isinstance(told_[3][2], dspex.ConfigError)
    assert len(told_) == 4
    assert Same.compile.__doc__ == "Compile."


class Bound(dspex.BaseCallback):
    def __init__(self):
        self.inputs, self.calls = [], []

    def on_compile_start(self, call_id, instance, inputs):
        self.inputs.append(inputs)
        self.calls.append((call_id, ACTIVE_CALL_ID.get()))

    def on_compile_end(self, call_id, outputs, exception=None):
        self.calls.append((call_id, outputs))


def test_callbacks_of_a_compile_hear_of_arguments_that_were_left_out_too():
    bound, student = Bound(), Two()
    trainset = [dspex.Example(q="1", a="2").with_inputs("q")]
    with dspex.context(callbacks=[bound]):
        dspex.LabeledFewShot(k=1).compile(student, trainset=trainset)
        More().compile(student, trainset=trainset, run_id="this")
    assert bound.inputs == [
        {"student": student, "trainset": trainset, "sample": True},
        {"student": student, "trainset": trainset, "run_id": "this"},
    ]


def test_callbacks_hear_of_an_async_compile_once_and_of_one_in_another_task():
    class Async(Optimizer):
        async def compile(self, student, *, trainset, inner=False):
            if not inner:
                return await asyncio.create_task(self.compile(student, trainset=trainset, inner=True))
            await asyncio.sleep(0)
            return student

    class Overrides(Async):
        async def compile(self, student, *, trainset, inner=True):
            return await super().compile(student, trainset=trainset, inner=inner)

    bound, student = Bound(), Two()
    with dspex.context(callbacks=[bound]):
        assert asyncio.run(Overrides().compile(student, trainset=[])) is student
        (first, _), (ended, outputs) = bound.calls
        assert (first, student) == (ended, outputs)
        bound.calls.clear()
        assert asyncio.run(Async().compile(student, trainset=[])) is student
    (outer, nobody), (inner, parent), (inner_ended, _), (outer_ended, _) = bound.calls
    assert (nobody, parent, inner_ended, outer_ended) == (None, outer, inner, outer)


def test_an_optimiser_of_ones_own_is_pickled_by_value():
    class Own(Optimizer):
        def compile(self, student, *, trainset):
            return student

    bound, student = Bound(), Two()
    own = cloudpickle.loads(cloudpickle.dumps(Own))()
    with dspex.context(callbacks=[bound]):
        assert own.compile(student, trainset=[]) is student
    assert len(bound.inputs) == 1


def test_callbacks_hear_of_an_evaluation_that_is_refused_too():
    hears = Hears()
    with dspex.context(callbacks=[hears]):
        with pytest.raises(dspex.ConfigError):
            dspex.evaluate(program=Two(), devset=[], metric=3)
        with pytest.raises(TypeError):
            dspex.evaluate()
    assert hears.heard[0][:2] == ("evaluate", "Two")
    assert {"devset", "metric", "program", "lm"} <= set(hears.heard[0][2])  # what was left out, too
    assert isinstance(hears.heard[1][2], dspex.ConfigError)
    assert isinstance(hears.heard[3][2], TypeError)


def test_without_callbacks_nothing_is_in_between():
    calls = []
    assert told("compile")(lambda *args: calls.append(args))(1, 2) is None
    assert calls == [(1, 2)]
