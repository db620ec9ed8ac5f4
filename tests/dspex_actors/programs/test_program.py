from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from dspex_actors import settings as settings_module
from dspex_actors.adapters import ChatAdapter
from dspex_actors.errors import AdapterParseError, ConfigError
from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.callbacks import BaseCallback
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.settings import context, record_calls, settings
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from tests.dspex_actors.program_fakes import FakeLM, chat


class Pair(Module):
    def __init__(self) -> None:
        self.first = Predict("a -> b")
        self.cot = ChainOfThought("b -> c")

    def forward(self, a: str) -> Prediction:
        return Prediction(c=self.cot(b=self.first(a=a).b).c)


class AsyncPair(Pair):
    forward = None  # type: ignore[assignment]

    async def aforward(self, a: str) -> Prediction:
        first = await self.first.acall(a=a)
        return Prediction(c=(await self.cot.acall(b=first.b)).c)


class Shapes(Module):
    def __init__(self) -> None:
        self.steps = [Predict("a -> b"), [ChainOfThought("a -> b")]]
        self.tools = {"k": Predict("a -> c")}
        self.again = self.steps[0]
        self.inner = Pair()

    def forward(self) -> None: ...


PATHS = ["steps[0]", "steps[1][0].predict", "tools['k']", "inner.first", "inner.cot.predict"]


def run(program: Any, **inputs: Any) -> list[Any]:
    return [program(**inputs), asyncio.run(program.acall(**inputs))]


def test_a_predictor_asks_and_reads() -> None:
    lm = FakeLM(chat(b="yes"))
    predict = Predict("a -> b", temperature=0.5)
    with context(lm=lm):
        for prediction in run(predict, a="x", config={"max_tokens": 9}):
            assert prediction.b == "yes"
            assert prediction.get_lm_usage() == {
                "fake": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
            }
    messages, params = lm.asked[0]
    assert params == {"temperature": 0.5, "max_tokens": 9}
    assert messages == ChatAdapter().format(predict.signature, [], {"a": "x"})


def test_the_calls_own_lm_demos_and_signature_win() -> None:
    own, other = FakeLM(chat(b="own")), FakeLM(chat(z="other"))
    predict = Predict("a -> b")
    predict.lm = own
    assert predict(a="x").b == "own"
    made = predict(a="x", lm=other, signature="a -> z", demos=[{"a": "1", "z": "2"}])
    assert made.z == "other"
    assert len(other.asked[0][0]) == 4
    assert predict.demos == []


#: Nobody asks it.
ASKED = FakeLM("")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: p(a="x"), "No LM is loaded"),
        (lambda p: p("x"), "a=..."),
        (lambda p: p(a="x", lm="openai/gpt"), "dspex.LM"),
        (lambda p: p(a="x", lm=ASKED, config={"n": 0}), "n: expected a whole number"),
        (lambda p: p(a="x", lm=FakeLM), "an LM is needed, got <class"),
        (lambda p: p(a="x", lm=ASKED, signature="a -> "), "has no output: there is nothing to ask for"),
        (lambda p: p.save(5), "path is invalid: got 5, expected the name of a file"),
        (lambda p: p.load(None), "path is invalid: got None"),
        (lambda p: p(a="x", lm=ASKED, config="hot"), "config is invalid: got 'hot', expected a dict"),
        (lambda p: p(a="x", lm=ASKED, demos="a"), "demos is invalid: got 'a', expected a list"),
        (lambda p: p(a="x", lm=ASKED, demos=5), "demos is invalid: got 5, expected a list"),
        (lambda p: p(a="x", lm=ASKED, demos=[None]), "a demo is invalid: got None, expected an Example or a dict"),
        (lambda p: p(a="x", lm=ASKED, signature="a -> b: Pair"), "type of output 'b' of .* is invalid: got Pair"),
    ],
)
def test_a_wrong_call_says_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        call(Predict("a -> b"))
    assert "\n" not in str(caught.value)
    assert ASKED.asked == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a -> b: Pair", "the type of output 'b' of StringSignature is invalid: got Pair, expected one that answers"),
        ("a -> b: list[Pair]", r"got list\[Pair\]"),
        ("a -> b: Optional", "got Optional"),
        ("a -> b: Callable[[int], int]", "got Callable"),
        ("a -> b: Literal[()]", r"got Literal\[\]"),
        ("a -> b: None", "got None"),
        ("a -> b: json", "the type of field 'b' is invalid: got <module 'json'"),
    ],
)
def test_an_output_that_no_answer_can_be_is_refused_when_the_program_is_made(text: str, words: str) -> None:
    for kind in (Predict, ChainOfThought):
        with pytest.raises(ConfigError, match=words) as caught:
            kind(text)
        assert "\n" not in str(caught.value)


def test_a_constraint_that_is_none_is_refused_when_the_program_is_made() -> None:
    with pytest.raises(ConfigError, match=r"the constraints of output 'b' of StringSignature are invalid: .*regex"):
        Predict(Signature("a -> c").append("b", OutputField(pattern="(")))


def test_an_adapter_that_falls_back_on_its_own_kind_does_not_ask_for_ever() -> None:
    class Stubborn(ChatAdapter):
        @property
        def fallback(self) -> Any:
            return Stubborn()

    lm = FakeLM("nothing")
    with context(adapter=Stubborn()), pytest.raises(AdapterParseError):
        Predict("a -> b: int")(a="x", lm=lm)
    assert len(lm.asked) == 1


def test_odd_inputs_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    predict = Predict("a: int, b -> c")
    predict.lm = FakeLM(chat(c="x"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            predict(a="text", z=1)
    assert [record.getMessage().split(": ", 1)[1].split(";")[0] for record in caplog.records] == [
        "Not all input fields were provided. Missing: ['b']",
        "Input fields not in signature: ['z']",
        "Type mismatch for field 'a': expected int, got str",
    ]


def test_defaults_are_inputs_too_and_go_to_the_trace() -> None:
    class Sig(Signature):
        """x"""

        a: str = InputField()
        k: int = InputField(default=3)
        b: str = OutputField()

    predict = Predict(Sig)
    trace: list[Any] = []
    with context(lm=FakeLM(chat(b="y")), trace=trace):
        made = predict(a="x")
        asyncio.run(predict.acall(a="z", k=4))
    assert trace[0] == (predict, {"k": 3, "a": "x"}, made)
    assert trace[1][1] == {"a": "z", "k": 4}


def test_an_unreadable_answer_is_asked_for_again_as_json() -> None:
    lm = FakeLM("nothing", '{"b": "z"}')
    with context(lm=lm), record_calls() as calls:
        made = Predict("a -> b")(a="x")
    assert made.b == "z"
    assert len(calls) == len(made.get_lm_calls()) == 2
    with context(lm=FakeLM("no", "no")), pytest.raises(AdapterParseError) as caught:
        Predict("a -> b")(a="x")
    assert caught.value.usage == {"fake": {"input_total": 20, "output_total": 4}}
    assert caught.value.adapter == "JSONAdapter"


def test_the_second_call_can_be_turned_off() -> None:
    lm = FakeLM("no")
    with (
        context(lm=lm, adapter=ChatAdapter(use_json_adapter_fallback=False)),
        pytest.raises(AdapterParseError),
    ):
        Predict("a -> b")(a="x")
    assert len(lm.asked) == 1


def test_what_a_subclass_defines_in_one_way_holds_for_both() -> None:
    """Its base's other way would be another program."""

    class Sync(Predict):
        def forward(self, **kwargs: Any) -> Any:
            return "sync"

    class Async(Predict):
        async def aforward(self, **kwargs: Any) -> Any:
            return "async"

    for kind, word in ((Sync, "sync"), (Async, "async")):
        program = kind("a -> b")
        assert (program(a=1), asyncio.run(program.acall(a=1))) == (word, word)


@pytest.mark.parametrize("kind", [Pair, AsyncPair])
def test_programs_run_both_ways_and_know_all_their_calls(kind: type[Any]) -> None:
    lm = FakeLM(chat(b="B"), chat(reasoning="r", c="C"), chat(b="B"), chat(reasoning="r", c="C"))
    trace: list[Any] = []
    with context(lm=lm, trace=trace), record_calls() as calls:
        for made in run(kind(), a="x"):
            assert made.c == "C"
            assert len(made.get_lm_calls()) == 2
    assert len(calls) == len(trace) == 4


def test_the_sync_way_of_an_async_program_refuses_inside_a_loop() -> None:
    async def main() -> None:
        AsyncPair()(a="x")

    with pytest.raises(ConfigError, match=r"await program.acall"):
        asyncio.run(main())


def test_a_program_without_a_way_says_so() -> None:
    with pytest.raises(ConfigError, match="neither"):
        Module()()


def test_bridged_programs_inside_bridged_programs_do_not_wait_for_each_other() -> None:
    class Deep(Module):
        def __init__(self, depth: int) -> None:
            self.sub = AsyncDeep(depth - 1) if depth else None

        def forward(self) -> int:
            return 1 + (self.sub() if self.sub else 0)

    class AsyncDeep(Module):
        def __init__(self, depth: int) -> None:
            self.sub = Deep(depth - 1) if depth > 0 else None

        async def aforward(self) -> int:
            return 1 + (await self.sub.acall() if self.sub else 0)

    async def main() -> list[int]:
        return list(await asyncio.gather(*[Deep(4).acall() for _ in range(300)]))

    assert set(asyncio.run(main())) == {5}


def test_calls_paid_before_an_error_are_recorded() -> None:
    class Fails(Pair):
        def forward(self, a: str) -> Prediction:
            self.first(a=a)
            raise RuntimeError("no")

    with context(lm=FakeLM(chat(b="B"))), record_calls() as calls, pytest.raises(RuntimeError):
        Fails()(a="x")
    assert len(calls) == 1


def test_settings_of_tasks_and_threads_are_their_own() -> None:
    seen: dict[int, bool] = {}

    async def task(number: int) -> None:
        lm = FakeLM(chat(b=number))
        with context(lm=lm):
            await asyncio.sleep(0)
            seen[number] = (await Predict("a -> b").acall(a="x")).b == str(number) and settings.lm is lm

    async def main() -> None:
        await asyncio.gather(*[task(number) for number in range(200)])

    asyncio.run(main())
    threads = [threading.Thread(target=asyncio.run, args=(task(number),)) for number in range(200, 210)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == dict.fromkeys(range(210), True)
    assert settings.lm is None


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="no setting is called lmm"), context(lmm=1):
        pass
    with pytest.raises(ConfigError, match=r"dspex.LM\('openai/x'\)"):
        settings_module.configure(lm="openai/x")
    with pytest.raises(ConfigError, match="configure"):
        settings.lm = None
    for name, value in [
        ("adapter", "chat"),
        ("adapter", ChatAdapter),
        ("trace", True),
        ("trace", ()),
        ("max_trace_size", "x"),
        ("max_trace_size", -1),
        ("callbacks", [5]),
        ("callbacks", [BaseCallback]),
        ("warn_on_type_mismatch", "no"),
        ("disable_history", 1),
    ]:
        with pytest.raises(ConfigError, match=f"{name} is invalid: got .*, expected "), context(**{name: value}):
            pass
    lm = FakeLM("")
    try:
        settings_module.configure(lm=lm)
        assert settings.lm is lm
        with context(lm=None):
            assert settings.lm is None
    finally:
        settings_module.configure(lm=None)


def test_paths_are_dspys() -> None:
    program = Shapes()
    assert [path for path, _ in program.named_predictors()] == PATHS
    assert Predict("a -> b").named_predictors()[0][0] == "self"
    program.inner._compiled = True
    assert [path for path, _ in program.named_predictors()] == PATHS[:3]
    subs = dict(Shapes().named_sub_modules())
    assert {"self", "self.again", "self.tools[k]", "self.inner.cot.predict"} <= set(subs)
    assert "self.inner.first" not in dict(program.named_sub_modules(Predict, skip_compiled=True))


def test_lms_are_set_everywhere_and_read_when_they_agree() -> None:
    program, lm = Shapes(), FakeLM("")
    program.set_lm(lm)
    assert program.get_lm() is lm
    program.inner.first.lm = None
    with pytest.raises(ConfigError, match=r"different LMs"):
        program.get_lm()
    with pytest.raises(ConfigError, match=r"dspex.LM"):
        program.set_lm("openai/x")


def test_copies_share_no_demos_but_the_lm() -> None:
    program, lm = Shapes(), FakeLM("")
    program.set_lm(lm)
    program.lock = threading.Lock()
    program.steps[0].demos = [Example(a=["x"], b="y")]
    twin = program.deepcopy()
    twin.steps[0].demos[0].a.append("z")
    assert program.steps[0].demos[0].a == ["x"]
    assert twin.again is twin.steps[0]
    assert twin.steps[0] is not program.steps[0]
    assert twin.get_lm() is lm
    assert twin.lock is program.lock
    clean = program.reset_copy()
    assert clean.steps[0].demos == []
    assert clean.get_lm() is None
    assert program.steps[0].demos


def test_predictors_are_replaced_wherever_they_stand() -> None:
    def double(predictor: Predict) -> Predict:
        twin = predictor.deepcopy()
        twin.config["seen"] = True
        return twin

    program = Shapes().map_named_predictors(double)
    assert all(predictor.config == {"seen": True} for predictor in program.predictors())
    assert [path for path, _ in program.named_predictors()] == PATHS
    assert program.again is program.steps[0]


def test_a_program_survives_cloudpickle() -> None:
    program = Shapes()
    program.steps[0].demos = [Example(a="x", b="y")]
    twin = pickle.loads(cloudpickle.dumps(program))
    assert twin.dump_state() == program.dump_state()


#: As DSPy writes it: versions, an LM, bookkeeping in demos, a rewritten label of the last field.
SAVED_BY_DSPY = {
    "first": {
        "traces": [],
        "train": [],
        "demos": [{"augmented": True, "a": "x", "b": "y", "dspy_uuid": "u", "dspy_split": "train"}],
        "signature": {
            "instructions": "Better words.",
            "fields": [
                {"prefix": "A:", "description": "${a}"},
                {"prefix": "The best B is:", "description": "the b"},
            ],
        },
        "lm": {
            "_dspy_lm_class": "dspy.clients.lm.LM",
            "model": "openai/gpt-4o-mini",
            "model_type": "chat",
            "cache": True,
        },
    },
    "cot.predict": {
        "traces": [],
        "train": [],
        "demos": [{"b": "only", "c": "these"}],
        "signature": {
            "instructions": "Think.",
            "fields": [
                {"prefix": "B:", "description": "${b}"},
                {"prefix": "Reasoning:", "description": "${reasoning}"},
                {"prefix": "C:", "description": "${c}"},
            ],
        },
        "lm": None,
    },
    "metadata": {"dependency_versions": {"python": "3.11", "dspy": "3.4.1", "cloudpickle": "3.1"}},
}


OTHER = [{"prefix": "Ticket:", "description": ""}, {"prefix": "Team:", "description": ""}]


def test_a_state_saved_by_dspy_loads(tmp_path: Path) -> None:
    path = tmp_path / "dspy.json"
    path.write_text(json.dumps(SAVED_BY_DSPY))
    program = Pair()
    program.load(path)
    assert program.first.signature.instructions == "Better words."
    assert program.first.signature.fields["b"].json_schema_extra["desc"] == "the b"
    assert program.first.demos[0]["dspy_uuid"] == "u"
    assert program.cot.predict.demos == [{"b": "only", "c": "these"}]
    saved = program.dump_state()
    assert saved["first"] == SAVED_BY_DSPY["first"]


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        Predict("question -> answer").save(tmp_path / "file" / "program.json")


def test_what_is_saved_loads_again_and_has_what_dspy_needs(tmp_path: Path) -> None:
    program = Pair()
    program.first.demos = [Example(a="x", b={"k": [1]}, augmented=True)]
    program.first.signature = program.first.signature.with_instructions("Ü")
    path = tmp_path / "sub" / "p.json"
    program.save(path)
    program.save(path)
    raw = json.loads(path.read_text())
    assert list(raw) == ["first", "cot.predict", "metadata"]
    assert raw["metadata"] == {"dependency_versions": {}}
    assert list(raw["first"]) == ["traces", "train", "demos", "signature", "lm"]
    assert [item.name for item in path.parent.iterdir()] == ["p.json"]
    twin = Pair()
    twin.load(path)
    assert twin.dump_state() == program.dump_state()


def test_a_bare_predictors_state_is_at_the_top(tmp_path: Path) -> None:
    predict = Predict("a -> b", temperature=1.0)
    predict.demos = [{"a": "1", "b": "2"}]
    predict.save(tmp_path / "p.json")
    raw = json.loads((tmp_path / "p.json").read_text())
    assert {"demos", "signature", "lm", "metadata"} <= set(raw)
    twin = Predict("a -> b")
    twin.load(tmp_path / "p.json")
    assert twin.demos == predict.demos


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda s: s.pop("cot.predict"),
            "expected predictors first, cot.predict, found first; missing cot.predict",
        ),
        (lambda s: s["cot.predict"].pop("demos"), "predictor cot.predict"),
        (
            lambda s: s["cot.predict"]["signature"]["fields"].pop(),
            "expected fields b, reasoning, c, found B, Reasoning",
        ),
        (
            lambda s: s["first"].update(
                demos=[{"ticket": "x"}],
                signature={
                    "instructions": "",
                    "fields": [{"prefix": p, "description": ""} for p in ("Ticket:", "Team:")],
                },
            ),
            "expected fields a, b, found Ticket, Team",
        ),
        (lambda s: s["cot.predict"].update(demos=["x"]), "not a list of objects"),
        (lambda s: s["cot.predict"]["signature"].pop("instructions"), "instructions"),
        (lambda s: s["cot.predict"]["signature"].update(fields=3), "no list of fields"),
        (lambda s: s["cot.predict"].update(extended_signature={}), "2.5"),
        (lambda s: s["cot.predict"].update(train=5), "predictor cot.predict: its train are no list, but a int"),
        (lambda s: s["cot.predict"].update(traces={"a": 1}), "its traces are no list, but a dict"),
        (lambda s: s["cot.predict"]["signature"].update(instructions=None), "no instructions that are a text"),
        (lambda s: s.update({"cot.predict": 3}), "found int"),
    ],
)
def test_a_state_of_another_program_changes_nothing(spoil: Any, words: str) -> None:
    state = json.loads(json.dumps(SAVED_BY_DSPY))
    spoil(state)
    program = Pair()
    before = program.dump_state()
    with pytest.raises(ConfigError, match=words):
        program.load_state(state)
    assert program.dump_state() == before


def test_states_of_programs_and_of_bare_predictors_are_told_apart() -> None:
    with pytest.raises(ConfigError, match=r"expected the state of one predictor .*, found first, cot.predict"):
        Predict("a -> b").load_state(Pair().dump_state())
    with pytest.raises(ConfigError, match="found a single predictor with fields A, B"):
        Pair().load_state(Predict("a -> b").dump_state())


def test_files_that_are_no_state_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("not json")
    (tmp_path / "y.json").write_text("[]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    told = {"x": "no JSON", "deep": "no JSON", "y": "holds a list", "z": "cannot read"}
    for name, words in told.items():
        with pytest.raises(ConfigError, match=words):
            Pair().load(tmp_path / f"{name}.json")
    with pytest.raises(ConfigError, match=r".json"):
        Pair().save(tmp_path / "p.pkl")
    program = Predict("a -> b")
    program.demos = [{"a": object(), "b": 1}]
    with pytest.raises(ConfigError, match=r"demos\[0\]"):
        program.save(tmp_path / "p.json")


def test_chain_of_thought_thinks_first() -> None:
    program = ChainOfThought("a -> b", temperature=0.3)
    assert list(program.predict.signature.output_fields) == ["reasoning", "b"]
    assert program.predict.config == {"temperature": 0.3}
    assert [path for path, _ in program.named_predictors()] == ["predict"]
    with context(lm=FakeLM(chat(reasoning="r", b="B"))):
        for made in run(program, a="x"):
            assert (made.reasoning, made.b) == ("r", "B")


def test_the_thoughts_field_may_have_a_type_of_its_own() -> None:
    steps = Signature({"a": InputField(), "steps": (list[str], OutputField(desc="each step"))}).fields["steps"]
    made = ChainOfThought("a -> b", rationale_field=steps).predict.signature.fields["reasoning"]
    assert made.annotation == list[str]
    assert ChainOfThought("a -> b", OutputField(), int).predict.signature.fields["reasoning"].annotation is int
